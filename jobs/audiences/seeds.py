"""Seed users from a file: one id per line, or CSV or Parquet with a column `user_id` (else the first column)."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.spreadsheet import plain
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
    try:
        ids = _READERS.get(path.suffix.lower(), _from_text)(path)
    except FileNotFoundError:
        wanted = "a text, CSV or Parquet file of user ids that this machine can read"
        raise JobError(f"No seed file at {path}. Name {wanted}.") from None
    except (pa.ArrowException, UnicodeDecodeError, csv.Error) as error:
        found = f"{path} cannot be read as {path.suffix or 'text'} ({error})"
        raise JobError(f"{found}. Expected UTF-8 text or CSV, or Parquet, of user ids.") from error
    ids = pc.unique(ids.drop_null())
    return ids.filter(pc.not_equal(ids, ""))


def _from_text(path: Path) -> pa.Array:
    return pa.array(path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").split("\n"), pa.large_string())


def _from_csv(path: Path) -> pa.Array:
    rows = list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))
    if not rows or not rows[0]:
        return pa.array([], pa.large_string())
    at = rows[0].index(COLUMN) if COLUMN in rows[0] else 0
    body = rows[1:] if COLUMN in rows[0] else rows
    return pa.array([row[at] for row in body if len(row) > at], pa.large_string())


def _from_parquet(path: Path) -> pa.Array:
    names = pq.read_schema(path).names
    if not names:
        raise JobError(f"{path} has no column. Expected one with user ids, called {COLUMN}.")
    column = pq.read_table(path, columns=[COLUMN if COLUMN in names else names[0]]).column(0)
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
