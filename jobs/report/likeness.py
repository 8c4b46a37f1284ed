"""Who is like whom by the vectors: neighbours, the map, how far people moved, and whether it tells what they buy."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.view import as_matrix
from jobs.program import Input

if TYPE_CHECKING:
    from jobs.report.people import People

MAPPED_USERS = 1_000
SHOWN_USERS = 4
NEIGHBOURS = 5


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1 (zeros stay zeros), centred first: what all users share says nothing of any."""
    centred = vectors - vectors.mean(axis=0)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)


def lay_out(people: People, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """(positions of the mapped users in `people`, float (m, 2)): t-SNE on the first 30 principal
    components; None for fewer than 10 users.

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
        pca = PCA(min(30, chosen.size, vectors.shape[1]), random_state=seed, svd_solver="full")
        components = pca.fit_transform(vectors[chosen])
        tsne = TSNE(init="pca", perplexity=min(30, (chosen.size - 1) / 3), max_iter=400, random_state=seed)
        return chosen, tsne.fit_transform(components)


def moved_since(people: People, before: str, user_embeddings: Input) -> np.ndarray:
    """Cosine distances (0 none, 1 unrelated) of the sampled users to their vectors of the date
    `before`, where they had one."""
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
    nearest_first = np.argsort(-np.take_along_axis(cosines, near, axis=1), axis=1, kind="stable")
    order = np.take_along_axis(near, nearest_first, axis=1)
    return order, np.take_along_axis(cosines, order, axis=1)


def like_minded(people: People, k: int = 10) -> dict[str, tuple[float, float]]:
    """Attribute → (share of a buyer's k nearest buyers with the same favourite value, the same
    share among random pairs of buyers).

    The first above the second: the vectors know what people buy. Attributes of which only
    one value was bought are left out.
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
