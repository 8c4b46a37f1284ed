"""What a checkpoint has to be before a job goes on with it, or commits it: whole, of one shape, finite."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping

import numpy as np

FACTS = ("trained_at", "types")
# Of n entities, m relations, dimension d: (kinds of numbers, shape). What else there is has a shape of its own.
ARRAYS = {
    "entity_type": ("iu", "n"),
    "entity_id": ("iu", "n"),
    "source": ("iu", "n"),
    "entities": ("f", "nd"),
    "relation_id": ("iu", "m"),
    "relations": ("f", "md"),
}


def problem_of(arrays: Mapping[str, np.ndarray], facts: Mapping[str, str]) -> str | None:
    """What was found, and what was expected; None where a job can go on with it."""
    missing = [f"array {name!r}" for name in ARRAYS if name not in arrays]
    missing += [f"fact {name!r}" for name in FACTS if name not in facts]
    if missing:
        return f"it lacks {', '.join(missing)}; it has {sorted(arrays)} and {sorted(facts)}"
    return _facts_problem(facts) or _shapes_problem(arrays) or _values_problem(arrays, len(json.loads(facts["types"])))


def _facts_problem(facts: Mapping[str, str]) -> str | None:
    try:
        datetime.date.fromisoformat(facts["trained_at"])
    except (ValueError, TypeError):
        return f"trained_at is {facts['trained_at']!r}; expected a date"
    try:
        types = json.loads(facts["types"])
    except (ValueError, RecursionError):
        types = None
    if not isinstance(types, list) or not all(isinstance(name, str) for name in types):
        return f"types is {facts['types'][:100]!r}; expected a JSON list of entity types"
    return None


def _shapes_problem(arrays: Mapping[str, np.ndarray]) -> str | None:
    sizes: dict[str, int] = {}
    for name, (kinds, shape) in ARRAYS.items():
        array = arrays[name]
        if array.dtype.kind not in kinds or array.ndim != len(shape):
            numbers = "floats" if kinds == "f" else "whole numbers"
            return f"array {name!r} is {array.dtype} of shape {array.shape}; expected {numbers} of {len(shape)} axes"
        for axis, size in zip(shape, array.shape, strict=True):
            if sizes.setdefault(axis, size) != size:
                first = next(one for one in ARRAYS if axis in ARRAYS[one][1])
                return f"array {name!r} is of shape {array.shape}, {first!r} of {arrays[first].shape}: they do not fit"
    return None


def _values_problem(arrays: Mapping[str, np.ndarray], n_types: int) -> str | None:
    of_types = arrays["entity_type"]
    if len(of_types) and not 0 <= of_types.min() <= of_types.max() < n_types:
        return f"entity_type reaches from {of_types.min()} to {of_types.max()}; expected 0 to {n_types - 1}"
    for name, array in arrays.items():
        if array.dtype.kind == "f" and (wrong := int((~np.isfinite(array)).sum())):
            return f"{wrong} of the {array.size} numbers of array {name!r} are not finite; expected all finite"
    return None
