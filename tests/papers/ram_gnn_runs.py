"""One training of MF-BPR, LightGCN or RAM-GNN on MovieLens, for `paper_ram_gnn.py` and `tune_ram_gnn.py`.

The three are one program with other settings: RAM-GNN starts from vectors pretrained on attributes, the others from
random ones of the same length and without values. While settings are chosen, nobody learns from the validation items or
hears of them; for the test all but the test items are learned from, as in RCF's own file of training pairs, for the
number of epochs that validation chose. Pretrained vectors are kept under build/, by the code that makes them.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from models.learning.epochs import load_parameters
from models.ram_gnn_hyperparameters import InteractionHyperparameters, RAMGNNHyperparameters
from models.ram_gnn_interactions import InteractionNetwork, Pairs, Pretrained, infer_interactions
from models.ram_gnn_interactions_training import (
    InteractionTrainer,
    held_out_ranks,
    histories_of,
    train_interactions,
)
from models.ram_gnn_sampler import AttributeRows
from models.ram_gnn_training import train_ram_gnn, vectors_of
from tests.papers import movielens_1m, rcf
from tests.papers.lookalike_cache import PROJECT, cached, code_hash
from tests.papers.rcf import Split

EVERY = 5  # epochs between two looks at the validation items
KEPT = PROJECT / "build" / "paper_ram_gnn"
DATA = {"ml-100k": rcf.read_split, "ml-1m": movielens_1m.read_split}


@dataclass(frozen=True)
class Recipe:
    """Settings of one model. pretraining: of RAM-GNN, over its defaults; None starts from random vectors. values:
    whether Eq. 18 and 20 have the values' pretrained vectors."""

    interactions: InteractionHyperparameters
    dimension: int = 64
    pretraining: dict[str, Any] | None = None
    values: bool = True

    @classmethod
    def of(cls, settings: dict[str, Any]) -> Recipe:
        """Inverse of `settings`."""
        return cls(**settings | {"interactions": InteractionHyperparameters(**settings["interactions"])})

    @property
    def settings(self) -> dict[str, Any]:
        """As JSON has it."""
        return dataclasses.asdict(self)

    def with_interactions(self, **changes: Any) -> Recipe:
        return dataclasses.replace(self, interactions=dataclasses.replace(self.interactions, **changes))


@functools.cache
def split_of(data: str) -> Split:
    """Read once."""
    return DATA[data]()


def pretrained(data: str, recipe: Recipe, seed: int) -> dict[str, np.ndarray]:
    """By side its vectors, by <side>.values those of its values; history: the training's, as JSON."""
    hyper = RAMGNNHyperparameters(dimension=recipe.dimension, **recipe.pretraining)

    def compute() -> dict[str, np.ndarray]:
        sides = split_of(data).sides
        result = train_ram_gnn(sides, hyper, seed=seed)
        values = {f"{kind}.values": result.arrays[f"{kind}.values"] for kind in sides}
        return vectors_of(sides, result.arrays, hyper) | values | {"history": np.array(json.dumps(result.history))}

    code = code_hash(sorted((PROJECT / "models").glob("ram_gnn*.py")))
    return cached(KEPT, (data, dataclasses.asdict(hyper), seed, code), compute)


def starts_of(data: str, recipe: Recipe, seed: int) -> tuple[Pretrained, Pretrained]:
    """What users and items start from."""
    split, d, length = split_of(data), recipe.dimension, recipe.interactions.initial_length
    rng, found = np.random.default_rng([seed, 3]), []
    given = None if recipe.pretraining is None else pretrained(data, recipe, seed)
    for kind, n in (("user", split.n_users), ("item", split.n_items)):
        vectors, rows, values = rng.normal(size=(n, d)) * length / d**0.5, no_rows(n), np.zeros((0, d // 2), np.float32)
        if given is not None:
            vectors = given[kind] / np.linalg.norm(given[kind], axis=1, keepdims=True) * length
            if recipe.values:
                rows, values = split.sides[kind].rows, given[f"{kind}.values"]
        found.append(Pretrained(vectors.astype(np.float32), values, rows))
    return found[0], found[1]


def no_rows(n: int) -> AttributeRows:
    """Of a side without attributes."""
    nothing = np.zeros(0, np.int64)
    return AttributeRows.of(nothing, nothing, nothing, n, 0)


def validated(data: str, recipe: Recipe, seed: int, patience: int) -> Iterator[dict[str, float]]:
    """The validation figures after every EVERY epochs, till so many looks in a row brought no gain in "ndcg", or the
    epochs are over. "ndcg" is that of the whole ranking, whose standard error is smaller than that of the first ten."""
    split, hyper, best, waited = split_of(data), recipe.interactions, -1.0, 0
    everybody = np.ones(split.n_users, bool)
    trainer = InteractionTrainer(
        *starts_of(data, recipe, seed), split.training, everybody, hyper, seed, split.validation, split.times)
    for epoch in range(hyper.epochs):
        trainer.epoch(epoch)
        if (epoch + 1) % EVERY:
            continue
        ranks = trainer.ranks().numpy()
        found = figures(ranks) | {"epochs": epoch + 1, "ndcg": float((1 / np.log2(1 + ranks)).mean())}
        yield found
        waited = 0 if found["ndcg"] > best else waited + 1
        best = max(best, found["ndcg"])
        if waited >= patience:
            return


def tested(data: str, recipe: Recipe, seed: int) -> dict[str, dict[str, float]]:
    """The figures of the test items, without and with training items in the ranking."""
    split, given = split_of(data), starts_of(data, recipe, seed)
    hyper = dataclasses.replace(recipe.interactions, validation_share=0.0)
    network, sizes = InteractionNetwork(*given, hyper), (split.n_users, split.n_items)
    found = train_interactions(*given, split.training, hyper, seed=seed, times=split.times)
    load_parameters(network, found.arrays)
    known, nothing = (Pairs.of(*pairs, *sizes) for pairs in (split.training, (np.zeros(0, np.int64),) * 2))
    histories = histories_of(*split.training, split.times, split.n_users, hyper)[0]
    x_users, x_items = map(torch.from_numpy, infer_interactions(network, known, histories))
    ends = [torch.from_numpy(side) for side in split.test]
    return {
        name: figures(held_out_ranks(x_users, x_items, *ends, left_out.into_users).numpy())
        for name, left_out in (("test", known), ("with training items", nothing))}  # fmt: skip


def figures(ranks: np.ndarray) -> dict[str, float]:
    """HR, MRR and NDCG at 10 and 20 of one wanted item a user."""
    found = {}
    for at in (10, 20):
        hit = ranks <= at
        found |= {f"hr@{at}": float(hit.mean()), f"mrr@{at}": float(np.where(hit, 1 / ranks, 0).mean()),
                  f"ndcg@{at}": float(np.where(hit, 1 / np.log2(1 + ranks), 0).mean())}  # fmt: skip
    return found
