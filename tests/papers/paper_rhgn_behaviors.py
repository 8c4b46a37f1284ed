"""What RHGN's second loss costs the labels and gives the vectors, by its weight: `make paper-rhgn-behaviors`.

Labels: macro-F1 of gender and age on the splits of `paper_rhgn.py`, with the settings chosen there. The weight is the
highest of WEIGHTS whose macro-F1 on the users who choose (mean over labels, splits and data sets) is at most MARGIN
points below that of weight 0; where none is, figures are those of the lowest. Vectors: one night of MovieLens 1M as in
`paper_vectors.py`, a seed each: effective rank of the vectors of the users outside fold A, and the AUC of its tasks
among these users, by logistic regression whose penalty the half that chooses has chosen, on the half that tests.
Everything runs one after the other in one process, and is kept in results/paper_rhgn_behaviors.json as soon as it is
there: a run that broke off goes on. Asked for fewer splits or seeds, it says so there. The last line reads
`weight: <chosen> labels: <points> vectors: <hundredths of AUC>`: what the weight changes in the users who test, means
over tasks.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from jobs.embeddings import finetune_rhgn, publish_users
from models.hyperparameters import RHGNHyperparameters
from tests.papers.gains import interval
from tests.papers.paper_rhgn import differences
from tests.papers.paper_vectors import Bench, Vectors
from tests.papers.profiling_runs import run, validation_f1
from tests.papers.profiling_tasks import LABELS
from tests.papers.tune_rhgn import chosen
from tests.papers.vector_figures import Figure, effective_rank, figure, mean_auc
from tests.papers.vector_heads import head_names
from tests.papers.vector_logs import FILMS, LogNight, in_fold_a
from tests.papers.vector_tasks import Task

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "paper_rhgn_behaviors.json"
WEIGHTS = (0.0, 0.1, 0.3, 1.0)
MARGIN = 0.5  # points of macro-F1
SPLITS = {"ml-1m": 3, "alibaba-ecomm": 5}
Kept = dict[str, Any]  # by key, whatever was found


def kept(found: Kept, key: str, make: Any) -> Any:
    """What stands under the key, made and written down where nothing does."""
    if key not in found:
        found[key] = make()
        RESULTS.write_text(json.dumps(found, separators=(",", ":")) + "\n", encoding="utf-8")
    return found[key]


def labels(found: Kept, name: str, weight: float, split: int) -> Kept:
    """One run of `paper_rhgn.py` with this weight."""
    given = chosen()[name]["rhgn"]
    one = kept(found, f"labels/{name}/{weight:g}/{split}",
               lambda: run(("rhgn", name, given, split, {"behavior_weight": weight})))  # fmt: skip
    tests = " ".join(f"{label} {one['test'][label]['macro_f1']:.3f}" for label in LABELS)
    say(f"{name} split {split} weight {weight:g}: choosing {validation_f1(one):.4f}, test {tests}, "
        f"rank {one['rank']:.1f}, {one['seconds']} s")
    return one


def best_weight(on_choosing: dict[float, float]) -> float:
    """The highest weight that costs the users who choose MARGIN at most. on_choosing: macro-F1 by weight."""
    return max(weight for weight, f1 in on_choosing.items() if 100 * (on_choosing[0.0] - f1) <= MARGIN)


class Films:
    """The night of MovieLens 1M, and its tasks among the users outside fold A."""

    def __init__(self, data: Path, work: Path) -> None:
        self.nights = LogNight(FILMS, data, work, ["transe", "rhgn"])
        self.bench = Bench(LogNight(FILMS, data, work, ["transe"]), None)
        self.bench.nights.prepare()
        self.users = self.bench.users
        outside = ~in_fold_a(self.nights.settings(), self.users)
        self.outside = np.flatnonzero(outside)
        self.tasks = [_of_rows(task, outside[task.rows]) for task in self.bench.tasks]

    def trained(self, weight: float, seed: int) -> tuple[np.ndarray, float]:
        """(float32 vectors of all users, seconds of training)."""
        settings = self.nights.settings()
        hyper: RHGNHyperparameters = dataclasses.replace(settings.rhgn, behavior_weight=weight)
        self.nights.overrides = {"rhgn": hyper, "seed": seed}
        started = time.perf_counter()
        self.nights._run(finetune_rhgn, self.nights.date, 0, predecessor=None)
        seconds = time.perf_counter() - started
        self.nights._run(publish_users, self.nights.date, 0, model="rhgn", predecessor=None)
        (self.nights.root / "done-rhgn-by-weight").write_text(f"{seconds:.1f}\n")
        published = self.nights.published("rhgn")
        return published.vectors[pd.Index(published.users).get_indexer(self.users)], seconds

    def assessed(self, task: Task, vectors: np.ndarray) -> tuple[str, float, Figure]:
        """(the head that the users who choose prefer, their AUC, that of those who test)."""
        given = Vectors("rhgn", {"published": vectors}, True)

        def on_choosing(head: str) -> float:
            return float(mean_auc(task.labels, self.bench.scores(task, head, vectors, 0, tests=False)))

        by_head = {head: on_choosing(head) for head in head_names() if head.startswith("logistic")}
        head = max(by_head, key=lambda name: by_head[name])
        tested = figure(task.labels, [self.bench.scores(task, head, given.by_setting["published"], 0, tests=True)])
        return head, by_head[head], tested


def _of_rows(task: Task, mine: np.ndarray) -> Task:
    return Task(task.name, task.rows[mine], task.labels[mine], task.classes)


def vectors(found: Kept, films: Films, weight: float, seed: int) -> Kept:
    """Rank, AUC by task with the bootstrap's draws, and the seconds of training."""

    def make() -> Kept:
        mine, seconds = films.trained(weight, seed)
        tasks = {}
        for task in films.tasks:
            head, choosing, tested = films.assessed(task, mine)
            draws = np.round(tested.draws, 5).tolist()
            tasks[task.name] = {"head": head, "choosing": choosing, "auc": tested.auc, "draws": draws}
        return {"seconds": round(seconds, 1), "rank": effective_rank(mine[films.outside]), "tasks": tasks}

    one = kept(found, f"vectors/{weight:g}/{seed}", make)
    aucs = ", ".join(f"{name} {task['auc']:.4f}" for name, task in one["tasks"].items())
    say(f"vectors seed {seed} weight {weight:g}: rank {one['rank']:.1f}, {aucs}, {one['seconds']} s")
    return one


def told(found: Kept, weight: float, splits: dict[str, int], seeds: int) -> str:
    """The table, and the last line."""
    runs = [{name: [found[f"labels/{name}/{one:g}/{split}"] for split in range(n)] for name, n in splits.items()}
            for one in (weight, 0.0)]  # fmt: skip
    others = {(name, label): runs[1][name] for name in splits for label in LABELS}
    ahead, between = differences(runs[0], others)
    for key, points in ahead.items():
        say(f"{' '.join(key)}: {points:+.2f} points of macro-F1 [{between[key][0]:+.2f}, {between[key][1]:+.2f}]")
    changes = []
    first = found["vectors/0/0"]["tasks"]
    for name in first:
        with_it, without = (
            [found[f"vectors/{one:g}/{seed}"]["tasks"][name] for seed in range(seeds)] for one in (weight, 0.0))
        draws = [100 * np.mean([one["draws"] for one in side], axis=0) for side in (with_it, without)]
        low, high = interval(draws[0] - draws[1])
        changes.append(100 * float(np.mean([one["auc"] for one in with_it]) - np.mean([one["auc"] for one in without])))
        say(f"{name}: {changes[-1]:+.2f} hundredths of AUC [{low:+.2f}, {high:+.2f}]")
    points = float(np.mean(list(ahead.values())))
    say(f"labels: {points:+.2f} points [{between['mean'][0]:+.2f}, {between['mean'][1]:+.2f}]")
    return f"weight: {weight:g} labels: {points:.2f} vectors: {np.mean(changes):.2f}"


def say(text: str) -> None:
    print(text, flush=True)


def options_of(argv: list[str] | None) -> argparse.Namespace:
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    work = HERE.parents[1] / "build" / "paper_rhgn_behaviors"
    options.add_argument("--data", type=Path, default=HERE.parents[2] / "shared" / "data", help="folder of the data")
    options.add_argument("--work", type=Path, default=work, help="where graphs and scores are kept")
    options.add_argument("--films", type=int, default=SPLITS["ml-1m"], help="splits of MovieLens 1M")
    options.add_argument("--shops", type=int, default=SPLITS["alibaba-ecomm"], help="splits of Alibaba's sample")
    options.add_argument("--seeds", type=int, default=3, help="of the vectors")
    options.add_argument("--labels", action="store_true", help="stop before the vectors")
    return options.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    given = options_of(argv)
    torch.set_num_threads(1)
    splits = {name: n for name, n in (("ml-1m", given.films), ("alibaba-ecomm", given.shops)) if n}
    found: Kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    found |= {"command": "make paper-rhgn-behaviors", "splits": splits, "seeds": given.seeds}
    on_choosing = {}
    for weight in WEIGHTS:
        runs = [[labels(found, name, weight, split) for split in range(n)] for name, n in splits.items()]
        on_choosing[weight] = float(np.mean([np.mean([validation_f1(one) for one in of_set]) for of_set in runs]))
    weight = best_weight(on_choosing)
    say(f"macro-F1 of the users who choose by weight: {on_choosing}; chosen: {weight:g}")
    if given.labels:
        return
    weight = weight or WEIGHTS[1]  # the figures of one that costs too much, where all do
    films = Films(given.data, given.work / "movielens_1m")
    for seed in range(given.seeds):
        for one in dict.fromkeys((0.0, weight)):
            vectors(found, films, one, seed)
    found["last_line"] = told(found, weight, splits, given.seeds)
    RESULTS.write_text(json.dumps(found, separators=(",", ":")) + "\n", encoding="utf-8")
    say(found["last_line"])


if __name__ == "__main__":
    main()
