"""Precision and recall of a ranking: PR-AUC with bootstrap intervals, and the curves that a report draws.

Shapes: n users; B bootstrap draws; P points of a curve. Labels are bool, scores any float (higher is likelier).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.shapes import ShapeError

_CHUNK_CELLS = 8_000_000  # bootstrap weights held at a time: draws × users


@dataclass(frozen=True)
class Interval:
    """A figure with its bootstrap interval."""

    value: float
    low: float
    high: float


def average_precision(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray | float:
    """PR-AUC as the sum over thresholds of precision × gain in recall, ties taken together (scikit-learn's definition).

    labels (n,), scores (n,). weights (n,) or (B, n): how often each user counts; (B, n) gives (B,). NaN without
    positives.
    """
    if scores.shape != labels.shape or labels.dtype != bool:
        found = f"labels have shape {labels.shape} and dtype {labels.dtype}, scores shape {scores.shape}"
        raise ShapeError(f"{found}; expected the same (n,), labels bool")
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True)) if len(scores) else np.zeros(0, np.int64)
    counts = np.ones(len(labels)) if weights is None else weights
    counts = counts[..., order].astype(np.float64, copy=False)
    reached = np.cumsum(counts * labels[order], axis=-1)[..., last]
    contacted = np.cumsum(counts, axis=-1)[..., last]
    gained = np.diff(reached, axis=-1, prepend=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(contacted > 0, reached / contacted, 0)
        result = (precision * gained).sum(axis=-1) / (reached[..., -1] if len(last) else 0.0)
    return float(result) if result.ndim == 0 else result


def bootstrap_weights(n: int, draws: int, random: np.random.Generator) -> np.ndarray:
    """(draws, n) int32: how often each of n users is drawn when n are drawn with replacement."""
    weights = np.empty((draws, n), np.int32)
    for row in weights:
        row[:] = np.bincount(random.integers(0, n, n), minlength=n)
    return weights


def average_precision_interval(
    labels: np.ndarray, scores: np.ndarray, draws: int, seed: int, level: float = 0.95
) -> Interval:
    """PR-AUC with its percentile interval over users drawn with replacement.

    Memory does not grow with draws × users.
    """
    value = average_precision(labels, scores)
    if draws < 1 or not labels.any():
        return Interval(float(value), float("nan"), float("nan"))
    random, found = np.random.default_rng(seed), []
    step = max(1, _CHUNK_CELLS // len(labels))
    for start in range(0, draws, step):
        weights = bootstrap_weights(len(labels), min(step, draws - start), random)
        found.append(average_precision(labels, scores, weights))
    low, high = np.nanquantile(np.concatenate(found), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(value), float(low), float(high))


def precision_at(labels: np.ndarray, scores: np.ndarray, k: int) -> float:
    """Share of positives among the k highest scores (among all, where there are fewer); NaN for none."""
    top = np.argsort(-scores, kind="stable")[:k]
    return float(labels[top].mean()) if len(top) else float("nan")


def curves(labels: np.ndarray, scores: np.ndarray, points: int = 50) -> dict[str, list[float]]:
    """A PR curve and a cumulative gain curve at `points` even steps.

    `recall`, `precision`: the precision where that recall is first reached. `share_contacted`, `share_reached`:
    positives among the first so many users of the ranking. Ties are broken by position; order the users by something
    that knows nothing of labels.
    """
    hits = labels[np.argsort(-scores, kind="stable")]
    reached, contacted = np.cumsum(hits), np.arange(1, len(hits) + 1)
    recall = np.linspace(1 / points, 1, points)
    if not len(hits) or not reached[-1]:
        return {"recall": [], "precision": [], "share_contacted": [], "share_reached": []}
    at = np.searchsorted(reached, np.ceil(recall * reached[-1] - 1e-9))
    share = np.linspace(0, 1, points)
    taken = np.round(share * len(hits)).astype(np.int64)
    gain = np.append(0, reached)[taken] / reached[-1]
    return {
        "recall": _rounded(recall),
        "precision": _rounded(reached[at] / contacted[at]),
        "share_contacted": _rounded(taken / len(hits)),
        "share_reached": _rounded(gain),
    }


def calibration_curve(labels: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> list[dict[str, float]]:
    """Users in `bins` groups of equal size by predicted probability: mean predicted, share observed, n."""
    groups = np.array_split(np.argsort(probabilities, kind="stable"), bins)

    def mean(values: np.ndarray) -> float:
        return round(float(values.mean()), 6)

    return [
        {"predicted": mean(probabilities[users]), "observed": mean(labels[users]), "n": len(users)}
        for users in groups
        if len(users)
    ]


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(v), 6) for v in values]
