"""Smooth the vectors that its record names with KQGC over the night's graph (KQGC paper, section 3.2).

Reads: knowledge_graph, entity_ids, relations and the checkpoint it starts from, all of D; the predecessor's checkpoint
of the same model. Writes: checkpoints/<model> of D. Guarantees: what it starts from stays frozen; the vectors handed
out come from full neighbourhoods. With `kqgc.learned` training samples neighbours; on a night without training the
predecessor's parameters infer everybody. They belong to the vectors that they learned on: where those were trained
since, they are trained too.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib
from dataclasses import dataclass

import numpy as np

from jobs.arrays import NONE, TRAINED, Checkpoint, Night, as_extra
from jobs.embeddings import training
from jobs.embeddings.training import Outcome, Tonight, last_trained
from jobs.program import Input, JobError, Output, log, main
from jobs.progress import Progress
from models import families
from models.graph import KnowledgeGraph
from models.hyperparameters import KQGCHyperparameters
from models.kqgc import infer_kqgc
from models.kqgc_training import KQGCResult, train_kqgc
from models.learning.determinism import deterministic_kernels


@dataclass(frozen=True)
class Config(training.Config):
    kqgc: KQGCHyperparameters


def training_pairs(night: Night, purchase: int, source: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(users, items) of the purchase relation, both with a trained vector."""
    edges = (night.relations == purchase) & (source[night.heads] == TRAINED) & (source[night.tails] == TRAINED)
    return night.heads[edges], night.tails[edges]


def start_of(tonight: Tonight) -> tuple[Checkpoint, dict[str, np.ndarray]]:
    """(the vectors that it smooths, for relations and values too; what the next night needs of how they were found)."""
    found_by = families.family_of(next(iter(tonight.sources))).around
    return importlib.import_module(found_by).start_of(tonight) if found_by else (tonight.source, {})


def train(
    tonight: Tonight, start: Checkpoint, graph: KnowledgeGraph, hyper: KQGCHyperparameters, config: Config
) -> tuple[KQGCResult, int]:
    """(what came of it, the pairs it learned from). start: the vectors that it smooths."""
    night = tonight.night
    purchase = night.relation(config.graph.purchase)
    if purchase is None:
        raise JobError(
            f"The graph has no edge of relation {config.graph.purchase!r}, on which KQGC trains; "
            f"relations there: {night.relation_names}.")
    items = night.of_type("item")
    candidates = items[start.source[items] == TRAINED]
    pairs = training_pairs(night, purchase, start.source)
    initial = tonight.former and tonight.former.parameters("kqgc")
    with Progress("KQGC", hyper.epochs) as progress:
        result = train_kqgc(
            graph, start.entities, start.relations, pairs, purchase, candidates, hyper, seed=config.seed,
            keys=night.entity_keys(), deterministic=config.deterministic, initial=initial,
            progress=progress)  # fmt: skip
    return result, len(pairs[0])


def learn(tonight: Tonight, graph: KnowledgeGraph, hyper: KQGCHyperparameters, config: Config) -> Outcome:
    """Train (or take the predecessor's parameters, or none where nothing is learned) and infer everybody."""
    start, more = start_of(tonight)
    parameters, history, best, n_pairs = {}, [], None, None
    if not hyper.learned:
        trained_at = tonight.date if tonight.reshaped else last_trained(tonight.source)
    elif tonight.trains:
        result, n_pairs = train(tonight, start, graph, hyper, config)
        parameters, history, best, trained_at = result.checkpoint(), result.history, result.best_epoch, tonight.date
    else:
        parameters, trained_at = tonight.former.parameters("kqgc"), last_trained(tonight.former)
    known = start.source != NONE  # those that were not trained have vectors too, of the kind of what it starts from
    with deterministic_kernels(config.deterministic):
        entities, relations = infer_kqgc(
            graph, start.entities, start.relations, parameters, hyper, known=None if known.all() else known)
    extra = as_extra("kqgc", parameters) | more
    return Outcome(entities, relations, start.source, extra, trained_at, history, best, learned_from=n_pairs)


def run(
    date: datetime.date, model: str, knowledge_graph: Input, entity_ids: Input, relations: Input, checkpoints: Output,
    config: Config, predecessor: datetime.date | None = None,
) -> None:  # fmt: skip
    """Train, infer, commit."""
    for told in config.kqgc.idle(config.publishing.models):
        log.warning(told)
    tables = (knowledge_graph, entity_ids, relations, checkpoints)
    tonight = Tonight.read(date, model, predecessor, config, *tables)
    hyper = dataclasses.replace(config.kqgc, aggregator=model.removeprefix("kqgc_"))
    graph = tonight.night.graph(hyper.repeated)
    with tonight.fitting():
        outcome = learn(tonight, graph, hyper, config)
    tonight.commit(outcome)


if __name__ == "__main__":
    main(run)
