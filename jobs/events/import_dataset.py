"""Turns a public data set, or any table of events, into the Parquet files that a configuration names as its source.

    python -m jobs.events.import_dataset --format completejourney --source ../shared/data/completejourney --output nightly/completejourney/source
    python -m jobs.events.import_dataset --format table --source log.csv.gz --output source \\
        --column user_id=customer --column item_id=sku --column event_time=at --constant behavior=purchase --timezone Europe/Paris

Writes events.parquet and, where the source has them, items.parquet and users.parquet, in our columns, and prints what was
found, left out and assumed. One reader per format, in jobs/events/readers/.
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
    """Read, write, and give what was read. JobError: the source is not there or not of the format."""
    if not source.exists():
        raise JobError(f"Nothing at {source}; expected the folder or file of {format}. See --source.")
    try:
        imported = table.read(source, options or table.Options()) if format == TABLE else READERS[format](source)
    except FileNotFoundError as error:
        raise JobError(f"A file is missing ({error}); expected those of {format} in {source}. Choose another --format or --source.") from error
    output.mkdir(parents=True, exist_ok=True)
    for name in ("events", "items", "users"):
        rows = getattr(imported, name)
        if rows is not None:
            pq.write_table(rows, output / f"{name}.parquet", compression="zstd")
    return imported


def summary(imported: Imported) -> list[str]:
    """What was found, left out and assumed, a line each."""
    events = imported.events
    lines = [f"events: {events.num_rows:,} rows, {_distinct(events, 'user_id'):,} users, {_distinct(events, 'item_id'):,} items"]
    if events.num_rows:
        times = pc.min_max(events["event_time"]).as_py()
        lines.append(f"time: {times['min']:%Y-%m-%d %H:%M} to {times['max']:%Y-%m-%d %H:%M} UTC")
    lines += [f"{row['values']}: {row['counts']:,} events" for row in events["behavior"].value_counts().to_pylist()]
    for name in ("items", "users"):
        rows = getattr(imported, name)
        lines.append(f"{name}: none" if rows is None else f"{name}: {rows.num_rows:,} rows with {', '.join(rows.column_names[1:])}")
    lines += [f"left out: {count:,} rows: {reason}" for reason, count in imported.dropped.items() if count]
    return lines + [f"note: {note}" for note in imported.notes]


def _distinct(table: pa.Table, column: str) -> int:
    return pc.count_distinct(table[column]).as_py()


def pair(text: str) -> tuple[str, str]:
    """`ours=theirs`; what follows the first = is taken as it is."""
    ours, equals, theirs = text.partition("=")
    if not equals or not ours:
        raise argparse.ArgumentTypeError(f"{text!r} is no pair; expected our_column=value")
    return ours, theirs


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m jobs.events.import_dataset", description=(__doc__ or "").split("\n")[0])
    result.add_argument("--format", required=True, choices=[*READERS, TABLE])
    result.add_argument("--source", required=True, type=Path, metavar="DIR", help="folder of the data set; for `table` a file, a folder of files, or a glob")
    result.add_argument("--output", required=True, type=Path, metavar="DIR")
    only = result.add_argument_group("only for --format table")
    only.add_argument("--column", action="append", default=[], type=pair, metavar="OURS=THEIRS", help="how a column is called in the source; repeat")
    only.add_argument("--constant", action="append", default=[], type=pair, metavar="OURS=VALUE", help="one value for every row; repeat")
    only.add_argument("--delimiter", default=",", type=lambda text: text.replace("\\t", "\t"), help="one character; \\t is a tab")
    only.add_argument("--timezone", default="UTC", help="zone of times without an offset")
    only.add_argument("--day-only", action="store_true", help="times are known to the day")
    return result


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    options = table.Options(dict(arguments.column), dict(arguments.constant), arguments.delimiter, arguments.timezone, arguments.day_only)
    try:
        imported = import_dataset(arguments.format, arguments.source, arguments.output, options)
    except (JobError, ConfigError) as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join([*summary(imported), f"written to {arguments.output}"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
