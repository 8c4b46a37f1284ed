"""Parquet files of an object store as a Spark frame: read by Arrow in Spark's workers, with the types that Spark itself
gives the columns of such files.

Spark is asked for these types: it reads a local file that has nothing but the footer of one of the files.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from feature_store import known_stores
from jobs.events.damage import AGAIN, check_parquet, first_line
from jobs.events.files import open_arrow
from jobs.events.places import SourceError
from jobs.spark import PLAIN
from jobs.spark_parts import READ_ROWS, TASKS_A_CORE

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

MAGIC = b"PAR1"


def read_far(
    spark: SparkSession, files: Sequence[str], file_column: str, row_column: str, wanted: Collection[str] | None = None
) -> DataFrame:
    """The columns of files that are all alike, the path of each row's file, and the row's number in it, from 1.

    wanted: the columns that somebody reads; None: all.
    """
    from pyspark.sql import functions as F
    from pyspark.sql import types as T
    from pyspark.sql.pandas.types import to_arrow_schema

    fields = [f for f in spark_schema(spark, files[0]) if wanted is None or f.name in wanted]
    void = [f.name for f in fields if isinstance(f.dataType, T.NullType)]  # which hold nothing, and need no reading
    read = T.StructType([f for f in fields if f.name not in void])
    told = T.StructType([*read]).add(file_column, "string").add(row_column, "long")
    columns, schema = to_arrow_schema(read), to_arrow_schema(told)
    pieces = [piece for number, file in enumerate(files) for piece in _pieces(number, check_parquet(file))]
    if pieces:
        tasks = min(len(pieces), TASKS_A_CORE * spark.sparkContext.defaultParallelism)
        numbers = spark.range(0, len(pieces), numPartitions=tasks)
        frame = numbers.mapInArrow(_reader(files, pieces, columns, schema), told)
    else:
        frame = spark.createDataFrame([], told)
    nothing = {name: F.lit(None) for name in void}
    return frame.withColumns(nothing).select(*(F.col(_quoted(f.name)) for f in fields), file_column, row_column)


def spark_schema(spark: SparkSession, file: str) -> StructType:
    """The columns of one file as Spark reads them."""
    with open_arrow(file) as content:
        size = content.size()
        length = int.from_bytes(content.read_at(4, size - 8), "little")
        footer = content.read_at(length + 8, size - 8 - length)
    with tempfile.TemporaryDirectory(prefix="nocturne-") as folder:
        stub = Path(folder, "footer.parquet")
        stub.write_bytes(MAGIC + footer)
        return spark.read.options(**PLAIN).parquet(str(stub)).schema


def _pieces(number: int, described: pq.FileMetaData) -> Iterator[tuple[int, int, int]]:
    """(number of the file, row group, rows before it)."""
    before = 0
    for group in range(described.num_row_groups):
        yield number, group, before
        before += described.row_group(group).num_rows


def _reader(files: Sequence[str], pieces: Sequence[tuple[int, int, int]], columns: pa.Schema, schema: pa.Schema):
    """What runs in Spark's workers."""
    stores = known_stores.told()

    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        known_stores.hear(stores)
        for batch in batches:
            for number in batch.column(0).to_pylist():
                file, group, before = pieces[number]
                yield from read_group(files[file], group, before, columns, schema)

    return read


def read_group(
    path: str, group: int, before: int, columns: pa.Schema, schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """The rows of one row group. columns: those of the file; schema: with the path and the row's number."""
    try:
        with open_arrow(path) as content:
            file = pq.ParquetFile(
                content, page_checksum_verification=True, coerce_int96_timestamp_unit="us", pre_buffer=True)
            for rows in file.iter_batches(READ_ROWS, [group], columns=columns.names):
                known = [as_spark_has(rows.column(field.name), field.type) for field in columns]
                numbers = pa.array(range(before + 1, before + 1 + rows.num_rows), pa.int64())
                before += rows.num_rows
                paths = pa.repeat(path, rows.num_rows)
                yield pa.RecordBatch.from_arrays([*known, paths, numbers], schema=schema)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        if getattr(error, "errno", None):
            raise  # of the store
        raise SourceError(f"{path} is damaged: {first_line(error)}. {AGAIN}.") from error


def as_spark_has(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """A column as it is read, in the type that Spark has for it: nanoseconds as whole numbers, no dictionaries."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.type == kind:
        return column
    if pa.types.is_timestamp(column.type) and pa.types.is_integer(kind):
        return column.view(pa.int64())
    return column.cast(kind)


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
