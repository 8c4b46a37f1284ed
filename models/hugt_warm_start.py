"""HUGT's parameters of one night for the items and histories of another."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from models.hugt_graph import nearest_known
from models.learning.epochs import Arrays
from models.shapes import ShapeError

NEAREST = 10  # known items whose mean a new one begins with
_OF_ITEMS = ("items", "biases")


def brought_forward(
    former: Mapping[str, np.ndarray], fresh: Mapping[str, np.ndarray], places: np.ndarray, vectors: np.ndarray
) -> Arrays:
    """The former arrays (parameters, and what the optimiser remembers of them) for tonight's items.

    fresh: a new model's parameters, for shapes. places: int64 (items,), where each of tonight's stood, -1 for new ones.
    vectors: tonight's of `item_vectors`: a new item begins with the mean of its nearest known ones, or of all known
    where nobody is near. Positions longer ago than the former model knew have what its longest ago had. ShapeError for
    a former model of another shape.
    """
    known = places >= 0
    new = np.flatnonzero(~known)
    nearest = nearest_known(vectors, known, new, NEAREST)
    found = {}
    for name, array in former.items():
        own = name.removeprefix("optimiser.")
        parameter = own if own in fresh else own.rpartition(".")[0]
        if parameter not in fresh:
            raise ShapeError(f"array {name!r} of the former model is of no parameter of this one")
        if array.shape == ():  # the optimiser's step
            found[name] = array
        elif parameter in _OF_ITEMS:
            found[name] = _of_items(array, places, known, new, nearest, is_moment=name != own)
        elif parameter.endswith(".psi"):
            found[name] = _of_positions(array, fresh[parameter].shape[1])
        else:
            found[name] = array
    return found


def _of_items(
    array: np.ndarray, places: np.ndarray, known: np.ndarray, new: np.ndarray, nearest: np.ndarray, is_moment: bool
) -> np.ndarray:
    out = np.zeros((len(places), *array.shape[1:]), array.dtype)
    out[known] = array[places[known]]
    if is_moment or not known.any():
        return out
    middle = out[known].mean(axis=0)
    for row, others in zip(new, nearest, strict=True):
        there = others[others >= 0]
        out[row] = out[there].mean(axis=0) if len(there) else middle
    return out


def _of_positions(array: np.ndarray, length: int) -> np.ndarray:
    kept = array[:, :length]
    return np.concatenate([kept, np.repeat(kept[:, -1:], length - kept.shape[1], axis=1)], axis=1)
