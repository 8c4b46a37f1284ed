"""What the night's model of seed lists (seed_lessons.py) makes of a request: a margin for every active user.

Two kinds, as the classifier of the list alone has them: the ranking's, by all seeds and as of D; and those that tell
how well seeds are told apart, where the seeds of each fold stand in no column of its users, and all columns end at the
borders of lessons.py. The trees of a user's fold did not learn from him.
Shapes: n users of D who are ranked, in the order of their raw ids' bytes.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs.audiences.event_log import day_number, moved_to, read_log
from jobs.audiences.fitted import require_same_attributes
from jobs.audiences.item_sets import item_sets
from jobs.audiences.learn_pool import CHUNK, first_of, past_of
from jobs.audiences.lessons import Lesson
from jobs.audiences.pooled import unseen_margin
from jobs.audiences.pooled_rows import folds, keys_of, order_of
from jobs.audiences.seed_lessons import SeedModel
from jobs.audiences.seed_sets import SeedLists, SeedSet
from jobs.audiences.set_affinities import Published
from jobs.audiences.set_columns import Past, behaviors_of
from jobs.configuration.sections import Graph, Lookalike
from jobs.program import Input, JobError
from jobs.program import log as logger

LEAST_SEEDS = 5  # for the night's model
LEAST_OWN = 30  # for a classifier of the list alone
OWN_SHARE, HALF_OF_OWN = 0.5, 250  # of a list of very many seeds; seeds at which it is half of that


@dataclass(frozen=True)
class Learned:
    """float32 (n,) each: `told` of the quality, `now` of the ranking. figures: for the report."""

    told: np.ndarray
    now: np.ndarray
    figures: dict[str, Any]


def own_share(seeds: int) -> float:
    """How much of a margin is that of the list's own classifier: the fewer seeds, the less."""
    return 0.0 if seeds < LEAST_OWN else OWN_SHARE * seeds / (seeds + HALF_OF_OWN)


@dataclass(frozen=True)
class Asked:
    """A list as the night's model reads it: what was known at D, and before each user's border (the same where that
    is D). fold int64 (n,): of the trees that did not learn from the user."""

    model: SeedModel
    now: SeedLists
    then: SeedLists
    fold: np.ndarray
    threads: int

    def margins(self, lists: SeedLists, found: SeedSet, seeds: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """float32 (p,)."""
        names, out = lists.names(), np.empty(len(rows), np.float32)
        for start in range(0, len(rows), CHUNK):
            some = rows[start : start + CHUNK]
            features = in_order(lists.columns(found, seeds, some), names, self.model.columns)
            out[start : start + CHUNK] = unseen_margin(self.model.boosters, features, self.fold[some], self.threads)
        return out

    def ranked(self, seeds: np.ndarray) -> tuple[np.ndarray, SeedSet]:
        """(margins (n,) by all seeds, what these stand for). seeds: numbers in the log."""
        found = self.then.found(seeds)
        return self.margins(self.now, found, seeds, np.arange(len(self.fold))), found

    def cross_fitted(self, seeds: np.ndarray, parts: Iterable[np.ndarray]) -> np.ndarray:
        """float32 (n,): of each part's users (row numbers) by the seeds outside it."""
        out, eligible = np.empty(len(self.fold), np.float32), self.then.past.eligible
        for rows in parts:
            others = seeds[~np.isin(seeds, eligible[rows])]
            out[rows] = self.margins(self.then, self.then.found(others), others, rows)
        return out


def in_order(values: np.ndarray, names: list[str], wanted: list[str]) -> np.ndarray:
    """float32 (p, len(wanted)): the columns as they were learned from; those of a model that was not published that
    night are there, and empty. JobError where one is missing."""
    at = {name: place for place, name in enumerate(names)}
    if missing := [name for name in wanted if name not in at]:
        raise JobError(
            f"The model of seed lists learned from {len(wanted)} columns, of which {len(missing)} cannot be had now, "
            f"e.g. {missing[:5]}: the configuration (graph.window_days, graph.purchase) or the program has changed "
            "since. Run train_lookalike of that night again.")
    return values[:, [at[name] for name in wanted]].astype(np.float32, copy=False)


def dealt(positive: np.ndarray, order: np.ndarray, number: int) -> list[np.ndarray]:
    """Row numbers by part: the seeds in turn by the order (n,) in [0, 1), so that no part holds more than its share of
    few seeds; all others by the number itself."""
    part = np.floor(order * number).astype(np.int64)
    seeds = np.flatnonzero(positive)
    part[seeds[np.argsort(order[seeds], kind="stable")]] = np.arange(len(seeds)) % number
    return [np.flatnonzero(part == one) for one in range(number)]


def asked(
    model: SeedModel, lesson: Lesson, clean_events: Input, date: datetime.date, graph: Graph, look: Lookalike, seed: int
) -> Asked:
    """Reads the log once, as far back as the earliest border asks for."""
    source, borders = lesson.now, lesson.borders
    past = past_at(lesson, clean_events, date, graph, look, behaviors_of(model.columns))
    log, keys = past.log, keys_of(past.log.users, seed)
    sets = item_sets(source.snapshot, log, {}, look.exclude_attributes)
    published = Published.of(source, log) if source.vectors else None
    now = then = SeedLists(past, sets, published, model.models, keys)
    if borders is not None:
        of_all = np.full(len(log.users), past.today)
        of_all[past.eligible] = borders
        then = dataclasses.replace(now, past=dataclasses.replace(past, log=moved_to(log, of_all, past.today)))
    fold = folds(log, len(model.boosters), seed)[past.eligible]
    return Asked(model, now, then, fold, look.pooled_trees.threads)


def past_at(
    lesson: Lesson, clean_events: Input, date: datetime.date, graph: Graph, look: Lookalike, behaviors: list[str]
) -> Past:
    """Of the users who are ranked, in their order."""
    earliest = 0 if lesson.borders is None else day_number(date) - int(lesson.borders.min())
    before = datetime.timedelta(days=max(0, earliest))
    items, first = lesson.now.snapshot.item_raw, first_of(date, graph, look) - before
    log = read_log(clean_events, first, date, items, behaviors, date - before)
    return dataclasses.replace(past_of(log, date, graph, look), eligible=log.numbers(lesson.now.users.raw))


def learned(
    model: SeedModel, lesson: Lesson, clean_events: Input, date: datetime.date, parts: int, graph: Graph,
    look: Lookalike, seed: int, name: str,
) -> Learned:  # fmt: skip
    """The margins of everybody. The list is of the lesson's positives. JobError where the model learned with other
    attributes."""
    require_same_attributes(model.excluded, look.exclude_attributes, date.isoformat())
    request = asked(model, lesson, clean_events, date, graph, look, seed)
    past = request.now.past
    seeds = past.eligible[lesson.positive]
    order = order_of(request.now.keys[past.eligible], f"parts of {name}")
    now, found = request.ranked(seeds)
    told = request.cross_fitted(seeds, dealt(lesson.positive, order, parts))
    items = int(found.of_set.sum())
    if not items:
        logger.warning("the seeds bought nothing in the window more than others do: vectors and activity alone rank")
    spaces = sorted(request.now.spaces)
    return Learned(told, now, {"set_items": items, "lists": model.figures.get("lists"), "spaces": spaces})
