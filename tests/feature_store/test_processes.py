"""Real processes: killed at random times, reading while others publish, racing for a ledger's next number."""

import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest

from feature_store import Segments, Table
from feature_store.errors import LockHeld, PartitionMissing
from tests.feature_store.samples import names_in
from tests.feature_store.writers import DATE, publish_versions, version

REPOSITORY = Path(__file__).parents[2]


def _start(*arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.feature_store.writers", *arguments]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)


def _whole_version(rows: pa.Table) -> int:
    """The one version that the rows are, all of them."""
    (number,) = set(rows.column("version").to_pylist())
    assert rows.equals(version(number))
    return number


@pytest.mark.parametrize("seed", range(6))
def test_after_a_kill_at_a_random_time_readers_see_one_whole_version(tmp_path: Path, seed: int) -> None:
    table = Table(str(tmp_path / "user_embeddings" / "model=transe"))
    first = 0
    if seed % 3:  # mostly re-publishes
        publish_versions(table.uri, 0, 1)
        first = 1
    writer = _start("publish", table.uri, str(first), "1000")
    begun = [int(writer.stdout.readline()) for _ in range(1 + seed)]
    time.sleep(random.Random(seed).uniform(0.0, 0.04))
    writer.send_signal(signal.SIGKILL)
    writer.wait(20)
    begun += [int(line) for line in writer.stdout.read().split()]
    writer.stdout.close()
    try:
        seen = _whole_version(table.read(DATE))
    except PartitionMissing:
        assert first == 0 and len(begun) == 1
    else:
        assert seen in (begun[-1], begun[-1] - 1)
        assert table.verify(DATE) == []
    publish_versions(table.uri, 5000, 1)  # the kernel has freed the dead writer's lock
    assert _whole_version(table.read(DATE)) == 5000
    assert table.orphans(DATE) == [] and table.verify(DATE) == [] and len(table.versions(DATE)) <= 1
    assert names_in(table, DATE) - {"_retired"} == {"part", "_manifest.json", "_SUCCESS", "_lock"}


def test_a_reader_looping_through_fifty_republishes_sees_whole_versions_in_order(tmp_path: Path) -> None:
    table = Table(str(tmp_path / "t"))
    publish_versions(table.uri, 0, 1)
    seen, failed, done = [], [], threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                seen.append(_whole_version(table.read(DATE)))
        except BaseException as error:
            failed.append(error)
            raise

    reader = threading.Thread(target=read)
    writer = _start("publish", table.uri, "1", "50")
    reader.start()
    try:
        assert writer.wait(60) == 0
    finally:
        done.set()
        reader.join(20)
        writer.stdout.close()
    assert not failed and seen == sorted(seen) and len(set(seen)) > 5
    assert _whole_version(table.read(DATE)) == 50 and table.orphans(DATE) == []


def test_a_second_process_is_told_which_process_holds_the_date(tmp_path: Path) -> None:
    table = Table(str(tmp_path / "t"))
    writer = _start("publish", table.uri, "0", "1000000")
    try:
        writer.stdout.readline()
        writer.send_signal(signal.SIGSTOP)
        with pytest.raises(LockHeld, match=rf"held by process {writer.pid} on .* since .*writers.py publish"):
            with table.replace(DATE, wait_seconds=0.2):
                pytest.fail("two writers at once")
    finally:
        writer.kill()
        writer.wait(20)
        writer.stdout.close()
    publish_versions(table.uri, 1, 1)


def test_two_processes_racing_for_a_ledger_give_no_id_twice(tmp_path: Path) -> None:
    ledger, start = Segments(str(tmp_path / "entity_ids" / "user")), str(tmp_path / "start")
    racers = [_start("ledger", ledger.uri, start, name, "25") for name in ("a", "b")]
    deadline = time.monotonic() + 60
    while not all(Path(start + name).exists() for name in ("a", "b")) and time.monotonic() < deadline:
        time.sleep(0.005)
    Path(start).touch()
    for racer in racers:
        assert racer.wait(60) == 0
        racer.stdout.close()
    rows = ledger.read()
    assert rows.column("id").to_pylist() == list(range(100))
    given = [f"{name}-{number}-{half}" for name in "ab" for number in range(25) for half in "ab"]
    assert sorted(rows.column("raw").to_pylist()) == sorted(given)
    assert ledger.next_number() == 51 and ledger.verify() == []
    assert {entry.name.split("-")[0] for entry in ledger.disk.list(ledger.uri)} == {"segment"}
