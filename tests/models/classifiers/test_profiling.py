"""Folds hang on the user alone, trees learn what is planted and nothing else, probabilities mean what they say."""

from __future__ import annotations

import numpy as np
import pytest

from models.classifiers.folds import A, B, C, folds, uniform
from models.classifiers.profiling import (
    Calibration,
    TooFewUsers,
    calibrate,
    figures,
    fit,
    intervals,
    macro_f1,
    parts_of,
)
from models.hyperparameters import TreeHyperparameters

TREES = TreeHyperparameters(threads=1, rounds=60, early_stopping_rounds=10, learning_rate=0.2)
USERS = [f"user-{u}" for u in range(4000)]


def planted(n: int, seed: int, strength: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """(features, classes 0, 1, 2 at about 60 : 30 : 10 that two columns tell apart)."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(n, 6)).astype(np.float32)
    logits = strength * np.stack([np.zeros(n), features[:, 1], features[:, 4]], axis=1) + [1.0, 0.3, -0.9]
    return features, (logits + random.gumbel(size=(n, 3))).argmax(axis=1)


def trained(features: np.ndarray, labels: np.ndarray, **options: bool):
    return fit(features, labels, np.random.default_rng(9).random(len(labels)), TREES, 0, **options)


def test_a_users_fold_hangs_on_the_user_and_the_salt_alone() -> None:
    found = folds("salt", USERS, 0.4, 0.2)
    assert np.bincount(found) / len(USERS) == pytest.approx([0.4, 0.4, 0.2], abs=0.03)
    shuffled = np.random.default_rng(0).permutation(len(USERS))
    assert (folds("salt", [USERS[i] for i in shuffled[:500]], 0.4, 0.2) == found[shuffled[:500]]).all()
    for other in (folds("other", USERS, 0.4, 0.2), folds("", USERS, 0.4, 0.2)):
        assert (other == found).mean() == pytest.approx(0.4**2 + 0.4**2 + 0.2**2, abs=0.04)


def test_folds_are_the_same_for_ever() -> None:
    """Written down once: another hash, or another order of the folds, would let users who tested train."""
    assert folds("nocturne", ["", "u1", "u2", "ü", "日本語", "../x"], 0.4, 0.2).tolist() == [A, C, A, A, A, B]
    assert uniform("nocturne", "x", ["u1"])[0] == pytest.approx(0.635254629057991, abs=1e-15)


def test_users_who_test_go_on_testing_when_a_and_b_are_weighed_anew() -> None:
    before, after = folds("s", USERS, 0.4, 0.2), folds("s", USERS, 0.7, 0.2)
    assert ((before == C) == (after == C)).all() and not (before == after).all()
    assert set(folds("s", USERS, 0.0, 0.5)) == {B, C} and A == 0


def test_planted_classes_are_found_and_absent_ones_are_not() -> None:
    features, labels = planted(3000, 0)
    model = trained(features[:1500], labels[:1500])
    found = figures(labels[1500:], model.probabilities(features[1500:], 1), 0)
    assert found["accuracy"] > found["majority_accuracy"] + 0.1
    assert found["macro_f1"] > found["majority_macro_f1"] + 0.25
    shuffled = trained(features[:1500], np.random.default_rng(1).permutation(labels[:1500]))
    chance = figures(labels[1500:], shuffled.probabilities(features[1500:], 1), 0)
    assert chance["accuracy"] <= chance["majority_accuracy"] + 0.02 and chance["macro_f1"] < 0.4


@pytest.mark.parametrize("class_weights", [True, False])
def test_probabilities_mean_what_they_say_with_class_weights_too(class_weights: bool) -> None:
    features, labels = planted(8000, 2)
    model = trained(features[:4000], labels[:4000], class_weights=class_weights)
    probabilities = model.probabilities(features[4000:], 1)
    assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert probabilities.mean(axis=0) == pytest.approx(np.bincount(labels[4000:]) / 4000, abs=0.02)
    assert figures(labels[4000:], probabilities, 0)["ece"] < 0.03


def test_calibration_recovers_the_odds_it_was_drawn_from() -> None:
    random = np.random.default_rng(3)
    margins = random.normal(size=(100_000, 3)).astype(np.float32)
    labels = (0.5 * margins + [0.0, 1.0, -1.0] + random.gumbel(size=margins.shape)).argmax(axis=1)
    found = calibrate(margins, labels)
    assert found.slope == pytest.approx(0.5, abs=0.02)
    assert np.array(found.biases) - found.biases[0] == pytest.approx([0.0, 1.0, -1.0], abs=0.03)


def test_calibration_keeps_the_ranking_even_of_margins_that_are_upside_down() -> None:
    margins = np.random.default_rng(4).normal(size=(300, 2)).astype(np.float32)
    found = calibrate(margins, margins.argmin(axis=1))
    assert found.slope > 0 and np.isfinite(found.biases).all()
    parted = calibrate(margins, margins.argmax(axis=1))
    assert np.isfinite(parted(margins)).all()
    assert (parted(margins).argmax(axis=1) == margins.argmax(axis=1)).mean() > 0.97
    assert Calibration(1.0, (0.0, 0.0))(np.zeros((1, 2), np.float32)).tolist() == [[0.5, 0.5]]


def test_parts_share_each_class_evenly_and_hang_on_the_order_alone() -> None:
    labels = np.repeat([0, 1, 2], [17, 10, 5])
    order = np.random.default_rng(5).random(32)
    found = parts_of(labels, order, 5)
    for label in range(3):
        assert np.ptp(np.bincount(found[labels == label], minlength=5)) <= 1
    turned = np.random.default_rng(6).permutation(32)
    assert (parts_of(labels[turned], order[turned], 5) == found[turned]).all()


def test_the_same_seed_gives_the_same_numbers_and_missing_values_pass() -> None:
    features, labels = planted(600, 7)
    features[::5, 2] = np.nan
    first, second = (trained(features, labels).probabilities(features, 1) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert trained(features, labels).probabilities(features[:0]).shape == (0, 3)


@pytest.mark.parametrize("labels", [[], [0] * 20, [0] * 20 + [1] * 4, [0] * 10 + [2] * 10])
def test_too_few_classes_or_users_are_refused_with_the_counts(labels: list[int]) -> None:
    with pytest.raises(TooFewUsers, match="expected two classes or more, each with at least 5"):
        trained(np.zeros((len(labels), 2), np.float32), np.array(labels, np.int64))


def test_figures_are_those_of_the_confusion_matrix() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    probabilities = np.eye(3, dtype=np.float32)[[0, 0, 1, 1, 0, 0]]
    found = figures(labels, probabilities, 0)
    assert found["confusion"] == [[2, 1, 0], [1, 1, 0], [1, 0, 0]]
    assert (found["n"], found["accuracy"], found["majority_accuracy"]) == (6, 0.5, 0.5)
    by_hand = [2 * 2 / (3 + 4), 2 * 1 / (2 + 2), 0.0]
    assert found["macro_f1"] == pytest.approx(np.mean(by_hand))
    assert found["majority_macro_f1"] == pytest.approx(2 * 3 / (3 + 6) / 3)
    assert macro_f1(labels, labels) == 1.0 and sum(group["n"] for group in found["reliability"]) == 6
    assert found["ece"] == pytest.approx(0.5)


def test_reliability_is_in_groups_that_say_something() -> None:
    random = np.random.default_rng(8)
    for n, groups in ((20, 1), (240, 4), (5000, 10)):
        probabilities = np.stack([p := random.uniform(0.5, 1, n), 1 - p], axis=1).astype(np.float32)
        found = figures((random.random(n) > p).astype(np.int64), probabilities, 0)
        assert len(found["reliability"]) == groups and found["ece"] < 0.15


def test_the_interval_of_an_accuracy_is_the_binomials() -> None:
    found = intervals(np.array([[180, 60], [40, 120]]), seed=1, draws=4000)
    half = 1.96 * (0.75 * 0.25 / 400) ** 0.5
    assert found["accuracy_interval"] == pytest.approx([0.75 - half, 0.75 + half], abs=0.004)
    assert intervals(np.array([[7]]), seed=1) == {"accuracy_interval": [1.0, 1.0], "macro_f1_interval": [1.0, 1.0]}


def test_intervals_are_those_of_users_drawn_with_replacement() -> None:
    """Over the users themselves, as slowly as that goes; one class is so rare that some draws have none of it."""
    random = np.random.default_rng(0)
    labels = random.permutation(np.repeat([0, 1, 2], [90, 45, 3]))
    named = np.where(random.random(138) < 0.7, labels, random.integers(0, 3, 138))
    found = figures(labels, np.eye(3, dtype=np.float32)[named], 0, seed=5)
    draws = [random.integers(0, 138, 138) for _ in range(2000)]
    slow = [(np.mean(labels[one] == named[one]), macro_f1(labels[one], named[one])) for one in draws]
    for name, values in zip(("accuracy", "macro_f1"), np.transpose(slow), strict=True):
        assert found[f"{name}_interval"] == pytest.approx(np.percentile(values, (2.5, 97.5)), abs=0.03)
        assert found[f"{name}_interval"][0] < found[name] < found[f"{name}_interval"][1]


def test_intervals_hang_on_the_seed_alone() -> None:
    confusion = np.array([[30, 10], [5, 40]])
    assert intervals(confusion, 3) == intervals(confusion, 3) != intervals(confusion, 4)
