"""Table 2 of the RelGNN paper, its Amazon row: `python -m tests.papers.paper_relgnn [--seeds 5] [--minutes 60]`.

GATNE's split (`gatne.py`), without the paper's node features, which are not to be had: every node has a vector of its
own that is learned. DistMult, ComplEx, R-GCN and RelGNN are one program with other settings, each without and with ASA;
what is set (dropout and weight decay above all: without them both graph models have 97.4) is the same for all.
The validation edges choose the epoch, by AUC; the test edges are scored once. AUC and AP over the edges of both
relations together, and by relation beside; F1 where a probability above 0.5 counts as true. Runs go seed by seed, and
no new one begins after so many minutes; one that results/paper_relgnn.json has, for these settings, is not made again:
say it again, and it goes on. The last line reads `auc: <figure> ap: <figure> lead: <points>`: RelGNN with ASA, mean of
the seeds, and its AUC in percent less that of R-GCN without ASA.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from models.learning.epochs import load_parameters
from models.relgnn import RelGNN, vectors_of
from models.relgnn_hyperparameters import RelGNNHyperparameters
from models.relgnn_training import train_relgnn
from models.sampling_hyperparameters import SamplingHyperparameters
from tests.papers.gatne import Labelled, read_split

RESULTS = Path(__file__).parent / "results" / "paper_relgnn.json"
# AUC, AP and F1 of the paper, with node features
PAPER = {
    "DistMult": (53.94, 53.51, 53.71), "DistMult + ASA": (64.85, 67.29, 64.30), "ComplEx": (53.18, 53.18, 54.39),
    "R-GCN": (97.16, 95.87, 94.52), "R-GCN + ASA": (98.37, 97.87, 94.21), "RelGNN": (98.84, 98.55, 95.17),
    "RelGNN + ASA": (99.14, 99.01, 90.44)}  # fmt: skip
UNIFORM, ASA = (SamplingHyperparameters(kind, pool=200) for kind in ("uniform", "asa"))
COMMON = RelGNNHyperparameters(
    sampling=UNIFORM, negatives=1, hides="edge", fanout=0, batch_size=16_384, learning_rate=0.01, dropout=0.5,
    weight_decay=0.5, epochs=60, evaluate_every=4, patience=0, min_gain=0.0, validation_share=0.0)  # fmt: skip
FACTORS = dataclasses.replace(COMMON, layers=0)
WITHOUT = {
    "DistMult": FACTORS, "ComplEx": dataclasses.replace(FACTORS, scoring="complex"),
    "R-GCN": dataclasses.replace(COMMON, attends=False, combines=False), "RelGNN": COMMON}  # fmt: skip
SETTINGS = WITHOUT | {f"{name} + ASA": dataclasses.replace(one, sampling=ASA) for name, one in WITHOUT.items()}


def scores_of(edges: Labelled, x_ND: torch.Tensor, model: RelGNN) -> np.ndarray:
    """float32 (edges,)."""
    heads, relations, tails = (torch.from_numpy(column) for column in edges[:3])
    with torch.no_grad():
        return (model.queries(x_ND[heads], relations, True) * x_ND[tails]).sum(dim=1).numpy()


def figures(edges: Labelled, scores: np.ndarray) -> dict[str, float]:
    """AUC, AP and F1 at a probability of 0.5 over all edges; AUC and AP by relation."""
    true, found = edges[3], {}
    for name, rows in (("", np.ones(len(true), bool)), *((f" of {r + 1}", edges[1] == r) for r in np.unique(edges[1]))):
        found[f"auc{name}"] = float(roc_auc_score(true[rows], scores[rows]))
        found[f"ap{name}"] = float(average_precision_score(true[rows], scores[rows]))
    return found | {"f1": float(f1_score(true, scores > 0))}


def run(hyper: RelGNNHyperparameters, seed: int) -> dict[str, Any]:
    """The figures of one training."""
    split = read_split()
    began, cpu = time.perf_counter(), time.process_time()
    world, nobody = split.world(hyper.dimension, seed), np.zeros(len(split.triples.heads), bool)

    def look(x_ND: torch.Tensor, model: RelGNN) -> dict[str, float]:
        found = figures(split.validation, scores_of(split.validation, x_ND, model))
        return {"validation_auc": found["auc"], "validation_ap": found["ap"], "validation_auc_error": 0.0}

    result = train_relgnn(world, hyper, seed=seed, held_out=nobody, look=look, measure="validation_auc")
    model = world.model(hyper, seed)
    load_parameters(model, result.arrays)
    best = next(entry for entry in result.history if entry["epoch"] == result.best_epoch)
    names = ("validation_auc", "validation_ap", "negative_gap", "negative_above")
    scores = scores_of(split.test, vectors_of(model, world.graph()), model)
    spent = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
    return figures(split.test, scores) | {
        "chosen": {name: float(best[name]) for name in names}, "epoch": result.best_epoch,
        **{name: round(value, 1) for name, value in spent.items()}}  # fmt: skip


Made = tuple[str, int, dict[str, Any] | None]


def attempt(name: str, seed: int, end: float) -> Made:
    """(model, seed, its figures), or None in their place after the time `end`."""
    return name, seed, run(SETTINGS[name], seed) if time.time() < end else None


def attempts(missing: list[tuple[str, int]], end: float, workers: int) -> Iterator[Made]:
    """As they end; each worker is a process with one thread, which two runs at once use better than one run two."""
    if workers == 1:
        yield from (attempt(*one, end) for one in missing)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for done in as_completed([pool.submit(attempt, *one, end) for one in missing]):
            yield done.result()


def all_runs(seeds: int, minutes: float, workers: int = 1) -> dict[str, list[dict[str, Any]]]:
    """Of every model the runs of the seeds, kept and made now; seed by seed, so that all models have as many."""
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name, hyper in SETTINGS.items():
        if kept.get(name, {}).get("settings") != dataclasses.asdict(hyper):
            kept[name] = {"settings": dataclasses.asdict(hyper), "runs": {}}
    wanted = ((name, seed) for seed in range(1, seeds + 1) for name in SETTINGS)
    missing = [(name, seed) for name, seed in wanted if str(seed) not in kept[name]["runs"]]
    for name, seed, found in attempts(missing, time.time() + 60 * minutes, workers):
        if found is not None:
            kept[name]["runs"][str(seed)] = found
            RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
            print(name, "seed", seed, found, flush=True)
    return {name: [found["runs"][s] for s in sorted(found["runs"], key=int)] for name, found in kept.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=58)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    runs = all_runs(arguments.seeds, arguments.minutes, arguments.workers)
    names = ("auc", "ap", "f1", "auc of 1", "ap of 1", "auc of 2", "ap of 2")
    print(f"{'':28s}" + "".join(f"{name:>10s}" for name in names))
    means = {}
    for model in (name for name in SETTINGS if runs[name]):
        values = 100 * np.array([[one[name] for name in names] for one in runs[model]])
        means[model] = values.mean(axis=0)
        print(f"{model + f', {len(values)} seeds':28s}" + "".join(f"{value:10.2f}" for value in means[model]))
        print(f"{'  standard deviation':28s}" + "".join(f"{value:10.2f}" for value in values.std(axis=0)))
        if model in PAPER:
            print(f"{'  the paper':28s}" + "".join(f"{value:10.2f}" for value in PAPER[model]))
    if {"RelGNN + ASA", "R-GCN"} <= set(means):
        (auc, ap), lead = means["RelGNN + ASA"][:2], means["RelGNN + ASA"][0] - means["R-GCN"][0]
        print(f"auc: {auc / 100:.4f} ap: {ap / 100:.4f} lead: {lead:.2f}")


if __name__ == "__main__":
    main()
