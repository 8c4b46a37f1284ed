"""RelGNN's training: batches of edges that pass themselves no message, a sampler's negatives, early stopping.

Shape suffixes: see `models/shapes.py`, and J the negatives that are chosen of K candidates.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import pad, softplus

from models.graph import KnowledgeGraph
from models.learning.determinism import deterministic_kernels
from models.learning.epochs import Resume, as_checkpoint, load_checkpoint, optimiser_state, parameters_of, run_epochs
from models.learning.samplers import choose, hardness
from models.learning.training import Snapshot, fingerprint
from models.messages.meta_relations import MetaRelations
from models.messages.passing import Messages
from models.relgnn import RelGNN, engine_of, vectors_of
from models.relgnn_attributes import Attribute, AttributeNetworks, check_attributes
from models.relgnn_candidates import Candidates, Ends, Siblings, Validation
from models.relgnn_hyperparameters import RelGNNHyperparameters
from models.transe import Triples, held_out_edges, pair_keys


@dataclasses.dataclass(frozen=True)
class World:
    """What RelGNN learns from: the edges, the attributes of nodes, and vectors that go in beside them.

    given: float32 (n, any), rows of NaN for nodes without one; None: none. learn_given: they are parameters.
    """

    triples: Triples
    attributes: Sequence[Attribute] = ()
    given: np.ndarray | None = None
    learn_given: bool = False

    @property
    def n_types(self) -> int:
        t = self.triples
        return int(max(t.entity_type.max(), t.relation_head_type.max(), t.relation_tail_type.max())) + 1

    def graph(self, edges: np.ndarray | slice = slice(None)) -> KnowledgeGraph:
        """What passes messages: these edges, in both directions."""
        t = self.triples
        return KnowledgeGraph(
            *(np.ascontiguousarray(c[edges]) for c in t.edges), n_entities=t.n_entities, n_relations=t.n_relations)

    def parts(self) -> list[object]:
        """All of it, for a fingerprint."""
        of_triples = [getattr(self.triples, name) for name in self.triples.__dataclass_fields__]
        of_attributes = [getattr(one, name) for one in self.attributes for name in one.__dataclass_fields__]
        given = [] if self.given is None else [np.nan_to_num(self.given)]
        return [*of_triples, *of_attributes, *given, self.learn_given]

    def model(self, hyper: RelGNNHyperparameters, seed: int) -> RelGNN:
        """A new model of this shape, drawn from the seed alone. ShapeError for attributes that do not fit."""
        kinds = self.triples.entity_type.astype(np.int64)
        check_attributes(self.attributes, kinds, len(self.triples.heads))
        random = torch.Generator().manual_seed(seed)
        inputs = AttributeNetworks(
            self.attributes, kinds, self.n_types, hyper.dimension, hyper.attribute_width, random, self.given,
            self.learn_given)  # fmt: skip
        return RelGNN(inputs, self.triples.n_relations, hyper, random).to(hyper.device)


@dataclasses.dataclass(frozen=True)
class RelGNNResult:
    """What training gives: `arrays` is all that inference and the next night need, by name.

    history: "epoch", "loss", "seconds", and of the sampler's negatives "negative_gap" (mean probability of the true
    edges less theirs), "negative_above" (share that scores above its true edge) and "negative_held_out" (share that is
    a held-out edge, so no negative at all); where evaluated, "validation_mrr" with "validation_mrr_error" and
    "validation_auc". best_epoch: the epoch whose parameters these are; -1 when nothing was trained.
    """

    arrays: dict[str, np.ndarray]
    history: list[dict[str, float]]
    best_epoch: int


class _Trainer:
    """Edges to batches, batches to losses, and one epoch after another; holds what stays the same throughout."""

    def __init__(
        self, world: World, model: RelGNN, held_out: np.ndarray, taught: np.ndarray, seed: int, deterministic: bool
    ) -> None:
        hyper, triples = model.hyper, world.triples
        self.world, self.model, self.seed, self.hyper = world, model, seed, hyper
        self.trained, self.graph, self.sampler = np.flatnonzero(~held_out & taught), world.graph(), None
        if hyper.fanout:
            engine = engine_of(hyper.device)
            self.sampler = self.graph.sampler(hyper.fanout, seed, deterministic=deterministic, engine=engine)
        self.candidates = Candidates.of(triples, ~held_out, by_degree=hyper.sampling.kind == "degree")
        self.held_out = Candidates.of(triples, held_out)
        self.hidden, self.always_hidden = held_out.copy(), np.flatnonzero(held_out)
        self.siblings = Siblings.of(triples, seed) if hyper.hides == "pair" else None
        self.look = Validation.of(triples, held_out, hyper, seed).figures if held_out.any() else None
        self.optimiser = torch.optim.AdamW(
            model.parameters(), lr=hyper.learning_rate, weight_decay=hyper.weight_decay)

    def epoch(self, number: int) -> tuple[float, dict[str, float]]:
        """Every edge once, or so many batches of them, in a new order: mean of Eq. 8, and the negatives' figures."""
        hyper = self.hyper
        random = np.random.default_rng([self.seed, 1, number])
        noise = torch.Generator(hyper.device).manual_seed(int(random.integers(2**62)))
        torch.manual_seed(int(random.integers(2**62)))  # of dropout
        if self.sampler is not None:
            self.sampler.restart([self.seed, 2, number])
        order = random.permutation(self.trained)
        if hyper.max_batches_per_epoch:
            order = order[: hyper.max_batches_per_epoch * hyper.batch_size]
        self.model.train()
        passed, summed, figures = number / max(hyper.epochs - 1, 1), 0.0, np.zeros(4)
        for first in range(0, len(order), hyper.batch_size):
            edges = order[first : first + hyper.batch_size]
            loss, found = self.loss(edges, random, noise, passed)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()
            summed, figures = summed + float(loss.detach()) * len(edges), figures + found
        gap, above, false = figures[:3] / max(figures[3], 1)
        more = {"negative_gap": gap, "negative_above": above, "negative_held_out": false}
        return summed / max(len(order), 1), more

    def loss(
        self, edges: np.ndarray, random: np.random.Generator, noise: torch.Generator, passed: float
    ) -> tuple[torch.Tensor, np.ndarray]:
        """(Eq. 8 of a batch, by edge; of its negatives the sum of gaps, how many score above, are held out, are)."""
        heads, relations, tails = ends = tuple(column[edges] for column in self.world.triples.edges)
        drawn = self.candidates.draw(relations, self.hyper.sampling.pool, random)
        nodes, places = np.unique(np.concatenate([heads, tails, drawn]), return_inverse=True)
        x_ND = self.vectors(nodes, self.siblings.of_edges(edges) if self.siblings else edges)
        places = torch.from_numpy(places).to(x_ND.device).split([len(edges), len(edges), len(drawn)])
        heads_BD, tails_BD, drawn_KD = (x_ND.index_select(0, part) for part in places)
        relations_B, total, figures = torch.from_numpy(relations).to(x_ND.device), 0.0, np.zeros(4)
        for broken_tail, own_BD, other_BD in ((True, heads_BD, tails_BD), (False, tails_BD, heads_BD)):
            queries_BD = self.model.queries(own_BD, relations_B, broken_tail)
            true_B = (queries_BD * other_BD).sum(dim=1)
            of_batch = ends, broken_tail, queries_BD, true_B.detach()
            broken_BJ, counts_BJ, chosen = self.negatives(*of_batch, drawn, drawn_KD, noise, passed)
            total = total + losses(true_B, broken_BJ, counts_BJ).mean()
            gaps, above, count = hardness(torch.sigmoid(true_B), torch.sigmoid(broken_BJ), counts_BJ)
            false = ~self.held_out.unknown(ends, broken_tail, chosen) & counts_BJ.cpu().numpy()
            figures += [gaps, above, false.sum(), count]
        return total, figures

    def negatives(
        self, ends: Ends, broken_tail: bool, queries_BD: torch.Tensor, true_B: torch.Tensor, drawn: np.ndarray,
        drawn_KD: torch.Tensor, noise: torch.Generator, passed: float,
    ) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:  # fmt: skip
        """(scores of the chosen (B, J), whether they count (B, J), which nodes they are (B, J)): for the edges whose
        end is of one type all candidates of that type in one product. What a small pool leaves over counts nothing."""
        wanted, keep = self.candidates.wanted(ends[1], broken_tail), self.hyper.negatives
        kinds, found, order = self.world.triples.entity_type[drawn], [], []
        for kind in np.unique(wanted):
            rows, columns = np.flatnonzero(wanted == kind), np.flatnonzero(kinds == kind)
            places = (torch.from_numpy(part).to(queries_BD.device) for part in (rows, columns))
            rows_X, columns_K = places
            queries_XD, of_kind_KD = queries_BD.index_select(0, rows_X), drawn_KD.index_select(0, columns_K)
            broken_XK = queries_XD.detach() @ of_kind_KD.detach().T
            of_rows = tuple(column[rows] for column in ends)
            counts_XK = torch.from_numpy(self.candidates.unknown(of_rows, broken_tail, drawn[columns][None]))
            chances = torch.sigmoid(true_B.index_select(0, rows_X)), torch.sigmoid(broken_XK)
            chosen_XJ, counts_XJ = choose(
                self.hyper.sampling, keep, *chances, counts_XK.to(rows_X.device), noise, passed)
            left = (0, keep - chosen_XJ.shape[1])
            nodes = np.pad(drawn[columns][chosen_XJ.cpu().numpy()], ((0, 0), left))
            # again, with gradients: a pool is scored for a few that are chosen
            chosen_XJD = of_kind_KD.index_select(0, chosen_XJ.flatten()).unflatten(0, chosen_XJ.shape)
            broken_XJ = (queries_XD[:, None] * chosen_XJD).sum(dim=2)
            found.append((pad(broken_XJ, left), pad(counts_XJ, left), nodes))
            order.append(rows)
        back = np.argsort(np.concatenate(order))
        scores, counts, nodes = zip(*found, strict=True)
        back_B = torch.from_numpy(back).to(queries_BD.device)
        return torch.cat(scores)[back_B], torch.cat(counts)[back_B], np.concatenate(nodes)[back]

    def vectors(self, nodes: np.ndarray, edges: np.ndarray) -> torch.Tensor:
        """h_final (nodes, D), ascending and unique nodes, with some edges hidden beside those that always are."""
        self.hidden[edges] = True
        try:
            if not self.hyper.layers:
                return self.model([], nodes, self.hidden)
            if self.sampler is None:
                meta = MetaRelations.of(whole(self.graph, self.hidden, self.hyper.device))
                everyone = np.arange(self.graph.n_entities)
                x_ND = self.model([meta] * self.hyper.layers, everyone, self.hidden)
                return x_ND.index_select(0, torch.from_numpy(nodes).to(x_ND.device))
            hidden = np.concatenate([self.always_hidden, edges])
            sources, layers = self.sampler.sample(torch.from_numpy(nodes), self.hyper.layers, hidden)
            metas = [MetaRelations.of(messages.to(self.hyper.device)) for messages in layers]
            return self.model(metas, sources.numpy(), self.hidden)
        finally:
            self.hidden[edges] = False
            self.hidden[self.always_hidden] = True

    def evaluate(self) -> dict[str, float]:
        """The figures of held-out edges, from vectors that do not know them."""
        hidden = np.zeros(self.graph.n_edges, bool)
        hidden[self.always_hidden] = True
        x_ND = vectors_of(self.model, self.world.graph(~hidden), hidden)
        return self.look(x_ND, self.model)

    def state(self) -> dict[str, np.ndarray]:
        """Everything, by name, as copies."""
        return as_checkpoint(parameters_of(self.model), optimiser_state(self.model, self.optimiser))

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Inverse of `state`. ValueError for another shape of model."""
        load_checkpoint(self.model, self.optimiser, arrays)


def losses(true_B: torch.Tensor, broken_BJ: torch.Tensor, counts_BJ: torch.Tensor) -> torch.Tensor:
    """(B,): Eq. 8 with ℓ the cross entropy: −log σ(true) − mean of log(1 − σ(broken)) over those that count."""
    of_broken_B = (softplus(broken_BJ) * counts_BJ).sum(dim=1) / counts_BJ.sum(dim=1).clamp(min=1)
    return softplus(-true_B) + of_broken_B  # Eq. 8


def whole(graph: KnowledgeGraph, hidden: np.ndarray, device: str) -> Messages:
    """All messages of a graph but those of hidden edges (bool, of every edge)."""
    kept = ~torch.from_numpy(hidden)[graph.edge_of_message]
    ends = torch.cat([torch.zeros(1, dtype=torch.int64), torch.cumsum(kept, 0)])
    parts = (ends[graph.offsets], graph.sources[kept], graph.codes[kept])
    return Messages.build(
        *(part.to(device) for part in parts), graph.n_entities, graph.n_codes, engine_of(device))


def train_relgnn(
    world: World,
    hyper: RelGNNHyperparameters,
    *,
    seed: int,
    taught: np.ndarray | None = None,
    held_out: np.ndarray | None = None,
    look: Callable[[torch.Tensor, RelGNN], dict[str, float]] | None = None,
    measure: str = "validation_mrr",
    deterministic: bool = False,
    initial: Mapping[str, np.ndarray] | None = None,
    resume: Path | None = None,
    progress: Callable[[dict[str, float]], None] | None = None,
) -> RelGNNResult:
    """Learn all parameters from the edges.

    taught: bool (E,), edges that are learned from; all pass messages. held_out: bool (E,), edges that stop the training
    early: they are neither learned from nor pass messages; None draws them, pairs of nodes as a whole. look: gives the
    figures of all vectors (n, D) under the model in place of the held-out edges'; measure: which of them decides, with
    its error under <measure>_error. initial: a former result's arrays for tonight's shape of model, from which it goes
    on at `warm_rate_share` of the rate. deterministic: equal arguments give equal bits. resume: a scratch file, written
    after every look, from which the same call goes on after a kill; the caller removes it.
    """
    triples = world.triples
    if initial is not None:
        hyper = dataclasses.replace(hyper, learning_rate=hyper.learning_rate * hyper.warm_rate_share)
    held_out = held_out_edges(triples, hyper, seed) if held_out is None else held_out
    taught = np.ones(len(triples.heads), bool) if taught is None else taught
    model = world.model(hyper, seed)
    trainer = _Trainer(world, model, held_out, taught, seed, deterministic)
    trainer.look = look or trainer.look
    if initial is not None:
        trainer.restore(initial)
    if not len(trainer.trained):
        return RelGNNResult(trainer.state(), [], -1)
    going_on = None
    if resume is not None:
        former = [] if initial is None else [part for name in sorted(initial) for part in (name, initial[name])]
        more = [held_out, taught, dataclasses.asdict(hyper), seed, deterministic]
        going_on = Resume(Snapshot(Path(resume), fingerprint(*world.parts(), *former, *more)), trainer.restore)
    device = [model.relations.device] if model.relations.is_cuda else []
    with deterministic_kernels(deterministic), torch.random.fork_rng(device):
        best, history, best_epoch = run_epochs(
            hyper,
            trainer.epoch,
            trainer.state,
            evaluate=trainer.evaluate if trainer.look else None,
            measure=measure,
            min_gain=hyper.min_gain,
            keeps_gains=initial is not None,
            held_out=None if look else len(np.unique(pair_keys(triples, seed, held_out))),
            progress=progress,
            resume=going_on,
        )
    return RelGNNResult(best, history, best_epoch)
