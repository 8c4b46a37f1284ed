"""The store's disk on an object store: S3 and what speaks its language, Google Cloud Storage, Azure.

Paths are whole URIs, so that messages and other engines can use them. There are no folders but names, and nothing is
locked for long: what keeps two writers apart is that a manifest is replaced only if it is still the very object that
its writer had before it (ETag). Every writer therefore puts the manifest anew, with the same content and another ETag,
before it touches anything else (`fence`): whoever held the partition before, and sleeps, can commit nothing any more.
To that end a manifest here ends in 64 blanks that mean nothing; one of nothing but blanks says that there is none.
"""

import datetime
import errno
import logging
import re
import secrets
import uuid
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import fs

from feature_store.errors import BadName, LockLost, StorageRefused
from feature_store.layout import MANIFEST, RETIRED
from feature_store.lease_lock import MOST_LOST, LeaseLock, Seen, Version
from feature_store.local_disk import Entry
from feature_store.object_arrow import ReadingHandler
from feature_store.object_errors import (
    Answer,
    check_process,
    explained,
    never_first,
    no_store,
    translated,
    whole_answer,
)
from feature_store.object_file import ObjectFile, ObjectSink
from feature_store.storage import Storage

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Bucket

_log = logging.getLogger(__name__)
_BLANKS = 64
_LARGE_BYTES = 16 << 20  # beyond, a request may well take longer than others
_WRITER = "nocturne-writer"  # metadata of an object: which put made it
_NO_NAMES = {"", ".", ".."}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CLOCK_SECONDS = 300.0  # by which a clock may differ from the server's


class ObjectStore:
    """See disk.Disk for what each operation promises. `root` is `s3://bucket`, of which `bucket` is the client, and
    `patient` one that waits long for an answer: a conditional put goes in one request, however large it is.

    FileNotFoundError for what is not there; OSError for what may pass; StorageRefused for what a person mends.
    """

    in_place = True

    def __init__(self, bucket: "Bucket", root: str, storage: Storage, patient: "Bucket | None" = None) -> None:
        self.bucket, self.root, self.storage, self.patient = bucket, root, storage, patient or bucket
        self.arrow: fs.FileSystem = fs.PyFileSystem(ReadingHandler(self))
        self.has_conditions = False  # of puts: not seen yet

    def __repr__(self) -> str:
        return f"ObjectStore({self.root!r})"

    def list(self, folder: str) -> "list[Entry]":
        import obstore

        key = self.key(folder)
        with translated("listing", folder):
            found = self._ask(lambda: obstore.list_with_delimiter(self.bucket, key or None))
        folders = (prefix.rpartition("/")[2] for prefix in found["common_prefixes"])
        names = {name: Entry(name, True, 0) for name in folders if name}
        for one in found["objects"]:
            name = one["path"].removeprefix(key).strip("/")
            if name and name not in names and not _is_withdrawn(name, one["size"]):  # a folder's marker has no name
                names[name] = Entry(name, False, one["size"])
        return [names[name] for name in sorted(names)]

    def exists(self, path: str) -> bool:
        import obstore

        try:
            with translated("looking for", path):
                size = obstore.head(self.bucket, self.key(path))["size"]
            return not _is_withdrawn(path, size)
        except FileNotFoundError:
            return bool(self.list(path))  # a folder; or a bucket that is not there, which a HEAD does not tell
        except StorageRefused:
            self.list(path)  # which says why: a HEAD's answer has no words
            raise

    def status(self, path: str) -> tuple[int, str]:
        """(bytes, ETag) of an object. FileNotFoundError."""
        import obstore

        if not self.key(path):  # of a bucket some servers answer a HEAD as of an object
            raise FileNotFoundError(errno.ENOENT, "It is a bucket, and no object", path)
        with translated("looking for", path):
            found = obstore.head(self.bucket, self.key(path))
        return found["size"], found["e_tag"] or str(found["last_modified"])

    def statuses(self, folder: str, deep: bool = True) -> dict[str, tuple[int, str]]:
        """(bytes, ETag) of every object in a folder, or below it, by its path."""
        import obstore

        key = self.key(folder)
        with translated("listing", folder):
            if deep:
                found = self._ask(lambda: obstore.list(self.bucket, key or None).collect())
            else:
                found = self._ask(lambda: obstore.list_with_delimiter(self.bucket, key or None))["objects"]
        return {f"{self.root}/{one['path']}": (one["size"], one["e_tag"] or str(one["last_modified"])) for one in found}

    def folders_with(self, folder: str, names: Collection[str]) -> set[str]:
        """By one listing of all that lies below, a thousand names a request, in place of a request for each folder."""
        import obstore

        prefix, found = f"{self.key(folder)}/".lstrip("/"), set()
        with translated("listing", folder):
            for one in self._ask(lambda: obstore.list(self.bucket, prefix or None).collect()):
                below = one["path"].removeprefix(prefix).split("/")
                if len(below) > 1 and below[1] in names and not _is_withdrawn(one["path"], one["size"]):
                    found.add(below[0])
        return found

    def read_bytes(self, path: str) -> bytes:
        seen = self.look(path)
        if seen is None:
            raise FileNotFoundError(errno.ENOENT, "No such object", path)
        if not _is_manifest(path):
            return seen.content
        return _without_blanks(seen.content, path)

    def open(self, path: str) -> pa.NativeFile:
        return pa.PythonFile(ObjectFile(self.bucket, self.key(path), path, self.storage.retry_seconds > 0), mode="r")

    def create(self, path: str) -> ObjectSink:
        return ObjectSink(self.bucket, self.key(path), path)

    def sync(self, path: str) -> None:
        """An object is durable when its put has been answered."""

    def sync_folder(self, folder: str) -> None:
        """There are no folders."""

    def make_folder(self, folder: str) -> None:
        """There are no folders."""

    def remove_strays(self, folder: str) -> None:
        """A put leaves none; parts of uploads that were never completed are the bucket's lifecycle rules' to remove."""

    def copy(self, source: str, target: str) -> None:
        import obstore

        with translated("copying", source):
            obstore.copy(self.bucket, self.key(source), self.key(target))

    def delete(self, path: str) -> None:
        self.delete_all([path])

    def delete_all(self, paths: Iterable[str]) -> None:
        """Some at a time; those that are missing are fine."""
        import obstore

        keys = [self.key(path) for path in paths]
        if keys:
            try:
                with translated("deleting", f"{self.root}/{keys[0]}"):
                    self._ask(lambda: obstore.delete(self.bucket, keys))
            except FileNotFoundError:
                for key in keys if len(keys) > 1 else ():
                    self.delete_all([f"{self.root}/{key}"])

    def delete_folder(self, folder: str) -> None:
        import obstore

        with translated("listing", folder):
            found = self._ask(lambda: obstore.list(self.bucket, f"{self.key(folder)}/").collect())
        self.delete_all(f"{self.root}/{one['path']}" for one in found)

    def put_atomic(self, path: str, content: bytes) -> None:
        import obstore

        with translated("writing", path):
            obstore.put(self.bucket, self.key(path), bytes(content), use_multipart=False)

    def put_if_absent(self, path: str, content: bytes) -> bool:
        return self.put_if(path, content, None) is not None

    def lock(self, path: str, wait_seconds: float) -> LeaseLock:
        return LeaseLock(self, path, wait_seconds, self.storage.lease_seconds)

    def fence(self, path: str) -> Version:
        """Puts the manifest `path` anew as it is, or one that says that there is none: whoever looked before can no
        longer replace it. What `replace` then takes it for."""
        for _ in range(MOST_LOST):
            seen = self.look(path)
            content = b"" if seen is None else _meaning(seen.content)
            version = self.put_if(path, _with_blanks(content), seen.version if seen else None)
            if version is not None:
                if f"/{RETIRED}/" not in path:  # once a publish is enough
                    self._check_clock(path)
                return version
        raise never_first(path, MOST_LOST)

    def replace(self, path: str, content: bytes, version: Version) -> None:
        """LockLost where the manifest is no longer that which `fence` left: nothing was changed."""
        if self.put_if(path, _with_blanks(content), version) is None:
            raise LockLost(
                f"{path} was put by another writer while this one was held up for longer than its lease. "
                "Nothing of this one was published; what the other published stands. "
                "Run it again if it is still wanted."
            )

    def withdraw(self, path: str, version: Version) -> None:
        """From then on there is no such manifest. LockLost as in `replace`."""
        self.replace(path, b"", version)

    def look(self, path: str) -> Seen | None:
        """An object as it is, blanks and all; None where there is none."""
        found = self._look(path)
        return found[0] if found else None

    def put_if(self, path: str, content: bytes, version: Version | None) -> Version | None:
        """Puts an object if it is the one of `version` (None: if there is none); its new version, or None where another
        was first. An answer that was lost, or given twice, is told by what lies there."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

        check_process()
        writer, mode = uuid.uuid4().hex, "create" if version is None else version
        options: dict[str, Any] = {"mode": mode, "attributes": {_WRITER: writer}, "use_multipart": False}
        bucket = self.patient if len(content) > _LARGE_BYTES else self.bucket
        try:
            return _version(obstore.put(bucket, self.key(path), bytes(content), **options))
        except (BaseError, FileNotFoundError) as error:
            refused = error
        try:
            found = self._look(path)
        except OSError:
            raise explained(refused, "writing", path) from None
        if found and found[1] == writer:
            return found[0].version
        if isinstance(refused, FileNotFoundError) and version is None:
            raise no_store(path) from None
        if isinstance(refused, AlreadyExistsError | PreconditionError | FileNotFoundError):
            return None
        raise explained(refused, "writing", path) from None

    def _look(self, path: str) -> tuple[Seen, str] | None:
        """With the put that made it."""
        import obstore

        try:
            with translated("reading", path):
                return self._ask(lambda: _seen(obstore.get(self.bucket, self.key(path))))
        except FileNotFoundError:
            return None

    def _ask(self, call: Callable[[], Answer]) -> Answer:
        return whole_answer(call, self.storage.retry_seconds > 0)

    def _check_clock(self, path: str) -> None:
        """Right after a put, which has the time of the server's clock: commits and nights' leases have this one's."""
        import obstore

        with translated("looking at", path):
            there = obstore.get(self.bucket, self.key(path)).meta["last_modified"]
        wrong = (utc_now() - there).total_seconds()
        if abs(wrong) > _CLOCK_SECONDS:
            raise StorageRefused(
                f"This machine's clock is {abs(wrong):.0f} s {'ahead of' if wrong > 0 else 'behind'} that of "
                f"{self.root}; at most {_CLOCK_SECONDS:.0f} are allowed. What was published before is unchanged. "
                "Set the clock (chronyd, systemd-timesyncd) and run it again."
            )

    def key(self, path: str) -> str:
        """Its name in the bucket. BadName for a path that is of another, or that obstore takes for none."""
        inside = path.removeprefix(self.root)
        if inside == path or (inside and not inside.startswith("/")):
            raise BadName(f"Found the path {path!r} in a store of {self.root}; expected one that begins with it.")
        name = inside.strip("/")
        if name and (_NO_NAMES & set(name.split("/")) or _CONTROL.search(name)):
            raise BadName(f"Found the path {path!r}; expected names between single slashes, none of them '.' or '..', "
                          "and no control characters. Rename what has such a name, or name its folder.")
        return name


def utc_now() -> datetime.datetime:
    """The clock's time."""
    return datetime.datetime.now(datetime.UTC)


def _seen(got: Any) -> tuple[Seen, str]:
    return Seen(bytes(got.bytes()), _version(got.meta)), str(got.attributes.get(_WRITER, ""))


def _version(found: Any) -> Version:
    return {name: found[name] for name in ("e_tag", "version") if found.get(name)}


def _is_manifest(path: str) -> bool:
    return path == MANIFEST or path.endswith(f"/{MANIFEST}")


def _is_withdrawn(path: str, size: int) -> bool:
    return size == _BLANKS and _is_manifest(path)


def _with_blanks(content: bytes) -> bytes:
    bits = secrets.randbits(_BLANKS - 1)
    return content.rstrip(b" \t\n") + b"\n" + bytes(b" \t"[bits >> n & 1] for n in range(_BLANKS - 1))


def _meaning(content: bytes) -> bytes:
    """An empty manifest, which is a broken one, must not become blanks: they mean that there is none."""
    return content if content.strip(b" \t\n") or len(content) == _BLANKS else b"(empty)"


def _without_blanks(content: bytes, path: str) -> bytes:
    if not content.strip(b" \t\n") and len(content) == _BLANKS:
        raise FileNotFoundError(errno.ENOENT, "It was withdrawn, or never committed", path)
    return content.rstrip(b" \t") if content[-_BLANKS:].strip(b" \t") == b"\n" else content
