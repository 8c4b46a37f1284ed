"""Where a test's data root lies: a folder, or a prefix of a bucket that is handled like one."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import obstore
import pytest

from feature_store.disk import open_disk

if TYPE_CHECKING:
    from feature_store.object_store import ObjectStore


class ObjectPath:
    """As much of pathlib.Path as tests need, of objects, as they lie there: blanks of manifests and all."""

    def __init__(self, uri: str, *below: str) -> None:
        self.uri = "/".join([uri.rstrip("/"), *below])

    @property
    def _disk(self) -> ObjectStore:
        return open_disk(self.uri)[0]  # type: ignore[return-value]

    @property
    def _key(self) -> str:
        return self._disk.key(self.uri)

    def __truediv__(self, name: str) -> ObjectPath:
        return ObjectPath(self.uri, name)

    def __str__(self) -> str:
        return self.uri

    def __fspath__(self) -> str:
        return self.uri

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectPath) and other.uri == self.uri

    def __lt__(self, other: ObjectPath) -> bool:
        return self.uri < other.uri

    def __hash__(self) -> int:
        return hash(self.uri)

    @property
    def name(self) -> str:
        return self.uri.rpartition("/")[2]

    @property
    def parent(self) -> ObjectPath:
        return ObjectPath(self.uri.rpartition("/")[0])

    def with_name(self, name: str) -> ObjectPath:
        return self.parent / name

    def read_bytes(self) -> bytes:
        return bytes(obstore.get(self._disk.bucket, self._key).bytes())

    def write_bytes(self, content: bytes) -> None:
        obstore.put(self._disk.bucket, self._key, bytes(content))

    def read_text(self) -> str:
        return self.read_bytes().decode()

    def write_text(self, text: str) -> None:
        self.write_bytes(text.encode())

    def unlink(self) -> None:
        obstore.delete(self._disk.bucket, self._key)

    def mkdir(self, *_: object, **__: object) -> None:
        """There are no folders."""

    def exists(self) -> bool:
        return self._disk.exists(self.uri)

    def stat(self) -> SimpleNamespace:
        return SimpleNamespace(st_size=obstore.head(self._disk.bucket, self._key)["size"])

    def iterdir(self) -> Iterator[ObjectPath]:
        return (self / entry.name for entry in self._disk.list(self.uri))

    def glob(self, pattern: str) -> Iterator[ObjectPath]:
        first, _, rest = pattern.partition("/")
        for path in self.iterdir():
            if fnmatch.fnmatch(path.name, first):
                yield from path.glob(rest) if rest else [path]


Place = Path | ObjectPath


def at(path: object, *below: str) -> Place:
    """The file at a path or a URI."""
    text = "/".join([str(path), *below])
    return ObjectPath(text) if "://" in text else Path(text)


def copy_folder(source: object, target: object) -> None:
    """All that lies in one, to another."""
    for path in at(source).iterdir():
        entries = list(path.iterdir()) if isinstance(path, ObjectPath) or path.is_dir() else []
        if entries:
            copy_folder(path, at(target, path.name))
        else:
            at(target).mkdir(parents=True, exist_ok=True)
            at(target, path.name).write_bytes(path.read_bytes())


# for a test of what only a disk has: links, modes, descriptors, another file system of Arrow's
on_disk = pytest.mark.parametrize("place", ["disk"], indirect=True)
