"""What the night's tables of one date say about users and items, as columns of ledger ids.

A snapshot of date d reads the partitions `dt=d` of knowledge_graph and interactions and nothing newer: whatever is
computed from it is known at 00:00 UTC of d.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store import Manifest, Segments
from jobs.configuration.predicates import ITEM_ID, Predicate
from jobs.configuration.sections import Graph
from jobs.graphs.ledgers import ITEM, USER, attribute_relation
from jobs.program import Input

DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Ledger:
    """Dense ids and raw ids of one entity type, both ways."""

    ids: np.ndarray  # int64, ascending
    raw: pa.Array  # large_string, in the order of ids

    @classmethod
    def read(cls, segments: Segments) -> Ledger:
        table = segments.read()
        if table is None:
            return cls(np.zeros(0, np.int64), pa.array([], pa.large_string()))
        ids = table.column("id").to_numpy()
        order = np.argsort(ids, kind="stable")
        return cls(ids[order], table.column("raw").cast(pa.large_string()).take(pa.array(order)).combine_chunks())

    def raw_of(self, ids: np.ndarray) -> pa.Array:
        """Raw ids of known ledger ids."""
        return self.raw.take(pa.array(np.searchsorted(self.ids, ids)))

    def ids_of(self, raw: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """int64: ledger ids of raw ids, -1 where unknown."""
        at = pc.index_in(raw.cast(pa.large_string()), value_set=self.raw).fill_null(-1).to_numpy(zero_copy_only=False)
        return np.where(at >= 0, self.ids[np.maximum(at, 0)], -1) if len(self.ids) else np.full(len(raw), -1, np.int64)


@dataclass(frozen=True)
class Attribute:
    """Edges entity –attribute→ value: heads (E,) ledger ids, codes (E,) into the values (raw texts)."""

    heads: np.ndarray
    codes: np.ndarray
    values: pa.Array


@dataclass(frozen=True)
class Interactions:
    """One row per user, item and behaviour of the window before the date. `last` in seconds since 1970."""

    user: np.ndarray
    item: np.ndarray
    behavior: np.ndarray  # int64 codes into `behaviors`
    behaviors: list[str]
    count: np.ndarray
    value: np.ndarray
    last: np.ndarray

    def of(self, behavior: str) -> np.ndarray:
        """bool per row."""
        return self.behavior == (self.behaviors.index(behavior) if behavior in self.behaviors else -1)


@dataclass(frozen=True)
class Snapshot:
    """The graph's attributes, the interactions, and the items known at `date`."""

    date: datetime.date
    interactions: Interactions
    item_attributes: dict[str, Attribute]
    user_attributes: dict[str, Attribute]
    items: np.ndarray  # ledger ids, ascending
    item_raw: pa.Array  # their raw ids

    @property
    def seconds(self) -> float:
        """00:00 UTC of the date in seconds since 1970."""
        return float((self.date - datetime.date(1970, 1, 1)).days * DAY_SECONDS)

    def matching(self, predicate: Predicate) -> np.ndarray:
        """bool per item: the items of a client."""

        def having(attribute: str, values: tuple[str, ...]) -> np.ndarray:
            wanted = pa.array(values, pa.large_string())
            if attribute == ITEM_ID:
                return pc.is_in(self.item_raw, value_set=wanted).to_numpy(zero_copy_only=False)
            edges = self.item_attributes[attribute]
            hit = pc.is_in(edges.values, value_set=wanted).to_numpy(zero_copy_only=False)[edges.codes]
            return np.isin(self.items, edges.heads[hit])

        return predicate.matches(having)


def read_snapshot(
    date: datetime.date, knowledge_graph: Input, interactions: Input, entity_ids: Input, relations: Input, graph: Graph
) -> Snapshot:
    """The snapshot of `date`. PartitionMissing when the night was not run."""
    seen = _read_interactions(interactions.table().read(date.isoformat()))
    known = _relations(knowledge_graph.table().existing_manifest(date.isoformat()), relations)
    configured = {ITEM: graph.item_attributes, USER: graph.user_attributes}
    relation_of = {
        kind: {name: known.get(attribute_relation(kind, name)) for name in names}
        for kind, names in configured.items()}  # fmt: skip
    ids = pa.array([r["id"] for rows in relation_of.values() for r in rows.values() if r], pa.int64())
    columns, wanted = ["head", "relation", "tail"], pc.field("relation").isin(ids)
    edges = knowledge_graph.table().read(date.isoformat(), columns=columns, filter=wanted)
    found = {
        kind: {name: _attribute(edges, relation, entity_ids) for name, relation in rows.items()}
        for kind, rows in relation_of.items()}  # fmt: skip
    items = np.unique(np.concatenate([seen.item, *(a.heads for a in found[ITEM].values())]))
    item_raw = Ledger.read(entity_ids.segments(ITEM)).raw_of(items)
    return Snapshot(date, seen, found[ITEM], found[USER], items, item_raw)


def _relations(graph: Manifest, relations: Input) -> dict[str, dict]:
    """Rows of the ledger by the name of their relation: those of this graph, for a relation whose types changed has
    several."""
    ledger = relations.segments().read()
    rows = [] if ledger is None else ledger.to_pylist()
    used = set(graph.fields.get("relations", {}).values())
    return {r["name"]: r for r in sorted(rows, key=lambda r: r["id"] in used)}


def _read_interactions(table: pa.Table) -> Interactions:
    encoded = table.column("behavior").combine_chunks().dictionary_encode()
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    seconds = pc.cast(table.column("last_time").cast(pa.timestamp("s", "UTC"), safe=False), pa.int64())
    user, item, count, value = (table.column(name).to_numpy() for name in ("user", "item", "count", "value_sum"))
    codes, behaviors = encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_pylist()
    return Interactions(user, item, codes, behaviors, count, value, seconds.to_numpy())


def _attribute(edges: pa.Table, relation: dict | None, entity_ids: Input) -> Attribute:
    if relation is None:
        return Attribute(np.zeros(0, np.int64), np.zeros(0, np.int64), pa.array([], pa.large_string()))
    mine = edges.filter(pc.equal(edges.column("relation"), relation["id"]))
    values, codes = np.unique(mine.column("tail").to_numpy(), return_inverse=True)
    raw = Ledger.read(entity_ids.segments(relation["tail_type"])).raw_of(values)
    return Attribute(mine.column("head").to_numpy(), codes, raw)
