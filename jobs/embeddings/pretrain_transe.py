"""Pretrain TransE on the night's knowledge graph (Bordes et al. 2013).

Reads: knowledge_graph, entity_ids, relations of D; the predecessor's checkpoint. Writes: checkpoints/transe of D.
Guarantees: every entity of D's graph has a row; who was not trained (too few events, or a night without training) gets
the mean of the neighbours' reversed queries, of the trained ones' kind (of length 1 with `unit_norm`), and counts as
inductive. A relation that was never trained says
nothing, so its first night trains. A night without training changes nothing of what was trained. A killed run goes on
where it was.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from jobs.arrays import INDUCTIVE, NONE, TRAINED, Checkpoint, Night
from jobs.embeddings import training
from jobs.embeddings.scratch import forget, scratch_of
from jobs.embeddings.training import Outcome, Tonight, last_trained, trained_edges
from jobs.program import Input, Output, main
from jobs.progress import Progress
from models.hyperparameters import TransEHyperparameters
from models.learning.initialisation import Placing, WarmStart, neighbours_queries_mean
from models.transe import TransEState, Triples, initialise
from models.transe_training import TransEResult, train_transe

ACCUMULATORS = ("entity_accumulators", "relation_accumulators")


@dataclass(frozen=True)
class Config(training.Config):
    transe: TransEHyperparameters


def triples_of(night: Night, edges: np.ndarray | slice = slice(None)) -> Triples:
    """What TransE trains on: the chosen edges, with every entity of the night in the index."""
    return Triples(
        night.heads[edges], night.relations[edges], night.tails[edges], night.entity_type, night.relation_head_type,
        night.relation_tail_type, night.entity_keys(), night.relation_keys())  # fmt: skip


def warm_start(night: Night, former: Checkpoint) -> WarmStart:
    """The predecessor's vectors and accumulators, joined to tonight's entities and relations by ledger id."""
    rows, known = former.rows_of(night)
    relation_rows, relation_known = former.relation_rows_of(night)
    of_entities, of_relations = map(former.of_rows, ACCUMULATORS, (former.entities, former.relations))
    return WarmStart(
        former.entities[rows], former.relations[relation_rows], known, relation_known,
        of_entities[rows], of_relations[relation_rows])  # fmt: skip


def filled(
    night: Night, state: TransEState, known: np.ndarray, unit_norm: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """(entities, source): rows without `known` get the mean of their neighbours' reversed queries, outwards from the
    known, and of their kind: on the unit sphere, or else as far from that mean as trained ones of their type are."""
    entities = np.where(known[:, None], state.entities, np.float32(0))
    source = np.where(known, TRAINED, NONE).astype(np.uint8)
    edges = (night.heads, night.relations, night.tails)
    placing = Placing.of(entities, state.relations, known, night.entity_type, edges, unit_norm or known.all())
    while True:
        means, found = neighbours_queries_mean(entities, state.relations, source != NONE, *edges)
        if not found.any():
            return entities, source
        entities[found], source[found] = placing.placed(means, found), INDUCTIVE


def train(night: Night, former: WarmStart | None, config: Config, scratch: Path) -> tuple[TransEResult, np.ndarray]:
    """(what came of it, bool (n,): trained tonight)."""
    edges = np.flatnonzero(trained_edges(night, list(config.graph.behaviors), config.training.min_train_events))
    touched = np.zeros(night.n_entities, bool)
    touched[night.heads[edges]] = touched[night.tails[edges]] = True
    with Progress("TransE", config.transe.epochs) as progress:
        result = train_transe(
            triples_of(night, edges),
            config.transe,
            seed=config.seed,
            deterministic=config.deterministic,
            initial=former,
            resume=scratch,
            progress=progress,
        )
    return result, touched


def learn(tonight: Tonight, config: Config, scratch: Path) -> Outcome:
    """Train, or carry over what was trained."""
    night, former = tonight.night, tonight.former
    warm = warm_start(night, former) if former else None
    if tonight.trains or not warm.relation_known.all():
        result, known = train(night, warm, config, scratch)
        state, history, best, trained_at = result.state, result.history, result.best_epoch, tonight.date
    else:
        as_it_was = replace(config.transe, warm_accumulator_share=1.0)
        state = initialise(triples_of(night), as_it_was, config.seed, warm)
        known, history, best, trained_at = former.trained_in(night), [], None, last_trained(former)
    entities, source = filled(night, state, known, config.transe.unit_norm)
    extra = {name: getattr(state, name) for name in ACCUMULATORS}
    return Outcome(entities, state.relations, source, extra, trained_at, history, best, learned_from=len(night.heads))


def run(
    date: datetime.date,
    knowledge_graph: Input,
    entity_ids: Input,
    relations: Input,
    checkpoints: Output,
    config: Config,
    predecessor: datetime.date | None = None,
) -> None:
    """Train (or carry over) and commit the checkpoint of D."""
    tables = (knowledge_graph, entity_ids, relations, checkpoints)
    tonight = Tonight.read(date, "transe", predecessor, config, *tables)
    with scratch_of(tonight) as scratch:
        outcome = learn(tonight, config, scratch)
    tonight.commit(outcome)
    forget(tonight)


if __name__ == "__main__":
    main(run)
