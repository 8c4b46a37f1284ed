"""Each published model's affinities to a set of items, as columns of the pooled classifier.

They are as of the night that was published at a window's start. A model or a night that is missing leaves its columns
empty: trees know what to do without.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jobs.audiences.event_log import EventLog
from jobs.audiences.feature_sets import ClientSource, Source
from jobs.audiences.item_sets import ItemSets
from jobs.audiences.nights import Tables
from jobs.audiences.pooled_rows import order_of
from jobs.audiences.set_columns import Past
from jobs.audiences.vectors import RelationMissing
from jobs.configuration.sections import Graph, Lookalike
from models.vectors.affinities import Client, names_of

# Vectors of a set that distances are taken to. With 256 and 512 the loss on held-out users of the demo and of two shops
# is the same, and affinities take twice as long.
MOST_ITEMS, MOST_REFERENCES = 64, 128
EVERY_SET = ""  # whose draws these are
ASKED = 4  # times as many references are drawn as are used: some have no vector


@dataclass(frozen=True)
class Published:
    """A night's vectors: where the snapshot's items (-1: not there) and the ledger's users stand in the log."""

    source: Source
    items: np.ndarray
    ledger_ids: np.ndarray

    @classmethod
    def of(cls, source: Source, log: EventLog) -> Published:
        return cls(source, log.items_among(source.snapshot.item_raw), source.ledger.ids_of(log.users))


def published_at(
    tables: Tables, past: Past, models: list[str], graph: Graph, lookalike: Lookalike, seed: int
) -> Published | None:
    """The vectors of those of the models that were published for the past's day; None without any. What retention has
    taken of a night, a table at a time, is no longer there; nor is a model to which a purchase is a relation, where
    nobody had bought by then."""
    date, dt = past.date, past.date.isoformat()
    if any(table.table().manifest(dt) is None for table in (tables.knowledge_graph, tables.interactions)):
        return None
    embeddings = (tables.user_embeddings, tables.entity_embeddings)
    there = [model for model in models if all(table.table(model).manifest(dt) is not None for table in embeddings)]
    while there:
        try:
            return Published.of(tables.source(date, there, graph, lookalike, seed), past.log)
        except RelationMissing as missing:
            there.remove(missing.model)
    return None


def affinity_names(models: list[str]) -> list[str]:
    return [f"{model}:{name}" for model in models for name in names_of(model)]


@dataclass(frozen=True)
class Near:
    """One set of items as each model sees it: what hangs on the set alone, for whichever users. source: None where
    nothing was published."""

    models: list[str]
    source: ClientSource | None
    clients: dict[str, Client]

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """float32 (p, the columns of each model), NaN where there is nothing to say."""
        ends = np.cumsum([0, *(len(names_of(model)) for model in self.models)])
        out = np.full((len(rows), ends[-1]), np.nan, np.float32)
        for model, first, end in zip(self.models, ends[:-1], ends[1:], strict=True):
            if model in self.clients:
                out[:, first:end] = self.source.affinities_to(self.clients[model], model, rows)
        return out


def near_of(
    published: Published | None, models: list[str], past: Past, sets: ItemSets, place: int, keys: np.ndarray
) -> Near:
    """keys uint64: of all users of the log. Who comes first in the draws is the same for all sets, so that equal ones
    are as near to everybody."""
    if published is None:
        return Near(models, None, {})
    source = published.source
    buyers = np.flatnonzero(past.bought @ sets.mask(place).astype(np.float32))
    order = order_of(keys[buyers], "references")
    drawn = buyers[np.argsort(order, kind="stable")[: ASKED * MOST_REFERENCES]]
    references = published.ledger_ids[np.sort(drawn)]  # in the order of raw ids: the ledger's says when each came
    mine = sets.mask(place)[published.items] & (published.items >= 0)  # of what left the catalogue nothing is known
    client = source.of_items(EVERY_SET, mine)
    there = [model for model in models if model in source.vectors]
    clients = {model: client.as_client(model, references, MOST_ITEMS, MOST_REFERENCES) for model in there}
    return Near(models, client, clients)
