"""Replaced versions of a partition: `_retired/0001-<hash>/`.

Files lie there under their names + `.retired`; the old manifest is written last.

A version is kept *before* the new manifest is put, as hard links, and the old files are deleted after it. So at every
moment each version is whole in one of the two places.

On an object store (`disk.in_place`) there are no links: the files stay where they are, under names that are never given
again, and a manifest in `_retired/` alone says that they are kept. Whoever brings a version back, and whoever drops it,
first puts that manifest anew (`fence`): of two of them, one of whom was thought dead, only the later goes on.
"""

import logging
import uuid
from collections.abc import Callable

from feature_store.disk import Disk, Entry
from feature_store.errors import ManifestBroken, StoreError
from feature_store.layout import MANIFEST, RETIRED, RETIRED_SUFFIX
from feature_store.manifest import Manifest
from feature_store.whole import is_none, problem_of

_log = logging.getLogger(__name__)


def versions(disk: Disk, folder: str, listed: list[Entry] | None = None) -> list[tuple[str, Manifest]]:
    """Kept versions of the partition in `folder`, oldest first: (their folder, manifest).

    `listed`: what lies in `_retired/`, where that is known already."""
    found = []
    for entry in disk.list(f"{folder}/{RETIRED}") if listed is None else listed:
        path = f"{folder}/{RETIRED}/{entry.name}"
        try:
            found.append((path, Manifest.from_bytes(disk.read_bytes(f"{path}/{MANIFEST}"), f"{path}/{MANIFEST}")))
        except ManifestBroken:
            continue  # damaged: not a version; `clean` removes it
        except OSError as error:
            if not is_none(error):  # a crash came before the manifest
                raise
    return found


def problems(disk: Disk, folder: str) -> list[str]:
    """What is wrong with the kept versions of the partition in `folder`, each naming its file."""
    found = []
    for entry in disk.list(f"{folder}/{RETIRED}"):
        version = f"{folder}/{RETIRED}/{entry.name}"
        try:
            manifest = Manifest.from_bytes(disk.read_bytes(f"{version}/{MANIFEST}"), f"{version}/{MANIFEST}")
            wrong = problems_of_version(disk, folder, version, manifest)
        except (FileNotFoundError, NotADirectoryError):
            continue  # a crash came before the manifest, and the next publish removes it
        except (StoreError, OSError) as error:
            wrong = [str(error)]
        if disk.exists(f"{version}/{MANIFEST}"):  # else a publish has dropped it meanwhile
            found += [f"Of a replaced version: {one} Rolling back to it is not possible." for one in wrong]
    return found


def problems_of_version(disk: Disk, folder: str, version: str, manifest: Manifest) -> list[str]:
    """What keeps a kept version from being brought back."""
    kept = [(_place(disk, folder, version, file.name), file) for file in manifest.files]
    return [problem for path, file in kept if (problem := problem_of(disk, path, file))]


def parquet_files(disk: Disk, folder: str) -> list[str]:
    """Full paths of the Parquet files of all kept versions."""
    kept = versions(disk, folder)
    names = [(path, file.name) for path, manifest in kept for file in manifest.files]
    return [_place(disk, folder, path, name) for path, name in names if name.endswith(".parquet")]


def names_in_place(disk: Disk, folder: str) -> frozenset[str]:
    """Names of the partition's own folder that a kept version needs."""
    if not disk.in_place:
        return frozenset()
    return frozenset(file.name for _, manifest in versions(disk, folder) for file in manifest.files)


def keep(disk: Disk, folder: str, manifest: Manifest) -> None:
    """Keeps the version whose files still lie in `folder`; where one is gone or changed, says so and keeps nothing."""
    if lost := [problem for file in manifest.files if (problem := problem_of(disk, f"{folder}/{file.name}", file))]:
        _log.warning(
            "the version committed %s is lost, and cannot be kept for a rollback: %s",
            manifest.created_timestamp,
            " ".join(lost),
        )
        return
    prefixes = [entry.name.partition("-")[0] for entry in disk.list(f"{folder}/{RETIRED}")]
    number = max((int(prefix) for prefix in prefixes if prefix.isdigit()), default=0) + 1
    target = f"{folder}/{RETIRED}/{number:06d}-{manifest.hash[:12]}"
    if disk.in_place:
        disk.put_atomic(f"{target}-{uuid.uuid4().hex[:12]}/{MANIFEST}", manifest.to_bytes())
        return
    disk.make_folder(target)
    for file in manifest.files:
        disk.copy(f"{folder}/{file.name}", f"{target}/{file.name}{RETIRED_SUFFIX}")
    disk.sync_folder(target)
    disk.put_atomic(f"{target}/{MANIFEST}", manifest.to_bytes())


def bring_back(disk: Disk, folder: str, version: str, manifest: Manifest) -> None:
    """Puts the files of a kept version back beside the current ones; the caller then puts its manifest."""
    if disk.in_place:
        disk.fence(f"{version}/{MANIFEST}")
        return
    for file in manifest.files:
        disk.copy(f"{version}/{file.name}{RETIRED_SUFFIX}", f"{folder}/{file.name}")
    disk.sync_folder(folder)


def clean(
    disk: Disk, folder: str, current: Manifest | None, keep_versions: int | None, confirm: Callable[[], None]
) -> None:
    """Removes unfinished versions, copies of the current one,
    and all but the newest `keep_versions` (None: all stay)."""
    entries = disk.list(f"{folder}/{RETIRED}")
    if not entries:
        return
    there = versions(disk, folder, entries)
    kept = [path for path, manifest in there if current is None or manifest.hash != current.hash]
    if keep_versions is not None:
        kept = kept[len(kept) - min(keep_versions, len(kept)) :]
    for entry in entries:
        path = f"{folder}/{RETIRED}/{entry.name}"
        if path not in kept:
            _drop(disk, path, entry.is_folder, confirm)


def _drop(disk: Disk, path: str, is_folder: bool, confirm: Callable[[], None]) -> None:
    if disk.in_place:
        version = disk.fence(f"{path}/{MANIFEST}")
        confirm()
        disk.withdraw(f"{path}/{MANIFEST}", version)
    (disk.delete_folder if is_folder else disk.delete)(path)


def _place(disk: Disk, folder: str, version: str, name: str) -> str:
    """Where a kept version's file lies."""
    return f"{folder}/{name}" if disk.in_place else f"{version}/{name}{RETIRED_SUFFIX}"
