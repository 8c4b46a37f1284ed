"""The local disk: a POSIX file system that honours fsync, hard links and flock.

Every call to the operating system goes through `os` here and in lock.py, so that
the tests can fail or stop each of them in turn.
"""

import errno
import fcntl
import os
import stat
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyarrow import fs

from feature_store import lock
from feature_store.hash_beside import HashBeside
from feature_store.layout import TEMPORARY_PREFIX

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY
_CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_READ_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # of a pipe's end nobody is to be waited for
_CHUNK_BYTES = 16 << 20
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)


@dataclass(frozen=True)
class Entry:
    """One name in a folder. `size` in bytes; 0 for folders."""

    name: str
    is_folder: bool
    size: int


class LocalSink:
    """Writes through os.write and hashes on the way, so that no file is read back for its checksum."""

    closed = False

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = os.open(path, _CREATE_FLAGS, 0o644)
        self._hash = HashBeside()
        self._size = 0

    def write(self, content: bytes) -> int:
        view = memoryview(content).cast("B")
        self._hash.update(view)
        _write_all(self._descriptor, view)
        self._size += len(view)
        return len(view)

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        """Nothing is buffered here."""

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        try:
            os.fsync(self._descriptor)
        finally:
            os.close(self._descriptor)

    def sha256(self) -> str:
        return self._hash.hexdigest()

    @contextmanager
    def reread(self) -> Iterator[pa.NativeFile]:
        _require_regular(self._path)
        with pa.OSFile(self._path) as source:
            yield source


class LocalDisk:
    """See disk.Disk for what each operation promises."""

    in_place = False

    def __init__(self) -> None:
        self.arrow: fs.FileSystem = fs.LocalFileSystem()

    def absolute(self, path: str) -> str:
        return os.path.abspath(os.path.expanduser(path))

    def list(self, folder: str) -> "list[Entry]":
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            return []
        entries = []
        for name in sorted(names):
            try:
                status = os.lstat(f"{folder}/{name}")
            except FileNotFoundError:
                continue  # deleted between the two calls
            is_folder = stat.S_ISDIR(status.st_mode)
            entries.append(Entry(name, is_folder, 0 if is_folder else status.st_size))
        return entries

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def folders_with(self, folder: str, names: Collection[str]) -> set[str]:
        return one_by_one(self, folder, names)

    def read_bytes(self, path: str) -> bytes:
        _require_regular(path)
        with os.fdopen(os.open(path, _READ_FLAGS), "rb") as file:
            return file.read()

    def open(self, path: str) -> pa.NativeFile:
        _require_regular(path)
        return self.arrow.open_input_file(path)

    def create(self, path: str) -> LocalSink:
        return LocalSink(path)

    def sync(self, path: str) -> None:
        _sync(path, os.O_RDONLY)

    def sync_folder(self, folder: str) -> None:
        _sync(folder, _FOLDER_FLAGS)

    def make_folder(self, folder: str) -> None:
        if os.path.isdir(folder):
            return
        parent = os.path.dirname(folder)
        self.make_folder(parent)
        try:
            os.mkdir(folder)
        except FileExistsError:
            if not os.path.isdir(folder):
                raise
        self.sync_folder(parent)

    def copy(self, source: str, target: str) -> None:
        """A hard link: data files are immutable. A real copy where the file system has none."""
        self.delete(target)  # of an earlier attempt
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            self._copy_bytes(source, target)

    def _copy_bytes(self, source: str, target: str) -> None:
        _require_regular(source)
        with open(source, "rb") as file:
            sink = self.create(target)
            try:
                while chunk := file.read(_CHUNK_BYTES):
                    sink.write(chunk)
            finally:
                sink.close()

    def delete(self, path: str) -> None:
        try:
            os.unlink(path)
        except FileNotFoundError:
            return

    def delete_all(self, paths: Iterable[str]) -> None:
        for path in paths:
            self.delete(path)

    def delete_folder(self, folder: str) -> None:
        for entry in self.list(folder):
            (self.delete_folder if entry.is_folder else self.delete)(f"{folder}/{entry.name}")
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            return

    def remove_strays(self, folder: str) -> None:
        for entry in self.list(folder):
            if entry.name.startswith(TEMPORARY_PREFIX) and not entry.is_folder:
                _remove_if_abandoned(f"{folder}/{entry.name}")

    def put_atomic(self, path: str, content: bytes) -> None:
        folder = os.path.dirname(path)
        temporary, descriptor = _write_temporary(folder, content)
        try:
            os.replace(temporary, path)
        except OSError:
            self.delete(temporary)
            raise
        finally:
            os.close(descriptor)
        self.sync_folder(folder)

    def put_if_absent(self, path: str, content: bytes) -> bool:
        folder = os.path.dirname(path)
        temporary, descriptor = _write_temporary(folder, content)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            os.close(descriptor)
            self.delete(temporary)
        self.sync_folder(folder)
        return True

    def lock(self, path: str, wait_seconds: float) -> AbstractContextManager[Callable[[], None]]:
        return lock.locked(path, wait_seconds)

    def fence(self, path: str) -> None:
        """The lock alone keeps others away."""

    def replace(self, path: str, content: bytes, version: None) -> None:
        self.put_atomic(path, content)

    def withdraw(self, path: str, version: None) -> None:
        self.delete(path)
        self.sync_folder(os.path.dirname(path))


def one_by_one(disk: Any, folder: str, names: Collection[str]) -> set[str]:
    """Names of the folders in `folder` that hold one of `names`, each asked for."""
    folders = [entry.name for entry in disk.list(folder) if entry.is_folder]
    return {one for one in folders if any(disk.exists(f"{folder}/{one}/{name}") for name in names)}


def _write_temporary(folder: str, content: bytes) -> tuple[str, int]:
    """A durable temporary file; the flock on its open descriptor tells sweepers that its writer lives."""
    path, descriptor = _open_temporary(folder)
    try:
        _write_all(descriptor, memoryview(content).cast("B"))
        os.fsync(descriptor)
    except BaseException:
        os.close(descriptor)
        os.unlink(path)
        raise
    return path, descriptor


def _open_temporary(folder: str) -> tuple[str, int]:
    """Created and locked. Between the two a sweeper may take it for abandoned:
    then there is no such name any more, and another one is made."""
    while True:
        path = f"{folder}/{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
        descriptor = os.open(path, _CREATE_FLAGS, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return path, descriptor
        os.close(descriptor)


def _require_regular(path: str) -> None:
    """OSError for a link, a pipe, a device, a folder, and for what lies in a folder that is a link."""
    if stat.S_ISLNK(os.lstat(os.path.dirname(path)).st_mode):
        raise OSError(errno.ELOOP, "Its folder is a symbolic link, which this store does not follow", path)
    mode = os.lstat(path).st_mode
    if not stat.S_ISREG(mode):
        found = "a symbolic link, which this store does not follow" if stat.S_ISLNK(mode) else "no regular file"
        raise OSError(errno.ELOOP if stat.S_ISLNK(mode) else errno.EINVAL, f"It is {found}", path)


def _write_all(descriptor: int, view: memoryview) -> None:
    while len(view):
        written = os.write(descriptor, view[:_CHUNK_BYTES])
        view = view[written:]


def _sync(path: str, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_if_abandoned(path: str) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    except (BlockingIOError, FileNotFoundError):
        return  # its writer lives, or has just finished
    finally:
        os.close(descriptor)
