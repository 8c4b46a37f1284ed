"""What a user did relative to a set of items, as of a day: the columns of the pooled classifier.

One model reads the rows of all sets, so a column means the same for each of them: days, ages in days and shares, never
the absolute scale of a set. All of it is counted from the events before the day, none from then on.
Shapes: p users asked for, u eligible users, n items, F columns.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy import sparse

from jobs.audiences.event_log import EPOCH, Behavior, EventLog
from jobs.audiences.item_sets import ItemSets
from models.kernels import set_history as kernel

SPANS = (7, 14, 30, 45, 90, 180)  # days; those shorter than the window
HALF_LIVES = (45.0, 15.0, 120.0)  # days; the first weighs the means over other items
OF_SET = ("share_of_items", "buyers", "buyers_lately", "buyers_per_item", "trend", "buying_again")
AT_LARGE = "at_large_"  # before the names of what the user did with all items
MOST_ASKED = 50_000  # users who tell what is bought together, and how often of a set: all, up to so many
MOST_SHARE = 1e6  # either way: trees take no infinite figure
LIFT_PRIOR = 20.0  # buyers of an item by whom its lift is drawn to 1
WEIGHTINGS = ("kin", "lift")  # what an item outside the set says of it


@dataclass(frozen=True)
class Past:
    """The events before a day, and whom to tell about: eligible (u,) numbers of users in the log, ascending."""

    log: EventLog
    today: int
    window_days: int
    lately_days: int
    purchase: str
    eligible: np.ndarray

    @property
    def raw(self) -> pa.Array:
        """The eligible users' raw ids, by their bytes."""
        return self.log.users.take(pa.array(self.eligible))

    @property
    def date(self) -> datetime.date:
        """The day that `today` is the number of."""
        return EPOCH + datetime.timedelta(days=self.today)

    @property
    def first(self) -> int:
        return self.today - self.window_days

    @property
    def behaviors(self) -> list[str]:
        """The purchases first, then all others by name."""
        rest = sorted(set(self.log.behaviors) - {self.purchase})
        return [self.purchase, *rest] if self.purchase in self.log.behaviors else rest

    @property
    def spans(self) -> np.ndarray:
        return np.array([days for days in SPANS if days < self.window_days], np.int32)

    @functools.cached_property
    def known(self) -> np.ndarray:
        """bool (n,): items with an event in the window; which items come up later says nothing as of the day."""
        there = np.zeros(len(self.log.items), bool)
        for behavior in self.log.behaviors.values():
            there[behavior.item[behavior.within(self.first, self.today)]] = True
        return there

    @functools.cached_property
    def at_large(self) -> dict[str, np.ndarray]:
        """float32 (u, width) per behaviour: the eligible users' history with all items."""
        everything = np.ones(len(self.log.items), bool)
        return {name: self.history(name, self.eligible, everything) for name in self.behaviors}

    @functools.cached_property
    def of_user(self) -> np.ndarray:
        """float32 (u, columns): a user's activity and money at large."""
        return np.concatenate([_user_columns(found, len(self.spans)) for found in self.at_large.values()], axis=1)

    @functools.cached_property
    def bought(self) -> sparse.csr_array:
        """float32 (users of the log, n): 1 for a purchase within the window."""
        if self.purchase not in self.log.behaviors:
            return sparse.csr_array((len(self.log.users), len(self.log.items)), dtype=np.float32)
        return pairs_of(self.log, self.log.behaviors[self.purchase], self.first, self.today)

    def never_bought(self, of_set: np.ndarray) -> np.ndarray:
        """bool (u,): eligible users without a purchase of the set in the window."""
        return self.bought[self.eligible] @ of_set.astype(np.float32) == 0

    @functools.cached_property
    def lesson_of_lift(self) -> tuple[sparse.csr_array, sparse.csr_array, np.ndarray]:
        """(purchases of the users who tell what is bought together, transposed, buyers of each item among them)."""
        there = np.flatnonzero(np.diff(self.bought.indptr))
        some = self.bought[there[:: max(1, -(-len(there) // MOST_ASKED))]]
        return some, sparse.csr_array(some.T), np.asarray(some.sum(axis=0)).ravel()

    def lift(self, of_set: np.ndarray) -> np.ndarray:
        """float32 (n,): log of how much likelier an item's buyers buy of the set than all buyers do, drawn to 0 where
        the item has few; 0 where nobody bought of the set."""
        some, transposed, buyers = self.lesson_of_lift
        of_the_set = (some @ of_set.astype(np.float32) > 0).astype(np.float32)
        if not of_the_set.any():
            return np.zeros(len(of_set), np.float32)
        share = of_the_set.mean()
        together = transposed @ of_the_set
        ratio = (together + LIFT_PRIOR * share) / ((buyers + LIFT_PRIOR) * share)
        return np.log(np.maximum(ratio, 1e-3)).astype(np.float32)

    def history(
        self, behavior: str, users: np.ndarray, of_set: np.ndarray, weights: np.ndarray | None = None
    ) -> np.ndarray:
        """float32 (p, width), as models/kernels/set_history.py has it."""
        rows: Behavior = self.log.behaviors[behavior]
        weights = np.zeros((0, len(of_set)), np.float32) if weights is None else weights
        lives, spans = np.array(HALF_LIVES, np.float32), self.spans
        out = np.empty((len(users), kernel.width(len(spans), len(lives), len(weights))), np.float32)
        events = rows.start, rows.item, rows.day, rows.count, rows.money, rows.previous
        kernel.set_history(users, *events, of_set, weights, self.first, self.today, spans, lives, out)
        return out


def pairs_of(log: EventLog, behavior: Behavior, first: int, end: int) -> sparse.csr_array:
    """float32 (users, items of the log): 1 where the user did it with the item on a day first <= day < end."""
    chosen = behavior.within(first, end)
    shape = len(log.users), len(log.items)
    ones = np.ones(int(chosen.sum()), np.float32)
    found = sparse.csr_array((ones, (behavior.user[chosen], behavior.item[chosen])), shape=shape)
    found.sum_duplicates()
    found.data[:] = 1
    return found


@dataclass(frozen=True)
class SetColumns:
    """The columns of one set, for whichever users: what hangs on the set alone is counted once. of_set bool (n,),
    weights float32 (2, n) as WEIGHTINGS, facts float32 (6,)."""

    past: Past
    of_set: np.ndarray
    weights: np.ndarray
    facts: np.ndarray

    @classmethod
    def of(cls, past: Past, sets: ItemSets, place: int) -> SetColumns:
        of_set = sets.mask(place)
        weights = np.stack([sets.kin(place, past.known), past.lift(of_set)])
        return cls(past, of_set, weights, _of_set(past, of_set))

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """float32 (p, F): for the eligible users of these row numbers."""
        past, users, parts = self.past, self.past.eligible[rows], []
        for name in past.behaviors:
            mine = past.history(name, users, self.of_set, self.weights)
            parts.append(_relative(mine, past.at_large[name][rows], len(past.spans)))
        parts += [past.of_user[rows], np.repeat(self.facts[None], len(rows), axis=0)]
        return np.concatenate(parts, axis=1)


def columns(past: Past, sets: ItemSets, place: int, rows: np.ndarray) -> np.ndarray:
    """float32 (p, F): the columns of one set, for the eligible users of these row numbers."""
    return SetColumns.of(past, sets, place)(rows)


def names(past: Past) -> list[str]:
    """The names of `columns`, in its order: subject:leaf. A behaviour may be called anything, also `set`, or like a
    model; leaves of different kinds differ and hold no colon, so that the leaf alone tells which kind a column is of.
    """
    spans = [f"last_{days}_days" for days in past.spans]
    lives = [f"half_life_{days:.0f}" for days in HALF_LIVES]
    mine = [
        "events", "days", "items", "age", "since", *(f"events_{s}" for s in spans), *(f"days_{s}" for s in spans),
        *(f"decayed_{life}" for life in lives), "gap", "overdue", "share_of_days", "share_of_events", "share_of_money",
        *(f"share_{life}" for life in lives), *(f"mean_{w}" for w in WEIGHTINGS), *(f"most_{w}" for w in WEIGHTINGS)]
    user = ["days", "items", "age", "since", *(f"days_{s}" for s in spans), "gap", "overdue", "money_rank"]
    return (
        [f"{b}:{name}" for b in past.behaviors for name in mine]
        + [f"{b}:{AT_LARGE}{name}" for b in past.behaviors for name in user]
        + [f"set:{name}" for name in OF_SET])


def behaviors_of(columns: Iterable[str]) -> list[str]:
    """The behaviours that columns of these names tell of."""
    return [subject for subject, _, leaf in (name.rpartition(":") for name in columns) if leaf == "events"]


def _relative(mine: np.ndarray, all_of_user: np.ndarray, spans: int) -> np.ndarray:
    """A behaviour's history with the set, and its shares in what the user did at large."""
    decay_at, weights_at = kernel.LEADING + 2 * spans, kernel.LEADING + 2 * spans + len(HALF_LIVES)
    decayed = slice(decay_at, weights_at)
    leading = [kernel.EVENTS, kernel.DAYS, kernel.ITEMS, kernel.FIRST, kernel.LAST]
    return np.concatenate([
        mine[:, leading], mine[:, kernel.LEADING : weights_at], _gap_and_overdue(mine),
        _share(mine, all_of_user, [kernel.DAYS, kernel.EVENTS, kernel.MONEY]),
        _share(mine, all_of_user, decayed), mine[:, weights_at:]], axis=1)


def _share(mine: np.ndarray, whole: np.ndarray, which: list[int] | slice) -> np.ndarray:
    """0 where the user did nothing at all. Money given back can leave a whole of next to nothing."""
    part, of = mine[:, which], whole[:, which]
    with np.errstate(over="ignore", invalid="ignore"):
        share = np.divide(part, of, out=np.zeros_like(part), where=of > 0)
    return np.clip(share, -MOST_SHARE, MOST_SHARE)


def _gap_and_overdue(found: np.ndarray) -> np.ndarray:
    """(p, 2): mean days between two days with an event, and days since the last in units of it; NaN under two days."""
    first, last, days = (found[:, place] for place in (kernel.FIRST, kernel.LAST, kernel.DAYS))
    gap = np.divide(first - last, days - 1, out=np.full_like(first, np.nan), where=days > 1)
    return np.stack([gap, last / np.maximum(gap, 1)], axis=1)


def _user_columns(found: np.ndarray, spans: int) -> np.ndarray:
    """As `names` lists a user's."""
    days_at = kernel.LEADING + spans
    leading = [kernel.DAYS, kernel.ITEMS, kernel.FIRST, kernel.LAST]
    return np.concatenate(
        [found[:, leading], found[:, days_at : days_at + spans], _gap_and_overdue(found),
         _rank(found[:, kernel.MONEY])[:, None]], axis=1)


def _rank(values: np.ndarray) -> np.ndarray:
    """float32 in [0, 1]: the share of users below, equal ones alike."""
    _, place, equal = np.unique(values, return_inverse=True, return_counts=True)
    return ((np.cumsum(equal) - equal / 2)[place] / max(1, len(values))).astype(np.float32)


def _of_set(past: Past, of_set: np.ndarray) -> np.ndarray:
    """float32 (6,): the set's size, and what buyers it has; by a part of the eligible where there are many."""
    items = int((of_set & past.known).sum())
    share_of_items = items / max(1, int(past.known.sum()))
    if past.purchase not in past.log.behaviors or not len(past.eligible):
        return np.array([share_of_items, 0, 0, 0, np.nan, np.nan], np.float32)
    some = past.eligible[:: max(1, -(-len(past.eligible) // MOST_ASKED))]
    found = past.history(past.purchase, some, of_set)
    bought = found[:, kernel.DAYS] > 0
    buyers, lately = bought.mean(), (found[:, kernel.LAST] <= past.lately_days).mean()
    expected = buyers * past.lately_days / past.window_days
    again = (found[bought, kernel.DAYS] > 1).mean() if buyers else np.nan
    trend = lately / expected if buyers else np.nan
    per_item = buyers / max(1, items)
    return np.array([share_of_items, buyers, lately, per_item, trend, again], np.float32)
