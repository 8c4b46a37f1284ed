"""Rows go out of a partition of several files, a file at a time."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from feature_store import Table, erasure
from feature_store.erasure import Erased, Rows
from tests.feature_store.samples import embeddings

D = "2026-01-05"


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """A partition of three files."""
    table, rows = Table(str(tmp_path / "table")), embeddings(1)
    with table.replace(D) as commit:
        for start, end in ((0, 12), (12, 24), (24, rows.num_rows)):
            commit.write_table(rows.slice(start, end - start), sorted_by=["user_id"])
    return table


def rows_of(users: pa.Array, seen: list[int]) -> Rows:
    """seen: gets how many rows were looked at together."""

    def marks(rows: pa.Table) -> pa.Array:
        seen.append(rows.num_rows)
        return pc.is_in(rows.column("user_id"), value_set=users).combine_chunks()

    return Rows(["user_id"], marks)


def files_of(table: Table) -> list[int]:
    """How many rows each has."""
    return [pq.ParquetFile(path).metadata.num_rows for path in table.files(D)]


def test_no_more_than_a_file_is_in_memory(table: Table) -> None:
    before, seen = table.read(D), []
    gone = before.column("user_id").combine_chunks().take([3, 30])
    assert erasure.erase(table, D, rows_of(gone, seen)) == Erased(2, 0)
    assert max(seen) == 12 < before.num_rows
    assert files_of(table) == [11, 12, 7]
    assert table.read(D).equals(before.filter(pc.invert(pc.is_in(before.column("user_id"), value_set=gone))))
    assert table.verify(D) == []
    assert table.existing_manifest(D).sorted_by == ("user_id",)


def test_a_file_whose_rows_all_go_is_gone(table: Table) -> None:
    before = table.read(D)
    erasure.erase(table, D, rows_of(before.column("user_id").combine_chunks().slice(0, 12), []))
    assert files_of(table) == [12, before.num_rows - 24]
    assert table.read(D).equals(before.slice(12))


def test_a_table_of_which_all_goes_keeps_its_columns(table: Table) -> None:
    before = table.read(D)
    erasure.erase(table, D, rows_of(before.column("user_id").combine_chunks(), []))
    assert files_of(table) == [0]
    assert table.read(D).equals(before.slice(0, 0))
