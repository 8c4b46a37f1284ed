"""What every training loop here shares: checkpoints as safetensors bytes, early stopping, a snapshot to resume from.

Nothing here knows where a checkpoint is stored: `to_bytes` and `from_bytes` turn named arrays into one block of bytes
and back, and the caller commits them. The one file this module writes is a `Snapshot`, a scratch file that lets a
killed training go on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as _load_tensors
from safetensors.numpy import save as _save_tensors

LEAST_HELD_OUT = 30  # of fewer a look's error is some half of its figure (TransE's MRR), so that none tells of a gain
_HEADER_LENGTH_BYTES = 8
_SNAPSHOT_FORM = "2:"  # before a snapshot's fingerprint: files of another form are of another training


class CheckpointError(ValueError):
    """The bytes given are no checkpoint of this project, or not one that fits what is being trained."""


class SnapshotError(CheckpointError):
    """A file to go on from cannot be gone on from: which, what was found, what was expected, what to do."""


def to_bytes(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> bytes:
    """Serialise named arrays and string metadata as safetensors; equal inputs give equal bytes.

    The metadata travels as one canonical JSON string, since the safetensors library writes a `__metadata__` of several
    keys in an order that changes from process to process, and a checkpoint's checksum must not.

    Raises CheckpointError for an array that safetensors cannot hold (strings, objects) or a metadata value that is no
    string.
    """
    checked = {name: np.ascontiguousarray(array) for name, array in sorted(arrays.items())}
    for name, array in checked.items():
        if array.dtype.kind not in "biuf":
            raise CheckpointError(f"checkpoint array {name!r} has dtype {array.dtype}; expected numbers or booleans")
    for key, value in (metadata or {}).items():
        if not isinstance(value, str):
            raise CheckpointError(f"checkpoint metadata {key!r} is a {type(value).__name__}; expected a string")
    # ascontiguousarray turns 0-d arrays into 1-d ones: restore the caller's shapes
    shaped = {name: array.reshape(np.shape(arrays[name])) for name, array in checked.items()}
    return _save_tensors(shaped, metadata={"nocturne": _canonical_json(dict(metadata or {}))})


def from_bytes(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Inverse of `to_bytes`: (arrays by name, metadata). The arrays are the caller's own (writable).

    Raises CheckpointError when the bytes are truncated or are no safetensors (no pickle is ever read).
    """
    try:
        arrays = _load_tensors(content)
        header_length = int.from_bytes(content[:_HEADER_LENGTH_BYTES], "little")
        header = json.loads(content[_HEADER_LENGTH_BYTES : _HEADER_LENGTH_BYTES + header_length])
        metadata = json.loads((header.get("__metadata__") or {}).get("nocturne", "{}"))
    except (SafetensorError, ValueError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"{len(content)} bytes that are no readable safetensors checkpoint ({error}); expected what to_bytes "
            "wrote: delete the file or publish that date again"
        ) from error
    return {name: np.array(array) for name, array in arrays.items()}, metadata


def _canonical_json(value: dict[str, str]) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))


def fingerprint(*parts: object) -> str:
    """sha256 over arrays (dtype, shape and bytes) and the `repr` of anything else: a training's name in `Snapshot`."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype.str}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).data)
        else:
            digest.update(repr(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()


@dataclasses.dataclass
class EarlyStopping:
    """Remembers the best figure of a held-out measure and says when to stop. Higher is better.

    What is kept is the highest figure; what counts against stopping is a gain: a figure so much above the one that
    gained last. patience: looks without a gain after which `update` answers True; 0 never stops early. min_epochs:
    figures from before so many epochs were trained neither stop nor are kept. keeps_gains: what gained last is kept,
    not the highest.
    """

    patience: int
    min_epochs: int = 0
    keeps_gains: bool = False
    best_value: float = -np.inf
    best_epoch: int = -1
    reached: float = -np.inf  # the figure of the last gain
    since_gain: int = 0
    improved: bool = False  # whether the latest figure was the best so far

    def update(self, epoch: int, value: float, least_gain: float = 0.0) -> bool:
        """Take the figure of one epoch (0-based); True when training should stop. A NaN is neither best nor a gain."""
        self.improved = False
        if epoch + 1 < self.min_epochs:
            return False
        gained = value > self.reached + least_gain
        self.improved = gained if self.keeps_gains else value > self.best_value
        if self.improved:
            self.best_value, self.best_epoch = float(value), epoch
        self.reached, self.since_gain = (float(value), 0) if gained else (self.reached, self.since_gain + 1)
        return 0 < self.patience <= self.since_gain


def standard_error(values: np.ndarray) -> float:
    """Of the mean of independent values (n,); NaN for fewer than two."""
    return float(np.std(values, ddof=1, dtype=np.float64) / len(values) ** 0.5) if len(values) > 1 else float("nan")


def least_gain(figure: float, error: float, share: float) -> float:
    """What a look has to gain to count: a share of its figure, and never less than the figure's own standard error.

    An error that is not known (NaN) asks for nothing.
    """
    return max(share * abs(figure), 0.0 if np.isnan(error) else error)


def _content_of(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    """Of all that a snapshot says."""
    parts = (part for name in sorted(arrays) for part in (name, np.asarray(arrays[name])))
    return fingerprint(*parts, sorted(metadata.items()))


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A scratch file from which a killed training goes on: whole or absent, and only for the very same training.

    path: where; its folder must exist. fingerprint: of data, hyperparameters and seed; a file with another one is
    ignored, since going on from another training's state would be silent nonsense. A file that was changed since it
    was written is refused.
    """

    path: Path
    fingerprint: str

    def save(self, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
        """Replace the file in one step: a kill at any moment leaves the former snapshot or the new one."""
        own = {"fingerprint": f"{_SNAPSHOT_FORM}{self.fingerprint}", "content": _content_of(arrays, metadata)}
        content = to_bytes(arrays, {**metadata, **own})
        temporary = self.path.with_name(f"{self.path.name}.tmp-{os.getpid()}")
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        finally:
            temporary.unlink(missing_ok=True)

    def load(self) -> tuple[dict[str, np.ndarray], dict[str, str]] | None:
        """(arrays, metadata) of a snapshot of this very training, else None. SnapshotError, OSError."""
        if not self.path.exists():
            return None
        try:
            arrays, metadata = from_bytes(self.path.read_bytes())
        except CheckpointError as error:
            raise self.unusable(str(error).partition("; expected")[0]) from error
        if metadata.pop("fingerprint", "") != f"{_SNAPSHOT_FORM}{self.fingerprint}":
            return None
        if metadata.pop("content", "") != _content_of(arrays, metadata):
            raise self.unusable("arrays or numbers that were changed after they were written")
        return arrays, metadata

    def unusable(self, found: str) -> SnapshotError:
        """What is raised where it cannot be gone on from."""
        return SnapshotError(
            f"{self.path}, from which a killed training goes on, holds {found}; expected the state as it was saved. "
            "Delete the file: training then begins anew.")

    def remove(self) -> None:
        """Delete the file, once the training's result is committed."""
        self.path.unlink(missing_ok=True)
