"""The classifier of profiles, one of several classes: boosted trees over the users' vectors, calibrated probabilities.

Who trains and who tests is fixed by `folds.py`, for ever: A trains models that learn from labels (RHGN), B trains and
calibrates the classifier, C tests both and trains nothing. Early stopping and calibration happen inside B by
cross-validation, so that no user of C is needed for them.

Shapes: n users, F features, K classes. The class named is the likeliest by calibrated probability.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.metrics import confusion_matrix, f1_score

from models.classifiers.precision_recall import calibration_curve
from models.classifiers.trees import xgboost
from models.hyperparameters import TreeHyperparameters
from models.shapes import expect, expect_indices

_SLOPES = (1e-3, 10.0)  # a calibration must not turn the ranking around, nor run away where the classes part
_USERS_PER_GROUP = 50  # of a reliability curve: fewer are noise
_DRAWS = 1000  # of a bootstrap
_RIDGE = 1e-3  # on the biases, whose common part the softmax leaves free


class TooFewUsers(ValueError):
    """A classifier cannot be trained on so few classes or users."""


@dataclass(frozen=True)
class Calibration:
    """probabilities = softmax(slope · margins + biases).

    Temperature scaling (Guo et al. 2017) with a bias per class, which undoes class weights.
    """

    slope: float
    biases: tuple[float, ...]

    def __call__(self, margins: np.ndarray) -> np.ndarray:
        """float32 (n, K), rows that add up to 1."""
        return softmax(self.slope * margins.astype(np.float64) + np.array(self.biases), axis=1).astype(np.float32)


@dataclass(frozen=True)
class Classifier:
    """Trees and the calibration of their margins."""

    booster: xgboost.Booster
    calibration: Calibration
    rounds: int

    def probabilities(self, features: np.ndarray, threads: int = 2) -> np.ndarray:
        """float32 (n, K) for features float32 (n, F), NaN where missing."""
        expect("features", features, (None, self.booster.num_features()), "float32")
        if not len(features):
            return np.zeros((0, len(self.calibration.biases)), np.float32)
        self.booster.set_param({"nthread": threads})
        return self.calibration(self.booster.inplace_predict(features, predict_type="margin"))


def fit(
    features: np.ndarray,
    labels: np.ndarray,
    order: np.ndarray,
    hyper: TreeHyperparameters,
    seed: int,
    parts: int = 5,
    class_weights: bool = True,
) -> Classifier:
    """Train on fold B, as many rounds as serve best over `parts` parts that take turns.

    Calibrated on what each part was predicted without itself.
    features float32 (n, F), NaN where missing; labels int64 (n,) in [0, K). order (n,): a draw of each user's own,
    deals users into parts. TooFewUsers when there are fewer than two classes, or a class with fewer users than parts.
    """
    expect("features", features, (len(labels), None), "float32")
    counts = np.bincount(labels)
    expect_indices("labels", labels, max(len(counts), 1), "classes")
    if len(counts) < 2 or counts.min() < parts:
        expected = f"expected two classes or more, each with at least {parts} users"
        raise TooFewUsers(f"Classes have {counts.tolist()} users; {expected}. Label more users.")
    weights = (len(labels) / (len(counts) * counts))[labels] if class_weights else np.ones(len(labels))
    parameters = {
        "objective": "multi:softprob",
        "num_class": len(counts),
        "tree_method": "hist",
        "max_depth": hyper.max_depth,
        "eta": hyper.learning_rate,
        "subsample": hyper.subsample,
        "colsample_bytree": hyper.colsample,
        "min_child_weight": hyper.min_child_weight,
        "nthread": hyper.threads,
        "seed": seed,
    }
    rounds, margins = _cross_validated(features, labels, weights, parts_of(labels, order, parts), parameters, hyper)
    everybody = xgboost.QuantileDMatrix(features, labels, weight=weights, nthread=hyper.threads)
    return Classifier(xgboost.train(parameters, everybody, rounds), calibrate(margins, labels), rounds)


def parts_of(labels: np.ndarray, order: np.ndarray, parts: int) -> np.ndarray:
    """int64 (n,): which part a user is in; each class is dealt out evenly, in the order given."""
    found = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        found[mine[np.argsort(order[mine], kind="stable")]] = np.arange(len(mine)) % parts
    return found


def _cross_validated(
    features: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    part: np.ndarray,
    parameters: dict[str, Any],
    hyper: TreeHyperparameters,
) -> tuple[int, np.ndarray]:
    """(rounds with the lowest loss on parts left out, margins (n, K) of each user).

    The margins are by the trees of that round that did not see the user.
    """
    turns = []
    for left_out in np.unique(part):
        inside, outside = part != left_out, part == left_out
        given = {"label": labels[inside], "weight": weights[inside], "nthread": hyper.threads}
        train = xgboost.QuantileDMatrix(features[inside], **given)  # a byte per feature
        watch = xgboost.QuantileDMatrix(features[outside], nthread=hyper.threads, ref=train)
        turns.append((outside, xgboost.Booster(parameters, [train, watch]), train, watch))
    margins = np.empty((len(labels), parameters["num_class"]), np.float32)
    best, lowest, best_margins = 0, np.inf, margins.copy()
    for number in range(hyper.rounds):
        for outside, booster, train, watch in turns:
            booster.update(train, number)
            margins[outside] = booster.predict(watch, output_margin=True)
        loss = -np.average(log_softmax(margins, axis=1)[np.arange(len(labels)), labels], weights=weights)
        if loss < lowest:
            best, lowest, best_margins = number, loss, margins.copy()
        elif number - best >= hyper.early_stopping_rounds:
            break
    return best + 1, best_margins


def calibrate(margins: np.ndarray, labels: np.ndarray) -> Calibration:
    """The slope and biases under which the labels are likeliest, on users as they are (unweighted).

    margins (n, K) of trees that did not see the user.
    """
    x, n, classes = margins.astype(np.float64), len(labels), margins.shape[1]
    truth = np.eye(classes)[labels]

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        slope, biases = parameters[0], parameters[1:]
        logits = log_softmax(slope * x + biases, axis=1)
        error = np.exp(logits) - truth
        gradient = np.append((error * x).sum() / n, error.mean(axis=0) + 2 * _RIDGE * biases / n)
        return float(-(logits * truth).sum() / n + _RIDGE * (biases**2).sum() / n), gradient

    start, bounds = np.append(1.0, np.zeros(classes)), [_SLOPES, *[(None, None)] * classes]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return Calibration(float(found[0]), tuple(float(b) for b in found[1:]))


def figures(labels: np.ndarray, probabilities: np.ndarray, majority: int, seed: int = 0) -> dict[str, Any]:
    """How good predictions are on users who trained nothing, beside always naming the class `majority`.

    labels int64 (n,), probabilities (n, K).
    `confusion`: a row per true class, a column per predicted one. `reliability`: users by the probability of the class
    named, in ten groups, or in fewer of 50 where users are few; `ece` is the mean distance of said and observed,
    weighted by users. Macro-F1 is over the classes that are true or named.
    `…_interval`: [low, high] that hold 95 % of what users drawn with replacement from these, by `seed`, give.
    """
    named, everyone = probabilities.argmax(axis=1), np.arange(len(labels))
    confusion = confusion_matrix(labels, named, labels=np.arange(probabilities.shape[1]))
    groups = int(np.clip(len(labels) // _USERS_PER_GROUP, 1, 10))
    reliability = calibration_curve(named == labels, probabilities[everyone, named], groups)
    gaps = [abs(group["predicted"] - group["observed"]) * group["n"] for group in reliability]
    of_the_truth = np.maximum(probabilities[everyone, labels], 1e-12)
    return {
        "n": len(labels),
        "accuracy": float((named == labels).mean()),
        "macro_f1": macro_f1(labels, named),
        "majority_accuracy": float((labels == majority).mean()),
        "majority_macro_f1": macro_f1(labels, np.full(len(labels), majority)),
        "log_loss": float(-np.log(of_the_truth).mean()),
        "ece": float(sum(gaps) / len(labels)),
        "reliability": reliability,
        "confusion": confusion.tolist(),
        **intervals(confusion, seed),
    }


def intervals(confusion: np.ndarray, seed: int, draws: int = _DRAWS) -> dict[str, list[float]]:
    """95 % percentile intervals of accuracy and macro-F1 by a bootstrap over users.

    confusion (K, K): users by true and named class, one at least.
    Both figures hang on the confusion matrix alone, and users drawn with replacement fill its cells by a multinomial
    law: no draw goes over the users.
    """
    n, n_classes, random = int(confusion.sum()), len(confusion), np.random.default_rng(seed)
    true, named = np.nonzero(confusion)
    shares, right, found = confusion[true, named] / n, true == named, np.empty((draws, 2))
    for draw in range(draws):
        users = random.multinomial(n, shares)
        hits = np.bincount(true[right], users[right], n_classes)
        either = np.bincount(true, users, n_classes) + np.bincount(named, users, n_classes)
        found[draw] = hits.sum() / n, (2 * hits[either > 0] / either[either > 0]).mean()
    low, high = np.percentile(found, (2.5, 97.5), axis=0)
    return {f"{name}_interval": [float(low[i]), float(high[i])] for i, name in enumerate(("accuracy", "macro_f1"))}


def macro_f1(labels: np.ndarray, named: np.ndarray) -> float:
    """The mean over classes of F1; a class that is never named rightly counts 0."""
    return float(f1_score(labels, named, average="macro", zero_division=0))
