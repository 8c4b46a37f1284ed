"""Which relationships will come about: each user's likeliest items under each behaviour, and each item's or user's
likeliest values of an attribute, with a calibrated probability.

The probability is that of the relationship occurring in [D, D + L), L being `lookalike.label_window_days`. It is
learned from the lists that the vectors of D - L give, by the same rules, and what happened to them in [D - L, D): a
logistic function of the score, for each relation. The same events teach before how much the popularity of an item, by
the users who have the relation with it, counts beside the model's score. So both know nothing from D on. There is no
probability, and popularity counts nothing, where D - L was not published in the same space; no probability either where
nothing, or everything, of its lists came about. A value of an attribute came about where the graph of D has it and that
of D - L had not: of attributes that never change there is no probability; their popularity counts nothing.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from jobs.audiences.nights import Tables
from jobs.audiences.snapshot import Ledger, Snapshot
from jobs.audiences.vectors import RelationMissing, Vectors, read_entities, read_vectors
from jobs.configuration.recommendations import Recommendations, attribute_of, attributes_of
from jobs.configuration.sections import Graph
from jobs.graphs.ledgers import ITEM, value_type
from jobs.program import log
from jobs.recommendations.catalogue import Catalogue, Ledgers
from jobs.recommendations.offers import Offers, bought_between
from jobs.tables import TABLES
from models.vectors.choices import Weights
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
    seed: int

    def offers(self, snapshot: Snapshot, relation: str | None = None) -> Offers:
        """What can be recommended to every user, or head of an attribute's relation, by what was known at the
        snapshot's date; pairs that had the relation then are seen. Without a relation purchases are recommended, and a
        pair with any behaviour is seen. RelationMissing where nobody had it yet, so that it has no vector."""
        published = self.tables.user_embeddings, self.tables.entity_embeddings
        along = relation or self.graph.purchase
        vectors = read_vectors(self.model, snapshot.date, *published, self.ledgers.users, along).known()
        if relation is None:
            seen = snapshot.interactions.user, snapshot.interactions.item
        else:
            seen = self.seen(snapshot, relation)
        if along in self.graph.behaviors:
            return Offers.of(vectors, snapshot, self.ledgers, self.section, self.graph, seen)
        vectors, catalogue = self.ends(vectors, snapshot, along)
        return Offers(vectors, catalogue, catalogue.pairs(*seen))

    def offers_if_any(self, snapshot: Snapshot | None, relation: str | None = None) -> Offers | None:
        """The same; None where nothing is known of then, or nobody had the relation yet."""
        try:
            return None if snapshot is None else self.offers(snapshot, relation)
        except RelationMissing:
            log.info("nothing has relation %s at %s: nothing is predicted of it", relation, snapshot.date)
            return None

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
        self, before: Snapshot, tonight: Snapshot, relation: str, catalogue: Catalogue
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Places of both ends, each pair once, of the relationships that occurred between two dates: events of the
        behaviour, or values that the graph had not before."""
        if relation in self.graph.behaviors:
            events = bought_between(self.tables, before.date, tonight.date, self.ledgers, relation)
            return catalogue.pairs(*events)
        width = max(len(catalogue.items), 1)
        then, now = (catalogue.pairs(*self.seen(snapshot, relation)) for snapshot in (before, tonight))
        return np.divmod(np.setdiff1d(*(heads * width + tails for heads, tails in (now, then))), width)

    def learn(self, before: Snapshot, tonight: Snapshot, relation: str) -> tuple[Weights, Calibration | None]:
        """What was offered on a former night and what happened since, before tonight, teach: how much popularity counts
        and, of the lists that this makes, the probabilities; None where they are silent."""
        offers, weights = self.offers_if_any(before, relation), Weights()
        if offers is None:
            return weights, None
        happened = self.happened(before, tonight, relation, offers.catalogue)
        if self.section.popularity and relation in self.graph.behaviors:
            weights = offers.weights(happened, self.section, self.seed)
        lists, width = offers.lists(self.section, weights), max(len(offers.catalogue.items), 1)
        came_about = np.isin(lists.users * width + lists.items, happened[0] * width + happened[1])
        return weights, Calibration.of(lists.scores.astype(float), came_about)

    def predict(self, before: Snapshot | None, tonight: Snapshot) -> tuple[pa.Table, list[dict]]:
        """(tonight's rows, by relation and user; a row of figures of each relation). before: of D - L, if it is known
        and of tonight's space."""
        parts, figures = [TABLES["predicted_relations"].arrow_schema().empty_table()], []
        for relation in sorted(self.section.relations):
            weights, learned = (Weights(), None) if before is None else self.learn(before, tonight, relation)
            offers = self.offers_if_any(tonight, relation)
            if offers is None:
                rows = parts[0]
            else:
                rows = as_table(relation, offers.lists(self.section, weights), offers.catalogue, learned)
            mean = pc.mean(rows.column("probability")).as_py()
            parts.append(rows)
            figures.append({
                "relation": relation, "rows": rows.num_rows, "learned_from": learned.rows if learned else 0,
                "happened": learned.rate if learned else None, "probability": mean,
                "weights": dataclasses.asdict(weights)})  # fmt: skip
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
