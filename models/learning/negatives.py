"""Broken triples: who may stand in, which draws are true triples, and which edges share a draw.

Every draw is a pure function of (seed, epoch, position in the epoch's plan), so both engines of TransE see the same
broken triples.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from models.kernels.draws import key_of, permute
from models.kernels.membership import fill_known
from models.kernels.sampling import draw_into, group_by_relation, key_edges

Known = tuple[np.ndarray, np.ndarray]  # hash table and bitmap, both uint64

# edges visited one after the other when every edge has draws of its own: few cache misses, random all the same
_PAIR_CHUNK = 64


@dataclass(frozen=True)
class Pools:
    """The entities that may replace a head or a tail.

    members: int32, entities pool by pool. offsets: int64 (pools + 1,). of: int64 (2, n_relations), the pool of each
    relation's heads (row 0) and tails (row 1). n_entities: of the graph, whether in a pool or not.
    """

    members: np.ndarray
    offsets: np.ndarray
    of: np.ndarray
    n_entities: int

    @classmethod
    def any_entity(cls, n_entities: int, n_relations: int) -> Pools:
        """One pool of all entities, as in the paper."""
        members, offsets = np.arange(n_entities, dtype=np.int32), np.array([0, n_entities], np.int64)
        return cls(members, offsets, np.zeros((2, n_relations), np.int64), n_entities)

    @classmethod
    def by_type(
        cls,
        entity_type: np.ndarray,
        head_type: np.ndarray,
        tail_type: np.ndarray,
        trained: np.ndarray | None = None,
    ) -> Pools:
        """One pool per entity type: type-constrained corruption (Krompass et al. 2015).

        trained: bool (n,), who has an edge. Others say nothing as stand-ins, being where chance put them; they are left
        out of their type's pool, unless it has nobody else.
        """
        n_types = int(max(entity_type.max(), head_type.max(), tail_type.max())) + 1
        counts = np.bincount(entity_type, minlength=n_types)
        for side, types in (("head", head_type), ("tail", tail_type)):
            empty = np.flatnonzero(counts[types] == 0)
            if len(empty):
                raise ValueError(f"relation {empty[0]} has {side} type {types[empty[0]]}, of which there is no entity")
        if trained is not None:
            chosen = trained | (np.bincount(entity_type[trained], minlength=n_types) == 0)[entity_type]
            counts = np.bincount(entity_type[chosen], minlength=n_types)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        members = np.argsort(entity_type, kind="stable").astype(np.int32)
        members = members if trained is None else members[chosen[members]]
        return cls(members, offsets, np.stack([head_type, tail_type]).astype(np.int64), len(entity_type))

    def by_degree(self, *ends: np.ndarray) -> Pools:
        """The same pools with each member as often as it stands among `ends`, the ends of edges: a uniform draw is then
        one by degree. A pool of which nobody has an edge stays as it is."""
        degrees = sum(np.bincount(side, minlength=self.n_entities) for side in ends)
        pools = np.split(self.members, self.offsets[1:-1])
        found = [np.repeat(pool, degrees[pool]) if degrees[pool].any() else pool for pool in pools]
        offsets = np.concatenate([[0], np.cumsum([len(pool) for pool in found])]).astype(np.int64)
        return replace(self, members=np.concatenate(found), offsets=offsets)

    def draw(self, pool: int, most: int, random: np.random.Generator) -> np.ndarray:
        """int64, ascending: at most so many different members of a pool; all where it has no more."""
        members = self.members[self.offsets[pool] : self.offsets[pool + 1]]
        if len(members) > most:
            members = members[random.integers(len(members), size=most)]
        return np.unique(members).astype(np.int64)

    def thinned(self, most: int, keys: np.ndarray) -> Pools:
        """At most so many members of each pool: those whose key comes first. keys: uint64 (n_entities,)."""
        pools = np.split(self.members, self.offsets[1:-1])
        if max(map(len, pools)) <= most:
            return self
        kept = [p if len(p) <= most else np.sort(p[np.argpartition(keys[p], most)[:most]]) for p in pools]
        offsets = np.concatenate([[0], np.cumsum([len(p) for p in kept])]).astype(np.int64)
        return replace(self, members=np.concatenate(kept), offsets=offsets)


def known_triples(
    heads: np.ndarray, relations: np.ndarray, tails: np.ndarray, n_entities: int, n_relations: int
) -> Known:
    """The true triples as `kernels/membership.py` keeps them, for filtered corruption: 20 to 40 bytes per triple."""
    if n_entities**2 * n_relations >= 2**63:
        raise ValueError(f"{n_entities} entities and {n_relations} relations do not fit into 63 bits; train unfiltered")
    slots = 1 << max(6, (2 * len(heads) - 1).bit_length())
    known = np.zeros(slots, np.uint64), np.zeros(slots // 8, np.uint64)
    fill_known(heads, relations, tails, n_entities, n_relations, known)
    return known


def no_known_triples() -> Known:
    """What filters nothing."""
    return np.zeros(0, np.uint64), np.zeros(0, np.uint64)


@dataclass(frozen=True)
class Plan:
    """One epoch: the edges in chunks, and the order in which the chunks are visited.

    heads, relations, tails: int32 (edges,). starts: int64 (chunks + 1,). order: int64 (chunks,). key: of this epoch's
    draws. shared: the edges of a chunk are of one relation and share their draws.
    """

    heads: np.ndarray
    relations: np.ndarray
    tails: np.ndarray
    starts: np.ndarray
    order: np.ndarray
    key: np.uint64
    shared: bool

    def by_edge(self) -> Plan:
        """The same draws and order with a chunk for each edge, where edges share none; else itself."""
        if self.shared:
            return self
        return replace(self, starts=np.arange(len(self.heads) + 1), order=self.positions(self.order))

    def positions(self, chunks: np.ndarray) -> np.ndarray:
        """int64: the edges of these chunks, one chunk after the other."""
        sizes = np.diff(self.starts)[chunks]
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return np.repeat(self.starts[chunks], sizes) + within


class Planner:
    """Makes each epoch's plan out of the edges in the caller's order and a seed; nothing else enters."""

    def __init__(
        self, heads: np.ndarray, relations: np.ndarray, tails: np.ndarray, n_relations: int, seed: int, shared_by: int
    ) -> None:
        self._seed, self._shared_by, self._n_relations = seed, shared_by, n_relations
        order = np.arange(len(heads))
        permute(key_of(seed), order)
        self._edges = tuple(np.ascontiguousarray(column[order], dtype=np.int32) for column in (heads, relations, tails))

    def plan(self, epoch: int) -> Plan:
        """The plan of one epoch (0-based)."""
        key = key_of(self._seed, epoch, 1)
        if self._shared_by == 1:
            n_edges = len(self._edges[0])
            starts = np.minimum(np.arange(0, n_edges + _PAIR_CHUNK, _PAIR_CHUNK), n_edges)
            starts = starts[: -(-n_edges // _PAIR_CHUNK) + 1]
            edges = self._edges
        else:
            edges, starts = self._grouped(key_of(self._seed, epoch, 3))
        order = np.arange(len(starts) - 1)
        permute(key_of(self._seed, epoch, 2), order)
        return Plan(*edges, starts, order, key, self._shared_by > 1)

    def _grouped(self, key: np.uint64) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
        """The edges in a new random order within each relation, cut into chunks of `shared_by` at most."""
        order = np.arange(len(self._edges[0]))
        permute(key, order)
        order, starts = group_by_relation(self._edges[1], order, self._n_relations, self._shared_by)
        return tuple(column[order] for column in self._edges), starts


@dataclass(frozen=True)
class Broken:
    """The broken triples of a batch of B edges, K each.

    positions: (B,) into the plan's edges. broken_tail: (B,) bool, else the head is broken. entities: (B, K). counts:
    (B, K) bool, False where the broken triple is true.
    """

    positions: np.ndarray
    broken_tail: np.ndarray
    entities: np.ndarray
    counts: np.ndarray

    def once(self) -> Broken:
        """The same, of which every entity counts once in its row, however often it was drawn."""
        order = np.argsort(self.entities, axis=1, kind="stable")
        ascending, again = np.take_along_axis(self.entities, order, axis=1), np.zeros_like(self.counts)
        np.put_along_axis(again, order[:, 1:], ascending[:, 1:] == ascending[:, :-1], axis=1)
        return replace(self, counts=self.counts & ~again)


def draw_broken_triples(plan: Plan, chunks: np.ndarray, negatives: int, pools: Pools, known: Known) -> Broken:
    """What the compiled kernels draw for these chunks of the plan, as arrays."""
    positions = plan.positions(chunks)
    numbers = np.repeat(chunks, np.diff(plan.starts)[chunks]) if plan.shared else positions
    n_entities, n_relations = pools.n_entities, pools.of.shape[1]
    broken_tail = np.empty(len(positions), np.bool_)
    entities, counts = np.empty((len(positions), negatives), np.int64), np.empty((len(positions), negatives), np.bool_)
    draw_into(
        plan.heads, plan.relations, plan.tails, positions, numbers, plan.key, pools.members, pools.offsets, pools.of,
        known, n_entities, n_relations, broken_tail, entities, counts,
    )  # fmt: skip
    return Broken(positions, broken_tail, entities, counts)


def keyed_edges(heads: np.ndarray, relations: np.ndarray, tails: np.ndarray, key: np.uint64) -> np.ndarray:
    """uint64 (E,): a random number per edge that depends on the keys (uint64) of its ends and relation.

    It depends on no index.
    """
    out = np.empty(len(heads), np.uint64)
    key_edges(heads, relations, tails, key, out)
    return out
