"""What TransE's early stopping is set by: `python -m tests.papers.stopping`.

Cold: MovieLens 1M as `profiling_tasks.py` has it, 20,000 held-out edges. Warm: MovieLens 100K on two nights, 9 February
and 9 March 1998, of 120 days each: the first cold, the second from the first and, beside it, cold. Every few epochs the
filtered MRR of the held-out edges with its standard error, and the AUC of gender and of age (each band against the
rest) by logistic regression on the users' vectors, over five folds. Nothing is chosen here on users or edges of a test.
The figures go to results/stopping.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jobs.events.readers import movielens
from models.hyperparameters import TransEHyperparameters
from models.learning.initialisation import WarmStart
from models.transe import TransE, TransEState, initialise
from tests.conftest import SHARED_DATA
from tests.papers.profiling_tasks import LABELS, Task, of_films, read_task, triples_of

RESULTS = Path(__file__).parent / "results" / "stopping.json"
NIGHTS = (datetime.datetime(1998, 2, 9, tzinfo=datetime.UTC), datetime.datetime(1998, 3, 9, tzinfo=datetime.UTC))
WINDOW = datetime.timedelta(days=120)


def auc(vectors: np.ndarray, labels: np.ndarray) -> float:
    """Of users whose label is known."""
    x, y = vectors[labels >= 0], labels[labels >= 0]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    found = cross_val_predict(model, x, y, cv=folds, method="predict_proba")
    if found.shape[1] == 2:
        return float(roc_auc_score(y, found[:, 1]))
    return float(roc_auc_score(y, found, multi_class="ovr", average="macro"))


def by_epoch(
    task: Task, hyper: TransEHyperparameters, seed: int, looks: Iterable[int], initial: WarmStart | None = None
) -> tuple[list[dict[str, float]], TransEState]:
    """(figures after so many epochs, the state after the last one)."""
    triples, wanted = triples_of(task), set(looks)
    start = initialise(triples, hyper, seed, initial)
    model, found = TransE(triples, hyper, seed=seed, deterministic=True, state=start), []
    for done in range(max(wanted) + 1):
        if done:
            model.train_epoch(done - 1)
        if done in wanted:
            (mrr, error), users = model.look(), model.state.entities[: task.n_users]
            areas = {f"{label}_auc": auc(users, task.labels[:, j]) for j, label in enumerate(LABELS)}
            found.append({"epochs": done, "mrr": mrr, "mrr_error": error} | areas)
            print({name: round(value, 4) for name, value in found[-1].items()}, flush=True)
    return found, model.state


def cold(seed: int) -> list[dict[str, float]]:
    hyper = TransEHyperparameters(threads=1, evaluate_edges=20_000, epochs=60)
    return by_epoch(read_task("ml-1m"), hyper, seed, range(5, 61, 5))[0]


def film_nights() -> Iterator[Task]:
    imported = movielens.read(SHARED_DATA / "ml-100k")
    times = imported.events.column("event_time")
    for date in NIGHTS:
        first, last = (pa.scalar(moment, times.type) for moment in (date - WINDOW, date))
        rows = pc.and_(pc.greater_equal(times, first), pc.less(times, last))
        yield of_films("ml-100k", dataclasses.replace(imported, events=imported.events.filter(rows)))


def warm(seed: int) -> dict[str, list[dict[str, float]]]:
    """Of the first night, and of the second, which starts from it or cold."""
    (before, tonight), hyper = film_nights(), TransEHyperparameters(threads=1)
    looks = (0, 5, 10, 15, 20, 25, 30, 40)
    first, state = by_epoch(before, hyper, seed, looks)
    place = {key: row for row, key in enumerate(before.keys.tolist())}
    rows = np.array([place.get(key, -1) for key in tonight.keys.tolist()])
    accumulators = state.entity_accumulators[rows], state.relation_accumulators
    relations = state.relations, rows >= 0, np.ones(len(state.relations), bool)
    start = WarmStart(state.entities[rows], *relations, *accumulators)
    second = {
        name: by_epoch(tonight, hyper, seed, looks, given)[0] for name, given in (("warm", start), ("cold", None))
    }
    return {"first night, cold": first, **{f"second night, {name}": found for name, found in second.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    found: dict[str, dict[str, Any]] = {"ml-1m, cold": {}, "ml-100k, two nights": {}}
    for seed in parser.parse_args().seeds:
        found["ml-100k, two nights"][str(seed)] = warm(seed)
        found["ml-1m, cold"][str(seed)] = cold(seed)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
