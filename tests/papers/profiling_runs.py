"""One training of one model on one split, and what it says of the users who choose and test.

A model's `Settings` are those of one trial. RHGN trains here; R-GCN and HGT in a program of their own
(`pyg_peers.py`), on the very neighbourhoods that RHGN draws; XGBoost on bags of items; the majority class. Vectors and
neighbourhoods are kept below `build/` for later runs.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
import xgboost
from sklearn.metrics import f1_score

from models.classifiers.profiling import TooFewUsers, fit
from models.hyperparameters import RHGNHyperparameters, TreeHyperparameters
from models.rhgn import MISSING, infer_rhgn
from models.rhgn_classifiers import class_probabilities
from models.rhgn_training import train_rhgn
from tests.papers.profiling_tasks import (
    BATCH,
    LABELS,
    TEST,
    TRAIN,
    VALIDATION,
    Task,
    content_vectors,
    ram_gnn_vectors,
    random_vectors,
    read_task,
    split_of,
    transe_vectors,
)
from tests.papers.vector_figures import effective_rank

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "build" / "paper-rhgn"
PEER = ROOT / ".venv-pyg" / "bin" / "python"
GRAPH_MODELS, PEERS = ("rhgn", "rgcn", "hgt"), ("majority", "xgboost", "rgcn", "hgt")
FANOUT, MOST_EPOCHS = 10, 20


@dataclass(frozen=True)
class Settings:
    """Of RHGN, R-GCN and HGT.

    What is not here is the same in all: two layers, AdamW, one cycle of the rate, batches and neighbourhoods.
    """

    learning_rate: float = 0.003
    epochs: int = 12
    width: int = 64
    heads: int = 4  # R-GCN has none
    dropout: float = 0.2
    weight_decay: float = 0.01
    # random: vectors of all nodes are learned, from random ones; content: TransE's, and FastText's for attributes;
    # ram_gnn: RAM-GNN's of users and items, TransE's of attributes
    init: str = "transe"
    class_weights: bool = True
    stop_on: str = "macro_f1"

    def hyper(self, task: Task, **more: Any) -> RHGNHyperparameters:
        fields = {name: value for name, value in asdict(self).items() if name != "init"}
        return RHGNHyperparameters(**fields, batch_size=BATCH[task.name], fanout=FANOUT, patience=0, **more)


@dataclass(frozen=True)
class TreeSettings:
    """Of XGBoost on bags of items."""

    max_depth: int = 4
    learning_rate: float = 0.05
    colsample: float = 0.3
    min_child_weight: float = 5.0
    class_weights: bool = True
    attributes: bool = True  # beside the items of each behaviour, how many of them have each attribute's value


Figures = dict[str, Any]


@functools.cache
def task_of(name: str) -> Task:
    return read_task(name)


def kept(name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """The array of this name below `build/`, made where it is not there."""
    file = KEPT / f"{name}.npy"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        scratch = file.with_suffix(f".{os.getpid()}.npy")
        np.save(scratch, make())
        scratch.rename(file)
    return np.load(file)


def vectors_of(task: Task, init: str, split: int) -> np.ndarray:
    """The given vectors of all nodes."""
    whole = task_of(task.name)
    around = functools.partial(vectors_of, whole, "transe")
    make = {
        "transe": lambda: transe_vectors(whole, split), "random": lambda: random_vectors(whole, split),
        "content": lambda: content_vectors(whole, around(split), split),
        "ram_gnn": lambda: with_pretrained(whole, around(split))}  # fmt: skip
    return kept(f"{task.name}/{init}_{split}", make[init])


def with_pretrained(task: Task, transe: np.ndarray) -> np.ndarray:
    """RAM-GNN's vectors of users and items, which are pretrained once for all splits, and TransE's of attributes."""
    first = np.searchsorted(task.types, 2)
    pretrained = kept(f"{task.name}/ram_gnn", lambda: ram_gnn_vectors(task))
    return np.concatenate([pretrained, transe[first:]])


def judged(labels: np.ndarray, named: np.ndarray, part: np.ndarray) -> Figures:
    """Macro-F1 and accuracy by label on the users who choose and who test, and what each tester was called.

    named: int64 (u, J).
    """
    found: Figures = {}
    for number, name in ((VALIDATION, "validation"), (TEST, "test")):
        mine = part == number
        found[name] = {label: scores(labels[mine, j], named[mine, j]) for j, label in enumerate(LABELS)}
    return found | {"named": {label: named[part == TEST, j].tolist() for j, label in enumerate(LABELS)}}


def scores(labels: np.ndarray, named: np.ndarray) -> dict[str, float]:
    """Of the users whose label is known."""
    known = labels != MISSING
    macro = f1_score(labels[known], named[known], average="macro", zero_division=0)
    return {"macro_f1": float(macro), "accuracy": float((labels == named)[known].mean())}


def validation_f1(figures: Figures) -> float:
    """What trials are chosen by."""
    return float(np.mean([one["macro_f1"] for one in figures["validation"].values()]))


def run_rhgn(task: Task, settings: Settings, split: int, **more: Any) -> Figures:
    """RHGN's own head, and beside it (`xgboost`) XGBoost on the vectors, trained on the users who chose, and their
    effective rank among the users whose labels did not train.

    more: further hyperparameters.
    """
    hyper, part = settings.hyper(task, **more), split_of(task.labels, split)
    users = np.flatnonzero((part != TEST) & (task.labels != MISSING).any(axis=1))
    features, classes = vectors_of(task, settings.init, split), [len(names) for names in task.classes]
    learned = np.full(len(task.types), settings.init == "random")
    started = time.perf_counter()
    result = train_rhgn(
        task.graph, task.types, features, users, task.labels[users], classes, hyper,
        seed=split, n_types=len(task.type_names), learned=learned, validation=part[users] == VALIDATION,
        behaviors=range(task.behaviors), deterministic=True,
    )  # fmt: skip
    vectors = infer_rhgn(task.graph, task.types, result.features, result.parameters, hyper)[0][: task.n_users]
    by_label = class_probabilities(result.parameters, vectors)
    named = np.stack([probabilities.argmax(axis=1) for probabilities in by_label], 1)
    cost = {"seconds": round(time.perf_counter() - started, 1), "best_epoch": result.best_epoch}
    cost["rank"] = effective_rank(vectors[part != TRAIN])
    return judged(task.labels, named, part) | cost | {"xgboost": _on_vectors(task, vectors, part)}


def _on_vectors(task: Task, vectors: np.ndarray, part: np.ndarray) -> dict[str, dict[str, float] | str]:
    """As the nightly profiles do it: trained on users that RHGN did not learn from."""
    found: dict[str, dict[str, float] | str] = {}
    for j, label in enumerate(LABELS):
        known = task.labels[:, j] != MISSING
        chosen, tested = known & (part == VALIDATION), known & (part == TEST)
        order, trees = np.random.default_rng(0).random(chosen.sum()), TreeHyperparameters(threads=1)
        try:
            model = fit(vectors[chosen], task.labels[chosen, j], order, trees, 0)
        except TooFewUsers as error:
            found[label] = str(error)
            continue
        found[label] = scores(task.labels[tested, j], model.probabilities(vectors[tested], 1).argmax(axis=1))
    return found


def run_majority(task: Task, _: None, split: int) -> Figures:
    """Everybody is of the commonest class among those who train."""
    part = split_of(task.labels, split)
    common = [np.bincount(column[(part == TRAIN) & (column != MISSING)]).argmax() for column in task.labels.T]
    return judged(task.labels, np.tile(common, (task.n_users, 1)), part)


def bags(task: Task, attributes: bool) -> scipy.sparse.csr_matrix:
    """float32 (u, F): which items a user had to do with under each behaviour;
    with `attributes` how many have each value, as log(1 + n)."""
    n, own = len(task.types), task.relations < task.behaviors
    found = []
    for relation in range(task.behaviors):
        rows, columns = task.heads[task.relations == relation], task.tails[task.relations == relation]
        found.append(scipy.sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), (task.n_users, n)))
    if attributes:
        ends = (task.heads[~own], task.tails[~own])
        values = scipy.sparse.csr_matrix((np.ones((~own).sum(), np.float32), ends), (n, n))
        found += [(one @ values).log1p() for one in found]
    together = scipy.sparse.hstack(found).tocsc()
    return together[:, np.diff(together.indptr) >= 5].tocsr()  # what fewer than five users have splits nothing


def run_xgboost(task: Task, settings: TreeSettings, split: int) -> Figures:
    """A classifier for each label, stopped early on the users who choose."""
    part, features = split_of(task.labels, split), bags(task, settings.attributes)
    named, started = [], time.perf_counter()
    for j, names in enumerate(task.classes):
        labels = task.labels[:, j]
        train, choose = ((part == number) & (labels != MISSING) for number in (TRAIN, VALIDATION))
        counts = np.bincount(labels[train], minlength=len(names))
        weight = labels[train].size / (len(names) * counts) if settings.class_weights else np.ones(len(names))
        trained, chosen = (
            xgboost.DMatrix(features[rows], labels[rows], weight=weight[labels[rows]], nthread=1)
            for rows in (train, choose)
        )
        parameters = {
            "objective": "multi:softprob",
            "num_class": len(names),
            "tree_method": "hist",
            "max_depth": settings.max_depth,
            "eta": settings.learning_rate,
            "subsample": 0.8,
            "colsample_bytree": settings.colsample,
            "min_child_weight": settings.min_child_weight,
            "nthread": 1,
            "seed": split,
        }
        stopping = {"evals": [(chosen, "validation")], "early_stopping_rounds": 30, "verbose_eval": False}
        booster = xgboost.train(parameters, trained, 400, **stopping)
        scored = booster.predict(xgboost.DMatrix(features, nthread=1), iteration_range=(0, booster.best_iteration + 1))
        named.append(scored.argmax(axis=1))
    return judged(task.labels, np.stack(named, 1), part) | {"seconds": round(time.perf_counter() - started, 1)}


def neighbourhoods(task: Task, split: int) -> Path:
    """A folder with everything that R-GCN and HGT need of a split:
    the graph, and RHGN's own draws of MOST_EPOCHS epochs and of the users who choose."""
    folder = KEPT / task.name / f"neighbourhoods_{split}_of_{FANOUT}_by_{BATCH[task.name]}"
    if (folder / "done").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    part, graph = split_of(task.labels, split), task.graph
    labelled = (task.labels != MISSING).any(axis=1)
    sampler = graph.sampler(FANOUT, split, deterministic=True, per_relation=True)
    np.savez(
        folder / "graph.npz",
        offsets=graph.offsets.numpy(),
        sources=graph.sources.numpy(),
        codes=graph.codes.numpy(),
        types=task.types,
        labels=task.labels,
        n_codes=graph.n_codes,
        code_ends=_code_ends(task),
        n_classes=[len(names) for names in task.classes],
        n_types=len(task.type_names),
    )
    users = np.flatnonzero((part != TEST) & labelled)
    trained, held = (np.flatnonzero(part[users] == number) for number in (TRAIN, VALIDATION))
    for number in [*range(MOST_EPOCHS), -1]:
        order = held if number < 0 else np.random.default_rng([split, 1, number]).permutation(trained)
        sampler.restart([split, 3] if number < 0 else [split, 2, number])  # as RHGN's training does it
        batches: dict[str, np.ndarray] = {}
        for b, first in enumerate(range(0, len(order), BATCH[task.name])):
            nodes, layers = sampler.sample(torch.from_numpy(np.sort(users[order[first : first + BATCH[task.name]]])), 2)
            batches |= {f"{b}.{name}": values for name, values in _as_arrays(nodes, layers).items()}
        np.savez(folder / ("validation.npz" if number < 0 else f"epoch_{number}.npz"), n_batches=b + 1, **batches)
    (folder / "done").touch()
    return folder


def _as_arrays(nodes: torch.Tensor, layers: list) -> dict[str, np.ndarray]:
    """int32: what one sample holds, the layers' parts under their numbers."""
    found = {"nodes": nodes}
    for number, layer in enumerate(layers):
        messages, codes = layer.from_nodes, layer.from_relations.sources
        found |= {f"{number}.offsets": messages.offsets, f"{number}.sources": messages.sources}
        found[f"{number}.codes"] = codes
    return {name: values.numpy().astype(np.int32) for name, values in found.items()}


def _code_ends(task: Task) -> np.ndarray:
    """int64 (codes, 2): the node types at each code's start and end."""
    m = len(task.relation_names)
    first = [np.flatnonzero(task.relations == r)[0] for r in range(m)]
    ends = np.stack([task.types[task.heads[first]], task.types[task.tails[first]]], 1)
    return np.concatenate([ends, ends[:, ::-1]])


def run_pyg(model: str, task: Task, settings: Settings, split: int) -> Figures:
    """R-GCN or HGT of PyTorch Geometric, in its own virtual environment."""
    folder, name = neighbourhoods(task, split), f"{task.name}/{settings.init}_{split}"
    vectors_of(task, settings.init, split)
    asked = asdict(settings) | {"model": model, "seed": split, "folder": str(folder)}
    asked["features"] = str(KEPT / f"{name}.npy")
    command = [str(PEER), "-m", "tests.papers.pyg_peers", json.dumps(asked)]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(
            f"{model}'s run failed:\n{done.stderr[-2000:]}\n`make paper-rhgn-peers` makes .venv-pyg, which it runs in"
        )
    answer = json.loads(done.stdout.splitlines()[-1])
    found = judged(task.labels, np.array(answer["named"]), split_of(task.labels, split))
    return found | {"seconds": round(time.perf_counter() - started, 1), "best_epoch": answer["best_epoch"]}


def run(job: tuple[str, str, dict[str, Any] | None, int, dict[str, Any]]) -> Figures:
    """(model, task, settings, split, more) in this process, for a pool of them."""
    model, name, given, split, more = job
    torch.set_num_threads(1)
    task = task_of(name)
    if model == "rhgn":
        merged, more = more.get("merged"), {key: value for key, value in more.items() if key != "merged"}
        return run_rhgn(task.merged(merged == "behaviors") if merged else task, Settings(**given), split, **more)
    if model == "majority":
        return run_majority(task, None, split)
    if model == "xgboost":
        return run_xgboost(task, TreeSettings(**given), split)
    return run_pyg(model, task, Settings(**given), split)


