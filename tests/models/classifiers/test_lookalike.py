"""The trees learn what is planted and nothing else; the calibration recovers a known one."""

from __future__ import annotations

import numpy as np
import pytest

from models.classifiers.lookalike import PRIOR_SPREAD, Calibration, calibrate, fit, from_bytes, margins_of, to_bytes
from models.classifiers.precision_recall import average_precision
from models.hyperparameters import HyperparameterError, TreeHyperparameters

TREES = TreeHyperparameters(threads=1)


def planted(n: int, seed: int, strength: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(features with one column that matters, labels, held out)."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(n, 6)).astype(np.float32)
    labels = random.random(n) < 1 / (1 + np.exp(-(strength * features[:, 2] - 1)))
    return features, labels, random.random(n) < 0.1


def quality(features: np.ndarray, labels: np.ndarray, held_out: np.ndarray) -> tuple[float, float]:
    """(PR-AUC, prevalence) on the second half, trained on the first."""
    half = len(labels) // 2
    booster = fit(features[:half], labels[:half], held_out[:half], TREES, seed=0)
    return float(average_precision(labels[half:], margins_of(booster, features[half:], 1))), float(labels[half:].mean())


def test_planted_signal_is_found_and_absent_signal_is_not() -> None:
    found, prevalence = quality(*planted(4000, 0, 2.0))
    assert found > prevalence + 0.3
    found, prevalence = quality(*planted(4000, 0, 0.0))
    assert found == pytest.approx(prevalence, abs=0.03)


def test_shuffled_labels_are_at_prevalence() -> None:
    features, labels, held_out = planted(4000, 1, 2.0)
    found, prevalence = quality(features, np.random.default_rng(0).permutation(labels), held_out)
    assert found == pytest.approx(prevalence, abs=0.04)


def test_a_constant_column_and_missingness_alone_are_at_prevalence() -> None:
    _, labels, held_out = planted(4000, 2, 2.0)
    columns = np.ones((4000, 2), np.float32)
    columns[np.random.default_rng(3).random(4000) < 0.4, 1] = np.nan
    found, prevalence = quality(columns, labels, held_out)
    assert found == pytest.approx(prevalence, abs=0.03)


def test_the_held_out_rows_decide_when_to_stop_and_train_nothing() -> None:
    features, labels, held_out = planted(1000, 4, 2.0)
    flipped = np.where(held_out, ~labels, labels)
    stopped = fit(features, flipped, held_out, TREES, seed=0)
    assert stopped.num_boosted_rounds() <= 3 < fit(features, labels, held_out, TREES, seed=0).num_boosted_rounds()


def test_the_same_seed_gives_the_same_model_and_bytes_survive() -> None:
    features, labels, held_out = planted(600, 5, 1.0)
    first, second = (fit(features, labels, held_out, TREES, seed=3) for _ in range(2))
    assert to_bytes(first) == to_bytes(second)
    np.testing.assert_array_equal(margins_of(from_bytes(to_bytes(first)), features), margins_of(first, features))
    with pytest.raises(ValueError, match="no XGBoost model"):
        from_bytes(b"{}")


def test_one_class_is_refused_with_the_counts() -> None:
    features, labels, held_out = planted(100, 6, 1.0)
    with pytest.raises(ValueError, match="0 positives of 100"):
        fit(features, np.zeros(100, bool), np.zeros(100, bool), TREES, seed=0)
    with pytest.raises(ValueError, match="early stopping"):
        fit(features, labels & ~held_out, held_out, TREES, seed=0)
    with pytest.raises(HyperparameterError, match="learning_rate is 0"):
        TreeHyperparameters(learning_rate=0)


def test_calibration_recovers_the_odds_it_was_drawn_from() -> None:
    random = np.random.default_rng(7)
    margins = random.normal(size=200_000).astype(np.float32)
    labels = random.random(200_000) < 1 / (1 + np.exp(-(0.5 * margins - 2)))
    found = calibrate(margins, labels)
    assert found.slope == pytest.approx(0.5, abs=0.03)
    assert found.intercept == pytest.approx(-2, abs=0.03)
    assert found(margins).mean() == pytest.approx(labels.mean(), abs=1e-3)


def test_calibration_keeps_the_order_even_of_a_ranking_that_is_upside_down() -> None:
    margins = np.linspace(-2, 2, 400).astype(np.float32)
    found = calibrate(margins, margins < 0)
    assert found.slope > 0
    assert found(margins).mean() == pytest.approx(0.5, abs=0.01)
    parted = calibrate(margins, margins > 0)
    assert np.isfinite([parted.slope, parted.intercept]).all()
    assert 0 <= parted(margins).min() < 0.05 < 0.95 < parted(margins).max() <= 1
    assert Calibration(1.0, 0.0)(np.float32([0]))[0] == 0.5


def test_a_monotone_column_never_raises_the_odds_as_it_grows() -> None:
    features, labels, held_out = planted(3000, 8, 2.0)
    grid = np.tile(np.median(features, axis=0), (50, 1)).astype(np.float32)
    grid[:, 2] = np.linspace(-2, 2, 50)
    free = fit(features, labels, held_out, TREES, seed=0)
    bound = fit(features, labels, held_out, TREES, seed=0, monotone=(0, 0, -1, 0, 0, 0))
    assert margins_of(free, grid)[-1] > margins_of(free, grid)[0] + 1
    assert (np.diff(margins_of(bound, grid)) <= 0).all()


@pytest.mark.parametrize("n", [3, 60, 4000])
def test_a_calibration_drawn_to_another_weighs_it_by_its_prior(n: int) -> None:
    """At the minimum of what labels and priors cost together, however many labels there are."""
    random = np.random.default_rng(n)
    margins, other = random.normal(size=n), Calibration(1.4, -0.7)
    labels = random.random(n) < 1 / (1 + np.exp(1.5 - 2 * margins))
    targets = np.where(labels, (labels.sum() + 1) / (labels.sum() + 2), 1 / ((~labels).sum() + 2))

    def cost(slope: float, intercept: float) -> float:
        p = 1 / (1 + np.exp(-(slope * margins + intercept)))
        moved = (slope - other.slope) ** 2 + (intercept - other.intercept) ** 2
        return -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).sum() + moved / PRIOR_SPREAD**2 / 2

    found = calibrate(margins, labels, towards=other)
    least = cost(found.slope, found.intercept)
    for slope, intercept in ((0.01, 0), (-0.01, 0), (0, 0.01), (0, -0.01)):
        assert cost(found.slope + slope, found.intercept + intercept) > least
