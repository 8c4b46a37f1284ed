"""Frozen questions: what somebody who learned from vectors once makes of those of a later night.

A question has a known answer. Of a class, who is in it: a logistic regression that learned from vectors of the night on
which the questions were frozen has to tell the rest by the vectors of any night after it, or whoever downstream learned
from the vectors cannot go on with them. Of a pair, which of two items is the user's: the model's own comparison tells.

Either is counted in AUC, 1 for all answers and 0.5 for guesses. Of neighbours it is the share of each user's ten
nearest that are as they were.
How far two nights differ is told from the same users, by the placements of DeLong, DeLong and Clarke-Pearson (1988): of
each user in a class the share of those not in it whom he is ahead of, and of each of those the share of users in it who
are ahead of him. An AUC is the mean of either, and its variance, or that of a weighted difference of two, the sum of
both variances of the mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.vectors.alignment import nearest_rows

CHANCE, NEAREST = 0.5, 10
FEWEST = 20  # of either answer, for a figure
ERRORS = 3.0  # standard errors by which a night has to fall short before it counts
_PENALTY = 0.1  # C of the logistic regression; vectors are brought to unit variance


@dataclass(frozen=True)
class Answers:
    """How one night answers. of_class (m,), of_rest (n,): placements in [0, 1] of the users with either answer; where
    users have one question each, of_class alone."""

    of_class: np.ndarray
    of_rest: np.ndarray | None = None

    @property
    def sides(self) -> list[np.ndarray]:
        return [side for side in (self.of_class, self.of_rest) if side is not None]

    @property
    def n(self) -> int:
        return sum(map(len, self.sides))

    @property
    def figure(self) -> float:
        """The AUC, or the share of answers that are right."""
        return float(self.of_class.mean())

    @property
    def enough(self) -> bool:
        """Whether there are questions enough to tell something by."""
        return min(map(len, self.sides)) >= FEWEST


def teach(vectors: np.ndarray, is_of_class: np.ndarray) -> np.ndarray:
    """float64 (d,): a linear score of vectors (n, d) that tells who is of the class, bool (n,). ValueError with one
    class alone."""
    from sklearn.linear_model import LogisticRegression  # late: a first night learns nothing

    mean, spread = vectors.mean(0, dtype=np.float64), vectors.std(0, dtype=np.float64) + 1e-12
    model = LogisticRegression(C=_PENALTY, max_iter=1000).fit((vectors - mean) / spread, is_of_class)
    return model.coef_[0] / spread


def classify(weights: np.ndarray, vectors: np.ndarray, is_of_class: np.ndarray) -> Answers:
    """What weights (d,) say of vectors (n, d), whose answers bool (n,) are known."""
    scores = vectors.astype(np.float64) @ weights
    ours, rest = scores[is_of_class], scores[~is_of_class]
    return Answers(_share_below(ours, rest), 1 - _share_below(rest, ours))


def compare(own: np.ndarray, other: np.ndarray) -> Answers:
    """Distances (n,) to each user's own item and to one that is not his; equal ones count half."""
    return Answers((own < other) + 0.5 * (own == other))


def remain(frozen: np.ndarray, vectors: np.ndarray) -> Answers:
    """Which share of the ten nearest by vectors (n, d) are those by `frozen` (n, d), of each user among all, who are
    more than ten. Guessing gives less than 0.5."""
    rows = np.arange(len(vectors))
    was, now = (nearest_rows(each, rows, NEAREST) for each in (frozen, vectors))
    return Answers(np.array([np.isin(a, b, assume_unique=True).mean() for a, b in zip(now, was, strict=True)]))


def falls_short(now: Answers, then: Answers, kept: float) -> bool:
    """Whether `now` lacks the share `kept` of the lead over guessing that `then` has, of the same users, by more than
    chance explains. Where `then` has no lead there is none to lose."""
    if then.figure <= CHANCE:
        return False
    lacking = kept * (then.figure - CHANCE) - (now.figure - CHANCE)
    variance = sum(np.var(a - kept * b, ddof=1) / len(a) for a, b in zip(now.sides, then.sides, strict=True))
    return bool(lacking > ERRORS * np.sqrt(variance))


def _share_below(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n,): of each score the share of others (m,) below it, equal ones by half."""
    ranked = np.sort(others)
    both = np.searchsorted(ranked, scores, "left") + np.searchsorted(ranked, scores, "right")
    return both / (2 * max(len(ranked), 1))
