"""Seed users from a file: one id per line, or CSV or Parquet with a column `user_id` (else the first column); beside
it may stand `event_time`, when the user became a seed."""

from __future__ import annotations

import contextlib
import csv
import datetime
import io
import itertools
import json
import re
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


def _times_of_csv(path: str) -> list[tuple[str, str]] | None:
    rows = _rows(path)
    if not rows or TIME not in rows[0]:
        return None
    ids, times = _place(rows[0], path), rows[0].index(TIME)
    return [(row[ids], row[times].strip()) for row in rows[1:] if len(row) > max(ids, times)]


def _times_of_parquet(path: str) -> list[tuple[str, object]] | None:
    written = parquet_schema(path).names
    names = _known(written)
    if TIME not in names:
        return None
    column, of_times = written[_place(names, path)], written[names.index(TIME)]
    table = read_parquet(path, [column, of_times])
    times = table.column(of_times)
    if pa.types.is_timestamp(times.type):  # Python's own have no nanoseconds
        times = times.cast(pa.timestamp("us", times.type.tz), safe=False)
    return list(zip(table.column(column).cast(pa.large_string()).to_pylist(), times.to_pylist(), strict=True))


def _from_text(path: str) -> pa.Array:
    text = _plain_text(path).replace("\r\n", "\n")
    if "\n" not in text:  # as Excel writes "Text (Macintosh)"
        text = text.replace("\r", "\n")
    _require_one_id_a_line(text, path)
    return pa.array(text.split("\n"), pa.large_string())


def _require_one_id_a_line(text: str, path: str) -> None:
    """JobError for a table, each line of which would be taken for one id."""
    first = text.strip().partition("\n")[0]
    for separator in "\t,;|":
        cells = [cell.strip(' "\r') for cell in first.split(separator)]
        if len(cells) > 1 and COLUMN in _known(cells):
            raise JobError(
                f"{path} has columns separated by {separator!r}, {COLUMN} among them, and no name that ends in .csv: "
                f"each line would be taken for one id. Write it with commas and name it .csv, or with one id a line.")


def _from_csv(path: str) -> pa.Array:
    rows = _rows(path)
    if not rows:
        return pa.array([""], pa.large_string())
    _require_commas(rows[0], path)
    at = _place(rows[0], path)
    body = rows[1:] if {COLUMN, TIME} & set(rows[0]) else rows
    return pa.array([row[at] for row in body if len(row) > at], pa.large_string())


def _rows(path: str) -> list[list[str]]:
    """Those that are not empty, without what stands above the header: rows of empty cells, and the line by which Excel
    knows the separator."""
    text = re.sub(r"\A(\s*\n)?sep=.\r?\n", "", _plain_text(path))
    read = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    rows = list(itertools.dropwhile(lambda row: not any(row), read))
    return [_known(rows[0]), *rows[1:]] if rows else []


def _known(names: list[str]) -> list[str]:
    """Names of columns as we call them, of which blanks and capitals say nothing."""
    plainly = [name.strip().lower() for name in names]
    return [ours if ours in (COLUMN, TIME) and ours not in names else name
            for name, ours in zip(names, plainly, strict=True)]  # fmt: skip


def _place(names: list[str], path: str) -> int:
    """Of the column of ids: `user_id`, else the first. JobError where another one is called nearly so."""
    if COLUMN in names:
        return names.index(COLUMN)
    for name in names[1:]:
        if re.sub("[^a-z0-9]", "", name.lower()) == "userid":
            raise JobError(f"{path} has a column {name!r}, which is not {COLUMN!r}, so that its first one would be "
                           f"taken for the ids. Call the column of ids {COLUMN}.")
    return 0


def _require_commas(header: list[str], path: str) -> None:
    """JobError where each line would be taken for one id."""
    whole = header[0] if len(header) == 1 and header[0] != COLUMN else ""
    for separator in ";\t|":
        if COLUMN in (name.strip('"') for name in whole.split(separator)):
            raise JobError(f"{path} has columns separated by {separator!r}; expected commas. Write it with commas.")


def _from_parquet(path: str) -> pa.Array:
    check_parquet(path, AS_LIST)
    names = parquet_schema(path).names
    if not names:
        raise JobError(f"{path} has no column. Expected one with user ids, called {COLUMN}.")
    column = read_parquet(path, [names[_place(_known(names), path)]]).column(0)
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
