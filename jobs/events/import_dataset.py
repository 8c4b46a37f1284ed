"""Turns a public data set, or any table of events, into the Parquet files that a configuration names as its source.

    python -m jobs.events.import_dataset --format completejourney --source ../shared/data/completejourney \\
        --output nightly/completejourney/source
    python -m jobs.events.import_dataset --format table --source log.csv.gz --output source \\
        --column user_id=customer --column item_id=sku --column event_time=at --constant behavior=purchase \\
        --timezone Europe/Paris

Writes events.parquet and, where the source has them, items.parquet and users.parquet, in our columns, and prints what
was found, left out and assumed. One reader per format, in jobs/events/readers/.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.configuration.tree import ConfigError
from jobs.events.readers import alibaba_ecomm, completejourney, movielens, online_retail, table
from jobs.events.readers.imported import Imported
from jobs.program import JobError

READERS: dict[str, Callable[[Path], Imported]] = {
    "completejourney": completejourney.read,
    "online-retail": online_retail.read,
    "movielens": movielens.read,
    "alibaba-ecomm": alibaba_ecomm.read,
}
TABLE = "table"  # the one format that takes options


def import_dataset(format: str, source: Path, output: Path, options: table.Options | None = None) -> Imported:
    """Read, write, and give what was read.

    JobError: the source is not there, not of the format, or has no usable event; or nothing can be written.
    """
    if format != TABLE and not source.exists():  # a table's may be a glob
        raise JobError(f"Nothing at {source}; expected the folder or file of {format}. See --source.")
    try:
        read = table.read(source, options or table.Options()) if format == TABLE else READERS[format](source)
    except OSError as error:
        raise JobError(f"{source} cannot be read: {error}. Mend that, or name another --source.") from error
    imported = read.usable()
    if not imported.events.num_rows:
        raise JobError("\n".join([f"No usable event in {source}: nothing was written.", *left_out(imported)]))
    try:
        write(imported, output)
    except OSError as error:
        raise JobError(f"Nothing can be written to {output}: {error}. Name another folder with --output.") from error
    return imported


def write(imported: Imported, output: Path) -> None:
    """A file for each table that there is."""
    output.mkdir(parents=True, exist_ok=True)
    for name in ("events", "items", "users"):
        rows = getattr(imported, name)
        if rows is not None:
            pq.write_table(rows, output / f"{name}.parquet", compression="zstd")


def summary(imported: Imported) -> list[str]:
    """What was found, left out and assumed, a line each."""
    events = imported.events
    users, items = _distinct(events, "user_id"), _distinct(events, "item_id")
    times = pc.min_max(events["event_time"]).as_py()
    lines = [
        f"events: {events.num_rows:,} rows, {users:,} users, {items:,} items",
        f"time: {times['min']:%Y-%m-%d %H:%M} to {times['max']:%Y-%m-%d %H:%M} UTC",
    ]
    lines += [f"{row['values']}: {row['counts']:,} events" for row in events["behavior"].value_counts().to_pylist()]
    for name in ("items", "users"):
        rows = getattr(imported, name)
        said = "none" if rows is None else f"{rows.num_rows:,} rows with {', '.join(rows.column_names[1:])}"
        lines.append(f"{name}: {said}")
    return [*lines, *left_out(imported), *(f"note: {note}" for note in imported.notes)]


def left_out(imported: Imported) -> list[str]:
    """A line per reason."""
    return [f"left out: {count:,} rows: {reason}" for reason, count in imported.dropped.items() if count]


def _distinct(table: pa.Table, column: str) -> int:
    return pc.count_distinct(table[column]).as_py()


def pair(text: str) -> tuple[str, str]:
    """`ours=theirs`; what follows the first = is taken as it is."""
    ours, equals, theirs = text.partition("=")
    if not equals or not ours:
        raise argparse.ArgumentTypeError(f"{text!r} is no pair; expected our_column=value")
    return ours, theirs


def parser() -> argparse.ArgumentParser:
    purpose = (__doc__ or "").split("\n")[0]
    result = argparse.ArgumentParser(prog="python -m jobs.events.import_dataset", description=purpose)
    result.add_argument("--format", required=True, choices=[*READERS, TABLE])
    where = "folder of the data set, or its file where it is one; for `table` a file, a folder of files, or a glob"
    result.add_argument("--source", required=True, type=Path, metavar="PATH", help=where)
    result.add_argument("--output", required=True, type=Path, metavar="DIR")
    only = result.add_argument_group("only for --format table")
    pairs = {"action": "append", "default": [], "type": pair}
    only.add_argument("--column", **pairs, metavar="OURS=THEIRS", help="how a column is called in the source; repeat")
    only.add_argument("--constant", **pairs, metavar="OURS=VALUE", help="one value for every row; repeat")
    tab = {"type": lambda text: text.replace("\\t", "\t")}
    only.add_argument("--delimiter", default=",", **tab, help="one character; \\t is a tab")
    only.add_argument("--timezone", default="UTC", help="zone of times without an offset")
    only.add_argument("--encoding", default="utf-8", help="of a CSV, e.g. latin-1")
    only.add_argument("--time-unit", choices=["s", "ms", "us", "ns"], help="what numbers count since 1970")
    only.add_argument("--time-format", metavar="FORM", help="of texts, in strptime's letters; else ISO 8601")
    only.add_argument("--day-only", action="store_true", help="times are known to the day")
    return result


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    options = table.Options(
        dict(arguments.column), dict(arguments.constant), arguments.delimiter, arguments.timezone, arguments.day_only,
        arguments.encoding, arguments.time_unit, arguments.time_format)
    try:
        imported = import_dataset(arguments.format, arguments.source, arguments.output, options)
    except (JobError, ConfigError) as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join([*summary(imported), f"written to {arguments.output}"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
