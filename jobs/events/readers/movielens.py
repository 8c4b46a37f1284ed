"""MovieLens 100K and 1M (GroupLens): ratings, films, people. What is said of a film is the behaviour: 4 or 5 liked, 3 seen, 1 or 2 disliked.

The 1M ratings are an assembly whose order within a user is certain and whose times are not: see `times_in_order`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from jobs.events.readers.imported import Imported, events_table, text_lists

AGES_1M = {1: "under 18", 18: "18-24", 25: "25-34", 35: "35-44", 45: "45-49", 50: "50-55", 56: "56+"}  # GroupLens' README of 1M
BANDS = [0, 18, 25, 35, 45, 50, 56, 200]
SECOND = 1_000_000  # microseconds


def read(source: Path) -> Imported:
    """1M where its interactions.tsv.gz lies in the folder, else 100K."""
    return _read_1m(source) if (source / "interactions.tsv.gz").is_file() else _read_100k(source)


def _read_100k(source: Path) -> Imported:
    ratings = _tab_separated(source / "ml-100k.inter.gz")
    people, films = _tab_separated(source / "ml-100k.user"), _tab_separated(source / "ml-100k.item")
    events = _ratings(ratings["user_id"], ratings["item_id"], ratings["rating"], ratings["timestamp"].astype(float).astype("int64") * SECOND)
    items = pa.table({
        "item_id": films["item_id"].to_numpy(), "genres": text_lists(films["class"], " "),
        "year": pa.array(pd.to_numeric(films["release_year"], errors="coerce"), pa.float64(), from_pandas=True), "title": films["movie_title"].to_numpy(),
    })
    band = pd.cut(people["age"].astype(int), BANDS, right=False, labels=list(AGES_1M.values())).astype(str)
    users = pa.table({name: people[name].to_numpy() for name in ("user_id", "gender", "occupation")} | {"age_band": band.to_numpy()})
    return Imported(events, items, users, {}, ["timestamps are exact unix seconds", "ages are put into the bands of MovieLens 1M"])


def _tab_separated(file: Path) -> pd.DataFrame:
    """RecBole's atomic files: a typed header (`name:type`), tabs, no quotes. All columns as text."""
    frame = pd.read_csv(file, sep="\t", dtype=str, quoting=3, encoding="utf-8")
    return frame.rename(columns=lambda name: name.split(":")[0])


def _read_1m(source: Path) -> Imported:
    ratings = pd.read_csv(source / "interactions.tsv.gz", sep="\t").sort_values(["user_id", "position"], kind="stable")
    known = ratings["ts_exact"].fillna(ratings["ts_approx"])
    micros = times_in_order(ratings["user_id"].to_numpy(), known.to_numpy(), ratings["position"].to_numpy())
    events = _ratings(ratings["user_id"].astype(str), ratings["movie_id"].astype(str), ratings["rating"], micros)
    exact = ratings["ts_exact"].notna().sum()
    notes = [
        f"{exact:,} times are exact, {known.notna().sum() - exact:,} approximate (median error 263 s)",
        f"{known.isna().sum():,} ratings have no time: put right after the newest known time at a lower position of their user",
        "where no lower position has a time, the first known time of the user stands for it",
        "positions within a user are kept as microseconds, so that the order is that of the source",
    ]
    return Imported(events, _films_1m(source), _people_1m(source), {}, notes)


def times_in_order(users: np.ndarray, seconds: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Microseconds that never decrease along a user's positions, the order that is certain.

    `users` sorted, positions ascending within; `seconds` unix seconds or NaN. A time before one at a lower position is lifted
    to it (approximate times may be minutes off), a missing one is the newest known at a lower position, the first known
    where there is none; then the position is added in microseconds.
    """
    times = pd.Series(seconds)
    newest = times.groupby(users).cummax().groupby(users).ffill().groupby(users).bfill()
    return newest.to_numpy().astype("int64") * SECOND + positions


def _films_1m(source: Path) -> pa.Table:
    films = pd.read_csv(source / "movies.dat", sep="::", engine="python", names=["item_id", "title", "genres"], dtype=str, encoding="iso-8859-1")
    credits = pd.read_csv(source / "movie_credits.tsv.gz", sep="\t", dtype=str, keep_default_na=False).set_index("movie_id")
    credited = credits.reindex(films["item_id"])
    names = {ours: credited[theirs].where(credited[theirs] != "N/A") for ours, theirs in (("directors", "director"), ("actors", "actors"))}
    return pa.table({
        "item_id": films["item_id"].to_numpy(), "genres": text_lists(films["genres"], "|"),
        "year": pa.array(films["title"].str.extract(r"\((\d{4})\)\s*$")[0].astype(float), pa.float64(), from_pandas=True),
        "title": films["title"].to_numpy(), **{ours: text_lists(texts, ", ") for ours, texts in names.items()},
    })


def _people_1m(source: Path) -> pa.Table:
    people = pd.read_csv(source / "users.dat", sep="::", engine="python", names=["user_id", "gender", "age", "occupation", "zip"], dtype=str)
    return pa.table({
        "user_id": people["user_id"].to_numpy(), "gender": people["gender"].to_numpy(),
        "age_band": people["age"].astype(int).map(AGES_1M).to_numpy(), "occupation": people["occupation"].to_numpy(),
    })


def _ratings(users: pd.Series, items: pd.Series, ratings: pd.Series, micros: pd.Series | np.ndarray) -> pa.Table:
    times = pa.array(np.asarray(micros, dtype="int64")).cast(pa.timestamp("us", tz="UTC"))
    ratings = ratings.astype(float)
    said = np.select([ratings >= 4, ratings >= 3], ["liked", "seen"], "disliked")
    return events_table({"user_id": users, "item_id": items, "behavior": said, "event_time": times, "value": ratings})
