"""The first rows of a source, without Spark: of several files, spread over all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.configuration.sections import SourceTable
from jobs.events.damage import AGAIN, BROKEN_GZIP, check_parquet, check_whole, first_line
from jobs.events.files import at_once, open_arrow, statuses
from jobs.events.folders import folder_values
from jobs.events.lake_tables import files_of
from jobs.events.names_twice import names_twice
from jobs.events.parquet_times import kinds_of
from jobs.events.places import SourceError
from jobs.events.read_source import column_names
from jobs.events.text_rows import TextSource, read_rows

MOST_FILES, MOST_ROWS = 20, 100_000
MOST_COUNTED = 1000  # files whose rows are counted
Row = tuple[str | None, dict[str, Any]]  # what is wrong with it, its values by the source's column


@dataclass(frozen=True)
class Sample:
    """Rows of a source, and what is known of all of it."""

    source: SourceTable
    files: list[str]
    looked_at: list[str]
    size: int  # bytes of all files
    total: int | None  # rows of all files; None where counting would take reading them
    rows: list[Row]
    types: dict[str, str]  # column → type, of the first file
    instants: frozenset[str]  # columns of timestamps without a zone that are instants all the same
    twice: list[str]  # names that stand more than once in the first file
    is_cut: bool  # whether a file that was looked at may have more rows

    @property
    def is_whole(self) -> bool:
        return len(self.rows) == self.total or (self.total is None and not self.is_cut and self.looked_at == self.files)

    def values(self, column: str) -> list[Any]:
        """Of the rows that have any."""
        return [value for _, row in self.rows if (value := row.get(column)) is not None]


def take(source: SourceTable, setting: str, most_rows: int = MOST_ROWS) -> Sample:
    """SourceError: nothing there, or a file that is none of the format."""
    files = files_of(source, setting)
    looked_at = spread(files, MOST_FILES)
    size = sum(one.size for one in statuses(files).values())
    for file in looked_at:
        check_whole(file, source.file_format, source.encoding)
    names = column_names(source, looked_at)
    rows: list[Row] = []
    is_cut = False
    for n, file in enumerate(looked_at):
        most = (most_rows - len(rows)) // (len(looked_at) - n)
        found = _rows(file, source, most)
        is_cut |= len(found) >= most
        rows += found
    total, types, instants = None, dict.fromkeys(names, "text"), frozenset()
    if source.file_format == "parquet":
        schema = check_parquet(looked_at[0]).schema.to_arrow_schema()
        types |= {field.name: str(field.type) for field in schema}
        instants = frozenset(name for name, kind in kinds_of(looked_at[0]).items() if not kind.local)
        if len(files) <= MOST_COUNTED:
            at_once(check_parquet, files)
            total = sum(check_parquet(file).num_rows for file in files)
    return Sample(source, files, looked_at, size, total, rows, types, instants, names_twice(names), is_cut)


def spread(files: Sequence[str], most: int) -> list[str]:
    """At most so many of the files: the first, the last, and those between at equal distances."""
    if len(files) <= most:
        return list(files)
    return [files[round(n * (len(files) - 1) / (most - 1))] for n in range(most)]


def _rows(file: str, source: SourceTable, most: int) -> list[Row]:
    of_folders = folder_values(file)
    found = _parquet_rows(file, most) if source.file_format == "parquet" else _text_rows(file, source, most)
    return [(problem, of_folders | values) for problem, values in found]


def _text_rows(file: str, source: SourceTable, most: int) -> Iterator[Row]:
    text = TextSource(source.file_format, {}, source.delimiter, source.encoding)
    try:
        for _, row in zip(range(most), read_rows(file, text), strict=False):
            yield row
    except BROKEN_GZIP as error:
        raise SourceError(f"{file} is a truncated or damaged gzip ({error}). {AGAIN}.") from error


def _parquet_rows(file: str, most: int) -> Iterator[Row]:
    """Of each of some row groups so many."""
    try:
        with open_arrow(file) as content, pq.ParquetFile(content) as opened:
            groups = spread([str(n) for n in range(opened.num_row_groups)], 5)
            for n, group in enumerate(groups):
                share = most // len(groups) + (n < most % len(groups))
                for batch in opened.iter_batches(max(1, min(share, 10_000)), [int(group)]):
                    if share <= 0:
                        break
                    rows = _plain(batch.slice(0, share))
                    share -= len(rows)
                    yield from ((None, row) for row in rows)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceError(f"{file} is damaged: {first_line(error)}. {AGAIN}.") from error


def _plain(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Rows of Python's own values; times in microseconds."""
    columns = {}
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if pa.types.is_timestamp(field.type):
            column = column.cast(pa.timestamp("us", field.type.tz), safe=False)
        columns[field.name] = _values(column)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _values(column: pa.Array) -> list[Any]:
    try:
        return column.to_pylist()
    except (ValueError, OverflowError, UnicodeDecodeError):  # a time beyond Python's years, bytes that are no text
        return [_one(value) for value in column]


def _one(value: pa.Scalar) -> Any:
    try:
        return value.as_py()
    except (ValueError, OverflowError):
        return None
    except UnicodeDecodeError:
        return "\udcff"
