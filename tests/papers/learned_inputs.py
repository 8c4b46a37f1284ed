"""RHGN from random inputs of all nodes, frozen and learned, on MovieLens 100K: `python -m tests.papers.learned_inputs`.

Gender and age (seven bands, and three: below 25, below 45, above), both in one model, on five splits of 75 : 12.5 :
12.5 as in `paper_rhgn.py`; defaults of RHGN but for the batch, of which nine make an epoch. Macro-F1 of its own head on
the users who choose and who test. The figures go to results/learned_inputs.json.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from models.hyperparameters import RHGNHyperparameters
from models.rhgn import MISSING, infer_rhgn
from models.rhgn_classifiers import class_probabilities
from models.rhgn_training import train_rhgn
from tests.papers.profiling_runs import Figures, judged
from tests.papers.profiling_tasks import TEST, VALIDATION, Task, random_vectors, read_task, split_of

RESULTS = Path(__file__).parent / "results" / "learned_inputs.json"
HYPER = RHGNHyperparameters(batch_size=80, fanout=10)
SPLITS = 5
THREE = np.array([0, 1, 1, 2, 2, 2, 0])  # of GroupLens' seven bands: 18-24, 25-34, 35-44, 45-49, 50-55, 56+, under 18


def coarse(task: Task) -> Task:
    """With three bands of age."""
    labels = task.labels.copy()
    labels[:, 1] = np.where(labels[:, 1] < 0, MISSING, THREE[labels[:, 1]])
    return dataclasses.replace(task, labels=labels, classes=[task.classes[0], ["below 25", "below 45", "above"]])


def run(task: Task, split: int, learned: bool) -> Figures:
    part, classes = split_of(task.labels, split), [len(names) for names in task.classes]
    users = np.flatnonzero((part != TEST) & (task.labels != MISSING).any(axis=1))
    result = train_rhgn(
        task.graph, task.types, random_vectors(task, split), users, task.labels[users], classes, HYPER, seed=split,
        n_types=len(task.type_names), learned=np.full(len(task.types), learned),
        validation=part[users] == VALIDATION, deterministic=True,
    )  # fmt: skip
    vectors = infer_rhgn(task.graph, task.types, result.features, result.parameters, HYPER)[0][: task.n_users]
    named = np.stack([found.argmax(axis=1) for found in class_probabilities(result.parameters, vectors)], 1)
    figures = judged(task.labels, named, part)
    return {part: {label: one["macro_f1"] for label, one in figures[part].items()} for part in ("validation", "test")}


def main() -> None:
    task, found = read_task("ml-100k"), {}
    for bands, one in (("seven bands", task), ("three bands", coarse(task))):
        for learned in (False, True):
            name = f"{bands}, {'learned' if learned else 'frozen'}"
            found[name] = [run(one, split, learned) for split in range(SPLITS)]
            for part in ("validation", "test"):
                means = {label: np.mean([f[part][label] for f in found[name]]) for label in ("gender", "age")}
                print(name, part, {label: round(float(mean), 4) for label, mean in means.items()}, flush=True)
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
