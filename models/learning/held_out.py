"""Who is held out of a training: chosen by keys, so that a night looks at what the nights before did not learn."""

from __future__ import annotations

import numpy as np


def first_by_key(keys: np.ndarray, wanted: int) -> np.ndarray:
    """bool (n,): the `wanted` ones whose keys come first. keys: uint64 (n,), a random number of each, of the seed and
    of who it is.

    Whoever comes or goes moves the last of them alone; by places in a table he would move all.
    """
    chosen = np.zeros(len(keys), bool)
    if 0 < wanted < len(keys):
        chosen[np.argpartition(keys, wanted - 1)[:wanted]] = True
    elif wanted:
        chosen[:] = True
    return chosen
