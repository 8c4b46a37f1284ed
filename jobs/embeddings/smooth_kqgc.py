"""Smooth TransE's vectors with KQGC over the night's graph (KQGC paper, section 3.2).

Reads: knowledge_graph, entity_ids, relations, checkpoints/transe of D; the predecessor's checkpoint of the same model.
Writes: checkpoints/<model> of D. Guarantees: TransE stays frozen; training samples neighbours, the vectors handed out come from
full neighbourhoods; on a night without training the predecessor's parameters infer everybody. They belong to TransE's vectors: where
TransE was trained since they were, they are trained too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jobs.arrays import NONE, TRAINED, Checkpoint, Night, as_extra, read_checkpoint, read_night
from jobs.configuration.load import config_hash
from jobs.configuration.profiles import Profiles
from jobs.configuration.sections import Graph, Publishing, Training
from jobs.embeddings.family import family
from jobs.embeddings.schedule import last_trained, trains
from jobs.program import Input, JobError, Output, code_version, main, metrics
from jobs.progress import Progress, report_best
from models.graph import KnowledgeGraph
from models.hyperparameters import KQGCHyperparameters, RHGNHyperparameters, TransEHyperparameters
from models.kqgc import infer_kqgc
from models.kqgc_training import train_kqgc
from models.learning.determinism import deterministic_kernels


@dataclass(frozen=True)
class Config:
    seed: int
    deterministic: bool
    graph: Graph
    transe: TransEHyperparameters
    kqgc: KQGCHyperparameters
    rhgn: RHGNHyperparameters
    training: Training
    publishing: Publishing
    profiles: Profiles


def training_pairs(night: Night, purchase: int, source: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(users, items) of the purchase relation, both with a trained vector."""
    edges = (night.relations == purchase) & (source[night.heads] == TRAINED) & (source[night.tails] == TRAINED)
    return night.heads[edges], night.tails[edges]


def train(
    night: Night, graph: KnowledgeGraph, transe: Checkpoint, initial: dict[str, np.ndarray] | None, hyper: KQGCHyperparameters, config: Config
) -> tuple[dict[str, np.ndarray], list[dict[str, float]]]:
    """(parameters and optimiser's state, history)."""
    purchase = night.relation(config.graph.purchase)
    if purchase is None:
        raise JobError(f"The graph has no edge of relation {config.graph.purchase!r}, on which KQGC trains; relations there: {night.relation_names}.")
    items = night.of_type("item")
    candidates = items[transe.source[items] == TRAINED]
    pairs = training_pairs(night, purchase, transe.source)
    metrics.put("rows_in", len(pairs[0]))
    with Progress("KQGC", hyper.epochs) as progress, _fitting():
        result = train_kqgc(
            graph, transe.entities, transe.relations, pairs, purchase, candidates, hyper, seed=config.seed,
            deterministic=config.deterministic, initial=initial, progress=progress)  # fmt: skip
    report_best(result.history, result.best_epoch, "validation_accuracy")
    return result.checkpoint(), result.history


@contextlib.contextmanager
def _fitting() -> Iterator[None]:
    """JobError where a checkpoint's parameters do not fit the configuration's model."""
    try:
        yield
    except ValueError as error:
        raise JobError(f"{error}. Set another training.space to begin anew.") from error


def run(
    date: datetime.date, model: str, knowledge_graph: Input, entity_ids: Input, relations: Input, checkpoints: Output, config: Config,
    predecessor: datetime.date | None = None,
) -> None:  # fmt: skip
    """Train (or take the predecessor's parameters), infer everybody, commit."""
    dt = date.isoformat()
    hyper = dataclasses.replace(config.kqgc, aggregator=model.removeprefix("kqgc_"))
    night, transe = read_night(dt, knowledge_graph, entity_ids, relations), read_checkpoint(checkpoints.table("transe"), dt)
    graph = KnowledgeGraph(night.heads, night.relations, night.tails, n_entities=night.n_entities, n_relations=len(night.relation_names))
    former = read_checkpoint(checkpoints.table(model), predecessor.isoformat()) if predecessor else None
    parameters, history, trained_at = former and former.parameters("kqgc"), [], former and last_trained(former)
    if trains(date, transe, former, config.training):
        parameters, history = train(night, graph, transe, parameters, hyper, config)
        trained_at = date
    known = transe.source == TRAINED
    with deterministic_kernels(config.deterministic), _fitting():
        entities, relation_vectors = infer_kqgc(graph, transe.entities, transe.relations, parameters, hyper, known=None if known.all() else known)
    extra = as_extra("kqgc", parameters)
    checkpoint = Checkpoint.of_night(night, entities, relation_vectors, transe.source, extra, {"trained_at": trained_at.isoformat()})
    report(checkpoint, history, former)
    with checkpoints.table(model).replace(dt, keep_versions=config.publishing.keep_versions) as commit:
        checkpoint.write(commit)
        commit.fields |= {
            "family": family(model, config), "trained_at": trained_at.isoformat(), "config_hash": config_hash(config), "code_version": code_version(),
            "inputs": {"knowledge_graph": knowledge_graph.lineage(dt), "transe": checkpoints.lineage(dt, "transe")},
            "predecessor": checkpoints.lineage(predecessor.isoformat(), model) if predecessor else None}


def report(checkpoint: Checkpoint, history: list[dict[str, float]], former: Checkpoint | None) -> None:
    """The night's figures of this stage."""
    metrics.put("rows_out", int((checkpoint.source != NONE).sum()))
    metrics.put("warm", float(former is not None), "warm start" if former else "cold start")
    metrics.put("history", detail=history)


if __name__ == "__main__":
    main(run)
