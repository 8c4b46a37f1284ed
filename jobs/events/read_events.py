"""The event source as one Spark frame: our columns, where each row comes from, and what a text row's problem is.

Parquet is read by Spark itself, CSV and JSON lines by text_rows.py in Spark's workers.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from jobs.configuration.sections import SourceTable
from jobs.events import times
from jobs.events.epochs import readings
from jobs.events.parquet_times import load, time_columns
from jobs.events.places import SourceError, in_words, require_readable_by_spark
from jobs.events.read_source import column_names, header, parquet_schema, quoted, resolve_columns
from jobs.events.text_frames import text_frame
from jobs.events.text_rows import TextSource

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

REQUIRED = ("user_id", "item_id", "behavior", "event_time")
OPTIONAL = ("quantity", "value", "event_id", "ingested_at")
TEXTS = ("user_id", "item_id", "behavior", "event_id")
TIMES = ("event_time", "ingested_at")
NUMBERS = ("quantity", "value")


def read_events(spark: SparkSession, source: SourceTable, files: list[str]) -> DataFrame:
    """Columns: source_file, row_number, problem, row (as JSON), user_id, item_id, behavior, event_id (texts),
    event_time, ingested_at (UTC), quantity, value (double), `<time or number>_given` (whether there was anything to
    read), event_time_form (what an event_time that cannot be read looks like).

    SourceError: a missing column, a wrong type, a file that is none of the format, numbers that may be times in several
    units.
    """
    columns = _columns(source, files)
    read = _read_parquet if source.format == "parquet" else _read_text
    raw = read(spark, source, files, columns)
    for name, value in source.constants.items():
        from pyspark.sql import functions as F

        raw = raw.withColumn(name, F.lit(value))
    return _typed(raw, source)


def _columns(source: SourceTable, files: list[str]) -> dict[str, str]:
    """Our column → the source's. Optional keys of JSON lines may first occur anywhere, so they are always looked
    for."""
    names = column_names(source, files)
    wherever = (
        [name for name in OPTIONAL if name not in source.columns and name not in names]
        if source.format == "jsonl" and names
        else []
    )
    columns = resolve_columns(source, [*names, *wherever], REQUIRED, OPTIONAL)
    if source.format == "csv":
        for file in files:
            _require_columns(file, header(source, file), columns)
    return columns


def _require_columns(file: str, names: list[str], columns: dict[str, str]) -> None:
    """SourceError when a file lacks a column that the source's first one has. A file without a byte has no rows, and
    lacks nothing."""
    for ours, theirs in columns.items():
        if names and theirs not in names:
            raise SourceError(
                f"{file} has no column {theirs!r} (our {ours!r}); it has {in_words(names)}. "
                "All files of a source need the same columns."
            )


def _read_text(spark: SparkSession, source: SourceTable, files: list[str], columns: dict[str, str]) -> DataFrame:
    """Kept: how its times are to be read is asked of all rows before they are read."""
    return text_frame(spark, files, TextSource(source.format, columns, source.delimiter, source.encoding)).persist()


def _read_parquet(spark: SparkSession, source: SourceTable, files: list[str], columns: dict[str, str]) -> DataFrame:
    from pyspark.sql import functions as F

    require_readable_by_spark(files)
    _check_parquet(source, files, columns)
    found = time_columns(files)
    frame = load(spark, files)
    root = os.path.commonpath([os.path.dirname(os.path.abspath(file)) for file in files])
    path = F.url_decode(F.replace(F.col("_metadata.file_path"), F.lit("+"), F.lit("%2B")))
    cells = {theirs: found.get(theirs, F.col(quoted(theirs))) for theirs in columns.values()}
    row = F.to_json(F.struct(*[cell.alias(theirs) for theirs, cell in cells.items()]))
    return frame.select(
        F.substring(path, F.instr(path, root) + len(root) + 1, F.length(path)).alias("source_file"),
        (F.col("_metadata.row_index") + 1).alias("row_number"),
        F.lit(None).cast("string").alias("problem"),
        row.alias("row"),
        *(cells[theirs].alias(ours) for ours, theirs in columns.items()),
    )


def _check_parquet(source: SourceTable, files: list[str], columns: dict[str, str]) -> None:
    """SourceError unless every file has the columns, of usable types, the same in all files."""
    first: pa.Schema | None = None
    for file in files:
        found = parquet_schema(file)
        _require_columns(file, found.names, columns)
        for ours, theirs in columns.items():
            kind = found.field(theirs).type
            if not _usable(ours, kind):
                column = f"{file}: column {theirs!r} (our {ours!r})"
                raise SourceError(
                    f"{column} is of type {kind}; expected {EXPECTED[_kind(ours)]}. "
                    "Convert it before this job, or map another column."
                )
            if first is not None and first.field(theirs).type != kind:
                before = f"in {files[0]} of type {first.field(theirs).type}"
                raise SourceError(
                    f"{file}: column {theirs!r} is of type {kind}, {before}; expected one type. Write the files alike."
                )
        first = first or found


EXPECTED = {
    "text": "a text or a whole number",
    "time": "a timestamp, a date, a text such as 2026-01-31 23:59:59, or a number since 1970",
    "number": "a number",
}


def _kind(ours: str) -> str:
    return "text" if ours in TEXTS else "time" if ours in TIMES else "number"


def _usable(ours: str, kind: pa.DataType) -> bool:
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    is_text = is_text or (pa.types.is_dictionary(kind) and pa.types.is_string(kind.value_type))
    is_whole = pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0)
    is_number = is_whole or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if pa.types.is_null(kind):
        return ours in OPTIONAL
    if ours in TEXTS:
        return is_text or is_whole
    if ours in TIMES:
        return is_text or is_number or pa.types.is_timestamp(kind) or pa.types.is_date(kind)
    return is_text or is_number


def _typed(raw: DataFrame, source: SourceTable) -> DataFrame:
    """Times in UTC and numbers as double (null where unreadable), ids as texts; what a source lacks is null."""
    from pyspark.sql import functions as F

    read_as = readings(raw, source, TIMES, "source.events")

    def cell(name: str) -> Any:
        return F.col(name) if name in raw.columns else F.lit(None).cast("string")

    columns: dict[str, Column] = {name: cell(name).cast("string") for name in TEXTS}
    for name in TIMES:
        day_only = source.day_only and name == "event_time"
        columns[name] = cell(name).cast("timestamp")
        if name in raw.columns:
            kind = raw.schema[name].dataType
            columns[name] = times.utc(cell(name), kind, source.timezone, day_only, read_as[name])
    for name in NUMBERS:
        columns[name] = cell(name).try_cast("double")
    given = {f"{name}_given": cell(name).isNotNull() for name in (*TIMES, *NUMBERS)}
    place = [F.col(name) for name in ("source_file", "row_number", "problem", "row")]
    form = F.when(columns["event_time"].isNull(), times.form(cell("event_time").cast("string")))
    read = columns | given | {"event_time_form": form}
    return raw.select(*place, *(column.alias(name) for name, column in read.items()))
