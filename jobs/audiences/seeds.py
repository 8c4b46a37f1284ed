"""Seed users from a file: one id per line, or CSV or Parquet with a column `user_id` (else the first column); beside
ids may stand `event_time`, when the user became a seed. Blanks and capitals of these two names say nothing."""

from __future__ import annotations

import contextlib
import csv
import datetime
import io
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from feature_store.spreadsheet import plain
from jobs.events.damage import check_parquet, check_whole, read_parquet
from jobs.events.files import open_binary
from jobs.events.fingerprint import fingerprints
from jobs.events.places import find_file
from jobs.events.read_source import parquet_schema
from jobs.program import JobError

COLUMN, TIME = "user_id", "event_time"
AS_LIST = f"write it as one id a line, or as CSV (commas, .csv) or Parquet (.parquet) with a column {COLUMN}"


@dataclass(frozen=True)
class Match:
    """Seeds against the users of a date: raw ids that are known, and how many were given, known, active."""

    known: pa.Array
    given: int
    active: int

    @property
    def rate(self) -> float:
        return len(self.known) / self.given if self.given else 0.0


def read_seeds(path: Path | str) -> pa.Array:
    """As `read_ids`; somebody has to be in it."""
    return read_ids(path, "the parameter seeds")


def read_ids(path: Path | str, setting: str, may_be_empty: bool = False) -> pa.Array:
    """Unique ids as they stand in the file: never trimmed or folded. JobError when the file cannot be read, or holds
    none; may_be_empty: a header (or Parquet's columns) without a row says that there is none."""
    file = find_file(str(path), setting)
    try:
        rows = _READERS.get(ending_of(file), _from_text)(file)
    except (pa.ArrowException, UnicodeDecodeError, csv.Error) as error:
        found = f"{path} cannot be read as {ending_of(file) or 'text'} ({error})"
        raise JobError(f"{found}. Expected UTF-8 text or CSV, or Parquet, of user ids.") from error
    ids = pc.unique(rows.drop_null())
    ids = ids.filter(pc.not_equal(ids, ""))
    if not len(ids) and not (may_be_empty and not len(rows)):
        raise JobError(f"{path} holds no user id. Expected one a line, or a column of them, called {COLUMN}.")
    return ids


def read_from(path: Path | str) -> list[dict[str, Any]]:
    """What was read, as a manifest has it: name, size and sha256 or ETag."""
    return fingerprints([str(path)], "parquet" if ending_of(path) == ".parquet" else "csv")


def ending_of(path: Path | str) -> str:
    """`.csv`, `.parquet`, …; empty where the name has none."""
    return PurePosixPath(path).suffix.lower()


def _plain_text(path: str) -> str:
    """The whole file. SourceError: it is no text. JobError: it is JSON."""
    check_whole(path, "csv", cure=AS_LIST)
    with open_binary(path) as content:
        text = content.read().decode("utf-8-sig")
    if _is_json(text.strip()):
        raise JobError(f"{path} is JSON; expected user ids. Nothing was read from it: {AS_LIST}.")
    return text


def _is_json(text: str) -> bool:
    """A list or an object, or one a line."""
    for part in (text, text.partition("\n")[0]) if text.startswith(("[", "{")) else ():
        with contextlib.suppress(ValueError, RecursionError):
            return isinstance(json.loads(part), (list, dict))
    return False


def read_days(path: Path | str) -> dict[str, datetime.date] | None:
    """The first day (UTC) of each id that has a time, ids as `match` finds them; None for a file without times.

    A day alone is that day. JobError for what is no time, or one without an offset.
    """
    rows = _TIMES.get(ending_of(path), lambda path: None)(str(path))
    if rows is None:
        return None
    found: dict[str, datetime.date] = {}
    for number, (raw, time) in enumerate(rows, 1):
        if raw is None or time is None or time == "":
            continue
        day = _day_of(time, f"{path}, row {number}")
        for text in {raw, plain(raw)}:
            found[text] = min(day, found.get(text, day))
    return found or None


def _day_of(time: object, where: str) -> datetime.date:
    """UTC."""
    try:
        read = _parsed(time) if isinstance(time, str) else time
        if isinstance(read, datetime.datetime) and read.tzinfo is not None:
            return read.astimezone(datetime.UTC).date()
    except (ValueError, OverflowError):
        read = None
    if isinstance(read, datetime.date) and not isinstance(read, datetime.datetime):
        return read
    raise JobError(
        f"{where}: {TIME} is {str(time)[:50]!r}; expected a day, 2026-01-05, or a time with its offset, "
        "2026-01-05T10:00:00Z or +01:00. To take the seeds without times, leave the column out.")


def _parsed(text: str) -> datetime.date:
    kind = datetime.date if re.fullmatch(r"\d{4}-\d\d-\d\d", text) else datetime.datetime
    return kind.fromisoformat(text)


def _ids_and_times(names: Sequence[str]) -> tuple[int | None, int | None]:
    """Where they stand among names of columns; None: no such column. Ids without a name of ours are the first column
    that is not the times'; of names of which none is ours nothing is told, for they may be ids."""
    ids, times = _place(COLUMN, names), _place(TIME, names)
    if ids is None and times is not None and len(names) > 1:
        ids = 0 if times else 1
    return ids, times


def _place(wanted: str, names: Sequence[str]) -> int | None:
    """By the very name, else by one that differs in blanks and capitals alone."""
    for spelled in (list(names), [name.strip().lower() for name in names]):
        if wanted in spelled:
            return spelled.index(wanted)
    return None


def _rows_of_csv(path: str) -> list[list[str]]:
    """From the first that has a cell: spreadsheets write empty ones above a table."""
    rows = csv.reader(io.StringIO(_plain_text(path), newline=""))
    return list(itertools.dropwhile(lambda row: not any(row), rows))


def _times_of_csv(path: str) -> list[tuple[str, str]] | None:
    rows = _rows_of_csv(path)
    ids, times = _ids_and_times(rows[0]) if rows else (None, None)
    if ids is None or times is None:
        return None
    return [(row[ids], row[times].strip()) for row in rows[1:] if len(row) > max(ids, times)]


def _times_of_parquet(path: str) -> list[tuple[str, object]] | None:
    names = parquet_schema(path).names
    ids, time = _ids_and_times(names)
    if ids is None or time is None:
        return None
    table = read_parquet(path, [names[ids], names[time]])
    times = table.column(names[time])
    if pa.types.is_timestamp(times.type):  # Python's own have no nanoseconds
        times = times.cast(pa.timestamp("us", times.type.tz), safe=False)
    return list(zip(table.column(names[ids]).cast(pa.large_string()).to_pylist(), times.to_pylist(), strict=True))


def _from_text(path: str) -> pa.Array:
    text = _plain_text(path)
    _require_one_id_a_line(text, path)
    lines = text.replace("\r\n", "\n")
    return pa.array(lines.split("\n" if "\n" in lines else "\r"), pa.large_string())


def _require_one_id_a_line(text: str, path: str) -> None:
    """JobError for a table, each line of which would be taken for one id."""
    first = text.strip().partition("\n")[0]
    for separator in "\t,;|":
        cells = [cell.strip(' "\r') for cell in first.split(separator)]
        if len(cells) > 1 and _place(COLUMN, cells) is not None:
            raise JobError(
                f"{path} has columns separated by {separator!r}, {COLUMN} among them, and no name that ends in .csv: "
                f"each line would be taken for one id. Write it with commas and name it .csv, or with one id a line.")


def _from_csv(path: str) -> pa.Array:
    rows = _rows_of_csv(path)
    if not rows:
        return pa.array([""], pa.large_string())
    _require_commas(rows[0], path)
    at, _ = _ids_and_times(rows[0])
    if at is None:
        return pa.array([row[0] for row in rows if row], pa.large_string())
    return pa.array([row[at] for row in rows[1:] if len(row) > at], pa.large_string())


def _require_commas(header: list[str], path: str) -> None:
    """JobError where each line would be taken for one id."""
    for separator in ";\t|":
        names = [name.strip(' "') for name in header[0].split(separator)] if len(header) == 1 else []
        if len(names) > 1 and _place(COLUMN, names) is not None:
            raise JobError(f"{path} has columns separated by {separator!r}; expected commas. Write it with commas.")


def _from_parquet(path: str) -> pa.Array:
    check_parquet(path, AS_LIST)
    names = parquet_schema(path).names
    if not names:
        raise JobError(f"{path} has no column. Expected one with user ids, called {COLUMN}.")
    at, _ = _ids_and_times(names)
    column = read_parquet(path, [names[at or 0]]).column(0)
    return column.cast(pa.large_string()).combine_chunks()


_READERS = {".csv": _from_csv, ".parquet": _from_parquet}
_TIMES = {".csv": _times_of_csv, ".parquet": _times_of_parquet}


def match(given: pa.Array, known: pa.Array, active: pa.Array) -> Match:
    """Which seeds are in the ledger. An unknown id with an apostrophe in front is tried
    without: our own CSVs put it there."""
    found = pc.is_in(given, value_set=known)
    rest = [plain(text) for text in given.filter(pc.invert(found)).to_pylist()]
    escaped = pa.array(rest, pa.large_string())
    unescaped = escaped.filter(pc.is_in(escaped, value_set=known))
    ids = pc.unique(pa.chunked_array([given.filter(found), unescaped], pa.large_string()))
    return Match(ids, len(given), int(pc.sum(pc.is_in(ids, value_set=active)).as_py() or 0))
