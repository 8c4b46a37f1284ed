"""A model of lists of seeds, learned by playing a request: hide which set of items it is, hand over some of its past
buyers as seeds, and ask for those who buy of it next.

A label window begins at S. Of each of some sets so many eligible users who bought of it before S are the seeds (SIZES),
by a hash; the rows are other eligible users, next window's buyers and RATIO others for each, with the columns of
seed_sets.py as of S. Seeds are no rows of their list. In which fold a user is, is the same hash for all lists and
windows, so that a user's rows are never on both sides of a split. It is kept in `lookalike_models` beside the clients'.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from feature_store import Commit
from jobs.audiences.pooled import Lessons, Rows, chosen_sets, fit_rows
from jobs.audiences.pooled_rows import Window, draw, odds_of_draw, order_of
from jobs.audiences.seed_sets import SeedLists
from jobs.configuration.sections import Lookalike
from jobs.program import Input
from models.classifiers.lookalike import OneClassError, from_bytes, to_bytes

if TYPE_CHECKING:
    import xgboost

# seeds of the lists that are played, a set taking the next one in turn; 5 twice: so few are the hardest to read
SIZES = (5, 10, 5, 20, 100)
MOST_LISTS = 60  # of a window, by a hash of the sets' names
MOST_BUYERS = 40  # next window's, of a list: many lists teach more than many rows of one
LEAST_LISTS = 20  # in all windows: a model of fewer is one of a few lists
ENTRY = "seed_lists"  # of the index of lookalike_models


@dataclass(frozen=True)
class SeedModel:
    """boosters, by fold of users; the columns they read; the models whose vectors stand in these; which attributes were
    excluded, None where the index does not say."""

    boosters: list[xgboost.Booster]
    columns: list[str]
    models: list[str]
    figures: dict[str, float]
    excluded: list[str] | None = None

    def write(self, commit: Commit) -> dict[str, Any]:
        """Puts the boosters' bytes; the entry of the index."""
        files = [commit.write_bytes(".ubj", to_bytes(booster), hint="seed_lists") for booster in self.boosters]
        return {"files": files, "columns": self.columns, "models": self.models, "figures": self.figures}


def read_seed_model(lookalike_models: Input, dt: str) -> SeedModel | None:
    """None where the night has none."""
    table = lookalike_models.table()
    if table.manifest(dt) is None:
        return None
    content = table.blobs(dt)
    (index,) = (json.loads(blob) for name, blob in content.items() if name.endswith(".json"))
    if (entry := index.get(ENTRY)) is None:
        return None
    boosters = [from_bytes(content[file]) for file in entry["files"]]
    return SeedModel(boosters, entry["columns"], entry["models"], entry["figures"], index.get("excluded"))


def repeatable_entry(index: dict[str, Any]) -> dict[str, Any]:
    """The index without what differs between two equal runs of this model: names of files, seconds."""
    if index.get(ENTRY) is None:
        return index
    entry = {key: value for key, value in index[ENTRY].items() if key != "files"}
    figures = {key: value for key, value in entry["figures"].items() if key != "seconds"}
    return index | {ENTRY: entry | {"figures": figures}}


def seeds_played(lessons: Lessons, window: Window, place: int, size: int, purpose: str) -> np.ndarray:
    """Row numbers, ascending, of so many eligible users who bought of the set before the window; of none where no
    others did."""
    past = window.past
    buyers = np.flatnonzero(~past.never_bought(lessons.sets.mask(place)))
    if len(buyers) <= size:
        return np.zeros(0, np.int64)
    order = order_of(lessons.keys[past.eligible[buyers]], purpose)
    return np.sort(buyers[np.argsort(order, kind="stable")[:size]])


def rows_of_list(lessons: Lessons, number: int, place: int, size: int, lists: SeedLists) -> Rows | None:
    """One list's rows of the window of this number; None where too few bought before, or nobody else buys in it."""
    window, name = lessons.windows[number], f"{number} {lessons.sets.names[place]}"
    seeds = seeds_played(lessons, window, place, size, f"seeds {name}")
    users, labels = window.past.eligible, window.labels(place)
    allowed = np.ones(len(users), bool)
    allowed[seeds] = False
    if not len(seeds) or not (labels & allowed).any():
        return None
    rows = draw(labels, allowed, order_of(lessons.keys[users], f"asked {name}"), MOST_BUYERS)
    found = lists.columns(lists.found(users[seeds]), users[seeds], rows)
    odds = np.full(len(rows), odds_of_draw(labels, allowed))
    return Rows(found, labels[rows], lessons.fold[users[rows]], odds)


def lists_of(lessons: Lessons, models: list[str]) -> list[SeedLists]:
    """By window."""
    pasts = [window.past for window in lessons.windows]
    return [SeedLists(past, lessons.sets, lessons.vectors(past), models, lessons.keys) for past in pasts]


def played(lessons: Lessons, lists: list[SeedLists]) -> Iterator[Rows]:
    """The rows of each list that can be played."""
    for number, window in enumerate(lessons.windows):
        for turn, place in enumerate(chosen_sets(window, lessons.sets, MOST_LISTS)):
            rows = rows_of_list(lessons, number, place, SIZES[(turn + number) % len(SIZES)], lists[number])
            if rows is not None:
                yield rows


def fit_seed_lists(lessons: Lessons, models: list[str], lookalike: Lookalike, seed: int) -> SeedModel | str:
    """Learned by playing requests; or why there is none."""
    started, lists, hyper = time.perf_counter(), lists_of(lessons, models), lookalike.pooled_trees
    parts = list(played(lessons, lists))
    if len(parts) < LEAST_LISTS:
        return f"{len(parts)} lists of seeds can be played; {LEAST_LISTS} are needed"
    rows = Rows.together(parts)
    try:
        boosters = fit_rows(rows, hyper.boosters, hyper, seed)
    except OneClassError as error:
        return str(error)
    figures = {
        "lists": len(parts), "rows": len(rows.labels), "columns": rows.features.shape[1],
        "trees": sum(booster.num_boosted_rounds() for booster in boosters),
        "seconds": round(time.perf_counter() - started, 3)}  # fmt: skip
    return SeedModel(boosters, lists[0].names(), models, figures)
