"""What a model's vectors offer at a date: the best items of everybody, and the weights that later choices teach; and
what is known of a former night."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from jobs.audiences.nights import Tables
from jobs.audiences.population import purchases_between
from jobs.audiences.snapshot import Snapshot
from jobs.audiences.vectors import Vectors, space_of
from jobs.configuration.recommendations import Recommendations
from jobs.configuration.sections import Graph
from jobs.program import log
from jobs.recommendations.catalogue import Catalogue, Ledgers
from models.places import positions
from models.vectors.choices import Weights, learn_weights
from models.vectors.recommendation import CHUNK_CELLS, Lists, best_items

_NO_PAIRS = np.zeros(0, np.int64), np.zeros(0, np.int64)
CHOICES, ALTERNATIVES = 2_000, 200  # that weights are learned from: of a window, at most; drawn for each


@dataclass(frozen=True)
class Offers:
    """What a model's vectors offer at one date. seen: places of users and items, the pairs of then, each once."""

    vectors: Vectors
    catalogue: Catalogue
    seen: tuple[np.ndarray, np.ndarray]

    @functools.cached_property
    def n_users_of(self) -> np.ndarray:
        """int64 (m,): how many users have touched each item."""
        return np.bincount(self.seen[1], minlength=len(self.catalogue.items))

    @classmethod
    def of(
        cls, vectors: Vectors, snapshot: Snapshot, ledgers: Ledgers, section: Recommendations, graph: Graph,
        seen: tuple[np.ndarray, np.ndarray],
    ) -> Offers:  # fmt: skip
        """vectors, snapshot: of the same date. seen: users and items by ledger id."""
        catalogue = Catalogue.of(vectors, snapshot, ledgers, section, graph)
        return cls(vectors, catalogue, catalogue.pairs(*seen))

    def scorer(self) -> Callable[[np.ndarray], np.ndarray]:
        """From rows of users to their scores of all items, float64 (rows, m), the higher the nearer."""
        vectors, items = self.vectors, self.vectors.native(self.vectors.items)
        relation, comparer = vectors.native_purchase, vectors.comparer
        return lambda rows: -comparer.to_items(vectors.native(vectors.users[rows]), relation, items)

    def lists(self, section: Recommendations, weights: Weights) -> Lists:
        """The best of everybody; pairs that there were are in no list where `unseen_only` says so."""
        catalogue, scores = self.catalogue, self.scorer()
        return best_items(
            lambda rows: -weights.utilities(scores(rows), self.n_users_of), *catalogue.keys(), catalogue.allowed,
            self.seen if section.unseen_only else _NO_PAIRS, section.top_k)  # fmt: skip

    def best_known(self, section: Recommendations) -> Lists:
        """The items that most users know, of everybody, by the rules of `lists`; by ledger id."""
        catalogue, (users, items) = self.catalogue, self.seen if section.unseen_only else _NO_PAIRS
        enough = section.top_k + int(np.bincount(users).max(initial=0))  # of so many some are left for everybody
        counts = self.n_users_of[catalogue.allowed]
        least = np.partition(counts, -enough)[-enough] if enough < len(counts) else 0
        kept = np.flatnonzero(catalogue.allowed & (self.n_users_of >= least))
        at, (user_keys, item_keys) = positions(kept, items), catalogue.keys()
        found = best_items(
            lambda rows: np.broadcast_to(-self.n_users_of[kept], (len(rows), len(kept))), user_keys, item_keys[kept],
            np.ones(len(kept), bool), (users[at >= 0], at[at >= 0]), section.top_k)  # fmt: skip
        return replace(found, users=catalogue.user_ids[found.users], items=catalogue.item_ids[kept[found.items]])

    def weights(self, chosen: tuple[np.ndarray, np.ndarray], section: Recommendations, seed: int) -> Weights:
        """What users chose since, among what was offered, teaches of score and popularity. chosen: places of users and
        items, each pair once; those that were in no list by rule teach nothing."""
        users, items = chosen
        width, random = max(len(self.catalogue.items), 1), np.random.default_rng([seed, CHOICES])
        closed = users * width + items
        if section.unseen_only:
            seen = self.seen[0] * width + self.seen[1]
            users, items = (side[~np.isin(closed, seen)] for side in (users, items))
            closed = np.concatenate([closed, seen])
        users, items = (side[self.catalogue.allowed[items]] for side in (users, items))
        some = np.sort(random.permutation(len(users))[:CHOICES])
        users, items, on_sale = users[some], items[some], np.flatnonzero(self.catalogue.allowed)
        if not len(users):
            return Weights()
        others = random.choice(on_sale, (len(users), ALTERNATIVES))
        is_open = ~np.isin(users[:, None] * width + others, closed)
        columns = np.concatenate([items[:, None], others], axis=1)
        step, parts, scores = max(1, CHUNK_CELLS // width), [], self.scorer()
        for first in range(0, len(users), step):
            rows = slice(first, first + step)
            parts.append(np.take_along_axis(scores(users[rows]), columns[rows], axis=1))
        is_open = np.concatenate([np.ones((len(users), 1), bool), is_open], axis=1)
        return learn_weights(np.concatenate(parts), self.n_users_of[columns], is_open)


def bought_between(
    tables: Tables, first: datetime.date, end: datetime.date, ledgers: Ledgers, behavior: str
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Users and items by ledger id, of every event of a behaviour in [first, end) that was not taken back, both
    known."""
    events = purchases_between(tables.clean_events, first, end, behavior)
    pairs = np.stack([ledgers.users.ids_of(events.user_id), ledgers.items.ids_of(events.item_id)])
    return tuple(pairs[:, (pairs >= 0).all(axis=0)])


def known_then(tables: Tables, model: str, date: datetime.date, graph: Graph) -> Snapshot | None:
    """What was known at a former night's date; None where a table of it is not there any more, or never was."""
    dt = date.isoformat()
    needed = [(tables.knowledge_graph, None), (tables.interactions, None)]
    needed += [(table, model) for table in (tables.user_embeddings, tables.entity_embeddings)]
    if any(table.table(of).manifest(dt) is None for table, of in needed):
        log.info("%s of %s, or the graph of then, is not there: nothing is learned of what happened since", model, dt)
        return None
    return tables.snapshot(date, graph)


def of_one_space(tables: Tables, model: str, then: datetime.date, now: datetime.date) -> bool:
    """Whether the vectors of two dates may be held against each other, and what one teaches holds for the other."""
    spaces = {space_of(tables.user_embeddings, model, date) for date in (then, now)}
    if len(spaces) > 1:
        log.info("%s of %s is in another space than that of %s: it teaches nothing", model, then, now)
    return len(spaces) == 1
