"""Canaries: who is taught and who is asked, in which vectors, and which answers are judged."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from jobs.arrays import vectors
from jobs.embeddings.canaries import NEIGHBOURS, PAIRS, Asked, Questions, Vectors, ask, judge
from jobs.program import JobError
from jobs.tables import TABLES
from models.vectors.canaries import Answers
from models.vectors.comparison import Comparer

N, DIMENSION = 200, 60
USERS = [f"u{n:03d}" for n in range(N)]
RANDOM = np.random.default_rng(0)
NATIVE = RANDOM.normal(size=(N, DIMENSION))
ROTATION = np.linalg.qr(RANDOM.normal(size=(DIMENSION, DIMENSION)))[0]
FACTS = {"frozen": "2026-01-05", "relation": "purchase", "label": None,
         "likes": {"relation": "purchase", "attribute": "item_brand", "value": "b"}}  # fmt: skip


def questions(likes: list[bool | None], asked: np.ndarray) -> Questions:
    """Each user is asked whether the own item, which lies where the user does, is nearer than the next user's."""
    items = [f"i{n}" for n in range(N)]
    columns = {"user_id": USERS, "embedding": vectors(NATIVE @ ROTATION), "asked": asked, "likes": likes,
               "label": pa.nulls(N, pa.bool_()), "item": items, "other": np.roll(items, 1).tolist()}  # fmt: skip
    schema = TABLES["canaries"].arrow_schema(DIMENSION)
    return Questions(pa.table([columns[name] for name in schema.names], schema=schema), FACTS)


def night(users: np.ndarray = NATIVE, items: np.ndarray = NATIVE) -> Vectors:
    """Published: native vectors, turned."""
    raw = [f"i{n}" for n in range(N)] + ["purchase"]
    entities = np.vstack([items, np.zeros(DIMENSION)]) @ ROTATION
    return Vectors(
        pa.table({"user_id": USERS, "embedding": vectors(users @ ROTATION), "source": ["trained"] * N}),
        pa.table({"entity_type": ["item"] * N + ["relation"], "raw": raw, "embedding": vectors(entities)}), ROTATION)


def answers_of(asked: Questions, tonight: Vectors, norm: str = "l2") -> dict[str, Answers]:
    return {one.task: one.tonight for one in ask(asked, None, tonight, Comparer.of("transe", norm))}


def test_who_was_taught_is_not_asked() -> None:
    """Classes have nothing to do with vectors: only those who were learned from could be told apart."""
    of_class, asked = RANDOM.random(N) < 0.5, np.arange(N) % 2 == 0
    found = answers_of(questions(of_class.tolist(), asked), night())["likes"]
    assert found.n == asked.sum() and 0.3 < found.figure < 0.7


def test_who_is_asked_was_not_taught() -> None:
    """Those who are asked are of the class where the others are not, so that who learned from them would be right."""
    asked = np.arange(N) % 2 == 0
    of_class = (NATIVE[:, 0] > 0) ^ asked
    assert answers_of(questions(of_class.tolist(), asked), night())["likes"].figure < 0.3


def test_items_are_compared_in_native_vectors() -> None:
    """An L1 norm, which does not turn with a space: along one axis the own item is nearer, along all together not."""
    asked = questions([None] * N, np.ones(N, bool))
    along_one, along_all = np.zeros((2, N, DIMENSION))
    along_one[:, 0], along_all[:] = 1.5, 1.0 / DIMENSION**0.5
    assert along_one[0] @ along_one[0] > 2 * along_all[0] @ along_all[0]
    users = NATIVE * 0
    items = np.where(np.arange(N)[:, None] % 2 == 0, along_one, along_all)
    pairs = answers_of(asked, night(users, items), "l1")[PAIRS]
    assert pairs.n == N and (pairs.of_class == (np.arange(N) % 2 == 0)).all()


def test_neighbours_are_told_and_not_judged() -> None:
    all_stay, none_stays = Answers(np.ones(N)), Answers(np.zeros(N))
    config = SimpleNamespace(publishing=SimpleNamespace(min_canary_lead=0.5, on_canary_failure="fail"))
    known = questions([None] * N, np.ones(N, bool))
    assert judge(known, [Asked(NEIGHBOURS, None, all_stay, none_stays)], config)
    with pytest.raises(JobError, match="which of two items"):
        judge(known, [Asked(PAIRS, None, all_stay, none_stays)], config)
