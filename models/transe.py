"""TransE (Bordes et al. 2013) as the KQGC paper uses it (section 3.1): vectors of a graph's entities and relations.

Training: `transe_training.py`; its engines: `transe_numba.py`, `transe_torch.py`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from models.hyperparameters import TransEHyperparameters
from models.kernels.draws import key_of
from models.learning.initialisation import Placing, WarmStart, keyed_vectors, neighbours_queries_mean, unit_rows
from models.learning.negatives import Known, Planner, Pools, keyed_edges, known_triples, no_known_triples
from models.learning.training import standard_error
from models.transe_numba import NumbaEngine
from models.vectors.ranking import available_cores, filtered_ranks, mean_reciprocal_rank

_MOST_CANDIDATES = 20_000  # of each type, among whom a held-out edge's end is ranked


@dataclass(frozen=True)
class Triples:
    """A graph in dense indices: one index space over the entities of all types, one over the relations.

    heads, relations, tails: int64 (E,). entity_type: int (n,). relation_head_type, relation_tail_type: int (m,).
    entity_keys, relation_keys: uint64 (n,), (m,), a hash of (type, raw id), from which random numbers are drawn.
    The order of the edges and of the index should come from the raw ids: it decides batches and draws.
    """

    heads: np.ndarray
    relations: np.ndarray
    tails: np.ndarray
    entity_type: np.ndarray
    relation_head_type: np.ndarray
    relation_tail_type: np.ndarray
    entity_keys: np.ndarray
    relation_keys: np.ndarray

    def __post_init__(self) -> None:
        n_edges, n_entities, n_relations = len(self.heads), len(self.entity_type), len(self.relation_head_type)
        if not (len(self.relations) == len(self.tails) == n_edges and n_edges > 0):
            found = f"{n_edges} heads, {len(self.relations)} relations, {len(self.tails)} tails"
            raise ValueError(f"{found}; expected equal, at least 1")
        for name, size in (("heads", n_entities), ("tails", n_entities), ("relations", n_relations)):
            least, most = getattr(self, name).min(), getattr(self, name).max()
            if least < 0 or most >= size:
                raise ValueError(f"{name} reach from {least} to {most}; expected dense indices 0 to {size - 1}")
        if len(self.entity_keys) != n_entities or len(self.relation_keys) != n_relations:
            raise ValueError("entity_keys and relation_keys need one key per entity and relation")

    @property
    def n_entities(self) -> int:
        return len(self.entity_type)

    @property
    def n_relations(self) -> int:
        return len(self.relation_head_type)

    @property
    def connected(self) -> np.ndarray:
        """bool (n,): entities with an edge."""
        found = np.zeros(self.n_entities, bool)
        found[self.heads] = found[self.tails] = True
        return found

    @property
    def edges(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(heads, relations, tails)."""
        return self.heads, self.relations, self.tails


@dataclass(frozen=True)
class TransEState:
    """All of a model's parameters and its optimiser's state, float32.

    entities (n, d), relations (m, d), entity_accumulators (n,), relation_accumulators (m,).
    """

    entities: np.ndarray
    relations: np.ndarray
    entity_accumulators: np.ndarray
    relation_accumulators: np.ndarray

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Named arrays, as `training.to_bytes` takes them."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> TransEState:
        """Inverse of `to_arrays`; other names are ignored, a missing one is a KeyError that names it."""
        return cls(**{name: arrays[name] for name in cls.__dataclass_fields__})


def initialise(
    triples: Triples, hyper: TransEHyperparameters, seed: int, initial: WarmStart | None = None
) -> TransEState:
    """The state before the first epoch.

    Cold: uniform numbers keyed by (seed, key of the entity or relation), unit-normed as in Bordes et al. 2013
    (algorithm 1), or with `unit_norm` off in the range of Sun et al. 2019. Warm: the predecessor's vectors; a new
    entity takes the mean of its known neighbours' queries, or random numbers if it has none.
    """
    d = hyper.dimension
    bound = 6 / d**0.5 if hyper.unit_norm else (hyper.margin + 2) / d
    entities = keyed_vectors(triples.entity_keys, d, seed, bound)
    relations = keyed_vectors(triples.relation_keys, d, seed + 1, bound)
    if hyper.unit_norm:
        entities, relations = unit_rows(entities), unit_rows(relations)
    accumulators = [np.zeros(triples.n_entities, np.float32), np.zeros(triples.n_relations, np.float32)]
    if initial is not None:
        _check_warm_start(initial, triples, d)
        relations[initial.relation_known] = initial.relations[initial.relation_known]
        entities[initial.entity_known] = initial.entities[initial.entity_known]
        # a relation of unknown vector says nothing about where its ends are
        told = initial.relation_known[triples.relations]
        edges, known = tuple(column[told] for column in triples.edges), initial.entity_known
        placing = Placing.of(entities, relations, known, triples.entity_type, edges, hyper.unit_norm)
        means, found = neighbours_queries_mean(entities, relations, known, *edges)
        entities[found] = placing.placed(means, found)
        share = np.float32(hyper.warm_accumulator_share)
        for own, former, known in (
            (accumulators[0], initial.entity_accumulators, initial.entity_known),
            (accumulators[1], initial.relation_accumulators, initial.relation_known),
        ):
            if former is not None:
                own[known] = share * former[known]
    return TransEState(entities, relations, *accumulators)


def _check_warm_start(initial: WarmStart, triples: Triples, dimension: int) -> None:
    expected = {"entities": (triples.n_entities, dimension), "relations": (triples.n_relations, dimension)}
    for name, shape in expected.items():
        if getattr(initial, name).shape != shape:
            raise ValueError(
                f"warm start {name} have shape {getattr(initial, name).shape}; expected {shape}. "
                "Another dimension needs another model name, or a cold start"
            )


def held_out_edges(triples: Triples, hyper: TransEHyperparameters, seed: int) -> np.ndarray:
    """bool (E,): edges kept out of training to stop early.

    A pair of entities is held out with all edges between them, whatever their relation or direction: who has carted
    what he is to buy would give the answer away. Keyed by the pair, and never an entity's or a relation's last edges.
    """
    wanted = min(int(hyper.validation_share * len(triples.heads)), hyper.evaluate_edges)
    held_out = np.zeros(len(triples.heads), bool)
    if wanted == 0:
        return held_out
    of_pairs = pair_keys(triples, seed)
    order = np.argsort(of_pairs, kind="stable")
    starts = np.flatnonzero(np.diff(of_pairs[order], prepend=~of_pairs[order[:1]]))
    pairs = zip(starts[: 4 * wanted].tolist(), np.append(starts[1:], len(order)).tolist(), strict=False)
    degree = np.bincount(triples.heads, minlength=triples.n_entities)
    degree += np.bincount(triples.tails, minlength=triples.n_entities)
    uses = np.bincount(triples.relations, minlength=triples.n_relations)
    for first, last in pairs:
        edges = order[first:last]
        if len(edges) > wanted:
            continue
        relations, n_each = np.unique(triples.relations[edges], return_counts=True)
        ends, n_ends = np.unique([triples.heads[edges], triples.tails[edges]], return_counts=True)
        if (degree[ends] > n_ends).all() and (uses[relations] > n_each).all():
            held_out[edges] = True
            degree[ends] -= n_ends
            uses[relations] -= n_each
            wanted -= len(edges)
    return held_out


def pair_keys(triples: Triples, seed: int, edges: np.ndarray | slice = slice(None)) -> np.ndarray:
    """uint64, one for each of the edges: a random number of the two entities at its ends, in either order."""
    ends = np.sort([triples.entity_keys[triples.heads[edges]], triples.entity_keys[triples.tails[edges]]], axis=0)
    return keyed_edges(ends[0], np.zeros(ends.shape[1], np.uint64), ends[1], key_of(seed))


class TransE:
    """Translating embeddings, trained by gradient descent on a ranking loss.

    Bordes, Usunier, Garcia-Duran, Weston, Yakhnenko: Translating Embeddings for Modeling Multi-relational Data (NIPS
    2013), in the form of KQGC, section 3.1:

        L = sum_{(h,r,t) in E} sum_{(h',r,t') in E^-1} [gamma + f(h, r, t) - f(h', r, t')]_+        (1)
        f(h, r, t) = || e_h + e_r - e_t ||_{1,2}                                                    (2)

    | symbol      | name                          | shape                          |
    |-------------|-------------------------------|--------------------------------|
    | e_h, e_t    | `state.entities`              | (n, d)                         |
    | e_r         | `state.relations`             | (m, d)                         |
    | gamma       | `hyper.margin`                | scalar, distance               |
    | E           | `triples.edges`               | three of (E,)                  |
    | E^-1        | `negatives.Broken`            | (B, K) entities for B edges    |
    | f           | `distance`                    | (B,)                           |

    Departs from the paper:
    - The defaults are L2 in (2), and in place of (1) the self-adversarial loss (Sun et al. 2019, Eq. 5), which learns
      from many broken triples what (1) learns from few. L1 and (1) by option.
    - Broken triples are of the right type, made of entities that have edges, and not true ones (both by option); their
      number K is free; several edges of a relation may share a draw. Each edge (or chunk) breaks its head or its tail,
      by a fair coin.
    - Row-wise Adagrad (one accumulator per vector) instead of plain gradient descent.
    - The compiled engine updates after each edge or chunk, without locks, not after a batch: same gradients, other
      rounding.
    - Entities are put back on the unit sphere when they are updated, not all of them before each batch.
    """

    def __init__(
        self,
        triples: Triples,
        hyper: TransEHyperparameters,
        *,
        seed: int,
        deterministic: bool = False,
        state: TransEState,
    ) -> None:
        self.hyper = hyper
        self._held_out = held_out_edges(triples, hyper, seed)
        self._pair_of = np.unique(pair_keys(triples, seed, self._held_out), return_inverse=True)[1]
        self._pools = Pools.any_entity(triples.n_entities, triples.n_relations)
        if hyper.type_constrained:
            ends = triples.relation_head_type, triples.relation_tail_type
            self._pools = Pools.by_type(triples.entity_type, *ends, triples.connected)
        self._candidates = self._pools.thinned(_MOST_CANDIDATES, triples.entity_keys)
        self._edges = triples.edges
        training = tuple(column[~self._held_out] for column in triples.edges)
        sizes = triples.n_entities, triples.n_relations
        known = known_triples(*training, *sizes) if hyper.filtered else no_known_triples()
        if hyper.sampling.kind == "degree":
            self._pools = self._pools.by_degree(training[0], training[2])
        self._planner = Planner(*training, triples.n_relations, seed, hyper.negatives_shared_by)
        self._threads = 1 if deterministic else hyper.threads or available_cores()
        self._engine = self._make_engine(state.to_arrays(), known, deterministic, seed)

    def _make_engine(self, tables: dict[str, np.ndarray], known: Known, deterministic: bool, seed: int):  # noqa: ANN202
        if self.hyper.engine == "numba":
            return NumbaEngine(tables, self.hyper, self._pools, known, self._threads)
        from models.transe_torch import TorchEngine  # torch takes seconds to import, and only this engine needs it

        return TorchEngine(tables, self.hyper, self._pools, known, deterministic, seed)

    @property
    def state(self) -> TransEState:
        """A copy of the state as it stands."""
        return TransEState.from_arrays(self._engine.arrays())

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """One pass over the training edges: its record for the history."""
        started = time.perf_counter()
        passed = epoch / max(self.hyper.epochs - 1, 1)
        loss, edges = self._engine.train_epoch(self._planner.plan(epoch), self.hyper.rate_of(epoch), passed)
        return {"epoch": epoch, "loss": loss / max(edges, 1), "edges": edges, "seconds": time.perf_counter() - started}

    @property
    def has_held_out_edges(self) -> bool:
        """Whether there is anything to stop early by."""
        return bool(self._held_out.any())

    @property
    def held_out_pairs(self) -> int:
        """Pairs of entities between which edges are held out: independent draws of a look."""
        return len(np.unique(self._pair_of))

    def look(self) -> tuple[float, float]:
        """(filtered MRR of the held-out edges in both directions, its standard error); NaN where none is held out.

        Among so many candidates of a type at most, always the same ones: a look costs no more where there are millions.
        The edges of a pair are no independent draws: the error is that of pairs.
        """
        state = self.state
        edges = tuple(column[self._held_out] for column in self._edges)
        given = (state.entities, state.relations, edges, self._edges, self.hyper.norm)
        ranks = filtered_ranks(*given, pools=self._candidates, threads=self._threads)
        mrr, of_edges = mean_reciprocal_rank(ranks), (1 / ranks).mean(axis=0)
        sums = np.bincount(self._pair_of, of_edges - mrr)
        return mrr, standard_error(sums) * len(sums) / max(len(of_edges), 1)


def distance(heads: np.ndarray, relations: np.ndarray, tails: np.ndarray, norm: str) -> np.ndarray:
    """Eq. 2 for rows of vectors (B, d): (B,)."""
    return np.linalg.norm(heads + relations - tails, ord=1 if norm == "l1" else 2, axis=1)
