"""The few operations that the store needs of a disk, and the local disk.

Two of them carry all guarantees: `put_atomic` (readers see the old bytes or the new ones, also after a crash) and
`put_if_absent` (of several writers exactly one wins). No folder is ever renamed, so an object store can offer the same interface.
Arrow's own local stream writes in place; it is used for reading only.
"""

import fcntl
import hashlib
import os
import shutil
import stat
import uuid
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
from pyarrow import fs

from feature_store.errors import StoreError
from feature_store.layout import TEMPORARY_PREFIX

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY
_CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_WRITE_BYTES = 16 << 20


@dataclass(frozen=True)
class Entry:
    """One name in a folder. `size` in bytes; 0 for folders."""

    name: str
    is_folder: bool
    size: int


class Sink(Protocol):
    """A new file being written from front to end."""

    def write(self, content: bytes) -> int: ...
    def tell(self) -> int: ...
    def close(self) -> None: ...  # durable when it returns
    def sha256(self) -> str: ...


class Disk(Protocol):
    """Paths are plain strings with forward slashes. Missing files raise FileNotFoundError, refusals OSError."""

    arrow: fs.FileSystem

    def list(self, folder: str) -> list[Entry]: ...  # [] when the folder is missing
    def read_bytes(self, path: str) -> bytes: ...
    def create(self, path: str) -> Sink: ...
    def sync(self, path: str) -> None: ...  # makes a file that an engine wrote durable
    def sync_folder(self, folder: str) -> None: ...
    def make_folder(self, folder: str) -> None: ...
    def copy(self, source: str, target: str) -> None: ...  # durable after sync_folder of the target's folder
    def delete(self, path: str) -> None: ...  # missing is fine
    def delete_folder(self, folder: str) -> None: ...
    def remove_strays(self, folder: str) -> None: ...  # temporaries of writers that are gone
    def put_atomic(self, path: str, content: bytes) -> None: ...
    def put_if_absent(self, path: str, content: bytes) -> bool: ...  # False: the name exists


class LocalSink:
    """Writes through os.write and hashes on the way, so that the file is never read back for its checksum."""

    closed = False

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, _CREATE_FLAGS, 0o644)
        self._hash = hashlib.sha256()
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


class LocalDisk:
    """A POSIX file system (one that honours fsync, hard links and flock)."""

    def __init__(self) -> None:
        self.arrow: fs.FileSystem = fs.LocalFileSystem()

    def list(self, folder: str) -> list[Entry]:
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

    def read_bytes(self, path: str) -> bytes:
        with open(path, "rb") as file:
            return file.read()

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
            return  # another writer was faster; a file of that name shows at the next call
        self.sync_folder(parent)

    def copy(self, source: str, target: str) -> None:
        try:
            os.link(source, target)
        except FileExistsError:
            os.unlink(target)
            os.link(source, target)

    def delete(self, path: str) -> None:
        try:
            os.unlink(path)
        except FileNotFoundError:
            return

    def delete_folder(self, folder: str) -> None:
        if os.path.isdir(folder):
            shutil.rmtree(folder)

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


def _write_temporary(folder: str, content: bytes) -> tuple[str, int]:
    """A durable temporary file; its open descriptor holds a flock that tells sweepers that its writer lives."""
    path = f"{folder}/{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
    descriptor = os.open(path, _CREATE_FLAGS, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        _write_all(descriptor, memoryview(content).cast("B"))
        os.fsync(descriptor)
    except OSError:
        os.close(descriptor)
        os.unlink(path)
        raise
    return path, descriptor


def _write_all(descriptor: int, view: memoryview) -> None:
    while len(view):
        written = os.write(descriptor, view[:_WRITE_BYTES])
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


def open_disk(uri: str, filesystem: fs.FileSystem | Disk | None) -> tuple[Disk, str]:
    """The disk and the plain path for a local path, a file:// URI, or a path on the given file system."""
    if filesystem is not None and not isinstance(filesystem, (fs.FileSystem,)):
        return filesystem, uri.rstrip("/")
    if filesystem is None and "://" in uri:
        filesystem, uri = fs.FileSystem.from_uri(uri)
    if filesystem is None or isinstance(filesystem, fs.LocalFileSystem):
        return LocalDisk(), os.path.abspath(uri)
    raise StoreError(
        f"Found {type(filesystem).__name__} for {uri}; this version writes to local disks only (a path or file://). "
        "Object stores need put_atomic and put_if_absent of their own (feature_store/disk.py)."
    )
