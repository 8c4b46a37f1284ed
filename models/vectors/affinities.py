"""How near a user is to a client: a handful of distances in place of the raw vector.

A few hundred buyers cannot teach trees what 100 dimensions mean; they can teach them what a distance means, and a distance means
the same for every client and on every date. Not in the KQGC paper. Two kinds:

- from the knowledge query q = h_user + h_purchase (KQGC, Eq. 3 and 13) to the client's items: what Eq. 13 would recommend;
- from the user's vector to reference users, who bought from the client before: what "lookalike" means. Never the user himself.

All are standardised by the user's own distances to items (or users) at large, so that active users, who lie closer to everything,
are not near everybody's clients. Shapes: n users, d dimensions, c client items, b items or users at large, r reference users.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from models.shapes import expect

NAMES = (
    "nearest_item", "near_items", "mean_item", "item_centroid",
    "nearest_reference", "near_references", "mean_reference", "reference_centroid",
)  # fmt: skip
NEAR_ITEMS, NEAR_REFERENCES = 5, 10
_CHUNK_CELLS = 4_000_000  # distances held at a time


@dataclass(frozen=True)
class Client:
    """A client as a model sees it: vectors of its items (c, d) and of reference users (r, d) with their ids (r,)."""

    items: np.ndarray
    references: np.ndarray
    reference_ids: np.ndarray


@dataclass(frozen=True)
class Scales:
    """Each user's distances to items and to users at large: mean and standard deviation (n,) of either; NaN without a vector."""

    item_mean: np.ndarray
    item_spread: np.ndarray
    user_mean: np.ndarray
    user_spread: np.ndarray


def distances(left: np.ndarray, right: np.ndarray, norm: str) -> np.ndarray:
    """(n, m) distances of Eq. 13 in the model's own norm: l1 or l2."""
    if norm == "l1":
        return cdist(left, right, "cityblock")
    squares = (left * left).sum(1)[:, None] + (right * right).sum(1)[None] - 2 * left @ right.T
    return np.sqrt(np.maximum(squares, 0))


def scales(users: np.ndarray, purchase: np.ndarray, some_items: np.ndarray, some_users: np.ndarray, norm: str) -> Scales:
    """The scales of n users (n, d) from items (b, d) and users (b, d) drawn at large, once for all clients."""
    expect("purchase", purchase, (users.shape[1],), "float64")
    out = np.full((4, len(users)), np.nan)
    for rows in _chunks(users, max(len(some_items), len(some_users))):
        vectors = users[rows].astype(np.float64)
        for first, points, others in ((0, vectors + purchase, some_items), (2, vectors, some_users)):
            found = distances(points, others, norm)
            out[first, rows], out[first + 1, rows] = found.mean(1), found.std(1) + 1e-6
    return Scales(*out)


def affinities(users: np.ndarray, user_ids: np.ndarray, purchase: np.ndarray, client: Client, scale: Scales, norm: str) -> np.ndarray:
    """float32 (n, 8): one column per name in NAMES, in units of the user's own spread; small means near.

    users (n, d) native vectors, rows of NaN for users without one, which stay NaN; user_ids (n,); purchase (d,). Columns are NaN where
    the client has no item, or no reference user but the user himself.
    """
    out = np.full((len(users), len(NAMES)), np.nan, np.float32)
    for rows in _chunks(users, max(len(client.items), len(client.references), 1)):
        vectors = users[rows].astype(np.float64)
        to_items = _to_items(vectors + purchase, client.items, norm)
        to_references = _to_references(vectors, user_ids[rows], client, norm)
        out[rows, :4] = (to_items - scale.item_mean[rows, None]) / scale.item_spread[rows, None]
        out[rows, 4:] = (to_references - scale.user_mean[rows, None]) / scale.user_spread[rows, None]
    return out


def _chunks(users: np.ndarray, width: int) -> list[np.ndarray]:
    """Row numbers of the users with a vector, in chunks whose distances to `width` others fit in memory."""
    there = np.flatnonzero(~np.isnan(users[:, 0])) if users.shape[1] else np.zeros(0, np.int64)
    step = max(1, _CHUNK_CELLS // width)
    return [there[start : start + step] for start in range(0, len(there), step)]


def _to_items(queries: np.ndarray, items: np.ndarray, norm: str) -> np.ndarray:
    if not len(items):
        return np.full((len(queries), 4), np.nan)
    found = distances(queries, items, norm)
    centroid = distances(queries, items.mean(0, keepdims=True), norm)[:, 0]
    return np.stack([found.min(1), _mean_of_nearest(found, NEAR_ITEMS), found.mean(1), centroid], 1)


def _to_references(vectors: np.ndarray, ids: np.ndarray, client: Client, norm: str) -> np.ndarray:
    if not len(client.references):
        return np.full((len(vectors), 4), np.nan)
    himself = ids[:, None] == client.reference_ids[None]
    left = len(client.reference_ids) - himself.sum(1)
    found = np.where(himself, np.inf, distances(vectors, client.references, norm))
    rest = client.references.sum(0) - himself @ client.references
    with np.errstate(invalid="ignore", divide="ignore"):
        to_centroid = rest / left[:, None] - vectors
        centroid = np.abs(to_centroid).sum(1) if norm == "l1" else np.sqrt((to_centroid**2).sum(1))
        columns = [found.min(1), _mean_of_nearest(found, NEAR_REFERENCES), np.where(himself, 0, found).sum(1) / left, centroid]
    return np.where(left[:, None] > 0, np.stack(columns, 1), np.nan)


def _mean_of_nearest(found: np.ndarray, k: int) -> np.ndarray:
    """(n,) mean of the k smallest finite distances of each row, NaN without any."""
    nearest = np.partition(found, min(k, found.shape[1]) - 1, axis=1)[:, :k]
    finite = np.isfinite(nearest)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(finite, nearest, 0).sum(1) / finite.sum(1)
