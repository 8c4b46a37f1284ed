"""The few operations that the store needs of a disk, as one small interface that an object store can offer too.

Two of them carry all guarantees: `put_atomic` (readers see the old bytes or the new ones, also after a
crash) and `put_if_absent` (of several writers exactly one wins). No folder is ever renamed. Arrow's own
streams are used for reading only: its local one writes in place.
"""

import importlib.util
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager
from typing import Any, NoReturn, Protocol

import pyarrow as pa
from pyarrow import fs

from feature_store.bucket import is_object_uri, open_bucket
from feature_store.errors import CannotWrite, StoreError
from feature_store.known_stores import storage_of
from feature_store.local_disk import Entry, LocalDisk, one_by_one
from feature_store.storage import Storage


class Sink(Protocol):
    """A new file being written from front to end."""

    def write(self, content: bytes) -> int: ...
    def tell(self) -> int: ...
    def close(self) -> None: ...  # durable when it returns
    def sha256(self) -> str: ...
    def reread(self) -> AbstractContextManager[pa.NativeFile]: ...  # what was written, once it is closed


class Disk(Protocol):
    """Paths are plain strings with forward slashes. Missing files raise FileNotFoundError, refusals OSError."""

    arrow: fs.FileSystem  # for reading
    in_place: bool  # no hard links: a replaced version stays where it is

    def list(self, folder: str) -> list[Entry]: ...  # by name; [] when the folder is missing
    def exists(self, path: str) -> bool: ...

    # names of the folders in `folder` that hold one of `names`
    def folders_with(self, folder: str, names: Collection[str]) -> set[str]: ...
    def read_bytes(self, path: str) -> bytes: ...  # here and in open: regular files only, no link is followed
    def open(self, path: str) -> pa.NativeFile: ...
    def create(self, path: str) -> Sink: ...
    def sync(self, path: str) -> None: ...  # makes a file that an engine wrote durable
    def sync_folder(self, folder: str) -> None: ...
    def make_folder(self, folder: str) -> None: ...
    def copy(self, source: str, target: str) -> None: ...  # durable after sync_folder of the target's folder
    def delete(self, path: str) -> None: ...  # missing is fine
    def delete_all(self, paths: Iterable[str]) -> None: ...
    def delete_folder(self, folder: str) -> None: ...
    def remove_strays(self, folder: str) -> None: ...  # temporaries of writers that are gone
    def put_atomic(self, path: str, content: bytes) -> None: ...
    def put_if_absent(self, path: str, content: bytes) -> bool: ...  # False: the name exists
    def lock(self, path: str, wait_seconds: float) -> AbstractContextManager[Callable[[], None]]: ...  # LockHeld
    # Of the file that commits, by who holds the lock: from `fence` on, nobody who fenced it before can replace it.
    def fence(self, path: str) -> Any: ...
    def replace(self, path: str, content: bytes, version: Any) -> None: ...  # as put_atomic; LockLost
    def withdraw(self, path: str, version: Any) -> None: ...  # as delete, durable; LockLost


class ReadOnlyDisk:
    """Any Arrow file system, for reading.

    Writing needs the two primitives, which Arrow does not offer: object stores bring theirs.
    """

    in_place = False

    def __init__(self, arrow: fs.FileSystem) -> None:
        self.arrow = arrow

    def list(self, folder: str) -> list[Entry]:
        found = self.arrow.get_file_info(fs.FileSelector(folder, allow_not_found=True))
        entries = [Entry(info.base_name, info.type == fs.FileType.Directory, info.size or 0) for info in found]
        return sorted(entries, key=lambda entry: entry.name)

    def exists(self, path: str) -> bool:
        return self.arrow.get_file_info(path).type != fs.FileType.NotFound

    def folders_with(self, folder: str, names: Collection[str]) -> set[str]:
        return one_by_one(self, folder, names)

    def open(self, path: str) -> pa.NativeFile:
        return self.arrow.open_input_file(path)

    def read_bytes(self, path: str) -> bytes:
        with self.arrow.open_input_file(path) as file:
            return file.read()

    def _refuse(self, *_: object) -> NoReturn:
        raise CannotWrite(
            f"Asked to write through {type(self.arrow).__name__}, which only reads: Arrow has no conditional writes. "
            "Name the data root as a path, or as s3://…, gs://… or az://…, which need pip install 'nocturne[s3]'."
        )

    create = sync = sync_folder = make_folder = copy = delete = delete_all = delete_folder = remove_strays = _refuse
    put_atomic = put_if_absent = lock = fence = replace = withdraw = _refuse


def is_local(disk: Disk) -> bool:
    """Whether every program of this machine finds the disk's paths under their own names."""
    return isinstance(disk, LocalDisk)


def open_disk(uri: str, filesystem: "fs.FileSystem | Disk | Storage | None" = None) -> tuple[Disk, str]:
    """The disk and the plain path for a local path, a URI, or a path on the given file system.

    s3://, gs:// and az:// lie on an object store, as `filesystem` (a Storage), what this process was told
    (known_stores.py) or the environment says; where obstore is not installed and nothing is said, Arrow reads them.
    StoreError.
    """
    if is_object_uri(uri) and (filesystem is None or isinstance(filesystem, Storage)):
        filesystem = filesystem or storage_of(uri)
        if filesystem is not None or importlib.util.find_spec("obstore"):
            return open_bucket(uri, filesystem or Storage())
    if isinstance(filesystem, Storage):
        filesystem = None  # the settings of a bucket say nothing of a local path
    if filesystem is not None and not isinstance(filesystem, fs.FileSystem):
        if not hasattr(filesystem, "put_atomic"):
            raise StoreError(
                f"Found the file system {type(filesystem).__name__}; expected one of pyarrow.fs. Wrap an fsspec one: "
                "pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(...))."
            )
        return filesystem, uri.rstrip("/")
    if filesystem is None and "://" in uri:
        filesystem, uri = fs.FileSystem.from_uri(uri)
    if filesystem is None or isinstance(filesystem, fs.LocalFileSystem):
        disk = LocalDisk()
        return disk, disk.absolute(uri)
    return ReadOnlyDisk(filesystem), uri.rstrip("/")
