"""Copies a data root to another place, a disk or a bucket, so that readers of the copy see whole partitions only.

Of each partition its data files first, each held against the manifest's checksum as it passes, then the manifest; of a
ledger its segments in their order, before all tables and once more after them: rows refer to their ids, and a night may
give out some meanwhile. What is there already, and is what it should be, is not copied again: a copy that was broken
off goes on where it was, and a second one brings what was published since. Nothing is deleted in the copy but what its
partitions replace. Replaced versions, locks and leases stay behind.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from feature_store.disk import Disk
from feature_store.errors import (
    DataDamaged,
    ManifestBroken,
    PartitionMissing,
    SchemaTooNew,
    StoreError,
    explain_os_errors,
    explained,
)
from feature_store.layout import SUCCESS, root_meant_by
from feature_store.manifest import FileEntry, Manifest
from feature_store.publish import clean_up, writing
from feature_store.segments import Segments
from feature_store.table import Table
from feature_store.tree import DataRoot
from feature_store.whole import problem_of

_CHUNK_BYTES = 32 << 20
_WAIT_SECONDS = 60.0


@dataclass(frozen=True)
class Copied:
    """A partition or a ledger's segment: how many bytes were brought, none where it was there already; `problem`: why
    it, or a whole ledger, was not copied."""

    table: str
    value: str
    size: int
    was_there: bool = False
    problem: str | None = None


def copy_root(source: DataRoot, disk: Disk, path: str) -> Iterator[Copied]:
    """Everything that is committed under `source`, to the folder `path` of `disk`, one after the other: ledgers,
    tables, and what ledgers have got since. What is damaged in the source is a problem, and the rest goes on.
    StoreError where the two are one, one lies in the other, the target is called feature_store, or a ledger there is
    another's; StorageRefused."""
    _check_apart(source, disk, path)
    _check_name(path)
    told = set()
    for one in _copy_ledgers(source, disk, path):
        told.add(one)
        yield one
    for name, table in sorted(source.tables.items()):
        target = Table(f"{path}/{name}" if name else path, table.key, disk)
        for value in table.values():
            try:
                yield _copy_partition(name, table, target, value)
            except (DataDamaged, ManifestBroken, SchemaTooNew, PartitionMissing) as error:
                yield Copied(name, value, 0, problem=str(error))
    since = _copy_ledgers(DataRoot(source.path, source.disk), disk, path)
    yield from (one for one in since if not one.was_there and one not in told)


def _copy_ledgers(source: DataRoot, disk: Disk, path: str) -> Iterator[Copied]:
    """A damaged one is left whole, for of its ids each hangs on those before."""
    for name, ledger in sorted(source.ledgers.items()):
        try:
            yield from _copy_ledger(name, ledger, Segments(f"{path}/{name}" if name else path, disk))
        except DataDamaged as error:
            advice = "Copy again then, and run no night on the copy before: it would give this ledger's ids out anew."
            yield Copied(name, "segments", 0, problem=f"{error} {advice}")


def _check_apart(source: DataRoot, disk: Disk, path: str) -> None:
    """A copy within its source would be copied along the next time. Of two servers, two buckets of one name are two."""
    servers = [getattr(getattr(one, "storage", None), "endpoint", None) for one in (source.disk, disk)]
    if servers[0] != servers[1]:
        return
    if path == source.path:
        raise StoreError(f"Found {path} as the root to copy from and to; expected two. Name another with --to.")
    if f"{path}/".startswith(f"{source.path}/") or f"{source.path}/".startswith(f"{path}/"):
        raise StoreError(f"Found {source.path} and {path} as the roots to copy from and to, of which one lies in the "
                         "other: what is in both would be taken for one. Name a root beside it with --to.")


def _check_name(path: str) -> None:
    """A copy to the feature store of another root would not be found."""
    if (meant := root_meant_by(path)) != path:
        raise StoreError(
            f"Found {path} as the root to copy to; expected a folder of another name: this one is taken for the "
            f"feature store of {meant}. Name {meant} itself, or another folder, with --to."
        )


def _copy_ledger(name: str, source: Segments, target: Segments) -> Iterator[Copied]:
    source.check()
    there = target.files()
    for number, path in enumerate(source.files(), 1):
        with explain_os_errors("reading a segment", path, "Nothing was changed."):
            content = source.disk.read_bytes(path)
        copy = f"{target.uri}/{path.rpartition('/')[2]}"
        is_new = number > len(there)
        with explain_os_errors("copying a segment", copy):
            target.disk.make_folder(target.uri)
            if is_new:
                is_new = target.disk.put_if_absent(copy, content)
            if not is_new and not target.segment(copy).equals(source.segment(path)):
                raise StoreError(
                    f"{copy} is there and is not {path}: the two ledgers gave their ids apart. "
                    "If users were erased of one since, erase them of the other too; else copy to an empty root."
                )
        yield Copied(name, str(number), len(content) if is_new else 0, was_there=not is_new)


def _copy_partition(name: str, source: Table, target: Table, value: str) -> Copied:
    folder = target.path(value)
    with writing(target, folder, _WAIT_SECONDS) as held:
        for _ in range(100):
            manifest = source.existing_manifest(value)
            if _is_there(target, value, manifest):
                return Copied(name, value, 0, was_there=True)
            try:
                size = sum(_copy_file(source, target, value, file) for file in manifest.files)
                break
            except FileNotFoundError as error:
                if source.existing_manifest(value).hash == manifest.hash:
                    raise DataDamaged(f"A file of {source.path(value)} is gone ({error}). Publish it again.") from error
            except OSError as error:
                state = "Nothing was changed."
                raise explained(error, "reading what is to be copied", source.path(value), state) from error
        else:
            raise StoreError(f"{source.path(value)} is published anew all the time. Copy it when its writer is done.")
        with explain_os_errors("committing the copy", folder):
            target.disk.sync_folder(folder)
            target.disk.replace(held.manifest, manifest.to_bytes(), held.version)
            target.disk.put_atomic(f"{folder}/{SUCCESS}", b"")
        with explain_os_errors("cleaning up after the copy", folder, "The copy is committed and whole."):
            clean_up(held, manifest, keep_versions=0)
    return Copied(name, value, size)


def _is_there(target: Table, value: str, manifest: Manifest) -> bool:
    """The same version, every byte of it."""
    try:
        found = target.manifest(value)
    except StoreError:
        return False
    if found is None or found.hash != manifest.hash:
        return False
    with explain_os_errors("reading the copy", target.path(value)):
        return not any(problem_of(target.disk, f"{target.path(value)}/{file.name}", file) for file in found.files)


def _copy_file(source: Table, target: Table, value: str, file: FileEntry) -> int:
    """Bytes that were brought."""
    old, new = f"{source.path(value)}/{file.name}", f"{target.path(value)}/{file.name}"
    with explain_os_errors("reading the copy", new):
        if problem_of(target.disk, new, file) is None:
            return 0
        target.disk.delete(new)
    digest, size = hashlib.sha256(), 0
    with source.disk.open(old) as stream:
        with explain_os_errors("copying", new):
            sink = target.disk.create(new)
        try:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
                with explain_os_errors("copying", new):
                    sink.write(chunk)
        finally:
            with explain_os_errors("copying", new):
                sink.close()
    if (digest.hexdigest(), size) != (file.sha256, file.size):
        target.disk.delete(new)
        raise DataDamaged(
            f"{old} was changed after it was published: its checksum does not fit. "
            "Roll the partition back or publish it again, and copy again."
        )
    return size
