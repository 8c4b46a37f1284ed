"""Row groups that are read side by side are the rows that one thread reads, and one chunk a column."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store import Table, row_groups, rows
from feature_store.commit import LOOKED_UP_ROWS
from feature_store.errors import DataDamaged
from feature_store.view import as_matrix
from tests.feature_store.places import Place, at

DATE, USERS = "2026-01-05", 2 * LOOKED_UP_ROWS + 100


def _vectors(numbers: np.ndarray, size: int, mask: np.ndarray | None = None) -> pa.Array:
    kind, nulls = pa.list_(pa.float32(), size), None if mask is None else pa.array(mask)
    return pa.FixedSizeListArray.from_arrays(pa.array(numbers), type=kind, mask=nulls)


@pytest.fixture
def users() -> pa.Table:
    chance = np.random.default_rng(0)
    small = pa.FixedSizeListArray.from_arrays(pa.array(chance.integers(0, 9, 2 * USERS), pa.int16()), 2)
    names = ["user_id", "embedding", "n_events", "small", "seen"]
    ids = pa.array([f"user-{number:06d}" for number in range(USERS)])
    events = pa.array([None if number % 7 == 0 else number for number in range(USERS)], pa.int32())
    seen = pa.array(np.arange(USERS), pa.int64()).cast(pa.timestamp("us", "UTC"))
    vectors = _vectors(chance.standard_normal(3 * USERS, dtype=np.float32), 3)
    return pa.table([ids, vectors, events, small, seen], names=names)


def _published(place: Place, users: pa.Table) -> Table:
    table = Table(str(place / "t"))
    with table.replace(DATE) as commit:
        commit.write_table(users, sorted_by=["user_id"])
    return table


@pytest.mark.parametrize("columns", [None, ["embedding"], ["n_events", "user_id"], ["seen", "small"]])
def test_the_rows_are_those_that_arrow_reads_in_one_chunk(
    place: Place, users: pa.Table, columns: list[str] | None
) -> None:
    table = _published(place, users)
    (path,) = table.files(DATE)
    with table.disk.open(path) as source:
        plain = pq.ParquetFile(source)
        assert plain.metadata.num_row_groups == 3
        assert set(row_groups._vectors(plain.metadata.schema.to_arrow_schema(), columns)) == (
            {"embedding", "small"} & set(columns or plain.schema_arrow.names))
        expected = plain.read(columns)
    found = table.read(DATE, columns)
    assert found.equals(expected, check_metadata=True) and found.column_names == expected.column_names
    assert found.equals(users.select(expected.column_names))
    assert all(column.num_chunks == 1 for column in found.columns)


def test_without_columns_there_are_as_many_rows(place: Place, users: pa.Table) -> None:
    assert _published(place, users).read(DATE, []).shape == (USERS, 0)


def test_a_matrix_is_a_view_of_the_rows(place: Place, users: pa.Table) -> None:
    found = _published(place, users).read(DATE)
    numbers = found.column("embedding").chunk(0).values.to_numpy()
    assert np.shares_memory(as_matrix(found.column("embedding")), numbers)


def test_every_thread_has_its_row_groups(place: Place, users: pa.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer threads than row groups, and more."""
    table = _published(place, users)
    for threads in (1, 2, 5):
        monkeypatch.setattr(row_groups, "_THREADS", threads)
        assert table.read(DATE).equals(users)


@pytest.mark.parametrize("whole", [True, False], ids=["a vector", "a number in one"])
def test_vectors_with_nulls_are_read_as_they_are(place: Place, users: pa.Table, whole: bool) -> None:
    numbers, mask = users.column("embedding").chunk(0).values, np.zeros(USERS, bool)
    if whole:
        mask[-1] = True
        holed = _vectors(numbers.to_numpy(), 3, mask)
    else:
        some = pa.concat_arrays([numbers[:-1], pa.nulls(1, pa.float32())])
        holed = pa.FixedSizeListArray.from_arrays(some, type=pa.list_(pa.float32(), 3))
    holed = users.set_column(1, "embedding", holed)
    assert _published(place, holed).read(DATE).equals(holed)


def test_damage_in_any_row_group_is_found_and_a_file_that_goes_is_missed(
    place: Place, users: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = _published(place, users)
    (path,) = table.files(DATE)
    whole = at(path).read_bytes()
    for group in range(3):
        column = pq.ParquetFile(pa.BufferReader(whole)).metadata.row_group(group).column(1)
        middle = column.data_page_offset + column.total_compressed_size // 2
        at(path).write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        with pytest.raises(DataDamaged, match=f"of row group {group} does not fit its checksum"):
            table.read(DATE)
    at(path).write_bytes(whole)

    def gone(*_: object) -> None:
        at(path).unlink()
        raise FileNotFoundError(path)

    monkeypatch.setattr(rows, "read_side_by_side", gone)
    with pytest.raises(DataDamaged, match="is gone"):
        table.read(DATE)


def test_chunks_of_a_row_group_follow_each_other() -> None:
    numbers = np.arange(15, dtype=np.float32)
    whole = np.empty((5, 3), np.float32)
    row_groups._put(pa.chunked_array([_vectors(numbers[:6], 3), _vectors(numbers[6:], 3)]), whole)
    assert (whole.ravel() == numbers).all()
