"""What paper_hugt learns and is asked: histories, how many events of each are for learning, and which users choose.

MovieLens 1M: items with 5 ratings at least, in the order of its file's positions; the last tenth of each user is asked
for one by one. SSLRec's Taobao: purchases, carts and favourites by their time; one purchase is asked for.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.hugt import HUGT, states_of
from models.hugt_graph import Histories, HUGs
from models.hugt_ranking import ranks_of
from tests.conftest import SHARED_DATA

LEAST_RATINGS, LEARNED, CHOOSING = 5, 0.9, 0.3
_EVENTS = 65_536  # of windows that are computed together


@dataclass(frozen=True)
class Task:
    """histories: everything, in order. learned (U,): how many events of each are for learning; those behind them are
    asked for. chooses bool (U,): whose choose the epoch and the variant; the others' are the test."""

    histories: Histories
    learned: np.ndarray
    chooses: np.ndarray
    n_items: int
    max_length: int

    def first(self, users: int) -> Task:
        """The first so many users and all items; 0: everybody."""
        if not users:
            return self
        events = self.histories.offsets[users]
        histories = Histories(self.histories.items[:events], self.histories.offsets[: users + 1])
        return Task(histories, self.learned[:users], self.chooses[:users], self.n_items, self.max_length)

    @property
    def training(self) -> Histories:
        starts = self.histories.offsets[:-1]
        return self.histories.pieces(starts, starts + self.learned)

    def asked(self, users: np.ndarray) -> np.ndarray:
        """Places in `items` of the events that are asked for, user by user."""
        first, ends = self.histories.offsets[users] + self.learned[users], self.histories.offsets[users + 1]
        return np.concatenate([np.arange(a, b) for a, b in zip(first, ends, strict=True)])

    def windows(self, users: np.ndarray, hop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(starts, ends, asked): events starts:ends as an input; its last `asked` states are asked for. As long as a
        history is no longer than max_length one window does for all; from there on a window for each `hop` events, so
        that a state knows max_length events at most and max_length - hop + 1 at least."""
        found = []
        for user in users:
            start, first = self.histories.offsets[user], self.histories.offsets[user] + self.learned[user]
            end = self.histories.offsets[user + 1]
            while first < end:
                last = min(end, max(start + self.max_length + 1, first + hop))
                found.append((max(start, last - 1 - self.max_length), last - 1, last - first))
                first = last
        return tuple(np.array(found, np.int64).reshape(-1, 3).T)

    def ranks(self, model: HUGT, vectors: np.ndarray | None, users: np.ndarray, hop: int, seen: bool) -> np.ndarray:
        """The rank of every event that is asked of the users, among all items, or among those a user has not seen."""
        starts, ends, asked = self.windows(users, hop)
        states = window_states(model, vectors, self.histories, starts, ends, asked)
        places = self.asked(users)
        left_out = None if seen else self.seen_before(users, places)
        return ranks_of(model, states, self.histories.items[places], left_out)

    def seen_before(self, users: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(row, item): what a user had before each event that is asked for; rows ascending."""
        owners = np.searchsorted(self.histories.offsets, places, side="right") - 1
        starts = self.histories.offsets[owners]
        before = self.histories.pieces(starts, places)
        return np.repeat(np.arange(len(places)), before.lengths), before.items


def window_states(
    model: HUGT, vectors: np.ndarray | None, histories: Histories, starts: np.ndarray, ends: np.ndarray,
    asked: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """float32 (sum of asked, D), window by window."""
    import torch

    model.eval()
    out, single = [None] * len(starts), np.flatnonzero(asked == 1)
    if len(single):
        for row, state in zip(single, states_of(model, histories.pieces(starts[single], ends[single]), vectors),
                              strict=True):  # fmt: skip
            out[row] = state[None]
    rest = np.flatnonzero(asked != 1)
    rest = rest[np.argsort((ends - starts)[rest], kind="stable")]
    for rows in np.array_split(rest, max(1, int((ends - starts)[rest].sum()) // _EVENTS)):
        batch = histories.pieces(starts[rows], ends[rows])
        with torch.no_grad():
            states = model(HUGs.of(batch, vectors, model.hyper)).cpu().numpy()
        for row, end in zip(rows, batch.offsets[1:], strict=True):
            out[row] = states[end - asked[row] : end]
    return np.concatenate(out)


def choosing(n_users: int) -> np.ndarray:
    """bool: three tenths of the users, the same for all models and seeds."""
    return np.random.default_rng(0).permutation(n_users) < round(CHOOSING * n_users)


def movielens() -> Task:
    """FileNotFoundError where the data is not there."""
    columns = table_of("ml-1m", "interactions.tsv.gz", (0, 1, 3))
    counts = np.bincount(columns[:, 1])
    columns = columns[counts[columns[:, 1]] >= LEAST_RATINGS]
    columns = columns[np.lexsort((columns[:, 2], columns[:, 0]))]
    (users, of_users), (items, of_items) = (np.unique(columns[:, n], return_inverse=True) for n in (0, 1))
    histories = Histories.of(of_users, of_items, len(users))
    learned = np.floor(LEARNED * histories.lengths).astype(np.int64)
    return Task(histories, learned, choosing(len(users)), len(items), 200)


def taobao() -> Task:
    """As `movielens`; only users with a test purchase and an event before it."""
    parts = [table_of("sslrec-taobao", f"{name}.tsv.gz", (0, 1, 2)) for name in ("buy", "cart", "fav")]
    test = table_of("sslrec-taobao", "test_buy.tsv", (0, 1))
    events = np.concatenate([*parts, np.column_stack([test, np.full(len(test), 2**40)])])
    events = events[np.lexsort((events[:, 1], events[:, 2], events[:, 0]))]
    (users, of_users), (items, of_items) = (np.unique(events[:, n], return_inverse=True) for n in (0, 1))
    histories = Histories.of(of_users, of_items, len(users))
    learned = histories.lengths - np.isin(users, test[:, 0])
    tested = np.flatnonzero(learned < histories.lengths)
    chooses = np.zeros(len(users), bool)
    chooses[tested[choosing(len(tested))]] = True
    return Task(histories, learned, chooses, len(items), 100)


def table_of(folder: str, name: str, columns: tuple[int, ...]) -> np.ndarray:
    path: Path = SHARED_DATA / folder / name
    if not path.exists():
        raise FileNotFoundError(f"{folder} is not in ../shared/data beside the repository; put the data set there")
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt") as file:
        return np.loadtxt(file, delimiter="\t", skiprows=1, usecols=columns, dtype=np.int64)
