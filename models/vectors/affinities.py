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
A family whose products are what a softmax makes probabilities of has a column more: minus the log of the probability
that the next item is one of the client's, the sum over its items.
Shapes: n users, d dimensions, c client items, b items or users at large, r reference users.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models import families
from models.places import positions
from models.vectors.comparison import Comparer

NAMES = (
    "nearest_item", "near_items", "mean_item", "item_centroid",
    "nearest_reference", "near_references", "mean_reference", "reference_centroid",
)  # fmt: skip
IMPROBABILITY = "improbability"
EVERY_NAME = (*NAMES, IMPROBABILITY)
NEAR_ITEMS, NEAR_REFERENCES = 5, 10
_CHUNK_ROWS = 32_768  # users whose vectors are held in a second form at a time
_CHUNK_CELLS = 4_000_000  # products held at a time


def names_of(model: str) -> tuple[str, ...]:
    """The columns of a published model."""
    has_probabilities = any(model in family.models and family.compared == "softmax" for family in families.FAMILIES)
    return EVERY_NAME if has_probabilities else NAMES


@dataclass(frozen=True)
class Client:
    """A client as a model sees it: vectors of its items (c, d) and of reference users (r, d) with their ids (r,).
    summed (m, d): of the items whose probabilities are summed, more of them than distances are taken to; None: `items`.
    n_items: how many it has in all; None: those."""

    items: np.ndarray
    references: np.ndarray
    reference_ids: np.ndarray
    n_items: int | None = None
    summed: np.ndarray | None = None


@dataclass(frozen=True)
class Scales:
    """Each user's distances to items and to users at large: mean and standard deviation (n,); NaN without a vector.
    item_total (n,): log of the sum of e^product over all items, of a family that has probabilities."""

    item_mean: np.ndarray
    item_spread: np.ndarray
    user_mean: np.ndarray
    user_spread: np.ndarray
    item_total: np.ndarray | None = None

    def of(self, rows: np.ndarray) -> Scales:
        """Of the users with these numbers."""
        total = None if self.item_total is None else self.item_total[rows]
        return Scales(
            self.item_mean[rows], self.item_spread[rows], self.user_mean[rows], self.user_spread[rows], total)


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
    out = np.full((len(users), 4), np.nan)
    for rows in _chunks(users):
        vectors = users[rows].astype(np.float32)
        if len(some_items):
            queries = comparer.item_queries(vectors, _as_float32(purchase))
            out[rows, :2] = comparer.of_items.moments(queries, comparer.item_points(some_items), _nobody(rows))
        if len(some_users):
            points = comparer.user_points(vectors), comparer.user_points(some_users)
            out[rows, 2:] = comparer.of_users.moments(*points, positions(some_ids, user_ids[rows]))
    out[:, [1, 3]] += 1e-6
    return Scales(*out.T)


def _chunks(users: np.ndarray) -> list[np.ndarray]:
    """Row numbers of the users with a vector."""
    there = np.flatnonzero(~np.isnan(users[:, 0])) if users.shape[1] else np.zeros(0, np.int64)
    return [there[start : start + _CHUNK_ROWS] for start in range(0, len(there), _CHUNK_ROWS)]


def _as_float32(vector: np.ndarray | None) -> np.ndarray | None:
    return None if vector is None else vector.astype(np.float32)


def _nobody(rows: np.ndarray) -> np.ndarray:
    """As `positions`, of others who are no users."""
    return np.full(len(rows), -1)


def affinities(
    users: np.ndarray,
    user_ids: np.ndarray,
    purchase: np.ndarray | None,
    client: Client,
    scale: Scales,
    comparer: Comparer,
) -> np.ndarray:
    """float32 (n, 8): one column per name in NAMES, in units of the user's own spread; small means near. With
    probabilities (n, 9): `IMPROBABILITY` last, in units of its own.

    users (n, d) native vectors, rows of NaN for users without one, which stay NaN; user_ids (n,); purchase (d,), as for
    `scales`. Columns are NaN where the client has no item, or no reference user but the user himself.
    """
    names = EVERY_NAME if comparer.has_probabilities else NAMES
    out = np.full((len(users), len(names)), np.nan, np.float32)
    for rows in _chunks(users):
        vectors, of = users[rows].astype(np.float32), scale.of(rows)
        if len(client.items):
            found = _to_items(vectors, purchase, client.items, comparer)
            out[rows, :4] = (found - of.item_mean[:, None]) / of.item_spread[:, None]
            if comparer.has_probabilities and of.item_total is not None:
                summed = client.items if client.summed is None else client.summed
                out[rows, 8] = of.item_total - log_totals(vectors, summed, client.n_items)
        if len(client.references):
            found = _to_references(vectors, user_ids[rows], client, comparer)
            out[rows, 4:8] = (found - of.user_mean[:, None]) / of.user_spread[:, None]
    return out


def log_totals(users: np.ndarray, items: np.ndarray, n_items: int | None = None) -> np.ndarray:
    """float64 (n,): log of the sum of e^<u, v> over items (m, d), which stand for so many; NaN of users without a
    vector, and where there are no items."""
    out, step = np.full(len(users), np.nan), max(1, _CHUNK_CELLS // max(len(items), 1))
    there = np.flatnonzero(~np.isnan(users[:, 0])) if users.shape[1] and len(items) else np.zeros(0, np.int64)
    stand_for = np.log(max(n_items or len(items), 1) / max(len(items), 1))
    for start in range(0, len(there), step):
        rows = there[start : start + step]
        scores = users[rows].astype(np.float32) @ items.T.astype(np.float32)
        most = scores.max(axis=1, keepdims=True)
        np.exp(np.subtract(scores, most, out=scores), out=scores)
        out[rows] = np.log(scores.sum(axis=1, dtype=np.float64)) + most[:, 0] + stand_for
    return out


def _to_items(vectors: np.ndarray, purchase: np.ndarray | None, items: np.ndarray, comparer: Comparer) -> np.ndarray:
    """float32 (n, 4): the columns of items."""
    points = comparer.item_points(np.concatenate([items, items.mean(0, keepdims=True)]))
    queries = comparer.item_queries(vectors, _as_float32(purchase))
    return comparer.of_items.nearest(queries, points, _nobody(vectors), NEAR_ITEMS)


def _to_references(vectors: np.ndarray, ids: np.ndarray, client: Client, comparer: Comparer) -> np.ndarray:
    """float32 (n, 4): the columns of reference users, each user himself being none of his own."""
    references, himself = client.references, positions(client.reference_ids, ids)
    points = comparer.user_points(np.concatenate([references, references.mean(0, keepdims=True)]))
    out = comparer.of_users.nearest(comparer.user_points(vectors), points, himself, NEAR_REFERENCES)
    among = np.flatnonzero(himself >= 0)
    if len(among) and len(references) > 1:
        rest = (references.sum(0) - references[himself[among]]) / (len(references) - 1)
        out[among, 3] = comparer.row_by_row(vectors[among].astype(np.float64), rest)
    return out
