"""KQGC's training: mini-batches of pairs, sampled neighbours, frozen vectors, early stopping on held-out pairs.

Shape suffixes: see `models/shapes.py`, and U the users and I the items of pairs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch

from models.graph import KnowledgeGraph
from models.hyperparameters import KQGCHyperparameters
from models.kernels.draws import key_of
from models.kernels.sampling import mark_candidates
from models.kqgc import KQGC, check_vectors
from models.learning.determinism import deterministic_kernels
from models.learning.epochs import as_checkpoint, load_checkpoint, optimiser_state, parameters_of, run_epochs
from models.learning.held_out import first_by_key
from models.learning.negatives import Known, Pools, keyed_edges, known_triples
from models.learning.samplers import choose
from models.learning.training import standard_error
from models.messages.passing import Messages
from models.shapes import expect, expect_indices

_CELLS = 1 << 23  # numbers of differences held at a time, where a pool is scored


@dataclasses.dataclass(frozen=True)
class KQGCResult:
    """What training gives.

    `parameters` is all that inference needs; `checkpoint()` adds the optimiser's state for a warm start.
    history: one entry per epoch with "epoch", "loss", "seconds" of training and, where evaluated, "validation_loss" and
    "validation_accuracy" (share of negatives farther than their positive), each with its standard error over the pairs
    under the same name and "_error". best_epoch: the epoch whose parameters these are; -1 when nothing was trained.
    """

    parameters: dict[str, np.ndarray]
    optimiser: dict[str, np.ndarray]
    history: list[dict[str, float]]
    best_epoch: int

    def checkpoint(self) -> dict[str, np.ndarray]:
        """Everything that `initial` of the next night takes, by name."""
        return as_checkpoint(self.parameters, self.optimiser)


@dataclasses.dataclass(frozen=True)
class _Batch:
    """Pairs ready for the loss: messages, the vectors they start from, and where in the output each pair's are.

    counts_BK: bool, of a pool that the batch shares, False where the user bought the item: the negatives are still to
    be chosen. None: they are drawn.
    """

    layers: list[Messages]
    sources: torch.Tensor
    users_B: torch.Tensor
    items_B: torch.Tensor
    negatives_BK: torch.Tensor
    counts_BK: torch.Tensor | None


@dataclasses.dataclass(frozen=True)
class _SharedPool:
    """Items of which every batch draws some, for the sampler to choose from; known: who bought what."""

    pools: Pools
    known: Known
    relation: int
    most: int

    @classmethod
    def of(
        cls, graph: KnowledgeGraph, relation: int, candidates: np.ndarray, pairs: tuple[np.ndarray, np.ndarray],
        hyper: KQGCHyperparameters,
    ) -> _SharedPool:  # fmt: skip
        one_pool = np.array([0, len(candidates)]), np.zeros((2, graph.n_relations), np.int64)
        pools = Pools(candidates.astype(np.int32), *one_pool, graph.n_entities)
        known = known_triples(
            pairs[0], np.full(len(pairs[0]), relation), pairs[1], graph.n_entities, graph.n_relations)
        pools = pools.by_degree(pairs[1]) if hyper.sampling.kind == "degree" else pools
        return cls(pools, known, relation, hyper.sampling.pool)

    def draw(self, random: np.random.Generator) -> np.ndarray:
        """int64 (K,): different items."""
        return self.pools.draw(0, self.most, random)

    def counts(self, users: np.ndarray, items: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        """bool (B, K): whether the user did not buy the item."""
        counts, triples = np.empty((len(users), len(drawn)), bool), (users, np.full(len(users), self.relation), items)
        sizes = self.pools.n_entities, self.pools.of.shape[1]
        mark_candidates(*triples, True, drawn[None], self.known, *sizes, counts)
        return counts


class _Trainer:
    """Pairs to batches, batches to losses, and one epoch after another; holds what stays the same throughout."""

    def __init__(
        self,
        graph: KnowledgeGraph,
        vectors: tuple[np.ndarray, np.ndarray],
        purchase_relation: int,
        item_candidates: np.ndarray,
        model: KQGC,
        seed: int,
        deterministic: bool,
        pairs: tuple[np.ndarray, np.ndarray],
    ) -> None:
        self.graph, self.model, self.device = graph, model, model.hyper.device
        # copies: aligned, as numpy's memory is not
        self.entities, self.relations = (torch.tensor(values, device=self.device) for values in vectors)
        self.purchase_relation, self.item_candidates = purchase_relation, item_candidates
        self.seed, self.random = seed, np.random.default_rng([seed, 1])
        self.sampler = graph.sampler(model.hyper.fanout, seed, deterministic=deterministic)
        self.optimiser = torch.optim.Adam(model.parameters(), lr=model.hyper.learning_rate)
        self.chosen = None
        if model.hyper.sampling.kind != "uniform":
            self.chosen = _SharedPool.of(graph, purchase_relation, item_candidates, pairs, model.hyper)
        self.noise = torch.Generator(self.device)
        # the share of the training that is over; None during a look at held-out pairs, for which negatives are drawn,
        # so that looks can be compared
        self.passed: float | None = None

    def batch(self, users: np.ndarray, items: np.ndarray) -> _Batch:
        """Draw negatives, or a pool to choose them from, and neighbours for some pairs."""
        hyper, counts_BK = self.model.hyper, None
        if self.chosen is None or self.passed is None:
            drawn = self.item_candidates[
                self.random.integers(self.item_candidates.size, size=users.size * hyper.negatives)]
        else:
            drawn = self.chosen.draw(self.random)
            counts_BK = torch.from_numpy(self.chosen.counts(users, items, drawn)).to(self.device)
        ends = np.concatenate([users, items, drawn])
        nodes, places = np.unique(ends, return_inverse=True)
        own = self.graph.edges_of(users, self.purchase_relation, items) if hyper.mask_own_edge else None
        sources, layers = self.sampler.sample(torch.from_numpy(nodes), hyper.layers, own)
        layers = [messages.to(self.device) for messages in layers]
        sizes = [users.size, users.size, drawn.size]
        users_B, items_B, negatives_BK = torch.from_numpy(places).to(self.device).split(sizes)
        return _Batch(layers, sources.to(self.device), users_B, items_B, negatives_BK, counts_BK)

    def losses(self, batch: _Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, K): the terms of Eq. 12, and whether each negative is farther than its positive.

        A term is 0 where the user bought the negative, which is chosen only where nothing else is left in the pool."""
        model = self.model
        h_ND, r_MD = model(batch.layers, self.entities.index_select(0, batch.sources), self.relations)
        users_BD, purchase_D = h_ND.index_select(0, batch.users_B), r_MD[self.purchase_relation]
        positive_B = model.score(users_BD, purchase_D, h_ND.index_select(0, batch.items_B))
        negatives_BK, counts_BK = batch.negatives_BK, 1
        if batch.counts_BK is not None:
            negatives_BK, counts_BK = self.choose(batch, users_BD, purchase_D, positive_B, h_ND)
        negatives_BKD = h_ND[negatives_BK.view(len(users_BD), -1)]
        negative_BK = model.score(users_BD.unsqueeze(1), purchase_D, negatives_BKD)
        return model.losses(positive_B, negative_BK) * counts_BK, negative_BK > positive_B.unsqueeze(-1)

    @torch.no_grad()
    def choose(
        self, batch: _Batch, users_BD: torch.Tensor, purchase_D: torch.Tensor, positive_B: torch.Tensor,
        h_ND: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """(rows of `h_ND` of the negatives (B, J), whether they count (B, J)), by the sampler."""
        hyper, counts_BK = self.model.hyper, batch.counts_BK
        distances_BK = torch.zeros(counts_BK.shape, device=self.device)
        if hyper.sampling.looks_at_scores:
            pool_KD, step = h_ND[batch.negatives_BK], max(1, _CELLS // max(counts_BK.shape[1] * h_ND.shape[1], 1))
            parts = (self.model.score(some.unsqueeze(1), purchase_D, pool_KD) for some in users_BD.split(step))
            distances_BK = torch.cat(list(parts))
        scores = -positive_B, -distances_BK
        places_BJ, counts_BJ = choose(hyper.sampling, hyper.negatives, *scores, counts_BK, self.noise, self.passed)
        return batch.negatives_BK[places_BJ], counts_BJ

    def restart(self, *draws: int) -> None:
        """Draw from here on what is drawn under these numbers."""
        self.random = np.random.default_rng([self.seed, 1, *draws])
        self.sampler.restart([self.seed, 2, *draws])
        self.noise.manual_seed(int(key_of(self.seed, 3, *draws)) >> 1)

    def epoch(self, number: int, users: np.ndarray, items: np.ndarray) -> float:
        """Train on all pairs once, or on so many batches of them, in a new order; the mean loss."""
        hyper = self.model.hyper
        self.restart(0, number)
        self.passed = number / max(hyper.epochs - 1, 1)
        order = self.random.permutation(users.size)
        if hyper.max_batches_per_epoch:
            order = order[: hyper.max_batches_per_epoch * hyper.batch_size]
        summed = torch.zeros((), device=self.device)  # stays on the device: no wait for it after every batch
        for first in range(0, order.size, hyper.batch_size):
            chosen = order[first : first + hyper.batch_size]
            loss = self.losses(self.batch(users[chosen], items[chosen]))[0].mean()
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()
            summed += loss.detach() * chosen.size
        return float(summed) / order.size

    @torch.no_grad()
    def evaluate(self, users: np.ndarray, items: np.ndarray) -> dict[str, float]:
        """The figures of held-out pairs, `batch_size` at a time. Always the same draws, so that epochs can be
        compared."""
        self.restart(1)
        self.passed = None
        size, of_pairs = self.model.hyper.batch_size, []
        for first in range(0, users.size, size):
            found = self.losses(self.batch(users[first : first + size], items[first : first + size]))
            of_pairs.append(torch.stack([part.double().mean(dim=1) for part in found]).cpu().numpy())
        figures = {}
        for name, values in zip(("validation_loss", "validation_accuracy"), np.concatenate(of_pairs, 1), strict=True):
            figures |= {name: float(values.mean()), f"{name}_error": standard_error(values)}
        return figures

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """(parameters, the optimiser's state), by name, as copies."""
        return parameters_of(self.model), optimiser_state(self.model, self.optimiser)


def train_kqgc(
    graph: KnowledgeGraph,
    entities: np.ndarray,
    relations: np.ndarray,
    pairs: tuple[np.ndarray, np.ndarray],
    purchase_relation: int,
    item_candidates: np.ndarray,
    hyper: KQGCHyperparameters,
    *,
    seed: int,
    keys: np.ndarray | None = None,
    deterministic: bool = False,
    initial: dict[str, np.ndarray] | None = None,
    progress: Callable[[dict[str, float]], None] | None = None,
) -> KQGCResult:
    """Learn W, b and a from positive pairs, with TransE's vectors frozen.

    entities, relations: float32 (n, d) and (m, d), TransE's, in the graph's dense indices. pairs: int64 users and items
    of the purchase relation. item_candidates: int64, what negatives are drawn from, uniformly. initial: a former
    `checkpoint()`, from which all parameters start warm. progress: called with each entry of the history. keys: uint64
    (n,), who the entities are, by which pairs are held out; None: their numbers, where no other night has others.
    deterministic: equal arguments give equal bits (one thread while sampling; on a GPU torch's deterministic kernels).
    Without pairs, or with `learned` off, nothing is learned and the initial parameters come back.
    Raises ShapeError for arrays that do not fit each other, ValueError for an `initial` of another shape of model.
    """
    users, items = pairs
    check_vectors(graph, entities, relations)
    for name, nodes in (("users", users), ("items", items), ("item_candidates", item_candidates)):
        expect_indices(name, nodes, graph.n_entities, "entities")
    expect("items", items, users.shape, "int64")
    keys = np.arange(graph.n_entities, dtype=np.uint64) if keys is None else keys
    expect("keys", keys, (graph.n_entities,), "uint64")
    model = KQGC(entities.shape[1], hyper, seed).to(hyper.device)
    given = (graph, (entities, relations), purchase_relation, item_candidates, model)
    trainer = _Trainer(*given, seed, deterministic, pairs)
    if initial is not None and hyper.learned:
        load_checkpoint(model, trainer.optimiser, initial)
    if not users.size or not item_candidates.size or not hyper.learned:
        return KQGCResult(*trainer.state(), [], -1)
    with deterministic_kernels(deterministic):
        held_out = held_out_pairs(keys[users], keys[items], hyper, seed)
        return _run_epochs(trainer, users, items, held_out, initial is not None, progress)


def held_out_pairs(of_users: np.ndarray, of_items: np.ndarray, hyper: KQGCHyperparameters, seed: int) -> np.ndarray:
    """bool (pairs,): pairs kept out of training, by the keys of their users and items, uint64 each."""
    wanted = min(int(hyper.validation_share * len(of_users)), hyper.evaluate_pairs)
    return first_by_key(keyed_edges(of_users, np.zeros_like(of_users), of_items, key_of(seed, 4)), wanted)


def _run_epochs(
    trainer: _Trainer,
    users: np.ndarray,
    items: np.ndarray,
    chosen: np.ndarray,
    warm: bool,
    progress: Callable[[dict[str, float]], None] | None,
) -> KQGCResult:
    hyper = trainer.model.hyper
    held_out, trained = np.flatnonzero(chosen), np.flatnonzero(~chosen)
    best, history, best_epoch = run_epochs(
        hyper,
        lambda epoch: trainer.epoch(epoch, users[trained], items[trained]),
        trainer.state,
        evaluate=(lambda: trainer.evaluate(users[held_out], items[held_out])) if held_out.size else None,
        measure="validation_loss",
        falls=True,
        min_gain=hyper.min_gain,
        keeps_gains=warm,
        held_out=held_out.size,
        progress=progress,
    )
    return KQGCResult(*best, history, best_epoch)
