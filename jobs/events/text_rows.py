"""Rows of CSV and JSON-lines event logs, as texts, each with its number; what cannot be parsed is kept as a problem of
its row.

Plain Python that runs inside Spark's workers: one file at a time, in record batches. Parsing here and not in Spark
gives row numbers, tells invalid UTF-8 and lone surrogates from valid text, and takes quoted line breaks.
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TextIO

import pyarrow as pa

from jobs.events.damage import UTF8, open_lines
from jobs.events.folders import folder_values

BATCH_ROWS = 20_000
MALFORMED = "malformed line"


@dataclass(frozen=True)
class TextSource:
    """What to take from a text file: our column → theirs, the format, the delimiter, the encoding."""

    format: str
    columns: dict[str, str]
    delimiter: str = ","
    encoding: str = UTF8


def schema(columns: Iterable[str]) -> pa.Schema:
    """Where a row comes from, its problem (null: none), the row as JSON, and our columns as texts."""
    fields = [("source_file", pa.string()), ("row_number", pa.int64()), ("problem", pa.string()), ("row", pa.string())]
    return pa.schema(fields + [(name, pa.string()) for name in columns])


def read_batches(file: str, label: str, source: TextSource) -> Iterator[pa.RecordBatch]:
    """The rows of one file, `label` being its name in the rejected rows."""
    rows: list[dict[str, Any]] = []
    of_folders = {name: value for name, value in folder_values(file).items() if name in source.columns.values()}
    for number, (problem, values) in enumerate(read_rows(file, source), start=1):
        rows.append(_row(label, number, problem, of_folders | values, source))
        if len(rows) == BATCH_ROWS:
            yield pa.RecordBatch.from_pylist(rows, schema(source.columns))
            rows = []
    yield pa.RecordBatch.from_pylist(rows, schema(source.columns))


def read_rows(file: str, source: TextSource) -> Iterator[tuple[str | None, dict[str, Any]]]:
    """(problem, values by the source's column) of each row."""
    with open_lines(file, source.encoding) as lines:
        yield from READERS[source.format](lines, source)


def _row(label: str, number: int, problem: str | None, values: dict[str, Any], source: TextSource) -> dict[str, Any]:
    row: dict[str, Any] = {"source_file": label, "row_number": number, "problem": problem}
    for ours, theirs in source.columns.items():
        text = _text(values.get(theirs))
        if text is not None and not _is_utf8(text):
            row["problem"], text = row["problem"] or f"{ours} is not valid {source.encoding.upper()}", None
        row[ours] = text
    shown = {theirs: values.get(theirs) for theirs in source.columns.values()}
    row["row"] = json.dumps(shown, ensure_ascii=True)
    return row


def _text(value: Any) -> str | None:
    """JSON values as CSV would have them."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _is_utf8(text: str) -> bool:
    """False for lone surrogates: bytes that were no UTF-8, or such escapes in JSON."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _csv_rows(lines: TextIO, source: TextSource) -> Iterator[tuple[str | None, dict[str, Any]]]:
    """Empty fields are nulls. A row with more or fewer fields than the header is malformed.

    What is malformed counts once for each line that it took: a quote that nobody closes takes the lines after it, up to
    the parser's limit or the end of the file, and they would be missed by nobody.
    """
    reader = csv.reader(lines, delimiter=source.delimiter, strict=True)
    header = next(reader, [])
    while True:
        before = reader.line_num
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error:
            fields = None
        if fields == []:
            continue  # a blank line
        if fields is None or len(fields) != len(header):
            yield from itertools.repeat((MALFORMED, {}), reader.line_num - before)
        else:
            yield None, {name: field or None for name, field in zip(header, fields, strict=True)}


def _json_rows(lines: TextIO, source: TextSource) -> Iterator[tuple[str | None, dict[str, Any]]]:
    for line in lines:
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            values = None
        yield (None, values) if isinstance(values, dict) else (MALFORMED, {})


READERS: dict[str, Callable[[TextIO, TextSource], Iterator[tuple[str | None, dict[str, Any]]]]] = {
    "csv": _csv_rows,
    "jsonl": _json_rows,
}
