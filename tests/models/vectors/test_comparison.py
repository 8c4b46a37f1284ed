"""Each kind of comparison against a slow loop, its limits, and a translation to the last bit."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from models.families import FAMILIES
from models.family import Comparison
from models.shapes import ShapeError
from models.vectors.comparison import Comparer

N, M, D = 6, 5, 4
COMPARERS = [Comparer("translation", "l1"), Comparer("translation", "l2"), *map(Comparer, get_args(Comparison)[1:])]


def world(seed: int = 0, n: int = N, m: int = M, d: int = D) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(users, relation, items) float64."""
    random = np.random.default_rng(seed)
    return random.normal(size=(n, d)), random.normal(size=d), random.normal(size=(m, d))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """0 where one of them is the origin."""
    lengths = sum(x * x for x in a) ** 0.5 * sum(y * y for y in b) ** 0.5
    return sum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else 0.0


def length(difference: list[float], norm: str) -> float:
    return sum(map(abs, difference)) if norm == "l1" else sum(x * x for x in difference) ** 0.5


def far_item(user: np.ndarray, relation: np.ndarray, item: np.ndarray, comparer: Comparer) -> float:
    """One user and one item, number by number."""
    numbers = list(zip(user, relation, item, strict=True))
    if comparer.kind == "translation":
        return length([u + r - v for u, r, v in numbers], comparer.norm)
    if comparer.kind == "diagonal":
        return -sum(u * r * v for u, r, v in numbers)
    if comparer.kind == "complex":
        half = len(user) // 2
        user, relation, item = (x[:half] + 1j * x[half:] for x in (user, relation, item))
        return -sum((u * r * v.conjugate()).real for u, r, v in zip(user, relation, item, strict=True))
    of_products = comparer.kind in ("dot", "softmax")
    return -sum(u * v for u, _, v in numbers) if of_products else 1 - cosine(user, item)


def far_user(user: np.ndarray, other: np.ndarray, comparer: Comparer) -> float:
    """Two users, number by number."""
    if comparer.kind == "translation":
        return length([u - v for u, v in zip(user, other, strict=True)], comparer.norm)
    return 1 - cosine(user, other)


@pytest.mark.parametrize("comparer", COMPARERS, ids=str)
def test_a_slow_loop_finds_the_same(comparer: Comparer) -> None:
    users, relation, items = world()
    users[1] = items[2] = 0  # without a direction
    to_items, between = comparer.to_items(users, relation, items), comparer.between_users(users, items)
    for i in range(N):
        np.testing.assert_allclose(to_items[i], [far_item(users[i], relation, v, comparer) for v in items], atol=1e-12)
        np.testing.assert_allclose(between[i], [far_user(users[i], v, comparer) for v in items], atol=1e-7)
    np.testing.assert_allclose(comparer.row_by_row(users[:M], items), np.diag(between[:M]), atol=1e-7)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_a_translation_is_the_former_distance_to_the_last_bit(norm: str) -> None:
    """What classifiers are trained on is compared by its hash from one version to the next."""

    def former(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        if norm == "l1":
            return cdist(left, right, "cityblock")
        squares = (left * left).sum(1)[:, None] + (right * right).sum(1)[None] - 2 * left @ right.T
        return np.sqrt(np.maximum(squares, 0))

    comparer = Comparer("translation", norm)
    for seed in range(5):
        users, relation, items = world(seed, n=300, m=70, d=33)
        users = users.astype(np.float32).astype(np.float64)  # as they are published
        np.testing.assert_array_equal(comparer.to_items(users, relation, items), former(users + relation, items))
        np.testing.assert_array_equal(comparer.between_users(users, items), former(users, items))
        to_own = items - users[:70]
        rows = np.abs(to_own).sum(1) if norm == "l1" else np.sqrt((to_own**2).sum(1))
        np.testing.assert_array_equal(comparer.row_by_row(users[:70], items), rows)


@pytest.mark.parametrize("comparer", COMPARERS, ids=str)
def test_small_is_near(comparer: Comparer) -> None:
    """Where the model would put the user's purchase is nearer than its mirror image, and a user is nearest himself."""
    user, relation, _ = world(n=1)
    bought = {"translation": user + relation, "diagonal": user * relation}.get(comparer.kind, user)
    if comparer.kind == "complex":
        product = (user[:, : D // 2] + 1j * user[:, D // 2 :]) * (relation[: D // 2] + 1j * relation[D // 2 :])
        bought = np.concatenate([product.real, product.imag], axis=1)
    near, far = comparer.to_items(user, relation, np.concatenate([bought, -bought]))[0]
    assert near < far
    assert abs(comparer.between_users(user, user)[0, 0]) < 1e-7 < comparer.between_users(user, -user)[0, 0]


@pytest.mark.parametrize("comparer", COMPARERS, ids=str)
def test_nobody_and_nothing_are_no_distances(comparer: Comparer) -> None:
    users, relation, items = world()
    none = np.zeros((0, D))
    assert comparer.to_items(users, relation, none).shape == (N, 0)
    assert comparer.to_items(none, relation, items).shape == (0, M)
    assert comparer.between_users(users, none).shape == (N, 0)
    assert comparer.row_by_row(none, none).shape == (0,)


@pytest.mark.parametrize("kind", ["dot", "softmax", "diagonal", "complex", "cosine"])
def test_a_zero_vector_is_as_far_from_all(kind: Comparison) -> None:
    users, relation, items = world()
    comparer, nowhere = Comparer(kind), np.zeros((1, D))
    neutral = 1.0 if kind == "cosine" else 0.0
    np.testing.assert_array_equal(comparer.to_items(nowhere, relation, items), np.full((1, M), neutral))
    np.testing.assert_array_equal(comparer.between_users(nowhere, users), np.ones((1, N)))
    np.testing.assert_array_equal(comparer.row_by_row(nowhere, users[:1]), [1.0])
    assert np.isnan(comparer.between_users(users, np.full((1, D), np.nan))).all()  # missing is not the same as zero


@pytest.mark.parametrize("comparer", COMPARERS, ids=str)
def test_a_relation_is_asked_for_where_it_has_a_part(comparer: Comparer) -> None:
    users, relation, items = world()
    if comparer.takes_relation:
        assert not np.allclose(comparer.to_items(users, relation, items), comparer.to_items(users, 2 * relation, items))
        with pytest.raises(ValueError, match=f"compared by {comparer.kind}, which takes the relation's vector"):
            comparer.to_items(users, None, items)
        with pytest.raises(ShapeError, match="relation has shape"):
            comparer.to_items(users, relation[1:], items)
    else:
        given, none = comparer.to_items(users, relation, items), comparer.to_items(users, None, items)
        np.testing.assert_array_equal(given, none)


def test_a_models_family_says_how() -> None:
    for family in FAMILIES:
        asked = [family.compared] if "." not in family.compared else ["diagonal", "complex"]
        for kind in asked:  # of one that leaves it to a setting the manifest says it
            assert {Comparer.of(model, "l1", kind) for model in family.models} == {Comparer(kind, "l1")}
    with pytest.raises(ValueError, match="kind is 'None'"):
        Comparer.of("relgnn", "l2")
    with pytest.raises(KeyError, match="nobody"):
        Comparer.of("nobody", "l2")


def test_wrong_ways_to_compare_are_named() -> None:
    kinds = "translation, diagonal, complex, dot, softmax, cosine"
    with pytest.raises(ValueError, match=f"kind is 'taxicab'; expected one of {kinds}"):
        Comparer("taxicab")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="norm is 'l3'; expected one of l1, l2"):
        Comparer("translation", "l3")
