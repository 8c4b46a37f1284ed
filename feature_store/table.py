"""A folder of partitions, each committed by one atomic put of its manifest."""

from contextlib import contextmanager
from typing import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from feature_store import retired
from feature_store.commit import Commit
from feature_store.disk import Disk, open_disk
from feature_store.errors import DataDamaged, PartitionMissing, StoreError, explain_os_errors
from feature_store.layout import LOCK, MANIFEST, RETIRED, SUCCESS, check_key, check_value
from feature_store.lock import locked
from feature_store.manifest import Manifest

_READ_ATTEMPTS = 100


class Table:
    """Partitions `<uri>/<key>=<value>/`. Readers see whole versions; one writer per partition."""

    def __init__(self, uri: str, key: str = "dt", filesystem: fs.FileSystem | Disk | None = None) -> None:
        self.disk, self.uri = open_disk(str(uri), filesystem)
        self.key = check_key(key)
        self.name = _name_of(self.uri)

    def __repr__(self) -> str:
        return f"Table({self.uri!r}, key={self.key!r})"

    def path(self, value: str) -> str:
        """The folder of a partition, whether it exists or not."""
        return f"{self.uri}/{self.key}={check_value(self.key, value)}"

    def values(self) -> list[str]:
        """Committed partition values, ascending."""
        prefix = f"{self.key}="
        found = [entry.name.removeprefix(prefix) for entry in self.disk.list(self.uri) if entry.is_folder and entry.name.startswith(prefix)]
        return sorted(value for value in found if self._is_committed(value))

    def manifest(self, value: str) -> Manifest | None:
        """The committed version's manifest, or None. ManifestBroken, SchemaTooNew."""
        path = f"{self.path(value)}/{MANIFEST}"
        try:
            return Manifest.from_bytes(self.disk.read_bytes(path), path)
        except FileNotFoundError:
            return None

    def existing_manifest(self, value: str) -> Manifest:
        """The manifest, or PartitionMissing saying what there is."""
        manifest = self.manifest(value)
        if manifest is None:
            values = self.values()
            there = f"There are {len(values)}, from {values[0]} to {values[-1]}." if values else "There is none at all."
            raise PartitionMissing(f"No committed partition {self.key}={value} in {self.uri}. {there} Run the job that writes it, or ask for another.")
        return manifest

    def files(self, value: str) -> list[str]:
        """Full paths of the committed data files, in row order. PartitionMissing."""
        return [f"{self.path(value)}/{file.name}" for file in self.existing_manifest(value).files]

    def read(self, value: str, columns: list[str] | None = None, filter: pc.Expression | None = None) -> pa.Table:
        """The rows of one whole version, in order. Starts over when a re-publish took a file away meanwhile."""
        return self.read_version(value, columns, filter)[0]

    def read_version(self, value: str, columns: list[str] | None = None, filter: pc.Expression | None = None) -> tuple[pa.Table, Manifest]:
        """`read`, with the manifest of the very version that was read."""
        for _ in range(_READ_ATTEMPTS):
            manifest = self.existing_manifest(value)
            try:
                return self._read_files(value, manifest, columns, filter), manifest
            except FileNotFoundError as error:
                if self.existing_manifest(value).hash == manifest.hash:
                    raise DataDamaged(
                        f"A file that {self.path(value)}/{MANIFEST} names is gone ({error}). Nothing but this store may delete there. "
                        "Roll the partition back or publish it again."
                    ) from error
        raise StoreError(f"{self.path(value)} was published anew {_READ_ATTEMPTS} times while it was read. Read it when its writer has finished.")

    @contextmanager
    def replace(
        self, value: str, *, schema_version: tuple[int, int] = (1, 0), keep_versions: int = 1, wait_seconds: float = 60.0, only_if_changed: bool = False
    ) -> Iterator[Commit]:
        """Publishes the partition anew: yields a Commit; leaving the block commits by one atomic put of the manifest.

        An exception inside the block leaves what readers had. Replaced versions are kept, the last `keep_versions` of them.
        Equal content is committed all the same (its lineage may differ), unless `only_if_changed`.
        LockHeld after `wait_seconds`; DiskFull, CannotWrite.
        """
        folder = self.path(value)
        with explain_os_errors("making the folder", folder):
            self.disk.make_folder(folder)
        with self._locked(folder, wait_seconds):
            old = self.manifest(value)
            with explain_os_errors("cleaning up", folder):
                self._clean(folder, old)
            commit = Commit(self.disk, folder, frozenset(file.name for file in old.files) if old else frozenset())
            try:
                yield commit
                new = self._manifest_of(commit, value, schema_version)
                if not (only_if_changed and old and old.content_hash == new.content_hash):
                    self.put_manifest(folder, old, new, keep_versions)
            finally:
                # After a failure too: whatever the manifest says now is the partition, the rest goes.
                with explain_os_errors("cleaning up", folder):
                    self._clean(folder, self.manifest(value), keep_versions)

    def put_manifest(self, folder: str, old: Manifest | None, new: Manifest, keep_versions: int) -> None:
        """The commit itself; the caller holds the lock and has written the files."""
        with explain_os_errors("committing", folder):
            self.disk.sync_folder(folder)
            if old is not None and keep_versions > 0:
                retired.keep(self.disk, folder, old)
            self.disk.put_atomic(f"{folder}/{MANIFEST}", new.to_bytes())
            self.disk.put_atomic(f"{folder}/{SUCCESS}", b"")

    def _locked(self, folder: str, wait_seconds: float):
        with explain_os_errors("taking the lock", folder):
            return locked(f"{folder}/{LOCK}", wait_seconds)

    def _is_committed(self, value: str) -> bool:
        return any(entry.name == MANIFEST for entry in self.disk.list(f"{self.uri}/{self.key}={value}"))

    def _read_files(self, value: str, manifest: Manifest, columns: list[str] | None, filter: pc.Expression | None) -> pa.Table:
        folder = self.path(value)
        paths = [f"{folder}/{file.name}" for file in manifest.files]
        if not paths or not all(path.endswith(".parquet") for path in paths):
            raise StoreError(f"{folder} holds no table but {[file.name for file in manifest.files]}. Open the paths that files({value!r}) gives.")
        return pq.read_table(paths, columns=columns, filters=filter, filesystem=self.disk.arrow, partitioning=None)

    def _manifest_of(self, commit: Commit, value: str, schema_version: tuple[int, int]) -> Manifest:
        if not commit.files:
            raise StoreError(f"Nothing was written for {self.key}={value} of {self.uri}; the partition stays as it was. Write an empty table to publish that there are no rows.")
        return Manifest(
            table=self.name,
            partition={self.key: value},
            row_count=commit.row_count,
            files=commit.files,
            schema_version=tuple(schema_version),
            content_hash=commit.content_hash(),
            created_timestamp=commit.created_timestamp.isoformat(timespec="microseconds"),
            provenance=tuple(commit.provenance),
            sorted_by=tuple(commit.sorted_by),
            fields=commit.fields,
        )

    def _clean(self, folder: str, manifest: Manifest | None, keep_versions: int | None = None) -> None:
        """Removes what the manifest does not name: files of crashed publishes, replaced files, temporaries. Under the lock only."""
        kept = {LOCK, MANIFEST, RETIRED, *((SUCCESS,) if manifest else ()), *(file.name for file in manifest.files if manifest)} if manifest else {LOCK, RETIRED}
        for entry in self.disk.list(folder):
            if entry.name not in kept:
                (self.disk.delete_folder if entry.is_folder else self.disk.delete)(f"{folder}/{entry.name}")
        retired.clean(self.disk, folder, manifest, keep_versions)


def _name_of(uri: str) -> str:
    """`clean_events`; with `key=value` folders at the end, their parent too: `user_embeddings/model=transe`."""
    parts = uri.strip("/").split("/")
    first = len(parts) - 1
    while first > 0 and "=" in parts[first]:
        first -= 1
    return "/".join(parts[first:])
