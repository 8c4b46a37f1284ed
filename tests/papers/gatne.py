"""GATNE's Amazon graph with its own split: two relations between products, given negatives, no attributes."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.learning.initialisation import keyed_vectors
from models.relgnn_training import Triples, World

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "gatne-amazon"
Labelled = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # heads, relations, tails, is true


@dataclass(frozen=True)
class Split:
    """Training edges over a dense index of the nodes, and labelled edges that choose and that test."""

    triples: Triples
    validation: Labelled
    test: Labelled

    def world(self, dimension: int, seed: int) -> World:
        """The nodes have nothing but a vector of their own, which is learned."""
        bound = (3 / dimension) ** 0.5
        return World(self.triples, (), keyed_vectors(self.triples.entity_keys, dimension, seed, bound), True)


def read_split(folder: Path = FOLDER) -> Split:
    """The graph. FileNotFoundError where the data is not beside the repository."""
    training, validation, test = (_rows(folder / name) for name in ("train.txt.gz", "valid.txt", "test.txt.gz"))
    raw = np.unique(training[:, 1:])
    relations = np.unique(training[:, 0])
    columns = np.searchsorted(raw, training[:, 1]), np.searchsorted(relations, training[:, 0])
    tails, nothing = np.searchsorted(raw, training[:, 2]), np.zeros(len(relations), np.int64)
    keys = raw.astype(np.uint64), relations.astype(np.uint64)
    triples = Triples(*columns, tails, np.zeros(len(raw), np.int64), nothing, nothing, *keys)

    def labelled(rows: np.ndarray) -> Labelled:
        heads, tails = (np.searchsorted(raw, rows[:, column]) for column in (1, 2))
        return heads, np.searchsorted(relations, rows[:, 0]), tails, rows[:, 3].astype(bool)

    return Split(triples, labelled(validation), labelled(test))


def _rows(path: Path) -> np.ndarray:
    """int64 (rows, columns) of a text of numbers."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as source:
        return np.loadtxt(source, dtype=np.int64)
