"""A table that has columns of its own takes no others, whoever writes them, and keeps what it had."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store import Segments, Table
from feature_store.columns import described
from feature_store.errors import StoreError
from tests.feature_store.samples import names_in, publish

DATE = "2026-01-05"
OURS = pa.schema([pa.field("user_id", pa.string(), nullable=False), pa.field("n", pa.int32())])
RIGHT = pa.table([["a", "b"], pa.array([1, None], pa.int32())], schema=OURS)
WRONG = {
    "nullability": RIGHT.cast(pa.schema([pa.field("user_id", pa.string()), OURS.field("n")])),
    "type": RIGHT.cast(OURS.set(1, pa.field("n", pa.int64()))),
    "order": RIGHT.select(["n", "user_id"]),
    "one more": RIGHT.append_column("more", [["x", "y"]]),
    "one less": RIGHT.select(["user_id"]),
}


def problem(found: pa.Schema) -> str | None:
    return None if described(found) == described(OURS) else f"found {described(found)}; expected {described(OURS)}"


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(str(tmp_path / "t"), schema_problem=problem)


def write(table: Table, rows: pa.Table) -> None:
    with table.replace(DATE) as commit:
        commit.write_table(rows)


def adopt(table: Table, rows: pa.Table) -> None:
    """As after an engine: the file lies there before the store sees it, and a right one before it."""
    with table.replace(DATE) as commit:
        pq.write_table(RIGHT, f"{commit.path}/part-0.parquet")
        pq.write_table(rows, f"{commit.path}/part-1.parquet")
        commit.adopt_new()


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("way", [write, adopt])
def test_other_columns_are_refused_and_the_partition_stays_as_it_was(table: Table, way, kind: str) -> None:
    publish(table, DATE, RIGHT)
    before = table.existing_manifest(DATE)
    place = f"{table.path(DATE)}{'/part-1.parquet' if way is adopt else ''}: found"
    with pytest.raises(StoreError, match="expected .'user_id: string not null', 'n: int32'.*unchanged") as refused:
        way(table, WRONG[kind])
    assert place in str(refused.value) and str(described(WRONG[kind].schema)) in str(refused.value)
    assert table.existing_manifest(DATE) == before and table.read(DATE).equals(RIGHT)
    assert names_in(table, DATE) == {"part", "_manifest.json", "_SUCCESS", "_lock"} and table.orphans(DATE) == []


@pytest.mark.parametrize("way", [write, adopt])
def test_its_own_columns_are_taken_and_metadata_does_not_count(table: Table, way) -> None:
    marked = OURS.set(1, OURS.field("n").with_metadata({"a": "b"})).with_metadata({"written": "elsewhere"})
    way(table, RIGHT.cast(marked))
    assert described(table.schema(DATE)) == described(OURS)


def test_a_ledger_refuses_them_too(tmp_path: Path) -> None:
    ledger = Segments(str(tmp_path / "ids"), schema_problem=problem)
    assert ledger.append(1, RIGHT)
    with pytest.raises(StoreError, match="segment 2 of .*expected"):
        ledger.append(2, WRONG["nullability"])
    assert ledger.read().equals(RIGHT)


def test_what_is_no_table_is_not_asked_for_columns(table: Table) -> None:
    with table.replace(DATE) as commit:
        commit.write_bytes(".json", b"{}")
    assert len(table.files(DATE)) == 1


def test_columns_are_told_apart_by_all_that_counts() -> None:
    element = pa.field("element", pa.float32(), nullable=False)
    kinds = [pa.string(), pa.large_string(), pa.list_(element), pa.list_(element, 4), pa.list_(element, 5)]
    kinds += [pa.list_(other, 4) for other in (element.with_nullable(True), element.with_name("item"))]
    kinds += [pa.timestamp(unit, zone) for unit in ("us", "ms") for zone in (None, "UTC", "+00:00")]
    told = {described(pa.schema([pa.field("x", kind, nullable)]))[0] for kind in kinds for nullable in (True, False)}
    assert len(told) == 2 * len(kinds)
    assert described(pa.schema([])) == []
