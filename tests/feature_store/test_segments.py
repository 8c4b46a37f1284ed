"""Ledgers: put if absent, never changed, never cut."""

import fcntl

import pyarrow as pa
import pytest

from feature_store import Segments
from feature_store.errors import DataDamaged, StoreError
from tests.feature_store.places import Place, at, on_disk

ROWS = pa.table({"id": pa.array([1], pa.int64()), "raw": ["a"]})


@pytest.fixture
def ledger(place: Place) -> Segments:
    return Segments(str(place / "entity_ids" / "user"))


def test_segments_are_read_in_order(ledger: Segments) -> None:
    assert ledger.read() is None and ledger.files() == [] and ledger.next_number() == 1
    for number in range(1, 12):
        assert ledger.append(number, pa.table({"id": [number]}))
    assert ledger.read().column("id").to_pylist() == list(range(1, 12))
    assert [at(path).name for path in ledger.files()][-2:] == ["segment-00000010.parquet", "segment-00000011.parquet"]


def test_a_taken_number_is_refused_and_what_was_there_stays(ledger: Segments, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ledger.append(1, ROWS)
    assert ledger.append(1, pa.table({"id": [9]})) is False
    monkeypatch.setattr(ledger, "next_number", lambda: 1)  # the other run commits after we looked
    assert ledger.append(1, pa.table({"id": [9]})) is False
    assert ledger.read().equals(ROWS)


def test_an_erasure_puts_as_many_rows_in_place_of_a_segments(ledger: Segments) -> None:
    others = pa.table({"id": pa.array([2], pa.int64()), "raw": ["b"]})
    ledger.append(1, ROWS)
    ledger.append(2, others)
    new = pa.table({"id": pa.array([1], pa.int64()), "raw": ["x"]})
    ledger.rewrite(1, new)
    assert ledger.read().equals(pa.concat_tables([new, others])) and ledger.verify() == []
    with pytest.raises(StoreError, match="2 rows in place of the 1 of .*segment-00000001"):
        ledger.rewrite(1, pa.concat_tables([new, new]))
    assert ledger.read().equals(pa.concat_tables([new, others]))


def test_no_number_is_left_out(ledger: Segments) -> None:
    with pytest.raises(StoreError, match="segment 2 .*which has 0. Expected 1"):
        ledger.append(2, ROWS)
    for number in (1, 2, 3):
        ledger.append(number, ROWS)
    at(ledger.files()[1]).unlink()
    with pytest.raises(DataDamaged, match=r"lacks \['segment-00000002.parquet'\]"):
        ledger.read()
    assert "segment-00000002" in ledger.verify()[0]


def test_a_damaged_segment_is_named(ledger: Segments) -> None:
    ledger.append(1, ROWS)
    path = at(ledger.files()[0])
    path.write_bytes(path.read_bytes()[:-5])
    assert str(path) in ledger.verify()[0] and "backup" in ledger.verify()[0]
    with pytest.raises(DataDamaged, match=f"{path.name} cannot be read.*backup"):
        ledger.read()


@on_disk
def test_no_changed_byte_of_a_segment_changes_what_is_read_unnoticed(ledger: Segments) -> None:
    ledger.append(1, pa.table({"id": pa.array(range(30), pa.int64()), "raw": [f"u{number}" for number in range(30)]}))
    path, expected = at(ledger.files()[0]), ledger.read()
    whole = path.read_bytes()
    found = 0
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        problems = ledger.verify()
        found += bool(problems)
        try:
            assert problems or ledger.read().equals(expected), position
        except DataDamaged as refused:
            assert path.name in str(refused)
    assert found > len(whole) / 2
    path.write_bytes(whole)
    assert ledger.verify() == []


@on_disk
def test_a_sweeper_between_a_temporary_and_its_lock_costs_nothing(
    ledger: Segments, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.append(1, ROWS)
    lock, swept = fcntl.flock, []

    def flock_too_late(descriptor: int, operation: int) -> None:
        if operation == fcntl.LOCK_EX and not swept:  # the writer's; another run appends just before it
            swept.extend(at(ledger.uri).glob(".tmp-*"))
            ledger.disk.remove_strays(ledger.uri)
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock_too_late)
    assert ledger.append(2, ROWS) and len(swept) == 1 and len(ledger.read()) == 2


@on_disk
def test_strays_of_dead_writers_go_and_those_of_living_ones_stay(ledger: Segments) -> None:
    ledger.append(1, ROWS)
    dead, alive = at(ledger.uri, ".tmp-dead"), at(ledger.uri, ".tmp-alive")
    dead.write_bytes(b"half")
    with alive.open("wb") as writing:
        fcntl.flock(writing, fcntl.LOCK_EX)
        ledger.append(2, ROWS)
        assert alive.exists() and not dead.exists()
    ledger.append(3, ROWS)
    assert not alive.exists()
