"""What Spark reads from and writes to a store that it has no file system for: Parquet through Arrow, by the store's own
disk, in Spark's workers. No jar, and no committer that renames.

Workers write parts under names of their own and hand over what they wrote; a try that failed, or came second, leaves
parts that nobody names, and the next publish takes them away. The disk travels to the workers: it can be pickled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.disk import Disk, is_local
from feature_store.manifest import FileEntry
from feature_store.parts import put_parts

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

READ_ROWS = 65_536
TASKS_A_CORE = 4  # a task for each of many small files would take longer to start than to run
WRITTEN = pa.schema({
    "writer": pa.int32(), "folder": pa.string(), "name": pa.string(), "size": pa.int64(), "sha256": pa.string(),
    "rows": pa.int64(), "frames": pa.list_(pa.string()), "chunks": pa.list_(pa.string())})


def reaches(disk: Disk) -> bool:
    """Whether Spark has a file system of its own for what lies on this disk."""
    return is_local(disk)


def read_parts(spark: SparkSession, disk: Disk, files: Sequence[str], schema: pa.Schema) -> DataFrame:
    """The rows of committed files, with the columns of the schema."""
    from pyspark.sql.pandas.types import from_arrow_schema

    def rows_of(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column(0).to_pylist():
                with disk.open(files[number]) as source:
                    file = pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=True)
                    for found in file.iter_batches(READ_ROWS, columns=schema.names):
                        yield from pa.Table.from_batches([found]).select(schema.names).cast(schema).to_batches()

    tasks = min(len(files), TASKS_A_CORE * spark.sparkContext.defaultParallelism)
    numbers = spark.range(0, len(files), numPartitions=tasks)
    return numbers.mapInArrow(rows_of, from_arrow_schema(schema))


def write_parts(
    frame: DataFrame, disk: Disk, folder: str, schema: pa.Schema, by: str = ""
) -> list[tuple[str, FileEntry]]:
    """Write the frame's rows as they lie in its partitions; (folder below `folder`, part), in the rows' order.

    by: a column of texts by which each partition is sorted; it is not written, its values name folders, `day=…`.
    """
    from pyspark.sql.pandas.types import from_arrow_schema

    def written(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from pyspark import TaskContext

        writer = TaskContext.get().partitionId()
        for name, rows in _by_folder(batches, by):
            place = f"{folder}/{name}" if name else folder
            disk.make_folder(place)
            for part in put_parts(disk, place, rows, schema, writer):
                yield _told(writer, name, part)

    told = frame.mapInArrow(written, from_arrow_schema(WRITTEN)).collect()
    told.sort(key=lambda row: (row.writer, row.folder, row.name))
    return [(row.folder, FileEntry(row.name, row.size, row.sha256, row.rows, "", tuple(row.frames), tuple(row.chunks)))
            for row in told]


def _told(writer: int, folder: str, part: FileEntry) -> pa.RecordBatch:
    columns = [writer, folder, part.name, part.size, part.sha256, part.row_count, list(part.frames), list(part.chunks)]
    arrays = [pa.array([value], field.type) for value, field in zip(columns, WRITTEN, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=WRITTEN)


def _by_folder(batches: Iterator[pa.RecordBatch], by: str) -> Iterator[tuple[str, Iterator[pa.RecordBatch]]]:
    """(folder's name, its rows) of each run of equal values; all rows in one without a name where `by` is none."""
    if not by:
        yield "", batches
        return
    waiting = (piece for batch in batches for piece in _runs(batch, by))
    ahead = next(waiting, None)
    while ahead is not None:
        value = ahead[0]

        def of_value(value: str = value) -> Iterator[pa.RecordBatch]:
            nonlocal ahead
            while ahead is not None and ahead[0] == value:
                yield ahead[1]
                ahead = next(waiting, None)

        yield f"{by}={value}", of_value()


def _runs(batch: pa.RecordBatch, by: str) -> Iterator[tuple[str, pa.RecordBatch]]:
    """(value, rows without it) of each run of equal values."""
    column, rows, start = batch.column(by), batch.drop_columns([by]), 0
    while start < batch.num_rows:
        value = column[start].as_py()
        same = pc.equal(column.slice(start), value).to_numpy(zero_copy_only=False)
        length = len(same) if same.all() else int(same.argmin())
        yield value, rows.slice(start, length)
        start += length
