"""A booster per fold from one matrix: what a fold's own labels may decide, and what not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from models.classifiers.lookalike import OneClassError, fit_folds, margins_of, to_bytes
from models.classifiers.precision_recall import average_precision
from models.hyperparameters import TreeHyperparameters
from tests.models.classifiers.test_lookalike import planted

TREES = TreeHyperparameters(threads=1)
FOLDS = 3


def folded(n: int, seed: int, strength: float = 2.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(features, labels, fold)."""
    features, labels, _ = planted(n, seed, strength)
    return features, labels, np.random.default_rng(seed + 100).integers(0, FOLDS, n)


def test_each_rows_margin_is_of_trees_that_found_what_is_planted_in_the_others() -> None:
    features, labels, fold = folded(4000, 0)
    boosters = fit_folds(features, labels, fold, FOLDS, TREES, seed=0)
    margins = np.empty(len(labels))
    for k, booster in enumerate(boosters):
        margins[fold == k] = margins_of(booster, features[fold == k], 1)
    assert average_precision(labels, margins) > labels.mean() + 0.3


def test_labels_of_the_fold_stop_the_trees_and_stand_in_none() -> None:
    """Turned around, they end the training at once; the trees there are by then are the same."""
    features, labels, fold = folded(1500, 1)
    honest = fit_folds(features, labels, fold, FOLDS, TREES, seed=0)[1]
    turned = fit_folds(features, np.where(fold == 1, ~labels, labels), fold, FOLDS, TREES, seed=0)[1]
    trees = turned.num_boosted_rounds()
    assert trees <= 3 < honest.num_boosted_rounds()
    np.testing.assert_array_equal(margins_of(turned, features, 1), margins_of(honest[:trees], features, 1))


def test_a_label_of_another_fold_does_count() -> None:
    features, labels, fold = folded(1500, 1)
    turned = np.where(fold == 0, ~labels, labels)
    other = fit_folds(features, turned, fold, FOLDS, TREES, seed=0)[1]
    honest = fit_folds(features, labels, fold, FOLDS, TREES, seed=0)[1]
    assert not np.array_equal(margins_of(other[:1], features, 1), margins_of(honest[:1], features, 1))


def test_so_many_trees_are_kept_as_serve_the_fold_best() -> None:
    features, labels, fold = folded(900, 2, strength=0.7)
    short = dataclasses.replace(TREES, early_stopping_rounds=15, rounds=200)
    full = dataclasses.replace(TREES, early_stopping_rounds=200, rounds=200)
    for k, (booster, all_best) in enumerate(
        zip(*(fit_folds(features, labels, fold, FOLDS, hyper, seed=5) for hyper in (short, full)), strict=True)
    ):
        mine, best = fold == k, booster.num_boosted_rounds()

        def loss(trees: int, mine: np.ndarray = mine, of=all_best) -> float:
            margins = margins_of(of[:trees], features[mine], 1).astype(np.float64)
            return float(np.mean(np.logaddexp(0, margins) - labels[mine] * margins))

        losses = [loss(trees) for trees in range(1, all_best.num_boosted_rounds() + 1)]
        assert min(losses[:best]) == pytest.approx(losses[best - 1], abs=1e-6)
        assert min(losses[: best + 15]) == pytest.approx(losses[best - 1], abs=1e-6)


def test_the_same_seed_gives_the_same_boosters_and_each_fold_its_own_draws() -> None:
    given = folded(800, 3)
    first, second = ([to_bytes(b) for b in fit_folds(*given, FOLDS, TREES, seed=4)] for _ in range(2))
    assert first == second and len(set(first)) == FOLDS


def test_a_folds_draws_are_by_the_seed_and_its_number() -> None:
    features, labels, fold = folded(800, 3)
    other = np.array([1, 0, 2])[fold]
    both = ((fold, 4), (other, 5))
    of_both = [fit_folds(features, labels, mine, FOLDS, TREES, seed) for mine, seed in both]
    assert to_bytes(of_both[0][1]) == to_bytes(of_both[1][0])
    assert to_bytes(of_both[0][0]) != to_bytes(of_both[1][1])


def test_a_fold_without_a_class_is_told() -> None:
    features, labels, fold = folded(600, 4)
    with pytest.raises(OneClassError, match="positives of .* early stopping"):
        fit_folds(features, labels & (fold != 2), fold, FOLDS, TREES, seed=0)
    with pytest.raises(OneClassError, match="positives of .* training"):
        fit_folds(features, labels & (fold == 0), fold, FOLDS, TREES, seed=0)
