"""Trees as arrays give the booster's own margins, whatever the numbers of a row."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from models.classifiers.forest import Forest
from models.classifiers.lookalike import fit, from_bytes, margins_of, to_bytes
from models.classifiers.trees import xgboost
from models.hyperparameters import TreeHyperparameters
from models.kernels.forest import BLOCK
from models.shapes import ShapeError

COLUMNS = 7


def rows_of(n: int, seed: int) -> np.ndarray:
    """A third missing in some columns, none in others; numbers that are equal, and as large as they come."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(n, COLUMNS)).astype(np.float32)
    features[:, 1] = np.round(features[:, 1])
    for column in (0, 1, 5):
        features[random.random(n) < 0.33, column] = np.nan
    features[random.random(n) < 0.05, 3] = 3e38
    features[random.random(n) < 0.05, 4] = -3e38
    return features


def booster(depth: int, seed: int = 0, n: int = 3000, rounds: int = 40) -> xgboost.Booster:
    features, random = rows_of(n, seed), np.random.default_rng(seed + 1)
    score = np.nan_to_num(features[:, 1]) - 2 * np.isnan(features[:, 0]) + (features[:, 3] < 1e9) * features[:, 2]
    labels = random.random(n) < 1 / (1 + np.exp(-np.nan_to_num(score)))
    hyper = TreeHyperparameters(max_depth=depth, rounds=rounds, min_child_weight=1.0, threads=1)
    return fit(features, labels, random.random(n) < 0.2, hyper, seed)


def of_one(trees: xgboost.Booster) -> Callable[[np.ndarray], np.ndarray]:
    """float32 (n,)."""
    return lambda features: Forest.of([trees]).margins(features)[:, 0]


@pytest.mark.parametrize("depth", [1, 3, 6, 12])
def test_margins_are_the_boosters(depth: int) -> None:
    trees = booster(depth)
    margins = of_one(trees)
    for n in (0, 1, BLOCK - 1, BLOCK, 5 * BLOCK + 3):
        features = rows_of(n, seed=9)
        np.testing.assert_allclose(margins(features), margins_of(trees, features), rtol=1e-6, atol=2e-6)
    everywhere = np.full((2, COLUMNS), np.nan, np.float32)
    np.testing.assert_allclose(margins(everywhere), margins_of(trees, everywhere), rtol=1e-6, atol=2e-6)


def test_a_number_on_a_threshold_goes_where_the_booster_sends_it() -> None:
    trees = booster(4)
    forest = Forest.of([trees])
    on = np.unique(forest.threshold[np.isfinite(forest.threshold)])
    features = np.repeat(on[:, None], COLUMNS, axis=1).astype(np.float32)
    assert len(on) > 50
    np.testing.assert_allclose(forest.margins(features)[:, 0], margins_of(trees, features), rtol=1e-6, atol=2e-6)


def test_a_booster_of_one_leaf_and_one_that_was_kept_as_bytes() -> None:
    random = np.random.default_rng(3)
    features, labels = np.ones((200, 2), np.float32), random.random(200) < 0.3
    nothing = fit(features, labels, random.random(200) < 0.3, TreeHyperparameters(threads=1, rounds=3), 0)
    np.testing.assert_allclose(of_one(nothing)(features), margins_of(nothing, features), atol=1e-6)
    trees, rows = booster(3), rows_of(100, 5)
    kept = of_one(from_bytes(to_bytes(trees)))
    np.testing.assert_array_equal(kept(rows), of_one(trees)(rows))


def test_boosters_side_by_side_are_each_as_alone_and_their_mean() -> None:
    several, rows = [booster(depth, seed=depth) for depth in (2, 5, 1)], rows_of(500, 6)
    forest = Forest.of(several)
    found = forest.margins(rows)
    for place, trees in enumerate(several):
        np.testing.assert_array_equal(found[:, place], of_one(trees)(rows))
    mean = np.mean([margins_of(trees, rows) for trees in several], axis=0)
    np.testing.assert_allclose(forest.mean_margin(rows), mean, rtol=1e-6, atol=2e-6)


def test_boosters_of_different_columns_are_refused() -> None:
    random = np.random.default_rng(0)
    labels, held_out = random.random(300) < 0.5, random.random(300) < 0.3
    other = fit(random.normal(size=(300, 2)).astype(np.float32), labels, held_out, TreeHyperparameters(threads=1), 0)
    with pytest.raises(ValueError, match=r"\[2, 7\] columns"):
        Forest.of([booster(2), other])


def test_columns_in_another_layout_and_threads_give_the_same() -> None:
    forest, features = Forest.of([booster(5), booster(2, seed=3), booster(3, seed=4)]), rows_of(1000, 2)
    wanted = forest.margins(features)
    np.testing.assert_array_equal(forest.margins(np.asfortranarray(features)), wanted)
    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(forest.margins, np.array_split(features, 7)))
    np.testing.assert_array_equal(np.concatenate(parts), wanted)


def test_other_features_than_were_learned_from_are_refused() -> None:
    with pytest.raises(ShapeError, match="features"):
        Forest.of([booster(2)]).margins(np.zeros((3, COLUMNS + 1), np.float32))


def test_trees_that_split_by_categories_are_refused() -> None:
    random = np.random.default_rng(0)
    codes = random.integers(0, 5, (400, 1)).astype(np.float32)
    rows = xgboost.DMatrix(codes, codes[:, 0] % 2 == 0, feature_types=["c"], enable_categorical=True)
    trees = xgboost.train({"objective": "binary:logistic", "tree_method": "hist"}, rows, 2)
    with pytest.raises(ValueError, match="categories"):
        Forest.of([trees])
