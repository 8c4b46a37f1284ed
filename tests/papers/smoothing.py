"""What of KQGC costs a user's vector, by those who choose in `make paper-vectors`: `python -m tests.papers.smoothing`.

From the graph and TransE's vectors that `make paper-vectors` keeps under --work, on one log: TransE's own vectors h,
the messages m alone, h + m by several shares of the degree, an edge of more events passing one message or several
(nothing learned), two layers of it, and the map learned with the settings of `make paper-kqgc`. Each on all tasks of
the log, logistic regression under each penalty, among the users who choose; nobody who tests is looked at. The figures
go to results/smoothing.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from jobs.arrays import Night, read_checkpoint
from jobs.embeddings.smooth_kqgc import training_pairs
from models.hyperparameters import KQGCHyperparameters
from models.kqgc import infer_kqgc
from models.kqgc_training import train_kqgc
from tests.papers.paper_kqgc import LEARNED
from tests.papers.vector_figures import mean_auc
from tests.papers.vector_heads import PENALTIES, cross_scores
from tests.papers.vector_logs import LOGS, LogNight, choosing
from tests.papers.vector_tasks import Task, tasks_of

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "smoothing.json"
SHARES = (0.0, 0.25, 0.35, 0.5, 1.0)
NOBODY = np.zeros(0, np.int64)


def variants(nights: LogNight) -> Iterator[tuple[str, np.ndarray]]:
    """(name, float32 (n, d) of all entities of the graph)."""
    night = nights.night
    start = read_checkpoint(nights.table("checkpoints", None).table("transe"), nights.date.isoformat())
    graph, given = night.graph(), (start.entities, start.relations)
    yield "h", start.entities
    for repeats, share in itertools.product((False, True), SHARES):
        hyper = KQGCHyperparameters(learned=False, degree_share=share, repeats=repeats)
        smoothed, _ = infer_kqgc(night.graph(repeats), *given, {}, hyper)
        again = " with repeats" if repeats else ""
        if not share:
            yield f"m{again}", smoothed - start.entities
        yield f"h + m degree^{share}{again}", smoothed
    yield "two layers of h + m", infer_kqgc(graph, *given, {}, KQGCHyperparameters(layers=2, degree_share=0))[0]
    purchase = night.relation(nights.settings().graph.purchase)
    pairs, items = training_pairs(night, purchase, start.source), night.of_type("item")
    learned = train_kqgc(graph, *given, pairs, purchase, items, LEARNED, seed=0, deterministic=True)
    yield "W (h + m) + b, learned", infer_kqgc(graph, *given, learned.parameters, LEARNED)[0]


def rows_of(night: Night, users: np.ndarray) -> np.ndarray:
    """int64: the users' numbers in the graph."""
    mine = night.of_type("user")
    return mine[pd.Index(night.raw.take(mine).to_numpy(zero_copy_only=False)).get_indexer(users)]


def by_penalty(task: Task, vectors: np.ndarray, asked: np.ndarray) -> dict[str, float]:
    heads = [f"logistic {penalty}" for penalty in PENALTIES]
    return {
        head: round(float(mean_auc(task.labels, cross_scores(head, task, vectors, asked, NOBODY, 0))), 4)
        for head in heads}  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, default=HERE.parents[2] / "shared" / "data")
    options.add_argument("--work", type=Path, default=HERE.parents[1] / "build" / "paper_vectors")
    options.add_argument("--log", default="completejourney", choices=[shop.name for shop in LOGS])
    given = options.parse_args()
    shop = next(one for one in LOGS if one.name == given.log)
    nights = LogNight(shop, given.data, given.work / shop.config, ["transe"])
    nights.prepare()
    users = nights.published("transe").users
    tasks, found = list(tasks_of(nights, users)), json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    rows, figures = rows_of(nights.night, users), {task.name: {} for task in tasks}
    found[shop.name] = figures
    for name, vectors in variants(nights):
        for task in tasks:
            asked = np.flatnonzero(choosing(users[task.rows]))
            figures[task.name][name] = by_penalty(task, vectors[rows[task.rows]], asked)
            print(f"{shop.name}, {task.name}: {name:24s} {figures[task.name][name]}", flush=True)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
