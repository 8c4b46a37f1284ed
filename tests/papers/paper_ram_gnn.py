"""Table III of the RAM-GNN paper on MovieLens 100K: `python -m tests.papers.paper_ram_gnn [--seeds 5]`.

RCF's split (`rcf.py`), each user's test item ranked among all items but those of training; above it the same with them
in. MF-BPR, LightGCN and RAM-GNN are one program (`ram_gnn_runs.py`) with the settings and epochs that `make
tune-ram-gnn` chose by one validation item a user, never by the test item: as the paper has them, and each with what
its users rated last beside their vectors (`recent`). A run of a model and seed that results/paper_ram_gnn.json has, for
these settings, is not made again. The last line reads `hr@10: <figure> ndcg@10: <figure>` of the RAM-GNN that
validation prefers of the two, mean of the seeds.

--what ablations: figure 4 (no pretraining; attention or sampler alone), table V (compositions), table VI (dimensions)
and figure 5 (the thresholds' path). --what ml-1m: the three models on MovieLens 1M, with the settings chosen on
MovieLens 100K.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jobs.report.charts import COLOURS, Axis, Series, line_chart
from models.ram_gnn_hyperparameters import RAMGNNHyperparameters
from tests.papers.lookalike_cache import PROJECT
from tests.papers.ram_gnn_runs import Recipe, pretrained, tested
from tests.papers.tune_ram_gnn import chosen, preferred

FOLDER = Path(__file__).parent / "results"
PAPER = {"MF-BPR": (0.125, 0.042, 0.061, 0.205, 0.046, 0.079), "LightGCN": (0.151, 0.056, 0.079, 0.224, 0.058, 0.094),
         "RAM-GNN": (0.164, 0.062, 0.087, 0.242, 0.066, 0.107)}  # fmt: skip
FIGURES = [f"{name}@{at}" for at in (10, 20) for name in ("hr", "mrr", "ndcg")]
PARTS = ("with training items", "test")
# name → (data, file)
RUNS = {"table": ("ml-100k", "paper_ram_gnn.json"), "ablations": ("ml-100k", "paper_ram_gnn_ablations.json"),
        "ml-1m": ("ml-1m", "paper_ram_gnn_ml1m.json")}  # fmt: skip
ALL_NEIGHBOURS = RAMGNNHyperparameters().max_threshold  # as many as memory is meant for, and none chosen
DIMENSIONS = (20, 40, 60, 80, 100)


def ablations(full: Recipe) -> dict[str, Recipe]:
    """RAM-GNN with a part taken away or changed, everything else as chosen."""

    def other(**settings: Any) -> Recipe:
        return replace(full, pretraining=full.pretraining | settings)

    unsampled = {"threshold": ALL_NEIGHBOURS, "threshold_step": 0}
    return {
        "no pretraining": replace(full, pretraining=None),
        "sampler alone": other(attends=False),
        "attention alone": other(**unsampled),
        "neither": other(attends=False, **unsampled),
        "both": full,
        **{f"composition {how}": other(composition=how) for how in ("add", "mul")},
        **{f"dimension {d}": replace(full, dimension=d) for d in DIMENSIONS if d != full.dimension},
    }


def recipes_of(what: str) -> dict[str, Recipe]:
    """Row → settings."""
    best = chosen()
    return ablations(best["RAM-GNN"]) if what == "ablations" else best


def one(data: str, recipe: Recipe, seed: int) -> dict[str, Any]:
    """The figures of one training, on one thread: two run side by side."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    return tested(data, recipe, seed) | {"seconds": round(time.perf_counter() - started, 1)}


def all_runs(what: str, recipes: dict[str, Recipe], seeds: int) -> dict[str, list[dict[str, Any]]]:
    """Of every row the runs of the seeds, those that are kept and those that are made now."""
    data, file = RUNS[what][0], FOLDER / RUNS[what][1]
    kept = json.loads(file.read_text()) if file.exists() else {}
    wanted = []
    for seed in range(1, seeds + 1):
        for name, recipe in recipes.items():
            if name not in kept or Recipe.of(kept[name]["settings"]) != recipe:
                kept[name] = {"settings": recipe.settings, "runs": {}}
            if str(seed) not in kept[name]["runs"]:
                wanted.append((name, seed))
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(one, data, recipes[name], seed): (name, seed) for name, seed in wanted}
        for done in as_completed(running):
            name, seed = running[done]
            kept[name]["runs"][str(seed)] = done.result()
            file.write_text(json.dumps({row: kept[row] for row in recipes}, indent=1) + "\n")
            print(name, "seed", seed, done.result(), flush=True)
    return {name: [kept[name]["runs"][str(seed)] for seed in range(1, seeds + 1)] for name in recipes}


def thresholds(recipe: Recipe) -> dict[str, list[float]]:
    """Figure 5: k_t of every type, epoch by epoch, of the first seed."""
    history = json.loads(str(pretrained("ml-100k", recipe, 1)["history"]))
    names = [name for name in history[0] if name.startswith("threshold_")]
    return {name.removeprefix("threshold_"): [entry[name] for entry in history] for name in names}


def draw(paths: dict[str, list[float]], file: Path) -> None:
    """The paths as one picture, with the report's own lines and colours."""
    series = [
        Series(name, list(range(1, len(path) + 1)), path, f"c{number % COLOURS}")
        for number, (name, path) in enumerate(paths.items())]  # fmt: skip
    drawn = line_chart(f"Kept neighbours by epoch: {', '.join(paths)}", series, Axis("epoch"), Axis("neighbours"))
    head, rest = str(drawn).split(">", 1)
    style = (PROJECT / "jobs" / "report" / "page.css").read_text()
    file.write_text(f'{head} xmlns="http://www.w3.org/2000/svg"><style>{style}</style>{rest}\n')


def show(runs: dict[str, list[dict[str, Any]]], paper: dict[str, tuple[float, ...]]) -> None:
    """The table: means over seeds, their spread, and the paper's figures."""
    print(f"{'':32s}" + "".join(f"{name:>10s}" for name in FIGURES))
    for name, found in runs.items():
        for part in PARTS:
            values = np.array([[run[part][figure] for figure in FIGURES] for run in found])
            row = f"{name}, {part}" if part != "test" else name
            print(f"{row:32s}" + "".join(f"{value:10.3f}" for value in values.mean(axis=0)))
        print(f"{'  standard deviation of seeds':32s}" + "".join(f"{value:10.3f}" for value in values.std(axis=0)))
        if name in paper:
            print(f"{'  the paper':32s}" + "".join(f"{value:10.3f}" for value in paper[name]))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--what", choices=tuple(RUNS), default="table")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipes = recipes_of(options.what)
    runs = all_runs(options.what, recipes, options.seeds)
    show(runs, PAPER if options.what == "table" else {})
    if options.what == "ablations":
        paths = thresholds(recipes["both"])
        (FOLDER / "ram_gnn_thresholds.json").write_text(json.dumps(paths) + "\n")
        draw(paths, FOLDER / "ram_gnn_thresholds.svg")
        print("thresholds at the end:", {name: path[-1] for name, path in paths.items()})
    found = runs["both" if options.what == "ablations" else preferred("RAM-GNN")]
    hr, ndcg = (np.mean([run["test"][name] for run in found]) for name in ("hr@10", "ndcg@10"))
    print(f"hr@10: {hr:.4f} ndcg@10: {ndcg:.4f}")


if __name__ == "__main__":
    main()
