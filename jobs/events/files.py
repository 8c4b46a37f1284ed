"""A source's files by their names, on a local disk or an object store: what they are, and their bytes.

On an object store nothing is a folder but by the names of what lies below it, and nothing is a link; what a file was
when it was read is told by its ETag. Where a store is, the process was told (feature_store/known_stores.py).
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO

import pyarrow as pa

from feature_store.disk import open_disk
from feature_store.known_stores import storage_of
from feature_store.object_store import ObjectStore
from jobs.configuration.ranges import is_far

BUFFER_BYTES = 8 << 20  # of a file that is read from front to end: a request each
MANY = 8  # from so many files of a folder on the folder is listed in their stead
AT_ONCE = 16  # requests


@dataclass(frozen=True)
class Status:
    """Size in bytes, and what changes with the content: the time of change in nanoseconds, or the ETag."""

    size: int
    change: int | str


def store_of(uri: str) -> tuple[ObjectStore, str]:
    """The store of a URI, and the URI as the store writes it, whatever letters its names have."""
    bucket = "/".join(uri.split("/")[:3])
    disk, root = open_disk(bucket, storage_of(uri))
    return disk, root + uri[len(bucket) :].rstrip("/")


def is_folder(path: str) -> bool:
    """Whether there is such a folder."""
    if not is_far(path):
        return os.path.isdir(path)
    disk, path = store_of(path)
    return bool(disk.list(path))


def is_file(path: str) -> bool:
    """Whether there is such a file."""
    if not is_far(path):
        return os.path.isfile(path)
    try:
        return status(path) is not None
    except FileNotFoundError:
        return False


def status(path: str) -> Status:
    """FileNotFoundError, OSError."""
    if not is_far(path):
        found = os.stat(path)
        return Status(found.st_size, found.st_mtime_ns)
    disk, path = store_of(path)
    return Status(*disk.status(path))


def statuses(paths: Iterable[str]) -> dict[str, Status]:
    """Of many files; those of one folder of an object store are asked for together. FileNotFoundError, OSError."""
    paths = list(paths)
    folders: dict[str, list[str]] = {}
    for path in paths:
        folders.setdefault(path.rpartition("/")[0] if is_far(path) else "", []).append(path)
    found: dict[str, Status] = {}
    for folder, below in folders.items():
        if folder and len(below) >= MANY:
            found |= far_files(folder, deep=False)
    return {path: found[path] if path in found else status(path) for path in paths}


def far_files(folder: str, deep: bool = True) -> dict[str, Status]:
    """Every object below a folder, or in it alone; names in order."""
    disk, path = store_of(folder)
    named = folder.partition("://")[0]  # as the configuration spells it
    own = path.partition("://")[0]
    found = disk.statuses(path, deep)
    return {named + name.removeprefix(own): Status(*one) for name, one in sorted(found.items())}


def open_binary(path: str) -> BinaryIO:
    """FileNotFoundError, PermissionError, OSError."""
    if not is_far(path):
        return open(path, "rb")
    return io.BufferedReader(open_arrow(path), BUFFER_BYTES)


def open_arrow(path: str) -> pa.NativeFile:
    """For what reads here and there in it. FileNotFoundError, OSError."""
    if not is_far(path):
        return pa.OSFile(path)
    disk, path = store_of(path)
    return disk.open(path)


def ends(path: str, head: int, tail: int) -> tuple[bytes, bytes, int]:
    """First and last bytes of a file, and its size. FileNotFoundError, PermissionError, OSError."""
    if not is_far(path):
        with open(path, "rb") as content:
            first, size = content.read(head), os.fstat(content.fileno()).st_size
            content.seek(max(0, size - tail))
            return first, content.read(tail), size
    with open_arrow(path) as content:
        first, size = content.read(head), content.size()
        content.seek(max(0, size - tail))
        return first, content.read(tail), size


def at_once(do: Callable[[str], object], paths: Iterable[str]) -> None:
    """Do something with each far file, several at a time: most of the time it waits for its store."""
    far = [path for path in paths if is_far(path)]
    if far:
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="sources") as pool:
            for _ in pool.map(do, far):
                pass


def folder_of(path: str) -> str:
    """The folder that a file lies in."""
    return path.rpartition("/")[0] if is_far(path) else os.path.dirname(path)


def common_folder(files: Iterable[str]) -> str:
    """The lowest folder that all files lie below."""
    folders = [folder_of(file) for file in files]
    if not is_far(folders[0]):
        return os.path.commonpath([os.path.abspath(folder) for folder in folders])
    common = []
    for names in zip(*(folder.split("/") for folder in folders), strict=False):
        if len(set(names)) > 1:
            break
        common.append(names[0])
    return "/".join(common)
