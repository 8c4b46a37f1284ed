"""The file from which a killed training goes on, beside the checkpoints of its model.

Training writes it on a local disk. Where the checkpoints are on another, it is put beside them whenever it was written
anew, so that a training that was moved to another machine goes on from it there.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from feature_store.disk import Disk, is_local
from feature_store.errors import StoreError, explain_os_errors
from jobs.embeddings.training import Tonight
from jobs.program import JobError, log
from models.learning.training import SnapshotError

LOOK_SECONDS = 5.0  # between the looks whether there is a new state


@contextlib.contextmanager
def scratch_of(tonight: Tonight) -> Iterator[Path]:
    """Where tonight's training keeps its state, while it trains; `forget` it when the checkpoint is committed.

    JobError where the file is damaged, or what was read does not fit the configuration's model.
    """
    disk, place = _place_of(tonight)
    keeping = _beside(place) if is_local(disk) else mirrored(disk, place)
    with explain_os_errors("training, which keeps its state", place), tonight.fitting(), keeping as path:
        try:
            yield path
        except SnapshotError as error:  # names the file itself, which is none of those that must fit together
            raise JobError(str(error)) from error


def forget(tonight: Tonight) -> None:
    """Nothing is to be gone on from any more."""
    disk, place = _place_of(tonight)
    with explain_os_errors("deleting a training's state", place, "The checkpoint is committed."):
        disk.delete(place)


def _place_of(tonight: Tonight) -> tuple[Disk, str]:
    table = tonight.tables.checkpoints.table(tonight.model)
    return table.disk, f"{table.uri}/_scratch/{tonight.dt}.safetensors"


@contextlib.contextmanager
def _beside(place: str) -> Iterator[Path]:
    path = Path(place)
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    yield path


def sweep(folder: Path) -> None:
    """Delete what processes that are gone left half written; a state that can be gone on from stays."""
    for path in folder.glob("*.tmp-*"):
        pid = path.name.rpartition("-")[2]
        if pid.isdecimal() and not Path(f"/proc/{pid}").exists():
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def mirrored(disk: Disk, place: str, look_seconds: float = LOOK_SECONDS) -> Iterator[Path]:
    """A local file that begins as what lies at `place`, and is put there while the block runs, and at its end."""
    with tempfile.TemporaryDirectory(prefix="nocturne-") as folder:
        path = Path(folder, place.rpartition("/")[2])
        with contextlib.suppress(FileNotFoundError):
            path.write_bytes(disk.read_bytes(place))
        mirror = _Mirror(disk, place, path)
        over = threading.Event()
        keeper = threading.Thread(target=mirror.keep, args=(over, look_seconds), name="scratch", daemon=True)
        keeper.start()
        try:
            yield path
        finally:
            over.set()
            keeper.join()
            mirror.put()


class _Mirror:
    """What was put last, told by the file itself: it is replaced as a whole."""

    def __init__(self, disk: Disk, place: str, path: Path) -> None:
        self._disk, self._place, self._path = disk, place, path
        self._seen = self._look()

    def keep(self, over: threading.Event, look_seconds: float) -> None:
        while not over.wait(look_seconds):
            self.put()

    def put(self) -> None:
        """A store that refuses stops no training for that: it would begin anew, were it killed."""
        now = self._look()
        if now is None or now == self._seen:
            return
        try:
            self._disk.make_folder(self._place.rpartition("/")[0])
            self._disk.put_atomic(self._place, self._path.read_bytes())
            self._seen = now
        except (StoreError, OSError) as error:
            log.warning("The state of the training could not be kept at %s: %s", self._place, error)

    def _look(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns
