"""A training whose numbers are finite no more: told before any of it is looked at, kept or gone on from.

No comparison with NaN is true, so that a model of NaN alone ranks every answer first: no look tells of it.
"""

from __future__ import annotations

import math

import numpy as np

_DIVERGED = "the model has diverged, lower its learning rate"


class Diverged(ValueError):
    """A training's numbers are finite no more: which, and what to do."""


def require_finite(name: str, array: np.ndarray) -> None:
    """Diverged where a number is not finite."""
    wrong = array.size - np.count_nonzero(np.isfinite(array))
    if wrong:
        raise Diverged(f"{name} holds {wrong} numbers of {array.size} that are not finite; {_DIVERGED}")


def require_finite_loss(loss: float, epoch: int) -> None:
    """Diverged where it is not finite. epoch: 0-based."""
    if not math.isfinite(loss):
        raise Diverged(f"the loss of epoch {epoch + 1} is {loss}; {_DIVERGED}")
