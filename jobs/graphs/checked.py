"""Writing a graph table into an open commit, with its checks on what was written: a failed one leaves what readers
had."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from feature_store import Commit
from jobs.contracts import Contract
from jobs.program import metrics
from jobs.quality.check import check, require
from jobs.quality.suites import Suite
from jobs.spark import PLAIN, write

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# a quarter of a gigabyte: up to here the checks run on Arrow (a tenth of the time), beyond it on Spark
MAX_ROWS_IN_MEMORY = 5_000_000


def write_checked(
    spark: SparkSession, rows: DataFrame, commit: Commit, contract: Contract, suite: Suite, page: str | None
) -> None:
    """QualityError when a check fails. `page`: see check()."""
    write(rows, commit, contract)
    files = [f"{commit.path}/{file.name}" for file in commit.files]
    if commit.row_count <= MAX_ROWS_IN_MEMORY:
        results = check(pa.concat_tables(pq.read_table(file, partitioning=None) for file in files), suite, page)
    else:
        results = check(spark.read.options(**PLAIN).parquet(*files), suite, page)
    metrics.put("checks", detail=results)
    require(results)
