"""What a model's score of an item and the item's popularity tell of which item is chosen next: a conditional logit.

A user chooses item v among those open to him with a probability in proportion to e^(a · s(u, v) + b · ln(1 + n_v)): s
is the score, n_v how many users have touched v. a and b are learned from what was chosen in the past, by maximum
likelihood, among alternatives drawn evenly, which leaves them consistent (McFadden, "Modelling the choice of
residential location", 1978). So the lists of a model that tells little beside popularity become popular ones, and those
of a model that knows it already stay as they are. Shapes: P choices, K alternatives of each, the chosen one first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from models.shapes import expect

LEAST_CHOICES = 100  # fewer teach nothing
_TOLD_APART = 3.84  # chi-squared of one degree of freedom at 95 %: what popularity has to gain in 2 ln likelihood
_PENALTY = 1e-4  # on the squares of both weights, in units of their columns' spread: keeps them finite


@dataclass(frozen=True)
class Weights:
    """a and b; choices: how many they were learned from, 0 where there were too few."""

    score: float = 1.0
    popularity: float = 0.0
    choices: int = 0

    def utilities(self, scores: np.ndarray, n_users_of: np.ndarray) -> np.ndarray:
        """float64, shape of scores (..., m): a · s + b · ln(1 + n); n_users_of (m,), or of the scores' shape."""
        if (self.score, self.popularity) == (1.0, 0.0):
            return scores
        return self.score * scores + self.popularity * np.log1p(n_users_of)


def learn_weights(scores: np.ndarray, n_users_of: np.ndarray, is_open: np.ndarray) -> Weights:
    """From scores (P, K), n_users_of (P, K) and whether an alternative was open to the user (P, K), bool.

    Neither weight is negative. Where popularity adds less than chance may it has none, and the score stands alone as it
    is; so it does with fewer than `LEAST_CHOICES`, or where neither tells anything. ShapeError for tables that do not
    fit together.
    """
    for name, table in (("n_users_of", n_users_of), ("is_open", is_open)):
        expect(name, table, scores.shape, str(table.dtype))
    if len(scores) < LEAST_CHOICES:
        return Weights()
    told = np.stack([scores, np.log1p(n_users_of)], axis=-1).astype(np.float64)
    told -= told[:, :1]  # of the chosen one: the likelihood knows differences alone
    spread = told[is_open].std(axis=0)
    spread[spread == 0] = 1.0
    told /= spread
    closed = np.where(is_open, 0.0, -np.inf)
    closed[:, 0] = 0.0
    alone, without = _fit(told, closed, [(0.0, None), (0.0, 0.0)])
    both, best = _fit(told, closed, [(0.0, None)] * 2)
    if 2 * len(scores) * (without - best) < _TOLD_APART:
        both = alone
    if not both[1]:  # the score's own weight orders nothing anew
        return Weights(choices=len(scores))
    return Weights(*(float(weight) for weight in both / spread), len(scores))


def _fit(told: np.ndarray, closed: np.ndarray, bounds: list[tuple[float, float | None]]) -> tuple[np.ndarray, float]:
    """(weights (2,), mean of -ln likelihood with the penalty)."""

    def objective(weights: np.ndarray) -> tuple[float, np.ndarray]:
        utilities = told @ weights + closed
        highest = utilities.max(axis=1, keepdims=True)
        shares = np.exp(utilities - highest)
        totals = shares.sum(axis=1, keepdims=True)
        shares /= totals
        loss = float((highest + np.log(totals)).mean()) + _PENALTY * float(weights @ weights)  # the chosen one has 0
        return loss, np.einsum("pk,pkf->f", shares, told) / len(told) + 2 * _PENALTY * weights

    found = minimize(objective, np.zeros(2), jac=True, method="L-BFGS-B", bounds=bounds)
    return found.x, float(found.fun)
