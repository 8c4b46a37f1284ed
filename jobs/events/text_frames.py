"""CSV and JSON-lines files as a Spark frame of texts, parsed in Spark's workers by text_rows.py."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from feature_store import known_stores
from jobs.events.damage import open_lines
from jobs.events.files import statuses
from jobs.events.fingerprint import labels
from jobs.events.folders import folder_columns, folder_values
from jobs.events.text_rows import BATCH_ROWS, TextSource, read_batches, schema
from jobs.spark_parts import TASKS_A_CORE

if TYPE_CHECKING:
    from pyspark import RDD
    from pyspark.sql import DataFrame, SparkSession

MOST_WAITING = 256  # batches
# a task for each of ten thousand small files would take longer to start than to run
TASK_BYTES, MOST_TASKS = 16 << 20, 256


def text_frame(spark: SparkSession, files: Sequence[str], text: TextSource) -> DataFrame:
    """A row for each row of the files, with the columns of `text_rows.schema`."""
    from pyspark.sql.pandas.types import from_arrow_schema

    names, stores = labels(files), known_stores.told()

    def parse(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        known_stores.hear(stores)
        numbers = (number for batch in batches for number in batch.column(0).to_pylist())
        read = (read_batches(files[number], names[files[number]], text) for number in numbers)
        yield from gathered(batch for one in read for batch in one)

    return _numbers(spark, files).mapInArrow(parse, from_arrow_schema(schema(text.columns)))


def gathered(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The rows of small batches, of a file each, in larger ones: to hand one over takes longer than to read it."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(one.num_rows for one in waiting) >= BATCH_ROWS or len(waiting) >= MOST_WAITING:
            yield pa.concat_batches(waiting)
            waiting = []
    if waiting:
        yield pa.concat_batches(waiting)


def json_lines(spark: SparkSession, files: Sequence[str]) -> RDD[str]:
    """The lines of JSON files, for Spark's own parser where it cannot open the files; each with the columns of the
    folders above it."""
    stores, more = known_stores.told(), folder_columns(files)

    def lines(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        known_stores.hear(stores)
        for batch in batches:
            for number in batch.column(0).to_pylist():
                for found in _texts(files[number], more):
                    yield pa.RecordBatch.from_arrays([pa.array(found, pa.string())], ["line"])

    return _numbers(spark, files).mapInArrow(lines, "line string").rdd.map(lambda row: row.line)


def _texts(file: str, more: Sequence[str]) -> Iterator[list[str]]:
    """Some lines at a time."""
    of_folders = {name: value for name, value in folder_values(file).items() if name in more}
    with open_lines(file) as content:
        while some := list(itertools.islice(content, BATCH_ROWS)):
            whole = [line.encode("utf-8", "replace").decode() for line in some if line.strip()]
            yield [_with(line, of_folders) for line in whole] if of_folders else whole


def _with(line: str, of_folders: dict[str, str | None]) -> str:
    """A line that is no object stays: whoever parses it says so."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return line
    return json.dumps(of_folders | row) if isinstance(row, dict) else line


def _numbers(spark: SparkSession, files: Sequence[str]) -> DataFrame:
    """The files' numbers, in as many tasks as there is work for."""
    size = sum(one.size for one in statuses(files).values())
    wanted = max(TASKS_A_CORE * spark.sparkContext.defaultParallelism, size // TASK_BYTES)
    return spark.range(0, len(files), numPartitions=min(len(files), wanted, MOST_TASKS))
