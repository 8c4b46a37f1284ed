"""Files of one source whose columns differ in type, order or number, as several engines write them; and columns that
stand in the names of folders."""

from __future__ import annotations

import datetime
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.configuration.sections import SourceTable
from jobs.events.folders import folder_columns, folder_values
from jobs.events.places import find_files
from jobs.events.read_events import read_events
from jobs.events.read_source import read_entities
from jobs.program import JobError
from tests.jobs.events.night import Sandbox

AT = datetime.datetime(2026, 1, 7, 12)
BIG = 2**40


def log_of(ids: list, **more) -> pd.DataFrame:
    when = pd.Timestamp(AT, tz="UTC")
    return pd.DataFrame({"user_id": ids, "item_id": "i", "behavior": "view", "event_time": when} | more)


def read(path: Path, spark, **settings) -> list:
    source = SourceTable(str(path), **settings)
    rows = read_events(spark, source, find_files(source.path, source.format)).collect()
    return sorted(rows, key=lambda row: (row.source_file, row.row_number))


def write(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def test_whole_numbers_of_every_width_are_one_column(tmp_path: Path, spark) -> None:
    """int32 first, which Spark would read the others as."""
    kinds = [pa.int32(), pa.int64(), pa.int8(), pa.uint16(), pa.uint32(), pa.uint64(), pa.decimal128(20, 0)]
    for n, kind in enumerate(kinds):
        ids = pa.array([7, BIG if kind in (pa.int64(), pa.uint64()) else 8], pa.int64()).cast(kind)
        table = pa.Table.from_pandas(log_of([0, 0])).set_column(0, "user_id", ids)
        write(tmp_path / f"log/{n}.parquet", table)
    rows = read(tmp_path / "log", spark)
    assert [row.user_id for row in rows] == [
        "7", "8", "7", str(BIG), "7", "8", "7", "8", "7", "8", "7", str(BIG), "7", "8"]
    assert [(row.source_file, row.row_number) for row in rows][:3] == [
        ("0.parquet", 1), ("0.parquet", 2), ("1.parquet", 1)]
    frame = read_entities(spark, SourceTable(str(tmp_path / "log")), "user_id")
    assert {row.user_id for row in frame.collect()} == {"7", "8", str(BIG)}


def test_texts_of_every_encoding_and_writer_are_one_column(tmp_path: Path, spark) -> None:
    frame = log_of(["00a", "é"])
    folder = tmp_path / "log"
    folder.mkdir()
    frame.to_parquet(folder / "pandas.parquet")
    frame.astype({"user_id": "category"}).to_parquet(folder / "pandas category.parquet")
    pl.from_pandas(frame).write_parquet(folder / "polars.parquet")
    categories = pl.from_pandas(frame).with_columns(pl.col("user_id").cast(pl.Categorical))
    categories.write_parquet(folder / "polars categories.parquet")
    duckdb.from_arrow(pa.Table.from_pandas(frame)).write_parquet(str(folder / "duckdb.parquet"))
    spark.createDataFrame(frame).coalesce(1).write.parquet(str(folder / "spark"))
    for kind in (pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.large_string())):
        table = pa.Table.from_pandas(frame)
        write(folder / f"{kind}.parquet".replace("/", "").replace("<", "").replace(":", ""),
              table.set_column(0, "user_id", table.column("user_id").cast(kind)))
    (folder / "fewer").mkdir()
    rows = read(folder, spark)
    assert len(rows) == 18 and {row.user_id for row in rows} == {"00a", "é"}
    assert {row.event_time for row in rows} == {AT}


def test_columns_of_nulls_and_other_orders_fit_anything(tmp_path: Path, spark) -> None:
    """As pandas and Polars write a column in which there is nothing."""
    values = {"a": [None, None], "b": [1, 2], "c": [1.5, None], "d": ["3", None]}
    for name, column in values.items():
        frame = log_of(["u", "v"], value=pd.Series(column, dtype=object))
        if name == "c":
            frame = frame[["value", "event_time", "behavior", "item_id", "user_id"]]
        write(tmp_path / f"log/{name}.parquet", pa.Table.from_pandas(frame, preserve_index=False))
    assert pq.read_schema(tmp_path / "log/a.parquet").field("value").type == pa.null()
    (tmp_path / "log/d.parquet").unlink()  # a text beside numbers: below
    assert [row.value for row in read(tmp_path / "log", spark)] == [None, None, 1.0, 2.0, 1.5, None]


@pytest.mark.parametrize(("one", "other"), [
    (pa.array([1]), pa.array(["1"])), (pa.array(["1"]), pa.array([1], pa.int32())), (pa.array(["1"]), pa.array([1.0]))])
def test_numbers_beside_texts_stay_refused(one: pa.Array, other: pa.Array, tmp_path: Path, spark) -> None:
    table = pa.Table.from_pandas(log_of(["u"]))
    for name, ids in (("a", one), ("b", other)):
        write(tmp_path / f"log/{name}.parquet", table.set_column(0, "user_id", ids))
    with pytest.raises(JobError, match=r"b.parquet: column 'user_id'.* is of type .*"):
        read(tmp_path / "log", spark)
    with pytest.raises(JobError, match=r"b.parquet: column 'user_id' is of type .*, in .*a.parquet of type .*alike"):
        read_entities(spark, SourceTable(str(tmp_path / "log")), "item_id")


def test_a_required_column_of_nulls_alone_is_refused(tmp_path: Path, spark) -> None:
    write(tmp_path / "a.parquet", pa.Table.from_pandas(log_of([None])))
    with pytest.raises(JobError, match="'user_id'.*holds nothing but nulls"):
        read(tmp_path / "a.parquet", spark)


def test_lists_and_decimals_of_catalogues_widen_too(tmp_path: Path, spark) -> None:
    tables = [
        pa.table({"item_id": ["1"], "sizes": pa.array([[1]], pa.list_(pa.int32())),
                  "price": pa.array([1], pa.decimal128(4, 2))}),
        pa.table({"price": pa.array([12345], pa.decimal128(10, 4)), "item_id": ["2"],
                  "sizes": pa.array([[BIG]], pa.large_list(pa.int64()))})]
    for n, table in enumerate(tables):
        write(tmp_path / f"{n}.parquet", table)
    rows = {row.item_id: (row.sizes, float(row.price)) for row in read_entities(
        spark, SourceTable(str(tmp_path)), "item_id").collect()}
    assert rows == {"1": ([1], 1.0), "2": ([BIG], 12345.0)}


FOLDERS = ("behavior=view/day=2026-01-07", "behavior=add%2Fto 100%25+é/day=2026-01-08")


@pytest.mark.parametrize("format", ["parquet", "csv", "jsonl"])
def test_folders_carry_columns(format: str, tmp_path: Path, spark) -> None:
    for n, folder in enumerate(FOLDERS):
        frame = pl.DataFrame({"user_id": [f"u{n}"], "item_id": ["i"], "brand": ["b"]})
        path = tmp_path / "lake" / folder / f"part.{format}"
        path.parent.mkdir(parents=True)
        {"parquet": frame.write_parquet, "csv": frame.write_csv, "jsonl": frame.write_ndjson}[format](path)
    rows = read(tmp_path / "lake", spark, format=format, columns={"event_time": "day"})
    assert [(row.behavior, row.event_time.day, row.user_id) for row in sorted(rows, key=lambda row: row.user_id)] == [
        ("view", 7, "u0"), ("add/to 100%+é", 8, "u1")]
    source = SourceTable(str(tmp_path / "lake"), format)
    found = read_entities(spark, source, "user_id").select("user_id", "behavior", "day").collect()
    assert {tuple(row) for row in found} == {
        ("u0", "view", "2026-01-07"), ("u1", "add/to 100%+é", "2026-01-08")}


def test_folders_as_spark_and_polars_write_them(tmp_path: Path, spark) -> None:
    frame = log_of(["u", "v", "w"], kind=["a=b", None, "../x"])
    spark.createDataFrame(frame).write.partitionBy("kind").parquet(str(tmp_path / "spark"))
    pl.from_pandas(frame.fillna("none")).write_parquet(tmp_path / "polars", partition_by=["kind"])
    for engine, nothing in (("spark", None), ("polars", "none")):
        rows = read(tmp_path / engine, spark, columns={"behavior": "kind"})
        assert {row.user_id: row.behavior for row in rows} == {"u": "a=b", "v": nothing, "w": "../x"}, engine


def test_a_column_of_the_file_goes_before_one_of_its_folder(tmp_path: Path, spark) -> None:
    write(tmp_path / "behavior=other/a.parquet", pa.Table.from_pandas(log_of(["u"])))
    assert [row.behavior for row in read(tmp_path / "behavior=other", spark)] == ["view"]
    assert folder_values("/x/a=1/a=2/b=__HIVE_DEFAULT_PARTITION__/f") == {"a": "2", "b": None}
    assert folder_columns(["/x/a=1/b=2/f", "/x/a=2/f"]) == ["a"] and folder_columns([]) == []


def test_a_folder_that_only_some_files_lie_in_is_no_column(tmp_path: Path, spark) -> None:
    table = pa.Table.from_pandas(log_of(["u"]).drop(columns="behavior"), preserve_index=False)
    for place in ("lake/behavior=view", "lake/else"):
        write(tmp_path / place / "a.parquet", table)
    with pytest.raises(JobError, match="no column 'behavior'"):
        read(tmp_path / "lake", spark)


def test_a_night_of_a_partitioned_source(sandbox: Sandbox) -> None:
    for day in range(6, 11):
        table = pa.table({"user_id": ["u"], "item_id": pa.array([1], pa.int32() if day % 2 else pa.int64()),
                          "behavior": ["view"]})
        write(sandbox.folder / f"lake/event_time=2026-01-{day:02d}/part.parquet", table)
    sandbox.source["path"] = "lake"
    figures = sandbox.run()
    assert (figures["rows_out"], figures["rows_rejected"]) == (5, 0)
    assert {row["event_time"].hour for row in sandbox.clean()} == {23}
    names = [file["name"] for file in sandbox.manifests()["2026-01-07"].fields["sources"]]
    assert names == ["event_time=2026-01-07/part.parquet"]
