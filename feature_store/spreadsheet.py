"""The one writer of CSV, safe to open in a spreadsheet: ids are hostile text, and a cell that begins with `=` is run.

Cells are separated by commas and texts quoted; numbers are bare. A spreadsheet may cut the lines at semicolons, tabs or
line ends instead (German, French). So every part of a text between two such places that would begin a formula (= + - @
or one of their other forms, after blanks, quotes and whatever cannot be seen), or that begins with an apostrophe, gets
one apostrophe in front; so does a text that begins with such a place. To get the text back, take one leading apostrophe
off each part (`plain`).
"""

import csv
import datetime
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import BinaryIO

import pyarrow as pa

_CUTS = re.compile("([,;\t\r\n|\x0b\x0c\x1c-\x1e\x85\u2028\u2029])")
_RISKY = frozenset("=+-@\u2212")
_BLANK_LETTERS = frozenset('"\u115f\u1160\u2800\u3164\uffa0')  # seen as nothing, or taken for the cell's quotes
_BATCH_ROWS = 65_536


def safe(text: str) -> str:
    """The cell for a text; `plain` gives the text back."""
    if text.isalnum():
        return text
    parts = _CUTS.split(text)
    parts[::2] = [f"'{part}" if _is_risky(part) else part for part in parts[::2]]
    if len(parts) > 1 and not parts[0]:
        parts[0] = "'"
    return "".join(parts)


def plain(cell: str) -> str:
    """Inverse of `safe`."""
    parts = _CUTS.split(cell)
    parts[::2] = [part.removeprefix("'") for part in parts[::2]]
    return "".join(parts)


def _is_risky(part: str) -> bool:
    if part.startswith("'"):
        return True
    seen = next((c for c in part if c not in _BLANK_LETTERS and unicodedata.category(c)[0] not in "CZM"), "")
    return bool(seen) and unicodedata.normalize("NFKC", seen).lstrip()[:1] in _RISKY


def to_csv(table: pa.Table) -> bytes:
    """UTF-8 with a header."""
    sink = io.BytesIO()
    write_csv(table, sink)
    return sink.getvalue()


def write_csv(table: pa.Table, sink: BinaryIO) -> None:
    """As `to_csv`, into an open file, some rows at a time."""
    sink.write(write_rows(table.column_names, ()))
    for batch in table.to_batches(max_chunksize=_BATCH_ROWS):
        columns = (column.to_pylist() for column in batch.columns)
        sink.write(write_rows(None, zip(*columns, strict=True)))


def write_rows(header: Sequence[str] | None, rows: Iterable[Sequence[object]]) -> bytes:
    """As `to_csv`, from rows; None: without a header."""
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
    if header is not None:
        writer.writerow([safe(name) for name in header])
    writer.writerows([_cell(value) for value in row] for row in rows)
    return sink.getvalue().encode()


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, str):
        return safe(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return value
    if isinstance(value, datetime.date):  # a time too
        return value.isoformat()
    if isinstance(value, list) and all(isinstance(one, int | float) for one in value):
        return " ".join(map(repr, value))  # CSV has no lists: a vector's numbers, separated by spaces
    return safe(str(value))
