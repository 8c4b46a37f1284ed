"""An `os` that fails or stops at its n-th call, put in the place of the one that the store's disk uses."""

import errno
import io
import os
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.fs
import pytest
from fsspec.implementations.local import LocalFileSystem

from feature_store import local_disk, lock

_OF_FILES = {"open", "write", "pwrite", "ftruncate", "fsync", "replace", "link", "unlink"}
COUNTED = _OF_FILES | {"mkdir", "rmdir", "listdir", "lstat", "stat"}


class CountingFile(io.FileIO):
    """Tells its handler how much was read."""

    def __init__(self, path: str, handler: "CountingHandler") -> None:
        super().__init__(path)
        self._handler = handler

    def read(self, size: int = -1) -> bytes:
        content = super().read(size)
        self._handler.read_bytes += len(content)
        return content


class CountingHandler(pyarrow.fs.FSSpecHandler):
    """The local disk as an Arrow file system of Python's, which counts the bytes read."""

    def __init__(self) -> None:
        super().__init__(LocalFileSystem())
        self.read_bytes = 0

    def open_input_file(self, path: str) -> pa.PythonFile:
        return pa.PythonFile(CountingFile(path, self), mode="r")


class Stopped(BaseException):
    """The process is no more: every later call raises it too."""


class FaultyOs:
    """Counts the calls that reach the disk.

    `close` always works: the kernel closes a dead process's files and frees its locks.
    """

    def __init__(
        self,
        stop_at: int | None = None,
        fail_at: int | None = None,
        fails: Callable[[str, tuple], bool] | None = None,
        error: int = errno.EIO,
    ) -> None:
        self.calls: list[str] = []
        # (call, the path it is about; of a link or a replace its new name), of calls that worked
        self.events: list[tuple[str, str]] = []
        self._paths: dict[int, str] = {}
        self._stop_at, self._fail_at, self._fails, self._error = stop_at, fail_at, fails, error

    def __getattr__(self, name: str) -> Any:
        found = getattr(os, name)
        return self._counted(name, found) if name in COUNTED else found

    def _counted(self, name: str, call: Callable) -> Callable:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            self.calls.append(name)
            number = len(self.calls)
            if self._stop_at is not None and number >= self._stop_at:
                if name == "write" and number == self._stop_at:
                    call(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])  # killed in the middle of a write
                raise Stopped(f"at call {number}, {name}")
            if number == self._fail_at or (self._fails and self._fails(name, arguments)):
                raise OSError(self._error, os.strerror(self._error), str(arguments[0]))
            # What is tested here is the order of the calls; waiting for the disk would only be slow.
            answer = None if name == "fsync" else call(*arguments, **named)
            self._note(name, arguments, answer)
            return answer

        return wrapped

    def _note(self, name: str, arguments: tuple, answer: Any) -> None:
        if name == "open":
            self._paths[answer] = arguments[0]
            name = "create" if arguments[1] & os.O_CREAT else name
        path = arguments[1] if name in ("link", "replace") else arguments[0]
        self.events.append((name, self._paths.get(path, "?") if isinstance(path, int) else str(path)))

    def install(self, patch: pytest.MonkeyPatch) -> "FaultyOs":
        patch.setattr(local_disk, "os", self)
        patch.setattr(lock, "os", self)
        return self
