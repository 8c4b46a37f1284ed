"""Which relationships will come about: each user's likeliest items under each behaviour, and each item's or user's
likeliest values of an attribute, with a calibrated probability.

The probability is that of the relationship occurring in [D, D + L), L being `lookalike.label_window_days`. It is
learned from the lists that the vectors of D - L give, by the same rules, and what happened to them in [D - L, D): a
logistic function of the score, for each relation. So it knows nothing from D on. There is none where D - L was not
published in the same space, or where nothing, or everything, of its lists came about. A value of an attribute came
about where the graph of D has it and that of D - L had not: of attributes that never change there is no probability.
"""

from __future__ import annotations

import dataclasses
import datetime
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from jobs.audiences.nights import Tables
from jobs.audiences.population import purchases_between
from jobs.audiences.snapshot import Ledger, Snapshot
from jobs.audiences.vectors import RelationMissing, Vectors, read_entities, read_vectors, space_of
from jobs.configuration.recommendations import Recommendations, attribute_of, attributes_of
from jobs.configuration.sections import Graph
from jobs.graphs.ledgers import ITEM, value_type
from jobs.program import log
from jobs.recommendations.catalogue import Catalogue, Ledgers
from jobs.tables import TABLES
from models.vectors.recommendation import Lists


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
        return expit(self.slope * scores + self.intercept).astype(np.float32)


@dataclass(frozen=True)
class Predicting:
    """What every relation's lists are made of: the night's tables, and the settings of who may stand in them."""

    tables: Tables
    ledgers: Ledgers
    model: str
    graph: Graph
    section: Recommendations

    def lists(self, snapshot: Snapshot, relation: str) -> tuple[Lists, Catalogue] | None:
        """The best of every user, or head of an attribute's relation, by what was known at the snapshot's date, of the
        pairs that did not have the relation then (unseen_only); None where nobody had it yet, so that it has no
        vector."""
        published = self.tables.user_embeddings, self.tables.entity_embeddings
        try:
            vectors = read_vectors(self.model, snapshot.date, *published, self.ledgers.users, relation).known()
        except RelationMissing:
            log.info("nothing has relation %s at %s: nothing is predicted of it", relation, snapshot.date)
            return None
        if relation in self.graph.behaviors:
            catalogue = Catalogue.of(vectors, snapshot, self.ledgers, self.section, self.graph)
        else:
            vectors, catalogue = self.ends(vectors, snapshot, relation)
        return catalogue.lists(vectors, self.seen(snapshot, relation), self.section), catalogue

    def ends(self, vectors: Vectors, snapshot: Snapshot, relation: str) -> tuple[Vectors, Catalogue]:
        """(the same with the two ends of an attribute's relation in the places of users and items, who they are): heads
        are those of the graph, of whom alone it can be told what they have."""
        kind, name = attribute_of(relation, self.graph)
        of_value = value_type(name, attributes_of(self.graph)[kind][name])
        tail_ids, tails = read_entities(self.model, snapshot.date, self.tables.entity_embeddings, of_value)
        head_ids, heads, known, ledger = vectors.user_ids, vectors.users, snapshot.interactions.user, self.ledgers.users
        if kind == ITEM:
            head_ids, heads, known, ledger = vectors.item_ids, vectors.items, snapshot.items, self.ledgers.items
        there = np.isin(head_ids, known)
        found = dataclasses.replace(
            vectors, user_ids=head_ids[there], users=heads[there], item_ids=tail_ids, items=tails)  # fmt: skip
        of_tails = Ledger.read(self.tables.entity_ids.segments(of_value)).raw_of(tail_ids)
        everything = np.ones(len(tail_ids), bool)
        raw = ledger.raw_of(found.user_ids), of_tails
        return found, Catalogue(*raw, found.user_ids, tail_ids, everything, (kind, of_value))

    def seen(self, snapshot: Snapshot, relation: str) -> tuple[np.ndarray, np.ndarray]:
        """Both ends, by ledger id, of the edges that a relation has in the graph of the snapshot's date."""
        if relation in self.graph.behaviors:
            seen = snapshot.interactions
            mine = seen.of(relation)
            return seen.user[mine], seen.item[mine]
        kind, name = attribute_of(relation, self.graph)
        edges = (snapshot.item_attributes if kind == ITEM else snapshot.user_attributes)[name]
        ledger = Ledger.read(self.tables.entity_ids.segments(value_type(name, attributes_of(self.graph)[kind][name])))
        return edges.heads, ledger.ids_of(edges.values)[edges.codes]

    def happened(
        self, before: Snapshot, tonight: Snapshot, relation: str, catalogue: Catalogue, lists: Lists
    ) -> np.ndarray:
        """bool (rows,): the places of lists whose relationship occurred between two dates: an event of the behaviour,
        or a value that the graph had not before."""
        width = max(len(catalogue.items), 1)

        def cells(ends: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
            heads, tails = catalogue.pairs(*ends)
            return heads * width + tails

        if relation in self.graph.behaviors:
            events = purchases_between(self.tables.clean_events, before.date, tonight.date, relation)
            new = cells((self.ledgers.users.ids_of(events.user_id), self.ledgers.items.ids_of(events.item_id)))
        else:
            new = np.setdiff1d(*(cells(self.seen(snapshot, relation)) for snapshot in (tonight, before)))
        return np.isin(lists.users * width + lists.items, new)

    def known_at(self, start: datetime.date, end: datetime.date) -> Snapshot | None:
        """What was known when the window that teaches began; None where it cannot teach for `end`."""
        tables, dt = self.tables, start.isoformat()
        then, now = (space_of(tables.user_embeddings, self.model, date) for date in (start, end))
        needed = (tables.knowledge_graph, None), (tables.interactions, None), (tables.entity_embeddings, self.model)
        if then == now and all(table.table(model).manifest(dt) is not None for table, model in needed):
            return tables.snapshot(start, self.graph)
        log.info("%s of %s is not there, or in another space: no probabilities", self.model, start)
        return None

    def calibration(self, before: Snapshot, tonight: Snapshot, relation: str) -> Calibration | None:
        """What the lists of a former night and what happened since, before tonight, teach; None where they are
        silent."""
        found = self.lists(before, relation)
        if found is None:
            return None
        lists, catalogue = found
        happened = self.happened(before, tonight, relation, catalogue, lists)
        return Calibration.of(lists.scores.astype(float), happened)

    def predict(self, start: datetime.date, tonight: Snapshot) -> tuple[pa.Table, list[dict]]:
        """(tonight's rows, by relation and user; a row of figures of each relation). start: D - L."""
        before, figures = self.known_at(start, tonight.date), []
        parts = [TABLES["predicted_relations"].arrow_schema().empty_table()]
        for relation in sorted(self.section.relations):
            learned = None if before is None else self.calibration(before, tonight, relation)
            lists, catalogue = self.lists(tonight, relation) or (None, None)
            rows = parts[0] if lists is None else as_table(relation, lists, catalogue, learned)
            mean = pc.mean(rows.column("probability")).as_py()
            parts.append(rows)
            figures.append({
                "relation": relation, "rows": rows.num_rows, "learned_from": learned.rows if learned else 0,
                "happened": learned.rate if learned else None, "probability": mean})  # fmt: skip
        return pa.concat_tables(parts), figures


def as_table(relation: str, lists: Lists, catalogue: Catalogue, learned: Calibration | None) -> pa.Table:
    """The rows of one relation, by user and rank."""
    schema, n = TABLES["predicted_relations"].arrow_schema(), len(lists.users)
    chances = pa.nulls(n, pa.float32()) if learned is None else pa.array(learned.probabilities(lists.scores))
    columns = {
        "head_type": pa.repeat(catalogue.kinds[0], n), "head": catalogue.users.take(pa.array(lists.users)),
        "relation": pa.repeat(relation, n), "tail_type": pa.repeat(catalogue.kinds[1], n),
        "tail": catalogue.items.take(pa.array(lists.items)), "rank": pa.array(lists.ranks),
        "score": pa.array(lists.scores), "probability": chances}  # fmt: skip
    cast = [columns[field.name].cast(field.type) for field in schema]
    return pa.Table.from_arrays(cast, schema=schema).sort_by([("head", "ascending"), ("rank", "ascending")])
