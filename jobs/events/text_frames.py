"""CSV and JSON-lines files as a Spark frame of texts, parsed in Spark's workers by text_rows.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from jobs.events.fingerprint import labels
from jobs.events.text_rows import TextSource, read_batches, schema

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

MOST_TASKS = 256  # a task for each of ten thousand small files would take longer to start than to run


def text_frame(spark: SparkSession, files: Sequence[str], text: TextSource) -> DataFrame:
    """A row for each row of the files, with the columns of `text_rows.schema`."""
    from pyspark.sql.pandas.types import from_arrow_schema

    names = labels(files)

    def parse(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column(0).to_pylist():
                yield from read_batches(files[number], names[files[number]], text)

    numbers = spark.range(0, len(files), numPartitions=min(len(files), MOST_TASKS))
    return numbers.mapInArrow(parse, from_arrow_schema(schema(text.columns)))
