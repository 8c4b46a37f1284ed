"""Writing a graph table into an open commit, with its checks on what was written: a failed one leaves what readers
had."""

from __future__ import annotations

from typing import TYPE_CHECKING

from feature_store import Commit
from jobs.contracts import Contract
from jobs.program import metrics
from jobs.quality.check import check, require
from jobs.quality.suites import Suite
from jobs.spark import read, write

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# a quarter of a gigabyte: up to here the checks run on Arrow (a tenth of the time), beyond it on Spark
MAX_ROWS_IN_MEMORY = 5_000_000


def write_checked(
    spark: SparkSession, rows: DataFrame, commit: Commit, contract: Contract, suite: Suite, page: str | None
) -> None:
    """QualityError when a check fails. `page`: see check()."""
    write(rows, commit, contract)
    if commit.row_count <= MAX_ROWS_IN_MEMORY:
        results = check(commit.read(), suite, page)
    else:
        files = [f"{commit.path}/{file.name}" for file in commit.files]
        results = check(read(spark, commit.disk, files, contract), suite, page)
    metrics.put("checks", detail=results)
    require(results)
