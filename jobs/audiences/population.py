"""Who is eligible, who bought, and the draws that decide who trains: all from days strictly before a date.

Every random number is a hash of (seed, purpose, client, raw user id): the same for all feature sets, and untouched by who else
there is.
"""

from __future__ import annotations

import datetime
import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from jobs.program import Input

TRAIN_SHARE, EARLY_STOPPING_SHARE = 0.6, 0.1  # KQGC paper, section 4.2: 6 (training) : 4 (validation)


def days_between(clean_events: Input, first: datetime.date, end: datetime.date) -> list[str]:
    """Committed days in [first, end): the day `end` is not among them."""
    return [day for day in clean_events.table().values() if first.isoformat() <= day < end.isoformat()]


def active_users(clean_events: Input, date: datetime.date, active_days: int) -> pa.Array:
    """Raw ids of users with any event in the `active_days` before `date`, sorted by their bytes: the eligible."""
    table, seen = clean_events.table(), pa.array([], pa.large_string())
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
    """The purchases with an event time in [first, end)."""
    table = clean_events.table()
    columns = ["user_id", "item_id", "behavior"]
    parts = [table.read(day, columns=columns, filter=pc.field("behavior") == purchase) for day in days_between(clean_events, first, end)]
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

    labels: bought in the window. training: the positives of the 6 and their negatives; held_out: a tenth of those, for early stopping;
    validation: all of the 4, unsampled; validation_sampled: its positives and their negatives.
    """

    labels: np.ndarray
    training: np.ndarray
    held_out: np.ndarray
    validation: np.ndarray
    validation_sampled: np.ndarray


def draw_sample(eligible: pa.Array, labels: np.ndarray, allowed: np.ndarray, negatives_per_positive: int, seed: int, client: str) -> Sample:
    """Split the eligible 6:4 and draw negatives in either part. `allowed`: False for users left out of training and scoring."""
    in_training = uniform(seed, "split", client, eligible) < TRAIN_SHARE
    order = uniform(seed, "negative", client, eligible)
    parts = [_sampled(labels, part & allowed, order, negatives_per_positive) for part in (in_training, ~in_training)]
    early = uniform(seed, "early stopping", client, eligible)
    held_out = _first(labels & parts[0], early, EARLY_STOPPING_SHARE) | _first(~labels & parts[0], early, EARLY_STOPPING_SHARE)
    return Sample(labels, parts[0], held_out, ~in_training & allowed, parts[1])


def _first(among: np.ndarray, order: np.ndarray, share: float) -> np.ndarray:
    """bool: that share of the users `among`, and at least one, who come first in the order."""
    rows = np.flatnonzero(among)
    chosen = np.zeros(len(among), bool)
    chosen[rows[np.argsort(order[rows], kind="stable")[: max(1, round(share * len(rows)))]]] = True
    return chosen


def _sampled(labels: np.ndarray, part: np.ndarray, order: np.ndarray, negatives_per_positive: int) -> np.ndarray:
    """The positives of the part, and the negatives that come first in the order."""
    positives, negatives = np.flatnonzero(labels & part), np.flatnonzero(~labels & part)
    wanted = min(negatives_per_positive * len(positives), len(negatives))
    chosen = np.zeros(len(labels), bool)
    chosen[positives] = True
    chosen[negatives[np.argsort(order[negatives], kind="stable")[:wanted]]] = True
    return chosen
