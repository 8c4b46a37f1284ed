"""The content hash: equal rows in equal order give equal hashes, however they are chunked, grouped or split into files.

Every column feeds streams of canonical bytes, each into its own SHA-256: `data` (fixed-width values, or the bytes
of strings), `lengths` (of strings and lists), `nulls` (positions of nulls). Nulls count as zeros in `data`. The
hash is the SHA-256 of the row count and all streams' digests by column name; `created_timestamp` and provenance
columns stay out. String and large_string, a dictionary and its plain values, both kinds of dates, and times of s,
ms and us are the same content: what Parquet does not tell apart.
"""

import hashlib
import json
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.errors import StoreError

PROVENANCE_KEY = b"nocturne.provenance"
LEFT_OUT = ("created_timestamp",)


def provenance_of(schema: pa.Schema) -> tuple[str, ...]:
    """Columns that say where a row came from (source file, row number, ...), by the schema's metadata."""
    listed = (schema.metadata or {}).get(PROVENANCE_KEY, b"").decode()
    return tuple(name for name in listed.split(",") if name)


def content_hash(batches: Iterable[pa.RecordBatch | pa.Table], provenance: Iterable[str] = ()) -> str:
    """Hash of the rows of all batches, in order. Holds one batch at a time."""
    hasher = ContentHasher(provenance)
    for batch in batches:
        hasher.update(batch)
    return hasher.hexdigest()


def combined_hash(rows: str | None, blobs: list[str]) -> str:
    """The partition's content hash from its rows' and its other files' hashes; a single one stands for itself."""
    parts = ([rows] if rows is not None else []) + blobs
    return parts[0] if len(parts) == 1 else hashlib.sha256(" ".join(parts).encode()).hexdigest()


class ContentHasher:
    """Streaming form of `content_hash`; batches may be record batches or tables of one schema."""

    def __init__(self, provenance: Iterable[str] = ()) -> None:
        self._provenance = set(provenance)
        self._streams: dict[str, hashlib._Hash] = {}
        self._offsets: dict[str, int] = {}
        self._types: dict[str, str] = {}
        self.row_count = 0

    def update(self, batch: pa.RecordBatch | pa.Table) -> None:
        left_out = self._provenance.union(LEFT_OUT, provenance_of(batch.schema))
        for field in batch.schema:
            if field.name not in left_out:
                self._types[field.name] = _canonical_type(field.type)
                column = batch.column(field.name)
                for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
                    self._feed(field.name, chunk)
        self.row_count += batch.num_rows

    def hexdigest(self) -> str:
        streams = {path: stream.hexdigest() for path, stream in self._streams.items()}
        described = json.dumps([self.row_count, self._types, streams], sort_keys=True)
        return hashlib.sha256(described.encode()).hexdigest()

    def _feed(self, path: str, array: pa.Array) -> None:
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        self._feed_nulls(path, array)
        kind = array.type
        if pa.types.is_fixed_size_list(kind):
            self._feed(f"{path}[]", _fixed_size_children(array))
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            lengths = pc.fill_null(pc.list_value_length(array).cast(pa.int64()), 0)
            self._add(f"{path} lengths", lengths.to_numpy(zero_copy_only=False))
            self._feed(f"{path}[]", array.flatten())
        elif pa.types.is_struct(kind):
            for position, field in enumerate(kind):
                self._feed(f"{path}.{field.name}", array.flatten()[position])
        elif _is_text(kind):
            self._feed_text(path, array)
        else:
            self._add(f"{path} data", _values(array))

    def _feed_nulls(self, path: str, array: pa.Array) -> None:
        offset = self._offsets.get(path, 0)
        self._offsets[path] = offset + len(array)
        if array.null_count and not pa.types.is_null(array.type):
            positions = np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)) + offset
            self._add(f"{path} nulls", positions.astype(np.int64))

    def _feed_text(self, path: str, array: pa.Array) -> None:
        if array.null_count:
            is_string = pa.types.is_string(array.type) or pa.types.is_large_string(array.type)
            array = pc.fill_null(array, "" if is_string else b"")
        wide = array.cast(pa.large_binary())
        if not len(wide):
            return
        offsets = np.frombuffer(wide.buffers()[1], np.int64)[wide.offset : wide.offset + len(wide) + 1]
        self._add(f"{path} lengths", np.diff(offsets))
        data = wide.buffers()[2]
        if data is not None and offsets[-1] > offsets[0]:
            self._add(f"{path} data", np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]])

    def _add(self, path: str, values: np.ndarray) -> None:
        if len(values):  # no stream for no bytes: an empty table has the same hash in no chunk and in one empty chunk
            stream = self._streams.setdefault(path, hashlib.sha256())
            stream.update(np.ascontiguousarray(values).view(np.uint8).data)


def _is_text(kind: pa.DataType) -> bool:
    return kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())


def _canonical_type(kind: pa.DataType) -> str:
    if isinstance(kind, pa.ExtensionType):
        kind = kind.storage_type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_large_string(kind):
        return "string"
    if pa.types.is_large_binary(kind):
        return "binary"
    if pa.types.is_timestamp(kind):
        return f"timestamp[{'ns' if kind.unit == 'ns' else 'us'}, {kind.tz}]"
    if pa.types.is_date(kind):
        return "date"
    if pa.types.is_time(kind):
        return f"time[{'ns' if kind == pa.time64('ns') else 'us'}]"
    if pa.types.is_fixed_size_list(kind):
        return f"fixed_size_list<{_canonical_type(kind.value_type)}>[{kind.list_size}]"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list<{_canonical_type(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return "struct<" + ", ".join(f"{field.name}: {_canonical_type(field.type)}" for field in kind) + ">"
    return str(kind)


def _fixed_size_children(array: pa.FixedSizeListArray) -> pa.Array:
    size = array.type.list_size
    if not array.null_count:
        return array.values.slice(array.offset * size, len(array) * size)
    # What lies under a null list is undefined: nulls take its place.
    kept = array.values.slice(array.offset * size, len(array) * size)
    valid = np.repeat(array.is_valid().to_numpy(zero_copy_only=False), size)
    return pc.if_else(pa.array(valid), kept, pa.scalar(None, kept.type))


def _values(array: pa.Array) -> np.ndarray:
    """Fixed-width values as numpy, nulls as zeros."""
    kind = array.type
    if pa.types.is_null(kind):
        return np.zeros(0, np.uint8)
    if pa.types.is_timestamp(kind) and kind.unit != "ns":
        array = array.cast(pa.timestamp("us", kind.tz))
    if pa.types.is_time32(kind):
        array = array.cast(pa.time64("us"))
    if pa.types.is_timestamp(kind) or pa.types.is_time(kind) or pa.types.is_duration(kind):
        array = array.view(pa.int64())
    elif pa.types.is_date(kind):
        array = array.cast(pa.date32()).view(pa.int32())
    elif pa.types.is_decimal128(kind):
        return _raw_bytes(array, 16)
    elif pa.types.is_boolean(kind):
        array = array.cast(pa.uint8())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise StoreError(
            f"Found a column of type {kind}; the content hash knows numbers, booleans, times, strings, binaries, "
            "lists and structs. Cast it."
        )
    if array.null_count:
        array = pc.fill_null(array, 0)
    return array.to_numpy(zero_copy_only=False)


def _raw_bytes(array: pa.Array, width: int) -> np.ndarray:
    here = slice(array.offset * width, (array.offset + len(array)) * width)
    values = np.frombuffer(array.buffers()[1], np.uint8)[here].reshape(-1, width)
    if array.null_count:
        values = values.copy()
        values[array.is_null().to_numpy(zero_copy_only=False)] = 0
    return values.reshape(-1)
