"""Where ids stand among others."""

from __future__ import annotations

import numpy as np


def positions(known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """int64: where each wanted id stands in `known` (unique ids, any order); -1 where it does not."""
    if not len(known):
        return np.full(len(wanted), -1, np.int64)
    order = np.argsort(known, kind="stable")
    at = order[np.minimum(np.searchsorted(known, wanted, sorter=order), len(known) - 1)]
    return np.where(known[at] == wanted, at, -1)
