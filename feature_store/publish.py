"""Replacing and rolling back a partition: everything that happens under its lock.

lock → fence → remove orphans → files under unique names → old version kept in `_retired/` (retired.py)
     → replace(_manifest.json)   ← the commit; before it readers have the old version, after it the new one
     → _SUCCESS → delete the old files → drop retired versions beyond keep_versions

On a disk the lock is the kernel's, and fencing does nothing. On an object store a lock is a lease, which can pass to
another writer while its holder sleeps. Then the fence has replaced the manifest, so that the sleeper's commit fails;
and the sleeper deletes nothing of the other's: names are unique, and between listing them and deleting those that
nobody needs, the store is asked whether the lease is still held. So the other's names cannot be in the list.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from feature_store import retired
from feature_store.columns import SchemaProblem
from feature_store.commit import Commit
from feature_store.disk import Entry
from feature_store.errors import LockLost, ManifestBroken, NothingToRollBackTo, StoreError, explain_os_errors
from feature_store.layout import LOCK, MANIFEST, RETIRED, SUCCESS, check_value
from feature_store.manifest import ERASED_FROM, Manifest
from feature_store.partitions import Partitions
from feature_store.whole import problem_of

_log = logging.getLogger(__name__)
_OURS = frozenset((LOCK, MANIFEST, RETIRED))
_OLD_OR_NEW = "Readers have the old version or the new one, whole (`python -m feature_store describe` says which)."
_COMMITTED = (
    "The new version is committed and whole; leftovers of the old one may still be there, "
    "and the next publish removes them."
)


@dataclass
class Writing:
    """A partition that is locked. `version` is what its manifest was then; `confirm` raises LockLost where the lock is
    another's."""

    table: Partitions
    folder: str
    confirm: Callable[[], None]
    version: Any
    @property
    def manifest(self) -> str:
        return f"{self.folder}/{MANIFEST}"

    def delete(self, entries: list[Entry]) -> None:
        """Names that were listed under the lock."""
        if not entries:
            return
        self.confirm()
        disk = self.table.disk
        disk.delete_all(f"{self.folder}/{entry.name}" for entry in entries if not entry.is_folder)
        for entry in entries:
            if entry.is_folder:
                disk.delete_folder(f"{self.folder}/{entry.name}")


@contextmanager
def replacing(
    table: Partitions,
    value: str,
    schema_problem: SchemaProblem | None,
    schema_version: tuple[int, int],
    keep_versions: int,
    wait_seconds: float,
    only_if_changed: bool,
) -> Iterator[Commit]:
    """See Table.replace."""
    folder = table.path(value)
    with writing(table, folder, wait_seconds) as held:
        old, known = _start(held, value)
        commit = Commit(table.disk, folder, known, schema_problem)
        try:
            yield commit
            _keep_hashes_of_before_erasure(commit, old)
            new = _manifest_of(table, commit, value, schema_version)
            if not (only_if_changed and old and _is_still(table, folder, old, new)):
                _put(held, old, new, keep_versions)
        except BaseException as error:
            _clean_after_failure(held, value, known, {file.name for file in commit.files}, error)
            raise
        with explain_os_errors("cleaning up after the commit", folder, _COMMITTED):
            clean_up(held, table.manifest(value), keep_versions)


def roll_back(table: Partitions, value: str, wait_seconds: float) -> Manifest:
    """See Table.rollback."""
    folder = table.path(value)
    with explain_os_errors("looking for the partition", folder):
        is_there = table.disk.exists(folder)
    if not is_there:
        table.existing_manifest(value)  # says what there is
    with writing(table, folder, wait_seconds) as held:
        current, known = _start(held, value)
        with explain_os_errors("looking for replaced versions", folder):
            versions = retired.versions(table.disk, folder)
        if not versions:
            raise NothingToRollBackTo(
                f"No replaced version of {folder} is kept in {RETIRED}/; expected one from an earlier publish. "
                "Run the job for that date again."
            )
        with explain_os_errors("reading replaced versions", folder):
            path, former = _newest_whole(table, folder, versions)
        try:
            with explain_os_errors("bringing files back", folder):
                retired.bring_back(table.disk, folder, path, former)
            _put(held, current, former, keep_versions=1)
        except BaseException as error:
            _clean_after_failure(held, value, known, set(), error)
            raise
        with explain_os_errors("cleaning up after the rollback", folder, _COMMITTED):
            clean_up(held, former, None)
    return former


def _is_still(table: Partitions, folder: str, old: Manifest, new: Manifest) -> bool:
    """Whether readers have the new rows already, from files that are whole."""
    if old.content_hash != new.content_hash:
        return False
    with explain_os_errors("reading what is published", folder):
        return not any(problem_of(table.disk, f"{folder}/{file.name}", file) for file in old.files)


def _newest_whole(table: Partitions, folder: str, versions: list[tuple[str, Manifest]]) -> tuple[str, Manifest]:
    """Of the kept versions; says which newer ones are passed over. NothingToRollBackTo when none is whole."""
    lost = []
    for path, manifest in reversed(versions):
        problems = retired.problems_of_version(table.disk, folder, path, manifest)
        if not problems:
            return path, manifest
        lost += problems
        _log.warning("the version committed %s is lost: %s", manifest.created_timestamp, " ".join(problems))
    raise NothingToRollBackTo(
        f"None of the {len(versions)} replaced versions of {folder} is whole: {' '.join(lost)} "
        "Run the job for that date again."
    )


@contextmanager
def writing(table: Partitions, folder: str, wait_seconds: float) -> Iterator[Writing]:
    """The partition's folder, made and locked."""
    for last_try in (False, True):
        with explain_os_errors("making the folder", folder):
            table.disk.make_folder(folder)
        lock = table.disk.lock(f"{folder}/{LOCK}", wait_seconds)
        with explain_os_errors("taking the lock", folder):
            try:
                confirm = lock.__enter__()
                break
            except FileNotFoundError:  # a prune held the lock, and took the folder away with it
                if last_try:
                    raise
    try:
        with explain_os_errors("starting from the manifest", folder):
            version = table.disk.fence(f"{folder}/{MANIFEST}")
        yield Writing(table, folder, confirm, version)
    finally:
        lock.__exit__(None, None, None)


def orphans(table: Partitions, folder: str, manifest: Manifest | None) -> list[Entry]:
    """Names in the folder that no manifest names: of crashed publishes, or of one that runs."""
    kept = _OURS | {file.name for file in manifest.files} | {SUCCESS} if manifest else _OURS - {MANIFEST}
    found = [entry for entry in table.disk.list(folder) if entry.name not in kept]
    kept_versions = retired.names_in_place(table.disk, folder) if found else frozenset()
    return [entry for entry in found if entry.name not in kept_versions]


def _start(held: Writing, value: str) -> tuple[Manifest | None, frozenset[str]]:
    """The committed version, and the names that are there and not this publish's. Removes orphans.

    A broken manifest tells no orphan from a file that someone could still save:
    then nothing is removed before the new version stands.
    """
    table, folder = held.table, held.folder
    try:
        old = table.manifest(value)
    except ManifestBroken:
        with explain_os_errors("listing the partition", folder):
            return None, frozenset(entry.name for entry in table.disk.list(folder))
    with explain_os_errors("cleaning up", folder):
        _clean(held, old, None)
        in_place = retired.names_in_place(table.disk, folder)
    return old, in_place.union(file.name for file in old.files if old) if old else in_place


def _put(held: Writing, old: Manifest | None, new: Manifest, keep_versions: int) -> None:
    disk, folder = held.table.disk, held.folder
    with explain_os_errors("keeping the old version", folder):
        disk.sync_folder(folder)
        if old is not None and keep_versions > 0:
            retired.keep(disk, folder, old)
    with explain_os_errors("committing", folder, _OLD_OR_NEW):
        disk.replace(held.manifest, new.to_bytes(), held.version)
        disk.put_atomic(f"{folder}/{SUCCESS}", b"")


def _clean(held: Writing, manifest: Manifest | None, keep_versions: int | None) -> None:
    disk, folder = held.table.disk, held.folder
    retired.clean(disk, folder, manifest, keep_versions, held.confirm)
    held.delete(orphans(held.table, folder, manifest))


def clean_up(held: Writing, manifest: Manifest | None, keep_versions: int | None) -> None:
    """After a commit of `manifest`: removes what neither it nor a kept version needs."""
    try:
        _clean(held, manifest, keep_versions)
    except LockLost:
        _log.warning("%s is committed, and another writer's since: cleaning up is left to it", held.folder)


def _clean_after_failure(
    held: Writing, value: str, known: frozenset[str], made: set[str], error: BaseException
) -> None:
    """Whatever the manifest says now is the partition; the rest goes. A second failure must not hide the first."""
    table, folder = held.table, held.folder
    try:
        if isinstance(error, LockLost):  # all that is here is another's now, but what this one made
            table.disk.delete_all(f"{folder}/{name}" for name in made)
            return
        held.version = table.disk.fence(held.manifest)  # a commit whose answer was lost comes now or never
        _clean(held, table.manifest(value), None)
    except ManifestBroken:
        held.delete([entry for entry in table.disk.list(folder) if entry.name not in known and not entry.is_folder])
    except (OSError, StoreError) as second:
        error.add_note(
            f"Cleaning up {folder} failed too ({second}); "
            "readers ignore the leftovers, and the next publish removes them."
        )


def _keep_hashes_of_before_erasure(commit: Commit, old: Manifest | None) -> None:
    """Who built on a partition before users were erased from it is not stale because it is published anew as it is."""
    if old and ERASED_FROM in old.fields and commit.files and commit.content_hash() == old.content_hash:
        commit.fields.setdefault(ERASED_FROM, old.fields[ERASED_FROM])


def _manifest_of(table: Partitions, commit: Commit, value: str, schema_version: tuple[int, int]) -> Manifest:
    if not commit.files:
        raise StoreError(
            f"Nothing was written for {table.key}={value} of {table.uri}; the partition stays as it was. "
            "Write the rows before leaving the block; a table without rows publishes that there are none."
        )
    manifest = Manifest(
        table=table.name,
        partition={table.key: check_value(table.key, value)},
        row_count=commit.row_count,
        files=commit.files,
        schema_version=(int(schema_version[0]), int(schema_version[1])),
        content_hash=commit.content_hash(),
        created_timestamp=commit.created_timestamp.isoformat(timespec="microseconds"),
        provenance=tuple(commit.provenance),
        sorted_by=tuple(commit.sorted_by),
        fields=commit.fields,
    )
    try:
        return Manifest.from_bytes(manifest.to_bytes(), f"{commit.path}/{MANIFEST}")
    except (TypeError, ValueError) as error:
        raise StoreError(
            f"The fields for the manifest of {commit.path} are no JSON ({error}). "
            "Use plain str, int, finite float, list and dict."
        ) from error
