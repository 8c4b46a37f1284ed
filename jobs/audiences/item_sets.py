"""The sets of items that the pooled classifier learns from: every value of every item attribute, and the clients.

Where fewer than enough of them have buyers, groups of items by their vectors and single well-sold items join them (see
stand_ins.py). A set of the very items of another counts once, under the client's name where one of them is a client.
Shapes: n items of the log, s sets.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
from scipy import sparse

from jobs.audiences.event_log import EventLog
from jobs.audiences.snapshot import Attribute, Snapshot
from jobs.configuration.predicates import Predicate
from models.places import positions

CLIENT = "client:"  # before the names of clients, which no attribute can have: its name ends before "="


@dataclass(frozen=True)
class ItemSets:
    """names (s,); members: bool csr (s, n); values: float32 csr (n, all values of all attributes), 1 where an item has
    the value: what tells which other items are of a set's kind."""

    names: list[str]
    members: sparse.csr_array
    values: sparse.csr_array

    def __len__(self) -> int:
        return len(self.names)

    def place(self, client: str) -> int:
        """Of a client's set."""
        return self.names.index(CLIENT + client)

    def mask(self, place: int) -> np.ndarray:
        """bool (n,): the items of one set."""
        chosen = np.zeros(self.members.shape[1], bool)
        chosen[self.members.indices[self.members.indptr[place] : self.members.indptr[place + 1]]] = True
        return chosen

    def kin(self, place: int, known: np.ndarray) -> np.ndarray:
        """float32 (n,): how much an item is of the set's kind: over its values, the share of the set's items that have
        it too, rare values counting more (log of items ÷ items with the value). known (n,) bool: the items there are.
        """
        items = self.members.indices[self.members.indptr[place] : self.members.indptr[place + 1]]
        items = items[known[items]] if known[items].any() else items  # a client of items new to all
        if not len(items) or not self.values.shape[1]:
            return np.zeros(len(known), np.float32)
        share = np.asarray(self.values[items].sum(axis=0)).ravel() / len(items)
        carriers = np.maximum(1, known.astype(np.float32) @ self.values)
        return (self.values @ (share * np.log(known.sum() / carriers))).astype(np.float32)

    def and_also(self, named: Mapping[str, np.ndarray]) -> ItemSets:
        """With further sets, numbers of their items by name; one of the very items of another is left out."""
        n = self.members.shape[1]
        members = [np.flatnonzero(self.mask(place)) for place in range(len(self))]
        names, taken = list(self.names), {one.tobytes() for one in members}
        for name, items in named.items():
            if items.astype(np.int64).tobytes() not in taken:
                names.append(name)
                members.append(items.astype(np.int64))
        return ItemSets(names, rows_of(members, n), self.values)


def item_sets(
    snapshot: Snapshot, log: EventLog, clients: Mapping[str, Predicate], excluded: Collection[str] = ()
) -> ItemSets:
    """All sets of D's graph; clients first, each with its own name, then the values that are no client, but of
    attributes that are excluded."""
    at = log.items_among(snapshot.item_raw)  # the log numbers every item of the graph
    names, members, values = [], [], []
    for name, predicate in clients.items():
        names.append(CLIENT + name)
        members.append(np.sort(at[snapshot.matching(predicate)]))
    taken = {one.tobytes() for one in members}
    for attribute, edges in sorted(snapshot.item_attributes.items()):
        if attribute in excluded:
            continue
        in_order = pc.sort_indices(edges.values)  # by raw value: the ledger's order says when each came up
        of_value = _by_value(edges, at[positions(snapshot.items, edges.heads)], len(log.items))[in_order.to_numpy()]
        values.append(of_value)
        for code, value in enumerate(edges.values.take(in_order).to_pylist()):
            items = of_value.indices[of_value.indptr[code] : of_value.indptr[code + 1]].astype(np.int64)
            if len(items) and items.tobytes() not in taken:
                taken.add(items.tobytes())
                names.append(f"{attribute}={value}")
                members.append(items)
    carried = sparse.vstack(values).T.tocsr() if values else sparse.csr_array((len(log.items), 0), dtype=np.float32)
    return ItemSets(names, rows_of(members, len(log.items)), sparse.csr_array(carried))


def _by_value(edges: Attribute, items: np.ndarray, n: int) -> sparse.csr_array:
    """float32 (values, n): 1 where an item has the value. items: the edges' heads by their numbers in the log."""
    ones = np.ones(len(items), np.float32)
    found = sparse.csr_array((ones, (edges.codes, items)), shape=(len(edges.values), n))
    found.data[:] = 1  # an edge that stands there twice
    found.sort_indices()
    return found


def rows_of(members: list[np.ndarray], n: int) -> sparse.csr_array:
    """bool (sets, n) from the numbers of each set's items."""
    indices = np.concatenate([np.zeros(0, np.int64), *members])
    indptr = np.concatenate([[0], np.cumsum([len(one) for one in members])]).astype(np.int64)
    return sparse.csr_array((np.ones(len(indices), bool), indices, indptr), shape=(len(members), n))
