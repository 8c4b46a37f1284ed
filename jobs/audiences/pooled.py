"""The pooled classifier: one model that reads (user, item set) whatever the set.

Its rows are those of pooled_rows.py, its columns those of set_columns.py and, where a night was published at a window's
start, each model's affinities to the set (set_affinities.py). Each booster learns without one fold of users, who tell
it when to stop: so the margins of all users are had from boosters that never saw them.
Shapes: r rows, F columns, u eligible users, U users of the log.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jobs.audiences.fitted import mean_margin
from jobs.audiences.item_sets import ItemSets
from jobs.audiences.pooled_rows import MOST_BUYERS, NOBODYS, Window, draw, odds_of_draw, order_of
from jobs.audiences.set_affinities import Published
from jobs.audiences.set_columns import Past
from models.classifiers.lookalike import fit_folds, margins_of
from models.hyperparameters import TreeHyperparameters

if TYPE_CHECKING:
    import xgboost

MOST_SETS = 120  # of a window, by a hash of the name: more take time and add little

# (past, set, numbers of eligible users) → float32 (p, F)
Columns = Callable[[Past, int, np.ndarray], np.ndarray]
VectorsAt = Callable[[Past], Published | None]  # those published for a past's day


@dataclass(frozen=True)
class Lessons:
    """What there is to learn from: the newest window first; fold int64 (U,), keys uint64 (U,) of the log's users."""

    sets: ItemSets
    windows: list[Window]
    fold: np.ndarray
    keys: np.ndarray
    columns: Columns
    names: list[str]
    vectors: VectorsAt = lambda past: None

    def allowed(self, window: Window, place: int, prospects: bool) -> np.ndarray:
        """bool (u,): all, or those without a purchase of the set before the window."""
        past = window.past
        return past.never_bought(self.sets.mask(place)) if prospects else np.ones(len(past.eligible), bool)


@dataclass(frozen=True)
class Rows:
    """features float32 (r, F); labels bool (r,); fold int64 (r,) of the row's user; odds float64 (r,): of its draw."""

    features: np.ndarray
    labels: np.ndarray
    fold: np.ndarray
    odds: np.ndarray

    @classmethod
    def together(cls, parts: list[Rows]) -> Rows:
        return cls(*(np.concatenate([getattr(p, field.name) for p in parts]) for field in dataclasses.fields(cls)))


def rows_of(lessons: Lessons, number: int, place: int, prospects: bool, most: int) -> Rows:
    """One set's rows of the window of this number."""
    window = lessons.windows[number]
    users, labels, allowed = window.past.eligible, window.labels(place), lessons.allowed(window, place, prospects)
    order = order_of(lessons.keys[users], f"{number} {lessons.sets.names[place]}")
    rows = draw(labels, allowed, order, most)
    odds = np.full(len(rows), odds_of_draw(labels, allowed))
    return Rows(lessons.columns(window.past, place, rows), labels[rows], lessons.fold[users[rows]], odds)


def chosen_sets(window: Window, sets: ItemSets, most: int = MOST_SETS) -> np.ndarray:
    """Places of the sets that a window teaches: the usable ones that come first by a hash of their names."""
    there = np.flatnonzero(window.usable())
    order = [order_of(np.zeros(1, np.uint64), sets.names[place])[0] for place in there]
    return np.sort(there[np.argsort(order, kind="stable")[:most]])


def rows_of_pool(lessons: Lessons, prospects: bool) -> Rows:
    """Of all chosen sets and windows."""
    return Rows.together([
        rows_of(lessons, number, place, prospects, MOST_BUYERS)
        for number, window in enumerate(lessons.windows) for place in chosen_sets(window, lessons.sets)])  # fmt: skip


def rows_of_client(lessons: Lessons, place: int, prospects: bool) -> Rows:
    """All buyers of a client's set in the windows at whose start it was known, and others."""
    numbers = [number for number, window in enumerate(lessons.windows) if window.known[place]] or [0]
    return Rows.together([rows_of(lessons, number, place, prospects, len(lessons.fold)) for number in numbers])


def fit_rows(rows: Rows, folds: int, hyper: TreeHyperparameters, seed: int) -> list[xgboost.Booster]:
    """A booster per fold, learned from all others'. OneClassError where a side has no buyer, or nobody else."""
    used = rows.fold != NOBODYS
    return fit_folds(rows.features[used], rows.labels[used], rows.fold[used], folds, hyper, seed)


def unseen_margin(boosters: list[xgboost.Booster], features: np.ndarray, fold: np.ndarray, threads: int) -> np.ndarray:
    """float32 (r,): of each row from the booster that did not learn from its user; the mean for NOBODYS."""
    out = np.empty(len(features), np.float32)
    for k, booster in enumerate(boosters):
        out[fold == k] = margins_of(booster, features[fold == k], threads)
    out[fold == NOBODYS] = mean_margin(boosters, features[fold == NOBODYS], threads)
    return out
