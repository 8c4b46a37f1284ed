"""Fine-tune RHGN on labels of users, from the vectors that rhgn_inputs.py gives every node (RHGN paper, section 2).

Reads: knowledge_graph, entity_ids, relations, user_labels and the checkpoint it starts from, all of D; the
predecessor's checkpoint. Writes: attention and checkpoints/rhgn of D. Guarantees: no label but those of fold A is
learned from, a fixed share of which stops the training early, so that B can train and C test the classifier that reads
the vectors; what it starts from stays frozen, random inputs are learned; the vectors handed out come from full
neighbourhoods. On a night without training, or without a label that can be learned, the predecessor's parameters infer
everybody.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from jobs.arrays import Checkpoint, Night, as_extra
from jobs.configuration.sections import Lookalike
from jobs.embeddings import training
from jobs.embeddings.rhgn_inputs import Inputs, given_vectors, moments_of_learned, read_inputs
from jobs.embeddings.rhgn_picture import choose_attribute, choose_groups, picture, users_of
from jobs.embeddings.training import Outcome, Tonight, last_trained
from jobs.profiles.labelled import Labelled
from jobs.profiles.labels import Known, read_known
from jobs.program import Input, Output, Skip, log, main, metrics
from jobs.progress import Progress
from jobs.tables import TABLES
from models.classifiers.folds import A, uniform
from models.graph import KnowledgeGraph
from models.hyperparameters import RHGNHyperparameters
from models.learning.determinism import deterministic_kernels
from models.learning.epochs import parameters_of
from models.rhgn import MISSING, RHGN, AttentionTable, code_types, infer_rhgn
from models.rhgn_training import LEARNED_ROWS, rearranged, train_rhgn


@dataclass(frozen=True)
class Config(training.Config):
    rhgn: RHGNHyperparameters
    lookalike: Lookalike


@dataclass(frozen=True)
class Lesson:
    """What fold A says.

    users: int64 (u,) dense indices; codes: int64 (u, J), MISSING where a user has no label; classes: names by label (J,
    sorted); held_out: bool (u,), users who stop the training early.
    """

    users: np.ndarray
    codes: np.ndarray
    classes: dict[str, list[str]]
    held_out: np.ndarray


def lesson(night: Night, known: dict[str, Known], config: Config) -> Lesson:
    """The labels of fold A that can be learned: of two classes or more, each with at least `min_users_per_class` users
    in A."""
    users, profiles = night.of_type("user"), config.profiles
    raw = night.raw.take(pa.array(users)).combine_chunks().cast(pa.string())
    columns, classes, left_out = [], {}, []
    for label in sorted(known):
        mine = Labelled.among(raw, known[label], label, profiles)
        if known[label].contradicting:
            log.warning(
                "label %s: %d users left out, whose rows contradict each other", label, known[label].contradicting
            )
        kept = mine.counts[:, A] >= profiles.min_users_per_class
        if kept.sum() < 2:
            reason = known[label].problem or (
                f"fold A has {int(kept.sum())} classes with at least {profiles.min_users_per_class} users "
                "(profiles.min_users_per_class); expected two or more")
            log.warning("label %s: not learned by RHGN: %s", label, reason)
            left_out.append({"label": label, "reason": reason})
            continue
        columns.append(_codes(mine, kept, len(users)))
        classes[label] = [name for name, wanted in zip(mine.names, kept, strict=True) if wanted]
    metrics.put("labels_left_out", len(left_out), left_out)
    codes = np.stack(columns, axis=1) if columns else np.zeros((len(users), 0), np.int64)
    some = (codes != MISSING).any(axis=1)
    drawn = uniform(profiles.salt, "held out of RHGN", raw.filter(pa.array(some)).to_pylist())
    return Lesson(users[some], codes[some], classes, drawn < config.rhgn.validation_share)


def _codes(mine: Labelled, kept: np.ndarray, n_users: int) -> np.ndarray:
    """int64 (n_users,): the class of each user of fold A among the kept ones, MISSING for all others."""
    codes, of_class, in_a = np.full(n_users, MISSING), np.where(kept, np.cumsum(kept) - 1, MISSING), mine.fold == A
    codes[mine.rows[in_a]] = of_class[mine.code[in_a]]
    return codes


def started(
    former: Checkpoint, night: Night, fresh: dict[str, np.ndarray], classes: dict[str, list[str]], learned: np.ndarray
) -> dict[str, np.ndarray]:
    """The predecessor's parameters and optimisers' state for tonight's relations, node types and learned inputs (bool
    (n,)); classifiers of labels with other classes start anew."""
    rows, known = former.relation_rows_of(night)
    types = np.array([former.types.index(kind) if kind in former.types else -1 for kind in night.types])
    found = rearranged(former.parameters("rhgn"), fresh, np.where(known, rows, -1), types)
    kept = {name: array for name, array in found.items() if "classifiers." not in name}
    kept = {name: array for name, array in kept.items() if not name.startswith(f"optimiser.{LEARNED_ROWS}.")}
    kept |= moments_of_learned(former, night, learned, former.parameters("rhgn"))
    kept |= {name: array for name, array in fresh.items() if name.startswith("classifiers.")}
    before = json.loads(former.fact("classes"))
    for j, label in enumerate(classes):
        if before.get(label) != classes[label]:
            continue
        mine = f"classifiers.{list(before).index(label)}."
        same = {name: array for name, array in found.items() if name.removeprefix("optimiser.").startswith(mine)}
        kept |= {name.replace(mine, f"classifiers.{j}."): array for name, array in same.items()}
    return kept


def attention_rows(night: Night, heard: AttentionTable, most: int) -> pa.Table:
    """The why-table: whom each user listens to most in the last layer, `most` neighbours each."""
    attention = AttentionTable(*(column[heard.ranks < most] for column in vars(heard).values()))
    m = len(night.relation_names)
    kind, names = (pa.array(values, pa.string()) for values in (night.types, night.relation_names))
    columns = {
        "user_id": night.raw.take(pa.array(attention.nodes)).cast(pa.string()),
        "rank": attention.ranks.astype(np.int32),
        "relation": names.take(pa.array(attention.codes % m)),
        "reversed": attention.codes < m,  # a head hears its tails under the codes from m on
        "neighbour_type": kind.take(pa.array(night.entity_type[attention.neighbours])),
        "neighbour": night.raw.take(pa.array(attention.neighbours)).cast(pa.string()),
        "weight": attention.weights,
    }
    schema = TABLES["attention"].arrow_schema()
    return pa.table([columns[name] for name in schema.names], schema=schema)


@dataclass(frozen=True)
class World:
    """What RHGN runs over: the graph, int64 type of each node, the vectors that go in, and uint8 how each node came by
    its given one."""

    graph: KnowledgeGraph
    kinds: np.ndarray
    inputs: Inputs
    source: np.ndarray

    @classmethod
    def of(cls, tonight: Tonight, config: Config) -> World:
        night = tonight.night
        hyper = config.rhgn
        given = given_vectors(night, tonight.sources, hyper)
        inputs = read_inputs(night, given, tonight.former, hyper.init, hyper.init_attributes, config.seed)
        return cls(night.graph(), night.entity_type.astype(np.int64), inputs, given.source)


@dataclass(frozen=True)
class Learned:
    """parameters: the model's, and the optimisers' state; inputs: with the vectors that were learned as learned;
    classes: names by label; history: empty where the predecessor's were taken, and then there is no best epoch."""

    inputs: Inputs
    parameters: dict[str, np.ndarray]
    classes: dict[str, list[str]]
    trained_at: datetime.date
    history: list[dict[str, float]]
    best_epoch: int | None


def learn(tonight: Tonight, world: World, taught: Lesson, config: Config) -> Learned:
    """Train on fold A where there is something to learn and the schedule says so; else the predecessor's. Skip where
    there is neither."""
    former, hyper = tonight.former, config.rhgn
    learns = bool(taught.classes) and tonight.trains
    if not learns and (former is None or tonight.reshaped):
        raise Skip(
            "No label can be learned from, and there is no earlier night's model of these hyperparameters: see "
            "labels_left_out in this stage's figures and the warnings above. Label more users, or lower "
            "profiles.min_users_per_class.")
    classes = taught.classes if learns else json.loads(former.fact("classes"))
    sizes, n_types = [len(names) for names in classes.values()], len(tonight.night.types)
    inputs, given = world.inputs, world.inputs.vectors
    fresh = RHGN(given.shape[1], n_types, code_types(world.graph, world.kinds), sizes, hyper, config.seed)
    initial = started(former, tonight.night, parameters_of(fresh), classes, inputs.learned) if former else None
    if not learns:
        return Learned(inputs, initial, classes, last_trained(former), [], None)
    with Progress("RHGN", hyper.epochs) as progress:
        result = train_rhgn(
            world.graph,
            world.kinds,
            given,
            taught.users,
            taught.codes,
            sizes,
            hyper,
            seed=config.seed,
            n_types=n_types,
            learned=inputs.learned,
            validation=taught.held_out,
            behaviors=[r for r, name in enumerate(tonight.night.relation_names) if name in config.graph.behaviors],
            deterministic=config.deterministic,
            initial=initial,
            progress=progress,
        )
    inputs = dataclasses.replace(inputs, vectors=result.features)
    return Learned(inputs, result.checkpoint(), classes, tonight.date, result.history, result.best_epoch)


def infer(
    tonight: Tonight, world: World, learned: Learned, pictured: np.ndarray, config: Config
) -> tuple[np.ndarray, AttentionTable]:
    """(vectors of everybody from full neighbourhoods; whom the users listen to most, and the `pictured` ones to
    all)."""
    users, rows = tonight.night.of_type("user"), np.full(tonight.night.n_entities, config.profiles.attention_rows)
    rows[pictured] = np.iinfo(np.int64).max
    with deterministic_kernels(config.deterministic):
        return infer_rhgn(
            world.graph, world.kinds, learned.inputs.vectors, learned.parameters, config.rhgn, attention_of=users,
            attention_rows=rows)  # fmt: skip


def commit_attention(tonight: Tonight, heard: AttentionTable, fields: dict, attention: Output, config: Config) -> None:
    """The why-table of D."""
    rows = attention_rows(tonight.night, heard, config.profiles.attention_rows)
    with attention.table().replace(tonight.dt, keep_versions=config.publishing.keep_versions) as commit:
        commit.write_table(rows, sorted_by=attention.contract.sorted_by)
        commit.fields |= fields


def run(
    date: datetime.date, knowledge_graph: Input, entity_ids: Input, relations: Input, user_labels: Input,
    checkpoints: Output, attention: Output, config: Config, predecessor: datetime.date | None = None,
) -> None:  # fmt: skip
    """Learn (or take the predecessor's parameters), infer everybody, commit."""
    tonight = Tonight.read(date, "rhgn", predecessor, config, knowledge_graph, entity_ids, relations, checkpoints)
    night, world = tonight.night, World.of(tonight, config)
    taught = lesson(night, read_known(user_labels, date, config.profiles), config)
    groups = choose_groups(night, taught.users, taught.codes, taught.classes, config.profiles.salt)
    with tonight.fitting():
        learned = learn(tonight, world, taught, config)
        vectors, heard = infer(tonight, world, learned, users_of(groups), config)
    attribute = choose_attribute(night, list(config.graph.item_attributes), config.lookalike.history_attribute)
    drawn = [group for group in groups if group.label in learned.classes]
    metrics.put("attention", detail=picture(night, heard, drawn, attribute))
    lineage = tonight.lineage()
    read = lineage["inputs"] | {"user_labels": user_labels.lineage(tonight.dt)}
    fields = {"labels": learned.classes, "salt": config.profiles.salt, "inputs": read}
    commit_attention(tonight, heard, lineage | fields, attention, config)
    inputs = learned.inputs
    extra = as_extra("rhgn", learned.parameters) | inputs.extra() | inputs.where_learning_ended()
    tonight.commit(Outcome(
        vectors, None, world.source, extra, learned.trained_at, learned.history, learned.best_epoch,
        learned_from=len(taught.users), facts={"classes": json.dumps(learned.classes)}, fields=fields))  # fmt: skip


if __name__ == "__main__":
    main(run)
