"""RAM-GNN's warm start: a former night's arrays brought to tonight's users, items, types and values.

In pretraining who is new starts where those are who share an attribute with them, and a new value in the middle of its
type's; the search for a threshold goes on where it was, and one that has ended is not begun again, or its steps would
move everybody every night. In the interaction network everything new starts as it was pretrained.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from models.learning.epochs import parameters_of
from models.ram_gnn_hyperparameters import RAMGNNHyperparameters
from models.ram_gnn_training import SAMPLER, Side

TABLES = ("entities", "types", "values")
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclasses.dataclass(frozen=True)
class Places:
    """Of each of tonight's entities (N,), types (T,) and values (Z,) its row in the former tables, -1 for new ones."""

    entities: np.ndarray
    types: np.ndarray
    values: np.ndarray


def brought_forward(
    former: Mapping[str, np.ndarray],
    sides: Mapping[str, Side],
    places: Mapping[str, Places],
    hyper: RAMGNNHyperparameters,
    seed: int,
) -> dict[str, np.ndarray]:
    """Arrays for `initial` of `train_ram_gnn`, and for `vectors_of`. A side that is new starts cold.

    ValueError where the former arrays are of another shape of model.
    """
    found: dict[str, np.ndarray] = {}
    for name, side in sides.items():
        fresh = parameters_of(side.model(hyper, seed))
        mine = {key.removeprefix(f"{name}."): array for key, array in former.items() if key.startswith(f"{name}.")}
        of_optimiser = f"optimiser.{name}."
        moments = {k.removeprefix(of_optimiser): a for k, a in former.items() if k.startswith(of_optimiser)}
        for key, array in fresh.items():
            kept = mine.get(key, array)
            if key in TABLES:
                kept = _rows(kept, getattr(places[name], key), array) if key in mine else array
                for moment in (m for m in _MOMENTS if f"{key}.{m}" in moments):
                    rows = _rows(moments[f"{key}.{moment}"], getattr(places[name], key), np.zeros_like(array))
                    moments[f"{key}.{moment}"] = rows
            found[f"{name}.{key}"] = kept
        found |= {f"{of_optimiser}{key}": array for key, array in moments.items()}
        if mine:
            place_newcomers(found, name, side, places[name])
        n_types = side.rows.n_types
        for key, start in (("thresholds", np.full(n_types, hyper.threshold)), ("fixed", np.zeros(n_types, bool))):
            of_side = f"{SAMPLER}{name}.{key}"
            found[of_side] = _rows(former[of_side], places[name].types, start) if of_side in former else start
    return found


def interactions_brought_forward(
    former: Mapping[str, np.ndarray], fresh: Mapping[str, np.ndarray], places: Mapping[str, Places],
    sides: Mapping[str, str],
) -> dict[str, np.ndarray]:  # fmt: skip
    """Arrays for `initial` of `train_interactions`. fresh: the parameters of a new network of tonight's, which what is
    new keeps. places: by side; sides: the network's name of each.

    ValueError where the former arrays are of another shape of network.
    """
    found = dict(fresh)
    for key, array in fresh.items():
        side = next((kind for kind, name in sides.items() if key.startswith(f"{name}.")), None)
        moments = [f"optimiser.{key}.{name}" for name in (*_MOMENTS, "step")]
        for one in (name for name in (key, *moments) if name in former):
            start, mine = array if one == key else np.zeros_like(array), places.get(side)
            found[one] = former[one] if one.endswith(".step") else _of_tonight(key, former[one], start, mine)
    return found


def _of_tonight(key: str, former: np.ndarray, fresh: np.ndarray, places: Places | None) -> np.ndarray:
    name = key.rpartition(".")[2]
    if places is None or name not in ("entities", "values", "w3"):
        return former
    if name != "w3":
        return _rows(former, getattr(places, name), fresh)
    d = len(fresh)  # the columns are those of e, then of each type
    widths = np.arange(d // 2)
    columns = [np.where(place < 0, -1, d + place * (d // 2) + widths) for place in places.types]
    every = np.concatenate([np.arange(d), *columns]) if fresh.shape[1] > d else np.arange(d)
    return _rows(former.T, every, fresh.T).T.copy()


def _rows(former: np.ndarray, places: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """The former rows of those who have one, the fresh ones of the others. ValueError where they are of other width."""
    if former.shape[1:] != fresh.shape[1:]:
        found = f"a row of shape {former.shape[1:]} in the checkpoint"
        raise ValueError(f"{found}; expected {fresh.shape[1:]}: it is of other hyperparameters, train without it")
    rows = fresh.copy()
    known = places >= 0
    rows[known] = former[places[known]]
    return rows


def place_newcomers(found: dict[str, np.ndarray], name: str, side: Side, places: Places) -> None:
    """Give new values the mean of their type's known ones, and new entities that of those who share a value: the mean
    over their values of the mean of a value's known members. Without such they keep their random vectors."""
    rows = side.rows
    entities, values = rows.entities.numpy(), rows.values.numpy()
    of_types = side.rows.value_types.numpy()
    known_values, known = places.values >= 0, places.entities >= 0
    table = found[f"{name}.values"]
    means, there = group_means(table[known_values], of_types[known_values], rows.n_types)
    new = ~known_values & there[of_types]
    table[new] = means[of_types[new]]
    vectors = found[f"{name}.entities"]
    told = known[entities]
    means, there = group_means(vectors[entities[told]], values[told], rows.n_values)
    wanted = ~known[entities] & there[values]
    means, there = group_means(means[values[wanted]], entities[wanted], rows.n_entities)
    vectors[there] = means[there]


def group_means(vectors: np.ndarray, groups: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """(float32 (groups, d), the mean of each group's vectors; bool (groups,), has one). groups: int64 (rows,)."""
    sums = np.zeros((n_groups, vectors.shape[1]), np.float64)
    np.add.at(sums, groups, vectors)
    counts = np.bincount(groups, minlength=n_groups)
    return (sums / np.maximum(counts, 1)[:, None]).astype(np.float32), counts > 0
