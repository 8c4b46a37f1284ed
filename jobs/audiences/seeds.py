"""Seed users from a file: one id per line, or CSV or Parquet with a column `user_id` (else the first column)."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from feature_store.spreadsheet import plain
from jobs.events.damage import check_whole, read_parquet
from jobs.events.places import find_file
from jobs.events.read_source import parquet_schema
from jobs.program import JobError

COLUMN = "user_id"


@dataclass(frozen=True)
class Match:
    """Seeds against the users of a date: raw ids that are known, and how many were given, known, active."""

    known: pa.Array
    given: int
    active: int

    @property
    def rate(self) -> float:
        return len(self.known) / self.given if self.given else 0.0


def read_seeds(path: Path) -> pa.Array:
    """Unique ids as they stand in the file: never trimmed or folded. JobError when the file cannot be read."""
    file = find_file(path, "the parameter seeds")
    try:
        ids = _READERS.get(path.suffix.lower(), _from_text)(file)
    except (pa.ArrowException, UnicodeDecodeError, csv.Error) as error:
        found = f"{path} cannot be read as {path.suffix or 'text'} ({error})"
        raise JobError(f"{found}. Expected UTF-8 text or CSV, or Parquet, of user ids.") from error
    ids = pc.unique(ids.drop_null())
    ids = ids.filter(pc.not_equal(ids, ""))
    if not len(ids):
        raise JobError(f"{path} holds no user id. Expected one a line, or a column of them, called {COLUMN}.")
    return ids


def _plain_text(path: Path) -> str:
    """The whole file. SourceError: it is no text."""
    check_whole(str(path), "csv")
    return path.read_bytes().decode("utf-8-sig")


def _from_text(path: Path) -> pa.Array:
    return pa.array(_plain_text(path).replace("\r\n", "\n").split("\n"), pa.large_string())


def _from_csv(path: Path) -> pa.Array:
    rows = list(csv.reader(io.StringIO(_plain_text(path), newline="")))
    if not rows or not rows[0]:
        return pa.array([], pa.large_string())
    at = rows[0].index(COLUMN) if COLUMN in rows[0] else 0
    body = rows[1:] if COLUMN in rows[0] else rows
    return pa.array([row[at] for row in body if len(row) > at], pa.large_string())


def _from_parquet(path: Path) -> pa.Array:
    names = parquet_schema(str(path)).names
    if not names:
        raise JobError(f"{path} has no column. Expected one with user ids, called {COLUMN}.")
    column = read_parquet(str(path), [COLUMN if COLUMN in names else names[0]]).column(0)
    return column.cast(pa.large_string()).combine_chunks()


_READERS = {".csv": _from_csv, ".parquet": _from_parquet}


def match(given: pa.Array, known: pa.Array, active: pa.Array) -> Match:
    """Which seeds are in the ledger. An unknown id with an apostrophe in front is tried
    without: our own CSVs put it there."""
    found = pc.is_in(given, value_set=known)
    rest = [plain(text) for text in given.filter(pc.invert(found)).to_pylist()]
    escaped = pa.array(rest, pa.large_string())
    unescaped = escaped.filter(pc.is_in(escaped, value_set=known))
    ids = pc.unique(pa.chunked_array([given.filter(found), unescaped], pa.large_string()))
    return Match(ids, len(given), int(pc.sum(pc.is_in(ids, value_set=active)).as_py() or 0))
