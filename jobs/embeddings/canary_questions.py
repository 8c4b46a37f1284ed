"""Questions with known answers about some users of tonight, frozen for the nights to come.

Of a few of those trained tonight, drawn by a hash of their ids, half to learn from and half to ask: who bought of one
kind of items (`likes`: the value of an attribute of items that divides them best), who is of the commoner of the two
commonest classes of a label (`label`: the first one that the configuration names), and which of two items is theirs
(`item`, not `other`). And their vectors, so that the nights to come can learn from them what they need.
"""

from __future__ import annotations

import datetime
from collections import Counter
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.arrays import SOURCES, TRAINED, keys_of, raw_of
from jobs.configuration.profiles import Profiles
from jobs.configuration.sections import Graph, Publishing
from jobs.graphs.ledgers import ITEM, USER, attribute_relation, value_type
from jobs.profiles.labels import read_known
from jobs.program import Input, JobError, log
from jobs.tables import TABLES
from models.places import positions

ASKED_BIT = np.uint64(1)  # users are drawn by the first bits of their keys


class Configured(Protocol):
    """The sections that say what can be asked."""

    graph: Graph
    profiles: Profiles
    publishing: Publishing


@dataclass(frozen=True)
class Graphs:
    """What answers are read from: tables of D."""

    knowledge_graph: Input
    entity_ids: Input
    relations: Input
    user_labels: Input

    def edges(self, dt: str, relation: int, heads: np.ndarray | None = None) -> pa.Table:
        """head, tail of one relation's edges, of these heads or of all."""
        wanted = pc.field("relation") == relation
        if heads is not None:
            wanted &= pc.field("head").isin(pa.array(heads))
        return self.knowledge_graph.table().read(dt, columns=["head", "tail"], filter=wanted)

    def relation_ids(self) -> dict[str, int]:
        ledger = self.relations.segments().read()
        return dict(zip(ledger.column("name").to_pylist(), ledger.column("id").to_pylist(), strict=True))


@dataclass(frozen=True)
class Bought:
    """Who bought what: users (e,), places among those drawn; at (e,): places among the items bought (m,), which are
    ledger ids, with their raw ids."""

    users: np.ndarray
    at: np.ndarray
    items: np.ndarray
    raw: np.ndarray

    def joined(self, items: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """users (p,), values (p,): each user with each value of an item of his, once. items (q,) with a value (q,)
        each, an item as often as it has values."""
        left = pa.table({"item": self.items[self.at], "user": self.users})
        pairs = left.join(pa.table({"item": items, "value": values}), "item", join_type="inner")
        return tuple(np.unique(np.stack([pairs.column(c).to_numpy() for c in ("user", "value")]), axis=1))


def freeze(
    dt: str, users: pa.Table, ids: np.ndarray, graphs: Graphs, config: Configured
) -> tuple[pa.Table, dict[str, Any]]:
    """(rows of the table `canaries`, what its manifest says of them). users: tonight's as they are published; ids (n,):
    ledger ids of those who were trained."""
    trained = users.column("user_id").filter(pc.equal(users.column("source"), SOURCES[TRAINED]))
    keys = keys_of(np.zeros(len(ids), np.int64), [USER], trained.to_numpy())
    drawn = np.sort(np.argsort(keys, kind="stable")[: config.publishing.canaries])
    rows = users.filter(pc.is_in(users.column("user_id"), value_set=trained.take(pa.array(drawn)).combine_chunks()))
    ids = ids[drawn]
    bought = _bought_of(dt, ids, graphs, config.graph)
    likes, kind = _who_like(dt, bought, len(ids), graphs, config.graph)
    labels, label = _who_are(dt, rows.column("user_id"), graphs, config.profiles)
    own, other = _pairs(bought, len(ids))
    columns = {
        "user_id": rows.column("user_id"), "embedding": rows.column("embedding"),
        "asked": pa.array((keys[drawn] & ASKED_BIT).astype(bool)), "likes": likes, "label": labels,
        "item": own, "other": other}  # fmt: skip
    schema = TABLES["canaries"].arrow_schema(rows.schema.field("embedding").type.list_size)
    table = pa.table([columns[name] for name in schema.names], schema.names).cast(schema)
    return table, {"frozen": dt, "likes": kind, "label": label, "relation": config.graph.purchase}


def _bought_of(dt: str, ids: np.ndarray, graphs: Graphs, graph: Graph) -> Bought:
    """Of the users `ids`, in this order."""
    relation = graphs.relation_ids().get(graph.purchase)
    if relation is None:
        return Bought(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, object))
    edges = graphs.edges(dt, relation, ids)
    users = positions(ids, edges.column("head").to_numpy())
    items, at = np.unique(edges.column("tail").to_numpy(), return_inverse=True)
    raw = raw_of(graphs.entity_ids.segments(ITEM), items, ITEM).to_numpy()
    return Bought(users, at, items, raw)


def _who_like(
    dt: str, bought: Bought, n: int, graphs: Graphs, graph: Graph
) -> tuple[pa.Array, dict[str, str] | None]:
    """(bool (n,): who bought of the kind, all null without one; which kind that is: of those that divide users equally
    well the first by name)."""
    known, best = graphs.relation_ids(), None
    for attribute, declared in sorted(graph.item_attributes.items()):
        name = attribute_relation(ITEM, attribute)
        if name not in known or not len(bought.users):
            continue
        edges = graphs.edges(dt, known[name], bought.items)
        values, at = np.unique(edges.column("tail").to_numpy(), return_inverse=True)
        kind = value_type(attribute, declared)
        raw = raw_of(graphs.entity_ids.segments(kind), values, kind).to_numpy()
        users, values_of = bought.joined(edges.column("head").to_numpy(), at)
        for value, count in enumerate(np.bincount(values_of, minlength=len(raw)).tolist()):
            rank = abs(2 * count - n), name, raw[value]
            if best is None or rank < best[0]:
                best = rank, users[values_of == value]
    if best is None:
        return pa.nulls(n, pa.bool_()), None
    (_, name, value), who = best
    likes = np.zeros(n, bool)
    likes[who] = True
    return pa.array(likes), {"relation": graph.purchase, "attribute": name, "value": value}


def _who_are(
    dt: str, user_ids: pa.ChunkedArray, graphs: Graphs, profiles: Profiles
) -> tuple[pa.Array, dict[str, str] | None]:
    """(bool (n,): who is of the class, null for those of neither; label and classes)."""
    n = len(user_ids)
    if not profiles.labels or graphs.user_labels.table().manifest(dt) is None:
        return pa.nulls(n, pa.bool_()), None
    name = next(iter(profiles.labels))
    try:
        known = read_known(graphs.user_labels, datetime.date.fromisoformat(dt), profiles)[name]
    except JobError as error:  # vectors can be published without it
        log.warning("no label is asked: %s", error)
        return pa.nulls(n, pa.bool_()), None
    at = pc.index_in(user_ids.combine_chunks(), value_set=known.user_id)
    classes = known.classes.take(at).to_pylist()
    common = sorted(Counter(filter(None, classes)).items(), key=lambda one: (-one[1], one[0]))[:2]
    if len(common) < 2:
        return pa.nulls(n, pa.bool_()), None
    (ours, _), (rest, _) = common
    answers = [None if one not in (ours, rest) else one == ours for one in classes]
    return pa.array(answers, pa.bool_()), {"label": name, "ours": ours, "rest": rest}


def _pairs(bought: Bought, n: int) -> tuple[pa.Array, pa.Array]:
    """(an item of each user, one that is his neighbour's and none of his): raw ids, null where there is no such pair.

    The other is drawn as items of users are, so that neither is the better known one."""
    keys = keys_of(np.zeros(len(bought.items), np.int64), [ITEM], bought.raw)
    order = np.lexsort((keys[bought.at], bought.users))
    users, first = np.unique(bought.users[order], return_index=True)
    own = bought.at[order][first]
    pairs = set(zip(bought.users.tolist(), bought.at.tolist(), strict=True))
    out = np.full((2, n), None, object)
    for user, item, other in zip(users.tolist(), own.tolist(), np.roll(own, 1).tolist(), strict=True):
        if (user, other) not in pairs:
            out[:, user] = bought.raw[item], bought.raw[other]
    return tuple(pa.array(column, pa.string()) for column in out)
