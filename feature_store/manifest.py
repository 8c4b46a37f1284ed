"""`_manifest.json`: the commit of a partition. What it names is the partition; every other file is not there.

Versions: `schema_version` is (major, minor) of the table's columns. A new minor version added nullable columns: older
readers go on. A new major version changed what columns mean: readers refuse it and say what to install.
"""

import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import NoReturn

from feature_store.errors import ManifestBroken, SchemaTooNew
from feature_store.layout import is_plain_name

FORMAT = 1
READS_MAJOR = 1
ERASED_FROM = "erased_from"  # a field: content hashes of before users were erased (erasure.py)
# What JSON of another shape, or none at all, raises while it is read.
_WRONG = (ValueError, KeyError, TypeError, IndexError, AttributeError, ArithmeticError, RecursionError)


@dataclass(frozen=True)
class FileEntry:
    """One immutable data file: its name in the partition's folder, bytes, checksum, rows (0 where it is no Parquet).

    `content_sha256` stands in the content hash in place of `sha256`, where the
    file holds what two equal runs do not share; else "". `frames` are the hashes of what a Parquet file's page
    checksums do not cover, `chunks` those of its column chunks, a text for each row group (frames.py); empty for other
    files, and in manifests of before there were any.
    """

    name: str
    size: int
    sha256: str
    row_count: int
    content_sha256: str = ""
    frames: tuple[str, ...] = ()
    chunks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """What one committed version of a partition holds.

    `content_hash` covers the rows (content.py), `hash` the manifest's own bytes. `fields` are the publisher's extras:
    space_id, rotation, window, config_hash, inputs, predecessor, quality, ...
    """

    table: str
    partition: dict[str, str]
    row_count: int
    files: tuple[FileEntry, ...]
    schema_version: tuple[int, int]
    content_hash: str
    created_timestamp: str
    provenance: tuple[str, ...] = ()
    sorted_by: tuple[str, ...] = ()
    fields: dict = field(default_factory=dict)
    written: bytes = field(default=b"", repr=False, compare=False)

    @property
    def hash(self) -> str:
        """SHA-256 of the manifest's bytes as they lie on the disk."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all data files."""
        return sum(file.size for file in self.files)

    def to_bytes(self) -> bytes:
        """As it was read, or canonical JSON with its own checksum.

        ValueError or TypeError when `fields` holds what JSON cannot.
        """
        if self.written:
            return self.written
        tree = {
            "format": FORMAT,
            "table": self.table,
            "partition": self.partition,
            "row_count": self.row_count,
            "files": [vars(file) for file in self.files],
            "schema_version": list(self.schema_version),
            "content_hash": self.content_hash,
            "created_timestamp": self.created_timestamp,
            "provenance": list(self.provenance),
            "sorted_by": list(self.sorted_by),
            "fields": self.fields,
        }
        tree["checksum"] = _checksum(tree)
        return (json.dumps(tree, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()

    @classmethod
    def from_bytes(cls, content: bytes, path: str) -> "Manifest":
        """Reads what `to_bytes` wrote; `path` is for the messages. ManifestBroken, SchemaTooNew."""
        try:
            tree = json.loads(content, parse_constant=_refuse_constant, parse_float=_finite)
            _check_versions(tree, path)  # first: what a newer format holds is not known here
            manifest = cls(
                table=_text(tree["table"]),
                partition={_text(key): _text(value) for key, value in tree["partition"].items()},
                row_count=_count(tree["row_count"]),
                files=tuple(_file_entry(file) for file in tree["files"]),
                schema_version=(int(tree["schema_version"][0]), int(tree["schema_version"][1])),
                content_hash=_text(tree["content_hash"]),
                created_timestamp=_text(tree["created_timestamp"]),
                provenance=tuple(map(_text, tree.get("provenance", ()))),
                sorted_by=tuple(map(_text, tree.get("sorted_by", ()))),
                fields=dict(tree["fields"]),
                written=bytes(content),
            )
            checksum, expected = tree["checksum"], _checksum(tree)
        except _WRONG as error:
            raise ManifestBroken(
                f"{path} is no manifest of this store ({type(error).__name__}: {str(error)[:200]}). "
                "Expected the JSON that a publish writes. Roll the partition back or publish it again."
            ) from error
        if checksum != expected:
            raise ManifestBroken(
                f"{path} was changed after it was written: its checksum does not fit. "
                "Roll the partition back or publish it again."
            )
        _check_names(manifest, path)
        return manifest


def _file_entry(tree: dict) -> FileEntry:
    return FileEntry(
        _text(tree["name"]),
        _count(tree["size"]),
        _text(tree["sha256"]),
        _count(tree["row_count"]),
        _text(tree.get("content_sha256", "")),
        tuple(map(_text, tree.get("frames", ()))),
        tuple(map(_text, tree.get("chunks", ()))),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"found {str(value)[:50]!r} where a text was expected")
    return value


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TypeError(f"found {str(value)[:50]!r} where a whole number from 0 on was expected")
    return value


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"found the number {text[:50]}, which is not finite")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"found {name}, which is no JSON")


def _checksum(tree: dict) -> str:
    """Over everything but itself: a changed byte anywhere in a manifest is found when it is read."""
    rest = {key: value for key, value in tree.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _check_versions(tree: dict, path: str) -> None:
    version, schema = int(tree["format"]), [int(number) for number in tree.get("schema_version", ())]
    major = max([version, *schema[:1]])
    if version > FORMAT or schema[:1] > [READS_MAJOR]:
        raise SchemaTooNew(
            f"{path} has manifest format {version} and schema version {'.'.join(map(str, schema))}; "
            f"this code reads format {FORMAT} and schema {READS_MAJOR}.x. "
            f"Install a newer reader: pip install --upgrade 'nocturne>={major}'."
        )


def _check_names(manifest: Manifest, path: str) -> None:
    for file in manifest.files:
        if not is_plain_name(file.name):
            raise ManifestBroken(
                f"{path} names the file {file.name!r}; expected a plain name in its own folder. "
                "Publish the partition again."
            )
