"""MovieLens 100K and 1M (GroupLens): ratings, films, people.

What is said of a film is the behaviour: 4 or 5 liked, 3 seen, 1 or 2 disliked.
The 1M ratings are an assembly whose order within a user is certain and whose times are not: see `times_in_order`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from jobs.events.places import SourceError
from jobs.events.readers.imported import Imported, events_table, text_lists
from jobs.events.readers.source_files import Sheet, contents, listed, read_text, require_files

# As GroupLens' README of 1M has them.
AGES_1M = {1: "under 18", 18: "18-24", 25: "25-34", 35: "35-44", 45: "45-49", 50: "50-55", 56: "56+"}
BANDS = [0, 18, 25, 35, 45, 50, 56, 200]
SECOND = 1_000_000  # microseconds
RATINGS_100K, PEOPLE_100K, FILMS_100K = "ml-100k.inter", "ml-100k.user", "ml-100k.item"
RATINGS_1M, PEOPLE_1M, FILMS_1M, CREDITS_1M = "interactions.tsv", "users.dat", "movies.dat", "movie_credits.tsv"
EDITIONS = ((RATINGS_1M, PEOPLE_1M, FILMS_1M, CREDITS_1M), (RATINGS_100K, PEOPLE_100K, FILMS_100K))


def read(source: Path) -> Imported:
    """The edition whose ratings lie in the folder, 1M before 100K. SourceError."""
    for edition, read_edition in zip(EDITIONS, (_read_1m, _read_100k), strict=True):
        if source.is_dir() and any((source / name).is_file() for name in (edition[0], f"{edition[0]}.gz")):
            return read_edition(require_files(source, edition))
    found = f"it has {contents(source)}" if source.is_dir() else "it is a file"
    wanted = " (1M), or ".join(listed(edition) for edition in EDITIONS)
    raise SourceError(f"{source} is no folder with {RATINGS_1M} or {RATINGS_100K}: {found}. "
                      f"Expected {wanted} (100K), gzipped or not. Choose another --source or --format.")


def _read_100k(files: dict[str, Path]) -> Imported:
    sheet = _atomic(files[RATINGS_100K], ("user_id", "item_id", "rating", "timestamp"))
    ratings, micros = sheet.frame, sheet.integers("timestamp") * SECOND
    events = _ratings(ratings["user_id"], ratings["item_id"], sheet.numbers("rating"), micros)
    sheet = _atomic(files[FILMS_100K], ("item_id", "movie_title", "release_year", "class"))
    films, year = sheet.frame, pd.to_numeric(sheet.frame["release_year"], errors="coerce")
    items = pa.table({
        "item_id": films["item_id"].to_numpy(), "genres": text_lists(films["class"], " "),
        "year": pa.array(year, pa.float64(), from_pandas=True), "title": films["movie_title"].to_numpy(),
    })
    sheet = _atomic(files[PEOPLE_100K], ("user_id", "age", "gender", "occupation"))
    band = pd.cut(sheet.integers("age"), BANDS, right=False, labels=list(AGES_1M.values())).astype(str)
    texts = {name: sheet.frame[name].to_numpy() for name in ("user_id", "gender", "occupation")}
    notes = ["timestamps are exact unix seconds", "ages are put into the bands of MovieLens 1M"]
    return Imported(events, items, pa.table(texts | {"age_band": band.to_numpy()}), {}, notes)


def _atomic(file: Path, columns: tuple[str, ...]) -> Sheet:
    """RecBole's atomic files: a typed header (`name:type`), tabs, no quotes. All columns as text."""
    return read_text(file, columns, typed=True)


def _read_1m(files: dict[str, Path]) -> Imported:
    sheet = read_text(files[RATINGS_1M], ("user_id", "movie_id", "rating", "position", "ts_exact", "ts_approx"))
    exact = sheet.numbers("ts_exact")
    ratings = pd.DataFrame({
        "user": sheet.integers("user_id"), "film": sheet.frame["movie_id"], "rating": sheet.numbers("rating"),
        "position": sheet.integers("position"), "known": exact.fillna(sheet.numbers("ts_approx")),
    }).sort_values(["user", "position"], kind="stable")
    user, known, position = (ratings[name].to_numpy() for name in ("user", "known", "position"))
    micros = times_in_order(user, known, position)
    events = _ratings(ratings["user"].astype(str), ratings["film"], ratings["rating"], micros)
    approximate, without = ratings["known"].count() - exact.count(), ratings["known"].isna().sum()
    after = "put right after the newest known time at a lower position of their user"
    notes = [
        f"{exact.count():,} times are exact, {approximate:,} approximate (median error 263 s)",
        f"{without:,} ratings have no time: {after}",
        "where no lower position has a time, the first known time of the user stands for it",
        "positions within a user are kept as microseconds, so that the order is that of the source",
    ]
    return Imported(events, _films_1m(files[FILMS_1M], files[CREDITS_1M]), _people_1m(files[PEOPLE_1M]), {}, notes)


def times_in_order(users: np.ndarray, seconds: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Microseconds that never decrease along a user's positions, the order that is certain.

    `users` sorted, positions ascending within; `seconds` unix seconds or NaN. A time before one at a lower position
    is lifted to it (approximate times may be minutes off), a missing one is the newest known at a lower position, the
    first known where there is none; then the position is added in microseconds.
    """
    times = pd.Series(seconds)
    newest = times.groupby(users).cummax().groupby(users).ffill().groupby(users).bfill()
    return newest.to_numpy().astype("int64") * SECOND + positions


def _films_1m(file: Path, credits_file: Path) -> pa.Table:
    films = read_text(file, ("item_id", "title", "genres"), "::", has_header=False, encoding="iso-8859-1").frame
    credits = read_text(credits_file, ("movie_id", "director", "actors"), quoted=True).frame.set_index("movie_id")
    credited = credits.reindex(films["item_id"])
    theirs = {"directors": "director", "actors": "actors"}
    names = {ours: credited[column].where(credited[column] != "N/A") for ours, column in theirs.items()}
    year = films["title"].str.extract(r"\((\d{4})\)\s*$")[0].astype(float)
    return pa.table({
        "item_id": films["item_id"].to_numpy(), "genres": text_lists(films["genres"], "|"),
        "year": pa.array(year, pa.float64(), from_pandas=True),
        "title": films["title"].to_numpy(), **{ours: text_lists(texts, ", ") for ours, texts in names.items()},
    })


def _people_1m(file: Path) -> pa.Table:
    sheet = read_text(file, ("user_id", "gender", "age", "occupation", "zip"), "::", has_header=False)
    return pa.table({
        "user_id": sheet.frame["user_id"].to_numpy(), "gender": sheet.frame["gender"].to_numpy(),
        "age_band": sheet.integers("age").map(AGES_1M).to_numpy(), "occupation": sheet.frame["occupation"].to_numpy(),
    })


def _ratings(users: pd.Series, items: pd.Series, ratings: pd.Series, micros: pd.Series | np.ndarray) -> pa.Table:
    times = pa.array(np.asarray(micros, dtype="int64")).cast(pa.timestamp("us", tz="UTC"))
    ratings = ratings.astype(float)
    said = np.select([ratings >= 4, ratings >= 3], ["liked", "seen"], "disliked")
    return events_table({"user_id": users, "item_id": items, "behavior": said, "event_time": times, "value": ratings})
