"""Whether a source's file is whole and what its name says, told before anything is made of it, by the file's name."""

from __future__ import annotations

import codecs
import functools
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Iterable
from typing import Any, BinaryIO, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.events.files import Status, ends, is_file, open_arrow, open_binary, status
from jobs.events.places import SourceError

CHUNK = 1 << 20
PEEK_LINES = 1000  # JSON lines have no header: their keys are taken from so many lines
PARQUET, ENCRYPTED, GZIP = b"PAR1", b"PARE", b"\x1f\x8b"
SIGNATURES = (
    (PARQUET, "Parquet"), (ENCRYPTED, "Parquet with an encrypted footer"), (GZIP, "gzip"),
    (b"BZh", "bzip2"), (b"\x28\xb5\x2f\xfd", "Zstandard"), (b"\xfd7zXZ", "xz"), (b"\x04\x22\x4d\x18", "LZ4"),
    (b"\xff\x06\x00\x00sNaPpY", "Snappy"), (b"PK\x03\x04", "ZIP or Excel"), (b"\xd0\xcf\x11\xe0", "Excel"),
    (b"ORC", "ORC"), (b"Obj\x01", "Avro"), (b"ARROW1", "Arrow"), (b"SQLite format 3", "SQLite"),
    (b"\xff\xfe", "UTF-16 text"), (b"\xfe\xff", "UTF-16 text"))
PAGES = (b"<!doctype", b"<html", b"<?xml")  # what a server sends in a file's stead
WORDS = {"parquet": "Parquet", "csv": "CSV", "jsonl": "JSON lines"}
FORMAT = "source.*.format"
AGAIN = "Nothing was read from it. Fetch or write it again"
UTF8 = "utf-8"
MARK = "\ufeff"  # of the byte order
ESCAPE = "lone-surrogates"  # what becomes of bytes that are none of the encoding; Python's own takes few encodings
BROKEN_GZIP = (EOFError, zlib.error, gzip.BadGzipFile)


def check_whole(file: str, format: str, encoding: str = UTF8, cure: str = "") -> None:
    """SourceError: cut off, damaged, or not of the format. What only reading a page tells, `damage_of` finds. cure:
    what to do about another format, where it is no source's."""
    if format == "parquet":
        check_parquet(file, cure)
    else:
        _check_text(file, format, encoding, cure)


def check_parquet(file: str, cure: str = "") -> pq.FileMetaData:
    """SourceError unless the file begins, ends and describes itself as a whole Parquet file; what it says of itself.
    A file that has not changed since is not read again: of ten thousand each look counts."""
    try:
        now = status(file)
    except OSError:
        _ends(file)
        raise
    return _described(file, now, cure or f"say what it is: {FORMAT}")


@functools.lru_cache(maxsize=20_000)
def _described(file: str, was: Status, cure: str) -> pq.FileMetaData:
    """was: what the file was when it was looked at."""
    head, tail, size = _ends(file)
    if not size:
        raise SourceError(f"{file} is empty: 0 bytes; expected Parquet. {AGAIN}, or take it away.")
    if not head.startswith(PARQUET):
        found = kind_of(head)
        what = f"it is {found}" if found else f"it begins with {head[:4]!r}, expected {PARQUET!r}"
        raise SourceError(f"{file} is no readable Parquet file: {what}. {AGAIN}, or {cure}.")
    if not tail.endswith(PARQUET):
        raise SourceError(f"{file} is cut off: it begins as Parquet, and its {size:,} bytes do not end so. {AGAIN}.")
    footer = int.from_bytes(tail[:4], "little")
    if footer > size - 12:
        raise SourceError(f"{file} is damaged: its footer is said to have {footer:,} bytes, and the file has {size:,}. "
                          f"{AGAIN}.")
    try:
        with open_arrow(file) as content, pq.ParquetFile(content) as opened:
            described = opened.metadata
            opened.schema_arrow  # noqa: B018 a schema that cannot be is found here
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceError(f"{file} is no readable Parquet file: its footer is damaged ({first_line(error)}). "
                          f"{AGAIN}.") from error
    _check_groups(file, described, size - footer - 8)
    return described


def _check_groups(file: str, described: pq.FileMetaData, end: int) -> None:
    """SourceError where the footer and the file contradict each other. end: where the footer begins."""
    groups = [described.row_group(i) for i in range(described.num_row_groups)]
    if sum(group.num_rows for group in groups) != described.num_rows:
        raise SourceError(f"{file} is damaged: its footer speaks of {described.num_rows:,} rows, and of "
                          f"{sum(group.num_rows for group in groups):,} in its row groups. {AGAIN}.")
    for i, group in enumerate(groups):
        for j in range(group.num_columns):
            column, levels = group.column(j), described.schema.column(j).max_repetition_level
            start = column.dictionary_page_offset or column.data_page_offset
            name = f"{file} is damaged: column {column.path_in_schema!r} of row group {i}"
            if not 4 <= start <= start + column.total_compressed_size <= end:
                where = f"{column.total_compressed_size:,} bytes from byte {start:,} on"
                raise SourceError(f"{name} is said to have {where}, and the data end at {end:,}. {AGAIN}.")
            if not levels and column.num_values != group.num_rows:
                raise SourceError(f"{name} has {column.num_values:,} values for {group.num_rows:,} rows. {AGAIN}.")


def damage_of(file: str) -> str:
    """What is wrong with a Parquet file's pages, or with a gzip; nothing where all can be read, or it has gone."""
    if not is_file(file):
        return ""
    try:
        if file.endswith(".gz"):
            _check_gzip(file)
        elif _ends(file)[0].startswith(PARQUET):
            check_parquet(file)
            with open_arrow(file) as content, pq.ParquetFile(content, page_checksum_verification=True) as opened:
                for group in range(opened.num_row_groups):
                    opened.read_row_group(group).validate(full=True)
    except SourceError as error:
        return str(error)
    except (pa.ArrowException, OSError, ValueError) as error:
        return f"{file} is damaged: {first_line(error)}. {AGAIN}."
    return ""


def read_parquet(file: str, columns: list[str]) -> pa.Table:
    """Those columns, every page's checksum checked where there is one. SourceError, with the file's name."""
    check_parquet(file)
    try:
        with open_arrow(file) as content:
            return pq.ParquetFile(content, page_checksum_verification=True).read(columns)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceError(f"{file} is damaged: {first_line(error)}. {AGAIN}.") from error


def _check_text(file: str, format: str, encoding: str, cure: str) -> None:
    head, _, _ = _ends(file)
    wanted = WORDS[format]
    if file.endswith(".gz"):
        if not head.startswith(GZIP):
            found = kind_of(head) or ("text" if head else "empty: 0 bytes")
            raise SourceError(f"{file} is no gzip: it is {found}; expected {wanted} in a gzip. {AGAIN}, or rename it.")
        _check_gzip(file)
        with open_binary(file) as packed, gzip.open(packed, "rb") as content:
            head = content.read(512)
    found = kind_of(head) if not is_wide(encoding) else ""
    if found == "gzip":
        raise SourceError(f"{file} is a gzip; expected {wanted} as text, or a name that ends in .gz. Rename it.")
    if format == "csv" and head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith((b'{"', b"[{")):
        found = "JSON"
    if found:
        cure = cure or f"say what it is: {FORMAT}, or source.*.encoding of a CSV"
        raise SourceError(f"{file} is {found}; expected {wanted} in {encoding.upper()}. {AGAIN}, or {cure}.")
    if format == "jsonl":
        _require_objects(file)
    try:
        codecs.getincrementaldecoder(encoding)(ESCAPE).decode(head)
    except UnicodeError as error:
        raise SourceError(f"{file} is no text in {encoding.upper()} ({first_line(error)}). Say in what it is: "
                          "source.*.encoding, e.g. utf-16-le or utf-16-be.") from error


def _require_objects(file: str) -> None:
    """SourceError where lines come, and none of the first is an object: a malformed line alone is its row's affair."""
    with open_lines(file) as lines:
        first = [line.strip() for line in itertools.islice(lines, PEEK_LINES)]
    if any(first) and not any(isinstance(_parsed(line), dict) for line in first):
        begins = {"[": "one JSON array", "{": "one JSON value over several lines"}
        found = begins.get(next(line for line in first if line)[0], "no JSON")
        raise SourceError(f"{file} holds {found}: none of its first {len(first)} lines is an object; expected one JSON "
                          f"object a line. {AGAIN}, or say what it is: {FORMAT}.")


def malformed_line(files: Iterable[str]) -> str:
    """The first line of JSON-lines files that holds no object, in words; nothing where all do."""
    for file in files:
        with open_lines(file) as lines:
            for number, line in enumerate(lines, 1):
                if line.strip() and not isinstance(_parsed(line), dict):
                    return f"line {number} of {file} is no JSON object"
    return ""


def _parsed(line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def open_lines(file: str, encoding: str = UTF8) -> TextIO:
    """A text file, gzipped or not; bytes that are none of the encoding become lone surrogates, so that they can be
    found again. Marks of the byte order are no text."""
    content: Any = open_binary(file)
    if file.endswith(".gz"):
        content = _Packed(content)
    if codecs.lookup(encoding).name == UTF8:
        return io.TextIOWrapper(content, encoding="utf-8-sig", errors=ESCAPE, newline="")
    lines = io.TextIOWrapper(content, encoding=encoding, errors=ESCAPE, newline="")
    if lines.read(1) != MARK:
        lines.seek(0)
    return lines


class _Packed(gzip.GzipFile):
    """A gzip that closes the file that it was given."""

    def __init__(self, content: BinaryIO) -> None:
        super().__init__(fileobj=content, mode="rb")
        self._content = content

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._content.close()


def _lone_surrogates(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(ESCAPE, _lone_surrogates)


def is_wide(encoding: str) -> bool:
    """Whether ASCII has zeros in it."""
    return b"\0" in "a".encode(encoding)


def _check_gzip(file: str) -> None:
    """Read to its end: SourceError when it is cut off or damaged, before anything is made from its first half."""
    try:
        with open_binary(file) as packed, gzip.open(packed, "rb") as content:
            while content.read(CHUNK):
                pass
    except BROKEN_GZIP as error:
        raise SourceError(f"{file} is a truncated or damaged gzip ({error}). {AGAIN}.") from error


def kind_of(head: bytes) -> str:
    """What a file is by its first bytes; nothing where they may be text."""
    for signature, kind in SIGNATURES:
        is_text = signature.isascii() and signature.decode("ascii").isprintable()
        if head.startswith(signature) and not (is_text and _is_text(head)):
            return kind
    if head.count(0) * 10 > len(head):
        return "binary data, or text in UTF-16"
    return "an HTML or XML page" if head.lstrip().lower().startswith(PAGES) else ""


def _is_text(head: bytes) -> bool:
    return not any(byte < 32 and byte not in b"\t\r\n" for byte in head)


def _ends(file: str) -> tuple[bytes, bytes, int]:
    """First 512 and last 8 bytes, and the size. SourceError: a file that cannot be opened."""
    try:
        return ends(file, 512, 8)
    except FileNotFoundError as error:
        raise SourceError(f"{file} has gone since its folder was listed. Deliver whole files, then run it again."
                          ) from error
    except PermissionError as error:
        raise SourceError(f"{file} may not be read ({error.strerror}). Give this user the right to.") from error


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
