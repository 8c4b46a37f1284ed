"""TransE's readable engine: autograd on gathered rows, sparse updates, any device. Imported only where it is asked for.

Legend: B edges of a batch, K broken triples each, d dimension. One update per batch of `batch_size` edges.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from models.hyperparameters import TransEHyperparameters
from models.kernels.draws import key_of
from models.learning.determinism import deterministic_kernels
from models.learning.losses import margin_loss, self_adversarial_loss
from models.learning.negatives import Broken, Known, Plan, Pools, draw_broken_triples
from models.learning.samplers import choose

_ACCUMULATORS = {"entities": "entity_accumulators", "relations": "relation_accumulators"}


def distances(queries_BKd: Tensor, candidates_BKd: Tensor, norm: str) -> Tensor:
    """Eq. 2 for every pair of rows, with the gradient 0 at distance 0."""
    difference = queries_BKd - candidates_BKd
    if norm == "l1":
        return difference.abs().sum(dim=-1)
    return torch.linalg.vector_norm(difference, dim=-1)


def triple_losses(
    anchors_Bd: Tensor, relations_Bd: Tensor, targets_Bd: Tensor, broken_BKd: Tensor,
    broken_tail_B: Tensor, counts_BK: Tensor, hyper: TransEHyperparameters,
) -> Tensor:  # fmt: skip
    """The loss of each true triple (B,) from gathered rows; the anchor is the end that stays."""
    sign = torch.where(broken_tail_B, 1.0, -1.0)[:, None].to(anchors_Bd.dtype)
    queries = anchors_Bd + sign * relations_Bd  # Eq. 3, reversed where the head is broken
    true = distances(queries, targets_Bd, hyper.norm)
    broken = distances(queries[:, None, :], broken_BKd, hyper.norm)
    if hyper.loss == "margin":
        return margin_loss(true, broken, counts_BK, hyper.margin)
    return self_adversarial_loss(true, broken, counts_BK, hyper.margin, hyper.adversarial_temperature)


class TorchEngine:
    """Trains the tables it is given on `hyper.device`; `arrays` brings them back.

    seed: of the sampler's own draws. deterministic: one thread on the CPU, since torch's threads add a row's gradients
    in the order in which they come.
    """

    def __init__(
        self,
        tables: dict[str, np.ndarray],
        hyper: TransEHyperparameters,
        pools: Pools,
        known: Known,
        deterministic: bool = False,
        seed: int = 0,
    ) -> None:
        self._seed = seed
        self._hyper, self._pools, self._known, self._deterministic = hyper, pools, known, deterministic
        self._tables = {name: torch.tensor(array, device=hyper.device) for name, array in tables.items()}

    def arrays(self) -> dict[str, np.ndarray]:
        """Copies of the tables and accumulators."""
        return {name: table.cpu().numpy().copy() for name, table in self._tables.items()}

    def train_epoch(self, plan: Plan, learning_rate: float, passed: float = 0.0) -> tuple[float, int]:
        """(sum of the losses, edges seen). passed: the share of the training that is over."""
        random = torch.Generator(self._hyper.device).manual_seed(int(key_of(self._seed, int(plan.key))) >> 1)
        plan, total = plan.by_edge(), 0.0
        sizes = np.diff(plan.starts)[plan.order]
        batch_of_chunk = (np.cumsum(sizes) - sizes) // self._hyper.batch_size
        with deterministic_kernels(self._deterministic):
            for chunks in np.split(plan.order, np.flatnonzero(np.diff(batch_of_chunk)) + 1):
                broken = self._broken(plan, chunks, random, passed)
                total += self._train_batch(plan, broken, learning_rate)
        return total, len(plan.heads)

    def _broken(self, plan: Plan, chunks: np.ndarray, random: torch.Generator, passed: float) -> Broken:
        """The broken triples of some chunks, chosen from their pools where the sampler looks at scores."""
        hyper = self._hyper
        if not hyper.sampling.looks_at_scores:
            return draw_broken_triples(plan, chunks, hyper.negatives, self._pools, self._known)
        pool = draw_broken_triples(plan, chunks, hyper.sampling.pool, self._pools, self._known).once()
        true_B, broken_BK = self._distances(plan, pool)
        counts_BK = torch.from_numpy(pool.counts).to(true_B.device)
        places_BJ, counts_BJ = choose(hyper.sampling, hyper.negatives, -true_B, -broken_BK, counts_BK, random, passed)
        entities = np.take_along_axis(pool.entities, places_BJ.cpu().numpy(), axis=1)
        return replace(pool, entities=entities, counts=counts_BJ.cpu().numpy())

    @torch.no_grad()
    def _distances(self, plan: Plan, drawn: Broken) -> tuple[Tensor, Tensor]:
        """(of the true triples (B,), of the broken ones (B, K))."""
        at = drawn.positions
        heads, rels, tails = (self._index(column[at]) for column in (plan.heads, plan.relations, plan.tails))
        broken_tail, entities = torch.from_numpy(drawn.broken_tail).to(heads.device), self._tables["entities"]
        anchors, targets = torch.where(broken_tail, heads, tails), torch.where(broken_tail, tails, heads)
        sign = torch.where(broken_tail, 1.0, -1.0)[:, None].to(entities.dtype)
        queries = entities[anchors] + sign * self._tables["relations"][rels]
        candidates = entities[self._index(drawn.entities)]
        norm = self._hyper.norm
        return distances(queries, entities[targets], norm), distances(queries[:, None, :], candidates, norm)

    def _train_batch(self, plan: Plan, drawn: Broken, learning_rate: float) -> float:
        loss, gradients = self.loss_and_gradients(plan, drawn)
        for table, (rows, gradient) in gradients.items():
            self._update(table, rows, gradient, learning_rate)
        return float(loss.sum())

    def loss_and_gradients(self, plan: Plan, drawn: Broken) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
        """Losses (B,) and, for both tables, (distinct rows touched, their summed gradients)."""
        heads, rels, tails = (
            self._index(column[drawn.positions]) for column in (plan.heads, plan.relations, plan.tails)
        )
        broken_tail, broken = torch.from_numpy(drawn.broken_tail).to(heads.device), self._index(drawn.entities)
        anchors, targets = torch.where(broken_tail, heads, tails), torch.where(broken_tail, tails, heads)
        entity_rows, entity_places = torch.unique(
            torch.cat([anchors, targets, broken.reshape(-1)]), return_inverse=True
        )
        relation_rows, relation_places = torch.unique(rels, return_inverse=True)
        entities = self._tables["entities"][entity_rows].requires_grad_()
        relations = self._tables["relations"][relation_rows].requires_grad_()
        n, d = len(heads), entities.shape[1]
        losses = triple_losses(
            entities[entity_places[:n]], relations[relation_places], entities[entity_places[n : 2 * n]],
            entities[entity_places[2 * n :]].reshape(n, -1, d), broken_tail,
            torch.from_numpy(drawn.counts).to(heads.device), self._hyper,
        )  # fmt: skip
        entity_gradients, relation_gradients = torch.autograd.grad(losses.sum(), (entities, relations))
        return losses.detach(), {
            "entities": (entity_rows, entity_gradients),
            "relations": (relation_rows, relation_gradients),
        }

    def _update(self, table: str, rows: Tensor, gradients: Tensor, learning_rate: float) -> None:
        """Row-wise Adagrad or plain SGD on these rows, then the unit sphere for entities."""
        step = torch.full((len(rows), 1), learning_rate, device=gradients.device)
        if self._hyper.optimizer == "adagrad":
            accumulators = self._tables[_ACCUMULATORS[table]]
            accumulators[rows] += gradients.square().mean(dim=1)
            step = step / accumulators[rows].sqrt().clamp(min=1e-30)[:, None]
        values = self._tables[table][rows] - step * gradients
        if table == "entities" and self._hyper.unit_norm:
            values = torch.nn.functional.normalize(values, dim=1)
        self._tables[table][rows] = values

    def _index(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.astype(np.int64)).to(self._hyper.device)
