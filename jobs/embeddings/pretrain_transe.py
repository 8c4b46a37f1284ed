"""Pretrain TransE on the night's knowledge graph (KQGC paper, section 3.1).

Reads: knowledge_graph, entity_ids, relations of D; the predecessor's checkpoint. Writes: checkpoints/transe of D.
Guarantees: every entity of D's graph has a row; who was not trained (too few events, or a night without training) gets the
unit-normed mean of the neighbours' reversed queries and counts as inductive. A relation that was never trained says nothing, so its
first night trains. A night without training changes nothing of what was trained. A killed run goes on where it was.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from jobs.arrays import INDUCTIVE, NONE, TRAINED, Checkpoint, Night, read_checkpoint, read_night
from jobs.configuration.load import config_hash
from jobs.configuration.profiles import Profiles
from jobs.configuration.sections import Graph, Publishing, Training
from jobs.embeddings.family import family
from jobs.embeddings.schedule import last_trained, trains_tonight
from jobs.program import Input, Output, code_version, log, main, metrics
from jobs.progress import Progress
from models.hyperparameters import KQGCHyperparameters, RHGNHyperparameters, TransEHyperparameters
from models.learning.initialisation import WarmStart, neighbours_queries_mean, unit_rows
from models.transe import TransEState, initialise
from models.transe_training import train_transe

MODEL = "transe"
ACCUMULATORS = ("entity_accumulators", "relation_accumulators")


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


def warm_start(night: Night, former: Checkpoint) -> WarmStart:
    """The predecessor's vectors and accumulators, joined to tonight's entities and relations by ledger id."""
    rows, known = former.rows_of(night)
    relation_rows, relation_known = former.relation_rows_of(night)
    entity_accumulators, relation_accumulators = (former.extra[name] for name in ACCUMULATORS)
    return WarmStart(
        former.entities[rows], former.relations[relation_rows], known, relation_known, entity_accumulators[rows], relation_accumulators[relation_rows])


def trained_edges(night: Night, behaviours: list[str], min_train_events: int) -> np.ndarray:
    """bool (E,): the edges that training sees: all but those of users with fewer events in the window; all where every user has fewer."""
    users = night.of_type("user")
    few = np.zeros(night.n_entities, bool)
    few[users] = night.user_events(behaviours)[users] < min_train_events
    if len(users) and few[users].all():
        log.warning("no user has training.min_train_events %d events in the window: all are trained on", min_train_events)
        few[:] = False
    return ~few[night.heads]


def filled(night: Night, state: TransEState, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(entities, source): rows without `known` get the unit-normed mean of their neighbours' reversed queries, outwards from the known."""
    entities, source = np.where(known[:, None], state.entities, np.float32(0)), np.where(known, TRAINED, NONE).astype(np.uint8)
    while True:
        means, found = neighbours_queries_mean(entities, state.relations, source != NONE, night.heads, night.relations, night.tails)
        if not found.any():
            return entities, source
        entities[found], source[found] = unit_rows(means[found]), INDUCTIVE


def train(night: Night, former: WarmStart | None, config: Config, scratch: Path) -> tuple[TransEState, np.ndarray, list[dict[str, float]]]:
    """(state, bool (n,): trained tonight, history)."""
    edges = np.flatnonzero(trained_edges(night, list(config.graph.behaviors), config.training.min_train_events))
    touched = np.zeros(night.n_entities, bool)
    touched[night.heads[edges]] = touched[night.tails[edges]] = True
    with Progress("TransE", config.transe.epochs) as progress:
        result = train_transe(
            night.triples(edges), config.transe, seed=config.seed, deterministic=config.deterministic, initial=former, resume=scratch, progress=progress)
    metrics.put("best_epoch", result.best_epoch)
    return result.state, touched, result.history


def run(
    date: datetime.date, knowledge_graph: Input, entity_ids: Input, relations: Input, checkpoints: Output, config: Config,
    predecessor: datetime.date | None = None,
) -> None:  # fmt: skip
    """Train (or carry over) and commit the checkpoint of D."""
    dt, table = date.isoformat(), checkpoints.table(MODEL)
    night = read_night(dt, knowledge_graph, entity_ids, relations)
    former = read_checkpoint(table, predecessor.isoformat()) if predecessor else None
    warm = warm_start(night, former) if former else None
    scratch = Path(table.path(dt)).parent / "_scratch" / f"{dt}.safetensors"
    scratch.parent.mkdir(parents=True, exist_ok=True)
    if trains_tonight(date, former, config.training) or not warm.relation_known.all():
        state, known, history = train(night, warm, config, scratch)
        trained_at = date
    else:
        as_it_was = replace(config.transe, warm_accumulator_share=1.0)
        state, known, history = initialise(night.triples(), as_it_was, config.seed, warm), former.trained_in(night), []
        trained_at = last_trained(former)
    entities, source = filled(night, state, known)
    extra = {name: getattr(state, name) for name in ACCUMULATORS}
    checkpoint = Checkpoint.of_night(night, entities, state.relations, source, extra, {"trained_at": trained_at.isoformat()})
    report(night, checkpoint, history, warm)
    with table.replace(dt, keep_versions=config.publishing.keep_versions) as commit:
        checkpoint.write(commit)
        commit.fields |= {
            "family": family(MODEL, config), "trained_at": trained_at.isoformat(), "config_hash": config_hash(config), "code_version": code_version(),
            "inputs": {"knowledge_graph": knowledge_graph.lineage(dt)},
            "predecessor": checkpoints.lineage(predecessor.isoformat(), MODEL) if predecessor else None}
    scratch.unlink(missing_ok=True)


def report(night: Night, checkpoint: Checkpoint, history: list[dict[str, float]], warm: WarmStart | None) -> None:
    """The night's figures of this stage."""
    metrics.put("rows_in", len(night.heads))
    metrics.put("rows_out", night.n_entities)
    metrics.put("warm", float(warm is not None), "warm start" if warm else "cold start")
    metrics.put("inductive_entities", int((checkpoint.source == INDUCTIVE).sum()))
    metrics.put("history", detail=history)
    looks = [h["validation_mrr"] for h in history if "validation_mrr" in h]
    if looks:
        metrics.put("mrr", max(looks))


if __name__ == "__main__":
    main(run)
