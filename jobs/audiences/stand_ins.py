"""Sets of items where the catalogue's attributes make too few: single well-sold items, and groups of items whose
vectors lie together (k-means; MacQueen 1967).
"""

from __future__ import annotations

import datetime

import numpy as np

from jobs.audiences.event_log import EventLog
from jobs.audiences.nights import Tables
from jobs.audiences.pooled_rows import LEAST_BUYERS
from jobs.audiences.set_columns import pairs_of
from jobs.audiences.snapshot import Ledger
from jobs.audiences.vectors import read_vectors

MOST_SINGLE = 1000  # those with the most buyers
MOST_GROUPS, ITEMS_PER_GROUP = (100, 30, 10), 10  # fine ones, and coarse ones: of few buyers few groups have enough
LAST_DAY = 1 << 30


def stand_ins(
    log: EventLog, tables: Tables, date: datetime.date, models: list[str], purchase: str, seed: int
) -> dict[str, np.ndarray]:
    """Numbers of items, ascending, by the set's name. Groups are by the first of the models that was published for
    `date`."""
    return single_items(log, purchase) | groups(log, tables, date, models, purchase, seed)


def single_items(log: EventLog, purchase: str) -> dict[str, np.ndarray]:
    """Each item with buyers enough, a set of its own."""
    if purchase not in log.behaviors:
        return {}
    bought = pairs_of(log, log.behaviors[purchase], log.first, LAST_DAY)
    buyers = np.asarray(bought.sum(axis=0)).ravel()
    best = np.argsort(-buyers, kind="stable")[:MOST_SINGLE]
    raw = log.items.to_pylist()
    return {f"item_id={raw[item]}": np.array([item]) for item in best if buyers[item] >= LEAST_BUYERS}


def groups(
    log: EventLog, tables: Tables, date: datetime.date, models: list[str], purchase: str, seed: int
) -> dict[str, np.ndarray]:
    """k-means of the items' vectors, each of length 1, into several numbers of groups."""
    published = [model for model, space in tables.spaces(models, date).items() if space is not None]
    if not published:
        return {}
    users, items = (Ledger.read(tables.entity_ids.segments(kind)) for kind in ("user", "item"))
    vectors = read_vectors(published[0], date, tables.user_embeddings, tables.entity_embeddings, users, purchase)
    numbers = log.items_among(items.raw_of(vectors.item_ids))
    order = np.argsort(numbers)[(numbers < 0).sum() :]  # by raw id: the ledger's order says when each came up
    found = vectors.items[order] / np.maximum(np.linalg.norm(vectors.items[order], axis=1, keepdims=True), 1e-12)
    numbers_of_groups = {k for most in MOST_GROUPS if (k := min(most, len(order) // ITEMS_PER_GROUP)) > 1}
    if not numbers_of_groups:
        return {}
    from sklearn.cluster import MiniBatchKMeans  # late: few catalogues need it

    named = {}
    for k in sorted(numbers_of_groups):
        group = MiniBatchKMeans(k, random_state=seed, n_init=3).fit_predict(found)
        named |= {f"group {g} of {k}": numbers[order[group == g]] for g in range(k) if (group == g).any()}
    return named
