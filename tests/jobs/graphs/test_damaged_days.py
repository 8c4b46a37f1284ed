"""Days and ledgers that Spark reads: a changed bit is refused, never read as other events."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store import Table
from feature_store.errors import DataDamaged
from feature_store.local_disk import LocalDisk
from jobs.graphs.ledgers import Snapshot
from jobs.graphs.window import open_window
from jobs.program import Input
from jobs.spark import read
from jobs.tables import TABLES

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DAY = "2026-01-04"


def _flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_a_changed_page_header_or_footer_of_a_day_is_refused(tmp_path: Path) -> None:
    days = Input("clean_events", str(tmp_path / "clean_events"))
    with Table(days.location(), key="day").replace(DAY) as commit:
        commit.write_table(pa.table({"user_id": ["u"]}))
    (path,) = map(Path, days.table().files(DAY))
    content = path.read_bytes()
    for position in (pq.read_metadata(path).row_group(0).column(0).dictionary_page_offset, len(content) - 20):
        _flip(path, position)
        with pytest.raises(DataDamaged, match=path.name):
            open_window(days, datetime.date(2026, 1, 5), 1)
        path.write_bytes(content)
    assert open_window(days, datetime.date(2026, 1, 5), 1).rows == 1


def test_spark_checks_the_pages(tmp_path: Path, spark: SparkSession) -> None:
    table, contract = Table(str(tmp_path / "entity_ids")), TABLES["entity_ids"]
    ids = pa.table([pa.array(range(2000)), pa.array([f"u{n:05d}" for n in range(2000)])], contract.arrow_schema())
    with table.replace(DAY) as commit:
        commit.write_table(ids, sorted_by=["id"])
    (path,) = map(Path, table.files(DAY))
    content, column = path.read_bytes(), pq.read_metadata(path).row_group(0).column(1)
    assert read(spark, LocalDisk(), [str(path)], contract).distinct().count() == 2000
    for position in range(column.data_page_offset + 100, column.data_page_offset + 1000, 300):
        _flip(path, position)
        with pytest.raises(Exception, match="CRC|corrupted page"):
            read(spark, LocalDisk(), [str(path)], contract).distinct().count()
        path.write_bytes(content)


def test_a_changed_ledger_is_refused(tmp_path: Path) -> None:
    segments = Input("entity_ids", str(tmp_path / "entity_ids")).segments("user")
    segments.append(1, pa.table([pa.array([0]), pa.array(["u"])], TABLES["entity_ids"].arrow_schema()))
    (path,) = map(Path, segments.files())
    assert Snapshot.of(segments).size == 1
    _flip(path, pq.read_metadata(path).row_group(0).column(1).dictionary_page_offset + 30)
    with pytest.raises(DataDamaged, match=path.name):
        Snapshot.of(segments)
