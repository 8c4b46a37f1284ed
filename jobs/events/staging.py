"""Days that Spark wrote aside in one job, committed one by one.

The folder lies within the table's own (`_staging/dt=…`), where no reader looks, on the same disk. The lock of the
night's `rejected_events` partition, which its run holds, keeps a second run of the date away from it.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store import Table
from feature_store.disk import Disk
from feature_store.errors import LockHeld, explain_os_errors
from feature_store.layout import LOCK
from feature_store.manifest import FileEntry
from jobs.contracts import Contract
from jobs.events.returns import COUNT
from jobs.program import Output
from jobs.quality import check
from jobs.quality.suites import Suite
from jobs.spark import read
from jobs.spark_parts import reaches, write_parts
from jobs.tables import TABLES

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# half a gigabyte: up to here the checks run on Arrow (a tenth of the time), beyond it on Spark
MAX_ROWS_IN_MEMORY = 5_000_000
_STAGING = "_staging"


@dataclass
class Staged:
    """Days written aside, each in a folder `day=…`. parts: of each day, where Spark's workers wrote them."""

    disk: Disk
    path: str
    parts: dict[str, list[FileEntry]] = field(default_factory=dict)

    def write(self, rows: DataFrame, contract: Contract) -> None:
        """rows: the contract's columns and `day`, each day's in order in one partition of the frame."""
        if reaches(self.disk):
            rows.write.partitionBy("day").parquet(self.path)
            return
        for folder, part in write_parts(rows, self.disk, self.path, contract.arrow_schema(), "day"):
            self.parts.setdefault(folder.removeprefix("day="), []).append(part)

    def files(self, day: str) -> list[str]:
        """Data files of a day, in row order."""
        folder = f"{self.path}/day={day}"
        names = [part.name for part in self.parts.get(day, [])]
        if not self.parts:
            names = [entry.name for entry in self.disk.list(folder) if entry.name.endswith(".parquet")]
        return [f"{folder}/{name}" for name in names]

    def all_files(self) -> list[str]:
        """Data files of all days."""
        folders = [entry.name for entry in self.disk.list(self.path) if entry.name.startswith("day=")]
        return [file for folder in folders for file in self.files(folder.removeprefix("day="))]

    def rows(self, file: str, columns: list[str] | None = None) -> pa.Table:
        """The rows of one file."""
        with self.disk.open(file) as source:
            return pq.ParquetFile(source, pre_buffer=True).read(columns)

    def count(self) -> int:
        """Rows of all days."""
        return sum(self._count(file) for file in self.all_files())

    def _count(self, file: str) -> int:
        with self.disk.open(file) as source:
            return pq.read_metadata(source).num_rows


@contextmanager
def staged(clean_events: Output, date: datetime.date) -> Iterator[Staged]:
    """An empty place for this date's days, removed afterwards; leftovers of a killed run are removed first."""
    table = clean_events.table()
    parent = f"{table.uri}/{_STAGING}"
    path = f"{parent}/dt={date}"
    with explain_os_errors("making room for staged days", path):
        table.disk.delete_folder(path)
    try:
        yield Staged(table.disk, path)
    finally:
        table.disk.delete_folder(path)
        if not table.disk.list(parent):
            table.disk.delete_folder(parent)


def remove_abandoned(clean_events: Table, rejected_events: Table) -> None:
    """What killed runs staged: the locks of their nights are free."""
    disk, parent = clean_events.disk, f"{clean_events.uri}/{_STAGING}"
    for entry in disk.list(parent):
        folder = rejected_events.path(entry.name.removeprefix("dt="))
        disk.make_folder(folder)
        try:
            with disk.lock(f"{folder}/{LOCK}", 0):
                disk.delete_folder(f"{parent}/{entry.name}")
        except LockHeld:
            continue  # its run lives


def check_staged(spark: SparkSession, days: Staged, suite: Suite, page: str | None = None) -> list[dict[str, Any]]:
    """The checks' results on everything staged; none where nothing is."""
    files = days.all_files()
    if not files:
        return []
    if days.count() <= MAX_ROWS_IN_MEMORY:
        return check.check(pa.concat_tables(map(days.rows, files)), suite, page)
    return check.check(read(spark, days.disk, files, TABLES["clean_events"]), suite, page)


def commit_day(clean_events: Output, days: Staged, day: str, fields: dict[str, Any]) -> str:
    """Commit a staged day, a day without rows as such; `written` or `unchanged` (equal content is left alone)."""
    table, files = clean_events.table(), days.files(day)
    former = table.manifest(day)
    with table.replace(day, only_if_changed=True) as commit:
        for file in files:
            with explain_os_errors("copying a staged day", commit.path):
                table.disk.copy(file, f"{commit.path}/{file.rpartition('/')[2]}")
        if days.parts:
            commit.adopt_parts(days.parts.get(day, []))
        else:
            commit.adopt_new()
        if not commit.files:
            commit.write_table(TABLES["clean_events"].arrow_schema().empty_table())
        commit.fields |= fields | {COUNT: _returns(days, files)}
        changed = former is None or former.content_hash != commit.content_hash()
    return "written" if changed else "unchanged"


def _returns(days: Staged, files: list[str]) -> int:
    """How many rows of negative quantity there are."""
    quantities = (days.rows(file, ["quantity"]).column("quantity") for file in files)
    return sum(pc.sum(pc.less(column, 0)).as_py() or 0 for column in quantities)
