"""Tables that Spark's workers write and read through the store's own disk: the rows, the order and the content hash are
those that Spark's own files have."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from feature_store import Table
from feature_store.local_disk import LocalDisk
from jobs.contracts import Contract, Field
from jobs.events.staging import Staged
from jobs.program import JobError
from jobs.spark import explained, read, write
from jobs.spark_parts import write_parts
from tests.jobs.elsewhere import Elsewhere

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

DT = "2026-01-05"
CONTRACT = Contract(
    "seen", "dt",
    (Field("user_id", "string", ""), Field("day", "int32", ""), Field("time", "timestamp", ""),
     Field("value", "float32", "", nullable=True)), "", sorted_by=("user_id",))  # fmt: skip


def _rows(spark: SparkSession, count: int = 2000) -> DataFrame:
    from pyspark.sql import functions as F

    number = F.col("id")
    return spark.range(0, count, numPartitions=3).select(
        F.concat(F.lit("ü"), (number * 7919) % 1013).alias("user_id"), (number % 5).cast("int").alias("day"),
        F.timestamp_micros(number * 1_000_003).alias("time"),
        F.when(number % 3 > 0, number.cast("float") / 7).alias("value"))  # fmt: skip


def _published(spark: SparkSession, root: Path, disk: LocalDisk | Elsewhere, rows: DataFrame) -> Table:
    table = Table(str(root), filesystem=disk, schema_problem=CONTRACT.schema_problem)
    with table.replace(DT) as commit:
        write(rows, commit, CONTRACT)
    return table


def test_what_workers_write_is_what_spark_writes(spark: SparkSession, tmp_path: Path) -> None:
    rows = _rows(spark)
    plain = _published(spark, tmp_path / "plain", LocalDisk(), rows)
    spark.conf.set("spark.sql.adaptive.coalescePartitions.enabled", "false")
    try:
        parts = _published(spark, tmp_path / "parts", Elsewhere(), rows)
    finally:
        spark.conf.unset("spark.sql.adaptive.coalescePartitions.enabled")
    assert parts.existing_manifest(DT).content_hash == plain.existing_manifest(DT).content_hash
    assert len(parts.files(DT)) > 1 and parts.verify(DT) == []
    assert parts.read(DT).column("user_id").to_pylist() == sorted(plain.read(DT).column("user_id").to_pylist())


def test_what_workers_read_is_what_spark_reads(spark: SparkSession, tmp_path: Path) -> None:
    table = _published(spark, tmp_path, Elsewhere(), _rows(spark))
    plain, parts = (read(spark, disk, table.files(DT), CONTRACT) for disk in (LocalDisk(), Elsewhere()))
    assert [(f.name, f.dataType) for f in parts.schema] == [(f.name, f.dataType) for f in plain.schema]
    assert parts.exceptAll(plain).isEmpty() and parts.count() == 2000
    assert read(spark, Elsewhere(), [], CONTRACT).count() == 0


def test_no_rows_are_a_table_all_the_same(spark: SparkSession, tmp_path: Path) -> None:
    nothing = _rows(spark).where("day > 9")
    parts = _published(spark, tmp_path / "parts", Elsewhere(), nothing)
    plain = _published(spark, tmp_path / "plain", LocalDisk(), nothing)
    assert parts.existing_manifest(DT).content_hash == plain.existing_manifest(DT).content_hash
    assert parts.read(DT).schema.names == CONTRACT.columns


def test_a_null_that_the_contract_forbids_stops_the_job(spark: SparkSession, tmp_path: Path) -> None:
    rows = _rows(spark).selectExpr("user_id", "if(day = 4, null, day) as day", "time", "value")
    table = Table(str(tmp_path), filesystem=Elsewhere())
    with pytest.raises(JobError, match="Found a null in day of seen"), explained("a test"), table.replace(DT) as commit:
        write(rows, commit, CONTRACT)
    assert table.manifest(DT) is None and not table.unfinished()


def test_what_a_failed_try_left_is_not_published(spark: SparkSession, tmp_path: Path) -> None:
    table, rows = Table(str(tmp_path), filesystem=Elsewhere()), _rows(spark)
    with table.replace(DT) as commit:
        write_parts(rows.limit(10), commit.disk, commit.path, CONTRACT.arrow_schema())  # names of it nobody learns
        write(rows, commit, CONTRACT)
    assert table.read(DT).num_rows == 2000 and table.orphans(DT) == []


def test_days_are_written_aside_each_in_its_folder(spark: SparkSession, tmp_path: Path) -> None:
    rows = _rows(spark).selectExpr("user_id", "concat('2026-01-0', day + 1) as day", "time", "value")
    contract = Contract("seen", "day", tuple(f for f in CONTRACT.fields if f.name != "day"), "")
    expected = {day: rows.where(f"day = '{day}'").count() for day in ("2026-01-01", "2026-01-05")}
    in_order = rows.repartition(2, "day").sortWithinPartitions("day", "user_id", "time")
    found = {}
    for name, disk in (("plain", LocalDisk()), ("parts", Elsewhere())):
        days = Staged(disk, str(tmp_path / name))
        days.write(in_order, contract)
        assert days.count() == 2000 and len(days.all_files()) == 5
        found[name] = {day: pa.concat_tables(map(days.rows, days.files(day))) for day in expected}
        assert {day: table.num_rows for day, table in found[name].items()} == expected
        assert days.files("2026-02-01") == []
    assert found["plain"]["2026-01-05"].cast(contract.arrow_schema()).equals(found["parts"]["2026-01-05"])
    first = found["parts"]["2026-01-01"].column("time")[0].as_py()
    assert first == datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
