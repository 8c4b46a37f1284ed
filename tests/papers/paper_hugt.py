"""Table 2 of the HUGT paper on MovieLens 1M, and what else it shows there:
`python -m tests.papers.paper_hugt [--what ml-1m | taobao | figure3 | table3] [--seeds 3] [--epochs 30] [--width 64]
[--batch 32] [--rate 0.003] [--users 0] [--models SASRec,HUGT-MP]`.

The first 90 % of each user are learned from, by the model and by the SVD behind the collaborative edges; the last 10 %
are asked for one after the other, the state knowing all before. Three tenths of the users choose the epoch (NDCG@10
over all items, with windows that move 20 events at a time) and the variant; the others are the test, scored once with
windows that move one event at a time, over all items and without those that the user has seen.
A run that results/paper_hugt.json has for these settings is not made again, and a killed one goes on from its last
epoch (build/paper_hugt): say it again. Before the last line stand the figures without the seen items, and the last
line reads `hr@10: <figure> ndcg@10: <figure> lead: <percent>` over all items: the variant that the choosing users
chose, mean of the seeds, and its NDCG@10 over our SASRec's. --users takes the first so many users alone: a try, and no
figure of the paper's. --models makes runs of some models alone, beside another process that makes the others.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import numpy as np

from models.hugt import HUGT
from models.hugt_graph import item_vectors
from models.hugt_hyperparameters import HUGTHyperparameters
from models.hugt_ranking import figures
from models.hugt_training import World, train_hugt
from models.learning.epochs import load_parameters
from tests.papers.hugt_tasks import Task, movielens, taobao

RESULTS = Path(__file__).parent / "results" / "paper_hugt.json"
SCRATCH = Path(__file__).resolve().parents[2] / "build" / "paper_hugt"
HOP = 20  # of the windows that choose
# Batch and rate were chosen by SASRec on the choosing users of ml-1m (docs/hugt.md), and are those of every model
COMMON = HUGTHyperparameters(
    width=64, epochs=30, batch_size=32, learning_rate=0.003, patience=10, validation_share=0.0)  # fmt: skip
# HR@10 and NDCG@10 of the paper
PAPER = {
    "ml-1m": {"popularity": (0.0117, 0.0054), "SASRec": (0.2052, 0.1039), "HUGT-MP": (0.2233, 0.1218),
              "HUGT-SE": (0.2225, 0.1191)},
    "taobao": {"popularity": (0.0024, 0.0012), "SASRec": (0.1612, 0.0950), "HUGT-MP": (0.1734, 0.1032),
               "HUGT-SE": (0.1720, 0.1048)},
    "table3": {"G-S": (0.2179, 0.1184), "S-G": (0.2136, 0.1158), "concurrent": (0.2206, 0.1196)},
    "figure3": {}}  # fmt: skip


def settings(what: str, common: HUGTHyperparameters = COMMON) -> dict[str, HUGTHyperparameters]:
    """Every model of a table by its name. Taobao's loss is over candidates, as the paper's is, but more of them."""
    if what == "taobao":
        common = dataclasses.replace(common, candidates=1024)
    mp, change = functools.partial(dataclasses.replace, common, variant="mp"), dataclasses.replace
    if what == "figure3":
        return {f"{heads} sequence heads": mp(sequence_heads=heads) for heads in range(5)}
    if what == "table3":
        return {"G-S": mp(arrangement="graph_first"), "S-G": mp(arrangement="sequence_first"), "concurrent": mp()}
    return {"SASRec": change(common, sequence_heads=4), "HUGT-MP": mp(), "HUGT-SE": change(common, variant="se")}


def run(task: Task, hyper: HUGTHyperparameters, seed: int, resume: Path, say: Callable[..., None]) -> dict[str, Any]:
    """The figures of one training."""
    began, cpu = time.perf_counter(), time.process_time()
    training = task.training
    vectors = item_vectors(training, task.n_items, hyper.svd_rank, seed) if hyper.has_graph else None
    world = World(training, task.n_items, task.max_length, vectors)
    choosing, test = (np.flatnonzero(side & (task.learned > 0)) for side in (task.chooses, ~task.chooses))

    def look(model: HUGT) -> dict[str, float]:
        found = figures(task.ranks(model, vectors, choosing, HOP, seen=True))
        return {f"validation_{name}": value for name, value in found.items()}

    result = train_hugt(world, hyper, seed=seed, look=look, resume=resume, progress=say)
    model = world.model(hyper, seed)
    load_parameters(model, result.arrays)
    best = result.history[result.best_epoch]
    found = {name: figures(task.ranks(model, vectors, test, 1, seen=seen))
             for name, seen in (("all", True), ("unseen", False))}  # fmt: skip
    spent = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
    return found | {
        "chosen": {name: best[f"validation_{name}"] for name in ("hr", "ndcg")}, "epoch": result.best_epoch,
        "epochs": len(result.history), "losses": [round(entry["loss"], 4) for entry in result.history],
        "validation": [round(entry["validation_ndcg"], 4) for entry in result.history],
        **{name: round(value, 1) for name, value in spent.items()}}  # fmt: skip


def popularity(task: Task) -> dict[str, Any]:
    """Everybody is recommended what was touched most before the events that are asked for."""
    counts = np.bincount(task.training.items, minlength=task.n_items).astype(np.float32)
    hyper = HUGTHyperparameters(width=4)
    model = World(task.training, task.n_items, task.max_length).model(hyper, 0)
    load_parameters(model, {name: np.zeros(tuple(values.shape), np.float32) if name != "biases" else counts
                            for name, values in model.named_parameters()})  # fmt: skip
    test = np.flatnonzero(~task.chooses & (task.learned > 0))
    return {name: figures(task.ranks(model, np.zeros((task.n_items, 1), np.float32), test, 200, seen=seen))
            for name, seen in (("all", True), ("unseen", False))}  # fmt: skip


def key_of(settings: dict[str, Any]) -> str:
    """Of a run; settings that are newer than it have their defaults, with which it was made."""
    return json.dumps(dataclasses.asdict(HUGTHyperparameters()) | settings, sort_keys=True)


def kept_runs() -> dict[str, dict[str, Any]]:
    """By their keys."""
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return {key_of(json.loads(key)): one for key, one in found.items()}


def all_runs(
    what: str, seeds: int, common: HUGTHyperparameters = COMMON, users: int = 0, models: Container[str] = ()
) -> dict[str, list[dict[str, Any]]]:
    """Of every model the runs of the seeds, kept and made now; seed by seed, so that all models have as many. models:
    of these alone a run is made now (none: of all), so that two processes may share a table."""
    task = (taobao() if what == "taobao" else movielens()).first(users)
    kept = kept_runs()
    SCRATCH.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[dict[str, Any]]] = {"popularity": [popularity(task)]} if what in ("ml-1m", "taobao") else {}
    for seed in range(1, seeds + 1):
        for model, hyper in settings(what, common).items():
            data = "taobao" if what == "taobao" else "ml-1m"
            key = key_of({"data": data, "users": users, "seed": seed} | dataclasses.asdict(hyper))
            if key not in kept and models and model not in models:
                continue
            if key not in kept:
                resume = SCRATCH / f"{what}-{model.replace(' ', '-')}-{seed}-{hash_of(key)}.safetensors"

                def say(entry: dict[str, float], model: str = model, seed: int = seed) -> None:
                    print(model, "seed", seed, json.dumps(entry), flush=True)

                kept[key] = {"model": model, **run(task, hyper, seed, resume, say)}
                RESULTS.write_text(json.dumps(kept_runs() | {key: kept[key]}, indent=1) + "\n")
                resume.unlink(missing_ok=True)
            found.setdefault(model, []).append(kept[key])
    return found


def hash_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def lines(what: str, runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """The table, and of ml-1m and taobao what the last two lines say."""
    said = [f"{'':34s}{'HR@10':>9s}{'NDCG@10':>9s}{'unseen':>9s}{'unseen':>9s}{'chosen by':>11s}"]
    means = {}
    for model, found in runs.items():
        values = np.array([[one[side][name] for side in ("all", "unseen") for name in ("hr", "ndcg")] for one in found])
        chosen = np.mean([one["chosen"]["ndcg"] for one in found]) if "chosen" in found[0] else float("nan")
        means[model] = (*values.mean(axis=0), chosen)
        said.append(f"{f'{model}, {len(found)} runs':34s}" + "".join(f"{x:9.4f}" for x in values.mean(axis=0))
                    + f"{chosen:11.4f}")  # fmt: skip
        said.append(f"{'  standard deviation':34s}" + "".join(f"{x:9.4f}" for x in values.std(axis=0)))
        if model in PAPER[what]:
            said.append(f"{'  the paper':34s}" + "".join(f"{x:9.4f}" for x in PAPER[what][model]))
    variants = [model for model in means if model.startswith("HUGT")]
    if variants and "SASRec" in means:
        best = max(variants, key=lambda model: means[model][4])
        ours, base = means[best], means["SASRec"]
        said.append(f"without the seen items: hr@10: {ours[2]:.4f} ndcg@10: {ours[3]:.4f} "
                    f"lead: {100 * (ours[3] / base[3] - 1):.2f} ({best})")  # fmt: skip
        said.append(f"hr@10: {ours[0]:.4f} ndcg@10: {ours[1]:.4f} lead: {100 * (ours[1] / base[1] - 1):.2f}")
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--what", choices=tuple(PAPER), default="ml-1m")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=COMMON.epochs)
    parser.add_argument("--width", type=int, default=COMMON.width)
    parser.add_argument("--batch", type=int, default=COMMON.batch_size)
    parser.add_argument("--rate", type=float, default=COMMON.learning_rate)
    parser.add_argument("--users", type=int, default=0, help="0: all")
    parser.add_argument("--models", type=lambda text: text.split(","), default=(), help="some alone")
    options = parser.parse_args()
    common = dataclasses.replace(
        COMMON, epochs=options.epochs, width=options.width, batch_size=options.batch, learning_rate=options.rate)
    runs = all_runs(options.what, options.seeds, common, options.users, options.models)
    print("\n".join(lines(options.what, runs)))


if __name__ == "__main__":
    main()
