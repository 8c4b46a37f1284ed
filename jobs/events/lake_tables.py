"""Delta and Iceberg tables as a source: which files hold the rows of one version, and which version a night reads.

Their log says which of the folder's Parquet files count; these are read as any others. What a table says beyond its
files (rows deleted by a mark, columns that a file calls differently) is refused by name: an engine of the format writes
it out.
"""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlparse

import pyarrow as pa

from feature_store import Table
from feature_store.disk import open_disk
from jobs.configuration.ranges import is_far
from jobs.configuration.sections import SourceTable
from jobs.events.damage import check_parquet, first_line
from jobs.events.files import is_file, statuses
from jobs.events.lake_options import delta_options, iceberg_options
from jobs.events.places import SourceError, find_files
from jobs.events.time_texts import canonical
from jobs.tables import TABLES

VERSIONS = "versions"  # of the tables that a night read, in the manifest of its rejected events
HINT = "version-hint.text"
FIELD_ID = b"PARQUET:field_id"
INSTALL = "Install it: pip install 'nocturne[lake]'"


@dataclass(frozen=True)
class Snapshot:
    """One version of a table: its number or id, and its files, sorted."""

    version: int | None  # None: plain files, which have none
    files: list[str]


def files_of(source: SourceTable, setting: str, date: datetime.date | None = None) -> list[str]:
    """The files of a source, as the night of `date` reads it. setting: `source.items`. SourceError."""
    return snapshot_of(source, setting, date).files


def snapshot_of(source: SourceTable, setting: str, date: datetime.date | None = None) -> Snapshot:
    """The configured version; else that which the night of `date` has read before; else the current one.

    SourceError: no such version, a file that is gone, what plain files do not tell.
    """
    if not source.is_lake:
        return Snapshot(None, find_files(source.path, source.format, f"{setting}.path"))
    version = source.version
    if version is None and source.as_of is None and date is not None:
        version = recorded(source, date).get(record_key(source, setting))
    read = {"delta": _delta, "iceberg": _iceberg}[source.format]
    found = read(source.path, version, as_of(source), setting)
    if not found.files:
        raise SourceError(f"{source.path}, version {found.version}, holds nothing; expected rows. Name another: "
                          f"{setting}.version.")
    _require_inside(source.path, found)
    gone = missing(found.files)
    if gone:
        raise SourceError(
            f"{source.path}: {len(gone)} of the {len(found.files)} files of version {found.version} are gone, e.g. "
            f"{gone[0]}; they were taken away since (vacuum, expired snapshots). Name a version that is there: "
            f"{setting}.version or {setting}.as_of.")
    return found


def _require_inside(path: str, found: Snapshot) -> None:
    """SourceError for a file outside the table's folder: whoever writes a log would choose what this machine reads."""
    folders = {os.path.abspath(path), os.path.realpath(path)}

    def is_inside(file: str) -> bool:
        if is_far(path):
            return file.startswith(f"{path}/")
        places = {os.path.abspath(file), os.path.realpath(file)}
        return any(os.path.commonpath([folder, place]) == folder for folder in folders for place in places)

    outside = [file for file in found.files if not is_inside(file)]
    if outside:
        raise SourceError(
            f"{path}: {len(outside)} of the {len(found.files)} files of version {found.version} lie outside the "
            f"table's folder, e.g. {outside[0]}; expected files in it. A shallow clone names those of "
            "another table, and a table that was moved those of its former place: write its rows out as a table of "
            "its own, and name that.")


def record_key(source: SourceTable, setting: str) -> str:
    """What a night writes down the version of a table under: its setting, and of one in a list its path, since its
    number changes when another joins the list."""
    return source.path if setting.endswith("]") else setting


def recorded(source: SourceTable, date: datetime.date) -> dict[str, int]:
    """Version that the night of `date` has read before, by `record_key`, where it has."""
    if not source.record:
        return {}
    contract = TABLES["rejected_events"]
    manifest = Table(source.record, key=contract.key, schema_problem=contract.schema_problem).manifest(str(date))
    return {} if manifest is None else manifest.fields.get(VERSIONS, {})


def as_of(source: SourceTable) -> datetime.datetime | None:
    """`as_of`, a time in UTC where it has no offset."""
    if source.as_of is None:
        return None
    time = datetime.datetime.fromisoformat(canonical(source.as_of) or "")
    return time if time.tzinfo else time.replace(tzinfo=datetime.UTC)


@contextmanager
def _explained(path: str, kind: str, version: object, setting: str) -> Iterator[None]:
    """What the libraries raise as one message."""
    try:
        yield
    except (SourceError, KeyboardInterrupt):
        raise
    except ImportError as error:
        raise SourceError(f"{setting}.format is {kind.lower()}, which takes a package that is not there ({error}). "
                          f"{INSTALL}.") from error
    except Exception as error:  # of either library, which have no class of their own for all
        of = "" if version is None else f" at version {version}"
        raise SourceError(f"{path} cannot be read as a table of {kind}{of}: {first_line(error)}. Check {setting}: "
                          "path, format, version and as_of.") from error


def _delta(path: str, version: int | None, moment: datetime.datetime | None, setting: str) -> Snapshot:
    with _explained(path, "Delta", version if version is not None else moment, setting):
        from deltalake import DeltaTable

        table = DeltaTable(path, version=version, storage_options=delta_options(path))
        if moment is not None:
            _require_written(table, moment)
            table.load_as_version(moment)
        _refuse_mapping(path, table.metadata().configuration)
        if any(batch.num_rows for batch in pa.RecordBatchReader.from_stream(table.deletion_vectors())):
            raise SourceError(f"{path} has rows that are deleted by a mark (deletion vectors), which its files do not "
                              "tell. Write them out: REORG TABLE … APPLY (PURGE).")
        added = pa.table(table.get_add_actions(flatten=True)).column("path").to_pylist()
        return Snapshot(table.version(), sorted(_placed(name, path) for name in added))


def _require_written(table: Any, moment: datetime.datetime) -> None:
    """ValueError for a time before all that the log tells: the library would give the first version."""
    if min(one["timestamp"] for one in table.history()) > moment.timestamp() * 1000:
        raise ValueError(f"nothing was written to it till {moment}, as far as its log goes back")


def _refuse_mapping(path: str, settings: dict[str, str]) -> None:
    if settings.get("delta.columnMapping.mode", "none") != "none":
        raise SourceError(f"{path} maps its columns (delta.columnMapping.mode): its files call them differently. Write "
                          "a copy without.")


def _iceberg(path: str, version: int | None, moment: datetime.datetime | None, setting: str) -> Snapshot:
    with _explained(path, "Iceberg", version if version is not None else moment, setting):
        from pyiceberg.table import StaticTable

        table = StaticTable.from_metadata(newest_metadata(path), iceberg_options(path))
        chosen = _iceberg_snapshot(table, version, moment)
        if chosen is None:
            raise SourceError(f"{path} has no snapshot{f' of {moment}' if moment else ''}: nothing was written to it "
                              f"till then. Name another: {setting}.")
        tasks = list(table.scan(snapshot_id=chosen.snapshot_id).plan_files())
        if any(task.delete_files for task in tasks):
            raise SourceError(f"{path} has rows that are deleted by files of their own, which plain files do not tell. "
                              "Write them out: rewrite_data_files.")
        files = sorted(_local(task.file.file_path, path) for task in tasks)
        schemas = table.metadata.schemas
        schema = next((one for one in schemas if one.schema_id == chosen.schema_id), table.schema())
        _refuse_renamed(path, files, {field.field_id: field.name for field in schema.fields})
        return Snapshot(chosen.snapshot_id, files)


def _iceberg_snapshot(table: Any, version: int | None, moment: datetime.datetime | None) -> Any:
    if version is not None:
        found = table.snapshot_by_id(version)
        if found is None:
            there = ", ".join(str(one.snapshot_id) for one in table.metadata.snapshots[-5:])
            raise ValueError(f"it has no snapshot {version}; its last ones are {there or 'none'}")
        return found
    if moment is not None:
        return table.snapshot_as_of_timestamp(int(moment.timestamp() * 1000))
    return table.current_snapshot()


def newest_metadata(folder: str) -> str:
    """The table's newest metadata file: that of its hint, else the one of the highest number. SourceError: none."""
    metadata = f"{folder}/metadata"
    disk, path = open_disk(metadata)
    names = {entry.name for entry in disk.list(path) if not entry.is_folder}
    if HINT in names:
        named = f"v{disk.read_bytes(f'{path}/{HINT}').decode().strip()}.metadata.json"
        if named in names:
            return f"{metadata}/{named}"
    numbered = [(int(found[1]), name) for name in names
                if name.endswith(".metadata.json") and (found := re.match(r"v?(\d+)", name))]
    if not numbered:
        raise SourceError(f"{folder} is no table of Iceberg: {metadata} has no file …metadata.json")
    return f"{metadata}/{max(numbered)[1]}"


def missing(files: Sequence[str]) -> list[str]:
    """Those that are not there."""
    try:
        statuses(files)
        return []
    except FileNotFoundError:
        return [file for file in files if not is_file(file)]


def _refuse_renamed(path: str, files: Sequence[str], names: dict[int, str]) -> None:
    """SourceError where a file calls a column by another name than the table does: the ids tell."""
    gone = set(missing(files))
    for file in files:
        if file in gone:
            continue
        for field in check_parquet(file).schema.to_arrow_schema():
            number = int((field.metadata or {}).get(FIELD_ID, -1))
            meant = names.get(number)
            same_name = field.name in names.values()
            if (meant is not None and meant != field.name) or (number >= 0 and meant is None and same_name):
                raise SourceError(f"{path}: {file} has a column {field.name!r} from before columns were renamed or "
                                  "made anew. Write its rows again: rewrite_data_files.")


def _placed(name: str, path: str) -> str:
    """A file of a Delta table by the name that its log has for it."""
    if "://" in name:
        return _local(name, path)
    return f"{path}/{unquote(name)}" if is_far(path) else os.path.normpath(os.path.join(path, unquote(name)))


def _local(uri: str, path: str) -> str:
    """A file's name as those of the table at `path` are read. ValueError: on another store."""
    parsed = urlparse(uri)
    if is_far(path) and is_far(uri):
        own = path.partition("://")[0]
        return f"{own}://{uri.partition('://')[2]}"  # s3a:// is s3://
    if parsed.scheme not in ("", "file") or is_far(path):
        raise ValueError(f"its file {uri} is on {parsed.scheme or 'a local disk'}, and the table is not")
    return os.path.normpath(unquote(parsed.path)) if parsed.scheme else os.path.normpath(uri)
