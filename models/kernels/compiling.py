"""How the kernels are compiled: without the GIL, with reordered float32 sums, and kept on disk between nights.

The compiled code is cached beside the source (`__pycache__`), or where `NUMBA_CACHE_DIR` says; where the installed
package is read-only, numba falls back to the user's cache folder, and without any writable folder each process compiles
anew (10 to 20 s). numba drops a file's cache when that file changes; here a kernel also holds what it inlines from the
other files of this folder, so the stamp of every cache is the content of all of them.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar

import numba
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

# every fast-math freedom but the two that would let the compiler assume away NaN and infinity
FAST_MATH = {"reassoc", "nsz", "arcp", "contract", "afn"}

Function = TypeVar("Function", bound=Callable)
_logger = logging.getLogger(__name__)


def kernel(function: Function) -> Function:
    """Compile at the first call, release the GIL while running, cache on disk if a folder can be written."""
    return _compiled(function, nogil=True)


def inlined(function: Function) -> Function:
    """A part of kernels, put into each of them whole.

    A call costs more than a short loop, and hides the row from the optimiser.
    """
    return _compiled(function, nogil=True, forceinline=True)


def _compiled(function: Function, **options: bool) -> Function:
    options |= {"fastmath": FAST_MATH, "error_model": "numpy"}
    try:
        dispatcher = numba.njit(cache=True, **options)(function)
    except RuntimeError as error:  # numba: "cannot cache function ...: no locator available"
        if "no locator" not in str(error):
            raise
        _logger.warning("%s; it is compiled again by every process. Set NUMBA_CACHE_DIR to a writable folder", error)
        return numba.njit(**options)(function)
    dispatcher._cache._cache_file._source_stamp = _sources_stamp()
    return dispatcher


@cache
def _sources_stamp() -> str:
    """A hash of every source file of this folder."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


@intrinsic
def prefetch(typing_context, table, row, column):  # noqa: ANN001, ANN201
    """Ask for the cache line of table[row, column] (2-D, C order) ahead of its use.

    Reads nothing, so any address is safe.
    """

    def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        strides = cgutils.unpack_tuple(builder, array.strides)
        offset = builder.add(builder.mul(arguments[1], strides[0]), builder.mul(arguments[2], strides[1]))
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        address = builder.inttoptr(builder.add(builder.ptrtoint(array.data, offset.type), offset), byte)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        instruction = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        builder.call(instruction, [address, number(0), number(3), number(1)])  # to read, keep close, data
        return context.get_dummy_value()

    return types.void(table, row, column), generate
