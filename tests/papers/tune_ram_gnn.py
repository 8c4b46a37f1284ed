"""Settings for `paper_ram_gnn.py`, as many trials for MF-BPR and LightGCN as for RAM-GNN: `make tune-ram-gnn`.

The first trial of a model is a start found by hand, the others are Latin draws from SPACE (each value about as often as
any other). A trial's figure is the NDCG over the whole ranking of each user's validation item, at its best epoch; the
best FINALISTS go on under more seeds, and the best mean of all seeds is chosen, with the epoch at which that mean is
highest. No test item is looked at. With what its users rated last (`recent`) each model is chosen the same way, from
the settings that it has without and those of RECENT. Trials of other settings are kept: a run that broke off goes on.
The chosen settings and every trial stand in results/tune_ram_gnn.json, the trials by hand, from which FIRST and the
ranges come, in results/tune_ram_gnn_by_hand.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.ram_gnn_hyperparameters import InteractionHyperparameters
from tests.papers.lookalike_cache import hash_of
from tests.papers.ram_gnn_runs import Recipe, pretrained, validated

DATA = "ml-100k"
TRIALS, FINALISTS, SEEDS, PATIENCE = 5, 1, (1, 2), 3
BARE = {"transforms": False, "adds_own": False, "batches": 8, "epochs": 120, "recent": 0}
# Found by hand on the validation items, before any trial: a lower penalty than the defaults' for whoever propagates,
# and the hardest of several drawn items.
FIRST: dict[str, dict[str, Any]] = {
    "MF-BPR": {"layers": 0, "decay": 3e-3, "learning_rate": 0.02, "negatives": 8, "hardest": True},
    "LightGCN": {"layers": 2, "decay": 1e-4, "learning_rate": 0.02, "negatives": 8, "hardest": True},
    "RAM-GNN": {"layers": 2, "decay": 1e-4, "learning_rate": 0.02, "negatives": 8, "hardest": True},
}
# Found by hand as well: what stops early on held-out rows stops before neighbours share more than strangers do.
PRETRAINING = {"validation_share": 0.0, "epochs": 120}
SPACE: dict[str, list[Any]] = {
    "learning_rate": [0.01, 0.02, 0.04],
    "negatives": [4, 8, 16],
    "hardest": [True, True, False],
    "initial_length": [0.1, 0.3, 1.0],
    "dimension": [64, 100],
}
OF_MODEL: dict[str, dict[str, list[Any]]] = {
    "MF-BPR": {"decay": [1e-3, 3e-3, 1e-2]},
    "LightGCN": {"decay": [3e-5, 1e-4, 3e-4], "layers": [2, 3, 4]},
    "RAM-GNN": {
        "decay": [3e-5, 1e-4, 3e-4], "layers": [2, 3, 4], "shared_rate_share": [0.01, 0.05], "values": [False, True],
        "adds_own": [True, False]},
}  # fmt: skip
RECENT: list[dict[str, Any]] = [
    {"recent": 8, "recent_half_life": half_life, "recent_weight": weight}
    for half_life, weight in ((1.0, 1.0), (1.0, 2.0), (0.5, 2.0), (2.0, 1.0))]  # fmt: skip
RESULTS = Path(__file__).parent / "results" / "tune_ram_gnn.json"
OF_RECIPE = ("dimension", "values")
Trial = dict[str, Any]  # settings, model, and by seed the looks


def recipe_of(model: str, drawn: dict[str, Any]) -> Recipe:
    """From the names of SPACE and OF_MODEL."""
    of_network = {name: value for name, value in drawn.items() if name not in OF_RECIPE}
    own = {name: value for name, value in drawn.items() if name in OF_RECIPE}
    interactions = InteractionHyperparameters(**BARE | FIRST[model] | of_network)
    return Recipe(interactions, pretraining=PRETRAINING if model == "RAM-GNN" else None, **own)


def trials(model: str) -> list[Recipe]:
    """The start found by hand, then draws."""
    space, random = SPACE | OF_MODEL[model], np.random.default_rng(5)
    places = {name: random.permutation(TRIALS - 1) % len(values) for name, values in space.items()}
    drawn = [{name: values[places[name][i]] for name, values in space.items()} for i in range(TRIALS - 1)]
    return [recipe_of(model, one) for one in ({}, *drawn)]


def looks(recipe: Recipe, seed: int) -> list[dict[str, float]]:
    """One training, on one thread: two run side by side."""
    torch.set_num_threads(1)
    names = ("epochs", "ndcg", "hr@10", "ndcg@10")
    return [{name: round(look[name], 5) for name in names} for look in validated(DATA, recipe, seed, PATIENCE)]


def best_epoch(runs: Iterable[list[dict[str, float]]]) -> tuple[float, int]:
    """(the highest mean over seeds of "ndcg", its epochs), among those that all seeds reached."""
    runs = list(runs)
    shortest = min(map(len, runs))
    means = np.mean([[look["ndcg"] for look in run[:shortest]] for run in runs], axis=0)
    return float(means.max()), int(runs[0][int(means.argmax())]["epochs"])


def read() -> dict[str, Trial]:
    """Key → trial, of those made so far; settings that came since are at their defaults."""
    found: dict[str, Trial] = {}
    for trial in (json.loads(RESULTS.read_text()) if RESULTS.exists() else {}).values():
        settings = Recipe.of(trial["settings"]).settings
        found[hash_of(trial["model"], settings)] = trial | {"settings": settings}
    return found


def make(jobs: list[tuple[str, Recipe, int]]) -> dict[str, Trial]:
    """All trials, those of these jobs among them; two at a time."""
    found = read()
    wanted: dict[tuple[str, int], Recipe] = {}
    for model, recipe, seed in jobs:
        key = hash_of(model, recipe.settings)
        found.setdefault(key, {"model": model, "settings": recipe.settings, "runs": {}})
        if str(seed) not in found[key]["runs"]:
            wanted[key, seed] = recipe
            if recipe.pretraining is not None:
                pretrained(DATA, recipe, seed)  # once, before two want it
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(looks, recipe, job[1]): job for job, recipe in wanted.items()}
        for done in as_completed(running):
            key, seed = running[done]
            found[key]["runs"][str(seed)] = done.result()
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")
            ndcg, epochs = best_epoch([done.result()])
            print(f"{found[key]['model']} seed {seed}: {ndcg:.4f} after {epochs} epochs", flush=True)
    return found


def of_model(found: dict[str, Trial], model: str, seeds: Iterable[int]) -> list[Trial]:
    """The model's trials that were made under all these seeds, the best first."""
    mine = [one for one in found.values() if one["model"] == model and all(str(s) in one["runs"] for s in seeds)]
    return sorted(mine, key=lambda one: -best_epoch(one["runs"][str(seed)] for seed in seeds)[0])


def with_recent(model: str) -> str:
    """Its name beside what its users rated last."""
    return f"{model}, recent"


def recent_trials(model: str) -> list[Recipe]:
    """Of a model whose settings are chosen."""
    best = chosen([model])[model]
    return [best.with_interactions(epochs=BARE["epochs"], **one) for one in RECENT]


def chosen(models: Iterable[str] = (*FIRST, *map(with_recent, FIRST))) -> dict[str, Recipe]:
    """Model → settings, with the epochs to train."""
    found, best = read(), {}
    for model in models:
        trial = of_model(found, model, SEEDS)[0]
        epochs = best_epoch(trial["runs"][str(seed)] for seed in SEEDS)[1]
        best[model] = Recipe.of(trial["settings"]).with_interactions(epochs=epochs)
    return best


def preferred(model: str) -> str:
    """The model or the same with `recent`, whichever validation prefers."""
    found = read()

    def best(name: str) -> float:
        runs = of_model(found, name, SEEDS)[0]["runs"]
        return best_epoch(runs[str(seed)] for seed in SEEDS)[0]

    return max((model, with_recent(model)), key=best)


def choose(recipes: dict[str, list[Recipe]]) -> None:
    """Every trial under the first seed, the best under the others too."""
    found = make([(model, recipe, SEEDS[0]) for model, given in recipes.items() for recipe in given])
    make([
        (model, Recipe.of(trial["settings"]), seed) for model in recipes
        for trial in of_model(found, model, SEEDS[:1])[:FINALISTS] for seed in SEEDS])  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--models", nargs="*", default=list(FIRST))
    models = parser.parse_args().models
    choose({model: trials(model) for model in models})
    choose({with_recent(model): recent_trials(model) for model in models})
    for model, recipe in chosen().items():
        print(f"{model}: {recipe.settings}")


if __name__ == "__main__":
    main()
