"""Any CSV(.gz), JSON-lines or Parquet log, by a column mapping: what validate_events reads, written down as Parquet."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from jobs.configuration.checks import check_source
from jobs.configuration.sections import SourceTable, Spark
from jobs.events import judge
from jobs.events.damage import check_whole
from jobs.events.lake_tables import files_of
from jobs.events.places import SUFFIXES, SourceError, find_files, lake_format
from jobs.events.read_events import read_events
from jobs.events.read_source import column_names
from jobs.events.readers.imported import Imported, events_table
from jobs.spark import session
from jobs.tables import TABLES

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

EARLIEST = datetime.datetime(1900, 1, 1, tzinfo=datetime.UTC)
LATEST = datetime.datetime(9000, 1, 1, tzinfo=datetime.UTC)
HERE = (
    "--source, --column OURS=THEIRS, --constant OURS=VALUE, --delimiter, --encoding, --timezone, --time-unit and "
    "--time-format say what stands under source in a configuration"
)


@dataclass(frozen=True)
class Options:
    """As in jobs.configuration.sections.SourceTable."""

    columns: dict[str, str] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)
    delimiter: str = ","
    timezone: str = "UTC"
    day_only: bool = False
    encoding: str = "utf-8"
    time_unit: str | None = None
    time_format: str | None = None


def read(source: Path, options: Options) -> Imported:
    """Events in our columns; unusable rows are left out and counted.

    Items and users are none: they are named in the configuration as they are.
    ConfigError: an option that cannot be. SourceError: a source that cannot be read with these options.
    """
    try:
        events, dropped = _read(source, options)
    except SourceError as error:
        raise SourceError(f"{error} Here {HERE}.") from error
    day = ", known to the day and stamped at its end" if options.day_only else ""
    notes = [
        f"times without an offset are taken as local times of {options.timezone}{day}",
        "items and users: map their columns in the configuration (source.items, source.users)",
    ]
    return Imported(events, dropped=dropped, notes=notes)


def _read(source: Path, options: Options) -> tuple[pa.Table, dict[str, int]]:
    described = SourceTable(
        str(source), format_of(source), options.columns, options.constants, options.delimiter, options.encoding,
        options.timezone, options.day_only, options.time_unit, options.time_format)
    check_source(described, "--", TABLES["clean_events"].columns)
    plain = not described.is_lake
    files = find_files(described.path, described.format, "--source") if plain else files_of(described, "--source")
    for file in files:
        check_whole(file, described.file_format, described.encoding)
    if not column_names(described, files):
        raise SourceError(f"{source} has no rows; expected a line with the columns' names, and events below it.")
    with session(Spark(), "import-dataset") as spark:
        return _judged(read_events(spark, described, files).cache())


def format_of(source: Path) -> str:
    """A table of a lake format by its log, files by the endings of their names. SourceError."""
    if found := lake_format(str(source)):
        return found
    names = [path.name for path in source.rglob("*") if path.is_file()] if source.is_dir() else [source.name]
    for kind, endings in SUFFIXES.items():
        if any(name.endswith(endings) for name in names):
            return kind
    known = ", ".join(ending for endings in SUFFIXES.values() for ending in endings)
    raise SourceError(
        f"Found no file at {source} whose name ends in {known}. Name the file so, or choose another --source.")


def _judged(rows: DataFrame) -> tuple[pa.Table, dict[str, int]]:
    """Behaviours are whatever the source has; the configuration chooses among them."""
    from pyspark.sql import functions as F

    found = rows.select("behavior").distinct().collect()
    behaviors = [row.behavior for row in found if row.behavior is not None]
    judged = judge.judge(rows, behaviors, EARLIEST, EARLIEST, LATEST)
    rejected = judged.filter(F.col("reason").isNotNull())
    reasons = rejected.groupBy("reason").count().orderBy(F.desc("count"), "reason").collect()
    columns = judge.accepted(judged).orderBy("source_file", "row_number").toArrow()
    events = events_table({name: columns[name].combine_chunks() for name in columns.column_names})
    return events, {row["reason"]: row["count"] for row in reasons}
