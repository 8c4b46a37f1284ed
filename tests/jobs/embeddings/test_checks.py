"""Vectors that must not be published, each with the check that stops it."""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa
import pytest

from jobs.arrays import vectors
from jobs.configuration.sections import Publishing
from jobs.embeddings.checks import check_entities, check_vectors
from jobs.program import JobError, midnight
from jobs.tables import TABLES

N, D = 40, 8


def published(matrix: np.ndarray, user_ids: list[str] | None = None) -> pa.Table:
    moment = midnight(datetime.date(2026, 1, 5))
    n = len(matrix)
    columns = [
        user_ids or [f"u{i:03d}" for i in range(n)],
        vectors(matrix),
        [moment] * n,
        [moment] * n,
        [3] * n,
        ["trained"] * n,
        [None] * n,
        [moment] * n,
        [moment] * n,
        [2] * n,
    ]
    schema = TABLES["user_embeddings"].arrow_schema(matrix.shape[1])
    return pa.Table.from_arrays(
        [c if isinstance(c, pa.Array) else pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)],
        schema=schema,
    )


def entities(matrix: np.ndarray) -> pa.Table:
    n = len(matrix)
    columns = [["item"] * n, list(range(n)), [f"i{i:03d}" for i in range(n)], vectors(matrix)]
    schema = TABLES["entity_embeddings"].arrow_schema(matrix.shape[1])
    return pa.Table.from_arrays(
        [c if isinstance(c, pa.Array) else pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)],
        schema=schema,
    )


def sound() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)


def test_sound_vectors_pass_and_give_their_figures() -> None:
    found = check_vectors(published(sound()), N, D, Publishing())
    assert found["coverage"] == 1.0 and 2 < found["median_norm"] < 4 and all(c["success"] for c in found["checks"])


@pytest.mark.parametrize(
    ("spoil", "users", "said"),
    [
        (lambda m: np.where(np.arange(N)[:, None] == 3, np.nan, m), N, "finite"),
        (lambda m: np.where(np.arange(N)[:, None] == 3, np.inf, m), N, "finite"),
        (lambda m: m * 1e-6, N, "median length"),
        (lambda m: m * 1e6, N, "median length"),
        (lambda m: np.where(np.arange(N)[:, None] < 2, 1e6, m), N, "2 of 40 vectors have collapsed or exploded"),
        (lambda m: np.where(np.arange(N)[:, None] < 2, 0, m), N, "2 of 40 vectors have collapsed or exploded"),
        (lambda m: np.repeat(m[:1], N, axis=0), N, "all vectors are the same"),
        (lambda m: m, N * 2, "have a vector"),
    ],
    ids=["nan", "infinite", "shrunk", "exploded", "two exploded", "two collapsed", "all the same", "users missing"],
)
def test_unsound_vectors_are_refused(spoil, users: int, said: str) -> None:  # noqa: ANN001
    with pytest.raises(JobError, match=f"Not published.*{said}"):
        check_vectors(published(spoil(sound()).astype(np.float32)), users, D, Publishing())


def test_vectors_that_are_all_the_same_are_refused_whatever_is_carried_beside_them() -> None:
    same = published(np.repeat(sound()[:1], N, axis=0))
    carried = published(sound(), [f"v{i}" for i in range(N)]).set_column(
        same.column_names.index("source"), "source", pa.array(["carried"] * N)
    )
    with pytest.raises(JobError, match="all vectors are the same"):
        check_vectors(pa.concat_tables([same, carried.cast(same.schema)]), N, D, Publishing())


def test_a_user_twice_and_a_wrong_length_are_refused() -> None:
    with pytest.raises(JobError, match="user_id"):
        check_vectors(published(sound(), ["twice"] * 2 + [f"u{i}" for i in range(N - 2)]), N, D, Publishing())
    with pytest.raises(JobError, match="embedding_length"):
        check_vectors(published(sound()), N, D + 1, Publishing())


def test_an_item_without_a_finite_vector_is_refused() -> None:
    assert all(c["success"] for c in check_entities(entities(sound()), D))
    broken = sound()
    broken[3, 1] = np.nan
    with pytest.raises(JobError, match="entity_embeddings failed .*finite"):
        check_entities(entities(broken), D)
