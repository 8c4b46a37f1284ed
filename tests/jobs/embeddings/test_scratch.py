"""What a training writes aside: a full disk is said with the path, and nothing half written stays."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from feature_store import Table
from jobs.embeddings import pretrain_transe
from jobs.program import execute
from models.learning import training
from tests.jobs.embeddings.planted import write_config
from tests.jobs.embeddings.planted_nights import DATES, night


def test_a_full_disk_is_told_with_the_path_and_leaves_nothing(
    root: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    config = write_config(root)
    with monkeypatch.context() as patch:
        patch.setattr(training.os, "fsync", full)
        assert execute(pretrain_transe.run, ["--date", str(DATES[0]), "--config", str(config)]) == 1
    folder = root / "data/checkpoints/transe/_scratch"
    said = next(record.getMessage() for record in caplog.records if record.levelname == "ERROR")
    assert "DiskFull" in said and f"{folder}/{DATES[0]}.safetensors" in said and "Free space" in said
    assert list(folder.iterdir()) == []
    night(config, DATES[0])
    assert Table(str(root / "data/checkpoints/transe")).values() == [str(DATES[0])]


def test_scratch_of_dead_processes_is_swept_and_that_of_living_ones_stays(root: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    folder = root / "data/checkpoints/transe/_scratch"
    folder.mkdir(parents=True)
    gone, alive, state = (
        folder / f"2026-01-0{day}.safetensors{end}"
        for day, end in ((1, f".tmp-{dead.pid}"), (2, f".tmp-{os.getpid()}"), (3, ""))
    )
    for path in (gone, alive, state):
        path.write_bytes(b"half")
    night(write_config(root), DATES[0])
    assert sorted(folder.iterdir()) == [alive, state]
