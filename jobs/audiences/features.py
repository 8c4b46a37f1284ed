"""The two baselines' columns for the eligible users, from one snapshot.

`baseline`, after the paper on Knowledge Query-based Graph Convolution (section 4.2): demographics; recency, frequency
and money in place of its point features; purchase history by coarse category. `strong` adds the user's own history
with the client. Which columns there are is fixed in training by a `Vocabulary` and taken over in scoring, so that a
column means the same on both dates.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from jobs.audiences.snapshot import DAY_SECONDS, Attribute, Snapshot
from jobs.configuration.sections import Graph
from jobs.graphs.categories import coarsest_of
from models.places import positions
from models.vectors.affinities import EVERY_NAME as AFFINITIES

MOST_DEMOGRAPHIC_VALUES = 20  # per attribute: the most frequent among the eligible
MOST_MONEY = 1e30  # either way: a sum of float32 may be beyond float32, and trees take no infinite figure
MOST_HISTORY_VALUES = 50  # coarse categories, by purchases of the eligible


@dataclass(frozen=True)
class Columns:
    """float32 (n, F) with one name per column; NaN where there is nothing to say."""

    names: list[str]
    values: np.ndarray

    @property
    def monotone(self) -> tuple[int, ...]:
        """-1 for distances to the client: being nearer never counts against a user; 0 for all else."""
        return tuple(-1 if name.rpartition(":")[2] in AFFINITIES else 0 for name in self.names)

    def only(self, wanted: Callable[[str], bool]) -> Columns:
        """The columns whose names are wanted."""
        kept = [i for i, name in enumerate(self.names) if wanted(name)]
        return Columns([self.names[i] for i in kept], self.values[:, kept])

    @classmethod
    def side_by_side(cls, parts: list[Columns]) -> Columns:
        return cls([n for p in parts for n in p.names], np.concatenate([p.values for p in parts], axis=1))


@dataclass(frozen=True)
class Vocabulary:
    """Raw values that have a column: by user attribute, and of the item attribute that stands for coarse categories."""

    demographics: dict[str, list[str]]
    history_attribute: str | None
    history: list[str]

    def without(self, excluded: Collection[str]) -> Vocabulary:
        """Less the attributes that stand in no column."""
        demographics = {name: values for name, values in self.demographics.items() if name not in excluded}
        if self.history_attribute in excluded:
            return Vocabulary(demographics, None, [])
        return Vocabulary(demographics, self.history_attribute, self.history)


@dataclass(frozen=True)
class Eligible:
    """The eligible users: raw ids sorted by bytes, their ledger ids (-1: none)."""

    raw: pa.Array
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


def choose_vocabulary(
    snapshot: Snapshot, users: Eligible, history_attribute: str | None, purchase: str, excluded: Collection[str] = ()
) -> Vocabulary:
    """The columns of a training, from what was known at the snapshot's date. excluded: attributes without one."""
    demographics = {}
    # By name: the order of columns must survive a checkpoint's JSON.
    for name, edges in sorted(_but(excluded, snapshot.user_attributes).items()):
        counts = np.bincount(edges.codes[positions(users.ids, edges.heads) >= 0], minlength=len(edges.values))
        demographics[name] = _most_frequent(edges.values, counts, MOST_DEMOGRAPHIC_VALUES)
    attribute = history_attribute or coarsest(snapshot, excluded)
    if attribute is None:
        return Vocabulary(demographics, None, [])
    edges = snapshot.item_attributes[attribute]
    counts = np.asarray(_purchases_by_value(snapshot, users, edges, purchase).sum(axis=0)).ravel()
    return Vocabulary(demographics, attribute, _most_frequent(edges.values, counts, MOST_HISTORY_VALUES))


def coarsest(snapshot: Snapshot, excluded: Collection[str] = ()) -> str | None:
    """The item attribute with the fewest values, but enough to tell tastes apart, among those that most items have."""
    known = _but(excluded, snapshot.item_attributes)
    sizes = {name: (len(edges.values), len(np.unique(edges.heads))) for name, edges in known.items()}
    return coarsest_of(sizes, len(snapshot.items))


def _but(excluded: Collection[str], attributes: dict[str, Attribute]) -> dict[str, Attribute]:
    return {name: edges for name, edges in attributes.items() if name not in excluded}


def _most_frequent(values: pa.Array, counts: np.ndarray, most: int) -> list[str]:
    """Texts with a count, most frequent first, equal counts by their bytes."""
    texts = values.to_pylist()
    order = sorted((i for i in range(len(texts)) if counts[i] > 0), key=lambda i: (-counts[i], texts[i].encode()))
    return [texts[i] for i in order[:most]]


def baseline(snapshot: Snapshot, users: Eligible, vocabulary: Vocabulary, graph: Graph) -> Columns:
    """The paper's baseline. Shared by all clients."""
    parts = [_demographics(snapshot, users, vocabulary), _recency_frequency_money(snapshot, users, graph)]
    if vocabulary.history_attribute:
        parts.append(_history(snapshot, users, vocabulary, graph.purchase))
    return Columns.side_by_side(parts)


def _demographics(snapshot: Snapshot, users: Eligible, vocabulary: Vocabulary) -> Columns:
    names, columns = [], [np.zeros((len(users), 0), np.float32)]
    for attribute, values in vocabulary.demographics.items():
        edges = snapshot.user_attributes[attribute]
        code = _codes(edges.values, values)[edges.codes]
        row = positions(users.ids, edges.heads)
        block = np.zeros((len(users), len(values)), np.float32)
        keep = (row >= 0) & (code >= 0)
        block[row[keep], code[keep]] = 1
        names += [f"{attribute}={value}" for value in values]
        columns.append(block)
    return Columns(names, np.concatenate(columns, axis=1))


def _codes(values: pa.Array, chosen: list[str]) -> np.ndarray:
    """For each value its place among the chosen, -1 where it is not."""
    places = pc.index_in(values, value_set=pa.array(chosen, pa.large_string()))
    return places.fill_null(-1).to_numpy(zero_copy_only=False)


def _recency_frequency_money(snapshot: Snapshot, users: Eligible, graph: Graph) -> Columns:
    seen, n = snapshot.interactions, len(users)
    row = positions(users.ids, seen.user)
    names, columns = ["days_since_last_event"], [_days_since(snapshot, row, row >= 0, n)]
    for behavior in sorted(graph.behaviors):
        chosen = (row >= 0) & seen.of(behavior)
        names += [f"{behavior}_events", f"{behavior}_items", f"days_since_{behavior}"]
        columns += [_sum(row, chosen, seen.count, n), _sum(row, chosen, None, n), _days_since(snapshot, row, chosen, n)]
    bought = (row >= 0) & seen.of(graph.purchase)
    money, times = _sum(row, bought, seen.value, n), _sum(row, bought, seen.count, n)
    names += ["money", "money_per_purchase"]
    columns += [money, np.divide(money, times, out=np.full_like(money, np.nan), where=times > 0)]
    return Columns(names, np.stack(columns, axis=1))


def _sum(row: np.ndarray, chosen: np.ndarray, weights: np.ndarray | None, n: int) -> np.ndarray:
    total = np.bincount(row[chosen], None if weights is None else weights[chosen], minlength=n)
    return np.clip(total, -MOST_MONEY, MOST_MONEY).astype(np.float32)


def _days_since(snapshot: Snapshot, row: np.ndarray, chosen: np.ndarray, n: int) -> np.ndarray:
    """Days from the last chosen interaction to the snapshot's date, NaN without one."""
    last = np.full(n, -np.inf)
    np.maximum.at(last, row[chosen], snapshot.interactions.last[chosen])
    days = (snapshot.seconds - last) / DAY_SECONDS
    return np.where(np.isfinite(days), days, np.nan).astype(np.float32)


def _history(snapshot: Snapshot, users: Eligible, vocabulary: Vocabulary, purchase: str) -> Columns:
    edges = snapshot.item_attributes[vocabulary.history_attribute]
    code = _codes(edges.values, vocabulary.history)[edges.codes]
    kept = Attribute(edges.heads[code >= 0], code[code >= 0], pa.array(vocabulary.history, pa.large_string()))
    counts = _purchases_by_value(snapshot, users, kept, purchase).toarray().astype(np.float32)
    return Columns([bought_name(vocabulary.history_attribute, v) for v in vocabulary.history], counts)


def bought_name(attribute: str, value: str) -> str:
    """The history column of one coarse category."""
    return f"bought:{attribute}={value}"


def _purchases_by_value(snapshot: Snapshot, users: Eligible, edges: Attribute, purchase: str) -> sparse.csr_array:
    """(n, values): purchases of items with each value."""
    seen = snapshot.interactions
    row, column = positions(users.ids, seen.user), positions(snapshot.items, seen.item)
    chosen = (row >= 0) & (column >= 0) & seen.of(purchase)
    counts, n_items = seen.count[chosen].astype(np.float64), len(snapshot.items)
    bought = sparse.csr_array((counts, (row[chosen], column[chosen])), shape=(len(users), n_items))
    heads = positions(snapshot.items, edges.heads)
    of_item = sparse.csr_array((np.ones(len(heads)), (heads, edges.codes)), shape=(n_items, len(edges.values)))
    return bought @ of_item


def own_history(snapshot: Snapshot, users: Eligible, client_items: np.ndarray, graph: Graph) -> Columns:
    """The user's history with one client before the snapshot's date. client_items: bool per item of the snapshot."""
    seen, n = snapshot.interactions, len(users)
    row = positions(users.ids, seen.user)
    with_client = (row >= 0) & client_items[positions(snapshot.items, seen.item)]
    names, columns = ["client_days_since_last_event"], [_days_since(snapshot, row, with_client, n)]
    for behavior in sorted(graph.behaviors):
        chosen = with_client & seen.of(behavior)
        names += [f"client_{behavior}_events", f"client_{behavior}_items"]
        columns += [_sum(row, chosen, seen.count, n), _sum(row, chosen, None, n)]
    bought = seen.of(graph.purchase)
    mine = with_client & bought
    client, all_times = _sum(row, mine, seen.count, n), _sum(row, (row >= 0) & bought, seen.count, n)
    share = np.divide(client, all_times, out=np.zeros_like(client), where=all_times > 0)
    names += ["client_money", "client_share_of_purchases", "client_days_since_purchase"]
    columns += [_sum(row, mine, seen.value, n), share, _days_since(snapshot, row, mine, n)]
    return Columns(names, np.stack(columns, axis=1))


def past_buyers(snapshot: Snapshot, client_items: np.ndarray, purchase: str) -> np.ndarray:
    """Ledger ids, ascending, of everybody who bought from the client in the window before the snapshot's date."""
    seen = snapshot.interactions
    bought = seen.of(purchase) & client_items[positions(snapshot.items, seen.item)]
    return np.unique(seen.user[bought])
