"""AUC of tasks with one bootstrap over users for all vectors, nearest neighbours' lift, and the last line.

Shapes: n users, C classes, B draws of the bootstrap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models.classifiers.precision_recall import bootstrap_weights
from tests.papers.gains import interval

DRAWS = 400
NEIGHBOURS = 10


def auc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """float64 (B,), or () without weights (B, n): share of pairs in the right order, half where they tie; NaN where a
    draw has one class alone. labels: bool (n,)."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.nan) != 0)
    drawn = np.ones((1, len(labels))) if weights is None else weights
    of_positives, of_negatives = (
        np.add.reduceat(np.where(side[order], drawn[:, order], 0.0), starts, axis=1) for side in (labels, ~labels))
    below = np.cumsum(of_negatives, axis=1) - of_negatives / 2
    with np.errstate(invalid="ignore"):
        found = (of_positives * below).sum(axis=1) / (of_positives.sum(axis=1) * of_negatives.sum(axis=1))
    return found[0] if weights is None else found


def mean_auc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Over the classes of (n, C) that have both kinds of users among those with a score."""
    asked = ~np.isnan(scores[:, 0])
    chosen = None if weights is None else weights[:, asked]
    found = [
        auc(y, s, chosen) for y, s in zip(labels[asked].T, scores[asked].T, strict=True) if y.any() and not y.all()]
    return np.nanmean(found, axis=0)


@dataclass(frozen=True)
class Figure:
    """One vector on one task: AUC by fold seed, and the bootstrap of their mean (B,)."""

    by_seed: list[float]
    draws: np.ndarray

    @property
    def auc(self) -> float:
        return float(np.mean(self.by_seed))


def figure(labels: np.ndarray, scores_by_seed: list[np.ndarray]) -> Figure:
    """Every vector of a task is asked of the same users, so that a draw is the same for all."""
    weights = bootstrap_weights(len(labels), DRAWS, np.random.default_rng(0))
    draws = np.mean([mean_auc(labels, scores, weights) for scores in scores_by_seed], axis=0)
    return Figure([float(mean_auc(labels, scores)) for scores in scores_by_seed], draws)


@dataclass(frozen=True)
class Verdict:
    """Ours beside the best peer by the test; behind: hundredths of AUC, below 0 where ours leads."""

    peer: str
    behind: float
    interval: tuple[float, float]

    @property
    def ahead(self) -> bool:
        """Of every peer, or no telling from the best."""
        return self.behind < 0 or self.interval[0] <= 0 <= self.interval[1]


def verdict(ours: Figure, peers: Mapping[str, Figure]) -> Verdict:
    best = max(peers, key=lambda name: peers[name].auc)
    return Verdict(best, 100 * (peers[best].auc - ours.auc), interval(100 * (peers[best].draws - ours.draws)))


def last_line(verdicts: list[Verdict]) -> str:
    ahead, worst = sum(one.ahead for one in verdicts), max(one.behind for one in verdicts)
    return f"ahead: {ahead} of: {len(verdicts)} worst: {worst:.2f}"


def lift(vectors: np.ndarray, labels: np.ndarray) -> float:
    """How much oftener a user's ten nearest by cosine share a class than anybody does: mean over the classes of the
    share among the nearest of those who have it, by the share among all. vectors (n, d), labels bool (n, C)."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    near = np.empty((len(unit), NEIGHBOURS), np.int64)
    for first in range(0, len(unit), 1024):
        part = slice(first, first + 1024)
        likeness = unit[part] @ unit.T
        likeness[np.arange(len(likeness)), np.arange(first, first + len(likeness))] = -np.inf
        near[part] = np.argpartition(-likeness, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    kept = labels[:, labels.any(axis=0)].astype(np.float64)
    shared = np.array([kept[near[kept[:, k] > 0], k].mean() for k in range(kept.shape[1])])
    return float(np.mean(shared / kept.mean(axis=0)))


def effective_rank(vectors: np.ndarray) -> float:
    """e to the entropy of the shares of variance along the principal axes: d where all are alike, 1 where one has all.

    vectors: (n, d).
    """
    of_axes = np.linalg.svd(vectors - vectors.mean(axis=0), compute_uv=False) ** 2
    shares = of_axes[of_axes > 0] / of_axes.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))
