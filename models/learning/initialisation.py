"""Where training starts: random vectors keyed by who they are for, or the predecessor's with a place for newcomers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.kernels.draws import key_of, keyed_numbers

Edges = tuple[np.ndarray, np.ndarray, np.ndarray]  # heads, relations, tails, each (E,)
_EDGES_AT_ONCE = 1 << 18  # a vector for each: bounds memory, leaves the sums as they are


@dataclass(frozen=True)
class WarmStart:
    """The predecessor's vectors, joined to tonight's dense index.

    entities (n, d), relations (m, d) float32; entity_known (n,), relation_known (m,) bool: where False the row is
    ignored. entity_accumulators (n,), relation_accumulators (m,): the optimiser's state, or None.
    """

    entities: np.ndarray
    relations: np.ndarray
    entity_known: np.ndarray
    relation_known: np.ndarray
    entity_accumulators: np.ndarray | None = None
    relation_accumulators: np.ndarray | None = None


def keyed_vectors(keys: np.ndarray, dimension: int, seed: int, bound: float) -> np.ndarray:
    """float32 (len(keys), dimension), uniform in [-bound, bound).

    A function of each key and the seed, of no index and no size.
    """
    out = np.empty((len(keys), dimension), np.float64)
    keyed_numbers(np.asarray(keys, np.uint64) ^ key_of(seed), dimension, out)
    return ((2 * out - 1) * bound).astype(np.float32)


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Each row divided by its L2 norm; a zero row stays zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)


def neighbours_queries_mean(
    entities: np.ndarray,
    relations: np.ndarray,
    known: np.ndarray,
    heads: np.ndarray,
    rels: np.ndarray,
    tails: np.ndarray,
    of: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """For each entity without `known` (or each one in `of`, bool (n,)), the mean of where its known neighbours say it
    is.

    That is e_h + e_r for a tail, e_t - e_r for a head.
    Returns (means float32 (n, d), zero without such a neighbour; found (n,) bool).
    """
    sums, counts = np.zeros(entities.shape, np.float64), np.zeros(len(entities), np.int64)
    wanted = ~known if of is None else of
    for target, anchor, sign in ((tails, heads, 1.0), (heads, tails, -1.0)):
        use = np.flatnonzero(known[anchor] & wanted[target])
        for first in range(0, len(use), _EDGES_AT_ONCE):
            some = use[first : first + _EDGES_AT_ONCE]
            np.add.at(sums, target[some], entities[anchor[some]] + sign * relations[rels[some]])
        counts += np.bincount(target[use], minlength=len(entities))
    return (sums / np.maximum(counts, 1)[:, None]).astype(np.float32), counts > 0


@dataclass(frozen=True)
class Placing:
    """How an entity that was not trained comes by a vector of the trained ones' kind: from its neighbours' queries.

    On the unit sphere (`away` None) their mean gives the direction. Off it the trained vectors of a type lie `away`
    from the mean of their own neighbours' queries, which a loss that leaves true triples apart keeps at a distance:
    float64 (types, d), the mean of that difference, which is added. kinds: int (n,), the type of each entity.
    """

    kinds: np.ndarray
    away: np.ndarray | None = None

    @classmethod
    def of(
        cls, entities: np.ndarray, relations: np.ndarray, trained: np.ndarray, kinds: np.ndarray, edges: Edges,
        unit_norm: bool,
    ) -> Placing:  # fmt: skip
        """trained: bool (n,), whose rows of `entities` (n, d) are to be trusted."""
        if unit_norm:
            return cls(kinds)
        means, found = neighbours_queries_mean(entities, relations, trained, *edges, of=trained)
        away = np.zeros((int(kinds.max(initial=-1)) + 1, entities.shape[1]))
        for kind in np.unique(kinds[found]):
            mine = found & (kinds == kind)
            away[kind] = (entities[mine] - means[mine]).mean(axis=0, dtype=np.float64)
        return cls(kinds, away)

    def placed(self, means: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """float32 (rows, d): the vectors of these entities (bool (n,) or indices), from the means (n, d) of their
        neighbours' queries."""
        if self.away is None:
            return unit_rows(means[rows])
        return (means[rows] + self.away[self.kinds[rows]]).astype(np.float32)
