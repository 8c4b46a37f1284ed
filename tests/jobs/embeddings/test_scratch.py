"""What a training writes aside: a full disk is said with the path, and nothing half written stays."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from feature_store import Table
from jobs.embeddings import pretrain_transe
from jobs.program import FINAL, execute
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


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def of_no_run(path: Path) -> None:
    """Whole, and of this training, but not what a training saves."""
    _, facts = training.from_bytes(path.read_bytes())
    name = facts["fingerprint"].removeprefix(training._SNAPSHOT_FORM)
    training.Snapshot(path, name).save({"state.entities": np.zeros((3, 2), np.float32)}, {"run": "{}"})


def killed(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("spoil", "found"), [
    (damaged, "holds arrays or numbers that were changed after they were written"),
    (truncated, "holds 100 bytes that are no readable safetensors checkpoint"),
    (of_no_run, "holds no run of this model"),
])  # fmt: skip
@pytest.mark.parametrize("warm", [False, True])
def test_a_state_that_cannot_be_gone_on_from_is_told_by_its_file(
    spoil: Callable[[Path], None], found: str, warm: bool, root: Path, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """And not by the predecessor's checkpoint, which is whole."""
    config, date = write_config(root), DATES[1] if warm else DATES[0]
    if warm:
        night(config, DATES[0])
    base = ["--date", str(date), "--config", str(config), "--predecessor", str(DATES[0]) if warm else "none"]
    with monkeypatch.context() as patch:  # killed before its commit
        patch.setattr(pretrain_transe.Tonight, "commit", killed)
        with pytest.raises(KeyboardInterrupt):
            execute(pretrain_transe.run, base)
    state = root / f"data/checkpoints/transe/_scratch/{date}.safetensors"
    spoil(state)
    caplog.clear()
    assert execute(pretrain_transe.run, base) == FINAL
    said = next(record.getMessage() for record in caplog.records if record.levelname == "ERROR")
    assert str(state) in said and found in said and "Delete the file: training then begins anew." in said
    assert "Read were" not in said and "\n" not in said
    state.unlink()
    assert execute(pretrain_transe.run, base) == 0
