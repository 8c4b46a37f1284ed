"""PR-AUC against scikit-learn and slow loops; curves at their limits."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from models.classifiers.precision_recall import (
    average_precision,
    average_precision_interval,
    bootstrap_weights,
    calibration_curve,
    curves,
    precision_at,
)  # fmt: skip


def ranking(n: int, seed: int, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.random(n) < 0.2
    scores = random.normal(size=n) + labels
    return labels, np.round(scores) if ties else scores


@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_is_that_of_scikit_learn(ties: bool) -> None:
    labels, scores = ranking(500, 1, ties)
    assert average_precision(labels, scores) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_a_weight_is_a_repeated_user(ties: bool) -> None:
    labels, scores = ranking(80, 2, ties)
    weights = bootstrap_weights(80, 7, np.random.default_rng(0))
    assert (weights.sum(axis=1) == 80).all()
    found = average_precision(labels, scores, weights)
    for row, value in zip(weights, found, strict=True):
        expected = average_precision_score(np.repeat(labels, row), np.repeat(scores, row))
        assert value == pytest.approx(expected, abs=1e-12)


def test_the_interval_holds_the_value_and_narrows_with_users() -> None:
    small, large = (average_precision_interval(*ranking(n, 3), draws=200, seed=0) for n in (200, 5000))
    for found in (small, large):
        assert found.low < found.value < found.high
    assert large.high - large.low < 0.5 * (small.high - small.low)


def test_a_random_ranking_is_at_prevalence_and_a_perfect_one_at_one() -> None:
    labels, _ = ranking(20_000, 4)
    scores = np.random.default_rng(5).random(20_000)
    assert average_precision(labels, scores) == pytest.approx(labels.mean(), abs=0.01)
    assert average_precision(labels, labels.astype(float)) == 1
    assert average_precision(labels, np.zeros(20_000)) == pytest.approx(labels.mean(), abs=1e-12)


def test_without_positives_there_is_no_figure() -> None:
    assert np.isnan(average_precision(np.zeros(5, bool), np.arange(5.0)))
    assert np.isnan(average_precision_interval(np.zeros(5, bool), np.arange(5.0), 10, 0).low)
    assert curves(np.zeros(5, bool), np.arange(5.0))["recall"] == []


def test_curves_agree_with_a_slow_loop() -> None:
    labels, scores = ranking(300, 6)
    found = curves(labels, scores, points=10)
    order = sorted(range(300), key=lambda i: -scores[i])
    for recall, precision in zip(found["recall"], found["precision"], strict=True):
        hits = 0
        for rank, i in enumerate(order, 1):
            hits += labels[i]
            if hits >= recall * labels.sum() - 1e-9:
                assert precision == pytest.approx(hits / rank, abs=1e-6)
                break
    for contacted, reached in zip(found["share_contacted"], found["share_reached"], strict=True):
        top = order[: round(contacted * 300)]
        assert reached == pytest.approx(sum(labels[i] for i in top) / labels.sum(), abs=1e-6)
    assert (found["share_reached"][0], found["share_reached"][-1]) == (0, 1)


def test_precision_at_k_counts_the_top() -> None:
    labels = np.array([True, False, True, False])
    assert precision_at(labels, np.array([0.9, 0.8, 0.7, 0.1]), 3) == pytest.approx(2 / 3)
    assert precision_at(labels, np.array([0.9, 0.8, 0.7, 0.1]), 100) == pytest.approx(1 / 2)


def test_calibration_groups_hold_everybody_once() -> None:
    labels, _ = ranking(103, 7)
    probabilities = np.random.default_rng(8).random(103)
    groups = calibration_curve(labels, probabilities)
    assert sum(g["n"] for g in groups) == 103
    assert sum(g["n"] * g["observed"] for g in groups) == pytest.approx(labels.sum(), abs=1e-3)
    assert [g["predicted"] for g in groups] == sorted(g["predicted"] for g in groups)
