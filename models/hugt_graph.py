"""Heterogeneous user graphs (HUGT paper, section 3): histories, and the collaborative edges between their events.

Shape suffixes: see `models/hugt.py`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

from models.hugt_hyperparameters import HUGTHyperparameters
from models.kernels.collaborative import nearest_predecessors, path_lengths
from models.learning.initialisation import unit_rows
from models.messages.attention import in_parts
from models.shapes import ShapeError, expect, expect_indices

_SVD_PASSES = 4  # over the matrix; each makes the smaller singular vectors better
_PART_CELLS = 4_000_000  # cosines held at a time


@dataclass(frozen=True)
class Histories:
    """Items that users touched, in order: items int64 (N,), user by user; user u's are offsets[u]:offsets[u + 1]."""

    items: np.ndarray
    offsets: np.ndarray

    def __post_init__(self) -> None:
        expect("items", self.items, (None,), "int64")
        expect("offsets", self.offsets, (None,), "int64")
        ends = int(self.offsets[0]), int(self.offsets[-1])
        if ends != (0, len(self.items)) or (np.diff(self.offsets) < 0).any():
            raise ShapeError(f"offsets run from {ends[0]} to {ends[1]}; expected them to rise from 0 to the number of "
                             f"items, {len(self.items)}")

    @classmethod
    def of(cls, users: np.ndarray, items: np.ndarray, n_users: int) -> Histories:
        """Of events in order, user by user: users int64 (N,), ascending."""
        return cls(items.astype(np.int64), np.searchsorted(users, np.arange(n_users + 1)).astype(np.int64))

    @property
    def lengths(self) -> np.ndarray:
        """int64 (U,): events of each user."""
        return np.diff(self.offsets)

    def pieces(self, starts: np.ndarray, ends: np.ndarray) -> Histories:
        """Events starts[p]:ends[p] of `items` as the history of p."""
        offsets = np.concatenate([[0], np.cumsum(ends - starts)]).astype(np.int64)
        return Histories(self.items[runs(starts, ends)], offsets)

    def last(self, most: int, without: int = 0) -> Histories:
        """The last so many events of every user, those left out that come last of all."""
        ends = np.maximum(self.offsets[1:] - without, self.offsets[:-1])
        return self.pieces(np.maximum(self.offsets[:-1], ends - most), ends)


def runs(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """int64: starts[p], … ends[p] − 1 of one p after the other."""
    lengths = ends - starts
    return np.arange(lengths.sum()) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)


def events_within(times: np.ndarray, offsets: np.ndarray, span: int) -> np.ndarray:
    """int64 (N,): how many events of the same user follow each one by at most `span`; times int64 (N,), in any unit,
    rise along each user's history, which is offsets[u]:offsets[u + 1]."""
    if not len(times):
        return np.zeros(0, np.int64)
    user = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    since = times - times.min()
    key = user * (int(since.max()) + span + 1) + since  # a user's keys all lie below the next one's
    return np.searchsorted(key, key + span, side="right") - np.arange(len(key)) - 1


def item_vectors(histories: Histories, n_items: int, rank: int, seed: int) -> np.ndarray:
    """float32 (n_items, rank), rows of unit length, or zero for an item that nobody touched: a truncated SVD of who
    touched what, R in {0, 1}, randomised and never dense. rank is less where there are fewer users or items."""
    expect_indices("items", histories.items, n_items, "items")
    users = np.repeat(np.arange(len(histories.lengths)), histories.lengths)
    shape = len(histories.lengths), n_items
    touched = sparse.csr_array((np.ones(len(users), np.float32), (users, histories.items)), shape=shape)
    touched.data[:] = 1  # of items touched twice too
    numbers = min(rank, *shape)
    if not len(users):
        return np.zeros((n_items, rank), np.float32)
    _, weights, vectors = randomized_svd(
        sparse.csr_matrix(touched), numbers, n_iter=_SVD_PASSES, random_state=seed)
    some = weights > weights[0] * 1e-6  # the others are noise
    return unit_rows(np.pad(vectors[some].T * _known(touched)[:, None], ((0, 0), (0, rank - int(some.sum())))))


def _known(touched: sparse.csr_array) -> np.ndarray:
    """bool (n_items,): whom somebody touched."""
    return np.bincount(touched.indices, minlength=touched.shape[1]) > 0


def nearest_known(vectors: np.ndarray, known: np.ndarray, wanted: np.ndarray, most: int) -> np.ndarray:
    """int64 (W, most): of each wanted item (rows of `vectors`) the known ones (bool) of the highest cosine, the highest
    first, of equal ones the first; -1 where there are fewer, and for an item without a vector."""
    others, there = np.flatnonzero(known & vectors.any(axis=1)), np.flatnonzero(vectors[wanted].any(axis=1))
    found, kept = np.full((len(wanted), most), -1, np.int64), min(most, len(others))
    step = max(1, _PART_CELLS // max(len(others), 1))
    for first in range(0, len(there), step):
        rows = there[first : first + step]
        cosines = vectors[wanted[rows]] @ vectors[others].T
        found[rows, :kept] = others[np.argsort(-cosines, axis=1, kind="stable")[:, :kept]]
    return found


@dataclass(frozen=True)
class HUGs:
    """The user graphs of a batch of histories: U users, N events, their sequential edges being the order.

    neighbours: int32 (N, k), see `models/kernels/collaborative.py`; None without graph heads. codes: uint8, the paths'
    lengths, from code_offsets (U + 1,) of each user on; empty but for HUGT-SE.
    """

    histories: Histories
    neighbours: np.ndarray | None = None
    codes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint8))

    @classmethod
    def of(cls, histories: Histories, vectors: np.ndarray | None, hyper: HUGTHyperparameters) -> HUGs:
        """vectors: of `item_vectors`; None will do where no head asks for edges."""
        if not hyper.has_graph:
            return cls(histories)
        if vectors is None:
            raise ShapeError("graph heads need the items' vectors; found none")
        offsets, vectors = histories.offsets, np.ascontiguousarray(vectors, np.float32)
        neighbours = np.empty((len(histories.items), hyper.neighbours), np.int32)
        pairs = pairs_before(offsets)
        in_parts(pairs, lambda a, b: nearest_predecessors(offsets, histories.items, vectors, neighbours, a, b))
        if hyper.variant == "mp":
            return cls(histories, neighbours)
        codes = np.empty(pairs[-1], np.uint8)
        in_parts(pairs, lambda a, b: path_lengths(offsets, neighbours, hyper.longest_path, pairs, codes, a, b))
        return cls(histories, neighbours, codes)

    @functools.cached_property
    def code_offsets(self) -> np.ndarray:
        """int64 (U + 1,): as many places for a user as pairs (i, j <= i)."""
        return pairs_before(self.histories.offsets)

    @functools.cached_property
    def places(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(user, place in the history) of each event, int64 (N,) each: where it stands in a padded batch."""
        lengths = torch.from_numpy(self.histories.lengths)
        users = torch.repeat_interleave(lengths)
        return users, torch.arange(len(users)) - torch.from_numpy(self.histories.offsets)[users]

    @property
    def longest(self) -> int:
        """Events of the longest history."""
        return int(self.histories.lengths.max(initial=0))


def pairs_before(offsets: np.ndarray) -> np.ndarray:
    """int64 (U + 1,): how many pairs (i, j <= i) the users before each have."""
    lengths = np.diff(offsets)
    return np.concatenate([[0], np.cumsum(lengths * (lengths + 1) // 2)]).astype(np.int64)
