"""The event source as one Spark frame: our columns, where each row comes from, and what a text row's problem is.

Parquet is read by Spark itself, CSV and JSON lines by text_rows.py in Spark's workers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from jobs.configuration.sections import SourceTable
from jobs.events import times
from jobs.events.epochs import readings
from jobs.events.files import at_once, common_folder
from jobs.events.folders import folder_columns
from jobs.events.names_twice import require_once, require_parquet_once
from jobs.events.parquet_frames import FILE, ROW, is_text, load, parquet_schema, require_kindred
from jobs.events.parquet_times import time_columns
from jobs.events.places import SourceError, in_words, require_readable_by_spark
from jobs.events.read_source import column_names, header, quoted, resolve_columns, with_point
from jobs.events.text_frames import text_frame
from jobs.events.text_rows import TextSource

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

REQUIRED = ("user_id", "item_id", "behavior", "event_time")
OPTIONAL = ("quantity", "value", "event_id", "ingested_at")
TEXTS = ("user_id", "item_id", "behavior", "event_id")
TIMES = ("event_time", "ingested_at")
NUMBERS = ("quantity", "value")


def read_events(
    spark: SparkSession, source: SourceTable, files: list[str], setting: str = "source.events"
) -> DataFrame:
    """Columns: source_file, row_number, problem, row (as JSON), user_id, item_id, behavior, event_id (texts),
    event_time, ingested_at (UTC), quantity, value (double), `<time or number>_given` (whether there was anything to
    read), event_time_form (what an event_time that cannot be read looks like).

    SourceError: a missing column, a wrong type, a file that is none of the format, numbers that may be times in several
    units.
    """
    columns = columns_of(source, files)
    read = _read_parquet if source.file_format == "parquet" else _read_text
    raw = read(spark, source, files, columns)
    for name, value in source.constants.items():
        from pyspark.sql import functions as F

        raw = raw.withColumn(name, F.lit(value))
    return _typed(raw, source, setting)


def columns_of(source: SourceTable, files: list[str]) -> dict[str, str]:
    """Our column → the source's. Optional keys of JSON lines may first occur anywhere, so they are always looked
    for."""
    names = column_names(source, files)
    wherever = (
        [name for name in OPTIONAL if name not in source.columns and name not in names]
        if source.file_format == "jsonl" and names
        else []
    )
    columns = resolve_columns(source, [*names, *wherever], REQUIRED, OPTIONAL)
    if source.file_format == "csv":
        of_folders = folder_columns(files)
        for file in files:
            names = header(source, file)
            require_once(file, names, columns)
            _require_columns(file, names and [*names, *of_folders], columns)
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
    text = TextSource(source.format, columns, source.delimiter, source.encoding)
    return text_frame(spark, files, text).persist()


def _read_parquet(spark: SparkSession, source: SourceTable, files: list[str], columns: dict[str, str]) -> DataFrame:
    from pyspark.sql import functions as F

    require_readable_by_spark(files)
    check_parquet_columns(files, columns)
    found = time_columns(files)
    frame = load(spark, files, wanted=set(columns.values()))
    cells = {theirs: found.get(theirs, F.col(quoted(theirs))) for theirs in columns.values()}
    row = F.to_json(F.struct(*[cell.alias(theirs) for theirs, cell in cells.items()]))
    return frame.select(
        label_of(F.col(FILE), files).alias("source_file"),
        F.col(ROW).alias("row_number"),
        F.lit(None).cast("string").alias("problem"),
        row.alias("row"),
        *(cells[theirs].alias(ours) for ours, theirs in columns.items()),
    )


def label_of(path: Column, files: list[str]) -> Column:
    """The name in rejected rows of the file at a path, one of these: as `fingerprint.labels` has it."""
    from pyspark.sql import functions as F

    root = common_folder(files)  # "/" alone ends in a slash
    below = F.substring(path, F.instr(path, root) + len(root), F.length(path))
    return F.regexp_replace(below, "^/+", "")


def check_parquet_columns(files: list[str], columns: dict[str, str]) -> None:
    """SourceError unless every file has the columns, each once, of usable types that can be one."""
    at_once(parquet_schema, files)
    of_folders, schemas = folder_columns(files), {file: parquet_schema(file) for file in files}
    for file, schema in schemas.items():
        require_parquet_once(file, schema.names, columns)
        _require_columns(file, [*schema.names, *of_folders], columns)
        for ours, theirs in columns.items():
            kind = schema.field(theirs).type if theirs in schema.names else pa.string()
            if not _usable(ours, kind):
                column = f"{file}: column {theirs!r} (our {ours!r})"
                raise SourceError(
                    f"{column} is of type {kind}; expected {EXPECTED[_kind(ours)]}. "
                    "Convert it before this job, or map another column."
                )
    by_numbers = {theirs for ours, theirs in columns.items() if ours not in TEXTS}
    require_kindred(schemas, columns.values(), by_numbers.__contains__)
    for ours in set(REQUIRED) & set(columns):
        kinds = [schema.field(columns[ours]).type for schema in schemas.values() if columns[ours] in schema.names]
        if kinds and all(pa.types.is_null(kind) for kind in kinds):
            column = f"{files[0]}: column {columns[ours]!r} (our {ours!r})"
            raise SourceError(f"{column} holds nothing but nulls, of no type; expected {EXPECTED[_kind(ours)]}. "
                              "Map another column.")


EXPECTED = {
    "text": "a text or a whole number",
    "time": "a timestamp, a date, a text such as 2026-01-31 23:59:59, or a number since 1970",
    "number": "a number",
}


def _kind(ours: str) -> str:
    return "text" if ours in TEXTS else "time" if ours in TIMES else "number"


def _usable(ours: str, kind: pa.DataType) -> bool:
    is_whole = pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0)
    is_number = is_whole or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if pa.types.is_null(kind):
        return True
    if ours in TEXTS:
        return is_text(kind) or is_whole
    if ours in TIMES:
        return is_text(kind) or is_number or pa.types.is_timestamp(kind) or pa.types.is_date(kind)
    return is_text(kind) or is_number


def _typed(raw: DataFrame, source: SourceTable, setting: str) -> DataFrame:
    """Times in UTC and numbers as double (null where unreadable), ids as texts; what a source lacks is null."""
    from pyspark.sql import functions as F

    read_as = readings(raw, source, TIMES, setting)

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
        is_text = name in raw.columns and raw.schema[name].dataType.simpleString() == "string"
        columns[name] = (with_point(cell(name), source.decimal) if is_text else cell(name)).try_cast("double")
    given = {f"{name}_given": cell(name).isNotNull() for name in (*TIMES, *NUMBERS)}
    place = [F.col(name) for name in ("source_file", "row_number", "problem", "row")]
    form = F.when(columns["event_time"].isNull(), times.form(cell("event_time").cast("string")))
    read = columns | given | {"event_time_form": form}
    rows = raw.select(*place, *(column.alias(name) for name, column in read.items()))
    return rows.replace(source.behaviors, subset=["behavior"]) if source.behaviors else rows
