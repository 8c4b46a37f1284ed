"""Whom the pooled classifier learns from: (user, item set, label window).

A label window begins at S and lasts L days; its columns are as of S. Of each set at most MOST_BUYERS of the eligible
users who bought of it in the window, and RATIO others for each of them, all drawn by a hash of user and set. In which
fold a user is, is a hash of the id alone: the same in every window and for every set, so that a user's rows are never
on both sides of a split. The users of one fold tell the booster of that fold when to stop; NOBODYS are in none.
Shapes: U users of the log, u eligible ones, s sets, r rows.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy import sparse

from jobs.audiences.event_log import EventLog
from jobs.audiences.item_sets import ItemSets
from jobs.audiences.population import never_trained_on, uniform
from jobs.audiences.set_columns import Past, pairs_of

LEAST_BUYERS, MOST_SHARE = 30, 0.6  # of the eligible, for a set to learn from
MOST_BUYERS, RATIO = 150, 3
NOBODYS = -1  # fold of the users on whom no trees learn


@dataclass(frozen=True)
class Window:
    """One label window: what was known at its start, which eligible users bought of which set in it: csr (u, s);
    how many others did, int (s,); and of which sets an item was known at its start, bool (s,)."""

    past: Past
    bought: sparse.csr_array
    not_eligible: np.ndarray
    known: np.ndarray

    @property
    def buyers(self) -> np.ndarray:
        """int (s,)."""
        return np.asarray(self.bought.sum(axis=0)).ravel().astype(np.int64)

    def labels(self, place: int) -> np.ndarray:
        """bool (u,): bought of the set."""
        return self._by_set[:, [place]].toarray().ravel() > 0

    @functools.cached_property
    def _by_set(self) -> sparse.csc_array:
        return sparse.csc_array(self.bought)

    def usable(self) -> np.ndarray:
        """bool (s,): sets known at the start, with buyers enough, and others enough."""
        n = max(1, len(self.past.eligible))
        return self.known & (self.buyers >= LEAST_BUYERS) & (self.buyers <= MOST_SHARE * n)


def window_of(past: Past, sets: ItemSets, days: int) -> Window:
    """The window that begins on the past's last day."""
    log, purchase = past.log, past.purchase
    known = sets.members.astype(np.int64) @ past.known > 0
    if purchase not in log.behaviors:
        nobody = sparse.csr_array((len(past.eligible), len(sets)), dtype=np.float32)
        return Window(past, nobody, np.zeros(len(sets), np.int64), known)
    pairs = pairs_of(log, log.behaviors[purchase], past.today, past.today + days)
    bought = sparse.csr_array(pairs @ sets.members.T.astype(np.float32))
    bought.data = (bought.data > 0).astype(np.float32)
    mine = sparse.csr_array(bought[past.eligible])
    others = np.asarray(bought.sum(axis=0) - mine.sum(axis=0)).ravel().astype(np.int64)
    return Window(past, mine, others, known)


def folds(log: EventLog, number: int, seed: int) -> np.ndarray:
    """int64 (U,): 0 to number − 1, or NOBODYS."""
    fold = np.floor(uniform(seed, "fold", "", log.users) * number).astype(np.int64)
    return np.where(never_trained_on(log.users, seed), NOBODYS, fold)


def keys_of(users: pa.Array, seed: int) -> np.ndarray:
    """uint64 (U,): a hash of each id, to be mixed with a set's."""
    return (uniform(seed, "rows", "", users) * (1 << 53)).astype(np.uint64)


def order_of(keys: np.ndarray, purpose: str) -> np.ndarray:
    """float64 in [0, 1): the users' places in a draw of their own for each purpose (splitmix64; Steele et al. 2014)."""
    salt = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")
    mixed = keys ^ np.uint64(salt)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)) * (1.0 / (1 << 53))


def draw(labels: np.ndarray, allowed: np.ndarray, order: np.ndarray, most: int) -> np.ndarray:
    """Row numbers, ascending, of at most so many buyers and RATIO others for each; labels, allowed, order (u,).

    Where others run short buyers are thinned out: the odds of the draw must not differ from set to set, since one model
    learns from all of them.
    """
    buyers, others = np.flatnonzero(labels & allowed), np.flatnonzero(~labels & allowed)
    kept, rest = (part[np.argsort(order[part], kind="stable")] for part in (buyers, others))
    n = min(most, len(buyers), max(1, len(others) // RATIO))
    return np.sort(np.concatenate([kept[:n], rest[: RATIO * n]]))


def odds_of_draw(labels: np.ndarray, allowed: np.ndarray) -> float:
    """Log of by how much the odds of a draw of RATIO others to one buyer are above those of the population."""
    buyers, others = (int((one & allowed).sum()) for one in (labels, ~labels))
    return float(np.log((others + 0.5) / (RATIO * (buyers + 0.5))))
