"""Is a table sorted as it claims to be, and are its keys unique? Strings sort by their bytes."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.errors import StoreError


class OrderCheck:
    """Streaming: feed batches in order; `unsorted_at` and `repeated_at` are the first offending rows, or None."""

    def __init__(self, columns: Iterable[str]) -> None:
        self._columns = list(columns)
        self._last: list[pa.Array] | None = None
        self._row = 0
        self.unsorted_at: int | None = None
        self.repeated_at: int | None = None

    def update(self, batch: pa.RecordBatch | pa.Table) -> None:
        """StoreError when a sorting column is missing or holds nulls."""
        if not batch.num_rows or not self._columns:
            return
        unknown = [name for name in self._columns if name not in batch.schema.names]
        if unknown:
            raise StoreError(f"Found no column {unknown}, by which the rows are said to be sorted.")
        columns = [_one_array(batch.column(name), name) for name in self._columns]
        with_last, first_row = columns, self._row
        if self._last:
            with_last = [pa.concat_arrays(pair) for pair in zip(self._last, columns, strict=True)]
            first_row -= 1
        smaller, equal = _compare_neighbours(with_last)
        if self.unsorted_at is None and smaller.any():
            self.unsorted_at = first_row + 1 + int(smaller.argmax())
        if self.repeated_at is None and equal.any():
            self.repeated_at = first_row + 1 + int(equal.argmax())
        self._last = [column.slice(len(column) - 1) for column in columns]
        self._row += batch.num_rows


def _compare_neighbours(columns: list[pa.Array]) -> tuple[np.ndarray, np.ndarray]:
    """For each row but the first: is it smaller than the row before it,
    is it equal to it (lexicographic over the columns)."""
    count = len(columns[0]) - 1
    smaller, equal = np.zeros(count, bool), np.ones(count, bool)
    for column in columns:
        before, after = column.slice(0, count), column.slice(1)
        smaller |= equal & pc.less(after, before).to_numpy(zero_copy_only=False)
        equal &= pc.equal(after, before).to_numpy(zero_copy_only=False)
    return smaller, equal


def _one_array(column: pa.Array | pa.ChunkedArray, name: str) -> pa.Array:
    if column.null_count:
        raise StoreError(
            f"Found {column.null_count} nulls in {name!r}, by which the rows are said to be sorted; expected none. "
            "Drop those rows or sort by another column."
        )
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # too much text for one array
        array = pa.concat_arrays([chunk.cast(pa.large_string()) for chunk in array.chunks])
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array.cast(pa.large_string()) if pa.types.is_string(array.type) else array
