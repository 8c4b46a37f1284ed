"""The people behind the vectors, and what they buy.

On a seeded sample of at most 2,000 users: nothing here grows with the number of users but the read of their ids.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.view import as_matrix
from jobs.program import Input
from jobs.report.likeness import like_minded

MOST_USERS = 2_000
NAMED = 8  # values with a colour of their own


@dataclass(frozen=True)
class Bought:
    """One item of a basket: raw id, how often, and its attributes as (name, value)."""

    item: str
    count: int
    attributes: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class People:
    """Sampled users with vectors; row i of `vectors` is `ids[i]`.

    vectors: float32 (n, d). baskets: most bought first. favourites: item attribute → per user the value bought most,
    "" where none was. attribute: the one that colours them.
    """

    model: str
    ids: list[str]
    vectors: np.ndarray
    baskets: list[list[Bought]]
    favourites: dict[str, list[str]]
    attribute: str = ""

    @property
    def favourite(self) -> list[str]:
        return self.favourites.get(self.attribute) or [""] * len(self.ids)

    @functools.cached_property
    def colours(self) -> dict[str, str]:
        """Favourite → colour class: the commonest have one of their own, the others share grey."""
        ranked = sorted(Counter(f for f in self.favourite if f).items(), key=lambda pair: (-pair[1], pair[0]))
        return {name: f"c{i}" if i < NAMED else "other" for i, (name, _) in enumerate(ranked)} | {"": "other"}


def read_people(
    date: datetime.date, model: str, seed: int, purchase: str, user_embeddings: Input, interactions: Input,
    knowledge_graph: Input, relations: Input, entity_ids: Input, like: People | None = None,
) -> People | None:  # fmt: skip
    """The sample with its baskets; None where the night published no vectors of `model`. `like`: another model's,
    whose baskets serve for equal users."""
    dt = date.isoformat()
    if user_embeddings.table(model).manifest(dt) is None:
        return None
    ids, vectors = _sample(dt, model, seed, user_embeddings)
    if like and like.ids == ids:
        return dataclasses.replace(like, model=model, vectors=vectors)
    baskets: list[list[Bought]] = [[] for _ in ids]
    if ids and interactions.table().manifest(dt) is not None:
        baskets = _baskets(dt, ids, purchase, interactions, knowledge_graph, relations, entity_ids)
    people = People(model, ids, vectors, baskets, favourites_of(baskets))
    return dataclasses.replace(people, attribute=_colouring(people))


def _sample(dt: str, model: str, seed: int, user_embeddings: Input) -> tuple[list[str], np.ndarray]:
    table = user_embeddings.table(model)
    everybody = table.read(dt, ["user_id"]).column("user_id")
    chosen = np.arange(len(everybody))
    if len(everybody) > MOST_USERS:
        chosen = np.sort(np.random.default_rng([seed, 5]).choice(len(everybody), MOST_USERS, replace=False))
    places = pa.array(chosen.tolist(), pa.int64())  # of a list: pa.array of numpy imports pandas, half a second
    wanted = everybody.take(places)
    rows = table.read(dt, ["user_id", "embedding"], pc.field("user_id").isin(wanted.combine_chunks()))
    vectors = as_matrix(rows.column("embedding"))
    return rows.column("user_id").to_pylist(), vectors.astype(np.float32)


def _baskets(
    dt: str, ids: list[str], purchase: str, interactions: Input, knowledge_graph: Input, relations: Input,
    entity_ids: Input,
) -> list[list[Bought]]:  # fmt: skip
    """Per sampled user what was bought."""
    ledger = entity_ids.segments("user").read()
    if ledger is None:
        return [[] for _ in ids]
    place = pc.index_in(pa.array(ids, pa.string()), ledger.column("raw").combine_chunks())
    numbers = ledger.column("id").take(place).to_pylist()
    known = pa.array([n for n in numbers if n is not None], pa.int64())
    rows = interactions.table().read(dt, ["user", "item", "behavior", "count"], pc.field("user").isin(known))
    bought = rows.filter(pc.equal(rows.column("behavior"), purchase))
    bought = bought if len(bought) else rows
    items = pc.unique(bought.column("item"))
    names = _raw(entity_ids, "item", items)
    edges = _item_attributes(dt, items, knowledge_graph, relations, entity_ids)
    described: dict[int, list[tuple[str, str]]] = {}
    for item, name, value in zip(*(edges.column(c).to_pylist() for c in ("item", "name", "value")), strict=True):
        described.setdefault(item, []).append((name, value))
    baskets: dict[int, list[Bought]] = {}
    for user, item, count in zip(*(bought.column(c).to_pylist() for c in ("user", "item", "count")), strict=True):
        one = Bought(names.get(item, f"#{item}"), count, tuple(sorted(described.get(item, ()))))
        baskets.setdefault(user, []).append(one)
    ranked = {user: sorted(basket, key=lambda b: (-b.count, b.item)) for user, basket in baskets.items()}
    return [ranked.get(n, []) for n in numbers]


def _item_attributes(dt: str, items: pa.Array, knowledge_graph: Input, relations: Input, entity_ids: Input) -> pa.Table:
    """Edges item –attribute→ value of these items: item, name of the attribute, raw value."""
    empty = pa.schema([("item", pa.int64()), ("name", pa.string()), ("value", pa.string())]).empty_table()
    known = relations.segments().read()
    if known is None or knowledge_graph.table().manifest(dt) is None:
        return empty
    parts = [empty]
    for relation in known.to_pylist():
        if relation["head_type"] != "item" or relation["tail_type"] == "item":
            continue
        chosen = (pc.field("relation") == relation["id"]) & pc.field("head").isin(items)
        rows = knowledge_graph.table().read(dt, ["head", "tail"], chosen)
        raw = _raw(entity_ids, relation["tail_type"], pc.unique(rows.column("tail")))
        name = pa.array([relation["name"].removeprefix("item_")] * len(rows), pa.string())
        values = pa.array([raw.get(t, f"#{t}") for t in rows.column("tail").to_pylist()], pa.string())
        parts.append(pa.table({"item": rows.column("head"), "name": name, "value": values}))
    return pa.concat_tables(parts)


def _colouring(people: People) -> str:
    """The attribute that colours the map: the one whose favourites near users share furthest above chance."""
    told = like_minded(people)
    return min(told, key=lambda name: (told[name][1] - told[name][0], name), default="")


def _raw(entity_ids: Input, entity_type: str, ids: pa.Array | pa.ChunkedArray) -> dict[int, str]:
    """Ledger id → raw, for these ids."""
    ledger = entity_ids.segments(entity_type).read()
    if ledger is None:
        return {}
    wanted = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    rows = ledger.filter(pc.is_in(ledger.column("id"), value_set=wanted))
    return dict(zip(rows.column("id").to_pylist(), rows.column("raw").to_pylist(), strict=True))


def favourites_of(baskets: list[list[Bought]]) -> dict[str, list[str]]:
    """Attribute → per basket the value bought most often; ties go to the smaller text."""
    counted = [Counter() for _ in baskets]
    for counts, basket in zip(counted, baskets, strict=True):
        for bought in basket:
            for pair in bought.attributes:
                counts[pair] += bought.count
    names = sorted({name for counts in counted for name, _ in counts})
    found: dict[str, list[str]] = {name: [""] * len(baskets) for name in names}
    for i, counts in enumerate(counted):
        for (name, value), _ in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])):
            found[name][i] = found[name][i] or value
    return found
