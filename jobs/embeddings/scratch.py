"""The file from which a killed training goes on, beside the checkpoints of its model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from feature_store.errors import explain_os_errors
from jobs.embeddings.training import Tonight
from jobs.program import JobError
from models.learning.training import SnapshotError


@contextlib.contextmanager
def scratch_of(tonight: Tonight) -> Iterator[Path]:
    """Where tonight's training keeps its state, while it trains; remove the file when the checkpoint is committed.

    JobError where the file is damaged, or what was read does not fit the configuration's model.
    """
    folder = Path(tonight.tables.checkpoints.table(tonight.model).path(tonight.dt)).parent / "_scratch"
    path = folder / f"{tonight.dt}.safetensors"
    with explain_os_errors("training, which keeps its state", str(path)), tonight.fitting():
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        try:
            yield path
        except SnapshotError as error:  # names the file itself, which is none of those that must fit together
            raise JobError(str(error)) from error


def sweep(folder: Path) -> None:
    """Delete what processes that are gone left half written; a state that can be gone on from stays."""
    for path in folder.glob("*.tmp-*"):
        pid = path.name.rpartition("-")[2]
        if pid.isdecimal() and not Path(f"/proc/{pid}").exists():
            path.unlink(missing_ok=True)
