"""How near a user is to a client: a handful of distances in place of the raw vector.

A few hundred buyers cannot teach trees what 100 dimensions mean; they can teach them what a distance means, and a
distance means the same for every client and on every date. Not in the KQGC paper. Two kinds:

- from the user along the relation of purchases to the client's items: what the model would recommend. For a translation
  that is from the knowledge query q = h_user + h_purchase (KQGC, Eq. 3 and 13);
- from the user's vector to reference users, who bought from the client before: what "lookalike" means. Never the user
  himself.

How far that is depends on the model's family: `comparison.py`. All are standardised by the user's own distances to
items (or users) at large, himself again left out, so that active users, who lie closer to everything, are not near
everybody's clients.
Shapes: n users, d dimensions, c client items, b items or users at large, r reference users.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.vectors.comparison import Comparer

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
    """Each user's distances to items and to users at large: mean and standard deviation (n,); NaN without a vector."""

    item_mean: np.ndarray
    item_spread: np.ndarray
    user_mean: np.ndarray
    user_spread: np.ndarray

    def of(self, rows: np.ndarray) -> Scales:
        """Of the users with these numbers."""
        return Scales(self.item_mean[rows], self.item_spread[rows], self.user_mean[rows], self.user_spread[rows])


def scales(
    users: np.ndarray,
    user_ids: np.ndarray,
    purchase: np.ndarray | None,
    some_items: np.ndarray,
    some_users: np.ndarray,
    some_ids: np.ndarray,
    comparer: Comparer,
) -> Scales:
    """The scales of n users (n, d) from items (b, d) and users (b, d) drawn at large, once for all clients.

    user_ids (n,), some_ids (b,): whose vectors `users` and `some_users` are. purchase (d,): the relation's vector; None
    will do where the comparer takes none. Without items, or other users, at large the scale is NaN.
    """
    out = np.full((4, len(users)), np.nan)
    for rows in _chunks(users, max(len(some_items), len(some_users))):
        vectors = users[rows].astype(np.float64)
        if len(some_items):
            out[:2, rows] = _mean_and_spread(comparer.to_items(vectors, purchase, some_items))
        if len(some_users):
            himself = user_ids[rows][:, None] == some_ids[None]
            out[2:, rows] = _of_others(comparer.between_users(vectors, some_users), himself)
    return Scales(*out)


def _mean_and_spread(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return found.mean(1), found.std(1) + 1e-6


def _of_others(found: np.ndarray, himself: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread of each row without its distances to himself: zeros, which are no distances to others."""
    mean, spread = _mean_and_spread(found)
    for row in np.flatnonzero(himself.any(1)):
        others = found[row, ~himself[row]]
        mean[row], spread[row] = (np.nan, np.nan) if not len(others) else (others.mean(), others.std() + 1e-6)
    return mean, spread


def affinities(
    users: np.ndarray,
    user_ids: np.ndarray,
    purchase: np.ndarray | None,
    client: Client,
    scale: Scales,
    comparer: Comparer,
) -> np.ndarray:
    """float32 (n, 8): one column per name in NAMES, in units of the user's own spread; small means near.

    users (n, d) native vectors, rows of NaN for users without one, which stay NaN; user_ids (n,); purchase (d,), as for
    `scales`. Columns are NaN where the client has no item, or no reference user but the user himself.
    """
    out = np.full((len(users), len(NAMES)), np.nan, np.float32)
    for rows in _chunks(users, max(len(client.items), len(client.references))):
        vectors = users[rows].astype(np.float64)
        to_items = _to_items(vectors, purchase, client.items, comparer)
        to_references = _to_references(vectors, user_ids[rows], client, comparer)
        out[rows, :4] = (to_items - scale.item_mean[rows, None]) / scale.item_spread[rows, None]
        out[rows, 4:] = (to_references - scale.user_mean[rows, None]) / scale.user_spread[rows, None]
    return out


def _chunks(users: np.ndarray, width: int) -> list[np.ndarray]:
    """Row numbers of the users with a vector, in chunks whose distances to `width` others fit in memory."""
    there = np.flatnonzero(~np.isnan(users[:, 0])) if users.shape[1] else np.zeros(0, np.int64)
    step = max(1, _CHUNK_CELLS // max(width, 1))
    return [there[start : start + step] for start in range(0, len(there), step)]


def _to_items(vectors: np.ndarray, purchase: np.ndarray | None, items: np.ndarray, comparer: Comparer) -> np.ndarray:
    """(n, 4): the columns of items."""
    if not len(items):
        return np.full((len(vectors), 4), np.nan)
    found = comparer.to_items(vectors, purchase, items)
    centroid = comparer.to_items(vectors, purchase, items.mean(0, keepdims=True))[:, 0]
    return np.stack([found.min(1), _mean_of_nearest(found, NEAR_ITEMS), found.mean(1), centroid], 1)


def _to_references(vectors: np.ndarray, ids: np.ndarray, client: Client, comparer: Comparer) -> np.ndarray:
    """(n, 4): the columns of reference users, each user himself being none of his own."""
    if not len(client.references):
        return np.full((len(vectors), 4), np.nan)
    himself = ids[:, None] == client.reference_ids[None]
    left, among = len(client.reference_ids) - himself.sum(1), np.flatnonzero(himself.any(1))
    rest = np.repeat(client.references.sum(0)[None], len(vectors), axis=0)
    rest[among] -= himself[among] @ client.references
    found = comparer.between_users(vectors, client.references)
    with np.errstate(invalid="ignore", divide="ignore"):
        centroid = comparer.row_by_row(vectors, rest / left[:, None])
        found[himself] = 0
        mean = found.sum(1) / left
        found[himself] = np.inf
        columns = [found.min(1), _mean_of_nearest(found, NEAR_REFERENCES), mean, centroid]
    return np.where(left[:, None] > 0, np.stack(columns, 1), np.nan)


def _mean_of_nearest(found: np.ndarray, k: int) -> np.ndarray:
    """(n,) mean of the k smallest finite distances of each row, NaN without any."""
    nearest = np.partition(found, min(k, found.shape[1]) - 1, axis=1)[:, :k]
    finite = np.isfinite(nearest)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(finite, nearest, 0).sum(1) / finite.sum(1)
