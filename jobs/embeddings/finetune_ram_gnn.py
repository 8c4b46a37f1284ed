"""Fine-tune RAM-GNN's vectors on who has an event with what, for recommendation (RAM-GNN paper, section III-E).

Reads: attributes, interactions, knowledge_graph, entity_ids, relations and the pretrained checkpoint, all of D; the
predecessor's checkpoint. Writes: checkpoints/ram_gnn_rec of D. Guarantees: users with fewer events than
training.min_train_events teach nothing and are placed by what they touched; the vectors handed out hear all events, the
held-out ones too, and with `ram_gnn_rec.recent` know what each user had last; who is new starts at the pretrained
vector. A night without training computes everybody with the predecessor's parameters. A killed run goes on where it
was.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from jobs.arrays import INDUCTIVE, TRAINED, Checkpoint, Night, as_extra
from jobs.embeddings import training
from jobs.embeddings.ram_gnn_sides import (
    KINDS,
    TIMED,
    NightSide,
    entity_places,
    pair_times,
    sides_of,
    user_item_pairs,
)
from jobs.embeddings.scratch import forget, scratch_of
from jobs.embeddings.training import Outcome, Tonight, last_trained
from jobs.graphs.ledgers import ITEM, USER
from jobs.program import Input, Output, main
from jobs.progress import Progress
from models.learning.determinism import deterministic_kernels
from models.learning.epochs import load_parameters, parameters_of
from models.ram_gnn_hyperparameters import InteractionHyperparameters
from models.ram_gnn_interactions import InteractionNetwork, Pairs, Pretrained, infer_interactions
from models.ram_gnn_interactions_training import histories_of, train_interactions
from models.ram_gnn_recent import latest_times
from models.ram_gnn_sampler import AttributeRows
from models.ram_gnn_warm_start import Places, interactions_brought_forward

NAMES = {USER: "users", ITEM: "items"}  # of the network's parameters


@dataclass(frozen=True)
class Config(training.Config):
    ram_gnn_rec: InteractionHyperparameters


def pretrained_of(night: Night, kind: str, side: NightSide | None, start: Checkpoint, length: float) -> Pretrained:
    """One side's vectors, of so much length, and those of its values."""
    mine = night.of_type(kind)
    vectors, keys = start.entities[mine] * np.float32(length), night.entity_keys()[mine]
    if side is None:
        nothing, width = np.zeros(0, np.int64), vectors.shape[1] // 2
        rows = AttributeRows.of(nothing, nothing, nothing, len(vectors), 0)
        return Pretrained(vectors, np.zeros((0, width), np.float32), rows, keys)
    return Pretrained(vectors, start.parameters("ram_gnn")[f"{kind}.values"], side.side.rows, keys)


def places_of(night: Night, kind: str, side: NightSide | None, former: Checkpoint) -> Places:
    """Where the predecessor had what one side has."""
    if side is not None:
        return side.places(night, kind, former)
    return Places(entity_places(night, kind, former), np.zeros(0, np.int64), np.zeros(0, np.int64))


def source_of(night: Night, pairs: tuple[np.ndarray, np.ndarray], taught: np.ndarray) -> np.ndarray:
    """uint8 (n,): users who were taught and the items of their pairs are trained, other users and items inductive."""
    source = np.zeros(night.n_entities, np.uint8)
    learned = taught[pairs[0]]
    for kind, mine in zip((USER, ITEM), pairs, strict=True):
        rows = night.of_type(kind)
        source[rows] = INDUCTIVE
        source[rows[mine[learned]]] = TRAINED
    return source


def learn(
    tonight: Tonight, sides: Mapping[str, NightSide], interactions: pa.Table, config: Config, scratch: Path
) -> Outcome:
    """Train, or take the predecessor's parameters, and compute everybody."""
    night, former, hyper = tonight.night, tonight.former, config.ram_gnn_rec
    given = {
        kind: pretrained_of(night, kind, sides.get(kind), tonight.source, hyper.initial_length) for kind in KINDS}
    pairs, network = user_item_pairs(night), InteractionNetwork(given[USER], given[ITEM], hyper)
    times = pair_times(night, pairs, interactions) if hyper.recent else np.zeros_like(pairs[0])
    events = night.user_events(list(config.graph.behaviors))[night.of_type(USER)]
    taught, initial = events >= config.training.min_train_events, None
    taught = taught if taught.any() else np.ones_like(taught)
    if former is not None:
        places = {kind: places_of(night, kind, sides.get(kind), former) for kind in KINDS}
        found = former.parameters("ram_gnn_rec")
        initial = interactions_brought_forward(found, parameters_of(network), places, NAMES)
    if tonight.trains:
        with Progress("RAM-GNN", hyper.epochs) as progress:
            result = train_interactions(
                given[USER], given[ITEM], pairs, hyper, seed=config.seed, taught=taught, times=times,
                deterministic=config.deterministic, initial=initial, resume=scratch, progress=progress)  # fmt: skip
        arrays, source, trained_at = result.arrays, source_of(night, pairs, taught), tonight.date
        history, best = result.history, result.best_epoch
    else:
        arrays, trained_at, history, best = initial, last_trained(former), [], None
        source = source_of(night, pairs, np.zeros_like(taught))
        source[former.trained_in(night)] = TRAINED
    load_parameters(network, arrays)
    n_users, n_items = (len(given[kind].entities) for kind in NAMES)
    different = latest_times(*pairs, times, n_items)
    with deterministic_kernels(config.deterministic):
        histories, _ = histories_of(*different, n_users, hyper)
        found = infer_interactions(network, Pairs.of(*pairs, n_users, n_items), histories)
    entities = np.zeros((night.n_entities, found[0].shape[1]), np.float32)
    for kind, vectors in zip(NAMES, found, strict=True):
        entities[night.of_type(kind)] = vectors
    extra = as_extra("ram_gnn_rec", arrays)
    for kind, side in sides.items():
        extra |= side.extra(night, kind)
    return Outcome(entities, None, source, extra, trained_at, history, best, learned_from=len(different[0]))


def run(
    date: datetime.date, knowledge_graph: Input, entity_ids: Input, relations: Input, attributes: Input,
    interactions: Input, checkpoints: Output, config: Config, predecessor: datetime.date | None = None,
) -> None:  # fmt: skip
    """Train (or take the predecessor's parameters), compute everybody, commit."""
    tables = (knowledge_graph, entity_ids, relations, checkpoints)
    tonight = Tonight.read(date, "ram_gnn_rec", predecessor, config, *tables)
    sides = sides_of(tonight.night, attributes.table().read(tonight.dt))
    with scratch_of(tonight) as scratch:
        outcome = learn(tonight, sides, interactions.table().read(tonight.dt, columns=TIMED), config, scratch)
    more = {"attributes": attributes, "interactions": interactions}
    read = {name: table.lineage(tonight.dt) for name, table in more.items()}
    outcome.fields["inputs"] = tonight.lineage()["inputs"] | read
    tonight.commit(outcome)
    forget(tonight)


if __name__ == "__main__":
    main(run)
