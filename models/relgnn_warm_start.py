"""RelGNN's warm start: a former night's arrays brought to tonight's relations, node types, attributes and values.

What is new starts as a new model has it, and the optimiser remembers nothing of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclasses.dataclass(frozen=True)
class Shape:
    """What the rows of a model's arrays stand for, by names that hold from night to night.

    relations, types: names. attributes: (name, type) of each, in the model's order; values: of each attribute the ids
    of its categories, int64; none of a number. given_width: of the vectors that go in beside the attributes, 0 for
    none.
    """

    relations: Sequence[str]
    types: Sequence[str]
    attributes: Sequence[tuple[str, str]]
    values: Sequence[np.ndarray]
    given_width: int = 0

    @property
    def kinds(self) -> list[tuple[str, str, bool]]:
        """(name, type, whether it is a number) of each attribute: what became another kind is new."""
        return [(*one, not len(ids)) for one, ids in zip(self.attributes, self.values, strict=True)]


@dataclasses.dataclass(frozen=True)
class _Origin:
    """Where an array goes on from: the former array's name; of each row, and of each column, its former place, -1 for
    new ones, None where all are the same."""

    name: str
    rows: np.ndarray | None = None
    columns: np.ndarray | None = None

    def taken(self, former: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Tonight's array; what is new as in `start`."""
        if self.columns is not None:
            former = _of_places(former.T, self.columns, start.T).T
        return former if self.rows is None else _of_places(former, self.rows, start)


def brought_forward(
    former: Mapping[str, np.ndarray], fresh: Mapping[str, np.ndarray], before: Shape, tonight: Shape
) -> dict[str, np.ndarray]:
    """Arrays for `initial` of `train_relgnn`, and for inference. fresh: the parameters of tonight's new model.

    ValueError where a row or a column is of another width.
    """
    found = dict(fresh)
    for name, start in fresh.items():
        origin = _origin(name, fresh, before, tonight)
        if origin is None or origin.name not in former:
            continue
        found[name] = np.ascontiguousarray(origin.taken(former[origin.name], start))
        for moment in (m for m in (*_MOMENTS, "step") if f"optimiser.{origin.name}.{m}" in former):
            values = former[f"optimiser.{origin.name}.{moment}"]
            own = values if moment == "step" else np.ascontiguousarray(origin.taken(values, np.zeros_like(start)))
            found[f"optimiser.{name}.{moment}"] = own
    return found


def _origin(name: str, fresh: Mapping[str, np.ndarray], before: Shape, tonight: Shape) -> _Origin | None:
    """None for an array of what is new."""
    part, _, last = name.rpartition(".")
    if name == "relations":
        return _Origin(name, _at(before.relations, tonight.relations))
    if name == "inputs.no_given":
        return _Origin(name, _at(before.types, tonight.types))
    if last == "shares" or (last == "bases" and f"{part}.shares" not in fresh):  # a row for each code
        rows = _at(before.relations, tonight.relations)
        return _Origin(name, np.concatenate([rows, np.where(rows < 0, -1, rows + len(before.relations))]))
    if part in ("inputs.tables", "inputs.inner", "inputs.missing"):
        place, values = _at(before.kinds, tonight.kinds)[int(last)], tonight.values[int(last)]
        if place < 0:
            return None
        rows = None
        if part == "inputs.tables" and len(values):
            rows = np.full(len(fresh[name]), -1)
            rows[: len(values)] = _at(before.values[place].tolist(), values.tolist())
        return _Origin(f"{part}.{place}", rows)
    if part in ("inputs.maps", "inputs.biases"):
        place = _at(before.types, tonight.types)[int(last)]
        if place < 0:
            return None
        if part == "inputs.biases":
            return _Origin(f"{part}.{place}")
        width = len(fresh["inputs.missing.0"]) if tonight.attributes else 0
        return _Origin(f"{part}.{place}", None, _columns(int(last), width, before, tonight))
    return _Origin(name)


def _columns(kind: int, width: int, before: Shape, tonight: Shape) -> np.ndarray:
    """The former place of each column of a type's map: those of the given vectors, then `width` for each attribute."""
    name = tonight.types[kind]
    mine, theirs = ([a for a in shape.kinds if a[1] == name] for shape in (tonight, before))
    places = [np.where(place < 0, -1, before.given_width + place * width + np.arange(width))
              for place in _at(theirs, mine)]  # fmt: skip
    given = np.arange(tonight.given_width)
    return np.concatenate([np.where(given < before.given_width, given, -1), *places]).astype(np.int64)


def _at(former: Sequence[Hashable], wanted: Sequence[Hashable]) -> np.ndarray:
    """int64: the place of each wanted one among the former ones, -1 for new ones."""
    places = {one: number for number, one in enumerate(former)}
    return np.array([places.get(one, -1) for one in wanted], np.int64)


def _of_places(former: np.ndarray, places: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The former rows at their places, those of `start` where there is none."""
    if former.shape[1:] != start.shape[1:] or places.max(initial=-1) >= len(former):
        found, least = f"{len(former)} rows of shape {former.shape[1:]} in the checkpoint", places.max(initial=-1) + 1
        expected = f"at least {least} of shape {start.shape[1:]}"
        raise ValueError(f"{found}; expected {expected}: it is of other hyperparameters, train without it")
    rows, known = start.copy(), places >= 0
    rows[known] = former[places[known]]
    return rows
