"""The configured sources as files and as Spark frames with our column names. Broken sources stop the job with one
message.

`read_entities` is for the tables of items and users (types as the source has them); events go through read_events.py,
since they are judged row by row.
"""

from __future__ import annotations

import csv
import glob
import gzip
import itertools
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.configuration.sections import SourceTable
from jobs.program import JobError

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

SUFFIXES = {
    "parquet": (".parquet", ".pq"),
    "csv": (".csv", ".csv.gz", ".tsv", ".tsv.gz"),
    "jsonl": (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".ndjson"),
}
MAX_ID_BYTES = 1024
PEEK_LINES = 1000  # JSON lines have no header: their keys are taken from so many lines
CHUNK = 1 << 20


class SourceError(JobError):
    """A source cannot be read as configured."""


def read_entities(spark: SparkSession, source: SourceTable, key: str) -> DataFrame:
    """The table of items or users: `key` (cast to string) and every other column, under our names.

    Rows with an unusable key (null, over 1,024 bytes, NUL, not UTF-8) are left in: filter with `unusable_id(key)`.
    SourceError: nothing there, a file that is not of the format, `key` or a mapped column missing.
    """
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException
    from pyspark.sql import functions as F

    files = find_files(source)
    try:
        frame = _load(spark, source, files)
        columns = resolve_columns(source, frame.columns, required=(key,))
    except (PySparkException, Py4JJavaError) as error:
        raise SourceError(
            f"{source.path} cannot be read as {source.format}: {first_line(error)}. Check the file and source.*.format."
        ) from error
    chosen = [F.col(quoted(theirs)).alias(ours) for ours, theirs in columns.items()]
    constants = [F.lit(value).alias(ours) for ours, value in source.constants.items()]
    return frame.select(*chosen, *constants).withColumn(key, F.col(key).cast("string"))


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


def find_files(source: SourceTable) -> list[str]:
    """The source's files in order of their names: `path` is a file, a folder of files of the format, or a glob.
    SourceError."""
    path = Path(source.path)
    if path.is_dir():
        found = sorted(
            str(p)
            for p in path.rglob("*")
            if p.name.endswith(SUFFIXES[source.format]) and not _hidden(p.relative_to(path))
        )
    elif path.is_file():
        found = [str(path)]
    else:
        found = sorted(
            p for p in glob.glob(source.path, recursive=True) if Path(p).is_file() and not _hidden(Path(Path(p).name))
        )
    if not found:
        endings = " or ".join(SUFFIXES[source.format])
        raise SourceError(
            f"Nothing to read at {source.path}; expected a file, a folder of {endings} files, or a glob. "
            "Check source.*.path."
        )
    return found


def _hidden(path: Path) -> bool:
    """Engines leave `_SUCCESS`, `.crc`, `_temporary/` beside their files."""
    return any(part.startswith((".", "_")) for part in path.parts)


def column_names(source: SourceTable, files: list[str]) -> list[str]:
    """The columns that the source has: those of the first file that has any; for JSON lines the keys of the first
    lines. SourceError."""
    if source.format == "parquet":
        return parquet_schema(files[0]).names
    if source.format == "csv":
        return next((names for file in files if (names := header(source, file))), [])
    keys: dict[str, None] = {}
    peeked = 0
    for file in files:
        if peeked < PEEK_LINES:
            peeked += _peek(file, PEEK_LINES - peeked, keys)
    return list(keys)


def header(source: SourceTable, file: str) -> list[str]:
    """The column names of a CSV; none for a file without a byte. SourceError."""
    with open_text(file) as lines:
        try:
            return next(csv.reader(lines, delimiter=source.delimiter), [])
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise truncated(file, error) from error
        except csv.Error as error:
            raise SourceError(
                f"{file} has no readable header ({error}). "
                f"Check that it is a CSV with source.*.delimiter {source.delimiter!r}."
            ) from error


def parquet_schema(file: str) -> pa.Schema:
    """SourceError when the file is no Parquet."""
    try:
        return pq.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(
            f"{file} is no readable Parquet file ({first_line(error)}). Write it again, or set source.*.format."
        ) from error


def resolve_columns(
    source: SourceTable, names: list[str], required: tuple[str, ...], optional: tuple[str, ...] | None = None
) -> dict[str, str]:
    """Our column → the source's, for those that are there; `optional` limits the rest (None: every other column, under
    its own name).

    A column that the configuration maps, or that is required, must exist: SourceError says which exist.
    """
    mapped = {ours: theirs for ours, theirs in source.columns.items() if ours not in source.constants}
    rest = [name for name in names if name not in mapped.values()] if optional is None else optional
    chosen = dict(mapped)
    for name in [*required, *rest]:
        if name not in chosen and name not in source.constants and (name in required or name in names):
            chosen[name] = name
    for ours, theirs in chosen.items():
        if theirs not in names:
            raise SourceError(
                f"{source.path} has no column {theirs!r} (our {ours!r}); it has {', '.join(map(repr, names))}. "
                f"Map it: source.*.columns.{ours}: <their name>."
            )
    return chosen


def open_text(file: str) -> TextIO:
    """A text file, gzipped or not; bytes that are no UTF-8 become lone surrogates, so that they can be found again."""
    opener = gzip.open if file.endswith(".gz") else open
    return opener(file, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="")


def check_whole(file: str) -> None:
    """Read a gzip to its end: SourceError when it is cut off or damaged, before anything is made from its first
    half."""
    if not file.endswith(".gz"):
        return
    try:
        with gzip.open(file, "rb") as content:
            while content.read(CHUNK):
                pass
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise truncated(file, error) from error


def truncated(file: str, error: Exception) -> SourceError:
    return SourceError(f"{file} is a truncated or damaged gzip ({error}). Fetch it again; nothing was read from it.")


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def quoted(name: str) -> str:
    """A source's column name for Spark, whatever it holds."""
    return "`" + name.replace("`", "``") + "`"


def _require_one_header(source: SourceTable, files: list[str]) -> None:
    """Spark takes columns by their place, as the first file has them: in another order they would trade names
    unnoticed."""
    found = {file: names for file in files if (names := header(source, file))}
    first = next(iter(found), "")
    for file, names in found.items():
        if names != found[first]:
            raise SourceError(
                f"{file} has the columns {', '.join(map(repr, names))}, and {first} has "
                f"{', '.join(map(repr, found[first]))}. Write the files alike."
            )


def _peek(file: str, most: int, keys: dict[str, None]) -> int:
    """Add the keys of a JSON-lines file's first lines; returns how many were looked at. SourceError."""
    looked = 0
    with open_text(file) as lines:
        try:
            for looked, line in enumerate(itertools.islice(lines, most), start=1):  # noqa: B007
                keys.update(dict.fromkeys(_object(line)))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise truncated(file, error) from error
    return looked


def _object(line: str) -> dict:
    """A malformed line has no keys: it is rejected, with its number, when rows are read."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _load(spark: SparkSession, source: SourceTable, files: list[str]) -> DataFrame:
    for file in files:
        check_whole(file)
    if source.format == "parquet":
        for file in files:
            parquet_schema(file)
        return spark.read.option("mergeSchema", len(files) > 1).parquet(*files)
    if source.format == "csv":
        _require_one_header(source, files)
        options = {"header": True, "multiLine": True, "escape": '"', "sep": source.delimiter, "mode": "FAILFAST"}
        return spark.read.options(**options).csv(files)
    return spark.read.option("mode", "FAILFAST").json(files)
