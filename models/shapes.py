"""Shape suffixes used in `models/`, and the check that a public function makes at its border.

A tensor's name ends in one letter per axis: `h_ND` is a matrix with one row per entity, one column per dimension.

    N  entities of the graph          D  dimension of the vectors
    S  source nodes of a message      V  destination nodes of a message
    E  messages (directed edges)      M  relations
    C  relation codes: r for a relation, M + r for the same one reversed
    B  positive pairs in a batch      K  negatives for each positive pair
    P  pairs (source node, code)      H  attention heads, each W wide: D = H · W
    Y  a key and a value side by side: 2 · D numbers
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


class ShapeError(ValueError):
    """An array does not have the shape or the dtype that the function documents."""


def expect(name: str, array: np.ndarray | torch.Tensor, shape: tuple[int | None, ...], dtype: str) -> None:
    """Raise ShapeError unless `array` has `shape` (None: any length) and the `dtype` named, as "float32" or "int64"."""
    found, found_dtype = tuple(array.shape), str(array.dtype).removeprefix("torch.")
    fits = len(found) == len(shape) and all(want in (None, have) for want, have in zip(shape, found, strict=True))
    if not fits or found_dtype != dtype:
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        has, expected = f"shape {found} and dtype {found_dtype}", f"shape ({wanted}) and dtype {dtype}"
        raise ShapeError(f"{name} has {has}; expected {expected}")


def expect_indices(name: str, indices: np.ndarray, below: int, what: str) -> None:
    """Raise ShapeError unless `indices` is an int64 vector with every value in [0, below).

    what: names what it indexes.
    """
    expect(name, indices, (None,), "int64")
    if indices.size and (int(indices.min()) < 0 or int(indices.max()) >= below):
        raise ShapeError(
            f"{name} has values from {int(indices.min())} to {int(indices.max())}; expected dense indices of {what}, "
            f"from 0 to {below - 1}"
        )
