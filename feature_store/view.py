"""What a reader gets: feature views, and the rows of one read."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from feature_store.errors import StoreError
from feature_store.manifest import Manifest

if TYPE_CHECKING:
    import pandas

USER_EMBEDDINGS = "user_embeddings"


@dataclass(frozen=True)
class Features:
    """Rows of one partition of a feature view, and the manifest of the version they are from."""

    table: pa.Table
    manifest: Manifest

    def to_pandas(self) -> "pandas.DataFrame":
        return self.table.to_pandas()

    def user_ids(self) -> list[str]:
        return self.table.column("user_id").to_pylist()

    def matrix(self, column: str = "embedding") -> np.ndarray:
        """The vectors as float32, rows × dimension, without a copy where the rows lie in one chunk."""
        return as_matrix(self.table.column(column))


def as_matrix(column: pa.ChunkedArray) -> np.ndarray:
    """A fixed-size list column as numpy, rows × list size; zero copy for a single chunk."""
    if not pa.types.is_fixed_size_list(column.type):
        raise StoreError(f"Found a column of type {column.type}; expected a fixed-size list of numbers. Name the embedding's column.")
    if column.null_count:
        raise StoreError(f"Found {column.null_count} null vectors among {len(column)}; a matrix has no place for them. Drop those rows first.")
    size = column.type.list_size
    chunks = [chunk.values.slice(chunk.offset * size, len(chunk) * size).to_numpy(zero_copy_only=False) for chunk in column.chunks]
    if len(chunks) == 1:
        return chunks[0].reshape(-1, size)
    empty = np.zeros(0, column.type.value_type.to_pandas_dtype())
    return np.concatenate(chunks or [empty]).reshape(-1, size)
