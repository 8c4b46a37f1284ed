"""The best items of each user, exact over all of them, and how good a list was.

Equal scores are put in an order of their own for each user, keyed by the user and the item, so that no item is first
everywhere because it is first in the table. Shapes: n users, m items, k places.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.kernels.draws import key_of, keyed_numbers

CHUNK_CELLS = 4_000_000  # distances held at a time


@dataclass(frozen=True)
class Lists:
    """One row per place of a list, user by user, the best first: users, items int64 (rows,), scores float32 (rows,),
    ranks int32 (rows,) from 1."""

    users: np.ndarray
    items: np.ndarray
    scores: np.ndarray
    ranks: np.ndarray


def best_items(
    distances: Callable[[np.ndarray], np.ndarray],
    user_keys: np.ndarray,
    item_keys: np.ndarray,
    allowed: np.ndarray,
    left_out: tuple[np.ndarray, np.ndarray],
    k: int,
) -> Lists:
    """The k nearest items of every user, fewer where fewer are left.

    distances: of some users (int64 rows) to all items, (rows, m), small is near; a score is minus a distance.
    user_keys, item_keys: uint64 (n,), (m,), by which ties are broken. allowed: bool (m,). left_out: pairs (users,
    items) int64 that are in no list.
    """
    order = np.argsort(left_out[0], kind="stable")
    of_users, of_items = (side[order] for side in left_out)
    columns, found = np.flatnonzero(allowed), []
    keys = item_keys[columns]
    step = max(1, CHUNK_CELLS // max(len(allowed), 1))
    for first in range(0, len(user_keys), step):
        rows = np.arange(first, min(first + step, len(user_keys)))
        scores = -np.asarray(distances(rows), np.float64)
        mine = slice(*np.searchsorted(of_users, [rows[0], rows[-1] + 1]))
        scores[of_users[mine] - first, of_items[mine]] = -np.inf
        for row, of_row in zip(rows, scores[:, columns], strict=True):
            chosen = _best(of_row, keys, user_keys[row], k)
            found.append((np.full(len(chosen), row), columns[chosen], of_row[chosen], np.arange(1, len(chosen) + 1)))
    users, items, scores, ranks = (np.concatenate(c) for c in zip(*found, strict=True)) if found else [np.zeros(0)] * 4
    return Lists(users.astype(np.int64), items.astype(np.int64), scores.astype(np.float32), ranks.astype(np.int32))


def _best(scores: np.ndarray, item_keys: np.ndarray, user_key: np.uint64, k: int) -> np.ndarray:
    """Places of the k highest finite scores, the highest first."""
    there = np.flatnonzero(scores > -np.inf)
    if len(there) > k:
        least = np.partition(scores[there], len(there) - k)[len(there) - k]
        there = there[scores[there] >= least]  # with all that tie for the last place
    tie = np.empty((len(there), 1))
    keyed_numbers(item_keys[there] ^ key_of(int(user_key)), 1, tie)
    return there[np.lexsort((tie[:, 0], -scores[there]))[:k]]


def list_figures(lists: Lists, happened: tuple[np.ndarray, np.ndarray], n_items: int, at: int) -> dict[str, float]:
    """What of the lists' first `at` places happened: means over users who have a list and with whom something happened.

    happened: pairs (users, items) int64, each once. n_items: of the catalogue. hr: share of users with a hit; mrr: mean
    of 1 / the place of the first; ndcg: with a weight of 1 / log2(1 + place), over what was possible; coverage: share
    of the catalogue that stands in some list.
    """
    top = lists.ranks <= at
    users, items, ranks = lists.users[top], lists.items[top], lists.ranks[top]
    coverage = len(np.unique(items)) / n_items if n_items else float("nan")
    wanted = np.isin(happened[0], users)
    judged, n_wanted = np.unique(happened[0][wanted], return_counts=True)
    if not len(judged):
        return dict.fromkeys(("hr", "mrr", "ndcg"), float("nan")) | {"coverage": coverage, "users": 0.0}
    width = int(max(items.max(initial=0), happened[1].max(initial=0))) + 1
    hit = np.isin(users * width + items, happened[0] * width + happened[1])
    place = np.searchsorted(judged, users[hit])
    first = np.full(len(judged), np.inf)
    np.minimum.at(first, place, ranks[hit])
    gains = np.bincount(place, 1 / np.log2(1 + ranks[hit]), minlength=len(judged))
    possible = np.cumsum(1 / np.log2(1 + np.arange(1, at + 1)))[np.minimum(n_wanted, at) - 1]
    return {"hr": float(np.isfinite(first).mean()), "mrr": float((1 / first).mean()),
            "ndcg": float((gains / possible).mean()), "coverage": coverage, "users": float(len(judged))}  # fmt: skip


def novelty(items: np.ndarray, n_users_of: np.ndarray, n_users: int) -> float:
    """Mean of -log2 of the share of users who know an item (at least one counts), over the places of lists (items
    (rows,), into n_users_of (m,)): how far from what everybody has. NaN without a list."""
    shares = np.maximum(n_users_of, 1) / max(n_users, 1)
    return float(-np.log2(np.minimum(shares[items], 1)).mean()) if len(items) else float("nan")
