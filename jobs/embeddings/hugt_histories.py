"""A night's histories for HUGT: who they are of, which items stand in them, and where both are in the night's graph.

Users and items are in the order of their raw ids' bytes, whatever the ledgers say.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.arrays import Checkpoint, Night, keys_of, raw_of
from jobs.graphs.ledgers import ITEM, USER
from jobs.program import Input
from models.hugt_graph import Histories
from models.places import positions

VOCABULARY = "vocabulary"  # of a checkpoint: the ledger ids of the items, in the order of the table of their vectors


@dataclass(frozen=True)
class NightHistories:
    """users (U,), items (I,): ledger ids; user_keys uint64 (U,): of who they are; histories: into `items`; times int64
    (N,): of their events, in seconds."""

    users: np.ndarray
    items: np.ndarray
    user_keys: np.ndarray
    histories: Histories
    times: np.ndarray

    @classmethod
    def of(cls, sequences: pa.Table, entity_ids: Input) -> NightHistories:
        """sequences: rows of the table, in any order. JobError where a ledger does not know an id."""
        user, position, item = (sequences.column(name).to_numpy() for name in ("user", "position", "item"))
        (users, raw), (items, _) = (_by_raw(column, entity_ids, kind) for column, kind in ((user, USER), (item, ITEM)))
        row = positions(users, user)
        order = np.lexsort((position, row))
        keys = keys_of(np.zeros(len(users), np.int64), [USER], raw.to_numpy(zero_copy_only=False))
        times = pc.cast(sequences.column("event_time"), pa.timestamp("s", "UTC"), safe=False).cast(pa.int64())
        histories = Histories.of(row[order], positions(items, item)[order], len(users))
        return cls(users, items, keys, histories, times.to_numpy()[order])

    def rows_of(self, night: Night) -> tuple[np.ndarray, np.ndarray]:
        """Where the night's users and items stand here, -1 where they have no history, or stand in none."""
        return tuple(positions(ids, night.entity_id[night.of_type(kind)])
                     for ids, kind in ((self.users, USER), (self.items, ITEM)))

    def places_in(self, former: Checkpoint) -> np.ndarray:
        """int64 (I,): where each item stood in a former table of vectors, -1 for new ones. KeyError where the
        checkpoint does not say."""
        return positions(former.extra[VOCABULARY], self.items)


def _by_raw(ids: np.ndarray, entity_ids: Input, kind: str) -> tuple[np.ndarray, pa.ChunkedArray]:
    """(the ids, each once, their raw ids), in the order of the raw ids' bytes."""
    known = np.unique(ids)
    raw = raw_of(entity_ids.segments(kind), known, kind)
    order = pc.sort_indices(raw)
    return known[order.to_numpy()], raw.take(order)
