"""Table III of the RAM-GNN paper on MovieLens 100K: `python -m tests.papers.paper_ram_gnn [--seeds 5]`.

RCF's split (`rcf.py`), each user's test item ranked among all items but those of training; above it the same with them
in. MF-BPR, LightGCN and RAM-GNN are one program with other settings: RAM-GNN starts from vectors pretrained on
attributes, the others from random ones of the same length and without values. The epoch is chosen by one validation
item a user, never by the test item; the settings are not tuned. Trained without the validation items, and ranked with
them among what is known. A run of a model and seed that results/paper_ram_gnn.json has, for these settings,
is not made again. The last line reads `hr@10: <figure> ndcg@10: <figure>` of RAM-GNN, mean of the seeds.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.learning.epochs import load_parameters
from models.ram_gnn_hyperparameters import InteractionHyperparameters, RAMGNNHyperparameters
from models.ram_gnn_interactions import InteractionNetwork, Pairs, Pretrained, infer_interactions
from models.ram_gnn_interactions_training import held_out_ranks, train_interactions
from models.ram_gnn_sampler import AttributeRows
from models.ram_gnn_training import train_ram_gnn, vectors_of
from tests.papers.rcf import Split, read_split

RESULTS = Path(__file__).parent / "results" / "paper_ram_gnn.json"
PAPER = {"MF-BPR": (0.125, 0.042, 0.061, 0.205, 0.046, 0.079), "LightGCN": (0.151, 0.056, 0.079, 0.224, 0.058, 0.094),
         "RAM-GNN": (0.164, 0.062, 0.087, 0.242, 0.066, 0.107)}  # fmt: skip
FIGURES = [f"{name}@{at}" for at in (10, 20) for name in ("hr", "mrr", "ndcg")]
PRETRAINING = RAMGNNHyperparameters()
COMMON = {"transforms": False, "epochs": 120, "patience": 8, "min_gain": 0.0}
SETTINGS = {
    "MF-BPR": InteractionHyperparameters(layers=0, learning_rate=0.005, **COMMON),
    "LightGCN": InteractionHyperparameters(layers=3, adds_own=False, learning_rate=0.005, **COMMON),
    "RAM-GNN": InteractionHyperparameters(layers=4, learning_rate=0.005, **COMMON),
}


def starts_of(split: Split, model: str, hyper: InteractionHyperparameters, seed: int) -> dict[str, Pretrained]:
    """What each side starts from."""
    sizes = {"user": split.n_users, "item": split.n_items}
    if model != "RAM-GNN":
        rng, nothing, d = np.random.default_rng([seed, 3]), np.zeros(0, np.int64), PRETRAINING.dimension
        return {
            kind: Pretrained(
                (rng.normal(size=(n, d)) * hyper.initial_length / d**0.5).astype(np.float32),
                np.zeros((0, d // 2), np.float32), AttributeRows.of(nothing, nothing, nothing, n, 0))
            for kind, n in sizes.items()}  # fmt: skip
    arrays = train_ram_gnn(split.sides, PRETRAINING, seed=seed).arrays
    found = {}
    for kind, vectors in vectors_of(split.sides, arrays, PRETRAINING).items():
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        start = (unit * hyper.initial_length).astype(np.float32)
        found[kind] = Pretrained(start, arrays[f"{kind}.values"], split.sides[kind].rows)
    return found


def run(split: Split, model: str, hyper: InteractionHyperparameters, seed: int) -> dict[str, Any]:
    """The figures of one training."""
    started, starts = time.perf_counter(), starts_of(split, model, hyper, seed)
    given = starts["user"], starts["item"]
    result = train_interactions(*given, split.training, hyper, seed=seed, held_out=split.validation)
    network = InteractionNetwork(*given, hyper)
    load_parameters(network, result.arrays)
    known = Pairs.of(*split.training, split.n_users, split.n_items)
    x_users, x_items = map(torch.from_numpy, infer_interactions(network, known))
    nothing = Pairs.of(*(np.zeros(0, np.int64),) * 2, split.n_users, split.n_items)
    best = next(entry for entry in result.history if entry["epoch"] == result.best_epoch)
    found: dict[str, Any] = {
        "validation": {name: best[name] for name in ("validation_hr", "validation_ndcg")},
        "epoch": result.best_epoch, "seconds": round(time.perf_counter() - started, 1)}  # fmt: skip
    for name, left_out in (("test", known), ("with training items", nothing)):
        ends = (torch.from_numpy(side) for side in split.test)
        found[name] = figures(held_out_ranks(x_users, x_items, *ends, left_out.into_users).numpy())
    return found


def figures(ranks: np.ndarray) -> dict[str, float]:
    """HR, MRR and NDCG at 10 and 20 of one wanted item a user."""
    found = {}
    for at in (10, 20):
        hit = ranks <= at
        found |= {f"hr@{at}": float(hit.mean()), f"mrr@{at}": float(np.where(hit, 1 / ranks, 0).mean()),
                  f"ndcg@{at}": float(np.where(hit, 1 / np.log2(1 + ranks), 0).mean())}  # fmt: skip
    return found


def settings_of(model: str) -> dict[str, Any]:
    """What a kept figure has to be of."""
    own = dataclasses.asdict(SETTINGS[model])
    return own | {"pretraining": dataclasses.asdict(PRETRAINING)} if model == "RAM-GNN" else own


def all_runs(seeds: int) -> dict[str, list[dict[str, Any]]]:
    """Of every model the runs of the seeds, those that are kept and those that are made now."""
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    split = read_split()
    for model, hyper in SETTINGS.items():
        if kept.get(model, {}).get("settings") != settings_of(model):
            kept[model] = {"settings": settings_of(model), "runs": {}}
        for seed in map(str, range(1, seeds + 1)):
            if seed not in kept[model]["runs"]:
                kept[model]["runs"][seed] = run(split, model, hyper, int(seed))
                RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
                print(model, "seed", seed, kept[model]["runs"][seed], flush=True)
    return {model: [kept[model]["runs"][str(seed)] for seed in range(1, seeds + 1)] for model in SETTINGS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    runs = all_runs(parser.parse_args().seeds)
    print(f"{'':32s}" + "".join(f"{name:>10s}" for name in FIGURES))
    for model, found in runs.items():
        for part in ("with training items", "test"):
            values = np.array([[one[part][name] for name in FIGURES] for one in found])
            name = f"{model}, {part}" if part != "test" else model
            print(f"{name:32s}" + "".join(f"{value:10.3f}" for value in values.mean(axis=0)))
        print(f"{'  standard deviation of seeds':32s}" + "".join(f"{value:10.3f}" for value in values.std(axis=0)))
        print(f"{'  the paper':32s}" + "".join(f"{value:10.3f}" for value in PAPER[model]))
    means = {name: np.mean([one["test"][name] for one in runs["RAM-GNN"]]) for name in FIGURES}
    print(f"hr@10: {means['hr@10']:.4f} ndcg@10: {means['ndcg@10']:.4f}")


if __name__ == "__main__":
    main()
