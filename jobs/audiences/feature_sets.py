"""The matrix that a feature set is for a client's eligible users, on one date. What is shared
by clients is computed once."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from jobs.audiences.features import Columns, Eligible, Vocabulary, baseline, bought_name, own_history, past_buyers
from jobs.audiences.population import uniform
from jobs.audiences.snapshot import Ledger, Snapshot
from jobs.audiences.vectors import Vectors
from jobs.configuration.feature_names import FeatureSet
from jobs.configuration.predicates import Predicate, mentioned
from jobs.configuration.sections import Graph
from models.vectors.affinities import Client, Scales, affinities, log_totals, names_of, scales

# Vectors that distances are taken to: they bound the time at any client's size.
MOST_ITEMS, MOST_REFERENCES, AT_LARGE = 256, 512, 256
# Items whose probabilities are summed: a few hold most of a user's, and a draw that lacks them says nothing of him.
MOST_OF_ALL, MOST_OF_CLIENT = 32_768, 4_096


@dataclass(frozen=True)
class Source:
    """Everything that features of one date are made of."""

    snapshot: Snapshot
    users: Eligible
    ledger: Ledger  # of users
    vocabulary: Vocabulary
    graph: Graph
    vectors: dict[str, Vectors]
    seed: int
    _cache: dict[str, object] = field(default_factory=dict, repr=False, compare=False)

    @functools.cached_property
    def baseline(self) -> Columns:
        return baseline(self.snapshot, self.users, self.vocabulary, self.graph)

    def published(self, model: str) -> np.ndarray:
        """float32 (n, d) of the eligible, NaN rows without a vector."""
        return self._once(f"published {model}", lambda: self.vectors[model].users_of(self.users.ids))

    def native(self, model: str, rows: np.ndarray) -> np.ndarray:
        """float32 (p, d), R undone: of the eligible with these numbers; NaN rows without a vector."""
        return self.vectors[model].native_users_of(self.users.ids[rows])

    def scales(self, model: str) -> Scales:
        """Distances of the eligible to items and users at large."""
        return self._once(f"scales {model}", lambda: self._scales(model))

    def _once(self, name: str, make):
        if name not in self._cache:
            self._cache[name] = make()
        return self._cache[name]

    def _scales(self, model: str) -> Scales:
        vectors = self.vectors[model]
        items, item_raw = self.snapshot.items, self.snapshot.item_raw
        items = self.sample(items, item_raw, vectors.item_ids, "items at large", "", AT_LARGE)
        users = self.sample(self.users.ids, self.users.raw, vectors.user_ids, "users at large", "", AT_LARGE)
        at_large = vectors.native_items_of(items), vectors.native_users_of(users), users
        everybody = vectors.native_users_of(self.users.ids)
        found = scales(everybody, self.users.ids, vectors.native_purchase, *at_large, vectors.comparer)
        if not vectors.comparer.has_probabilities:
            return found
        known = int(np.isin(self.snapshot.items, vectors.item_ids).sum())
        some = self.sample(self.snapshot.items, item_raw, vectors.item_ids, "all items", "", MOST_OF_ALL)
        return replace(found, item_total=log_totals(everybody, vectors.native_items_of(some), known))

    def sample(
        self, ids: np.ndarray, raw: pa.Array, known: np.ndarray, purpose: str, client: str, most: int
    ) -> np.ndarray:
        """At most so many of the ids that have a vector: those whose keyed hash comes first."""
        there = np.flatnonzero(np.isin(ids, known))
        if len(there) > most:
            order = uniform(self.seed, purpose, client, raw.take(pa.array(there)))
            there = there[np.sort(np.argsort(order, kind="stable")[:most])]
        return ids[there]

    def of_items(self, name: str, items: np.ndarray) -> ClientSource:
        """As `client`, for any set: items bool per item of the snapshot."""
        return ClientSource(self, name, items)

    def client(self, name: str, predicate: Predicate) -> ClientSource:
        own = frozenset(bought_name(attribute, value) for attribute, value in mentioned(predicate))
        return ClientSource(self, name, self.snapshot.matching(predicate), own)


@dataclass(frozen=True)
class ClientSource:
    """The features of one client's eligible users.

    items: bool per item of the snapshot. own: history columns of the very values that make the client; they are the
    user's own history with it, which the strong baseline has and the other must not.
    """

    source: Source
    name: str
    items: np.ndarray
    own: frozenset[str] = frozenset()

    @functools.cached_property
    def past_buyers(self) -> np.ndarray:
        """Ledger ids of those who bought from the client in the window before the date."""
        return past_buyers(self.source.snapshot, self.items, self.source.graph.purchase)

    @functools.cached_property
    def bought_before(self) -> np.ndarray:
        """bool per eligible user."""
        return np.isin(self.source.users.ids, self.past_buyers)

    @functools.cached_property
    def own_history(self) -> Columns:
        """The users' own history with this client."""
        return own_history(self.source.snapshot, self.source.users, self.items, self.source.graph)

    @functools.cached_property
    def _affinities(self) -> dict[str, Columns]:
        return {}

    def affinity(self, model: str, references: np.ndarray | None = None) -> Columns:
        """The model's affinities to this client; reference users are the past buyers unless
        others (ledger ids) are given."""
        if model not in self._affinities:
            self._affinities[model] = self._affinity(model, self.past_buyers if references is None else references)
        return self._affinities[model]

    def _affinity(self, model: str, references: np.ndarray) -> Columns:
        everybody = np.arange(len(self.source.users))
        return Columns([f"{model}:{name}" for name in names_of(model)], self.affinity_of(model, references, everybody))

    def affinity_of(self, model: str, references: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """float32 (p, 8, or 9 with probabilities): of the eligible users with these numbers."""
        return self.affinities_to(self.as_client(model, references), model, rows)

    def as_client(
        self, model: str, references: np.ndarray, most_items: int = MOST_ITEMS, most_references: int = MOST_REFERENCES
    ) -> Client:
        """The client as the model sees it, by so many of its items and of the references (ledger ids)."""
        source, vectors = self.source, self.source.vectors[model]
        mine, theirs = source.snapshot.items[self.items], source.ledger.raw_of(references)
        item_raw = source.snapshot.item_raw.take(pa.array(np.flatnonzero(self.items)))
        items = source.sample(mine, item_raw, vectors.item_ids, "client items", self.name, most_items)
        summed = None
        if vectors.comparer.has_probabilities:
            summed = vectors.native_items_of(
                source.sample(mine, item_raw, vectors.item_ids, "client items", self.name, MOST_OF_CLIENT))
        references = source.sample(
            references, theirs, vectors.user_ids, "references", self.name, most_references)
        known = int(np.isin(mine, vectors.item_ids).sum())
        return Client(vectors.native_items_of(items), vectors.native_users_of(references), references, known, summed)

    def affinities_to(self, client: Client, model: str, rows: np.ndarray) -> np.ndarray:
        """As `affinity_of`."""
        source, vectors = self.source, self.source.vectors[model]
        users, ids, scale = source.native(model, rows), source.users.ids[rows], source.scales(model).of(rows)
        return affinities(users, ids, vectors.native_purchase, client, scale, vectors.comparer)

    def columns(self, chosen: FeatureSet) -> Columns:
        """All columns of a feature set."""
        source, parts = self.source, [self.source.baseline.only(lambda name: name not in self.own)]
        if chosen.strong:
            parts.append(self.own_history)
        for model, kind in chosen.extras:
            if kind in ("raw", "both"):
                matrix = source.published(model)
                parts.append(Columns([f"{model}:{i}" for i in range(matrix.shape[1])], matrix))
            if kind in ("affinity", "both"):
                parts.append(self.affinity(model))
        return Columns.side_by_side(parts)
