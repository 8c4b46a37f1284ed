"""Where ids stand among others."""

from __future__ import annotations

import numpy as np

from models.places import positions


def test_places_are_found_whatever_the_order() -> None:
    assert positions(np.array([5, 9, 3]), np.array([7, 3, 5, 9])).tolist() == [-1, 2, 0, 1]
    assert positions(np.array([], np.int64), np.array([7, 3])).tolist() == [-1, -1]
    assert len(positions(np.array([1]), np.array([], np.int64))) == 0
