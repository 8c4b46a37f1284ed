"""Who can be recommended what: the users and items with a vector, and pairs of them by place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from jobs.arrays import keys_of
from jobs.audiences.snapshot import Ledger, Snapshot
from jobs.audiences.vectors import Vectors
from jobs.configuration.predicates import parse
from jobs.configuration.recommendations import Recommendations
from jobs.configuration.sections import Graph
from jobs.graphs.ledgers import ITEM, USER
from models.places import positions


@dataclass(frozen=True)
class Ledgers:
    """The ids of users and items."""

    users: Ledger
    items: Ledger


@dataclass(frozen=True)
class Catalogue:
    """Raw ids and ledger ids of users (n,) and items (m,) with a vector; allowed: bool (m,).

    kinds: the entity types of both: of an attribute's relation, those at its ends take the places of users and items.
    """

    users: pa.Array
    items: pa.Array
    user_ids: np.ndarray
    item_ids: np.ndarray
    allowed: np.ndarray
    kinds: tuple[str, str] = (USER, ITEM)

    @classmethod
    def of(
        cls, vectors: Vectors, snapshot: Snapshot, ledgers: Ledgers, section: Recommendations, graph: Graph
    ) -> Catalogue:
        """vectors, snapshot: of the same date, whose attributes say what `recommendations.items` allows."""
        raw = ledgers.users.raw_of(vectors.user_ids), ledgers.items.raw_of(vectors.item_ids)
        allowed = np.ones(len(vectors.item_ids), bool)
        if section.items:
            wanted = parse(section.items, "recommendations.items", graph.item_attributes)
            allowed = np.isin(vectors.item_ids, snapshot.items[snapshot.matching(wanted)])
        return cls(*raw, vectors.user_ids, vectors.item_ids, allowed)

    def keys(self) -> tuple[np.ndarray, np.ndarray]:
        """uint64 (n,), (m,), of who they are."""
        return tuple(
            keys_of(np.zeros(len(raw), np.int64), [kind], raw.to_numpy(zero_copy_only=False))
            for kind, raw in zip(self.kinds, (self.users, self.items), strict=True))

    def pairs(self, users: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places of pairs given by ledger id, each once, without those that lack a vector."""
        found = np.stack([positions(self.user_ids, users), positions(self.item_ids, items)])
        return tuple(np.unique(found[:, (found >= 0).all(axis=0)], axis=1))
