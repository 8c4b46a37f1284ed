"""Days that Spark wrote aside in one job, committed one by one.

The folder lies within the table's own (`_staging/dt=…`), where no reader looks, on the same disk. The lock of the
night's `rejected_events` partition, which its run holds, keeps a second run of the date away from it.
"""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.errors import explain_os_errors
from jobs.events.returns import COUNT
from jobs.program import Output
from jobs.quality import check
from jobs.quality.suites import Suite
from jobs.spark import PLAIN
from jobs.tables import TABLES

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# half a gigabyte: up to here the checks run on Arrow (a tenth of the time), beyond it on Spark
MAX_ROWS_IN_MEMORY = 5_000_000


@contextmanager
def folder(clean_events: Output, date: datetime.date) -> Iterator[str]:
    """An empty place for this date's staged days, removed afterwards; leftovers of a killed run are removed first."""
    path = Path(clean_events.location()) / "_staging" / f"dt={date}"
    shutil.rmtree(path, ignore_errors=True)
    try:
        yield str(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)
        if path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()


def staged_files(path: str, day: str | None = None) -> list[str]:
    """Data files of one day (or all), in row order."""
    return sorted(str(file) for file in Path(path).glob(f"day={day or '*'}/*.parquet"))


def check_staged(spark: SparkSession, path: str, suite: Suite, page: str | None = None) -> list[dict[str, Any]]:
    """The checks' results on everything staged; none where nothing is."""
    files = staged_files(path)
    if not files:
        return []
    if sum(pq.read_metadata(file).num_rows for file in files) <= MAX_ROWS_IN_MEMORY:
        return check.check(pa.concat_tables(pq.read_table(file, partitioning=None) for file in files), suite, page)
    return check.check(spark.read.options(**PLAIN).parquet(path), suite, page)


def commit_day(clean_events: Output, path: str, day: str, fields: dict[str, Any]) -> str:
    """Commit a staged day, a day without rows as such; `written` or `unchanged` (equal content is left alone)."""
    table = clean_events.table()
    former = table.manifest(day)
    with table.replace(day, only_if_changed=True) as commit:
        for file in staged_files(path, day):
            with explain_os_errors("copying a staged day", commit.path):
                table.disk.copy(file, f"{commit.path}/{Path(file).name}")
        commit.adopt_new()
        if not commit.files:
            commit.write_table(TABLES["clean_events"].arrow_schema().empty_table())
        commit.fields |= fields | {COUNT: _returns(staged_files(path, day))}
        changed = former is None or former.content_hash != commit.content_hash()
    return "written" if changed else "unchanged"


def _returns(files: list[str]) -> int:
    """How many rows of negative quantity there are."""
    quantities = (pq.read_table(file, columns=["quantity"], partitioning=None).column("quantity") for file in files)
    return sum(pc.sum(pc.less(column, 0)).as_py() or 0 for column in quantities)
