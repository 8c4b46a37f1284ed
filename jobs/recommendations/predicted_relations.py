"""Which relationships will come about: each user's likeliest items under each relation, with a calibrated probability.

The probability is that of the relationship occurring in [D, D + L), L being `lookalike.label_window_days`. It is
learned from the lists that the vectors of D - L give, by the same rules, and what happened to them in [D - L, D): a
logistic function of the score, for each relation. So it knows nothing from D on. There is none where D - L was not
published in the same space, or where nothing, or everything, of its lists came about.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from sklearn.linear_model import LogisticRegression

from jobs.audiences.evaluation import number
from jobs.audiences.nights import Tables
from jobs.audiences.population import purchases_between
from jobs.audiences.snapshot import Ledger
from jobs.audiences.vectors import read_vectors, space_of
from jobs.configuration.sections import Graph
from jobs.graphs.ledgers import ITEM, USER
from jobs.program import log
from jobs.recommendations.catalogue import Catalogue
from jobs.tables import TABLES
from models.vectors.recommendation import Lists, best_items


@dataclass(frozen=True)
class Ledgers:
    """The ids of users and items."""

    users: Ledger
    items: Ledger


@dataclass(frozen=True)
class Calibration:
    """P(happens) = 1 / (1 + e^-(slope · score + intercept)); rows: lists' places that it was learned from; rate: the
    share of them that happened."""

    slope: float
    intercept: float
    rows: int
    rate: float

    @classmethod
    def of(cls, scores: np.ndarray, happened: np.ndarray) -> Calibration | None:
        """None where all or nothing happened. scores: float (rows,); happened: bool (rows,).

        A score that goes against what happened says nothing: then every place has the rate.
        """
        if not 0 < happened.sum() < len(happened):
            return None
        middle, spread = float(scores.mean()), float(scores.std()) or 1.0
        found = LogisticRegression(C=1e4).fit(((scores - middle) / spread)[:, None], happened)
        slope, intercept, rate = float(found.coef_[0, 0]) / spread, float(found.intercept_[0]), float(happened.mean())
        if slope <= 0:
            return cls(0.0, float(np.log(rate / (1 - rate))), len(happened), rate)
        return cls(slope, intercept - slope * middle, len(happened), rate)

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """float32 (rows,)."""
        return (1 / (1 + np.exp(-(self.slope * scores + self.intercept)))).astype(np.float32)


@dataclass(frozen=True)
class Predicting:
    """What every relation's lists are made of: the night's tables, who may stand in them, and how many."""

    tables: Tables
    ledgers: Ledgers
    model: str
    graph: Graph
    top_k: int
    unseen_only: bool
    allowed: np.ndarray  # int64, ledger ids of the items that may be recommended

    def lists(self, date: datetime.date, relation: str) -> tuple[Lists, Catalogue]:
        """The best of every user by the vectors of a date; unseen_only: without pairs that have the relation."""
        published = self.tables.user_embeddings, self.tables.entity_embeddings
        vectors = read_vectors(self.model, date, *published, self.ledgers.users, relation).known()
        catalogue = Catalogue.of(
            vectors, np.isin(vectors.item_ids, self.allowed), self.ledgers.users, self.ledgers.items)
        left_out = np.zeros(0, np.int64), np.zeros(0, np.int64)
        if self.unseen_only:
            seen = self.tables.interactions.table().read(date.isoformat(), columns=["user", "item", "behavior"])
            mine = seen.filter(pa.compute.equal(seen.column("behavior"), relation))
            left_out = catalogue.pairs(*(mine.column(name).to_numpy() for name in ("user", "item")))
        items, of_relation, comparer = vectors.native(vectors.items), vectors.native_purchase, vectors.comparer
        found = best_items(
            lambda rows: comparer.to_items(vectors.native(vectors.users[rows]), of_relation, items),
            *catalogue.keys(), catalogue.allowed, left_out, self.top_k)  # fmt: skip
        return found, catalogue

    def happened(self, start: datetime.date, end: datetime.date, relation: str, catalogue: Catalogue,
                 lists: Lists) -> np.ndarray:  # fmt: skip
        """bool (rows,): the places of lists whose relationship occurred in [start, end)."""
        events = purchases_between(self.tables.clean_events, start, end, relation)
        users, items = self.ledgers.users.ids_of(events.user_id), self.ledgers.items.ids_of(events.item_id)
        pairs = catalogue.pairs(users, items)
        width = len(catalogue.items)
        return np.isin(lists.users * width + lists.items, pairs[0] * width + pairs[1])

    def calibration(self, start: datetime.date, end: datetime.date, relation: str) -> Calibration | None:
        """What the lists of `start` and [start, end) teach; None where there is nothing to learn from."""
        spaces = {space_of(self.tables.user_embeddings, self.model, date) for date in (start, end)}
        there = self.tables.interactions.table().manifest(start.isoformat()) is not None
        if len(spaces) > 1 or not there:
            log.info("%s of %s is not there, or in another space: no probabilities", self.model, start)
            return None
        lists, catalogue = self.lists(start, relation)
        return Calibration.of(lists.scores.astype(float), self.happened(start, end, relation, catalogue, lists))

    def predict(self, date: datetime.date, days: int, relations: list[str]) -> tuple[pa.Table, list[dict]]:
        """(the rows of D for these relations, by relation and user; a row of figures each). days: L."""
        start, parts, figures = date - datetime.timedelta(days=days), [], []
        for relation in sorted(relations):
            learned = self.calibration(start, date, relation)
            lists, catalogue = self.lists(date, relation)
            parts.append(as_table(relation, lists, catalogue, learned))
            mean = None if learned is None else number(learned.probabilities(lists.scores).mean())
            figures.append({
                "relation": relation, "rows": len(lists.users), "learned_from": learned.rows if learned else 0,
                "happened": learned.rate if learned else None, "probability": mean})  # fmt: skip
        return pa.concat_tables(parts), figures


def as_table(relation: str, lists: Lists, catalogue: Catalogue, learned: Calibration | None) -> pa.Table:
    """The rows of one relation, by user and rank."""
    schema, n = TABLES["predicted_relations"].arrow_schema(), len(lists.users)
    chances = pa.nulls(n, pa.float32()) if learned is None else pa.array(learned.probabilities(lists.scores))
    columns = {
        "head_type": pa.repeat(USER, n), "head": catalogue.users.take(pa.array(lists.users)),
        "relation": pa.repeat(relation, n), "tail_type": pa.repeat(ITEM, n),
        "tail": catalogue.items.take(pa.array(lists.items)), "rank": pa.array(lists.ranks),
        "score": pa.array(lists.scores), "probability": chances}  # fmt: skip
    cast = [columns[field.name].cast(field.type) for field in schema]
    return pa.Table.from_arrays(cast, schema=schema).sort_by([("head", "ascending"), ("rank", "ascending")])
