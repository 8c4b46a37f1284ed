"""Frozen questions: figures against scikit-learn's, and when a night counts as having fallen short."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from models.vectors.canaries import FEWEST, Answers, classify, compare, falls_short, remain, teach

N, DIMENSION, KEPT = 400, 8, 0.5


def world(seed: int, apart: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors (N, d) of two classes whose means are `apart` standard deviations from each other, and who is of one."""
    random = np.random.default_rng(seed)
    of_class = random.random(N) < 0.4
    return random.normal(size=(N, DIMENSION)) + apart * of_class[:, None] * np.eye(DIMENSION)[0], of_class


def test_a_classes_figure_is_the_auc() -> None:
    vectors, of_class = world(1)
    vectors = vectors.round(1)  # equal scores count half
    weights = np.eye(DIMENSION)[0]
    found = classify(weights, vectors, of_class)
    assert found.figure == pytest.approx(roc_auc_score(of_class, vectors @ weights))
    assert found.of_rest.mean() == pytest.approx(found.figure) and found.n == N


def test_what_is_taught_tells_classes_apart_whatever_scale_vectors_have() -> None:
    vectors, of_class = world(2, apart=3.0)
    scales = 10.0 ** np.arange(-4, 4)
    learn, put = np.arange(N) < N // 2, np.arange(N) >= N // 2
    plain, scaled = (
        classify(teach(each[learn], of_class[learn]), each[put], of_class[put]).figure
        for each in (vectors, vectors * scales + 5))
    assert plain > 0.95 and scaled == pytest.approx(plain, abs=1e-6)


def test_pairs_count_who_is_nearer_and_equal_distances_half() -> None:
    assert compare(np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 1.0])).of_class.tolist() == [1.0, 0.5, 0.0]


def test_neighbours_that_stay_count_and_a_turned_space_has_all_of_them() -> None:
    vectors, _ = world(3)
    turned = vectors @ np.linalg.qr(np.random.default_rng(4).normal(size=(DIMENSION, DIMENSION)))[0]
    assert remain(vectors, turned).figure == 1.0
    others, _ = world(5)
    assert remain(vectors, others).figure == pytest.approx(10 / (N - 1), abs=0.02)


@pytest.mark.parametrize("apart", [0.0, 0.5, 2.0])
def test_nights_of_one_quality_do_not_fall_short(apart: float) -> None:
    """Vectors of the same users with a noise of its own each night: no false alarm in 200."""
    weights, alarms = np.eye(DIMENSION)[0], 0
    for seed in range(200):
        vectors, of_class = world(seed, apart)
        noise = np.random.default_rng([seed, 1]).normal(size=(2, *vectors.shape), scale=0.3)
        then, now = (classify(weights, vectors + one, of_class) for one in noise)
        alarms += falls_short(now, then, KEPT)
    assert alarms == 0


def test_a_night_that_only_guesses_falls_short_of_one_that_knows() -> None:
    vectors, of_class = world(6, apart=2.0)
    others, _ = world(7, apart=0.0)
    weights = teach(vectors, of_class)
    then, now, better = (classify(weights, each, of_class) for each in (vectors, others, vectors * [2, *[1] * 7]))
    assert falls_short(now, then, KEPT) and not falls_short(then, now, KEPT) and not falls_short(better, then, KEPT)
    assert not falls_short(now, then, 0.0), "nothing has to be kept"


def test_who_has_lost_less_than_may_be_lost_has_not_fallen_short() -> None:
    """Pairs: 90 % right, then 80 %: three quarters of the lead; then 60 %: a quarter of it."""
    then, some, most = (Answers((np.arange(N) % 10 < tenths).astype(float)) for tenths in (9, 8, 6))
    assert not falls_short(some, then, KEPT) and falls_short(most, then, KEPT) and falls_short(some, then, 0.99)


def test_what_the_same_users_all_lose_is_no_chance() -> None:
    """Placements differ much from user to user, and each has lost the same: little, and beyond doubt."""
    then = Answers(np.linspace(0.2, 1.0, FEWEST))
    a_little_less = KEPT * (then.figure - 0.5) + 0.5 - 0.01
    now = Answers(KEPT * then.of_class + a_little_less - KEPT * then.figure)
    assert now.figure == pytest.approx(a_little_less) and falls_short(now, then, KEPT)
    assert not falls_short(Answers(now.of_class[::-1]), then, KEPT), "others have lost it: that may be chance"


def test_few_questions_tell_nothing() -> None:
    with np.errstate(all="raise"):
        assert not classify(np.ones(DIMENSION), np.ones((FEWEST, DIMENSION)), np.ones(FEWEST, bool)).enough
    assert not Answers(np.ones(FEWEST - 1)).enough and Answers(np.ones(FEWEST)).enough
    assert not Answers(np.ones(FEWEST), np.ones(FEWEST - 1)).enough
