"""CSV that is safe to open in a spreadsheet: user ids are hostile text, and a cell that begins
with `=` would be run as a formula.

Every cell is quoted. A text that begins (after blanks) with one of = + - @, a tab, a carriage return or a line
feed, one of their full-width forms, or an apostrophe, gets one apostrophe in front. To get the ids back, take one
leading apostrophe off (`plain`).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

import pyarrow as pa

_RISKY = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20", "'")


def safe(text: str) -> str:
    """The cell for a text; `plain` gives the text back."""
    return "'" + text if text.startswith(_RISKY) or text.lstrip().startswith(_RISKY) else text


def plain(cell: str) -> str:
    """Inverse of `safe`."""
    return cell.removeprefix("'")


def to_csv(table: pa.Table) -> bytes:
    """UTF-8 with a header, every cell quoted, texts made safe."""
    rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
    return write_rows(table.column_names, rows)


def write_rows(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """As `to_csv`, from rows."""
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows([safe(v) if isinstance(v, str) else v for v in row] for row in rows)
    return sink.getvalue().encode()
