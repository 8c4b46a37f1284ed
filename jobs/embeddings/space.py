"""One space, night after night: which R tonight's vectors are published under, and what the manifest says of it."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store import Manifest, Table
from feature_store.view import as_matrix
from jobs.arrays import TRAINED, finite_matrix
from jobs.configuration.sections import Publishing
from jobs.program import JobError, log
from models.vectors.alignment import Alignment, drift, fit_rotation, rotate


class Configured(Protocol):
    """The sections that decide about the space."""

    seed: int
    publishing: Publishing


@dataclass(frozen=True)
class Former:
    """The predecessor's published vectors."""

    date: datetime.date
    table: pa.Table
    manifest: Manifest

    @classmethod
    def read(cls, table: Table, date: datetime.date) -> Former:
        rows, manifest = table.read_version(date.isoformat())
        finite_matrix(rows.column("embedding"), table.path(date.isoformat()))
        return cls(date, rows, manifest)

    @property
    def rotation(self) -> np.ndarray:
        """R (d, d) under which the predecessor was published."""
        return np.array(self.manifest.fields["rotation"], np.float64)


def of_one_publish(users: Mapping[str, Any], entities: Mapping[str, Any]) -> bool:
    """Whether vectors of users and of entities were published together, by the fields of their manifests; not where one
    of the two was rolled back since."""
    return all(users.get(name) == entities.get(name) for name in ("inputs", "rotation"))


@dataclass(frozen=True)
class Space:
    """published = native @ rotation. `reason` says in words where the rotation comes from."""

    space_id: str
    rotation: np.ndarray
    opened: bool
    reason: str
    alignment: Alignment | None = None

    def rotate(self, native: np.ndarray) -> np.ndarray:
        """float32 (n, d): native vectors in the published space."""
        return rotate(np.ascontiguousarray(native, np.float32), self.rotation)

    def report(self) -> dict[str, Any]:
        """For the metrics and the report: everything but the numbers of R."""
        measured = (
            {}
            if self.alignment is None
            else {
                name: _number(getattr(self.alignment, name))
                for name in ("residual", "neighbour_overlap", "n_common", "n_inliers")
            }
        )
        return {"space_id": self.space_id, "opened": self.opened, "reason": self.reason, **measured}

    def fields(self) -> dict[str, Any]:
        """For the manifest."""
        return {"space_id": self.space_id, "rotation": self.rotation.tolist(), "alignment": self.report()}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def new_space(
    content_hash: str, family: dict[str, Any], dimension: int, reason: str, alignment: Alignment | None = None
) -> Space:
    """A space of its own: named by the family and the very vectors that open it, so that a rerun with others is another
    space."""
    name = hashlib.sha256(json.dumps([family, content_hash], sort_keys=True).encode()).hexdigest()[:16]
    return Space(name, np.eye(dimension), True, reason, alignment)


def choose_space(
    user_id: pa.ChunkedArray,
    native: np.ndarray,
    source: np.ndarray,
    former: Former | None,
    trained_tonight: bool,
    content_hash: str,
    family: dict[str, Any],
    config: Configured,
    kind: str = "user",
) -> Space:
    """The space and R of tonight, fitted on users; or on what else the predecessor's table is of, kind being its name.
    JobError when alignment is broken and the configuration does not allow a new space."""
    dimension = native.shape[1]
    if former is None:
        reason = "no published predecessor: a cold start, or the model's first publication, opens a space"
        return new_space(content_hash, family, dimension, reason)
    space_id, inherited = former.manifest.fields["space_id"], former.rotation
    if not trained_tonight:
        return Space(space_id, inherited, False, f"not trained tonight: R of {former.date}")
    mine, theirs = common_trained(user_id, source, former)
    previous = as_matrix(former.table.column("embedding"))
    alignment = fit_rotation(
        native[mine], previous[theirs], seed=config.seed, min_overlap=config.publishing.min_neighbour_overlap
    )
    if not alignment.fittable:
        return Space(space_id, inherited, False, f"{alignment.reason}: R of {former.date}", alignment)
    if alignment.ok:
        return Space(space_id, alignment.rotation, False, f"fitted to {former.date}", alignment)
    broken = f"alignment with {former.date} is broken: {alignment.reason}"
    if config.publishing.on_space_break == "publish":
        log.warning("%s; publishing.on_space_break is 'publish': a new space opens", broken)
        return new_space(content_hash, family, dimension, broken, alignment)
    raise JobError(
        f"{broken}, over {alignment.n_common} common {kind}s. Nothing is published and readers keep what they have. "
        "Look at the training curves "
        "of both nights; rerun with a longer training, or set publishing.on_space_break: publish to open a new space."
    )


def common_trained(user_id: pa.ChunkedArray, source: np.ndarray, former: Former) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers (here, in the predecessor) of the users trained in both, in the order of their ids."""
    mine = np.flatnonzero(source == TRAINED)
    theirs = np.flatnonzero(pc.equal(former.table.column("source"), "trained").to_numpy(zero_copy_only=False))
    at = pc.index_in(
        user_id.cast(pa.string()).take(pa.array(mine)),
        value_set=former.table.column("user_id").take(pa.array(theirs)).combine_chunks(),
    )
    found = at.is_valid().to_numpy(zero_copy_only=False)
    return mine[found], theirs[at.drop_null().to_numpy()]


def drift_between(
    published: pa.Table, table: Table, date: datetime.date, space: Space, former: Former | None, label_window_days: int
) -> dict[str, Any]:
    """How far users moved since the predecessor, and since D − L, over which classifiers carry what they learned."""
    found: dict[str, Any] = {}
    if former is not None and not space.opened:
        found["since_predecessor"] = {"date": former.date.isoformat(), **_drift(published, former.table)}
    start = (date - datetime.timedelta(days=label_window_days)).isoformat()
    manifest = table.manifest(start)
    if manifest and manifest.fields.get("space_id") == space.space_id:
        found["since_label_start"] = {"date": start, **_drift(published, table.read(start))}
    return {"drift": found or None}


def _drift(published: pa.Table, earlier: pa.Table) -> dict[str, Any]:
    """Of users with a vector of their own in both: a carried one is a copy, and a copy has not moved."""
    published, earlier = (t.filter(pc.not_equal(t.column("source"), "carried")) for t in (published, earlier))
    at = pc.index_in(published.column("user_id"), value_set=earlier.column("user_id").combine_chunks())
    now, then = (as_matrix(t.column("embedding")) for t in (published, earlier))
    found = at.is_valid().to_numpy(zero_copy_only=False)
    moved = drift(then[at.drop_null().to_numpy()], now[found])
    return {name: _number(value) for name, value in dataclasses.asdict(moved).items()}
