"""Erasure: what crashes and killed nights left goes too, and a night that begins meanwhile brings nobody back."""

from __future__ import annotations

import datetime
import multiprocessing
import os
import random
import shutil
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store import Leases, Segments
from feature_store.local_disk import LocalDisk
from jobs import erase_users
from jobs.program import FAILED
from tests.jobs.erasing import (
    GONE,
    NEXT,
    SOME,
    STAYS,
    D,
    commit,
    erase,
    files_of,
    fill,
    names_left,
    table_of,
)  # fmt: skip

KILLS = int(os.environ.get("KILLS", "8"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Some tables."""
    fill(tmp_path, SOME)
    return tmp_path


@pytest.mark.parametrize("holds_him", [True, False])
def test_what_a_crash_left_beside_a_committed_version_goes(root: Path, holds_him: bool) -> None:
    """Its own crash too, between the commit and the cleaning up."""
    table = commit(root, "audiences", NEXT, [GONE if holds_him else STAYS])
    commit(root, "audiences", NEXT, ["user-3"])
    orphan = Path(table.path(NEXT), "part-00000-crashed.parquet")
    unfinished = Path(table.path(NEXT), "_retired", "000009-crashed")
    unfinished.mkdir()
    for path in (orphan, unfinished / "part-00000-crashed.parquet.retired"):
        pq.write_table(pa.table({"user_id": [GONE]}), path)
    assert erase(root) == 0 and names_left(root) == []
    assert not orphan.exists() and not unfinished.exists()
    assert len(table.versions(NEXT)) == (0 if holds_him else 1)


def test_a_replaced_version_that_has_no_manifest_yet_goes(root: Path) -> None:
    table = commit(root, "audiences", NEXT, [STAYS])
    unfinished = Path(table.path(NEXT), "_retired", "000009-crashed")
    unfinished.mkdir(parents=True)
    pq.write_table(pa.table({"user_id": [GONE]}), unfinished / "part-00000-crashed.parquet.retired")
    assert erase(root) == 0 and names_left(root) == []
    assert not unfinished.exists()


def test_a_replaced_version_that_cannot_be_read_may_hold_him(root: Path) -> None:
    table = commit(root, "audiences", NEXT, [STAYS])
    commit(root, "audiences", NEXT, ["user-3"])
    (old,) = Path(table.path(NEXT), "_retired").rglob("*.parquet.retired")
    old.write_bytes(b"PAR?")
    assert erase(root) == 0
    assert table.versions(NEXT) == [] and table.read(NEXT).column("user_id").to_pylist() == ["user-3"]


def test_a_folder_with_replaced_versions_alone_goes(root: Path) -> None:
    table = commit(root, "audiences", NEXT, [GONE])
    commit(root, "audiences", NEXT, ["user-3"])
    for path in [path for path in Path(table.path(NEXT)).iterdir() if path.is_file()]:
        path.unlink()
    assert erase(root) == 0 and names_left(root) == []


def test_what_killed_nights_worked_in_goes(root: Path) -> None:
    folders = [root / "data/clean_events/_staging/dt=2026-01-09", root / "data/entity_ids/_scratch-1"]
    for folder in folders:
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"user_id": [GONE]}), folder / "part.parquet")
    assert erase(root) == 0 and names_left(root) == []
    assert not any(folder.exists() for folder in folders)


def test_what_a_living_run_works_in_stays(root: Path) -> None:
    """Its locks tell it."""
    staged, scratch = root / "data/clean_events/_staging/dt=2026-01-09", root / "data/entity_ids/_scratch-1"
    for folder in (staged, scratch, root / "data/rejected_events/dt=2026-01-09"):
        folder.mkdir(parents=True)
    disk = LocalDisk()
    with disk.lock(f"{root}/data/rejected_events/dt=2026-01-09/_lock", 0), disk.lock(f"{scratch}.lock", 0):
        assert erase(root) == 0
        assert staged.exists() and scratch.exists()
    assert erase(root) == 0
    assert not staged.exists() and not scratch.exists()


def test_of_two_at_a_time_the_second_does_nothing(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    before, folder = files_of(root), root / "data" / "erasures"
    folder.mkdir()
    with LocalDisk().lock(f"{folder}/_lock", 0):
        assert erase(root) == FAILED and "erasures" in caplog.text
    assert files_of(root) == before
    assert erase(root) == 0 and names_left(root) == []


def test_a_night_that_begins_meanwhile_leaves_the_number_for_the_next_run(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases, pages = Leases(str(root / "data" / "nights")), erase_users.write_reports_again

    def begun(*given: Any) -> list[Any]:
        leases.write(NEXT, datetime.timedelta(hours=1))
        commit(root, "interactions", NEXT, [GONE])
        return pages(*given)

    monkeypatch.setattr(erase_users, "write_reports_again", begun)
    assert erase(root) == FAILED
    monkeypatch.undo()
    leases.end(NEXT)
    assert erase(root) == 0
    assert table_of(root, "interactions").read(NEXT).num_rows == 0
    assert Segments(str(root / "data/entity_ids/user")).read().column("raw").to_pylist()[1] == "\0erased 1"


def test_it_is_killed_at_any_time_and_the_next_run_goes_on(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    processes, chance, killed = multiprocessing.get_context("forkserver"), random.Random(0), 0
    processes.set_forkserver_preload(["tests.jobs.erasing"])

    def begun() -> tuple[Path, BaseProcess]:
        copy = tmp_path_factory.mktemp("killed")
        shutil.copytree(root, copy, dirs_exist_ok=True)
        process = processes.Process(target=erase, args=(copy,))
        process.start()
        return copy, process

    begun()[1].join()  # the server that forks starts as well
    process, start = begun()[1], time.monotonic()
    process.join()
    seconds = time.monotonic() - start
    for _ in range(KILLS):
        copy, process = begun()
        process.join(chance.uniform(0.0, seconds))
        process.kill()
        process.join(20)
        killed += process.exitcode == -signal.SIGKILL
        for name in SOME:  # whole: of him or without him, with everybody else
            assert table_of(copy, name).read(D).num_rows in (2, 3) and table_of(copy, name).verify(D) == []
        assert erase(copy) == 0 and names_left(copy) == []
        assert all(table_of(copy, name).read(D).num_rows == 2 for name in SOME)
        ledger = Segments(str(copy / "data/entity_ids/user"))
        assert ledger.read().column("raw").to_pylist() == [STAYS, "\0erased 1", "user-3"] and ledger.verify() == []
    assert killed >= KILLS // 3
