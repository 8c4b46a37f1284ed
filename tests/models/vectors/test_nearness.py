"""What is told of distances without a matrix of them, against the matrix."""

from __future__ import annotations

import numpy as np
import pytest

from models.vectors.comparison import Comparer
from tests.models.vectors.test_comparison import COMPARERS

SHARP, FARTHEST = (1.0, 3.0), 0.8  # which distances reach beyond, either way


def world(n: int, m: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(points (n, d), others (m, d), himself (n,)): every third of the points is one of the others, the first
    of them without a direction, so that its distance to itself may be no 0."""
    random = np.random.default_rng(seed)
    points, others = random.normal(size=(n, 10)), random.normal(size=(m, 10))
    points[0] = 0
    himself = np.full(n, -1)
    for place, i in zip(range(m), range(0, n, 3), strict=False):
        others[m - 1 - place], himself[i] = points[i], m - 1 - place
    return points, others, himself


def distances(comparer: Comparer, points: np.ndarray, others: np.ndarray, himself: np.ndarray) -> np.ndarray:
    """(n, m), NaN to himself."""
    found = comparer.between_users(points, others)
    found[np.flatnonzero(himself >= 0), himself[himself >= 0]] = np.nan
    return found


@pytest.mark.parametrize("comparer", COMPARERS, ids=str)
@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 2), (9, 4), (30, 33)])
def test_what_is_told_is_that_of_the_matrix(comparer: Comparer, n: int, m: int) -> None:
    points, others, himself = world(n, m, seed=n)
    centre = others.mean(0, keepdims=True)
    far, measure = distances(comparer, points, others, himself), comparer.of_users
    given = comparer.user_points(points), comparer.user_points(others), himself
    left = np.isfinite(far).sum(1)
    told = measure.nearest(given[0], comparer.user_points(np.concatenate([others, centre])), himself, 3)
    moments = measure.moments(*given)
    scale = np.where(np.isfinite(moments), moments, 1) + [0, 0.1]
    dense = measure.densities(*given, scale, SHARP, FARTHEST)
    for i in range(n):
        mine = np.sort(far[i][np.isfinite(far[i])])
        if not left[i]:
            assert np.isnan([*told[i], *moments[i], *dense[i]]).all()
            continue
        wanted = [mine[0], mine[:3].mean(), mine.mean(), comparer.between_users(points[i : i + 1], centre)[0, 0]]
        np.testing.assert_allclose(told[i], wanted, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(moments[i], [mine.mean(), mine.std()], rtol=1e-4, atol=1e-4)
        z = np.clip((mine - scale[i, 0]) / scale[i, 1], -FARTHEST, FARTHEST)
        np.testing.assert_allclose(dense[i], [np.log(np.exp(-s * z).mean()) for s in SHARP], rtol=1e-3, atol=1e-3)


def test_a_user_far_nearer_to_himself_than_to_others_does_not_drown_them() -> None:
    """exp(-3z) of his own distance is 10^12 times that of any other: it must never have been in the sum."""
    points = np.concatenate([np.zeros((1, 10)), 10 + 0.1 * np.random.default_rng(0).normal(size=(20, 10))])
    measure, himself = Comparer("translation", "l2").of_users, np.full(21, -1)
    himself[0] = 0
    scale = measure.moments(points, points, himself)
    with_him = measure.densities(points[:1], points, himself[:1], scale[:1], (3.0,), 20.0)
    without = measure.densities(points[:1], points[1:], np.array([-1]), scale[:1], (3.0,), 20.0)
    np.testing.assert_allclose(with_him, without, rtol=1e-12)
