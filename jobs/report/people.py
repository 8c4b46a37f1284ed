"""The people behind the vectors: what they buy, where they stand on a map, who their neighbours are.

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

MOST_USERS = 2_000
MAPPED_USERS = 1_000
SHOWN_USERS = 4
NEIGHBOURS = 5
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

    vectors: float32 (n, d). baskets: most bought first. favourites: item attribute → per user the value bought most, "" where none was.
    attribute: the one that colours them.
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
    date: datetime.date, model: str, seed: int, purchase: str,
    user_embeddings: Input, interactions: Input, knowledge_graph: Input, relations: Input, entity_ids: Input, like: People | None = None,
) -> People | None:  # fmt: skip
    """The sample with its baskets; None where the night published no vectors of `model`. `like`: another model's, whose baskets serve for equal users."""
    dt = date.isoformat()
    if user_embeddings.table(model).manifest(dt) is None:
        return None
    ids, vectors = _sample(dt, model, seed, user_embeddings)
    if like and like.ids == ids:
        return dataclasses.replace(like, model=model, vectors=vectors)
    known = bool(ids) and interactions.table().manifest(dt) is not None
    baskets = _baskets(dt, ids, purchase, interactions, knowledge_graph, relations, entity_ids) if known else [[] for _ in ids]
    people = People(model, ids, vectors, baskets, favourites_of(baskets))
    return dataclasses.replace(people, attribute=_colouring(people))


def _sample(dt: str, model: str, seed: int, user_embeddings: Input) -> tuple[list[str], np.ndarray]:
    table = user_embeddings.table(model)
    everybody = table.read(dt, ["user_id"]).column("user_id")
    chosen = np.arange(len(everybody))
    if len(everybody) > MOST_USERS:
        chosen = np.sort(np.random.default_rng([seed, 5]).choice(len(everybody), MOST_USERS, replace=False))
    wanted = everybody.take(pa.array(chosen.tolist(), pa.int64()))  # of a list: pa.array of numpy imports pandas, half a second
    rows = table.read(dt, ["user_id", "embedding"], pc.field("user_id").isin(wanted.combine_chunks()))
    vectors = as_matrix(rows.column("embedding"))
    return rows.column("user_id").to_pylist(), vectors.astype(np.float32)


def _baskets(
    dt: str, ids: list[str], purchase: str, interactions: Input, knowledge_graph: Input, relations: Input, entity_ids: Input,
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
        baskets.setdefault(user, []).append(Bought(names.get(item, f"#{item}"), count, tuple(sorted(described.get(item, ())))))
    ranked = {user: sorted(basket, key=lambda b: (-b.count, b.item)) for user, basket in baskets.items()}
    return [ranked.get(n, []) for n in numbers]


def _item_attributes(dt: str, items: pa.Array, knowledge_graph: Input, relations: Input, entity_ids: Input) -> pa.Table:
    """Edges item –attribute→ value of these items: item, name of the attribute, raw value."""
    empty = pa.table({"item": pa.array([], pa.int64()), "name": pa.array([], pa.string()), "value": pa.array([], pa.string())})
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
    rows = ledger.filter(pc.is_in(ledger.column("id"), value_set=ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids))
    return dict(zip(rows.column("id").to_pylist(), rows.column("raw").to_pylist(), strict=True))


def favourites_of(baskets: list[list[Bought]]) -> dict[str, list[str]]:
    """Attribute → per basket the value bought most often; ties go to the smaller text."""
    counted = [Counter() for _ in baskets]
    for counts, basket in zip(counted, baskets, strict=True):
        for bought in basket:
            for pair in bought.attributes:
                counts[pair] += bought.count
    found: dict[str, list[str]] = {name: [""] * len(baskets) for name in sorted({name for counts in counted for name, _ in counts})}
    for i, counts in enumerate(counted):
        for (name, value), _ in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])):
            found[name][i] = found[name][i] or value
    return found


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1 (zeros stay zeros), centred first: what all users share says nothing of any."""
    centred = vectors - vectors.mean(axis=0)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)


def lay_out(people: People, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """(positions of the mapped users in `people`, float (m, 2)): t-SNE on the first 30 principal components; None for fewer than 10 users.

    One thread: sums over several come out in another order each time, and t-SNE makes other maps of them.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    vectors = unit(people.vectors)
    chosen = np.arange(len(vectors))
    if chosen.size < 10 or not np.ptp(vectors, axis=0).any():
        return None
    if chosen.size > MAPPED_USERS:
        chosen = np.sort(np.random.default_rng([seed, 6]).choice(chosen.size, MAPPED_USERS, replace=False))
    with threadpool_limits(1):
        components = PCA(min(30, chosen.size, vectors.shape[1]), random_state=seed, svd_solver="full").fit_transform(vectors[chosen])
        tsne = TSNE(init="pca", perplexity=min(30, (chosen.size - 1) / 3), max_iter=400, random_state=seed)
        return chosen, tsne.fit_transform(components)


def moved_since(people: People, before: str, user_embeddings: Input) -> np.ndarray:
    """Cosine distances (0 none, 1 unrelated) of the sampled users to their vectors of the date `before`, where they had one."""
    table = user_embeddings.table(people.model)
    if table.manifest(before) is None or not people.ids:
        return np.zeros(0)
    rows = table.read(before, ["user_id", "embedding"], pc.field("user_id").isin(pa.array(people.ids, pa.string())))
    place = pc.index_in(rows.column("user_id"), pa.array(people.ids, pa.string())).to_numpy()
    if not len(rows):
        return np.zeros(0)
    then, now = as_matrix(rows.column("embedding")), people.vectors[place]
    lengths = np.linalg.norm(then, axis=1) * np.linalg.norm(now, axis=1)
    return 1 - (then * now).sum(axis=1) / np.where(lengths > 0, lengths, 1)


def nearest(vectors: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(positions (rows, k), cosines (rows, k)) of the nearest other users in the sample, nearest first."""
    vectors = unit(vectors)
    cosines = vectors[rows] @ vectors.T
    cosines[np.arange(rows.size), rows] = -np.inf
    k = min(k, len(vectors) - 1)
    near = np.sort(np.argpartition(-cosines, k - 1, axis=1)[:, :k], axis=1)
    order = np.take_along_axis(near, np.argsort(-np.take_along_axis(cosines, near, axis=1), axis=1, kind="stable"), axis=1)
    return order, np.take_along_axis(cosines, order, axis=1)


def like_minded(people: People, k: int = 10) -> dict[str, tuple[float, float]]:
    """Attribute → (share of a buyer's k nearest buyers with the same favourite value, the same share among random pairs of buyers).

    The first above the second: the vectors know what people buy. Attributes of which only one value was bought are left out.
    """
    buyers = np.array([i for i, basket in enumerate(people.baskets) if basket], np.int64)
    if buyers.size < k + 2:
        return {}
    order, _ = nearest(people.vectors[buyers], np.arange(buyers.size), k)
    told = {}
    for attribute, values in people.favourites.items():
        mine = np.array([values[i] for i in buyers], object)
        known = mine != ""
        counts = np.array(list(Counter(mine[known]).values()), np.float64)
        if counts.size > 1:
            chance = (counts * (counts - 1)).sum() / (counts.sum() * (buyers.size - 1))
            told[attribute] = float((mine[order] == mine[:, None])[known].mean()), float(chance)
    return told


def examples(people: People, seed: int) -> np.ndarray:
    """Some users to look at: of the commonest favourites one each, with a basket that is worth looking at."""
    chosen, generator = [], np.random.default_rng([seed, 7])
    for name in [n for n in people.colours if n][:SHOWN_USERS]:
        mine = [i for i, f in enumerate(people.favourite) if f == name]
        sizes = np.array([len(people.baskets[i]) for i in mine])
        worth = [i for i, n in zip(mine, sizes, strict=True) if n >= min(4, sizes.max())]
        chosen.append(int(generator.choice(worth)))
    return np.array(chosen or range(min(SHOWN_USERS, len(people.ids))), np.int64)
