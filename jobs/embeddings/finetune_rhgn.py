"""Fine-tune RHGN on labels of users, from TransE's vectors, texts or random ones (inputs.py), over the night's graph (RHGN paper, section 2).

Reads: knowledge_graph, entity_ids, relations, checkpoints/transe of D; the labels of source.users as of D; the predecessor's checkpoint.
Writes: checkpoints/rhgn and attention of D. Guarantees: no label but those of fold A is learned from, a fixed share of which stops the training
early, so that B can train and C test the classifier that reads the vectors; TransE stays frozen; the vectors handed out come from full
neighbourhoods. On a night without training, or without a label that can be learned, the predecessor's parameters infer everybody.
"""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from jobs import spark as engine
from jobs.arrays import NONE, Checkpoint, Night, as_extra, read_checkpoint, read_night
from jobs.configuration.load import config_hash
from jobs.configuration.profiles import Profiles
from jobs.configuration.sections import Graph, Lookalike, Publishing, Source, Spark, Training
from jobs.embeddings.family import family
from jobs.embeddings.rhgn_inputs import Inputs, read_inputs
from jobs.embeddings.rhgn_picture import choose_attribute, choose_groups, picture, users_of
from jobs.embeddings.schedule import last_trained, trains
from jobs.profiles.labelled import Labelled
from jobs.profiles.labels import Known, read_labels
from jobs.program import Input, JobError, Output, Skip, code_version, log, main, metrics
from jobs.progress import Progress, report_best
from jobs.tables import TABLES
from models.classifiers.profiling import A, uniform
from models.graph import KnowledgeGraph
from models.hyperparameters import KQGCHyperparameters, RHGNHyperparameters, TransEHyperparameters
from models.learning.determinism import deterministic_kernels
from models.learning.epochs import parameters_of
from models.rhgn import MISSING, RHGN, AttentionTable, code_types, infer_rhgn
from models.rhgn_training import rearranged, train_rhgn


@dataclass(frozen=True)
class Config:
    seed: int
    deterministic: bool
    source: Source
    graph: Graph
    transe: TransEHyperparameters
    kqgc: KQGCHyperparameters
    rhgn: RHGNHyperparameters
    training: Training
    publishing: Publishing
    profiles: Profiles
    lookalike: Lookalike
    spark: Spark


@dataclass(frozen=True)
class Lesson:
    """What fold A says. users: int64 (u,) dense indices; codes: int64 (u, J), MISSING where a user has no label; classes: names by label (J, sorted);
    held_out: bool (u,), users who stop the training early."""

    users: np.ndarray
    codes: np.ndarray
    classes: dict[str, list[str]]
    held_out: np.ndarray


def lesson(night: Night, known: dict[str, Known], profiles: Profiles, held_out_share: float) -> Lesson:
    """The labels of fold A that can be learned: of two classes or more, each with at least `min_users_per_class` users in A."""
    users = night.of_type("user")
    raw = night.raw.take(pa.array(users)).combine_chunks().cast(pa.string())
    columns, classes = [], {}
    for label in sorted(known):
        mine = Labelled.among(raw, known[label], label, profiles)
        if known[label].contradicting:
            log.warning("label %s: %d users left out, whose rows contradict each other", label, known[label].contradicting)
        kept = mine.counts[:, A] >= profiles.min_users_per_class
        if kept.sum() < 2:
            few = f"fold A has {int(kept.sum())} classes with at least {profiles.min_users_per_class} users; expected two or more"
            log.warning("label %s: not learned by RHGN: %s", label, known[label].problem or few)
            continue
        codes, of_class, in_a = np.full(len(users), MISSING), np.where(kept, np.cumsum(kept) - 1, MISSING), mine.fold == A
        codes[mine.rows[in_a]] = of_class[mine.code[in_a]]
        columns.append(codes)
        classes[label] = [name for name, wanted in zip(mine.names, kept, strict=True) if wanted]
    codes = np.stack(columns, axis=1) if columns else np.zeros((len(users), 0), np.int64)
    some = (codes != MISSING).any(axis=1)
    held_out = uniform(profiles.salt, "held out of RHGN", raw.filter(pa.array(some)).to_pylist()) < held_out_share
    return Lesson(users[some], codes[some], classes, held_out)


def started(former: Checkpoint, night: Night, fresh: dict[str, np.ndarray], classes: dict[str, list[str]]) -> dict[str, np.ndarray]:
    """The predecessor's parameters and optimiser's state for tonight's relations and node types; classifiers of labels with other classes start anew."""
    rows, known = former.relation_rows_of(night)
    types = np.array([former.types.index(kind) if kind in former.types else -1 for kind in night.types])
    found = rearranged(former.parameters("rhgn"), fresh, np.where(known, rows, -1), types)
    kept = {name: array for name, array in found.items() if "classifiers." not in name}
    kept |= {name: array for name, array in fresh.items() if name.startswith("classifiers.")}
    before = json.loads(former.facts["classes"])
    for j, label in enumerate(classes):
        if before.get(label) == classes[label]:
            mine = f"classifiers.{list(before).index(label)}."
            kept |= {name.replace(mine, f"classifiers.{j}."): array for name, array in found.items() if name.removeprefix("optimiser.").startswith(mine)}
    return kept


def attention_rows(night: Night, heard: AttentionTable, most: int) -> pa.Table:
    """The why-table: whom each user listens to most in the last layer, `most` neighbours each."""
    attention = AttentionTable(*(column[heard.ranks < most] for column in vars(heard).values()))
    m = len(night.relation_names)
    kind, names = (pa.array(values, pa.string()) for values in (night.types, night.relation_names))
    columns = {
        "user_id": night.raw.take(pa.array(attention.nodes)).cast(pa.string()), "rank": attention.ranks.astype(np.int32),
        "relation": names.take(pa.array(attention.codes % m)), "reversed": attention.codes < m,  # a head hears its tails under the codes from m on
        "neighbour_type": kind.take(pa.array(night.entity_type[attention.neighbours])),
        "neighbour": night.raw.take(pa.array(attention.neighbours)).cast(pa.string()), "weight": attention.weights}  # fmt: skip
    schema = TABLES["attention"].arrow_schema()
    return pa.table([columns[name] for name in schema.names], schema=schema)


@dataclass(frozen=True)
class World:
    """What RHGN runs over: the night, its graph, int64 type of each node, TransE's checkpoint, and the vectors that go in."""

    night: Night
    graph: KnowledgeGraph
    kinds: np.ndarray
    transe: Checkpoint
    inputs: Inputs

    @classmethod
    def read(
        cls, dt: str, knowledge_graph: Input, entity_ids: Input, relations: Input, checkpoints: Output, former: Checkpoint | None, config: Config
    ) -> World:
        night = read_night(dt, knowledge_graph, entity_ids, relations)
        graph = KnowledgeGraph(night.heads, night.relations, night.tails, n_entities=night.n_entities, n_relations=len(night.relation_names))
        transe = read_checkpoint(checkpoints.table("transe"), dt)
        inputs = read_inputs(night, transe, former, config.rhgn.init, config.rhgn.init_attributes, config.seed)
        return cls(night, graph, night.entity_type.astype(np.int64), transe, inputs)


@dataclass(frozen=True)
class Learned:
    """parameters: the model's, and the optimiser's state; classes: names by label; history: empty where the predecessor's were taken."""

    parameters: dict[str, np.ndarray]
    classes: dict[str, list[str]]
    history: list[dict[str, float]]
    trained_at: datetime.date


def learn(date: datetime.date, world: World, former: Checkpoint | None, taught: Lesson, config: Config) -> Learned:
    """Train on fold A where there is something to learn and the schedule says so; else the predecessor's. Skip where there is neither."""
    learns = bool(taught.classes) and trains(date, world.transe, former, config.training)
    if not learns and former is None:
        raise Skip("No label can be learned from, and there is no earlier night's model: see the warnings above. Label more users, or lower profiles.min_users_per_class.")
    before = json.loads(former.facts["classes"]) if former else {}
    classes = taught.classes if learns else before
    sizes, n_types = [len(names) for names in classes.values()], len(world.night.types)
    fresh = RHGN(world.inputs.vectors.shape[1], n_types, code_types(world.graph, world.kinds), sizes, config.rhgn, config.seed)
    initial = started(former, world.night, parameters_of(fresh), classes) if former else None
    if not learns:
        return Learned(initial, classes, [], last_trained(former))
    with Progress("RHGN", config.rhgn.epochs) as progress:
        result = train_rhgn(
            world.graph, world.kinds, world.inputs.vectors, taught.users, taught.codes, sizes, config.rhgn, seed=config.seed, n_types=n_types,
            validation=taught.held_out, deterministic=config.deterministic, initial=initial, progress=progress)  # fmt: skip
    report_best(result.history, result.best_epoch, "validation_macro_f1")
    return Learned(result.checkpoint(), classes, result.history, date)


def infer(world: World, learned: Learned, pictured: np.ndarray, config: Config) -> tuple[Checkpoint, AttentionTable]:
    """(vectors of everybody from full neighbourhoods, as a checkpoint; whom the users listen to most, and the `pictured` ones to all)."""
    users, rows = world.night.of_type("user"), np.full(world.night.n_entities, config.profiles.attention_rows)
    rows[pictured] = np.iinfo(np.int64).max
    with deterministic_kernels(config.deterministic):
        vectors, heard = infer_rhgn(
            world.graph, world.kinds, world.inputs.vectors, learned.parameters, config.rhgn, attention_of=users, attention_rows=rows)
    none = np.zeros((len(world.night.relation_names), config.rhgn.width), np.float32)  # RHGN's relations are matrices
    extra = as_extra("rhgn", learned.parameters) | world.inputs.extra()
    facts = {"trained_at": learned.trained_at.isoformat(), "classes": json.dumps(learned.classes)}
    return Checkpoint.of_night(world.night, vectors, none, world.transe.source, extra, facts), heard


def run(
    date: datetime.date, knowledge_graph: Input, entity_ids: Input, relations: Input, checkpoints: Output, attention: Output, config: Config,
    predecessor: datetime.date | None = None,
) -> None:  # fmt: skip
    """Learn (or take the predecessor's parameters), infer everybody, commit."""
    dt = date.isoformat()
    former = read_checkpoint(checkpoints.table("rhgn"), predecessor.isoformat()) if predecessor else None
    world = World.read(dt, knowledge_graph, entity_ids, relations, checkpoints, former, config)
    with engine.session(config.spark, "finetune_rhgn") as spark:
        known = read_labels(spark, config.source.users, config.profiles, date)
    taught = lesson(world.night, known, config.profiles, config.rhgn.validation_share)
    groups = choose_groups(world.night, taught.users, taught.codes, taught.classes, config.profiles.salt)
    try:
        learned = learn(date, world, former, taught, config)
        checkpoint, heard = infer(world, learned, users_of(groups), config)
    except ValueError as error:
        raise JobError(f"{error}. Set another training.space to begin anew.") from error
    report(checkpoint, learned.history, former, taught)
    attribute = choose_attribute(world.night, list(config.graph.item_attributes), config.lookalike.history_attribute)
    metrics.put("attention", detail=picture(world.night, heard, [group for group in groups if group.label in learned.classes], attribute))
    fields = {"config_hash": config_hash(config), "code_version": code_version(), "labels": learned.classes, "salt": config.profiles.salt,
              "inputs": {"knowledge_graph": knowledge_graph.lineage(dt), "transe": checkpoints.lineage(dt, "transe")}}  # fmt: skip
    with attention.table().replace(dt, keep_versions=config.publishing.keep_versions) as commit:
        commit.write_table(attention_rows(world.night, heard, config.profiles.attention_rows), sorted_by=attention.contract.sorted_by)
        commit.fields |= fields
    with checkpoints.table("rhgn").replace(dt, keep_versions=config.publishing.keep_versions) as commit:
        checkpoint.write(commit)
        commit.fields |= fields | {"family": family("rhgn", config), "trained_at": learned.trained_at.isoformat(),
                                   "predecessor": checkpoints.lineage(predecessor.isoformat(), "rhgn") if predecessor else None}  # fmt: skip


def report(checkpoint: Checkpoint, history: list[dict[str, float]], former: Checkpoint | None, taught: Lesson) -> None:
    """The night's figures of this stage."""
    metrics.put("rows_in", len(taught.users))
    metrics.put("rows_out", int((checkpoint.source != NONE).sum()))
    metrics.put("warm", float(former is not None), "warm start" if former else "cold start")
    metrics.put("history", detail=history)


if __name__ == "__main__":
    main(run)
