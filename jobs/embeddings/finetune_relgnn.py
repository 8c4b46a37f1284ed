"""Fine-tune RelGNN to tell the graph's relationships from others (RelGNN paper, sections 3.1 and 3.2).

Reads: knowledge_graph, entity_ids, relations and the checkpoint that it starts from, all of D; the predecessor's
checkpoint. Writes: checkpoints/relgnn of D. Guarantees: users with fewer events than training.min_train_events teach
nothing and are inferred; held-out edges are neither learned from nor heard in training; the vectors handed out hear all
edges. On a night without training the predecessor's parameters infer everybody, newcomers by their attributes and
neighbours; a relation, an entity type or an attribute that is new, or a changed setting that vectors follow from, makes
the night train. A killed run goes on where it was.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jobs.arrays import INDUCTIVE, TRAINED, Night, as_extra
from jobs.embeddings import training
from jobs.embeddings.relgnn_world import NightWorld, shape_of
from jobs.embeddings.scratch import forget, scratch_of
from jobs.embeddings.training import Outcome, Tonight, last_trained, trained_edges
from jobs.program import Input, Output, main, metrics
from jobs.progress import Progress
from models.learning.determinism import deterministic_kernels
from models.learning.epochs import parameters_of
from models.relgnn import infer_relgnn
from models.relgnn_hyperparameters import RelGNNHyperparameters
from models.relgnn_training import train_relgnn
from models.relgnn_warm_start import Shape, brought_forward


@dataclass(frozen=True)
class Config(training.Config):
    relgnn: RelGNNHyperparameters


def learned_source(night: Night, taught: np.ndarray) -> np.ndarray:
    """uint8 (n,): who is an end of an edge that was learned from is trained, everybody else inductive."""
    source = np.full(night.n_entities, INDUCTIVE, np.uint8)
    source[night.heads[taught]] = source[night.tails[taught]] = TRAINED
    return source


def has_news(before: Shape, tonight: Shape) -> bool:
    """Whether there is a relation, a type or an attribute that the predecessor has learned nothing of."""
    pairs = (before.relations, tonight.relations), (before.types, tonight.types), (before.kinds, tonight.kinds)
    return any(set(now) - set(then) for then, now in pairs)


def learn(tonight: Tonight, given: NightWorld, config: Config, scratch: Path) -> Outcome:
    """Train, or take the predecessor's parameters, and compute everybody."""
    night, former, hyper, world = tonight.night, tonight.former, config.relgnn, given.world
    initial, trains = None, tonight.trains
    if former is not None:
        before, fresh = shape_of(former), parameters_of(world.model(hyper, config.seed))
        initial = brought_forward(former.parameters("relgnn"), fresh, before, given.shape)
        trains = trains or has_news(before, given.shape)
    taught = trained_edges(night, list(config.graph.behaviors), config.training.min_train_events)
    if trains:
        with Progress("RelGNN", hyper.epochs) as progress:
            result = train_relgnn(
                world, hyper, seed=config.seed, taught=taught, deterministic=config.deterministic, initial=initial,
                resume=scratch, progress=progress)  # fmt: skip
        arrays, source, trained_at = result.arrays, learned_source(night, taught), tonight.date
        history, best = result.history, result.best_epoch
    else:
        arrays, trained_at, history, best = initial, last_trained(former), [], None
        source = np.where(former.trained_in(night), TRAINED, INDUCTIVE).astype(np.uint8)
    with deterministic_kernels(config.deterministic):
        entities = infer_relgnn(world.model(hyper, config.seed), world.graph(), arrays)
    extra = as_extra("relgnn", arrays) | given.extra()
    return Outcome(entities, arrays["relations"], source, extra, trained_at, history, best,
                   learned_from=int(taught.sum()), facts=given.facts())  # fmt: skip


def run(
    date: datetime.date, knowledge_graph: Input, entity_ids: Input, relations: Input, checkpoints: Output,
    config: Config, predecessor: datetime.date | None = None,
) -> None:  # fmt: skip
    """Train (or take the predecessor's parameters), compute everybody, commit."""
    tables = (knowledge_graph, entity_ids, relations, checkpoints)
    tonight = Tonight.read(date, "relgnn", predecessor, config, *tables)
    hyper = config.relgnn
    given = NightWorld.of(tonight.night, config.graph, tonight.sources, hyper.text_attributes, hyper.counts)
    with scratch_of(tonight) as scratch:
        outcome = learn(tonight, given, config, scratch)
    metrics.put("sampler", detail=hyper.sampling.kind)
    tonight.commit(outcome)
    forget(tonight)


if __name__ == "__main__":
    main(run)
