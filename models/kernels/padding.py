"""Tables laid out for the kernels."""

from __future__ import annotations

import numpy as np

_LANES = 16  # float32 numbers in a 512-bit register: rows are padded to a multiple, so that no loop has a remainder


def padded(table: np.ndarray) -> np.ndarray:
    """A copy with rows padded with zeros to a multiple of 16 numbers and aligned to cache lines."""
    rows, dimension = table.shape
    width = -(-dimension // _LANES) * _LANES
    memory = np.zeros(rows * width + _LANES, np.float32)
    first = (-memory.ctypes.data // memory.itemsize) % _LANES
    out = memory[first : first + rows * width].reshape(rows, width)
    out[:, :dimension] = table
    return out
