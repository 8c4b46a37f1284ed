"""Ten thousand files in a folder: seconds, and the second time none of them is opened."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.configuration.sections import SourceTable
from jobs.events import fingerprint
from jobs.events.files import statuses
from jobs.events.fingerprint import fingerprints_now, require_unchanged
from jobs.events.places import find_files
from jobs.events.read_events import check_parquet_columns, read_events

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MANY = 10_000
COLUMNS = {"user_id": "u", "item_id": "i", "behavior": "view", "event_time": "2026-01-05T10:00:00Z"}


def _files(folder: Path, ending: str, content: bytes) -> list[str]:
    for n in range(MANY):
        (folder / f"{n:05d}{ending}").write_bytes(content)
    return find_files(str(folder), {".csv": "csv", ".parquet": "parquet"}[ending])


def test_their_fingerprints_and_columns_take_seconds_and_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([COLUMNS]), sink)
    files, started = _files(tmp_path, ".parquet", sink.getvalue()), time.process_time()
    assert len(files) == MANY
    prints = fingerprints_now(files, "parquet", {})
    check_parquet_columns(files, {name: name for name in COLUMNS})
    before = statuses(files)
    monkeypatch.setattr(fingerprint, "check_whole", None)  # nobody may call it
    assert fingerprints_now(files, "parquet", {one["name"]: one for one in prints}) == prints
    require_unchanged(before)
    assert time.process_time() - started < 60


def test_spark_reads_their_rows(tmp_path: Path, spark: SparkSession) -> None:
    files = _files(tmp_path, ".csv", f"{','.join(COLUMNS)}\n{','.join(COLUMNS.values())}\n".encode())
    rows = read_events(spark, SourceTable(str(tmp_path), "csv"), files)
    assert rows.where("problem is null and event_time is not null").count() == MANY
