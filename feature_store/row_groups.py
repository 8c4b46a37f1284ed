"""Row groups of one Parquet file, read and decoded side by side into one chunk a column.

Arrow itself decodes a column by one thread, and a table of vectors is nearly all one column. Each row group is decoded
here by whichever thread comes to it; vectors go to their place in the whole while they are in the processor's cache, so
that a matrix is a view of the rows and neither lies twice in memory.
"""

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_THREADS = min(8, max(4, os.cpu_count() or 4))  # on an object store some wait for their bytes
Opener = Callable[[], AbstractContextManager[pq.ParquetFile]]


class _Nulls(Exception):
    """A vector, or a number in one, is null: it has no place in a matrix."""


def read_side_by_side(open_file: Opener, metadata: pq.FileMetaData, columns: list[str] | None) -> pa.Table | None:
    """All rows, in order. `open_file` opens the file once more, for a thread of its own. None where vectors hold nulls,
    which are read otherwise. What `open_file` and its file raise."""
    count = metadata.num_row_groups
    starts = [0, *itertools.accumulate(metadata.row_group(group).num_rows for group in range(count))]
    vectors = _vectors(metadata.schema.to_arrow_schema(), columns)
    wholes = {name: np.empty((starts[-1], type.list_size), _dtype(type)) for name, type in vectors.items()}
    rest: dict[int, pa.Table] = {}

    def read(first: int) -> pa.Schema:
        with open_file() as file:
            for group in range(first, count, _THREADS):
                table = file.read_row_group(group, columns, use_threads=False)
                for name, whole in wholes.items():
                    _put(table.column(name), whole[starts[group] : starts[group + 1]])
                rest[group] = table.drop_columns(list(wholes))
        return table.schema

    with ThreadPoolExecutor(min(_THREADS, count), thread_name_prefix="row-groups") as pool:
        try:
            schema, *_ = pool.map(read, range(min(_THREADS, count)))
        except _Nulls:
            return None
    others = pa.concat_tables([rest[group] for group in range(count)]).combine_chunks()
    found = {name: pa.FixedSizeListArray.from_arrays(pa.array(whole.reshape(-1)), type=vectors[name])
             for name, whole in wholes.items()}  # fmt: skip
    all_columns = [found[name] if name in found else others.column(name) for name in schema.names]
    return pa.Table.from_arrays(all_columns, schema=schema)


def _vectors(schema: pa.Schema, columns: list[str] | None) -> dict[str, pa.DataType]:
    """Columns of vectors of numbers, among those that are asked for."""
    kinds = {field.name: field.type for field in schema if columns is None or field.name in columns}
    lists = {name: kind for name, kind in kinds.items() if pa.types.is_fixed_size_list(kind) and kind.list_size}
    return {name: kind for name, kind in lists.items() if _is_number(kind.value_type)}


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _dtype(vector: pa.DataType) -> np.dtype:
    return np.dtype(vector.value_type.to_pandas_dtype())


def _put(column: pa.ChunkedArray, place: np.ndarray) -> None:
    at = 0
    for chunk in column.chunks:
        numbers = chunk.flatten()
        if chunk.null_count or numbers.null_count:
            raise _Nulls
        place[at : at + len(chunk)] = numbers.to_numpy().reshape(len(chunk), -1)
        at += len(chunk)
