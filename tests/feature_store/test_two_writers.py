"""Two writers of one partition on an object store, of whom one sleeps: its lease passes on, and its commit fails."""

import itertools
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from feature_store import Commit, Table, object_store, prune
from feature_store.disk import open_disk
from feature_store.errors import LockHeld, LockLost, PartitionMissing, StorageRefused
from feature_store.lease_lock import LeaseLock, Seen, Version
from feature_store.tree import DataRoot
from tests.feature_store.samples import embeddings, names_in, publish
from tests.s3_server import S3Server

DATE = "2026-01-05"
LEASE_SECONDS = 0.3


@pytest.fixture
def open_table(bucket: str, s3_server: S3Server) -> Callable[[], Table]:
    """The same table, for as many writers as one wants."""
    return lambda: Table(f"{bucket}/t", filesystem=s3_server.storage(lease_seconds=LEASE_SECONDS))


@pytest.fixture
def asleep(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """From the call on, nothing renews the leases of who has one: as when its process is stopped."""
    sleeping, renew = threading.Event(), LeaseLock._replace

    def unless_asleep(lock: LeaseLock, said: dict) -> Version | None:
        if sleeping.is_set() and "free" not in said:
            raise OSError(5, "asleep")
        return renew(lock, said)

    monkeypatch.setattr(LeaseLock, "_replace", unless_asleep)
    yield sleeping.set
    sleeping.clear()


def _begun(table: Table, number: int) -> tuple[AbstractContextManager[Commit], Commit]:
    writing = table.replace(DATE, wait_seconds=5)
    commit = writing.__enter__()
    commit.write_table(embeddings(number), sorted_by=["user_id"])
    return writing, commit


@pytest.mark.parametrize("old", [False, True], ids=["first publish", "re-publish"])
def test_a_writer_that_wakes_after_another_has_published_commits_nothing(
    open_table: Callable[[], Table], asleep: Callable[[], None], old: bool
) -> None:
    sleeper, other = open_table(), open_table()
    if old:
        publish(other, DATE, embeddings(0))
    writing, commit = _begun(sleeper, 1)
    asleep()
    publish(other, DATE, embeddings(2))
    with pytest.raises(LockLost, match="put by another writer while this one was held up"):
        writing.__exit__(None, None, None)
    assert other.read(DATE).equals(embeddings(2)) and other.verify(DATE) == [] and other.orphans(DATE) == []
    assert not any(other.disk.exists(f"{other.path(DATE)}/{file.name}") for file in commit.files)


@pytest.mark.parametrize("old", [False, True], ids=["first publish", "re-publish"])
def test_a_writer_that_wakes_while_another_is_in_the_midst_commits_nothing(
    open_table: Callable[[], Table], asleep: Callable[[], None], old: bool
) -> None:
    """Its files were taken for orphans by then: a manifest of its would name what is gone."""
    sleeper, other = open_table(), open_table()
    if old:
        publish(other, DATE, embeddings(0))
    first, _ = _begun(sleeper, 1)
    asleep()
    second, _ = _begun(other, 2)
    with pytest.raises(LockLost):
        first.__exit__(None, None, None)
    if old:
        assert other.read(DATE).equals(embeddings(0))
    else:
        assert other.values() == [] and other.manifest(DATE) is None
        with pytest.raises(PartitionMissing):
            other.read(DATE)
    second.__exit__(None, None, None)
    assert other.read(DATE).equals(embeddings(2)) and other.verify(DATE) == [] and other.orphans(DATE) == []


def test_a_writer_that_wakes_to_the_manifest_that_it_began_with_commits_nothing(
    open_table: Callable[[], Table], asleep: Callable[[], None]
) -> None:
    """Another published and rolled back meanwhile: the same content, and yet not the same object."""
    sleeper, other = open_table(), open_table()
    publish(other, DATE, embeddings(0))
    before = other.manifest(DATE)
    writing, _ = _begun(sleeper, 1)
    asleep()
    publish(other, DATE, embeddings(2))
    other.rollback(DATE)
    assert other.manifest(DATE).hash == before.hash
    with pytest.raises(LockLost):
        writing.__exit__(None, None, None)
    assert other.read(DATE).equals(embeddings(0)) and other.verify(DATE) == []
    other.rollback(DATE)
    assert other.read(DATE).equals(embeddings(2)) and other.verify(DATE) == []


def test_a_sleeper_that_was_about_to_clean_up_deletes_nothing_of_another(
    open_table: Callable[[], Table], asleep: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has committed, and sleeps before it deletes what it takes for leftovers: the files of who publishes now."""
    sleeper, other = open_table(), open_table()
    publish(other, DATE, embeddings(0))
    begun: list[AbstractContextManager[Commit]] = []
    listing = type(sleeper.disk).list

    def list_late(disk: object_store.ObjectStore, folder: str) -> list:
        manifest = sleeper.manifest(DATE)
        if not begun and disk is sleeper.disk and manifest.fields.get("by") == "sleeper":
            begun.append(None)
            asleep()
            begun[0] = _begun(other, 2)[0]
        return listing(disk, folder)

    other.disk = object_store.ObjectStore(sleeper.disk.bucket, sleeper.disk.root, sleeper.disk.storage)
    other.disk.has_conditions = True
    monkeypatch.setattr(object_store.ObjectStore, "list", list_late)
    publish(sleeper, DATE, embeddings(1), by="sleeper")
    begun[0].__exit__(None, None, None)
    assert other.read(DATE).equals(embeddings(2)) and other.verify(DATE) == [] and other.orphans(DATE) == []
    assert len(other.versions(DATE)) == 1
    other.rollback(DATE)
    assert other.read(DATE).equals(embeddings(1)) and other.verify(DATE) == []


def test_a_prune_that_wakes_deletes_no_newer_version(
    open_table: Callable[[], Table], asleep: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    table, other = open_table(), open_table()
    for date in (DATE, "2026-02-05"):
        publish(table, date, embeddings(0))
    root = DataRoot(table.uri.removesuffix("/t"), table.disk)
    (candidate,) = prune.plan(root, {"t": 3})
    withdraw = object_store.ObjectStore.withdraw

    def late(disk: object_store.ObjectStore, path: str, version: Version) -> None:
        monkeypatch.undo()
        publish(other, DATE, embeddings(1))
        withdraw(disk, path, version)

    monkeypatch.setattr(object_store.ObjectStore, "withdraw", late)
    monkeypatch.setattr(LeaseLock, "_renew", lambda _: None)
    with pytest.raises(LockLost):
        prune.delete(root, candidate)
    assert other.read(DATE).equals(embeddings(1)) and other.verify(DATE) == []


def test_a_lease_that_is_renewed_is_not_taken_however_long_its_writer_takes(bucket: str, s3_server: S3Server) -> None:
    table = Table(f"{bucket}/t", filesystem=s3_server.storage(lease_seconds=1.0))
    writing, _ = _begun(table, 1)
    with pytest.raises(LockHeld, match=r"held by process \d+ on .*free 1 s later"):
        with table.replace(DATE, wait_seconds=2.5):
            pytest.fail("two writers at once")
    writing.__exit__(None, None, None)
    assert table.read(DATE).equals(embeddings(1))


def test_a_stopped_process_that_goes_on_says_who_took_its_place(bucket: str, s3_server: S3Server) -> None:
    table = Table(f"{bucket}/t", filesystem=s3_server.storage(lease_seconds=LEASE_SECONDS))
    command = [sys.executable, "-m", "tests.feature_store.writers", "slowly", table.uri, str(LEASE_SECONDS)]
    repository = Path(__file__).parents[2]
    writer = subprocess.Popen(command, cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert writer.stdout.readline() == "written\n"
        writer.send_signal(signal.SIGSTOP)
        publish(table, DATE, embeddings(2))
        writer.send_signal(signal.SIGCONT)
        _, said = writer.communicate(timeout=60)
    finally:
        writer.kill()
        writer.wait(20)
    assert writer.returncode == 1 and "LockLost" in said
    assert table.read(DATE).equals(embeddings(2)) and table.verify(DATE) == [] and names_in(table, DATE) >= {"part"}


class Memory:
    """Objects of a server that keeps them in memory, and of which an answer can be lost."""

    has_conditions = True

    def __init__(self) -> None:
        self.objects: dict[str, Seen] = {}
        self.puts = 0
        self.loses: Callable[[], bool] = lambda: False

    def look(self, path: str) -> Seen | None:
        return self.objects.get(path)

    def put_if(self, path: str, content: bytes, version: Version | None) -> Version | None:
        there = self.objects.get(path)
        if (there.version if there else None) != version:
            return None
        self.puts += 1
        self.objects[path] = Seen(content, {"e_tag": str(self.puts)})
        if self.loses():
            raise OSError(5, "the answer is lost")
        return self.objects[path].version


class Stopwatch:
    """Time that passes when somebody sleeps."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def _lock(objects: Memory, watch: Stopwatch, wait_seconds: float = 100.0, length: float = 30.0) -> LeaseLock:
    return LeaseLock(objects, "x/_lock", wait_seconds, length, watch, watch.sleep)


def test_a_dead_writers_lease_is_taken_after_its_own_length_by_the_waiters_stopwatch() -> None:
    objects, watch = Memory(), Stopwatch()
    watch.now = 1e9  # of another machine, whose clock says nothing here
    assert _lock(objects, watch)._acquire()
    watch.now = 5.0
    second = _lock(objects, watch, length=7.0)
    assert second._acquire() and 35.0 <= watch.now < 36.0, "the dead one's 30 s, not the waiter's 7"
    assert second._number == 2
    with pytest.raises(LockHeld, match="waited 3 s"):
        _lock(objects, watch, wait_seconds=3.0)._acquire()


def test_a_server_that_says_each_time_that_another_was_first_is_not_asked_for_ever(
    bucket: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects, watch = Memory(), Stopwatch()
    objects.put_if = lambda *_: None
    with pytest.raises(StorageRefused, match="refused 100 conditional puts of x/_lock .*use a server that has them"):
        _lock(objects, watch)._acquire()
    disk, path = open_disk(f"{bucket}/t/_manifest.json", s3_server.storage(timeout_seconds=59.0))
    monkeypatch.setattr(disk, "put_if", lambda *_: None)
    with pytest.raises(StorageRefused, match=r"refused 100 conditional puts of s3://.*/_manifest\.json"):
        disk.fence(path)


@pytest.mark.parametrize("kept", [(), ("create",), ("replace",)])
def test_a_server_that_ignores_conditions_is_refused_with_the_first_lease(kept: tuple[str, ...]) -> None:
    """It would let two writers overwrite each other, and nobody would know."""
    objects, watch = Memory(), Stopwatch()
    objects.has_conditions = False
    put_if = objects.put_if

    def careless(path: str, content: bytes, version: Version | None) -> Version | None:
        there = objects.objects.get(path)
        holds = ("create" if version is None else "replace") in kept
        return put_if(path, content, version if holds else there and there.version)

    objects.put_if = careless
    with pytest.raises(StorageRefused, match="ignores the conditions of a put .*Use a server that keeps them"):
        _lock(objects, watch).__enter__()
    objects.put_if = put_if
    with _lock(objects, watch):
        assert objects.has_conditions


@pytest.mark.parametrize("failing", [2, 3, 4])
@pytest.mark.parametrize("arrives", [False, True])
def test_a_lease_is_let_go_if_the_check_of_conditions_cannot_be_made(failing: int, arrives: bool) -> None:
    objects, watch, puts = Memory(), Stopwatch(), itertools.count(1)
    objects.has_conditions = False
    put_if = objects.put_if

    def breaking(*put: Any) -> Version | None:
        breaks = next(puts) == failing
        version = None if breaks and not arrives else put_if(*put)
        if breaks:
            raise OSError(5, "no connection")
        return version

    objects.put_if = breaking
    with pytest.raises(OSError, match="no connection"):
        _lock(objects, watch).__enter__()
    assert not objects.has_conditions, "of which a part alone was seen"
    with _lock(objects, watch, wait_seconds=0.0):
        assert watch.now == 0.0, "nobody waits for it to run out"


def test_a_renewal_whose_answer_was_lost_is_no_loss_of_the_lease() -> None:
    objects, watch = Memory(), Stopwatch()
    lock = _lock(objects, watch)
    lock._version = lock._acquire()
    objects.loses = lambda: True
    with pytest.raises(OSError):
        lock._replace(lock._said() | {"renewals": 1})
    objects.loses = lambda: False
    assert lock._replace(lock._said() | {"renewals": 2}) and lock.check() is None
    assert _lock(objects, watch)._acquire() and lock._replace(lock._said()) is None
    with pytest.raises(LockLost, match="taken over by process"):
        lock.check()


def test_a_clock_that_is_wrong_by_an_hour_is_refused_and_its_leases_hold_all_the_same(
    open_table: Callable[[], Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    import datetime

    publish(open_table(), DATE, embeddings(0))
    for hours, said in ((1, r"clock is 3\d{3} s ahead of that of s3://"), (-1, r"clock is 3\d{3} s behind")):
        right = datetime.datetime.now(datetime.UTC)
        monkeypatch.setattr(object_store, "utc_now", lambda: right + datetime.timedelta(hours=hours))  # noqa: B023
        with pytest.raises(StorageRefused, match=f"{said}.*unchanged. Set the clock"):
            publish(open_table(), DATE, embeddings(1))
        assert open_table().read(DATE).equals(embeddings(0))
    monkeypatch.undo()
    publish(open_table(), DATE, embeddings(2))
