"""Sets of items where the catalogue's attributes make too few: single well-sold items, and groups of items whose
vectors lie together (k-means; MacQueen 1967).

The vectors are of a night at the start of the oldest label window or before: those of D have seen who bought what in
the windows that are learned from.
"""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa

from jobs.audiences.event_log import EventLog
from jobs.audiences.nights import Tables
from jobs.audiences.pooled_rows import LEAST_BUYERS
from jobs.audiences.set_columns import pairs_of
from jobs.audiences.snapshot import Ledger
from jobs.audiences.vectors import read_entities

MOST_SINGLE = 1000  # those with the most buyers
MOST_GROUPS, ITEMS_PER_GROUP = (100, 30, 10), 10  # fine ones, and coarse ones: of few buyers few groups have enough
LAST_DAY = 1 << 30


def stand_ins(
    log: EventLog, tables: Tables, since: datetime.date, models: list[str], purchase: str, seed: int
) -> dict[str, np.ndarray]:
    """Numbers of items, ascending, by the set's name. since: the start of the oldest label window; groups are by the
    first of the models that was published for that day or an earlier one."""
    return single_items(log, purchase) | groups(log, tables, since, models, seed)


def single_items(log: EventLog, purchase: str) -> dict[str, np.ndarray]:
    """Each item with buyers enough, a set of its own."""
    if purchase not in log.behaviors:
        return {}
    bought = pairs_of(log, log.behaviors[purchase], log.first, LAST_DAY)
    buyers = np.asarray(bought.sum(axis=0)).ravel()
    best = np.argsort(-buyers, kind="stable")[:MOST_SINGLE]
    best = best[buyers[best] >= LEAST_BUYERS]
    raw = log.items.take(pa.array(best)).to_pylist()
    return {f"item_id={name}": np.array([item]) for name, item in zip(raw, best, strict=True)}


def groups(
    log: EventLog, tables: Tables, since: datetime.date, models: list[str], seed: int
) -> dict[str, np.ndarray]:
    """k-means of the items' vectors, each of length 1, into several numbers of groups; none without vectors."""
    nights = {model: dates[-1] for model in models if (dates := _published(tables, model, since))}
    if not nights:
        return {}
    model, night = next(iter(nights.items()))
    ids, vectors = read_entities(model, night, tables.entity_embeddings, "item")
    numbers = log.items_among(Ledger.read(tables.entity_ids.segments("item")).raw_of(ids))
    order = np.argsort(numbers)[(numbers < 0).sum() :]  # by raw id: the ledger's order says when each came up
    found = vectors[order] / np.maximum(np.linalg.norm(vectors[order], axis=1, keepdims=True), 1e-12)
    numbers_of_groups = {k for most in MOST_GROUPS if (k := min(most, len(order) // ITEMS_PER_GROUP)) > 1}
    if not numbers_of_groups:
        return {}
    from sklearn.cluster import MiniBatchKMeans  # late: few catalogues need it

    named = {}
    for k in sorted(numbers_of_groups):
        group = MiniBatchKMeans(k, random_state=seed, n_init=3).fit_predict(found)
        named |= {f"group {g} of {k}": numbers[order[group == g]] for g in range(k) if (group == g).any()}
    return named


def _published(tables: Tables, model: str, since: datetime.date) -> list[datetime.date]:
    """Until then, ascending."""
    dates = map(datetime.date.fromisoformat, tables.entity_embeddings.table(model).values())
    return [date for date in dates if date <= since]
