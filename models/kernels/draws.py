"""Random numbers as a pure function of keys (splitmix64, Steele et al. 2014).

No state: the same on any number of threads.
All keys are uint64; mixing uint64 with Python ints in numba gives floats, hence the constants.
"""

from __future__ import annotations

import numpy as np

from models.kernels.compiling import inlined, kernel

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_30, _27, _31, _32, _ONE = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(32), np.uint64(1)


@inlined
def mix(key):
    """A uint64 that looks random: splitmix64's output function of key + GOLDEN."""
    key = key + GOLDEN
    key = (key ^ (key >> _30)) * _FIRST
    key = (key ^ (key >> _27)) * _SECOND
    return key ^ (key >> _31)


@inlined
def keyed(key, number):
    """The key of the number-th thing drawn under `key`."""
    return mix(key ^ (np.uint64(number) * GOLDEN))


@inlined
def below(key, limit):
    """An int64 in [0, limit), limit < 2^32, from the high bits of a key that `keyed` made."""
    return np.int64(((key >> _32) * np.uint64(limit)) >> _32)


@inlined
def coin(key):
    """0 or 1 from the lowest bit, which `below` does not look at."""
    return np.int64(key & _ONE)


@kernel
def keyed_numbers(keys, columns, out):
    """Fill out (n, columns) float64 with numbers in [0, 1) that depend on keys[i] and the column only."""
    for i in range(keys.shape[0]):
        for j in range(columns):
            out[i, j] = np.float64(keyed(keys[i], j) >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@kernel
def permute(key, order):
    """Shuffle an integer array in place (Fisher-Yates), keyed."""
    for i in range(order.shape[0] - 1, 0, -1):
        j = below(keyed(key, i), i + 1)
        order[i], order[j] = order[j], order[i]


def key_of(*numbers: int) -> np.uint64:
    """One key from several numbers of any size and sign, for calls from Python (numba hands uint64 back as int)."""
    key = 0
    for number in numbers:
        key = int(mix(np.uint64((key ^ number) & 0xFFFFFFFFFFFFFFFF)))
    return np.uint64(key)
