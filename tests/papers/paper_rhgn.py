"""Table 1 of the RHGN paper on data that is to be had: `python -m tests.papers.paper_rhgn`.

Gender and age of `alibaba-ecomm` (five stratified splits) and `ml-1m` (three), 75 : 12.5 : 12.5, both labels in one
model; settings from `tune_rhgn.py`. `--peers` runs the peers on the same splits and keeps their figures;
`--ablations` runs RHGN with a part taken away. Without an option: RHGN, the table, and its lead over the peer that
was best by validation in each of the four tasks. Intervals are of a bootstrap over users, the same draw for all
splits, labels and models of a data set, and hold for these splits. Figures and predictions go to `results/`. The last
line reads `lead: <points of macro-F1, mean of the four tasks>`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.classifiers.precision_recall import bootstrap_weights
from models.rhgn import MISSING
from tests.papers.gains import interval
from tests.papers.profiling_runs import PEERS, Figures, task_of
from tests.papers.profiling_tasks import LABELS, N_SPLITS, TEST, split_of
from tests.papers.tune_rhgn import chosen, run_all

RESULTS = Path(__file__).parent / "results"
DRAWS = 2000
Runs = dict[str, list[Figures]]  # data set → one for each split
Key = tuple[str, str]  # data set, label

ABLATIONS: dict[str, dict[str, Any]] = {  # over the chosen settings; `merged` is of the graph
    "user-item relations merged": {"merged": "behaviors"},
    "item-attribute relations merged": {"merged": "attributes"},
    "softmax per relation": {"softmax_over": "relation"},
    "random, learned initial vectors": {"init": "random"},
    "attributes from their texts": {"init": "content"},
}


@dataclass(frozen=True)
class Confusions:
    """Weights of a task's users → confusion matrices of one model's tests.

    cells: int64 (users who test,) true class · K + named one, of each split.
    """

    classes: int
    users: list[np.ndarray]
    cells: list[np.ndarray]

    @classmethod
    def of(cls, name: str, label: str, runs: list[Figures]) -> Confusions:
        task, j = task_of(name), LABELS.index(label)
        classes, users, cells = len(task.classes[j]), [], []
        for split, figures in enumerate(runs):
            tested = np.flatnonzero(split_of(task.labels, split) == TEST)
            truth, named = task.labels[tested, j], np.array(figures["named"][label])
            known = truth != MISSING
            users.append(tested[known])
            cells.append(truth[known] * classes + named[known])
        return cls(classes, users, cells)

    def macro_f1(self, weights_BU: np.ndarray) -> np.ndarray:
        """(B,), mean over the splits; a class counts where it is true or named."""
        found = []
        for users, cells in zip(self.users, self.cells, strict=True):
            one_hot = np.zeros((len(cells), self.classes**2), np.float32)
            one_hot[np.arange(len(cells)), cells] = 1
            counts = (weights_BU[:, users].astype(np.float32) @ one_hot).reshape(-1, self.classes, self.classes)
            both, right = counts.sum(axis=1) + counts.sum(axis=2), np.diagonal(counts, axis1=1, axis2=2)
            found.append((2 * right / np.maximum(both, 1)).sum(axis=1) / np.maximum((both > 0).sum(axis=1), 1))
        return np.mean(found, axis=0)


def differences(
    ours: Runs, others: Mapping[Key, list[Figures]]
) -> tuple[dict[Key, float], dict[Key | str, tuple[float, float]]]:
    """(points of macro-F1 that ours is ahead in each task; 95 % intervals of them, and of their mean as "mean")."""
    ahead, drawn = {}, {}
    for name, runs in ours.items():
        n = task_of(name).n_users
        weights = np.concatenate([np.ones((1, n)), bootstrap_weights(n, DRAWS, np.random.default_rng(1))])
        for label in LABELS:
            mine, theirs = (Confusions.of(name, label, one).macro_f1(weights) for one in (runs, others[name, label]))
            points = 100 * (mine - theirs)
            ahead[name, label], drawn[name, label] = float(points[0]), points[1:]
    intervals: dict[Key | str, tuple[float, float]] = {key: interval(values) for key, values in drawn.items()}
    return ahead, intervals | {"mean": interval(np.mean(list(drawn.values()), axis=0))}


def mean_f1(runs: list[Figures], part: str, label: str) -> float:
    return float(np.mean([one[part][label]["macro_f1"] for one in runs]))


def cell(values: list[float]) -> str:
    """Mean ± standard deviation over the splits, in percent."""
    return f"{100 * np.mean(values):5.1f} ± {100 * np.std(values, ddof=1):3.1f}"


def row(name: str, by_task: Mapping[Key, list[dict[str, float]]]) -> str:
    """A line of the table: accuracy and macro-F1 of each task."""
    cells = [cell([one[figure] for one in by_task[key]]) for key in by_task for figure in ("accuracy", "macro_f1")]
    return f"| {name:24s} | " + " | ".join(cells) + " |"


def tests_of(runs: Runs) -> dict[Key, list[dict[str, float]]]:
    return {(name, label): [one["test"][label] for one in mine] for name, mine in runs.items() for label in LABELS}


def run_model(model: str, changed: Mapping[str, Any] | None = None) -> Runs:
    """The model's chosen settings on every split of both data sets."""
    settings, found = chosen(), {}
    for name, n_splits in N_SPLITS.items():
        more, given = dict(changed or {}), settings[name].get(model)
        if "init" in more:
            given = given | {"init": more.pop("init")}
        started = time.perf_counter()
        found[name] = list(run_all([(model, name, given, split, more) for split in range(n_splits)]))
        tests = {label: [one["test"][label]["macro_f1"] for one in found[name]] for label in LABELS}
        figures = ", ".join(f"{label} {cell(values)}" for label, values in tests.items())
        seconds = time.perf_counter() - started
        print(f"{name} {model} {more or given}: test macro-F1 {figures}  {seconds:.0f} s", flush=True)
    return found


def keep(name: str, found: Any) -> None:
    (RESULTS / f"{name}.json").write_text(json.dumps(found, separators=(",", ":")) + "\n")


def read(name: str, target: str) -> Any:
    file = RESULTS / f"{name}.json"
    if not file.exists():
        raise SystemExit(f"{file.name} is not there; run `make {target}` first")
    return json.loads(file.read_text())


def run_peers() -> None:
    """Each on the same splits; its figures are kept."""
    runs = {model: run_model(model) for model in PEERS}
    keep("paper_rhgn_peers", {"command": "make paper-rhgn-peers", "seeds": N_SPLITS, "runs": runs})


def run_ablations() -> None:
    """What each part is worth: RHGN less the ablated one, in points of macro-F1."""
    whole, found, cost = read("paper_rhgn", "paper-rhgn")["runs"], {}, {}
    print("| RHGN | " + " | ".join(f"{name} {label}" for name, label in tests_of(whole)) + " | mean |")
    for title, changed in ABLATIONS.items():
        found[title] = run_model("rhgn", changed)
    for title, runs in found.items():
        ahead, intervals = differences(whole, {(name, label): runs[name] for name in runs for label in LABELS})
        cost[title] = {"points": float(np.mean(list(ahead.values()))), "interval": intervals["mean"]}
        cells = [
            f"{points:+.1f} [{intervals[key][0]:+.1f}, {intervals[key][1]:+.1f}]" for key, points in ahead.items()
        ]
        print(f"| less: {title:32s} | " + " | ".join(cells), end=" | ")
        print(f"{cost[title]['points']:+.2f} [{intervals['mean'][0]:+.2f}, {intervals['mean'][1]:+.2f}] |")
    keep("paper_rhgn_ablations", {"command": "make paper-rhgn-ablations", "cost": cost, "runs": found})


def run_paper() -> None:
    """RHGN on every split, the table, the lead."""
    peers = read("paper_rhgn_peers", "paper-rhgn-peers")["runs"]
    ours = run_model("rhgn")
    tasks = list(tests_of(ours))
    best = {}
    for name, label in tasks:
        by_validation = {model: mean_f1(runs[name], "validation", label) for model, runs in peers.items()}
        best[name, label] = max(by_validation, key=lambda model: by_validation[model])
    ahead, intervals = differences(ours, {key: peers[best[key]][key[0]] for key in tasks})
    heads = " | ".join(f"{name} {label}: accuracy | macro-F1" for name, label in tasks)
    print(f"| accuracy, macro-F1 in %    | {heads} |")
    for model, runs in peers.items():
        print(row(model, tests_of(runs)))
    print(row("RHGN", tests_of(ours)))
    on_vectors = {(name, label): [one["xgboost"][label] for one in ours[name]] for name, label in tasks}
    if all(isinstance(one, dict) for found in on_vectors.values() for one in found):
        print(row("XGBoost on its vectors", on_vectors) + " trained on the users who choose, an eighth of all")
    for key in tasks:
        print(
            f"{' '.join(key)}: RHGN less {best[key]}, the best peer by validation: "
            f"{ahead[key]:+.1f} points [{intervals[key][0]:+.1f}, {intervals[key][1]:+.1f}]"
        )
    lead = float(np.mean(list(ahead.values())))
    best_peers = {" ".join(key): peer for key, peer in best.items()}
    led = {"lead": lead, "interval": intervals["mean"], "best_peers": best_peers}
    keep("paper_rhgn", {"command": "make paper-rhgn", **led, "runs": ours})
    print(f"95 % interval of the lead: [{intervals['mean'][0]:+.2f}, {intervals['mean'][1]:+.2f}]")
    print(f"lead: {lead:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--ablations", action="store_true")
    options = parser.parse_args()
    run_peers() if options.peers else run_ablations() if options.ablations else run_paper()


if __name__ == "__main__":
    main()
