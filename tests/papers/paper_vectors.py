"""What the published vectors are worth beside what a data scientist trains instead: `make paper-vectors`.

MovieLens 1M, Complete Journey, Online Retail, one night each (vector_logs.py); tasks in vector_tasks.py, peers in
vector_peers.py, all 64 wide. Half of the users, by a hash of the id, choose: the setting and the head (logistic
regression by penalty, XGBoost) of every vector and task, and which of our vectors stands for us in a task, by the mean
AUC over the classes, in five folds among them. The other half test: whoever is asked is in a fold apart from those who
train, under three seeds of the folds; the choosing half always trains. Differences by a paired bootstrap over the users
who test.

Vectors are kept by what they hang on under --work, and so are all scores: a run that broke off goes on. Training them
is not counted in the seconds. `--choosing` stops before the users who test are looked at, and writes nothing; it is for
whoever tunes a model. The last line reads `ahead: <tasks> of: <tasks> worst: <hundredths of AUC>`: where our vector
leads, or cannot be told from the best peer; and how far behind the best peer it is at most.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tests.papers.lookalike_cache import Arrays, cached, code_hash, hash_of
from tests.papers.shops import Shop
from tests.papers.vector_figures import Figure, figure, last_line, lift, mean_auc, verdict
from tests.papers.vector_heads import cross_scores, head_names
from tests.papers.vector_logs import FILMS, LOGS, LogNight, choosing
from tests.papers.vector_peers import PEERS, World, timed
from tests.papers.vector_tasks import Task, tasks_of

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "paper_vectors.json"
MODELS = ["transe", "ram_gnn", "ram_gnn_rec", "rhgn", "hugt", "relgnn", "kqgc_mean"]  # what changes most stands last
OF_FILMS = [model for model in MODELS if model != "relgnn"]  # as configured there: RelGNN learns for hours
SEEDS = 3
ALONE = "own history alone"  # the row of a task's own columns without any vector
MIDDLING = "logistic 0.01"  # under which settings are compared


@dataclass
class Vectors:
    """Of one name: by setting, float (n, 64), None for no vector; ours: a published model's."""

    name: str
    by_setting: dict[str, np.ndarray | None]
    ours: bool
    seconds: float | None = None


@dataclass
class Entry:
    """One vector on one task: what was chosen, its figure on those who choose, and on those who test."""

    vectors: Vectors
    setting: str
    head: str
    choosing: float
    tested: Figure | None = None
    lift: float | None = None


@dataclass
class Assessed:
    """One task of one log."""

    log: str
    task: str
    classes: list[str]
    users: int
    entries: list[Entry] = field(default_factory=list)

    @property
    def ours(self) -> Entry:
        """Of our vectors the one that those who choose prefer."""
        return max((one for one in self.entries if one.vectors.ours), key=lambda one: one.choosing)

    @property
    def peers(self) -> dict[str, Figure]:
        return {one.vectors.name: one.tested for one in self.entries if not one.vectors.ours}


class Bench:
    """One log: its users, their vectors and tasks; scores are kept."""

    def __init__(self, nights: LogNight, most_users: int | None) -> None:
        self.nights, self.most_users = nights, most_users
        self.code = code_hash(HERE / f"vector_{name}.py" for name in ("heads", "tasks"))

    @functools.cached_property
    def users(self) -> np.ndarray:
        """Raw ids of all with a vector."""
        return self.nights.published(self.nights.models[0]).users

    @functools.cached_property
    def tasks(self) -> list[Task]:
        return [few(task, self.most_users) for task in tasks_of(self.nights, self.users)]

    @functools.cached_property
    def vectors(self) -> list[Vectors]:
        return [*map(self._published, self.nights.models), *map(self._peer, PEERS)]

    def _published(self, model: str) -> Vectors:
        found = self.nights.published(model)
        place = pd.Index(found.users).get_indexer(self.users)
        if (place < 0).any():
            raise SystemExit(f"{self.nights.shop.name}: {model} has no vector of {(place < 0).sum()} users of "
                             f"{self.nights.models[0]}; train both on one graph")
        return Vectors(model, {"published": found.vectors[place]}, True, found.seconds)

    def _peer(self, name: str) -> Vectors:
        code = code_hash(HERE / f"{file}.py" for file in ("vector_peers", "als_vectors", "vector_logs"))
        key = name, code, hash_of(list(self.users))
        found = cached(self.nights.root / "peers", key, lambda: timed(name, World.of(self.nights, self.users)))
        seconds = float(found.pop("seconds"))
        return Vectors(name, dict(found), False, seconds / len(found))

    def scores(self, task: Task, head: str, vectors: np.ndarray | None, seed: int, tests: bool) -> np.ndarray:
        """float32 (n, C) of those who test, or of those who choose, among whom alone is learned then."""
        chooses = choosing(self.users[task.rows])
        asked, always = np.flatnonzero(chooses != tests), np.flatnonzero(chooses) if tests else np.zeros(0, np.int64)
        given = None if vectors is None else vectors[task.rows]
        parts = [None if part is None else part.tobytes() for part in (given, task.labels, task.own)]

        def compute() -> Arrays:
            return {"scores": cross_scores(head, task, given, asked, always, seed)}

        return cached(self.nights.root / "scores", (parts, head, seed, tests, self.code), compute)["scores"]

    def choose(self, task: Task, vectors: Vectors) -> Entry:
        """The setting and the head that serve best among those who choose: the setting under a middling penalty, the
        head on that setting."""

        def on_choosing(setting: str, head: str) -> Entry:
            scores = self.scores(task, head, vectors.by_setting[setting], 0, tests=False)
            return Entry(vectors, setting, head, float(mean_auc(task.labels, scores)))

        setting = max(vectors.by_setting, key=lambda name: on_choosing(name, MIDDLING).choosing)
        return max((on_choosing(setting, head) for head in head_names()), key=lambda one: one.choosing)

    def assess(self, task: Task, seeds: range, tests: bool) -> Assessed:
        found = Assessed(self.nights.shop.name, task.name, task.classes, len(task.rows))
        alone = [Vectors(ALONE, {"": None}, False)] if task.own is not None else []
        found.entries = [self.choose(task, one) for one in [*self.vectors, *alone]]
        for one in found.entries if tests else []:
            vectors = one.vectors.by_setting[one.setting]
            one.tested = figure(task.labels, [self.scores(task, one.head, vectors, seed, True) for seed in seeds])
            one.lift = None if vectors is None else lift(vectors[task.rows], task.labels)
        return found


def few(task: Task, most: int | None) -> Task:
    """The first users alone, to try the program."""
    if most is None:
        return task
    own = None if task.own is None else task.own[:most]
    return Task(task.name, task.rows[:most], task.labels[:most], task.classes, own)


def show(found: Assessed) -> None:
    say(f"\n{found.log}, {found.task}: {len(found.classes)} classes, {found.users} users; "
        f"ours by those who choose: {found.ours.vectors.name}")
    for one in found.entries:
        tested = "-" if one.tested is None else f"{one.tested.auc:.4f} ± {np.std(one.tested.by_seed):.4f}"
        near = "-" if one.lift is None else f"{one.lift:.2f}"
        say(f"  {one.vectors.name:<18} choosing {one.choosing:.4f}  test {tested:<17} lift {near:<5} "
            f"{one.head}; {one.setting}")
    if found.ours.tested is not None:
        told = verdict(found.ours.tested, found.peers)
        say(f"  behind {told.peer} by {told.behind:+.2f} "
            "[{:+.2f}, {:+.2f}] hundredths of AUC".format(*told.interval))


def row_of(found: Assessed) -> dict[str, Any]:
    told = verdict(found.ours.tested, found.peers)
    rows = [{
        "vectors": one.vectors.name, "setting": one.setting, "head": one.head, "choosing": round(one.choosing, 4),
        "auc": round(one.tested.auc, 4), "by_seed": [round(value, 4) for value in one.tested.by_seed],
        "lift": None if one.lift is None else round(one.lift, 3)} for one in found.entries]  # fmt: skip
    return {
        "log": found.log, "task": found.task, "classes": len(found.classes), "users": found.users,
        "ours": found.ours.vectors.name, "best_peer": told.peer, "behind": round(told.behind, 3),
        "interval": [round(side, 3) for side in told.interval], "ahead": bool(told.ahead), "vectors": rows}


def say(text: str) -> None:
    print(text, flush=True)


def options_of(argv: list[str] | None) -> argparse.Namespace:
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    data, work = HERE.parents[2] / "shared" / "data", HERE.parents[1] / "build" / "paper_vectors"
    options.add_argument("--data", type=Path, default=data, help="folder of the data sets")
    options.add_argument("--work", type=Path, default=work, help="where graphs, vectors and scores are kept")
    options.add_argument("--seeds", type=int, default=SEEDS, help="of the folds")
    options.add_argument("--models", nargs="+", help="in an order in which one can start from another; default: all")
    options.add_argument("--logs", nargs="+", default=[shop.name for shop in LOGS], help="some alone write no results")
    options.add_argument("--users", type=int, help="so many of each task alone, to try the program; writes no results")
    options.add_argument("--choosing", action="store_true", help="look at those who choose alone; writes no results")
    return options.parse_args(argv)


def models_of(shop: Shop) -> list[str]:
    return OF_FILMS if shop is FILMS else MODELS


def main(argv: list[str] | None = None) -> None:
    given = options_of(argv)
    logging.basicConfig(level=logging.ERROR)
    shops = [shop for shop in LOGS if shop.name in given.logs]
    nights = [LogNight(shop, given.data, given.work / shop.config, given.models or models_of(shop)) for shop in shops]
    benches = [Bench(one, given.users) for one in nights]
    for one in nights:
        one.prepare()
    spent = [(bench.nights.shop.name, vectors.name, vectors.seconds) for bench in benches for vectors in bench.vectors]
    started, found = time.perf_counter(), []
    for bench in benches:
        for task in bench.tasks:
            found.append(bench.assess(task, range(given.seeds), not given.choosing))
            show(found[-1])
    seconds = round(time.perf_counter() - started)
    say(f"\n{seconds} s (vectors apart; seconds by log and vector, the mean of a peer's settings: "
        + ", ".join(f"{log} {name} {one:.1f}" for log, name, one in spent) + ")")
    if given.choosing:
        return
    line = last_line([verdict(one.ours.tested, one.peers) for one in found])
    if len(shops) == len(LOGS) and given.users is None:
        report = {
            "last_line": line, "fold_seeds": given.seeds, "seconds": seconds,
            "models": {one.shop.name: one.models for one in nights},
            "vector_seconds": [[log, name, round(one, 1)] for log, name, one in spent],
            "tasks": [row_of(one) for one in found]}  # fmt: skip
        RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    say(line)


if __name__ == "__main__":
    main()
