"""The classifier of target prospecting (KQGC paper, section 3.3 and 4): calibrated trees on the users' features.

`fit` trains one model on sampled positives and negatives with early stopping, `fit_folds` one without each fold of the
users; `calibrate` maps margins to probabilities on an unsampled population. Shapes: n users, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from models.classifiers.trees import xgboost
from models.hyperparameters import TreeHyperparameters
from models.shapes import expect

MOST_BINS = 64  # of a column, in `fit_folds`: the held-out loss is that of 256, for two thirds of the time
FEW_ROWS = 20_000  # trees of fewer are grown faster by one thread than by several that wait for each other
_NEWTON_STEPS = 50
PRIOR_SPREAD = 0.3  # of slope and intercept about those of the pool: what some ten positives outweigh
_SLOPE_FLOOR = 1e-3  # a calibration must not turn the ranking around


class OneClassError(ValueError):
    """Trees cannot learn or stop: one side of the split lacks a class."""


@dataclass(frozen=True)
class Calibration:
    """probability = 1 / (1 + exp(-(slope · margin + intercept))); Platt 1999."""

    slope: float
    intercept: float

    def __call__(self, margins: np.ndarray) -> np.ndarray:
        """float32 (n,) probabilities in the order of the margins."""
        return (1 / (1 + np.exp(-(self.slope * margins.astype(np.float64) + self.intercept)))).astype(np.float32)


def fit(
    features: np.ndarray,
    labels: np.ndarray,
    held_out: np.ndarray,
    hyper: TreeHyperparameters,
    seed: int,
    monotone: tuple[int, ...] | None = None,
) -> xgboost.Booster:
    """Boosted trees fitted to the rows that are not `held_out`, as many as serve those best.

    features float32 (n, F), NaN where missing; labels, held_out bool (n,). monotone (F,): -1 where a column may only
    lower the odds as it grows, 1 only raise, 0 free. OneClassError when one side of the split lacks a class.
    """
    expect("features", features, (len(labels), None), "float32")
    _require_both_classes(labels, held_out)
    parameters = _parameters(labels, held_out, hyper, seed) | {"eval_metric": "logloss"}
    threads = parameters["nthread"]
    if monotone is not None:
        parameters["monotone_constraints"] = monotone
    train = xgboost.QuantileDMatrix(features[~held_out], labels[~held_out], nthread=threads)
    watch = xgboost.QuantileDMatrix(features[held_out], labels[held_out], nthread=threads, ref=train)
    stopping = {"evals": [(watch, "held_out")], "early_stopping_rounds": hyper.early_stopping_rounds}
    booster = xgboost.train(parameters, train, hyper.rounds, **stopping, verbose_eval=False)
    return booster[: booster.best_iteration + 1]


def fit_folds(
    features: np.ndarray, labels: np.ndarray, fold: np.ndarray, folds: int, hyper: TreeHyperparameters, seed: int
) -> list[xgboost.Booster]:
    """A booster per fold, fitted to all other rows, as many trees as serve the fold best.

    features, labels as for `fit`; fold int (n,), 0 to folds − 1. All of them read one matrix of binned columns, in
    which the rows of the booster's own fold weigh nothing: binning takes longer than many trees, and the margins of
    the fold come with the training's own. The borders of bins are of all rows' columns; labels have no part in them.
    OneClassError as for `fit`.
    """
    expect("features", features, (len(labels), None), "float32")
    for k in range(folds):
        _require_both_classes(labels, fold == k)
    rows = xgboost.QuantileDMatrix(features, labels, nthread=_threads(labels, hyper), max_bin=MOST_BINS)
    return [_without(fold == k, rows, labels, hyper, seed + k) for k in range(folds)]


def _without(
    held_out: np.ndarray, rows: xgboost.QuantileDMatrix, labels: np.ndarray, hyper: TreeHyperparameters, seed: int
) -> xgboost.Booster:
    """Fitted to the rows that are not held out; the weights of `rows` are set to it."""
    parameters = _parameters(labels, held_out, hyper, seed) | {"max_bin": MOST_BINS, "disable_default_eval_metric": 1}
    bought = labels[held_out]

    def loss(probabilities: np.ndarray, _: xgboost.DMatrix) -> tuple[str, float]:
        found = np.clip(probabilities[held_out].astype(np.float64), 1e-7, 1 - 1e-7)
        return "logloss", -float(np.log(np.where(bought, found, 1 - found)).mean())

    rows.set_weight((~held_out).astype(np.float32))
    stopping = {"evals": [(rows, "held_out")], "early_stopping_rounds": hyper.early_stopping_rounds}
    booster = xgboost.train(parameters, rows, hyper.rounds, custom_metric=loss, **stopping, verbose_eval=False)
    return booster[: booster.best_iteration + 1]


def _require_both_classes(labels: np.ndarray, held_out: np.ndarray) -> None:
    for name, rows in (("training", ~held_out), ("early stopping", held_out)):
        if not labels[rows].any() or labels[rows].all():
            found = f"{int(labels[rows].sum())} positives of {int(rows.sum())} users for {name}"
            raise OneClassError(f"{found}; expected both classes. Give more of the other.")


def _parameters(labels: np.ndarray, held_out: np.ndarray, hyper: TreeHyperparameters, seed: int) -> dict[str, Any]:
    return {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "max_depth": hyper.max_depth,
        "eta": hyper.learning_rate,
        "subsample": hyper.subsample,
        "colsample_bytree": hyper.colsample,
        "min_child_weight": hyper.min_child_weight,
        "base_score": float(labels[~held_out].mean()),
        "nthread": _threads(labels, hyper),
        "seed": seed,
    }


def _threads(labels: np.ndarray, hyper: TreeHyperparameters) -> int:
    return hyper.threads if len(labels) > FEW_ROWS else 1


def margins_of(booster: xgboost.Booster, features: np.ndarray, threads: int = 2) -> np.ndarray:
    """float32 (n,): log odds, before calibration."""
    expect("features", features, (None, booster.num_features()), "float32")
    if not len(features):
        return np.zeros(0, np.float32)
    booster.set_param({"nthread": threads})
    return booster.inplace_predict(features, predict_type="margin")


def calibrate(
    margins: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray | None = None,
    towards: Calibration | None = None,
) -> Calibration:
    """Logistic regression of the labels on the margins by Newton's method.

    On a population as it is, or drawn with `weights` (n,): how many users each stands for. Platt's targets
    (n₊+1)/(n₊+2) and 1/(n₋+2) keep it finite when the classes part. `towards`: a calibration that slope and intercept
    are drawn to by normal priors of PRIOR_SPREAD, so that few positives move them little.
    """
    x, weights = margins.astype(np.float64), np.ones(len(margins)) if weights is None else weights.astype(np.float64)
    if not len(x):
        return towards or Calibration(1.0, 0.0)
    targets = _platt_targets(labels, weights)
    mean = float(np.average(targets, weights=weights))
    centre = np.array([towards.slope, towards.intercept]) if towards else np.array([1.0, _log_odds(mean) - x.mean()])
    precision = PRIOR_SPREAD**-2 if towards else 0.0
    found = centre.copy()
    for _ in range(_NEWTON_STEPS):
        p = 1 / (1 + np.exp(-(found[0] * x + found[1])))
        error, weight = weights * (p - targets), weights * p * (1 - p)
        mixed = (weight * x).sum()
        hessian = np.array([[(weight * x * x).sum(), mixed], [mixed, weight.sum()]]) + (precision + 1e-9) * np.eye(2)
        step = np.linalg.solve(hessian, [(error * x).sum(), error.sum()] + precision * (found - centre))
        step *= min(1.0, 2.0 / (np.abs(step).max() + 1e-12))
        found = found - step
        if np.abs(step).max() < 1e-9:
            break
    if found[0] < _SLOPE_FLOOR:
        return Calibration(_SLOPE_FLOOR, _log_odds(mean) - _SLOPE_FLOOR * float(np.average(x, weights=weights)))
    return Calibration(float(found[0]), float(found[1]))


def _platt_targets(labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    positives, negatives = weights[labels].sum(), weights[~labels].sum()
    return np.where(labels, (positives + 1) / (positives + 2), 1 / (negatives + 2))


def _log_odds(share: float) -> float:
    return float(np.log(share / (1 - share)))


def to_bytes(booster: xgboost.Booster) -> bytes:
    """XGBoost's own binary JSON: no pickle."""
    return bytes(booster.save_raw("ubj"))


def from_bytes(content: bytes) -> xgboost.Booster:
    """Inverse of `to_bytes`. ValueError when the bytes are no model."""
    booster = xgboost.Booster()
    try:
        booster.load_model(bytearray(content))
    except xgboost.core.XGBoostError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"These {len(content)} bytes are no XGBoost model ({reason}). Train it again.") from error
    return booster
