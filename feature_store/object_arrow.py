"""An object store as a file system of Arrow's, for reading: datasets, CSV and Parquet readers take it.

Paths are as the disk's own, whole URIs; `bucket/key`, as Arrow's own file systems write them, is understood too.
"""

from typing import TYPE_CHECKING, NoReturn, Protocol

import pyarrow as pa
from pyarrow import fs

from feature_store.errors import CannotWrite
from feature_store.local_disk import Entry
from feature_store.object_errors import translated

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Bucket


class Readable(Protocol):
    """What this needs of an object store's disk."""

    root: str
    bucket: "Bucket"

    def list(self, folder: str) -> list[Entry]: ...
    def exists(self, path: str) -> bool: ...
    def open(self, path: str) -> pa.NativeFile: ...
    def key(self, path: str) -> str: ...


class ReadingHandler(fs.FileSystemHandler):
    """What `pyarrow.fs.PyFileSystem` asks of a file system. Nothing is written through it: CannotWrite."""

    def __init__(self, disk: Readable) -> None:
        self._disk = disk
        self._scheme = disk.root.partition("://")[0] + "://"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReadingHandler) and other._disk is self._disk

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def get_type_name(self) -> str:
        return "object_store"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> list[fs.FileInfo]:
        return [self._info(path) for path in paths]

    def get_file_info_selector(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
        found: list[fs.FileInfo] = []
        for entry in self._disk.list(self._whole(selector.base_dir)):
            path = f"{selector.base_dir.rstrip('/')}/{entry.name}"
            if entry.is_folder:
                found.append(fs.FileInfo(path, fs.FileType.Directory))
                if selector.recursive:
                    found += self.get_file_info_selector(fs.FileSelector(path, recursive=True))
            else:
                found.append(fs.FileInfo(path, fs.FileType.File, size=entry.size))
        if not found and not selector.allow_not_found and not self._disk.exists(self._whole(selector.base_dir)):
            raise FileNotFoundError(2, "No such folder", selector.base_dir)
        return found

    def open_input_file(self, path: str) -> pa.NativeFile:
        return self._disk.open(self._whole(path))

    open_input_stream = open_input_file

    def _whole(self, path: str) -> str:
        return path if "://" in path else self._scheme + path

    def _info(self, path: str) -> fs.FileInfo:
        import obstore

        whole = self._whole(path)
        if not self._disk.key(whole):  # a bucket, of which some servers answer a HEAD as of an object
            return fs.FileInfo(path, fs.FileType.Directory)
        try:
            with translated("looking at", whole):
                found = obstore.head(self._disk.bucket, self._disk.key(whole))
        except FileNotFoundError:
            kind = fs.FileType.Directory if self._disk.list(whole) else fs.FileType.NotFound
            return fs.FileInfo(path, kind)
        return fs.FileInfo(path, fs.FileType.File, size=found["size"], mtime=found["last_modified"])

    def _refuse(self, *_: object) -> NoReturn:
        raise CannotWrite(f"Asked Arrow to write to {self._disk.root}; this file system only reads. Publish a Table.")

    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = delete_file = move = copy_file = _refuse
    open_output_stream = open_append_stream = _refuse
