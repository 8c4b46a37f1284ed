"""The bytes of a Parquet file that its page checksums do not cover, hashed: a changed bit there is found by a read.

A page's own bytes carry a CRC, which Arrow checks when it reads them. Its header (sizes, encoding, count), the footer
(types, offsets, statistics), the indexes and the magic bytes carry none, and together are a few thousandths of a file.
Frames, each a SHA-256: the footer; all else outside the row groups; and one for each row group: its page
headers, and whole every page that has no CRC or is of a kind that Arrow does not check. Format of the headers: Thrift's
compact protocol, parquet.thrift's PageHeader.

Beside them, for readers that need no CRC then, a quick hash of each column chunk whole (checked_file.py).
"""

import hashlib

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

_TAIL_BYTES = 8  # the footer's length and "PAR1"
_WINDOW_BYTES = 256  # of most page headers; a longer one is read anew
_LONGEST_HEADER = 1 << 20
_PIECE_BYTES = 1 << 20  # stays in a processor's cache from its reading to its hashing
_CHECKED_KINDS = (0, 2, 3)  # data page, dictionary page, data page v2
_KIND, _COMPRESSED_SIZE, _CRC = 1, 3, 4  # PageHeader's fields


class Frames:
    """The frames of an open Parquet file: `source` is not closed here. ArrowInvalid, OSError where it is none."""

    def __init__(self, source: pa.NativeFile) -> None:
        self._source, self._size = source, source.size()
        tail = source.read_at(_TAIL_BYTES, max(0, self._size - _TAIL_BYTES))
        self._footer_at = max(0, self._size - _TAIL_BYTES - int.from_bytes(tail[:4], "little"))
        self._chunks: list[list[tuple[int, int]]] | None = None

    def footer(self) -> str:
        """To be compared before anything parses it."""
        return hashlib.sha256(self._read(self._footer_at, self._size)).hexdigest()

    def outside(self, metadata: pq.FileMetaData) -> str:
        """All before the footer that no row group holds: magic bytes, indexes, filters, gaps."""
        digest, at = hashlib.sha256(), 0
        ranges = sorted(chunk for group in self.ranges(metadata) for chunk in group)
        for start, end in [*ranges, (self._footer_at, self._footer_at)]:
            digest.update(self._read(at, start))
            at = max(at, end)
        return digest.hexdigest()

    def row_group(self, metadata: pq.FileMetaData, number: int) -> str:
        digest = hashlib.sha256()
        for start, end in self.ranges(metadata)[number]:
            while start < end:
                header, payload_end = self._page(start, end)
                digest.update(header)
                start = payload_end
        return digest.hexdigest()

    def all(self) -> tuple[str, ...]:
        """Footer, outside, row groups in their order: what a manifest's file entry keeps."""
        metadata = pq.read_metadata(self._source)
        groups = (self.row_group(metadata, number) for number in range(metadata.num_row_groups))
        return (self.footer(), self.outside(metadata), *groups)

    def chunks(self) -> tuple[str, ...]:
        """Of each row group its column chunks' hashes, one after the other: what a manifest's file entry keeps too."""
        groups = self.ranges(pq.read_metadata(self._source))
        return tuple("".join(self._chunk(start, end) for start, end in group) for group in groups)

    def ranges(self, metadata: pq.FileMetaData) -> list[list[tuple[int, int]]]:
        """Where the column chunks of each row group start and end, in the order of their columns."""
        if self._chunks is None:
            groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
            self._chunks = [[_range(group.column(n)) for n in range(group.num_columns)] for group in groups]
        return self._chunks

    def _chunk(self, start: int, end: int) -> str:
        digest = xxhash.xxh3_64()
        for at in range(start, end, _PIECE_BYTES):
            digest.update(self._read(at, min(end, at + _PIECE_BYTES)))
        return digest.hexdigest()

    def _page(self, start: int, end: int) -> tuple[bytes, int]:
        """(the bytes to hash of the page at `start`, where the next one starts); all up to `end` where it is none."""
        length = _WINDOW_BYTES
        while True:
            window = self._read(start, min(end, start + length))
            try:
                header_bytes, fields = _header(window)
            except IndexError:
                if start + length >= end or length > _LONGEST_HEADER:
                    return self._read(start, end), end
                length *= 16
                continue
            page_end = start + header_bytes + fields.get(_COMPRESSED_SIZE, -1)
            is_whole = start + header_bytes <= page_end <= end
            if not is_whole:
                return self._read(start, end), end
            if _CRC in fields and fields.get(_KIND) in _CHECKED_KINDS:
                return window[:header_bytes], page_end
            return self._read(start, page_end), page_end

    def _read(self, start: int, end: int) -> bytes:
        return self._source.read_at(end - start, start) if end > start else b""


def _range(chunk: pq.ColumnChunkMetaData) -> tuple[int, int]:
    start = chunk.data_page_offset
    if chunk.has_dictionary_page and chunk.dictionary_page_offset:
        start = min(start, chunk.dictionary_page_offset)
    return start, start + chunk.total_compressed_size


def _header(window: bytes) -> tuple[int, dict[int, int]]:
    """(length, whole numbers by field) of the Thrift struct that the window starts with. IndexError: it ends before."""
    fields: dict[int, int] = {}
    at, field = 0, 0
    while window[at]:
        kind, step = window[at] & 0x0F, window[at] >> 4
        at += 1
        if step:
            field += step
        else:
            number, at = _varint(window, at)
            field = _signed(number)
        if kind in (4, 5, 6):
            number, at = _varint(window, at)
            fields[field] = _signed(number)
        else:
            at = _skip(window, at, kind)
    return at + 1, fields


def _skip(window: bytes, at: int, kind: int) -> int:
    """Where a value of the Thrift type `kind` ends. IndexError for types that no page header holds."""
    if kind in (1, 2):  # a field's boolean is its type
        return at
    if kind == 3:
        return at + 1
    if kind in (4, 5, 6):
        return _varint(window, at)[1]
    if kind == 7:
        return at + 8
    if kind == 8:
        length, at = _varint(window, at)
        return at + length
    if kind == 12:
        return at + _header(window[at:])[0]
    raise IndexError(f"type {kind} in a page header")


def _varint(window: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = window[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _signed(number: int) -> int:
    return (number >> 1) ^ -(number & 1)
