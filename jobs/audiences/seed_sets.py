"""A list of users as a client: what its users, the seeds, buy more than others do, and how near a user is to them.

A list has no items. So those stand for it that tell seeds from others best: of each item and each attribute value it is
counted how many seeds and how many of all users bought it before the day, and how surprising that is (`evidence`). The
items with the most are the list's set, or all items of the one value that chance would not bring out among so many; the
pooled classifier's columns exist for it (set_columns.py). Items have weights, too, so that all of a user's events say
something, not those with the set alone.
How near: the density of seeds around the user ÷ that of all users, in each vector space and by what was bought (deWet
and Ou, Finding Users Who Act Alike, KDD 2019, who count both in cells of a locality-sensitive hash; here a kernel of
the distance weighs every seed, and no cell's border cuts one off).
Shapes: U users of the log, u eligible ones, n items, m seeds, p users asked for.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from jobs.audiences.item_sets import ItemSets, rows_of
from jobs.audiences.pooled_rows import order_of
from jobs.audiences.set_affinities import Published
from jobs.audiences.set_columns import LIFT_PRIOR, Past, columns, names
from models.kernels import set_history as kernel
from models.places import positions
from models.vectors.comparison import Comparer

MOST_ITEMS = 100  # of a list's set, unless it is all items of a value
SURE = 1.0  # times the log of the number of values: evidence that chance does not bring about among so many
MOST_VALUES = 5  # attribute values whose evidence counts for their items
MOST_SEEDS = 512  # whose distances are taken, by a hash of their ids
AT_LARGE = 256  # users who stand for all
SHARPNESS = (1.0, 3.0)  # of the kernel, in standard deviations of a user's distances to users at large
FARTHEST = 20.0  # standard deviations that the kernel looks at
BY_ITEM = ("seed_lift", "seed_likes", "seed_evidence", "seed_values")  # weights of items, as `SeedSet.weights`
BY_LIST = ("seeds", "set_items", "evidence", "value_evidence", "value_share", "value_buyers")


@dataclass(frozen=True)
class SeedSet:
    """of_set bool (n,): the list's items. weights float32 (len(BY_ITEM), n). facts float32 (len(BY_LIST),)."""

    of_set: np.ndarray
    weights: np.ndarray
    facts: np.ndarray


def evidence(held: np.ndarray, seeds: int, share: np.ndarray) -> np.ndarray:
    """float64: how surprising it is that `held` of so many seeds have what a share of all users has; 0 where that is
    less than expected. The log-likelihood ratio of the binomial (half of G; Dunning 1993)."""
    expected = np.clip(seeds * share, 1e-12, seeds - 1e-12)
    rest = seeds - held
    found = held * np.log(np.maximum(held, 1) / expected) + rest * np.log(np.maximum(rest, 1e-12) / (seeds - expected))
    return np.where(held > expected, np.maximum(found, 0), 0)


@dataclass(frozen=True)
class SeedLists:
    """What lists of seeds are told by as of a day: what was bought by whom, and the vectors if any were published.

    keys uint64 (U,): of all users of the log, for draws.
    """

    past: Past
    sets: ItemSets
    published: Published | None
    models: list[str]
    keys: np.ndarray

    @functools.cached_property
    def _values(self) -> sparse.csr_array:
        """float32 (U, values): 1 where a user bought an item with the value."""
        found = sparse.csr_array(self.past.bought @ self.sets.values)
        found.data[:] = 1
        return found

    @functools.cached_property
    def _shares(self) -> tuple[np.ndarray, np.ndarray]:
        """Buyers of each item and of each value among the eligible."""
        mine = self.past.eligible
        return tuple(np.asarray(found[mine].sum(axis=0)).ravel() for found in (self.past.bought, self._values))

    @functools.cached_property
    def spaces(self) -> dict[str, Nearness]:
        """By model."""
        if self.published is None:
            return {}
        there = self.published.source.vectors
        return {model: Nearness.of(self, model) for model in self.models if model in there}

    @functools.cached_property
    def _profiles(self) -> sparse.csr_array:
        """float32 (U, n), rows of length 1 (or 0): a user's items, rare ones counting more."""
        buyers, _ = self._shares
        rarity = np.log(max(1, len(self.past.eligible)) / np.maximum(1, buyers)) + 1e-3
        weighed = sparse.csr_array(self.past.bought * np.maximum(rarity, 1e-3)[None])
        length = np.sqrt(np.asarray(weighed.multiply(weighed).sum(axis=1)).ravel())
        return sparse.csr_array(sparse.diags_array(1 / np.maximum(length, 1e-9)) @ weighed).astype(np.float32)

    def found(self, seeds: np.ndarray) -> SeedSet:
        """What the list of these users (numbers in the log) stands for."""
        (of_item, of_value), everybody = self._shares, max(1, len(self.past.eligible))
        m, n = len(seeds), self.past.bought.shape[1]
        held, held_values = (np.asarray(one[seeds].sum(axis=0)).ravel() for one in (self.past.bought, self._values))
        share = max(m, 1) / everybody
        lift = np.log(np.maximum((held + LIFT_PRIOR * share) / ((of_item + LIFT_PRIOR) * share), 1e-3))
        told = evidence(held, m, (of_item + 1) / (everybody + 1)) if m else np.zeros(n)
        by_value = evidence(held_values, m, (of_value + 1) / (everybody + 1)) if m else np.zeros(len(held_values))
        best = np.argsort(-by_value, kind="stable")[:MOST_VALUES]
        of_best = np.zeros(len(by_value))
        of_best[best] = by_value[best]
        top = np.argsort(-told, kind="stable")[:MOST_ITEMS]
        of_set = np.zeros(n, bool)
        of_set[top[told[top] > 0]] = True
        if by_value.max(initial=0) > SURE * np.log(max(2, int((of_value > 0).sum()))):
            of_set = (self.sets.values[:, [best[0]]].toarray() > 0).ravel()
        weights = np.stack([lift, np.where(held > 0, lift, 0), told, self.sets.values @ of_best])
        first = best[:1]
        facts = [
            m, of_set.sum(), told.max(initial=0), by_value.max(initial=0), (held_values[first] / max(m, 1)).sum(),
            (of_value[first] / everybody).sum()]  # fmt: skip
        return SeedSet(of_set, weights.astype(np.float32), np.array(facts, np.float32))

    def columns(self, found: SeedSet, seeds: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """float32 (p, F): of the eligible users with these numbers; nobody is near himself."""
        past, users = self.past, self.past.eligible[rows]
        as_client = ItemSets(["seeds"], rows_of([np.flatnonzero(found.of_set)], len(found.of_set)), self.sets.values)
        parts = [columns(past, as_client, 0, rows)]
        nothing = np.zeros(len(found.of_set), bool)
        for behavior in past.behaviors:
            history = past.history(behavior, users, nothing, found.weights)
            decayed = past.at_large[behavior][rows][:, kernel.LEADING + 2 * len(past.spans)]
            by_weight = history[:, -2 * len(BY_ITEM) :]
            parts += [by_weight, by_weight[:, : len(BY_ITEM)] * decayed[:, None]]
        parts.append(self._by_purchases(seeds, users))
        for model in self.models:
            space = self.spaces.get(model)
            nowhere = np.full((len(rows), len(SHARPNESS)), np.nan, np.float32)
            parts.append(nowhere if space is None else space.density(self.drawn(seeds), rows))
        parts.append(np.repeat(found.facts[None], len(rows), axis=0))
        return np.concatenate(parts, axis=1, dtype=np.float32)

    def names(self) -> list[str]:
        """The names of `columns`, in its order."""
        weighed = [f"{how}_{weight}" for how in ("mean", "most", "sum") for weight in BY_ITEM]
        return (
            [*names(self.past), *(f"{behavior}:{name}" for behavior in self.past.behaviors for name in weighed)]
            + ["purchases:near", "purchases:density"]
            + [f"{model}:density_{sharp:.0f}" for model in self.models for sharp in SHARPNESS]
            + [f"list:{name}" for name in BY_LIST])

    def drawn(self, seeds: np.ndarray) -> np.ndarray:
        """At most MOST_SEEDS of them."""
        order = order_of(self.keys[seeds], "seeds whose distances are taken")
        return seeds[np.argsort(order, kind="stable")[:MOST_SEEDS]]

    def _by_purchases(self, seeds: np.ndarray, users: np.ndarray) -> np.ndarray:
        """float32 (p, 2): mean cosine of a user's purchases with those of other seeds, and the log of it ÷ that with
        those of all other users."""
        mine, everybody = self._profiles[users], self.past.eligible
        himself = np.asarray(mine.multiply(mine).sum(axis=1)).ravel()

        def mean(others: np.ndarray) -> np.ndarray:
            among = np.isin(users, others)
            total = mine @ np.asarray(self._profiles[others].sum(axis=0)).ravel() - himself * among
            left = len(others) - among
            return np.divide(total, left, out=np.full(len(users), np.nan), where=left > 0)

        near, at_large = mean(seeds), mean(everybody)
        return np.stack([near, np.log((near + 1e-4) / (at_large + 1e-4))], axis=1).astype(np.float32)


@dataclass(frozen=True)
class Nearness:
    """One model's space. vectors float32 (U, d): native ones of the log's users, NaN where there is none; eligible:
    numbers of the users asked for; at_large: of those who stand for all."""

    vectors: np.ndarray
    comparer: Comparer
    eligible: np.ndarray
    at_large: np.ndarray

    @classmethod
    def of(cls, lists: SeedLists, model: str) -> Nearness:
        published, past = lists.published, lists.past
        space = published.source.vectors[model]
        vectors = space.native_users_of(published.ledger_ids)
        there = past.eligible[~np.isnan(vectors[past.eligible, 0])]
        order = order_of(lists.keys[there], "users at large")
        return cls(vectors, space.comparer, past.eligible, there[np.argsort(order)[:AT_LARGE]])

    @functools.cached_property
    def _points(self) -> np.ndarray:
        return self.comparer.user_points(self.vectors)

    @functools.cached_property
    def _known(self) -> np.ndarray:
        """float64 (u, 2 + len(SHARPNESS)): mean and spread of a user's distances to users at large, and the density of
        those by sharpness; infinite where it was not asked for yet."""
        return np.full((len(self.eligible), 2 + len(SHARPNESS)), np.inf)

    def _scale(self, rows: np.ndarray) -> np.ndarray:
        new = rows[np.isinf(self._known[rows, 0])]
        if len(new):
            given = self._between(self.eligible[new], self.at_large)
            scale = self.comparer.of_users.moments(*given)
            scale[:, 1] += 1e-6
            self._known[new] = np.concatenate([scale, self._densities(given, scale)], axis=1)
        return self._known[rows]

    def density(self, seeds: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """float32 (p, len(SHARPNESS)): log of the density of seeds near the user ÷ that of all users, neither holding
        the user himself; NaN without a vector, or without other seeds that have one."""
        seeds = seeds[~np.isnan(self.vectors[seeds, 0])]
        out = np.full((len(rows), len(SHARPNESS)), np.nan, np.float32)
        users = self.eligible[rows]
        there = np.flatnonzero(~np.isnan(self.vectors[users, 0]))
        if len(seeds) and len(there):
            scale = self._scale(rows[there])
            out[there] = self._densities(self._between(users[there], seeds), scale[:, :2]) - scale[:, 2:]
        return out

    def _between(self, users: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self._points[users], self._points[others], positions(others, users)

    def _densities(self, given: tuple[np.ndarray, np.ndarray, np.ndarray], scale: np.ndarray) -> np.ndarray:
        """float64 (p, len(SHARPNESS))."""
        return self.comparer.of_users.densities(*given, scale, SHARPNESS, FARTHEST)
