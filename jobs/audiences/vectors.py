"""One model's vectors of one date, joined to ledger ids: users from the feature store, items and
relations from entity_embeddings."""

from __future__ import annotations

import datetime
import functools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store import FeatureStore
from feature_store.errors import SpaceMismatch
from feature_store.layout import rerun_command
from jobs.arrays import finite_matrix
from jobs.audiences.snapshot import Ledger
from jobs.embeddings.space import of_one_publish
from jobs.program import Input, JobError
from models.places import positions
from models.vectors.comparison import Comparer

_TURNED_ROWS = 65_536  # held in float64 at a time


class RelationMissing(JobError):
    """A relation that no edge of the date's graph has, and so no vector of the model."""

    def __init__(self, message: str, model: str) -> None:
        super().__init__(message)
        self.model = model


@dataclass(frozen=True)
class Vectors:
    """Published vectors of users and items, by ledger id; native = published @ rotation.T.

    users (n, d) float32 with user_ids (n,); items (m, d) with item_ids (m,); purchase (d,), None where the family's
    comparison takes no relation.
    """

    model: str
    space_id: str
    norm: str
    rotation: np.ndarray
    user_ids: np.ndarray
    users: np.ndarray
    item_ids: np.ndarray
    items: np.ndarray
    purchase: np.ndarray | None
    compared: str | None = None  # what the manifest says, of a family that leaves it to a setting

    @property
    def dimension(self) -> int:
        return self.users.shape[1]

    @property
    def comparer(self) -> Comparer:
        """How distances between them are taken, natively."""
        return Comparer.of(self.model, self.norm, self.compared)

    def users_of(self, ids: np.ndarray) -> np.ndarray:
        """float32 (len(ids), d), published; NaN rows where a user has no vector."""
        return _rows(self.user_ids, self.users, ids)

    def items_of(self, ids: np.ndarray) -> np.ndarray:
        """As `users_of`, for items."""
        return _rows(self.item_ids, self.items, ids)

    def known(self) -> Vectors:
        """Without published users whom the ledger does not know: they have no graph either."""
        there = self.user_ids >= 0
        if there.all():  # no copy
            return self
        return replace(self, user_ids=self.user_ids[there], users=self.users[there])

    def native(self, published: np.ndarray) -> np.ndarray:
        """Undoes R: float64, same shape."""
        return published.astype(np.float64) @ self.rotation.T

    def native_users_of(self, ids: np.ndarray) -> np.ndarray:
        """As `users_of`, with R undone."""
        return _rows(self.user_ids, self._native_users, ids)

    def native_items_of(self, ids: np.ndarray) -> np.ndarray:
        """As `native_users_of`, for items."""
        return _rows(self.item_ids, self._native_items, ids)

    @functools.cached_property
    def _native_users(self) -> np.ndarray:
        """float32 (n, d): turned once, not for every set and window anew."""
        return self._turned(self.users)

    @functools.cached_property
    def _native_items(self) -> np.ndarray:
        return self._turned(self.items)

    def _turned(self, published: np.ndarray) -> np.ndarray:
        out = np.empty_like(published)
        for start in range(0, len(out), _TURNED_ROWS):
            out[start : start + _TURNED_ROWS] = self.native(published[start : start + _TURNED_ROWS])
        return out

    @functools.cached_property
    def native_purchase(self) -> np.ndarray | None:
        """float64 (d,)."""
        return None if self.purchase is None else self.native(self.purchase[None])[0]


def _rows(known: np.ndarray, matrix: np.ndarray, ids: np.ndarray) -> np.ndarray:
    at = positions(known, ids)
    out = matrix[np.maximum(at, 0)] if len(matrix) else np.zeros((len(ids), matrix.shape[1]), np.float32)
    out[at < 0] = np.nan
    return out


def space_of(user_embeddings: Input, model: str, date: datetime.date) -> str | None:
    """The space that a model's users of `date` are in; None where they were not published."""
    manifest = user_embeddings.table(model).manifest(date.isoformat())
    return None if manifest is None else str(manifest.fields.get("space_id"))


def read_vectors(
    model: str, date: datetime.date, user_embeddings: Input, entity_embeddings: Input, users: Ledger, purchase: str
) -> Vectors:
    """The vectors of `date`. PartitionMissing; SpaceMismatch when users and items are of different spaces, JobError
    when of different publishes, RelationMissing where nobody had the relation yet."""
    dt = date.isoformat()
    root, _, view = user_embeddings.uri.rstrip("/").rpartition("/")
    features = FeatureStore(root).read(view, model=model, dt=dt, columns=["user_id", "embedding"])
    wanted = pc.field("entity_type").isin(["item", "relation"])
    columns = ["entity_type", "id", "raw", "embedding"]
    entities, manifest = entity_embeddings.table(model).read_version(dt, columns, wanted)
    fields = features.manifest.fields
    _require_together(f"{model} of {dt}", dt, fields, manifest.fields)
    norm, rotation = fields.get("norm", "l2"), np.array(fields["rotation"], np.float64)
    items = entities.filter(pc.equal(entities.column("entity_type"), "item"))
    relation, where = None, f"{entity_embeddings.location(model)}/dt={dt}"
    compared = fields.get("compared")
    if Comparer.of(model, norm, compared).takes_relation:
        relation = _relation(entities, purchase, where, model)
    return Vectors(
        model, str(fields.get("space_id")), norm, rotation, users.ids_of(features.table.column("user_id")),
        finite_matrix(features.table.column("embedding"), f"{user_embeddings.location(model)}/dt={dt}"),
        items.column("id").to_numpy(), finite_matrix(items.column("embedding"), where), relation,
        compared)  # fmt: skip


def read_entities(
    model: str, date: datetime.date, entity_embeddings: Input, kind: str
) -> tuple[np.ndarray, np.ndarray]:
    """(ledger ids (n,), published vectors (n, d) float32) of one entity type at `date`. PartitionMissing."""
    wanted, dt = pc.field("entity_type") == kind, date.isoformat()
    rows = entity_embeddings.table(model).read(dt, columns=["id", "embedding"], filter=wanted)
    where = f"{entity_embeddings.location(model)}/dt={dt}"
    return rows.column("id").to_numpy(), finite_matrix(rows.column("embedding"), where)


def _require_together(what: str, dt: str, of_users: dict[str, Any], of_items: dict[str, Any]) -> None:
    """That the manifests of users and of items are of one space and one publish."""
    mine, theirs = of_users.get("space_id"), of_items.get("space_id")
    if mine != theirs:
        found = f"{what}: users are in space {mine!r}, items in {theirs!r}"
        raise SpaceMismatch(f"{found}. Expected one. Run: {rerun_command(dt, dt)}")
    if not of_one_publish(of_users, of_items):
        raise JobError(
            f"{what}: users and items were not published together (one of them was rolled back, or its publish broke "
            f"off in between). Roll the other one back too, or run publish_users for {dt} again.")


def _relation(entities: pa.Table, name: str, where: str, model: str) -> np.ndarray:
    """float32 (d,): the vector of a relation. RelationMissing, or JobError for several."""
    mine = pc.and_(pc.equal(entities.column("entity_type"), "relation"), pc.equal(entities.column("raw"), name))
    found = entities.filter(mine)
    if not found.num_rows:
        raise RelationMissing(f"{where} has no vector of relation {name!r}: nothing had it in that night.", model)
    if found.num_rows > 1:
        raise JobError(f"{where} has {found.num_rows} vectors for relation {name!r}; expected 1. Publish it again.")
    return finite_matrix(found.column("embedding"), where)[0]
