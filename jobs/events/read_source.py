"""The configured sources as files and as Spark frames with our column names. Broken sources stop the job with one
message.

`read_entities` is for the tables of items and users (types as the source has them); events go through read_events.py,
since they are judged row by row.
"""

from __future__ import annotations

import codecs
import csv
import itertools
import json
from collections.abc import Collection
from typing import TYPE_CHECKING

from jobs.configuration.ranges import is_far
from jobs.configuration.sections import SourceTable
from jobs.events.damage import AGAIN, BROKEN_GZIP, PEEK_LINES, check_whole, malformed_line, open_lines
from jobs.events.files import at_once
from jobs.events.folders import folder_column, folder_columns
from jobs.events.lake_tables import files_of
from jobs.events.names_twice import names_twice, require_once, require_parquet_once
from jobs.events.parquet_frames import FILE, ROW, file_path, load, parquet_schema
from jobs.events.parquet_times import time_columns
from jobs.events.places import SourceError, in_words, require_readable_by_spark
from jobs.events.text_frames import json_lines, text_frame
from jobs.events.text_rows import TextSource
from jobs.spark import PLAIN, said_by_spark

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

MAX_ID_BYTES = 1024


def read_entities(
    spark: SparkSession, source: SourceTable, key: str, files: list[str] | None = None, read: Collection[str] = ()
) -> DataFrame:
    """The table of items or users: `key` (cast to string) and every other column, under our names.

    files: those that `files_of` gave, where they are known. read: our columns that the caller reads besides the key and
    those that are mapped; what stands twice in a CSV, and is none of them, is not to be found under its name. Rows with
    an unusable key (null, over 1,024 bytes, NUL, not UTF-8) are left in: filter with `unusable_id(key)`.
    SourceError: nothing there, a file that is not of the format, `key` or a mapped column missing, or standing twice.
    """
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException
    from pyspark.sql import functions as F

    files = files_of(source, "source.*") if files is None else files
    wanted = {ours: source.theirs(ours) for ours in (key, *source.names, *read) if ours not in source.constants}
    times = _check_entities(source, files, wanted)
    try:
        frame = _load(spark, source, files)
        columns = resolve_columns(source, frame.columns, required=(key,))
    except (PySparkException, Py4JJavaError) as error:
        where = malformed_line(files) if source.file_format == "jsonl" else ""
        raise SourceError(
            f"{source.path} cannot be read as {source.format}: {where or said_by_spark(error)}. "
            "Check the file and source.*.format."
        ) from error
    columns_of = {ours: times.get(theirs, F.col(quoted(theirs))) for ours, theirs in columns.items()}
    columns_of |= {ours: _parts(frame, source, ours) for ours in source.separators if ours in columns}
    chosen = [column.alias(ours) for ours, column in columns_of.items()]
    constants = [F.lit(value).alias(ours) for ours, value in source.constants.items()]
    return frame.select(*chosen, *constants).withColumn(key, F.col(key).cast("string"))


def _parts(frame: DataFrame, source: SourceTable, ours: str) -> Column:
    """The values of a column of texts that hold several; nothing between two separators is none. SourceError: of
    another type."""
    from pyspark.sql import functions as F

    theirs, separator = source.theirs(ours), source.separators[ours]
    found = frame.schema[theirs].dataType.simpleString()
    if found != "string":
        raise SourceError(f"{source.path}: column {theirs!r} (our {ours!r}) is of type {found}; expected texts, to be "
                          f"cut at {separator!r}. Map it as a plain column: source.*.columns.{ours}: {theirs}.")
    literally = "\\Q" + separator.replace("\\E", "\\E\\\\E\\Q") + "\\E"
    return F.filter(F.split(F.col(quoted(theirs)), literally), lambda part: part != "")


def unusable_id(name: str) -> Column:
    """Why the id in column `name` cannot be used (null: it can). Ids are opaque: nothing is trimmed, folded or
    normalised."""
    from pyspark.sql import functions as F

    column = F.col(name)
    return (
        F.when(column.isNull(), f"{name} is null")
        .when(F.octet_length(column) > MAX_ID_BYTES, f"{name} is longer than {MAX_ID_BYTES} bytes")
        .when(F.locate("\0", column) > 0, f"{name} holds NUL")
        .when(~F.is_valid_utf8(column), f"{name} is not valid UTF-8")
    )


def with_point(text: Column, decimal: str) -> Column:
    """A number as Spark casts it, whichever way it is written; null where a point of the text is no decimal's."""
    from pyspark.sql import functions as F

    return text if decimal == "." else F.when(~text.contains("."), F.translate(text, ",", "."))


def column_names(source: SourceTable, files: list[str]) -> list[str]:
    """The columns that the source has: those of the first file that has any, for JSON lines the keys of the first
    lines; then those of its folders. SourceError."""
    found = _names_in_files(source, files)
    return [*found, *(name for name in folder_columns(files) if name not in found)] if found else []


def _names_in_files(source: SourceTable, files: list[str]) -> list[str]:
    if source.file_format == "parquet":
        return parquet_schema(files[0]).names
    if source.file_format == "csv":
        return next((names for file in files if (names := header(source, file))), [])
    keys: dict[str, None] = {}
    peeked = 0
    for file in files:
        if peeked < PEEK_LINES:
            peeked += _peek(file, PEEK_LINES - peeked, keys)
    return list(keys)


def header(source: SourceTable, file: str) -> list[str]:
    """The column names of a CSV; none for a file without a byte. SourceError."""
    with open_lines(file, source.encoding) as lines:
        try:
            return next(csv.reader(lines, delimiter=source.delimiter, strict=True), [])
        except BROKEN_GZIP as error:
            raise SourceError(f"{file} is a truncated or damaged gzip ({error}). {AGAIN}.") from error
        except csv.Error as error:
            raise SourceError(
                f"{file} has no readable header ({error}). "
                f"Check that it is a CSV with source.*.delimiter {source.delimiter!r}."
            ) from error


def resolve_columns(
    source: SourceTable, names: list[str], required: tuple[str, ...], optional: tuple[str, ...] | None = None
) -> dict[str, str]:
    """Our column → the source's, for those that are there; `optional` limits the rest (None: every other column, under
    its own name).

    A column that the configuration maps, or that is required, must exist: SourceError says which exist.
    """
    if not names:
        wanted = ", ".join(map(repr, required))
        raise SourceError(f"{source.path} holds nothing: its files are empty; expected the columns {wanted}. Deliver "
                          "it anew, or name another: source.*.path.")
    mapped = {ours: theirs for ours, theirs in source.names.items() if ours not in source.constants}
    rest = [name for name in names if name not in mapped.values()] if optional is None else optional
    chosen = dict(mapped)
    for name in [*required, *rest]:
        if name not in chosen and name not in source.constants and (name in required or name in names):
            chosen[name] = name
    for ours, theirs in chosen.items():
        if theirs not in names:
            raise SourceError(
                f"{source.path} has no column {theirs!r} (our {ours!r}); it has {in_words(names)}. "
                f"Map it: source.*.columns.{ours}: <their name>."
            )
    return chosen


def quoted(name: str) -> str:
    """A source's column name for Spark, whatever it holds."""
    return "`" + name.replace("`", "``") + "`"


def _require_one_header(source: SourceTable, files: list[str], read: dict[str, str]) -> None:
    """Spark takes columns by their place, as the first file has them: in another order they would trade names
    unnoticed. What is read stands once, capitals or not: Spark would give the two names of its own."""
    found = {file: names for file in files if (names := header(source, file))}
    first = next(iter(found), "")
    for file, names in found.items():
        require_once(file, names, read, str.lower)
        if names != found[first]:
            raise SourceError(
                f"{file} has the columns {in_words(names)}, and {first} has {in_words(found[first])}. "
                "Write the files alike."
            )


def _peek(file: str, most: int, keys: dict[str, None]) -> int:
    """Add the keys of a JSON-lines file's first lines; returns how many were looked at. SourceError."""
    looked = 0
    with open_lines(file) as lines:
        try:
            for looked, line in enumerate(itertools.islice(lines, most), start=1):  # noqa: B007
                keys.update(dict.fromkeys(_object(line)))
        except BROKEN_GZIP as error:
            raise SourceError(f"{file} is a truncated or damaged gzip ({error}). {AGAIN}.") from error
    return looked


def _object(line: str) -> dict:
    """A malformed line has no keys: it is rejected, with its number, when rows are read."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _check_entities(source: SourceTable, files: list[str], read: dict[str, str]) -> dict[str, Column]:
    """SourceError for files that are not whole, or that Spark would not take; the columns that stand for times.

    read: our column → the source's, of those that somebody reads."""
    require_readable_by_spark(files)
    at_once(lambda file: check_whole(file, source.file_format, source.encoding), files)
    for file in files:
        if not is_far(file):
            check_whole(file, source.file_format, source.encoding)
    if source.file_format == "csv":
        _require_one_header(source, files, read)
    if source.file_format != "parquet":
        return {}
    for file in files:
        require_parquet_once(file, parquet_schema(file).names, read)
    return time_columns(files)


def _load(spark: SparkSession, source: SourceTable, files: list[str]) -> DataFrame:
    if source.file_format == "parquet":
        return load(spark, files, all_columns=True).drop(FILE, ROW)
    is_plain = not is_far(files[0])
    if codecs.lookup(source.encoding).name != "utf-8" or (source.file_format == "csv" and not is_plain):
        return _load_parsed(spark, source, files)
    reader = spark.read.options(**PLAIN, mode="FAILFAST")
    if source.file_format == "csv":
        frame = reader.options(header=True, multiLine=True, escape='"', sep=source.delimiter).csv(files)
    else:
        frame = reader.json(files if is_plain else json_lines(spark, files))
    more = [name for name in folder_columns(files) if name not in frame.columns]
    return frame.withColumns({name: folder_column(file_path(), name, files) for name in more}) if more else frame


def _load_parsed(spark: SparkSession, source: SourceTable, files: list[str]) -> DataFrame:
    """A CSV that Spark cannot read: on an object store, or not UTF-8 (Spark reads a few encodings alone, and what is
    none of them as other letters)."""
    from pyspark.sql import functions as F

    names = column_names(source, files)
    twice = names_twice(names, str.lower)
    names = [name for name in names if name not in twice]
    text = TextSource("csv", {name: name for name in names}, source.delimiter, source.encoding)
    rows, said = text_frame(spark, files, text), [F.lit(f"{source.path} has a "), F.lit(" in row "), F.lit(" of ")]
    problem = F.concat(said[0], "problem", said[1], "row_number", said[2], "source_file")
    whole = F.when(F.col("problem").isNull(), True).otherwise(F.raise_error(problem).cast("boolean"))
    return rows.where(whole).select(*(quoted(name) for name in names))
