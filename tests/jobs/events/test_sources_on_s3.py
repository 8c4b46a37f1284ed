"""Sources on an S3 server: what a local disk gives, they give, in every format; what changes is found."""

from __future__ import annotations

import datetime
import gzip
import io
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store import known_stores
from feature_store.bucket import open_bucket
from jobs.configuration.sections import SourceTable
from jobs.events.files import statuses
from jobs.events.fingerprint import fingerprints_now, labels, require_unchanged
from jobs.events.lake_tables import files_of
from jobs.events.parquet_frames import FILE, ROW, load
from jobs.events.places import SourceError, find_files
from jobs.events.read_events import read_events
from jobs.events.read_source import read_entities
from jobs.program import MayPass
from jobs.spark import explained
from tests.s3_server import BUCKET, S3Server

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

T = datetime.datetime(2026, 1, 5, 10, 0, 0, 123456, datetime.UTC)


class Both:
    """The same files on a local disk and in a bucket."""

    def __init__(self, near: Path, far: str, server: S3Server) -> None:
        self.near, self.far, self.disk = near, far, open_bucket(far, server.storage())[0]
        known_stores.know(far, server.storage())

    def put(self, name: str, content: bytes) -> None:
        path = self.near / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.disk.put_atomic(f"{self.far}/{name}", content)

    def put_parquet(self, name: str, table: pa.Table, **options: Any) -> None:
        sink = io.BytesIO()
        pq.write_table(table, sink, **options)
        self.put(name, sink.getvalue())

    def same(self, name: str, read: Callable[[str], DataFrame]) -> list[Any]:
        """The rows that both give."""
        near, far = (read(f"{root}/{name}") for root in (self.near, self.far))
        near, far = (frame.select(sorted(f"`{c.replace('`', '``')}`" for c in frame.columns)) for frame in (near, far))
        assert [(f.name, f.dataType) for f in near.schema] == [(f.name, f.dataType) for f in far.schema]
        rows = [sorted(map(repr, frame.collect())) for frame in (near, far)]
        assert rows[0] == rows[1] and rows[0]
        return rows[1]


@pytest.fixture
def both(tmp_path: Path, s3_server: S3Server, spark: SparkSession) -> Both:
    spark.sparkContext.environment.update(s3_server.environment)  # of Spark's workers: it started before the server
    return Both(tmp_path / "source", f"s3://{BUCKET}/{tmp_path.name}/lake", s3_server)


def _kinds() -> pa.Table:
    """A column of each kind that engines write, with nulls."""
    n = 1000
    times = [None if i % 7 == 0 else T + datetime.timedelta(seconds=i * 1001) for i in range(n)]
    old = [datetime.datetime(1900, 1, 1) + datetime.timedelta(microseconds=i) for i in range(n)]
    numbers = np.arange(n)
    return pa.table({
        "large": pa.array([f"ü{i}" for i in range(n)], pa.large_string()),
        "coded": pa.array([f"c{i % 5}" for i in range(n)]).dictionary_encode(),
        "view": pa.array([f"v{i}" for i in range(n)], pa.string_view()),
        "small": pa.array(numbers % 100, pa.int8()), "unsigned": pa.array(numbers % 200, pa.uint8()),
        "wide": pa.array(numbers.astype(np.uint64) + 2**63), "float": pa.array(numbers / 3, pa.float32()),
        "instant": pa.array(times, pa.timestamp("us", "UTC")),
        "local": pa.array(old, pa.timestamp("us")), "nanos": pa.array(old, pa.timestamp("us")).cast(pa.timestamp("ns")),
        "nanos_instant": pa.array(times, pa.timestamp("us", "Asia/Tokyo")).cast(pa.timestamp("ns", "Asia/Tokyo")),
        "day": pa.array([t and t.date() for t in times], pa.date32()),
        "price": pa.array([Decimal(i) / 100 for i in range(n)], pa.decimal128(12, 2)),
        "yes": pa.array(numbers % 2 == 0), "raw": pa.array([b"\0\1"] * n, pa.binary()),
        "tags": pa.array([None if i % 5 == 0 else ["a", f"t{i}"] for i in range(n)], pa.large_list(pa.large_string())),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(2 * n, dtype=np.float32)), 2),
        "point": pa.array([{"x": i, "y": None if i % 2 else "s"} for i in range(n)]),
        "map": pa.array([[("k", i)] for i in range(n)], pa.map_(pa.string(), pa.int64())),
        "nothing": pa.nulls(n), "odd `name`": pa.array(numbers)})  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"use_deprecated_int96_timestamps": True}, {"store_schema": False}],
                         ids=["plain", "INT96", "without Arrow's schema"])  # fmt: skip
def test_every_kind_of_column_is_what_spark_reads_on_a_local_disk(
    both: Both, spark: SparkSession, options: dict[str, Any]
) -> None:
    table = _kinds()
    both.put_parquet("events/part=a%2Fb/one.parquet", table, row_group_size=300, **options)
    both.put_parquet("events/part=c/two.parquet", table.slice(10, 50).select(table.column_names[::-1]), **options)

    def read(path: str) -> DataFrame:
        files = find_files(path, "parquet")
        assert len(files) == 2
        return load(spark, files, all_columns=True).drop(FILE)

    assert len(both.same("events", read)) == 1050
    far = load(spark, find_files(f"{both.far}/events", "parquet"), all_columns=True)
    first = far.where(f"{ROW} = 301").collect()[0]
    assert first[FILE] == f"{both.far}/events/part=a%2Fb/one.parquet" and first["large"] == "ü300"
    assert first["part"] == "a/b"


def _event_rows() -> list[dict[str, Any]]:
    return [{"user_id": f"u{i % 7}", "item_id": f'i"{i}', "behavior": "view", "value": i / 4,
             "event_time": f"2026-01-{1 + i % 20:02d}T10:00:{i % 60:02d}+01:00"} for i in range(500)]  # fmt: skip


def _csv(rows: list[dict[str, Any]]) -> bytes:
    quoted = ['"' + str(value).replace('"', '""') + '"' for row in rows for value in row.values()]
    width = len(rows[0])
    lines = [",".join(rows[0]), *(",".join(quoted[n : n + width]) for n in range(0, len(quoted), width)), "a,b"]
    return "\r\n".join(lines).encode()


def test_events_of_every_format(both: Both, spark: SparkSession) -> None:
    rows = _event_rows()
    lines = "\n".join(json.dumps(row) for row in rows[:200]).encode() + b"\nnone\n"
    both.put("csv/a.csv", b"\xef\xbb\xbf" + _csv(rows))
    both.put("csv/more/b.csv.gz", gzip.compress(_csv(rows[:9])))
    both.put("csv/_hidden/c.csv", b"nothing")
    both.put("jsonl/day=1/a.jsonl", lines)
    both.put("jsonl/day=2/b.json.gz", gzip.compress(lines))
    both.put_parquet("parquet/a.parquet", pa.Table.from_pylist(rows))
    for format, expected in (("csv", 511), ("jsonl", 402), ("parquet", 500)):
        def read(path: str, format: str = format) -> DataFrame:
            source = SourceTable(path, format)
            return read_events(spark, source, files_of(source, "source.events"))

        found = both.same(format, read)
        told = {"csv": "more/b.csv.gz", "jsonl": "day=1/a.jsonl", "parquet": "a.parquet"}[format]
        assert len(found) == expected and told in "".join(found)


def test_catalogues_of_every_format(both: Both, spark: SparkSession) -> None:
    rows = [{"item_id": f"i{i}", "brand": f"b,{i % 3}\n", "price": i / 2, "tags": ["a", f"t{i}"]} for i in range(50)]
    both.put("items.csv", _csv([{k: v for k, v in row.items() if k != "tags"} for row in rows])[:-5])
    both.put("items.latin.csv", _csv([{"item_id": "ü", "brand": "é"}])[:-5].decode().encode("latin-1"))
    both.put("items/shop=x/a.jsonl", "\n".join(json.dumps(row) for row in rows).encode())
    both.put_parquet("items.parquet", pa.Table.from_pylist(rows))
    sources = {"items.csv": ("csv", "utf-8"), "items.latin.csv": ("csv", "latin-1"), "items": ("jsonl", "utf-8"),
               "items.parquet": ("parquet", "utf-8")}  # fmt: skip
    for name, (format, encoding) in sources.items():
        def read(path: str, format: str = format, encoding: str = encoding) -> DataFrame:
            return read_entities(spark, SourceTable(path, format, encoding=encoding), "item_id")

        both.same(name, read)


def test_globs_find_what_they_find_on_a_local_disk(both: Both) -> None:
    there = "a.csv", "b[1].csv", "deep/c.csv", "deep/er/d.csv", "_x.csv", "set.csv/part-0.csv", "set.csv/_SUCCESS"
    for name in there:
        both.put(name, b"user_id\n1\n")
    for path in ("*.csv", "**/*.csv", "deep", "b[1].csv", "[ab].csv", "deep/*/*.csv", "?.csv", "", "set.csv"):
        near, far = ([file.removeprefix(f"{root}/") for file in find_files(f"{root}/{path}".rstrip("/"), "csv")]
                     for root in (both.near, both.far))  # fmt: skip
        assert near == far and far, path
    with pytest.raises(SourceError, match="Nothing to read at s3://.*/x.csv"):
        find_files(f"{both.far}/x.csv", "csv")


def test_a_file_that_changes_or_goes_while_it_is_read_is_found(both: Both) -> None:
    for n in range(12):
        both.put(f"day/{n:02d}.csv", b"user_id\n1\n")
    files = find_files(f"{both.far}/day", "csv")
    before = statuses(files)
    prints = fingerprints_now(files, "csv", {})
    assert [one["name"] for one in prints] == [f"{n:02d}.csv" for n in range(12)] and "etag" in prints[0]
    require_unchanged(before)
    both.put("day/03.csv", b"user_id\n2\n")  # as many bytes
    with pytest.raises(MayPass, match="day/03.csv was changed while it was read"):
        require_unchanged(before)
    again = fingerprints_now(files, "csv", {one["name"]: one for one in prints})
    assert [a == b for a, b in zip(prints, again, strict=True)] == [n != 3 for n in range(12)]
    both.disk.delete(f"{both.far}/day/07.csv")
    with pytest.raises(MayPass, match="day/07.csv has gone while it was read"):
        require_unchanged(before)


def test_a_damaged_page_is_told_with_its_file(both: Both, spark: SparkSession) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"item_id": [f"i{n}" for n in range(5000)]}), sink, write_page_checksum=True)
    content = bytearray(sink.getvalue())
    content[2000] ^= 1
    both.put("items.parquet", bytes(content))
    path = f"{both.far}/items.parquet"
    with pytest.raises(SourceError, match=f"{path} is damaged") as error, explained("a test"):
        read_entities(spark, SourceTable(path), "item_id").collect()
    assert "\n" not in str(error.value)


def test_labels_are_what_they_are_on_a_local_disk(both: Both) -> None:
    for name in ("a/b.csv", "a/c/d.csv"):
        both.put(name, b"user_id\n1\n")
    found = [list(labels(find_files(f"{root}/a", "csv")).values()) for root in (both.near, both.far)]
    assert found[0] == found[1] == ["b.csv", "c/d.csv"]
