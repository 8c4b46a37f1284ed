"""Parquet files that many writers put side by side into one folder, each its own rows: where an engine has no file
system for the store, its workers write through the store's disk, and hand over what they wrote.

Nothing counts before a commit names it: what a worker left that failed, or was not the first, is an orphan like any.
"""

from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.disk import Disk
from feature_store.frames import Frames
from feature_store.layout import part_name
from feature_store.manifest import FileEntry

ROW_GROUP_ROWS = 131_072
PART_BYTES = 128 << 20  # a worker holds a file whole until it is sent


def put_parts(
    disk: Disk, folder: str, batches: Iterable[pa.RecordBatch], schema: pa.Schema, number: int
) -> Iterator[FileEntry]:
    """Writes the rows, in their order, as files of about `PART_BYTES`; none where there are no rows.

    number: of the writer; the files' names sort by it, then in the order of the rows. OSError; ArrowInvalid for a
    column of another type.
    """
    groups = _row_groups(batches, schema)
    count = 0
    while (first := next(groups, None)) is not None:
        content, rows = _file_of(first, groups, schema)
        path = f"{folder}/{part_name(number, '.parquet', f'{count:04d}')}"
        sink = disk.create(path)
        try:
            sink.write(content)
        finally:
            sink.close()
        with pa.BufferReader(content) as source:
            frames, chunks = Frames(source).all(), Frames(source).chunks()
        yield FileEntry(path.rpartition("/")[2], content.size, sink.sha256(), rows, frames=frames, chunks=chunks)
        count += 1


def _file_of(first: pa.Table, more: Iterator[pa.Table], schema: pa.Schema) -> tuple[pa.Buffer, int]:
    """(one file's bytes, its rows)."""
    sink, rows = pa.BufferOutputStream(), 0
    with pq.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True) as writer:
        group: pa.Table | None = first
        while group is not None:
            writer.write_table(group, row_group_size=ROW_GROUP_ROWS)
            rows += group.num_rows
            group = next(more, None) if sink.tell() < PART_BYTES else None
    return sink.getvalue(), rows


def _row_groups(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows with the schema's types, so many at a time as make a row group."""
    waiting: list[pa.RecordBatch] = []
    held = 0
    for batch in batches:
        waiting += [batch] if batch.num_rows else []
        held += batch.num_rows
        if held >= ROW_GROUP_ROWS:
            table = pa.Table.from_batches(waiting)
            whole = held - held % ROW_GROUP_ROWS
            for start in range(0, whole, ROW_GROUP_ROWS):
                yield table.slice(start, ROW_GROUP_ROWS).cast(schema)
            waiting, held = table.slice(whole).to_batches(), held - whole
    if held:
        yield pa.Table.from_batches(waiting).cast(schema)
