"""FB15k-237 as the papers and benchmarks of TransE read it: `../shared/data/fb15k-237` beside the repository."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from models.transe import Triples
from models.vectors.ranking import Edges

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "fb15k-237"
FILES = {"train": "train2id.txt.gz", "valid": "valid2id.txt", "test": "test2id.txt"}
N_ENTITIES, N_RELATIONS = 14_541, 237


def read_split(name: str) -> Edges:
    """(heads, relations, tails), int64. The files say head, tail, relation, under a line with the count."""
    path = FOLDER / FILES[name]
    if not path.exists():
        raise SystemExit(
            f"{FILES[name]} is not in ../shared/data/fb15k-237 beside the repository; put the data set there"
        )
    with gzip.open(path, "rt") if path.suffix == ".gz" else open(path) as file:
        count = int(file.readline())
        heads, tails, relations = np.loadtxt(file, dtype=np.int64).T
    if len(heads) != count:
        raise SystemExit(f"{FILES[name]} holds {len(heads)} triples where its first line says {count}; fetch it again")
    return heads.copy(), relations.copy(), tails.copy()


def all_known() -> Edges:
    """The triples of all three splits, for filtered ranks."""
    return tuple(np.concatenate(columns) for columns in zip(*(read_split(name) for name in FILES), strict=True))


def as_graph(edges: Edges) -> Triples:
    """One type of entity; keys are the data set's own ids."""
    return Triples(
        *edges, np.zeros(N_ENTITIES, int), np.zeros(N_RELATIONS, int), np.zeros(N_RELATIONS, int),
        np.arange(N_ENTITIES).astype(np.uint64), np.arange(N_RELATIONS).astype(np.uint64),
    )  # fmt: skip
