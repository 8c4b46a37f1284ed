"""Small worlds for the tests of RAM-GNN: attribute rows at random, and the planted graph as one side."""

from __future__ import annotations

import numpy as np

from models.ram_gnn_sampler import AttributeRows
from models.ram_gnn_training import Side
from tests.models.contract import Planted


def side_of(entities: np.ndarray, values: np.ndarray, value_types: np.ndarray, n_entities: int) -> Side:
    """A side whose keys are the numbers of its entities, types and values."""
    n_types = int(value_types.max(initial=-1)) + 1
    rows = AttributeRows.of(entities, values, value_types, n_entities, n_types)
    keys = (np.arange(n, dtype=np.uint64) + np.uint64(1) for n in (n_entities, n_types, len(value_types)))
    return Side(rows, *keys, tuple(f"type_{t}" for t in range(n_types)))


def random_rows(seed: int = 0, n: int = 12, n_types: int = 3, n_values: int = 7) -> list[tuple[int, int]]:
    """Rows of some entities; value 0 is everybody's, the last one nobody's, the last entity has none."""
    rng = np.random.default_rng(seed)
    pairs = {(i, 0) for i in range(n - 1)}
    pairs |= {(int(rng.integers(n - 1)), int(rng.integers(1, n_values - 1))) for _ in range(3 * n)}
    return sorted(pairs)


def types_of_values(n_types: int = 3, n_values: int = 7) -> np.ndarray:
    """Ascending types, each of which some values have."""
    return np.sort(np.arange(n_values) % n_types).astype(np.int64)


def side_of_planted(data: Planted) -> Side:
    """All of the planted graph as one side: what an entity points at under a relation is a value of that type."""
    found, values = np.unique(data.relations * data.n_entities + data.tails, return_inverse=True)
    return side_of(data.heads, values.astype(np.int64), found // data.n_entities, data.n_entities)
