"""Train HUGT to foretell the next event of every history (HUGT paper, section 4.6), and compute the users' states.

Reads: knowledge_graph, entity_ids, relations and sequences of D; the predecessor's checkpoint. Writes: checkpoints/hugt
of D. Guarantees: histories of fewer events than training.min_train_events, or of one alone, teach nothing and are
inferred; the last event of a user who is held out is not learned from, and all states know every event. Users of the
night's graph without an event in its window have no vector of tonight: readers have the former one, `carried`. On a
night without training the predecessor's parameters infer everybody; an item that is new, then or in a warm start,
begins with the mean of its nearest by tonight's SVD. A killed run goes on where it was.
"""

from __future__ import annotations

import contextlib
import datetime
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from jobs.arrays import INDUCTIVE, NONE, TRAINED, as_extra
from jobs.configuration.histories import Sequences
from jobs.embeddings import training
from jobs.embeddings.hugt_histories import VOCABULARY, NightHistories
from jobs.embeddings.scratch import forget, scratch_of
from jobs.embeddings.training import Outcome, Tonight, last_trained
from jobs.program import Input, Output, log, main, metrics
from jobs.progress import Progress
from models.hugt import infer_hugt
from models.hugt_graph import events_within, item_vectors
from models.hugt_hyperparameters import HUGTHyperparameters
from models.hugt_ranking import by_length
from models.hugt_training import HUGTResult, World, held_out_users, train_hugt
from models.hugt_warm_start import brought_forward
from models.learning.determinism import deterministic_kernels
from models.learning.epochs import Arrays, parameters_of

SECOND = datetime.timedelta(seconds=1)


@dataclass(frozen=True)
class Config(training.Config):
    hugt: HUGTHyperparameters
    sequences: Sequences


def world_of(given: NightHistories, config: Config) -> World:
    """The histories and the collaborative vectors of their items, which newcomers are placed by too."""
    limits = threadpool_limits(1) if config.deterministic else contextlib.nullcontext()
    with limits:
        vectors = item_vectors(given.histories, len(given.items), config.hugt.svd_rank, config.seed)
    horizon = datetime.timedelta(days=config.hugt.horizon_days)
    ahead = events_within(given.times, given.histories.offsets, horizon // SECOND) if horizon else None
    return World(given.histories, len(given.items), config.sequences.max_length, vectors, ahead)


def who_teaches(lengths: np.ndarray, min_train_events: int) -> np.ndarray:
    """bool (U,): histories of so many events, and of two at least; all of two where none has so many."""
    taught = lengths >= max(min_train_events, 2)
    if not taught.any() and (lengths >= 2).any():
        log.warning("no history has training.min_train_events %d events: all of two are trained on", min_train_events)
        taught = lengths >= 2
    return taught


def train(
    world: World, given: NightHistories, taught: np.ndarray, initial: Arrays | None, config: Config, scratch: Path
) -> HUGTResult:
    """A training with the last events of some users held out, and its figures by the length of their histories."""
    hyper, lengths = config.hugt, given.histories.lengths
    held_out = taught & held_out_users(given.user_keys, lengths, hyper.validation_share, config.seed)
    with Progress("HUGT", hyper.epochs) as progress:
        result = train_hugt(
            world, hyper, seed=config.seed, taught=taught, held_out=held_out, deterministic=config.deterministic,
            initial=initial, resume=scratch, progress=progress)  # fmt: skip
    metrics.put("by_length", detail=by_length(result.ranks, result.lengths))
    return result


def learn(tonight: Tonight, given: NightHistories, config: Config, scratch: Path) -> Outcome:
    """Train, or take the predecessor's parameters, and compute everybody."""
    night, former, hyper, world = tonight.night, tonight.former, config.hugt, world_of(given, config)
    taught, initial = who_teaches(given.histories.lengths, config.training.min_train_events), None
    if former is not None:
        places, fresh = given.places_in(former), parameters_of(world.model(hyper, config.seed))
        initial = brought_forward(former.parameters("hugt"), fresh, places, world.vectors)
    users, items = given.rows_of(night)
    if tonight.trains:
        result = train(world, given, taught, initial, config, scratch)
        arrays, trained_at, history, best = result.arrays, tonight.date, result.history, result.best_epoch
        learned = (users >= 0) & taught[users], items >= 0
    else:
        arrays, trained_at, history, best = initial, last_trained(former), [], None
        known = former.trained_in(night)
        learned = known[night.of_type("user")], (items >= 0) & (places[items] >= 0)
    with deterministic_kernels(config.deterministic):
        of_users, of_items = infer_hugt(world.model(hyper, config.seed), given.histories, world.vectors, arrays)
    entities, source = np.zeros((night.n_entities, hyper.dimension), np.float32), np.full(night.n_entities, NONE)
    in_window = night.user_events(list(config.graph.behaviors))[night.of_type("user")] > 0
    nothing = np.eye(1, hyper.dimension, hyper.dimension - 1, dtype=np.float32)  # of no event: the biases are the score
    for kind, rows, table, there, mine in (
        ("user", users, np.concatenate([of_users, nothing]), in_window, learned[0]),
        ("item", items, of_items, items >= 0, learned[1])):  # fmt: skip
        at = night.of_type(kind)[there]
        entities[at] = table[rows[there]]
        source[at] = np.where(mine[there], TRAINED, INDUCTIVE)
    extra = as_extra("hugt", arrays) | {VOCABULARY: given.items}
    learned_from = int(given.histories.lengths[taught].sum())
    return Outcome(entities, None, source.astype(np.uint8), extra, trained_at, history, best, learned_from=learned_from)


def run(
    date: datetime.date, knowledge_graph: Input, entity_ids: Input, relations: Input, sequences: Input,
    checkpoints: Output, config: Config, predecessor: datetime.date | None = None,
) -> None:  # fmt: skip
    """Train (or take the predecessor's parameters), compute everybody, commit."""
    tables = (knowledge_graph, entity_ids, relations, checkpoints)
    tonight = Tonight.read(date, "hugt", predecessor, config, *tables)
    rows = sequences.table().read(tonight.dt, columns=["user", "position", "item", "event_time"])
    with scratch_of(tonight) as scratch:
        outcome = learn(tonight, NightHistories.of(rows, entity_ids), config, scratch)
    outcome.fields["inputs"] = tonight.lineage()["inputs"] | {"sequences": sequences.lineage(tonight.dt)}
    tonight.commit(outcome)
    forget(tonight)


if __name__ == "__main__":
    main(run)
