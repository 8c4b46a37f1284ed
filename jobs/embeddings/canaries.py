"""Canaries: questions with known answers, which a night's vectors have to answer about as well as those before.

They are frozen when a space is opened and handed on from night to night (canary_questions.py), so that a classifier
which learned on that night is asked every night whether it still reads the vectors, as one of somebody's downstream
is. Other checks look at vectors by themselves, or at how users lie to each other; this one finds what else can go
wrong: items or relations that no longer belong to the users, a rotation that is not the space's.
They are frozen anew with a space, where those users who are still there are less than half of as many as could be drawn
tonight (they went, or the shop has grown), and when they have aged: tonight keeps too little of the lead that there was
when they were frozen, though no night lost it at once.
A family whose users are where their last events have left them (its `aligned_by` is not "user") is asked nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store import Table
from feature_store.view import as_matrix
from jobs.configuration.messages import cut, printable
from jobs.configuration.sections import Publishing
from jobs.embeddings.space import Former, Space, of_one_publish
from jobs.graphs.ledgers import ITEM
from jobs.program import JobError, log
from jobs.tables import TABLES
from models.vectors.canaries import FEWEST, Answers, classify, compare, falls_short, remain, teach
from models.vectors.comparison import Comparer

CLASSES, PAIRS, NEIGHBOURS = ("likes", "label"), "item", "neighbours"  # tasks; the first three are columns
RELATION = "relation"  # the entity type
LEAST_LEFT = 0.5  # of the users who could be drawn tonight
LONGEST = 80  # of a value in words


class Configured(Protocol):
    """The section that decides about canaries."""

    publishing: Publishing


@dataclass(frozen=True)
class Vectors:
    """One night's: users and entities as tables of the store have them, published = native @ rotation."""

    users: pa.Table
    entities: pa.Table
    rotation: np.ndarray

    @classmethod
    def before(cls, former: Former, entities: Table, questions: Questions) -> Vectors:
        """The predecessor's, of entities those that are asked of; none where they are gone, or of another publish."""
        dt, columns = former.date.isoformat(), ["entity_type", "raw", "embedding"]
        items = pa.concat_arrays([questions.rows.column(name).combine_chunks() for name in (PAIRS, "other")])
        wanted = ((pc.field("entity_type") == ITEM) & pc.field("raw").isin(items)) | (
            pc.field("entity_type") == RELATION)  # fmt: skip
        manifest = entities.manifest(dt)
        if manifest is None or not of_one_publish(former.manifest.fields, manifest.fields):
            schema = TABLES["entity_embeddings"].arrow_schema(len(former.rotation))
            return cls(former.table, schema.empty_table(), former.rotation)
        return cls(former.table, entities.read(dt, columns, wanted), former.rotation)

    @property
    def trained(self) -> int:
        """How many users were trained."""
        return pc.sum(pc.equal(self.users.column("source"), "trained")).as_py() or 0

    def users_of(self, raw: pa.ChunkedArray) -> np.ndarray:
        """float32 (n, d), published; NaN rows for those without a vector of their own: a carried one is a copy."""
        return _rows_of(self.users, "user_id", raw, pc.not_equal(self.users.column("source"), "carried"))

    def native_of(self, kind: str, raw: pa.ChunkedArray) -> np.ndarray:
        """float64 (n, d), with R undone, of items or relations; NaN rows for those without one."""
        return self.native(_rows_of(self.entities, "raw", raw, pc.equal(self.entities.column("entity_type"), kind)))

    def native(self, published: np.ndarray) -> np.ndarray:
        return published.astype(np.float64) @ self.rotation.T


def _rows_of(table: pa.Table, key: str, wanted: pa.ChunkedArray, of_kind: pa.ChunkedArray) -> np.ndarray:
    """float32 (n, d): the embeddings of `wanted` among the rows of a kind; NaN where there is none. Only those rows are
    copied."""
    asked = wanted.cast(table.schema.field(key).type).combine_chunks()
    rows = table.filter(pc.and_(of_kind, pc.is_in(table.column(key), value_set=pc.unique(asked.drop_null()))))
    at = pc.index_in(asked, value_set=rows.column(key).combine_chunks())
    out = np.full((len(asked), rows.schema.field("embedding").type.list_size), np.nan, np.float32)
    out[at.is_valid().to_numpy(zero_copy_only=False)] = as_matrix(rows.column("embedding"))[at.drop_null().to_numpy()]
    return out


@dataclass(frozen=True)
class Questions:
    """rows: of the table `canaries`; facts: what its manifest says of them."""

    rows: pa.Table
    facts: dict[str, Any]

    @classmethod
    def handed_on(cls, table: Table, former: Former | None, space: Space) -> Questions | None:
        """What the predecessor hands on; None where there is nothing, or tonight's space is another."""
        manifest = table.manifest(former.date.isoformat()) if former else None
        if manifest is None or manifest.fields["space_id"] != space.space_id:
            return None
        return cls(table.read(former.date.isoformat()), manifest.fields["questions"])

    @functools.cached_property
    def frozen(self) -> np.ndarray:
        """float32 (n, d): the users' published vectors when this was first asked."""
        return as_matrix(self.rows.column("embedding"))

    @functools.cached_property
    def asked(self) -> np.ndarray:
        """bool (n,): the rest is to learn from."""
        return self.rows.column("asked").to_numpy()

    def named(self, task: str) -> str:
        """A task in words; values of attributes and labels are foreign text."""
        facts = {"relation": self.facts["relation"]} | (self.facts.get(task) or {})
        facts = {name: cut(printable(value), LONGEST) for name, value in facts.items()}
        return {
            "likes": "who has “{relation}” of items with {attribute} “{value}”",
            "label": "whose {label} is “{ours}”, not “{rest}”",
            PAIRS: "which of two items a user has “{relation}” of",
            NEIGHBOURS: "ten nearest among those asked, as when frozen"}[task].format(**facts)  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """One task's answers, of the same users: when frozen (None of pairs, whose items' vectors are not kept, and of
    neighbours), the night before (None: there was none) and tonight."""

    task: str
    frozen: Answers | None
    before: Answers | None
    tonight: Answers


def ask(questions: Questions, before: Vectors | None, tonight: Vectors, comparer: Comparer) -> Iterator[Asked]:
    """Every task that has questions enough."""
    nights = [tonight] if before is None else [before, tonight]
    users = [night.users_of(questions.rows.column("user_id")) for night in nights]
    there = np.logical_and.reduce([_there(vectors) for vectors in users])
    for task in CLASSES:
        known = questions.rows.column(task).is_valid().to_numpy()
        of_class = questions.rows.column(task).fill_null(False).to_numpy()
        learn, put = known & ~questions.asked, known & questions.asked & there
        if len(np.unique(of_class[learn])) == 2:
            weights = teach(questions.frozen[learn], of_class[learn])
            answers = [classify(weights, vectors[put], of_class[put]) for vectors in (questions.frozen, *users)]
            if answers[0].enough:
                yield Asked(task, answers[0], answers[1] if before else None, answers[-1])
    pairs = [_pairs(questions, night, vectors, comparer) for night, vectors in zip(nights, users, strict=True)]
    told = ~np.isnan(pairs).any(axis=(0, 1))
    answers = [compare(*distances[:, told]) for distances in pairs]
    if answers[0].enough:
        yield Asked(PAIRS, None, answers[0] if before else None, answers[-1])
    if before and there.sum() >= FEWEST:
        yield Asked(NEIGHBOURS, None, *(remain(questions.frozen[there], vectors[there]) for vectors in users))


def _pairs(questions: Questions, night: Vectors, users: np.ndarray, comparer: Comparer) -> np.ndarray:
    """float64 (2, n): from each user to the own item and to the other; NaN where one of the three is not there."""
    out = np.full((2, len(users)), np.nan)
    relation = night.native_of(RELATION, pa.chunked_array([[questions.facts["relation"]]]))[0]
    for side, column in enumerate((PAIRS, "other")):
        items = night.native_of(ITEM, questions.rows.column(column))
        there = _there(items) & _there(users)
        queries = comparer.item_queries(night.native(users[there]), relation)
        out[side, there] = comparer.of_items.row_by_row(queries, comparer.item_points(items[there]))
    return out


def _there(vectors: np.ndarray) -> np.ndarray:
    return ~np.isnan(vectors[:, 0])


def judge(questions: Questions, asked: list[Asked], config: Configured) -> bool:
    """Whether the questions may be asked on. JobError, naming every task, where tonight's vectors answer worse than
    those of the night before. Of neighbours, whom any training moves, only the figure is told."""
    kept, since = config.publishing.min_canary_lead, questions.facts["frozen"]
    judged = [one for one in asked if one.task != NEIGHBOURS]
    fallen = [one for one in judged if one.before and falls_short(one.tonight, one.before, kept)]
    aged = [one for one in judged if one.frozen and falls_short(one.tonight, one.frozen, kept)]
    if fallen:
        broken = f"tonight's vectors answer what is asked since {since} worse than the night before's: " + "; ".join(
            f"{questions.named(one.task)}, {one.tonight.figure:.3f} after {one.before.figure:.3f}" for one in fallen)
        if config.publishing.on_canary_failure == "fail":
            raise JobError(
                f"Not published; readers keep what they have: {broken}. Of the lead over guessing a share of "
                f"{kept:g} has to stay (publishing.min_canary_lead). Look at the training's curves and the graphs of "
                "both nights and run the night again; or set publishing.on_canary_failure: publish, if that is how "
                "the vectors should be.")
        log.warning("%s; publishing.on_canary_failure is 'publish'", broken)
    elif aged:
        log.warning("what learned from vectors of %s cannot read tonight's as well: %s. Learn anew downstream", since,
                    "; ".join(f"{questions.named(one.task)}, {one.tonight.figure:.3f} after {one.frozen.figure:.3f}"
                              for one in aged))  # fmt: skip
    return not fallen and not aged


def figures_of(questions: Questions | None, asked: list[Asked]) -> list[dict[str, Any]]:
    """A row per task, for the manifest and the report: AUCs, and of neighbours the share that is as it was."""
    return [
        {"task": one.task, "what": questions.named(one.task), "since": questions.facts["frozen"],
         "questions": one.tonight.n, "frozen": one.frozen and one.frozen.figure,
         "before": one.before and one.before.figure, "tonight": one.tonight.figure}
        for one in asked]  # fmt: skip


def check_canaries(
    questions: Questions | None, freeze: Callable[[], Questions], before: Vectors | None, tonight: Vectors,
    comparer: Comparer, config: Configured,
) -> tuple[Questions, list[dict[str, Any]]]:  # fmt: skip
    """(questions for the nights to come, figures of what tonight was asked). JobError: not to be published. questions:
    those that the predecessor hands on; `freeze` makes new ones."""
    asked = [] if questions is None else list(ask(questions, before, tonight, comparer))
    if questions is not None:
        left = _there(tonight.users_of(questions.rows.column("user_id"))).sum()
        if judge(questions, asked, config) and left > LEAST_LEFT * min(tonight.trained, config.publishing.canaries):
            return questions, figures_of(questions, asked)
    anew = freeze()
    return anew, figures_of(questions, asked) or figures_of(anew, list(ask(anew, None, tonight, comparer)))
