"""What reads a user's vector in `make paper-vectors`: logistic regression, and XGBoost.

Columns are standardised on who trains. Own history stands beside the vector without a penalty: its columns are
stretched so far that the penalty of their weights is none. Shapes: n users, d columns, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xgboost
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold

from tests.papers.vector_tasks import Task

PENALTIES = (0.0001, 0.001, 0.01, 0.1, 1.0)  # C of scikit-learn: the lower, the stronger
UNPENALISED = 100.0  # own history's standard deviation beside the vector's 1
FOLDS = 5
TREES = {
    "objective": "binary:logistic", "max_depth": 3, "eta": 0.1, "subsample": 0.8, "colsample_bytree": 0.5,
    "min_child_weight": 5.0, "max_bin": 64, "tree_method": "hist", "nthread": 1}  # fmt: skip
ROUNDS = 60
Scores = np.ndarray  # float32 (n, C): margins; NaN where a user was not asked


def head_names() -> list[str]:
    return [*(f"logistic {penalty}" for penalty in PENALTIES), "xgboost"]


def inputs(vectors: np.ndarray | None, own: np.ndarray | None, train: np.ndarray) -> np.ndarray:
    """float64 (n, d): standardised on the rows `train`; vectors (n, d) or None, own (n, H) or None."""
    parts = []
    for part, stretch in ((vectors, 1.0), (own, UNPENALISED)):
        if part is not None:
            mean, deviation = part[train].mean(axis=0), part[train].std(axis=0)
            parts.append((part - mean) / np.where(deviation > 1e-12, deviation, 1.0) * stretch)
    return np.concatenate(parts, axis=1).astype(np.float64)


def margins(head: str, x: np.ndarray, labels: np.ndarray, train: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """float32 (asked,): of a class that the rows `train` all have or all lack, 0."""
    y = labels[train]
    if y.all() or not y.any():
        return np.zeros(len(asked), np.float32)
    if head == "xgboost":
        booster = xgboost.train(TREES, xgboost.DMatrix(x[train], y), ROUNDS)
        return booster.predict(xgboost.DMatrix(x[asked]), output_margin=True)
    model = LogisticRegression(C=float(head.removeprefix("logistic ")), solver="newton-cholesky", tol=1e-3)
    model.fit(x[train], y)
    return model.decision_function(x[asked]).astype(np.float32)


def cross_scores(
    head: str, task: Task, vectors: np.ndarray | None, asked: np.ndarray, always: np.ndarray, seed: int
) -> Scores:
    """Scores of the users `asked` (row numbers of the task), each by what learned from the other folds of them, and
    from those who `always` train. vectors: float (n, d), of the task's users, or None: own history alone."""
    found = np.full(task.labels.shape, np.nan, np.float32)
    for train, test in splits(asked, always, seed):
        x = None if task.own is not None else inputs(vectors, None, train)
        for k in range(task.labels.shape[1]):
            given = inputs(vectors, task.own[:, k], train) if x is None else x
            found[test, k] = margins(head, given, task.labels[:, k], train, test)
    return found


def splits(asked: np.ndarray, always: np.ndarray, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(who trains, who is asked), by fold."""
    for rest, test in KFold(FOLDS, shuffle=True, random_state=seed).split(asked):
        yield np.concatenate([always, asked[rest]]), asked[test]
