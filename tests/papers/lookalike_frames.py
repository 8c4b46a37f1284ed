"""One shop as of one day, for `make paper-lookalike`: what was known, who is eligible, and who bought in the L days
after it.

Two days of each shop are looked at: T1 (validation: every choice is made there) and T2 (the test). What learns at
either sees nothing from the day on. Columns are computed once, with those of all models; a variant takes a part of
them.
Shapes: u eligible users, n items, s sets, F columns.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from jobs.audiences.event_log import EventLog, day_number, read_log
from jobs.audiences.item_sets import ItemSets, item_sets
from jobs.audiences.learn_pool import columns_of, lessons_from, log_before, past_of
from jobs.audiences.nights import Tables
from jobs.audiences.pooled import Columns, Lessons
from jobs.audiences.pooled_rows import keys_of, window_of
from jobs.audiences.set_columns import Past
from jobs.configuration.predicates import Predicate, parse
from jobs.configuration.settings import Settings
from models.families import FAMILIES
from tests.papers.shops import L, Nights

# Of the published ones those that no shop's configuration publishes: with nothing learned they are below KQGC's mean,
# or equal to it.
NOT_SHIPPED = ("kqgc_attention1", "kqgc_attention2")
# Family → its published models: of those that learn no labels.
MODELS_OF = {
    family.name: [model for model in family.models if model not in NOT_SHIPPED]
    for family in FAMILIES if not family.learns_labels}  # fmt: skip
ALL_MODELS = [model for models in MODELS_OF.values() for model in models]


def families_of(models: Sequence[str]) -> dict[str, list[str]]:
    """As MODELS_OF, of these models alone."""
    mine = {family: [model for model in all_of if model in models] for family, all_of in MODELS_OF.items()}
    return {family: found for family, found in mine.items() if found}


@dataclass(frozen=True)
class Frame:
    """lessons: of the label windows that end on the day; past, sets, columns, names: as of the day; labels bool (u,) by
    client: bought in the L days from the day on."""

    settings: Settings
    tables: Tables
    date: datetime.date
    lessons: Lessons
    past: Past
    sets: ItemSets
    columns: Columns
    names: list[str]
    labels: dict[str, np.ndarray]

    @property
    def clients(self) -> list[str]:
        return list(self.labels)

    @property
    def users(self) -> pa.Array:
        """Raw ids of the eligible."""
        return self.past.log.users.take(pa.array(self.past.eligible))

    @property
    def events(self) -> np.ndarray:
        """int64 (u,): how many of the window each of the eligible has."""
        found = np.zeros(len(self.past.log.users))
        for rows in self.past.log.behaviors.values():
            there = rows.within(self.past.first, self.past.today)
            np.add.at(found, rows.user[there], rows.count[there])
        return found[self.past.eligible].astype(np.int64)

    def at_large(self) -> np.ndarray:
        """Numbers of all the eligible."""
        return np.arange(len(self.past.eligible))

    def with_models(self, models: list[str], windows: int) -> Frame:
        """Only the bare columns and these models' affinities, only so many label windows."""
        kept = [i for i, name in enumerate(self.names) if model_of(name) in (None, *models)]
        lessons = dataclasses.replace(
            self.lessons, windows=self.lessons.windows[:windows], columns=_part(self.lessons.columns, kept),
            names=[self.names[i] for i in kept])
        return dataclasses.replace(
            self, lessons=lessons, columns=_part(self.columns, kept), names=[self.names[i] for i in kept])


def model_of(column: str) -> str | None:
    """The model whose affinity a column is."""
    prefix = column.partition(":")[0]
    return prefix if prefix in ALL_MODELS else None


def _part(columns: Columns, kept: list[int]) -> Columns:
    return lambda past, place, rows: np.ascontiguousarray(columns(past, place, rows)[:, kept])


def remembered(columns: Columns) -> Columns:
    """The same, each result computed once."""
    known: dict[tuple[int, int, bytes], np.ndarray] = {}

    def of(past: Past, place: int, rows: np.ndarray) -> np.ndarray:
        key = past.today, place, rows.tobytes()
        if key not in known:
            known[key] = columns(past, place, rows)
        return known[key]

    return of


def predicates(nights: Nights, settings: Settings) -> dict[str, Predicate]:
    attribute, known = nights.shop.client_attribute, settings.graph.item_attributes
    return {client: parse({attribute: client}, client, known) for client in nights.shop.clients()}


@dataclass(frozen=True)
class Logs:
    """before: what the lessons take; around: the history before the day and the labels after it, with the sets as the
    graph of the day and of L days later have them."""

    before: EventLog
    sets_before: ItemSets
    around: EventLog
    sets: ItemSets
    later_sets: ItemSets


def read_logs(nights: Nights, settings: Settings, date: datetime.date) -> Logs:
    tables, graph, look = nights.tables(settings.seed), settings.graph, settings.lookalike
    then, later = tables.snapshot(date, graph), tables.snapshot(date + L, graph)
    clients = predicates(nights, settings)
    before = log_before(tables, date, then, graph, look)
    items, first = pa.concat_arrays([then.item_raw, later.item_raw]), date - datetime.timedelta(days=graph.window_days)
    around = read_log(tables.clean_events, first, date + L, items)
    of_sets = (item_sets(then, before, clients), item_sets(then, around, clients), item_sets(later, around, clients))
    return Logs(before, of_sets[0], around, *of_sets[1:])


def frame_of(nights: Nights, settings: Settings, date: datetime.date) -> Frame:
    """Everything of one day; the affinities of all the shop's models stand among the columns."""
    tables, graph, look, models = nights.tables(settings.seed), settings.graph, settings.lookalike, nights.models
    logs = read_logs(nights, settings, date)
    lessons = lessons_from(logs.before, logs.sets_before, tables, date, models, graph, look, settings.seed)
    if isinstance(lessons, str):
        raise SystemExit(f"{nights.shop.name}: {lessons}")
    past = past_of(logs.around, date, graph, look)
    keys = keys_of(logs.around.users, settings.seed)
    columns, names = columns_of([past], tables, logs.sets, models, graph, look, keys, settings.seed)
    after = window_of(past, logs.later_sets, look.label_window_days)
    labels = {client: after.labels(logs.later_sets.place(client)) for client in nights.shop.clients()}
    lessons = dataclasses.replace(lessons, columns=remembered(lessons.columns))
    assert past.today == day_number(date)
    return Frame(settings, tables, date, lessons, past, logs.sets, remembered(columns), names, labels)
