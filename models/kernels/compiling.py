"""How the kernels are compiled: without the GIL, with reordered float32 sums, and kept on disk between nights.

The compiled code is cached beside the source (`__pycache__`), or where `NUMBA_CACHE_DIR` says; where the installed package is
read-only, numba falls back to the user's cache folder, and without any writable folder each process compiles anew (10 to 20 s).
A file's cache is dropped when *that file* changes: kernels that inline a function of another file keep its old code until then.
For that reason what a kernel inlines stands in `translation.py` itself, or in `draws.py`, which never changes its numbers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import numba

# every fast-math freedom but the two that would let the compiler assume away NaN and infinity
FAST_MATH = {"reassoc", "nsz", "arcp", "contract", "afn"}

Function = TypeVar("Function", bound=Callable)
_logger = logging.getLogger(__name__)


def kernel(function: Function) -> Function:
    """Compile at the first call, release the GIL while running, cache on disk if a folder can be written."""
    try:
        return numba.njit(nogil=True, fastmath=FAST_MATH, cache=True, error_model="numpy")(function)
    except RuntimeError as error:  # numba: "cannot cache function ...: no locator available"
        if "no locator" not in str(error):
            raise
        _logger.warning("%s; it is compiled again by every process. Set NUMBA_CACHE_DIR to a writable folder", error)
        return numba.njit(nogil=True, fastmath=FAST_MATH, error_model="numpy")(function)
