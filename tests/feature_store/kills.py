"""Publishers that are killed, one after the other, while readers read: what the readers saw is counted and checked."""

import contextlib
import multiprocessing
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable

import pyarrow as pa

from feature_store import Table
from tests.feature_store.writers import DATE, publish_versions, version

LEASE_SECONDS = 0.5
_PATIENCE_SECONDS = 60.0
Read = Callable[[], pa.Table]


def kill_publishers(table: Table, kills: int, readers: dict[str, Read], seed: int = 0) -> Counter[str]:
    """`kills` times: a process that publishes one version after the other gets a SIGKILL at a random time. `readers`
    loop meanwhile, each checked: one whole version, and never one before that which it saw last. How often each read,
    and how many versions were seen. AssertionError."""
    publish_versions(table.uri, 0, 1, LEASE_SECONDS)
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.feature_store.writers"])
    done, counted, failed = threading.Event(), Counter[str](), []
    loops = ((name, read, done, counted, failed) for name, read in readers.items())
    threads = [threading.Thread(target=_loop, args=loop) for loop in loops]
    for thread in threads:
        thread.start()
    chance = random.Random(seed)
    try:
        for _ in range(kills):
            before = _seen(table)
            process = processes.Process(target=_publish_quietly, args=(table.uri, before + 5))
            process.start()
            _wait(lambda before=before: _seen(table) > before or bool(failed))
            time.sleep(chance.uniform(0.0, 0.3))
            process.kill()
            process.join(20)
            assert not failed, failed
    finally:
        done.set()
        for thread in threads:
            thread.join(60)
    assert not failed, failed
    return counted


def _publish_quietly(uri: str, first: int) -> None:
    sys.stdout = open(os.devnull, "w")
    publish_versions(uri, first, 1_000_000, LEASE_SECONDS)


def whole_version(rows: pa.Table) -> int:
    """The one version that the rows are, all of them."""
    (number,) = set(rows.column("version").to_pylist())
    assert rows.equals(version(number)), f"rows that are not version {number}'s"
    return number


def _seen(table: Table) -> int:
    return whole_version(table.read(DATE))


def _wait(until: Callable[[], bool]) -> None:
    end = time.monotonic() + _PATIENCE_SECONDS
    while not until():
        assert time.monotonic() < end, "nothing was published"


def _loop(name: str, read: Read, done: threading.Event, counted: Counter[str], failed: list[BaseException]) -> None:
    last = -1
    try:
        while not done.is_set():
            with contextlib.suppress(FileNotFoundError):  # of an engine that was given the paths; ours starts over
                number = whole_version(read())
                assert number >= last, f"{number} after {last}"
                counted[name] += 1
                counted[f"{name}: versions"] += number != last
                last = number
    except BaseException as error:
        failed.append(error)
