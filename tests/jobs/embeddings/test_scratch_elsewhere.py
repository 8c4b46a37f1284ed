"""A training whose checkpoints are on another disk than the one it writes its state on."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import pytest

from jobs.embeddings.scratch import mirrored
from tests.jobs.elsewhere import Elsewhere


def _replaced(path: Path, content: bytes) -> None:
    """As a snapshot is saved."""
    beside = path.with_name("beside")
    beside.write_bytes(content)
    os.replace(beside, path)


def test_its_state_is_put_there_while_it_runs_and_gone_on_from(tmp_path: Path) -> None:
    disk, place = Elsewhere(), f"{tmp_path}/checkpoints/m/_scratch/2026-01-05.safetensors"
    with mirrored(disk, place, 0.01) as path:
        assert not path.exists() and not disk.exists(place)
        _replaced(path, b"first")
        deadline = time.monotonic() + 30
        while not disk.exists(place) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert disk.read_bytes(place) == b"first"
    with pytest.raises(KeyboardInterrupt), mirrored(disk, place, 600) as path:  # killed before the next look
        assert path.read_bytes() == b"first"
        _replaced(path, b"second")
        raise KeyboardInterrupt
    with mirrored(disk, place, 600) as path:
        assert path.read_bytes() == b"second"
    assert not path.exists(), "nothing stays on this machine"


def test_a_store_that_refuses_stops_no_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(5, "no answer", "s3://b/x")

    disk = Elsewhere()
    monkeypatch.setattr(disk, "put_atomic", refuse, raising=False)
    with caplog.at_level(logging.WARNING), mirrored(disk, f"{tmp_path}/x", 600) as path:
        path.write_bytes(b"state")
    assert "The state of the training could not be kept" in caplog.text
