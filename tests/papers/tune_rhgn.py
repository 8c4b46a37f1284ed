"""Settings for `paper_rhgn.py`, eight trials for each model and data set: `python -m tests.papers.tune_rhgn`.

The first trial of a model is its defaults, the others are a Latin draw from SPACE or TREES (each value about as often
as any other), the same for RHGN, R-GCN and HGT. The figure is the mean of both labels' macro-F1 on the users who
choose, over the first splits; of a split no user who tests is looked at (splits share users: who chooses in one may
test in another, for every model alike). Classes weigh the same in every loss but where a trial of trees says otherwise,
since macro-F1 counts them so. The chosen settings and every trial go to results/tune_rhgn.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tests.papers.profiling_runs import (
    GRAPH_MODELS,
    Figures,
    Settings,
    TreeSettings,
    neighbourhoods,
    run,
    task_of,
    validation_f1,
    vectors_of,
)
from tests.papers.profiling_tasks import N_SPLITS

TRIALS = 8
# Splits that a trial is judged by: alibaba-ecomm has 184 users who choose, ml-1m 755.
SPLITS = {"alibaba-ecomm": 3, "ml-1m": 2}
SPACE: dict[str, list[Any]] = {
    "learning_rate": [0.001, 0.003, 0.01],
    "epochs": [6, 12, 20],
    "width": [32, 64],
    "heads": [1, 4, 8],
    "dropout": [0.0, 0.2, 0.5],
    "weight_decay": [0.01, 0.1],
    "init": ["transe", "random"],
    "stop_on": ["loss", "macro_f1"],
}
TREES: dict[str, list[Any]] = {
    "max_depth": [2, 4, 6],
    "learning_rate": [0.05, 0.1],
    "colsample": [0.1, 0.3, 0.6],
    "min_child_weight": [1.0, 5.0, 20.0],
    "class_weights": [True, False],
    "attributes": [True, False],
}
RESULTS = Path(__file__).parent / "results" / "tune_rhgn.json"


def trials(model: str) -> list[dict[str, Any]]:
    """The defaults, then draws."""
    space, first = (TREES, asdict(TreeSettings())) if model == "xgboost" else (SPACE, asdict(Settings()))
    random = np.random.default_rng(8)
    places = {name: random.permutation(TRIALS - 1) % len(values) for name, values in space.items()}
    drawn = [{name: values[places[name][i]] for name, values in space.items()} for i in range(TRIALS - 1)]
    return [first, *(first | one for one in drawn)]


def run_all(jobs: Iterable[tuple]) -> Iterator[Figures]:
    """Two at a time, in order. What several jobs of a split read is made before."""
    jobs = list(jobs)
    for model, name, given, split, _ in jobs:
        if model in GRAPH_MODELS:
            vectors_of(task_of(name), given["init"], split)
        if model in ("rgcn", "hgt"):
            neighbourhoods(task_of(name), split)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(run, jobs)


def chosen() -> dict[str, dict[str, dict[str, Any]]]:
    """Data set → model → settings."""
    found = json.loads(RESULTS.read_text())
    best: dict[str, dict[str, dict[str, Any]]] = {}
    for name, models in found.items():
        for model, tried in models.items():
            trial = max(tried, key=lambda trial: trial["validation_macro_f1"])
            best.setdefault(name, {})[model] = trial["settings"]
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=["rhgn", "rgcn", "hgt", "xgboost"])
    parser.add_argument("--tasks", nargs="*", default=list(N_SPLITS))
    options = parser.parse_args()
    started = time.perf_counter()
    for name in options.tasks:
        for model in options.models:
            given = trials(model)
            outcomes = run_all([(model, name, one, split, {}) for one in given for split in range(SPLITS[name])])
            tried = []
            for one in given:
                figures = [validation_f1(next(outcomes)) for _ in range(SPLITS[name])]
                mean, seconds = float(np.mean(figures)), time.perf_counter() - started
                tried.append({"settings": one, "validation_macro_f1": mean, "splits": figures})
                print(f"{name} {model} {mean:.4f} {one}  {seconds:.0f} s", flush=True)
            found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            found.setdefault(name, {})[model] = tried
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    for name, models in chosen().items():
        for model, settings in models.items():
            print(f"{name} {model}: {settings}")


if __name__ == "__main__":
    main()
