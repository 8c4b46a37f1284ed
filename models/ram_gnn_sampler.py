"""RAM-GNN's neighbours: who shares an attribute's value with whom, the nearest of them, and how many are kept.

The graph in which everybody is connected with everybody of the same value is never made: half of all users share a
gender. Its rows (entity, value) are, and since Eq. 9 compares one number per entity, the k nearest inside a value are a
window of the value's members in the order of that number: exact, in O(rows · log rows).

Shape suffixes: see `models/shapes.py`, and R rows, T relation types, Z values.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import torch

from models.messages.adjacency import Adjacency
from models.shapes import ShapeError, expect_indices

RECENT = 10  # iterations that Eq. 14 adds up


@dataclasses.dataclass(frozen=True)
class AttributeRows:
    """The attributes of one side (users or items): one row per entity and value, by entity, then value.

    entities, values: int64 (R,), dense. value_types: int64 (Z,), the relation type of each value, ascending: a value
    that two types share is one value of each.
    """

    entities: torch.Tensor
    values: torch.Tensor
    value_types: torch.Tensor
    n_entities: int
    n_types: int

    @classmethod
    def of(
        cls, entities: np.ndarray, values: np.ndarray, value_types: np.ndarray, n_entities: int, n_types: int
    ) -> AttributeRows:
        """From rows in any order, repeats counting once. ShapeError for indices out of range or types not ascending."""
        expect_indices("entities", entities, n_entities, "entities")
        expect_indices("values", values, len(value_types), "values")
        expect_indices("value_types", value_types, n_types, "relation types")
        if (np.diff(value_types) < 0).any():
            raise ShapeError("value_types are not ascending; expected the values of a relation type side by side")
        pairs = np.unique(np.stack([entities, values]), axis=1)
        tensors = (torch.from_numpy(np.ascontiguousarray(column)) for column in (*pairs, value_types))
        return cls(*tensors, n_entities, n_types)

    @property
    def n_rows(self) -> int:
        return self.entities.numel()

    @property
    def n_values(self) -> int:
        return self.value_types.numel()

    @property
    def device(self) -> torch.device:
        return self.entities.device

    @functools.cached_property
    def types(self) -> torch.Tensor:
        """int64 (R,)."""
        return self.value_types[self.values]

    @functools.cached_property
    def offsets(self) -> torch.Tensor:
        """int64 (N + 1,): entity i has the rows offsets[i] to offsets[i + 1]."""
        return torch.searchsorted(self.entities, torch.arange(self.n_entities + 1, device=self.device))

    @functools.cached_property
    def runs(self) -> torch.Tensor:
        """int64 (R,), ascending from 0: the pair of entity and type that a row belongs to."""
        pairs = self.entities * self.n_types + self.types
        return torch.unique_consecutive(pairs, return_inverse=True)[1]

    @functools.cached_property
    def by_value(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(rows by value, then entity (R,); offsets (Z + 1,) of each value's)."""
        order = torch.sort(self.values, stable=True).indices
        return order, torch.searchsorted(self.values[order], torch.arange(self.n_values + 1, device=self.device))

    @functools.cached_property
    def keys(self) -> torch.Tensor:
        """int64 (R,), ascending: a number for each pair of entity and value."""
        return self.entities * self.n_values + self.values

    def hold(self, entities: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """bool: whether each of the entities has the value at its side."""
        if not self.n_rows:
            return torch.zeros_like(entities, dtype=torch.bool)
        wanted = entities * self.n_values + values
        return self.keys[torch.searchsorted(self.keys, wanted).clamp(max=self.n_rows - 1)] == wanted

    def kept(self, rows: torch.Tensor) -> AttributeRows:
        """Some of the rows (bool (R,)), of the same entities."""
        return dataclasses.replace(self, entities=self.entities[rows], values=self.values[rows])

    def among(self, members: torch.Tensor) -> AttributeRows:
        """The rows of some entities (int64, ascending), which are numbered anew."""
        number = torch.full((self.n_entities,), -1, device=self.device)
        number[members] = torch.arange(members.numel(), device=self.device)
        renamed = number[self.entities]
        some = renamed >= 0
        tables = {"entities": renamed[some], "values": self.values[some], "n_entities": members.numel()}
        return dataclasses.replace(self, **tables)

    def to(self, device: str | torch.device) -> AttributeRows:
        """The same rows on another device."""
        moved = {name: getattr(self, name).to(device) for name in ("entities", "values", "value_types")}
        return dataclasses.replace(self, **moved)


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """The kept neighbours: each row's nearest others of its value. A message comes from a row (j, n) into a row (i, n).

    offsets: int64 (rows + 1,), the messages into each row of the entities first to last - 1. sources: int64 (E,), among
    all rows.
    """

    rows: AttributeRows
    offsets: torch.Tensor
    sources: torch.Tensor
    first: int
    last: int

    @functools.cached_property
    def _destinations(self) -> slice:
        return slice(int(self.rows.offsets[self.first]), int(self.rows.offsets[self.last]))

    @property
    def entities(self) -> torch.Tensor:
        """int64: the entity of each row that hears, counted from `first`."""
        return self.rows.entities[self._destinations] - self.first

    @property
    def values(self) -> torch.Tensor:
        """int64: the value of each row that hears."""
        return self.rows.values[self._destinations]

    @functools.cached_property
    def into_rows(self) -> Adjacency:
        """The messages seen from their source entities, into rows."""
        return Adjacency(self.offsets, self.rows.entities[self.sources], self.rows.n_entities, "torch")

    @functools.cached_property
    def into_entities(self) -> Adjacency:
        """The same messages seen from their source rows, into entities."""
        of_entities = self.rows.offsets[self.first : self.last + 1] - self._destinations.start
        return Adjacency(self.offsets[of_entities], self.sources, self.rows.n_rows, "torch")

    def part(self, first: int, last: int) -> Neighbours:
        """What the entities first to last - 1 hear; of all."""
        begin, end = int(self.rows.offsets[first]), int(self.rows.offsets[last])
        offsets = self.offsets[begin : end + 1]
        sources = self.sources[int(offsets[0]) : int(offsets[-1])]
        return Neighbours(self.rows, offsets - offsets[0], sources, first, last)

    def average_distances(self, z_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(Σ over entities of their average neighbour distance by type (T,), entities with a neighbour (T,)); of all.

        z_N: the number of Eq. 9 per entity.
        """
        destinations, runs_R = self.into_rows.destinations, self.rows.runs
        d_E = (z_N[self.into_rows.sources] - z_N[self.entities[destinations]]).abs()  # Eq. 9
        n_runs = int(runs_R[-1]) + 1 if runs_R.numel() else 0
        sums = d_E.new_zeros(n_runs).index_add(0, runs_R[destinations], d_E)
        counts = d_E.new_zeros(n_runs).index_add(0, runs_R[destinations], torch.ones_like(d_E))
        types = runs_R.new_zeros(n_runs).index_copy(0, runs_R, self.rows.types)
        heard = counts > 0
        means, types = sums[heard] / counts[heard], types[heard]  # Eq. 12, of every entity
        totals = d_E.new_zeros(self.rows.n_types)
        return totals.index_add(0, types, means), totals.index_add(0, types, torch.ones_like(means))


def nearest(
    rows: AttributeRows, z_N: torch.Tensor, thresholds_T: torch.Tensor, parts_R: torch.Tensor | None = None
) -> Neighbours:
    """Of every row the k_t others of the same value whose number z is nearest to the entity's own.

    All of them where the value has fewer. parts_R: int64, into which a value's members are divided; only those of a
    row's own part are candidates. Of equally near ones those before come first, in the order of z, then of entities.
    """
    places = torch.arange(rows.n_rows, device=rows.device)
    order, z_R, starts, ends = _sorted_inside_groups(rows, z_N.detach(), parts_R)
    kept = torch.minimum(thresholds_T[rows.types[order]], ends - starts - 1)
    # the window of kept + 1 members, the row's own among them, that leaves no nearer one out
    low, high = torch.maximum(starts, places - kept), torch.minimum(places, ends - 1 - kept)
    while bool((low < high).any()):
        middle = (low + high) // 2
        beyond = (middle + kept + 1).clamp(max=max(rows.n_rows - 1, 0))
        goes_on = (low < high) & (z_R - z_R[middle] > z_R[beyond] - z_R)
        low, high = torch.where(goes_on, middle + 1, low), torch.where(goes_on, high, middle)
    back = torch.empty_like(order)
    back[order] = places
    counts, first, own = kept[back], low[back], back
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    within = torch.arange(int(offsets[-1]), device=rows.device) - torch.repeat_interleave(offsets[:-1], counts)
    at = torch.repeat_interleave(first, counts) + within
    at += at >= torch.repeat_interleave(own, counts)  # past the row itself
    return Neighbours(rows, offsets, order[at], 0, rows.n_entities)


def _sorted_inside_groups(
    rows: AttributeRows, z_N: torch.Tensor, parts_R: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(rows by group, z and entity (R,); z of each in that order; where its group starts and ends)."""
    z_R, groups_R = z_N[rows.entities], rows.values
    if parts_R is not None and rows.n_rows:
        groups_R = groups_R * (parts_R.max() + 1) + parts_R
    order = torch.sort(z_R, stable=True).indices
    order = order[torch.sort(groups_R[order], stable=True).indices]
    groups_R = groups_R[order]
    starts, ends = (torch.searchsorted(groups_R, groups_R, right=right) for right in (False, True))
    return order, z_R[order], starts, ends


def random_parts(rows: AttributeRows, most: int, random: torch.Generator) -> torch.Tensor:
    """int64 (R,): the members of each value dealt at random into parts of about equal size, of `most` at most."""
    _, offsets = rows.by_value
    sizes_R = (offsets[1:] - offsets[:-1])[rows.values]
    shuffled = torch.randperm(rows.n_rows, generator=random, device=rows.device)
    by_value = shuffled[torch.sort(rows.values[shuffled], stable=True).indices]
    place = torch.arange(rows.n_rows, device=rows.device) - offsets[rows.values[by_value]]
    parts = torch.empty_like(place)
    parts[by_value] = place % (-(-sizes_R[by_value] // most))
    return parts


@dataclasses.dataclass
class Bandit:
    """The reinforced sampler's thresholds: a Bernoulli bandit for each relation type (section III-C).

    thresholds: int64 (T,), k_t. before: float64 (T,), the average neighbour distance of the last iteration, NaN before
    the first. rewards: int64 (RECENT, T), the latest last, 0 where there was none yet. iterations: int64 (T,), rewards
    so far. fixed: bool (T,), terminated. step: by which k_t moves; most: k_t at most; bound: of Eq. 14.
    """

    thresholds: np.ndarray
    before: np.ndarray
    rewards: np.ndarray
    iterations: np.ndarray
    fixed: np.ndarray
    step: int
    most: int
    bound: int

    @classmethod
    def of(cls, thresholds: np.ndarray, step: int, most: int, bound: int) -> Bandit:
        """One that starts from these k_t."""
        n = len(thresholds)
        started = np.full(n, np.nan), np.zeros((RECENT, n), np.int64), np.zeros(n, np.int64), np.zeros(n, bool)
        return cls(np.clip(thresholds, 1, most).astype(np.int64), *started, step, most, bound)

    def update(self, averages: np.ndarray) -> None:
        """One iteration: averages, float64 (T,), of Eq. 12; NaN for a type without a neighbour, which is fixed."""
        moves = ~self.fixed & np.isfinite(averages) & np.isfinite(self.before)
        rewards = np.where(moves, np.where(self.before >= averages, 1, -1), 0)  # Eq. 13
        self.thresholds = np.clip(self.thresholds + self.step * rewards, 1, self.most)
        self.rewards = np.where(moves, np.concatenate([self.rewards[1:], rewards[None]]), self.rewards)
        self.iterations = self.iterations + moves
        ends = np.abs(self.rewards.sum(axis=0)) <= self.bound  # Eq. 14
        self.fixed = self.fixed | (ends & (self.iterations > RECENT)) | np.isnan(averages)
        self.before = averages

    def arrays(self) -> dict[str, np.ndarray]:
        """What a killed training goes on with, by name."""
        return {name: getattr(self, name).copy() for name in ("thresholds", "before", "rewards", "iterations", "fixed")}

    def take(self, arrays: dict[str, np.ndarray]) -> None:
        """Inverse of `arrays`."""
        for name in self.arrays():
            setattr(self, name, arrays[name].copy())
