"""Guarantee 1, broken on purpose: a publish fails or stops at every one of its calls in turn."""

import errno
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store import Segments, Table
from feature_store.errors import CannotWrite, DiskFull, PartitionMissing, StoreError
from tests.feature_store.faulty import FaultyOs, Stopped
from tests.feature_store.samples import embeddings, names_in, publish

DATE = "2026-01-05"
OLD, NEW, NEXT = embeddings(1), embeddings(2), embeddings(3)


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    FaultyOs().install(monkeypatch)


def _fresh(root: Path, name: str, old: bool) -> Table:
    table = Table(str(root / name))
    if old:
        publish(table, DATE, embeddings(0))
        publish(table, DATE, OLD)
    return table


def _calls_of_a_publish(root: Path, old: bool) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        table = _fresh(root, "counted", old)
        faulty = FaultyOs().install(patch)
        publish(table, DATE, NEW)
        return faulty.calls


def _check_afterwards(table: Table, old: bool, where: str) -> None:
    try:
        seen = table.read(DATE)
    except PartitionMissing:
        assert not old, where
    else:
        assert seen.equals(NEW) or (old and seen.equals(OLD)), where
        assert table.verify(DATE) == [], where
    publish(table, DATE, NEXT)
    assert table.read(DATE).equals(NEXT), where
    assert table.orphans(DATE) == [], where
    assert names_in(table, DATE) - {"_retired"} == {"part", "_manifest.json", "_SUCCESS", "_lock"}, where
    assert len(table.versions(DATE)) <= 1 and table.verify(DATE) == [], where
    if old:
        table.rollback(DATE)
        back = table.read(DATE)
        assert (back.equals(OLD) or back.equals(NEW)) and table.verify(DATE) == [], where


@pytest.mark.parametrize("old", [False, True], ids=["first publish", "re-publish"])
@pytest.mark.parametrize("kind", ["stop_at", "fail_at"])
def test_a_publish_that_breaks_at_any_call_leaves_old_or_new(tmp_path: Path, old: bool, kind: str) -> None:
    calls = _calls_of_a_publish(tmp_path, old)
    assert {"open", "write", "fsync", "replace", "mkdir", "pwrite"} <= set(calls) and (not old or "unlink" in calls)
    seen_old = seen_new = 0
    for number, name in enumerate(calls, 1):
        table = _fresh(tmp_path, f"{kind}-{number}", old)
        with pytest.MonkeyPatch.context() as patch:
            FaultyOs(**{kind: number}).install(patch)
            with pytest.raises(Stopped if kind == "stop_at" else StoreError):
                publish(table, DATE, NEW)
        manifest = table.manifest(DATE)
        is_new = manifest is not None and table.read(DATE).equals(NEW)
        seen_old, seen_new = seen_old + (not is_new), seen_new + is_new
        _check_afterwards(table, old, f"{kind} {number}: {name}")
    assert seen_old > 10 and seen_new >= 3  # both sides of the commit were reached


@pytest.mark.parametrize("kind", ["stop_at", "fail_at"])
def test_a_rollback_that_breaks_at_any_call_leaves_one_whole_version(tmp_path: Path, kind: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        table = _fresh(tmp_path, "counted", True)
        calls = FaultyOs().install(patch)
        table.rollback(DATE)
    for number in range(1, len(calls.calls) + 1):
        table = _fresh(tmp_path, f"{kind}-{number}", True)
        with pytest.MonkeyPatch.context() as patch:
            FaultyOs(**{kind: number}).install(patch)
            with pytest.raises(Stopped if kind == "stop_at" else StoreError):
                table.rollback(DATE)
        seen = table.read(DATE)
        assert seen.equals(OLD) or seen.equals(embeddings(0)), number
        assert table.verify(DATE) == []
        publish(table, DATE, NEXT)
        assert table.orphans(DATE) == [] and len(table.versions(DATE)) == 1


def test_a_full_disk_is_one_clear_error_and_the_old_version_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = _fresh(tmp_path, "t", True)
    before = table.manifest(DATE)
    with monkeypatch.context() as patch:
        FaultyOs(fails=lambda name, _: name == "write", error=errno.ENOSPC).install(patch)
        with pytest.raises(DiskFull, match="No space left while writing rows at .*unchanged.*prune"):
            publish(table, DATE, NEW)
    assert table.manifest(DATE) == before and table.read(DATE).equals(OLD) and table.orphans(DATE) == []


def test_a_disk_that_fills_up_at_the_manifest_leaves_the_old_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = _fresh(tmp_path, "t", True)
    with monkeypatch.context() as patch:
        patch.setattr(table.disk, "put_atomic", _no_space)
        with pytest.raises(DiskFull):
            publish(table, DATE, NEW)
    assert table.read(DATE).equals(OLD) and table.orphans(DATE) == []


def _no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("old", [False, True])
def test_a_read_only_root_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bool) -> None:
    table = _fresh(tmp_path, "t", old)
    writes = {"mkdir", "replace", "link", "unlink", "ftruncate"}

    def refused(name: str, arguments: tuple) -> bool:
        return name in writes or (name == "open" and bool(arguments[1] & (os.O_CREAT | os.O_WRONLY | os.O_RDWR)))

    with monkeypatch.context() as patch:
        FaultyOs(fails=refused, error=errno.EROFS).install(patch)
        with pytest.raises(CannotWrite, match="Read-only file system while .*Mount the data root writable"):
            publish(table, DATE, NEW)
        assert (table.read(DATE).equals(OLD)) if old else table.values() == []


@pytest.mark.parametrize("kind", ["stop_at", "fail_at"])
def test_a_ledger_append_that_breaks_at_any_call_is_whole_or_absent(tmp_path: Path, kind: str) -> None:
    rows = pa.table({"id": pa.array([1, 2]), "raw": ["a", "b"]})
    with pytest.MonkeyPatch.context() as patch:
        calls = FaultyOs().install(patch)
        Segments(str(tmp_path / "counted")).append(1, rows)
    for number in range(1, len(calls.calls) + 1):
        ledger = Segments(str(tmp_path / f"{kind}-{number}"))
        with pytest.MonkeyPatch.context() as patch:
            FaultyOs(**{kind: number}).install(patch)
            with pytest.raises(Stopped if kind == "stop_at" else StoreError):
                ledger.append(1, rows)
        assert ledger.read() is None or ledger.read().equals(rows)
        assert ledger.append(ledger.next_number(), rows)
        assert [entry.name for entry in ledger.disk.list(ledger.uri) if entry.name.startswith(".tmp-")] == []


def _last(events: list[tuple[str, str]], event: tuple[str, str], before: int) -> int:
    return max(position for position, one in enumerate(events[:before]) if one == event)


def test_bytes_and_names_of_all_files_are_durable_when_the_manifest_is_put(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = _fresh(tmp_path, "t", True)
    folder = table.path(DATE)
    faulty = FaultyOs().install(monkeypatch)
    publish(table, DATE, NEW)
    events, put = faulty.events, faulty.events.index(("replace", f"{folder}/_manifest.json"))
    (data,) = table.files(DATE)
    assert _last(events, ("write", data), put) < _last(events, ("fsync", data), put)
    assert events.index(("create", data)) < _last(events, ("fsync", folder), put)
    ((position, kept),) = [(position, path) for position, (name, path) in enumerate(events) if name == "link"]
    version = str(Path(kept).parent)
    kept_as_version = events.index(("replace", f"{version}/_manifest.json"))
    assert position < _last(events, ("fsync", version), kept_as_version) < put
    old = [position for position, (name, path) in enumerate(events) if name == "unlink" and path.endswith(".parquet")]
    assert old and events.index(("fsync", folder), put) < min(old)


def test_a_segment_and_its_name_are_durable_when_append_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, faulty = Segments(str(tmp_path / "ids")), FaultyOs().install(monkeypatch)
    assert ledger.append(1, pa.table({"id": [1]}))
    link = faulty.events.index(("link", f"{ledger.uri}/segment-00000001.parquet"))
    assert faulty.events[link - 1][0] == "fsync" and ("fsync", ledger.uri) in faulty.events[link:]


def test_files_that_an_engine_wrote_are_made_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, faulty = _fresh(tmp_path, "t", False), FaultyOs().install(monkeypatch)
    with table.replace(DATE) as commit:
        pq.write_table(NEW, f"{commit.path}/part-0.parquet")
        commit.adopt_new()
    assert ("fsync", table.files(DATE)[0]) in faulty.events and table.read(DATE).equals(NEW)


def test_files_of_a_crashed_publish_are_not_adopted_by_the_next(tmp_path: Path) -> None:
    table = _fresh(tmp_path, "t", True)
    pq.write_table(embeddings(5), f"{table.path(DATE)}/part-crashed.parquet")
    with table.replace(DATE) as commit:
        pq.write_table(NEW, f"{commit.path}/part-0.parquet")
        commit.adopt_new()
    assert table.read(DATE).equals(NEW)


def test_what_a_manifest_names_is_durable_before_the_manifest_and_the_manifest_before_the_publish_returns(
    tmp_path: Path
) -> None:
    calls = _calls_of_a_publish(tmp_path, True)
    first_write, put = calls.index("write"), calls.index("replace")
    deleted = len(calls) - 1 - calls[::-1].index("unlink")
    data = calls.index("write", calls.index("pwrite"))  # after the lock's holder
    assert first_write == data and "fsync" in calls[data:put]
    for position in [i for i, name in enumerate(calls) if name == "replace"]:
        # the temporary; then its folder
        assert calls[position - 1] == "fsync" and calls[position + 1 : position + 3] == ["open", "fsync"]
    last_put = len(calls) - 1 - calls[::-1].index("replace")
    # kept, committed, and only then deleted
    assert calls.count("link") == 1 and calls.index("link") < last_put < deleted
