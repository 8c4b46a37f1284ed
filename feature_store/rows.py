"""The rows of one committed version, of which no changed bit is read as data.

Arrow checks the CRC of every page; what no CRC covers is held against the frames of the manifest (frames.py), the
footer before anything parses it. Partitions of before the frames are read with the pages' CRCs alone.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.disk import Disk
from feature_store.errors import DataDamaged, StoreError
from feature_store.frames import Frames
from feature_store.manifest import FileEntry


def schema_of(disk: Disk, path: str, entry: FileEntry) -> pa.Schema:
    with _checked(disk, path, entry) as (file, _):
        return file.schema_arrow


def read_rows(
    disk: Disk,
    paths: Sequence[str],
    entries: Sequence[FileEntry],
    columns: list[str] | None,
    filter: pc.Expression | None,
) -> pa.Table:
    """All files' rows, one after the other. DataDamaged, ArrowException, OSError; StoreError for unknown columns."""
    if filter is None:
        tables = [_read_whole(disk, path, entry, columns) for path, entry in zip(paths, entries, strict=True)]
        return tables[0] if len(tables) == 1 else pa.concat_tables(tables)
    for path, entry in zip(paths, entries, strict=True):
        with _checked(disk, path, entry) as (file, frames):
            _check_columns(columns, file.schema_arrow.names, path)
            _check_groups(frames, file.metadata, _groups_with(disk, path, filter), path, entry)
    return pq.read_table(
        list(paths),
        columns=columns,
        filters=filter,
        filesystem=disk.arrow,
        partitioning=None,
        page_checksum_verification=True,
    )


def check_frames(disk: Disk, path: str, entry: FileEntry) -> None:
    """For a reader that checks the pages' CRCs itself. DataDamaged."""
    try:
        with _checked(disk, path, entry) as (file, frames):
            _check_groups(frames, file.metadata, range(file.metadata.num_row_groups), path, entry)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, f"cannot be read ({error})") from error


def _read_whole(disk: Disk, path: str, entry: FileEntry, columns: list[str] | None) -> pa.Table:
    """One chunk per column, so that a matrix is a view of it."""
    with _checked(disk, path, entry) as (file, frames):
        _check_columns(columns, file.schema_arrow.names, path)
        _check_groups(frames, file.metadata, range(file.metadata.num_row_groups), path, entry)
        return file.read(columns)


@contextmanager
def _checked(disk: Disk, path: str, entry: FileEntry) -> Iterator[tuple[pq.ParquetFile, Frames]]:
    """The open file, with its size, footer and all that no row group holds as they were published."""
    with disk.open(path) as source:
        if source.size() != entry.size:
            raise _damaged(path, f"has {source.size()} bytes; the manifest says {entry.size}")
        frames = Frames(source)
        if entry.frames and frames.footer() != entry.frames[0]:
            raise _changed(path, "its footer")
        file = pq.ParquetFile(source, pre_buffer=True, page_checksum_verification=True)
        if entry.frames and frames.outside(file.metadata) != entry.frames[1]:
            raise _changed(path, "what lies between its row groups and its footer")
        yield file, frames


def _check_groups(
    frames: Frames, metadata: pq.FileMetaData, numbers: Sequence[int], path: str, entry: FileEntry
) -> None:
    for number in numbers if entry.frames else ():
        if frames.row_group(metadata, number) != entry.frames[2 + number]:
            raise _changed(path, f"a page's header in row group {number}")


def _groups_with(disk: Disk, path: str, filter: pc.Expression) -> list[int]:
    """Row groups whose statistics do not rule the filter out."""
    import pyarrow.dataset as ds  # imports pandas where there is one, which only some readers need

    fragment = ds.ParquetFileFormat().make_fragment(path, disk.arrow)
    return [group.id for group in fragment.subset(filter, schema=fragment.physical_schema).row_groups]


def _changed(path: str, what: str) -> DataDamaged:
    return _damaged(path, f"was changed after it was published: {what} does not fit its checksum")


def _damaged(path: str, found: str) -> DataDamaged:
    return DataDamaged(f"{path} {found}. `verify` names the file; roll the partition back or publish it again.")


def _check_columns(columns: list[str] | None, there: list[str], path: str) -> None:
    unknown = sorted(set(columns or ()) - set(there))
    if unknown:
        raise StoreError(f"Found no column {unknown} in {path}; it has {there}.")
