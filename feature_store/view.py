"""What a reader gets of a feature view, and what must hold of `user_embeddings` beyond what any table keeps."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.errors import SpaceMismatch, StoreError
from feature_store.layout import rerun_command
from feature_store.manifest import Manifest
from feature_store.order import OrderCheck

if TYPE_CHECKING:
    import pandas

USER_EMBEDDINGS = "user_embeddings"


@dataclass(frozen=True)
class Features:
    """Rows of one read, and the manifest of each version they are from (one, unless several dates were read)."""

    table: pa.Table
    manifests: tuple[Manifest, ...]

    @property
    def manifest(self) -> Manifest:
        if len(self.manifests) != 1:
            raise StoreError(
                f"These rows are from {len(self.manifests)} partitions; .manifest is for one. Use .manifests."
            )
        return self.manifests[0]

    def to_pandas(self) -> "pandas.DataFrame":
        return self.table.to_pandas()

    def user_ids(self) -> list[str]:
        return self.table.column("user_id").to_pylist()

    def matrix(self, column: str = "embedding") -> np.ndarray:
        """The vectors as float32, rows × dimension; a view of the Arrow memory where the rows are from one file."""
        return as_matrix(self.table.column(column))


def as_matrix(column: pa.ChunkedArray) -> np.ndarray:
    """A fixed-size list column as numpy, rows × list size; a view for a single chunk, one copy for several."""
    if not pa.types.is_fixed_size_list(column.type):
        raise StoreError(
            f"Found a column of type {column.type}; expected a fixed-size list of numbers. Name the embedding's column."
        )
    if column.null_count:
        raise StoreError(
            f"Found {column.null_count} null vectors among {len(column)}; a matrix has no place for them. "
            "Drop those rows first."
        )
    size = column.type.list_size
    parts = (chunk.values.slice(chunk.offset * size, len(chunk) * size) for chunk in column.chunks)
    chunks = [part.to_numpy(zero_copy_only=False) for part in parts]
    if len(chunks) == 1:
        return chunks[0].reshape(-1, size)
    empty = np.zeros(0, column.type.value_type.to_pandas_dtype())
    return np.concatenate(chunks or [empty]).reshape(-1, size)


def check_one_space(manifests: Sequence[Manifest]) -> None:
    """SpaceMismatch unless all are of the same `space_id`: between spaces, distances mean nothing."""
    ordered = sorted(manifests, key=lambda manifest: manifest.partition["dt"])
    first = ordered[0].fields.get("space_id") if ordered else None
    others = [manifest for manifest in ordered if manifest.fields.get("space_id") != first]
    if others:
        dates = [manifest.partition["dt"] for manifest in others]
        shown = ", ".join(f"dt={m.partition['dt']} is in {m.fields.get('space_id')!r}" for m in others[:5])
        shown += ", ..." if len(others) > 5 else ""
        raise SpaceMismatch(
            f"Vectors of different spaces in {ordered[0].table}: dt={ordered[0].partition['dt']} is in {first!r}, "
            f"{shown}. Expected one space. Run the later dates again, each from the one before it: "
            f"{rerun_command(dates[0], dates[-1])}"
        )


class EmbeddingCheck:
    """Rows of `user_embeddings` for `dt`, batch by batch: unique sorted users, finite vectors, none from after dt."""

    def __init__(self, dt: str) -> None:
        self._midnight = datetime.datetime.fromisoformat(dt).replace(tzinfo=datetime.UTC)
        self._order = OrderCheck(["user_id"])
        self._not_finite = self._late = self._null_vectors = 0

    def update(self, batch: pa.RecordBatch) -> None:
        if "user_id" in batch.schema.names:
            self._order.update(batch.select(["user_id"]))
        if "event_timestamp" in batch.schema.names:
            self._late += count_after(batch.column("event_timestamp"), self._midnight)
        if "embedding" in batch.schema.names:
            vectors = batch.column("embedding")
            self._null_vectors += vectors.null_count
            self._not_finite += int(pc.sum(pc.invert(pc.is_finite(vectors.flatten()))).as_py() or 0)

    def problems(self) -> list[str]:
        """In words, without any user's id."""
        found = []
        if self._order.unsorted_at is not None:
            found.append(f"user_id is not sorted by its bytes at row {self._order.unsorted_at}. Publish it again.")
        if self._order.repeated_at is not None:
            found.append(f"user_id is repeated at row {self._order.repeated_at}. Publish it again.")
        if self._null_vectors or self._not_finite:
            found.append(
                f"{self._null_vectors} embeddings are null and {self._not_finite} numbers are not finite. "
                "Publish it again."
            )
        if self._late:
            found.append(
                f"{self._late} rows have an event_timestamp after dt: they would leak the future. Publish it again."
            )
        return found


def count_after(column: pa.Array | pa.ChunkedArray, moment: datetime.datetime) -> int:
    """How many timestamps are later than `moment`; those without a zone are UTC."""
    zone = column.type.tz
    limit = pa.scalar(moment if zone else moment.replace(tzinfo=None), pa.timestamp("us", zone))
    return int(pc.sum(pc.greater(column, limit)).as_py() or 0)
