"""The rows of one committed version, of which no changed bit is read as data.

What no column chunk holds is held against the frames of the manifest (frames.py), the footer before anything parses it;
column chunks against hashes of their own, as they are read (checked_file.py). Of partitions of before those hashes,
Arrow checks the CRC of every page, and page headers are held against the frames; of before the frames, the CRCs alone.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.checked_file import DIGITS, CheckedFile, Chunk
from feature_store.disk import Disk
from feature_store.errors import DataDamaged, StoreError
from feature_store.frames import Frames
from feature_store.manifest import FileEntry
from feature_store.row_groups import read_side_by_side


@dataclass(frozen=True)
class _Opened:
    """A file whose footer and all that no row group holds are as they were published.

    source: where rows are to be read from; by_page: that is the bare file, whose row groups are still to be checked;
    chunks: else what is checked as it is read.
    """

    disk: Disk
    path: str
    entry: FileEntry
    frames: Frames
    metadata: pq.FileMetaData
    source: pa.NativeFile
    by_page: bool
    chunks: Sequence[Chunk]

    def rows(self) -> pq.ParquetFile:
        options = {"pre_buffer": True, "page_checksum_verification": self.by_page}
        return pq.ParquetFile(self.source, metadata=self.metadata, **options)

    @contextmanager
    def once_more(self) -> Iterator[pq.ParquetFile]:
        """For another thread."""
        with self.disk.open(self.path) as bare:
            source = bare if self.by_page else pa.PythonFile(CheckedFile(bare, self.chunks, self.path), mode="r")
            yield dataclasses.replace(self, source=source).rows()

    def check_page_headers(self, numbers: Sequence[int]) -> None:
        for number in numbers if self.entry.frames else ():
            if self.frames.row_group(self.metadata, number) != self.entry.frames[2 + number]:
                raise _changed(self.path, f"a page's header in row group {number}")


def schema_of(disk: Disk, path: str, entry: FileEntry) -> pa.Schema:
    with _open(disk, path, entry) as file:
        return file.rows().schema_arrow


def read_rows(
    disk: Disk,
    paths: Sequence[str],
    entries: Sequence[FileEntry],
    columns: list[str] | None,
    filter: pc.Expression | None,
) -> pa.Table:
    """All files' rows, one after the other. DataDamaged, ArrowException, OSError; StoreError for unknown columns."""
    tables = [_read(disk, path, entry, columns, filter) for path, entry in zip(paths, entries, strict=True)]
    return tables[0] if len(tables) == 1 else pa.concat_tables(tables)


def check_frames(disk: Disk, path: str, entry: FileEntry) -> None:
    """For a reader that checks the pages' CRCs itself. DataDamaged."""
    try:
        with _open(disk, path, entry) as file:
            file.check_page_headers(range(file.metadata.num_row_groups))
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, f"cannot be read ({error})") from error


def _read(disk: Disk, path: str, entry: FileEntry, columns: list[str] | None, filter: pc.Expression | None) -> pa.Table:
    with _open(disk, path, entry) as file:
        rows = file.rows()
        _check_columns(columns, rows.schema_arrow.names, path)
        if filter is not None:
            return _read_some(file, columns, filter)
        if file.by_page:
            file.check_page_headers(range(file.metadata.num_row_groups))
        many = file.metadata.num_row_groups > 1 and columns != []  # Arrow tells the number of rows of no columns
        table = read_side_by_side(file.once_more, file.metadata, columns) if many else None
        return rows.read(columns) if table is None else table  # one chunk a column: a matrix is a view of it


def _read_some(file: _Opened, columns: list[str] | None, filter: pc.Expression) -> pa.Table:
    """Reads the row groups whose statistics do not rule the filter out."""
    import pyarrow.dataset as ds  # imports pandas where there is one, which only some readers need

    options = ds.ParquetFragmentScanOptions(pre_buffer=True, page_checksum_verification=file.by_page)
    fragment = ds.ParquetFileFormat(default_fragment_scan_options=options).make_fragment(file.source)
    if file.by_page:
        groups = fragment.subset(filter, schema=fragment.physical_schema).row_groups
        file.check_page_headers([group.id for group in groups])
    return fragment.to_table(columns=columns, filter=filter)


@contextmanager
def _open(disk: Disk, path: str, entry: FileEntry) -> Iterator[_Opened]:
    with disk.open(path) as source:
        if source.size() != entry.size:
            raise _damaged(path, f"has {source.size()} bytes; the manifest says {entry.size}")
        frames = Frames(source)
        if entry.frames and frames.footer() != entry.frames[0]:
            raise _changed(path, "its footer")
        metadata = pq.read_metadata(source)
        if entry.frames and len(entry.frames) != 2 + metadata.num_row_groups:
            raise _damaged(path, f"has {metadata.num_row_groups} row groups; the manifest has hashes of others")
        if entry.frames and frames.outside(metadata) != entry.frames[1]:
            raise _changed(path, "what lies between its row groups and its footer")
        by_page = not (entry.frames and entry.chunks)
        chunks = [] if by_page else _chunks(frames, metadata, path, entry)
        if not by_page:
            source = pa.PythonFile(CheckedFile(source, chunks, path), mode="r")
        yield _Opened(disk, path, entry, frames, metadata, source, by_page, chunks)


def _chunks(frames: Frames, metadata: pq.FileMetaData, path: str, entry: FileEntry) -> list[Chunk]:
    """With their hashes in the manifest."""
    groups = frames.ranges(metadata)
    if [len(digests) for digests in entry.chunks] != [DIGITS * len(group) for group in groups]:
        raise _damaged(path, "has other row groups or columns than the manifest has hashes of")
    names = metadata.schema.names
    return [
        Chunk(start, end, digests[DIGITS * n : DIGITS * (n + 1)], f"column {names[n]!r} of row group {number}")
        for number, (group, digests) in enumerate(zip(groups, entry.chunks, strict=True))
        for n, (start, end) in enumerate(group)
    ]


def _changed(path: str, what: str) -> DataDamaged:
    return _damaged(path, f"was changed after it was published: {what} does not fit its checksum")


def _damaged(path: str, found: str) -> DataDamaged:
    return DataDamaged(f"{path} {found}. `verify` names the file; roll the partition back or publish it again.")


def _check_columns(columns: list[str] | None, there: list[str], path: str) -> None:
    unknown = sorted(set(columns or ()) - set(there))
    if unknown:
        raise StoreError(f"Found no column {unknown} in {path}; it has {there}.")
