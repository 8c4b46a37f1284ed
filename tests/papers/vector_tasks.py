"""The tasks of `make paper-vectors`: what a downstream team asks of a user's vector.

MovieLens 1M: gender, age band, occupation, and the genres of the likes that were held out (whether a genre's share of
them is above the median user's). The shops: which of the categories (Complete Journey) or words of the description
(Online Retail) most bought before the night a user buys in the L days from it on; Complete Journey's also beside the
user's own history with each category and his activity at large, so that a vector competes by what it adds to what
stands in any table. Every task is a number of yes-or-no questions, one a class, and its figure the mean of their AUC.

Shapes: n users, C classes, H columns of own history.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from models.families import family_of
from tests.papers.vector_logs import LogNight, in_fold_a

MOST_CLASSES = 24  # of categories and words: those of which most users bought before the night
OLDEST = 180.0  # days: who never bought of a category counts as one who did so long ago


@dataclass(frozen=True)
class Task:
    """rows: int64 (n,), numbers of its users among all. labels: bool (n, C). own: float64 (n, C, H), what is known of a
    user and a class without any vector, or None."""

    name: str
    rows: np.ndarray
    labels: np.ndarray
    classes: list[str]
    own: np.ndarray | None = None


def tasks_of(nights: LogNight, users: np.ndarray) -> Iterator[Task]:
    """All tasks of a log. users: raw ids (object), in the order of the vectors."""
    if nights.is_films:
        yield from _of_people(nights, users)
        yield _of_genres(nights, users)
    else:
        yield from _of_shop(nights, users)


def _of_people(nights: LogNight, users: np.ndarray) -> Iterator[Task]:
    people = nights.people().set_index("user_id").reindex(users)
    learned = {"gender", "age_band"} if any(family_of(model).learns_labels for model in nights.models) else set()
    for column in ("gender", "age_band", "occupation"):
        known = people[column].notna().to_numpy()
        if column in learned:  # whoever's label a model may have learned says nothing of its vectors
            known = known & ~in_fold_a(nights.settings(), users)
        rows = np.flatnonzero(known)
        yield exclusive(column, rows, people[column].to_numpy()[rows])


def exclusive(name: str, rows: np.ndarray, values: np.ndarray) -> Task:
    """Each user is of one class; of two, the second says all."""
    classes = sorted({str(value) for value in values})
    asked = classes if len(classes) > 2 else classes[1:]
    return Task(name, rows, np.stack([values.astype(str) == one for one in asked], axis=1), asked)


def _of_genres(nights: LogNight, users: np.ndarray) -> Task:
    counts, genres = counts_of(nights.after(), values_of(nights.items(), "genres"), users)
    rows = np.flatnonzero(counts.sum(axis=1) >= 5)  # the share of a genre in fewer likes says little
    return above_median("genre share of held-out likes", rows, counts[rows], genres)


def above_median(name: str, rows: np.ndarray, counts: np.ndarray, classes: list[str]) -> Task:
    """Whether a class' share of a user's counts (n, C) is above the median. Classes that nearly nobody or nearly
    everybody is above of stay out: an AUC of a handful of users is noise."""
    shares = counts / counts.sum(axis=1, keepdims=True)
    labels = shares > np.median(shares, axis=0)
    kept = (labels.mean(axis=0) > 0.05) & (labels.mean(axis=0) < 0.95)
    return Task(name, rows, labels[:, kept], [one for one, keep in zip(classes, kept, strict=True) if keep])


def _of_shop(nights: LogNight, users: np.ndarray) -> Iterator[Task]:
    is_grocer = nights.shop.config == "completejourney"
    values = values_of(nights.items(), "category" if is_grocer else "words")
    before, after = nights.before(), nights.after()
    counts, classes = counts_of(before, values, users)
    # of what was bought before the night alone: labels have no part in the choice of the classes
    chosen = np.sort(np.argsort(-(counts > 0).sum(axis=0), kind="stable")[:MOST_CLASSES])
    named = [classes[k] for k in chosen]
    values = values[values["value"].isin(named)]
    later = counts_of(after, values, users, named)[0] > 0
    rows = np.arange(len(users))
    yield Task("next category" if is_grocer else "next words", rows, later, named)
    if is_grocer:
        own = history(before, values, users, named, nights.date)
        at_large = np.repeat(activity(before, users, nights.date)[:, None], len(named), axis=1)
        own = np.concatenate([own, at_large], axis=2)
        yield Task("next category over own history", rows, later, named, own)


def values_of(items: pd.DataFrame, column: str) -> pd.DataFrame:
    """item_id, value: one row for each of an item's values."""
    return items[["item_id", column]].explode(column).dropna().rename(columns={column: "value"}).drop_duplicates()


def counts_of(
    events: pd.DataFrame, values: pd.DataFrame, users: np.ndarray, classes: list[str] | None = None
) -> tuple[np.ndarray, list[str]]:
    """(float64 (n, C): events of a user with an item that has the value, the values)."""
    joined = events[["user_id", "item_id"]].merge(values, on="item_id")
    joined = joined[joined["user_id"].isin(users)]
    classes = sorted(joined["value"].unique()) if classes is None else classes
    found = np.zeros((len(users), len(classes)))
    at = pd.Index(users).get_indexer(joined["user_id"]), pd.Index(classes).get_indexer(joined["value"])
    np.add.at(found, at, 1.0)
    return found, list(classes)


def history(
    events: pd.DataFrame, values: pd.DataFrame, users: np.ndarray, classes: list[str], date: datetime.date
) -> np.ndarray:
    """float64 (n, C, 3): log of 1 + events with the class, of 1 + days with one, and of 1 + days since the last."""
    joined = events.merge(values, on="item_id")
    joined["day"] = joined["event_time"].dt.floor("D")
    found = np.zeros((len(users), len(classes), 3))
    found[:, :, 2] = OLDEST
    of_pairs = joined.groupby(["user_id", "value"], observed=True).agg(
        events=("day", "size"), days=("day", "nunique"), last=("event_time", "max")).reset_index()  # fmt: skip
    row, place = pd.Index(users).get_indexer(of_pairs["user_id"]), pd.Index(classes).get_indexer(of_pairs["value"])
    ago = (pd.Timestamp(date, tz="UTC") - of_pairs["last"]).dt.total_seconds() / 86_400
    kept = (row >= 0) & (place >= 0)
    for number, column in enumerate((of_pairs["events"], of_pairs["days"], ago)):
        found[row[kept], place[kept], number] = column.to_numpy()[kept]
    return np.log1p(found)


def activity(events: pd.DataFrame, users: np.ndarray, date: datetime.date) -> np.ndarray:
    """float64 (n, 5): logs of events, of different items, of days with an event, of days since the last and since the
    first."""
    events = events.assign(day=events["event_time"].dt.floor("D"))
    of_users = events.groupby("user_id").agg(
        events=("day", "size"), items=("item_id", "nunique"), days=("day", "nunique"),
        last=("event_time", "max"), first=("event_time", "min")).reindex(users)  # fmt: skip
    today = pd.Timestamp(date, tz="UTC")
    ago = [((today - of_users[side]).dt.total_seconds() / 86_400).fillna(9_999) for side in ("last", "first")]
    plain = [of_users[name].fillna(0) for name in ("events", "items", "days")]
    return np.log1p(np.stack([*plain, *ago], axis=1).astype(np.float64))
