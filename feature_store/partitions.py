"""A folder of partitions, for reading: which are committed, what their manifests say, the rows of one whole version."""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from feature_store.disk import Disk, open_disk
from feature_store.errors import DataDamaged, ManifestBroken, PartitionMissing, StoreError, explain_os_errors, explained
from feature_store.layout import MANIFEST, check_key, check_value, is_value
from feature_store.local_disk import Entry
from feature_store.manifest import FileEntry, Manifest
from feature_store.rows import check_frames, read_rows, schema_of
from feature_store.storage import Storage
from feature_store.whole import is_none

_READ_ATTEMPTS = 100
_Result = TypeVar("_Result")


class Partitions:
    """`<uri>/<key>=<value>/`, each what its manifest names.

    Nothing here writes (table.py does): readers see whole versions.
    """

    def __init__(self, uri: str, key: str = "dt", filesystem: fs.FileSystem | Disk | Storage | None = None) -> None:
        self.disk, self.uri = open_disk(str(uri), filesystem)
        self.key = check_key(key)
        self.name = _name_of(self.uri)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r}, key={self.key!r})"

    def path(self, value: str) -> str:
        """The folder of a partition, whether it exists or not."""
        return f"{self.uri}/{self.key}={check_value(self.key, value)}"

    def values(self) -> list[str]:
        """Committed partition values, ascending. Other names (`dt=2026-01-05.bak`) are no partitions: see strays."""
        folders = self.folders()
        with explain_os_errors("looking for manifests", self.uri, "Nothing was changed."):
            committed = self.disk.folders_with(self.uri, (MANIFEST,)) if folders else set()
        return [value for value in folders if f"{self.key}={value}" in committed]

    def strays(self) -> list[str]:
        """Names beside the partitions that are none: copies, files, links. Nothing here reads them, a glob may."""
        partitions = {f"{self.key}={value}" for value in self.folders()}
        return [e.name for e in self._entries() if e.name not in partitions and not e.name.startswith((".", "_"))]

    def folders(self) -> list[str]:
        """Values with a folder, committed or not, ascending."""
        prefix = f"{self.key}="
        names = [entry.name for entry in self._entries() if entry.is_folder and entry.name.startswith(prefix)]
        values = (name.removeprefix(prefix) for name in names)
        return sorted(value for value in values if is_value(self.key, value))

    def _entries(self) -> list[Entry]:
        with explain_os_errors("listing the partitions", self.uri, "Nothing was changed."):
            return self.disk.list(self.uri)

    def _is_committed(self, value: str) -> bool:
        return self.disk.exists(f"{self.uri}/{self.key}={value}/{MANIFEST}")

    def manifest(self, value: str) -> Manifest | None:
        """The committed version's manifest, or None. ManifestBroken, SchemaTooNew."""
        path = f"{self.path(value)}/{MANIFEST}"
        try:
            content = self.disk.read_bytes(path)
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            return None
        except OSError as error:
            if is_none(error):
                raise ManifestBroken(
                    f"{path} cannot be read: {error.strerror}. Put the file itself in its place."
                ) from error
            raise explained(error, "reading the manifest", path, "Nothing was changed.") from error
        return Manifest.from_bytes(content, path)

    def existing_manifest(self, value: str) -> Manifest:
        """The manifest, or PartitionMissing saying what there is."""
        manifest = self.manifest(value)
        if manifest is None:
            values = self.values()
            there = f"There are {len(values)}, from {values[0]} to {values[-1]}." if values else "There is none at all."
            raise PartitionMissing(
                f"No committed partition {self.key}={value} in {self.uri}. {there} "
                "Run the job that writes it, or ask for another."
            )
        return manifest

    def files(self, value: str) -> list[str]:
        """Full paths of the committed data files, in row order. PartitionMissing."""
        return [f"{self.path(value)}/{file.name}" for file in self.existing_manifest(value).files]

    def blobs(self, value: str) -> dict[str, bytes]:
        """Content of the committed files that are no tables, by name and in order, each as it was published.

        PartitionMissing, DataDamaged.
        """

        def read(manifest: Manifest) -> dict[str, bytes]:
            entries = [file for file in manifest.files if not file.name.endswith(".parquet")]
            return {entry.name: self._read_blob(f"{self.path(value)}/{entry.name}", entry) for entry in entries}

        return self._reading(value, read)[0]

    def check_frames(self, value: str, manifest: Manifest) -> None:
        """Before an engine reads a version's tables: whatever their page checksums, which it is to check, do not
        cover, is as it was published. DataDamaged."""
        for entry in manifest.files:
            if entry.name.endswith(".parquet"):
                check_frames(self.disk, f"{self.path(value)}/{entry.name}", entry)

    def read(self, value: str, columns: list[str] | None = None, filter: pc.Expression | None = None) -> pa.Table:
        """The rows of one whole version, in order. Starts over when a re-publish took a file away meanwhile."""
        return self.read_version(value, columns, filter)[0]

    def read_version(
        self, value: str, columns: list[str] | None = None, filter: pc.Expression | None = None
    ) -> tuple[pa.Table, Manifest]:
        """`read`, with the manifest of the very version that was read."""
        return self._reading(value, lambda manifest: self._read_files(value, manifest, columns, filter))

    def of_each_file(
        self, value: str, of: Callable[[pa.Table], _Result], columns: list[str] | None = None
    ) -> list[_Result]:
        """What `of` gives for the rows of each file of one whole version, in order; one file is in memory at a time.
        Starts over as `read` does."""

        def read(manifest: Manifest) -> list[_Result]:
            parts = (dataclasses.replace(manifest, files=[one]) for one in self._tables_of(value, manifest))
            return [of(self._read_files(value, part, columns, None)) for part in parts]

        return self._reading(value, read)[0]

    def schema(self, value: str) -> pa.Schema:
        """The columns of a committed table."""

        def read(manifest: Manifest) -> pa.Schema:
            entry = manifest.files[0]
            return schema_of(self.disk, f"{self.path(value)}/{entry.name}", entry)

        return self._reading(value, read)[0]

    def _reading(self, value: str, read: Callable[[Manifest], _Result]) -> tuple[_Result, Manifest]:
        for _ in range(_READ_ATTEMPTS):
            manifest = self.existing_manifest(value)
            try:
                return read(manifest), manifest
            except FileNotFoundError as error:
                if self.existing_manifest(value).hash == manifest.hash:
                    raise DataDamaged(
                        f"A file that {self.path(value)}/{MANIFEST} names is gone ({error}). "
                        "Nothing but this store may delete there. Roll the partition back or publish it again."
                    ) from error
            except (pa.ArrowException, OSError) as error:
                if isinstance(error, OSError) and is_none(error):
                    raise DataDamaged(
                        f"{error.filename} cannot be read: {error.strerror}. Put the file itself in its place, "
                        "roll the partition back or publish it again."
                    ) from error
                if getattr(error, "errno", None):  # of the disk; Arrow's own, for pages that do not unpack, has none
                    raise explained(error, "reading", self.path(value), "Nothing was changed.") from error
                raise DataDamaged(
                    f"{self.path(value)} cannot be read ({error}). `verify` names the file; "
                    "roll the partition back or publish it again."
                ) from error
        raise StoreError(
            f"{self.path(value)} was published anew {_READ_ATTEMPTS} times while it was read. "
            "Read it when its writer has finished."
        )

    def _read_blob(self, path: str, entry: FileEntry) -> bytes:
        content = self.disk.read_bytes(path)
        if len(content) != entry.size or hashlib.sha256(content).hexdigest() != entry.sha256:
            raise DataDamaged(
                f"{path} was changed after it was published: it has {len(content)} bytes whose checksum does not fit; "
                f"the manifest says {entry.size} bytes, sha256 {entry.sha256[:12]}... "
                "Roll the partition back or publish it again."
            )
        return content

    def _read_files(
        self, value: str, manifest: Manifest, columns: list[str] | None, filter: pc.Expression | None
    ) -> pa.Table:
        entries = self._tables_of(value, manifest)
        paths = [f"{self.path(value)}/{entry.name}" for entry in entries]
        return read_rows(self.disk, paths, entries, columns, filter)

    def _tables_of(self, value: str, manifest: Manifest) -> list[FileEntry]:
        entries = [file for file in manifest.files if file.name.endswith(".parquet")]  # beside them: CSV, pages, ...
        if not entries:
            raise StoreError(
                f"{self.path(value)} holds no table but {[file.name for file in manifest.files]}. "
                f"Open the paths that files({value!r}) gives."
            )
        return entries


def _name_of(uri: str) -> str:
    """`clean_events`; with `key=value` folders at the end, their parent too: `user_embeddings/model=my_model`."""
    parts = uri.strip("/").split("/")
    first = len(parts) - 1
    while first > 0 and "=" in parts[first]:
        first -= 1
    return "/".join(parts[first:])
