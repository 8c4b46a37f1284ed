"""Who can be recommended what: the users and items with a vector, and pairs of them by place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from jobs.arrays import keys_of
from jobs.audiences.snapshot import Ledger, positions
from jobs.audiences.vectors import Vectors
from jobs.graphs.ledgers import ITEM, USER


@dataclass(frozen=True)
class Catalogue:
    """Raw ids and ledger ids of users (n,) and items (m,) with a vector; allowed: bool (m,)."""

    users: pa.Array
    items: pa.Array
    user_ids: np.ndarray
    item_ids: np.ndarray
    allowed: np.ndarray

    @classmethod
    def of(cls, vectors: Vectors, allowed: np.ndarray, users: Ledger, items: Ledger) -> Catalogue:
        raw = users.raw_of(vectors.user_ids), items.raw_of(vectors.item_ids)
        return cls(*raw, vectors.user_ids, vectors.item_ids, allowed)

    def keys(self) -> tuple[np.ndarray, np.ndarray]:
        """uint64 (n,), (m,), of who they are."""
        return tuple(
            keys_of(np.zeros(len(raw), np.int64), [kind], raw.to_numpy(zero_copy_only=False))
            for kind, raw in ((USER, self.users), (ITEM, self.items)))

    def pairs(self, users: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places of pairs given by ledger id, each once, without those that lack a vector."""
        found = np.stack([positions(self.user_ids, users), positions(self.item_ids, items)])
        return tuple(np.unique(found[:, (found >= 0).all(axis=0)], axis=1))
