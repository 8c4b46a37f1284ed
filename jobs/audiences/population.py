"""Who is eligible, who bought, and the draws that decide who trains: all from days strictly before a date.

Every random number is a hash of (seed, purpose, client, raw user id): the same for all feature sets, and
untouched by who else there is.
"""

from __future__ import annotations

import datetime
import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from jobs.events.returns import as_of
from jobs.program import Input

# 6 (training) : 4 (validation) is that of the paper on Knowledge Query-based Graph Convolution, section 4.2.
TRAIN_SHARE, EARLY_STOPPING_SHARE = 0.6, 0.1
NOBODYS_SHARE = 0.1  # of all users, within the 4: not even the pooled trees learn from them
JUDGED = 3  # others to a positive where a ranking is judged, whatever training takes: figures called 1to3
SPLIT = "split"  # the draw that decides both, the same for all clients


def days_between(clean_events: Input, first: datetime.date, end: datetime.date) -> list[str]:
    """Committed days in [first, end): the day `end` is not among them."""
    return [day for day in clean_events.table().values() if first.isoformat() <= day < end.isoformat()]


def active_users(clean_events: Input, date: datetime.date, active_days: int) -> pa.Array:
    """Raw ids of users with any event in the `active_days` before `date`, sorted by their bytes: the eligible. What
    comes from `date` on takes none of them back."""
    table, seen = as_of(clean_events, date).table(), pa.array([], pa.large_string())
    for day in days_between(clean_events, date - datetime.timedelta(days=active_days), date):
        column = table.read(day, columns=["user_id"]).column("user_id").cast(pa.large_string())
        seen = pc.unique(pa.chunked_array([seen, *column.chunks], pa.large_string()))
    return seen.take(pc.sort_indices(seen))


@dataclass(frozen=True)
class Purchases:
    """Purchases of a label window: raw ids, one row per purchase."""

    user_id: pa.ChunkedArray
    item_id: pa.ChunkedArray

    def buyers(self, item_raw: pa.Array) -> pa.Array:
        """Raw ids of the users who bought one of the items."""
        bought = pc.is_in(self.item_id, value_set=item_raw)
        return pc.unique(self.user_id.filter(bought))


def purchases_between(clean_events: Input, first: datetime.date, end: datetime.date, purchase: str) -> Purchases:
    """The purchases with an event time in [first, end), less those that were taken back until then."""
    table = as_of(clean_events, end).table()
    columns = ["user_id", "item_id", "behavior"]
    days, bought = days_between(clean_events, first, end), pc.field("behavior") == purchase
    parts = [table.read(day, columns=columns, filter=bought) for day in days]
    rows = pa.concat_tables(parts) if parts else pa.table({c: pa.array([], pa.large_string()) for c in columns})
    return Purchases(rows.column("user_id").cast(pa.large_string()), rows.column("item_id").cast(pa.large_string()))


def uniform(seed: int, purpose: str, client: str, raw: pa.Array) -> np.ndarray:
    """float64 (n,) in [0, 1): a keyed hash (SipHash) of each raw id."""
    key = hashlib.sha256(f"{seed}\0{purpose}\0{client}".encode()).hexdigest()[:16]
    hashed = pd.util.hash_array(raw.to_numpy(zero_copy_only=False).astype(object), hash_key=key, categorize=False)
    return (hashed >> np.uint64(11)) * (1.0 / (1 << 53))


@dataclass(frozen=True)
class Sample:
    """One client's split of the eligible users (n).

    labels: bought in the window. training: the positives of the 6 and their negatives; held_out: a tenth of those, for
    early stopping; validation: all of the 4, unsampled; validation_sampled: its part at 1:3.
    """

    labels: np.ndarray
    training: np.ndarray
    held_out: np.ndarray
    validation: np.ndarray
    validation_sampled: np.ndarray

    @property
    def positives(self) -> int:
        """Buyers who count: those in training and in validation."""
        return int((self.labels & (self.training | self.validation)).sum())


def draw_sample(
    eligible: pa.Array, labels: np.ndarray, allowed: np.ndarray, negatives_per_positive: int, seed: int, client: str
) -> Sample:
    """Split the eligible 6:4 and draw negatives in either part, in training so many. `allowed`: False for users left
    out of training and scoring."""
    in_training = uniform(seed, SPLIT, "", eligible) < TRAIN_SHARE
    order = uniform(seed, "negative", client, eligible)
    training = sampled_with(negatives_per_positive, labels, in_training & allowed, order)
    validation = ~in_training & allowed
    held_out = held_out_of(labels, training, uniform(seed, "early stopping", client, eligible))
    return Sample(labels, training, held_out, validation, one_to(JUDGED, labels, validation, order))


def never_trained_on(raw: pa.Array, seed: int) -> np.ndarray:
    """bool per user: one of those whom no trees of any night and client learn from. It hangs on the id, not on what the
    user did: of these, buyers and others are as they come."""
    return uniform(seed, SPLIT, "", raw) >= 1 - NOBODYS_SHARE


def held_out_of(labels: np.ndarray, training: np.ndarray, order: np.ndarray) -> np.ndarray:
    """bool: a tenth of the training users for early stopping, of either class those that come first in the
    order: at least one of each."""
    held_out = np.zeros(len(labels), bool)
    for among in (labels & training, ~labels & training):
        held_out |= _first_rows(among, order, max(1, round(EARLY_STOPPING_SHARE * int(among.sum()))))
    return held_out


def sampled_with(ratio: int, labels: np.ndarray, part: np.ndarray, order: np.ndarray) -> np.ndarray:
    """bool: the positives of the part, and `ratio` times as many negatives, those that come first in the order; all
    of them where there are fewer."""
    return (labels & part) | _first_rows(~labels & part, order, ratio * int((labels & part).sum()))


def one_to(ratio: int, labels: np.ndarray, part: np.ndarray, order: np.ndarray) -> np.ndarray:
    """bool: users of the part at exactly 1:ratio, those that come first in the order; so common a positive that
    negatives run short is thinned out instead."""
    positives, negatives = int((labels & part).sum()), int((~labels & part).sum())
    kept = min(positives, max(1, negatives // ratio))
    return _first_rows(labels & part, order, kept) | _first_rows(~labels & part, order, ratio * kept)


def _first_rows(among: np.ndarray, order: np.ndarray, n: int) -> np.ndarray:
    """bool: the n users `among` who come first in the order."""
    rows = np.flatnonzero(among)
    chosen = np.zeros(len(among), bool)
    chosen[rows[np.argsort(order[rows], kind="stable")[:n]]] = True
    return chosen
