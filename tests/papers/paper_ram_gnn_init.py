"""Whether other models gain when they start from RAM-GNN, and not from TransE: `make paper-ram-gnn-init`.

RHGN: the task, settings and splits of `make paper-rhgn` on Alibaba's sample and MovieLens 1M, with RAM-GNN's vectors of
users and items for TransE's; macro-F1 of gender and age on the users who test, less that of results/paper_rhgn.json.
KQGC: the protocol of `make paper-lookalike` at two shops, the pooled classifier with the affinities of KQGC's mean, on
the label window after everything that was learned from; PR-AUC at 1:3, gain over KQGC that started from TransE, and of
either over the bare classifier. `--part` runs one of the two, `--shops` some of the shops. Vectors and scores are kept
below build/: a run that broke off goes on. The figures go to results/paper_ram_gnn_init.json.

The last lines read `rhgn: <points of macro-F1> [95 % interval]` and `kqgc: <percent> [95 % interval]`.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np

from jobs.configuration.load import config_hash
from jobs.configuration.sections import Spark
from jobs.spark import session
from models.hyperparameters import KQGCHyperparameters
from tests.papers import lookalike_rows
from tests.papers.gains import Scored, gain, interval
from tests.papers.lookalike_cache import PROJECT, SEPARATOR, Arrays, cached, code_of, hash_of
from tests.papers.lookalike_figures import Results, figures_of, mean_gain
from tests.papers.lookalike_frames import frame_of
from tests.papers.paper_kqgc import OVERRIDES
from tests.papers.paper_lookalike import EARLIER
from tests.papers.paper_rhgn import LABELS, differences, mean_f1, read, run_model
from tests.papers.shops import GRAPH_TABLES, SHOPS, Nights, Shop

RESULTS = Path(__file__).parent / "results" / "paper_ram_gnn_init.json"
WORK = PROJECT / "build" / "paper_ram_gnn_init"
DATA = PROJECT.parent / "shared" / "data"
INITS, SEEDS = ("transe", "ram_gnn"), 3
VARIANTS = {"": [], "+kqgc": ["kqgc_mean"]}  # name → models whose affinities are columns
WINDOWS = 3  # past label windows
BARE, FROM = "pooled", {init: f"pooled+kqgc from {init}" for init in INITS}


class InitNights(Nights):
    """A shop's nights with KQGC's mean from TransE or RAM-GNN: the graphs are the same, the rest lies apart."""

    def __init__(self, shop: Shop, init: str) -> None:
        kqgc = OVERRIDES["kqgc"]
        assert isinstance(kqgc, KQGCHyperparameters)
        overrides = OVERRIDES | {"kqgc": KQGCHyperparameters(**vars(kqgc) | {"init": init})}
        super().__init__(shop, DATA, WORK / shop.config, overrides, EARLIER, [init, "kqgc_mean"])
        self.init = init

    def table(self, name: str, seed: int | None, kind: Any = None) -> Any:
        found = super().table(name, seed, *([kind] if kind else []))
        if name in GRAPH_TABLES:
            return found
        return type(found)(name, found.uri.replace(str(self.root), str(self.root / self.init), 1))

    def prepared(self, seed: int) -> InitNights:
        """With the vectors of the seed, made where they are not there."""
        mark = self.root / f"done-{self.init}-{seed}-{config_hash(self.settings(seed))}"
        if not mark.exists():
            self.train(seed)
            mark.touch()
            print(self.shop.name, self.init, "seed", seed, self.seconds, flush=True)
        return self


def graphs(shop: Shop) -> None:
    """Once for both, with RAM-GNN's table."""
    nights = InitNights(shop, "ram_gnn")
    mark = nights.root / f"done-graphs-{hash_of(config_hash(nights.settings().graph), nights.dates)}"
    if not mark.exists():
        with session(Spark(driver_memory="1500m", shuffle_partitions=2), "paper-ram-gnn-init"):
            nights.build_graphs()
        mark.touch()


def scores_of(nights: InitNights, seed: int) -> Arrays:
    """Labels by client, margins by row and client, of the day that tests."""
    settings, date = nights.settings(seed), nights.dates[-2]

    def compute() -> Arrays:
        frame = frame_of(nights, settings, date)
        found = {f"labels{SEPARATOR}{client}": labels for client, labels in frame.labels.items()}
        for variant, models in VARIANTS.items():
            if not models and nights.init != INITS[0]:
                continue  # without vectors both are one
            for (name, client), row in lookalike_rows.pooled(frame, variant, models, WINDOWS).items():
                if name == f"pooled{variant}":
                    found[f"{FROM[nights.init] if variant else BARE}{SEPARATOR}{client}"] = row.margins
        return found

    key = config_hash(nights.settings(seed)), date, seed, code_of("lookalike_frames", "lookalike_rows")
    return cached(nights.root / "scores", key, compute)


def kqgc(shops: list[Shop], seeds: int) -> dict[str, Any]:
    """Gains of KQGC from RAM-GNN over KQGC from TransE, and of each over no affinities."""
    parts, found = [], {}
    for shop in shops:
        graphs(shop)
        results = Results([], [])
        for seed in range(seeds):
            of_inits = [scores_of(InitNights(shop, init).prepared(seed), seed) for init in INITS]
            for name, margins in (item for scores in of_inits for item in scores.items()):
                row, client = name.split(SEPARATOR)
                if row != "labels":
                    results.add(Scored(client, seed, row, of_inits[0][f"labels{SEPARATOR}{client}"], margins))
        figures, draws = figures_of(results), results.draws(results.rows)
        parts.append((figures, draws))
        compared = [(FROM["ram_gnn"], FROM["transe"]), *((row, BARE) for row in FROM.values())]
        found[shop.name] = {
            "seeds": seeds, "pr_auc": {row: float(np.mean([v for (r, _), v in figures.items() if r == row]))
                                       for row in results.rows},
            "gains": {f"{row} over {over}": {"gain": float(gain(figures, row, over)),
                                             "interval": interval(gain(draws, row, over))}
                      for row, over in compared}}  # fmt: skip
        print(shop.name, json.dumps(found[shop.name]), flush=True)
    mean, drawn = (mean_gain([(one[k], FROM["ram_gnn"], FROM["transe"]) for one in parts]) for k in (0, 1))
    return {"shops": found, "gain": float(mean), "interval": interval(drawn)}


def rhgn() -> dict[str, Any]:
    """Points of macro-F1 by task, and their mean."""
    before, ours = read("paper_rhgn", "paper-rhgn")["runs"], run_model("rhgn", {"init": "ram_gnn"})
    ahead, intervals = differences(ours, {(name, label): before[name] for name in ours for label in LABELS})
    tasks = {f"{name} {label}": {
        "macro_f1": mean_f1(ours[name], "test", label), "from_transe": mean_f1(before[name], "test", label),
        "validation": mean_f1(ours[name], "validation", label),
        "validation_from_transe": mean_f1(before[name], "validation", label),
        "points": points, "interval": intervals[name, label]} for (name, label), points in ahead.items()}  # fmt: skip
    for task, told in tasks.items():
        print(task, json.dumps(told), flush=True)
    return {"tasks": tasks, "points": float(np.mean(list(ahead.values()))), "interval": intervals["mean"]}


def main() -> None:
    """The parts that are asked for, beside what the others gave before."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--part", choices=("rhgn", "kqgc"), action="append")
    parser.add_argument("--shops", nargs="*", default=[shop.config for shop in SHOPS])
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of KQGC's part")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for part in options.part or ("rhgn", "kqgc"):
        shops = [shop for shop in SHOPS if shop.config in options.shops]
        found[part] = rhgn() if part == "rhgn" else kqgc(shops, options.seeds)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    for part, figure in (("rhgn", "points"), ("kqgc", "gain")):
        if part in found:
            low, high = found[part]["interval"]
            print(f"{part}: {found[part][figure]:+.2f} [{low:+.2f}, {high:+.2f}]")


if __name__ == "__main__":
    main()
