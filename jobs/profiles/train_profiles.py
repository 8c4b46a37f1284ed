"""Predict labels of users (gender, age band, any column that is known of some) from their vectors, for every user with one.

Reads: the labels of source.users as of D; user_embeddings of D; knowledge_graph, interactions, entity_ids, relations of D where
`profiles.baseline_features` asks for them; checkpoints/rhgn of D where its vectors are read. Writes: profile_predictions of D.
Guarantees: a user's fold hangs on (user_id, salt) alone, whatever the label; the classifier learns from fold B, which classes there are included, and no
label of fold C reaches a vector or a prediction: C is what the figures are of, those of RHGN's own head too. A label that cannot be modelled is named with its reason and stops no
other; the night is skipped where none can be.
"""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store import FeatureStore
from jobs import spark as engine
from jobs.audiences.features import Eligible, baseline, choose_vocabulary
from jobs.audiences.snapshot import Ledger, read_snapshot
from jobs.audiences.vectors import space_of
from jobs.configuration.load import config_hash
from jobs.configuration.profiles import Profiles
from jobs.configuration.sections import Graph, Lookalike, Publishing, Source, Spark
from jobs.profiles.labelled import Labelled
from jobs.profiles.labels import Known, read_labels
from jobs.profiles.rhgn_head import Head
from jobs.program import Input, Output, Skip, code_version, log, main, metrics
from jobs.tables import TABLES
from models.classifiers.profiling import A, B, C, Classifier, figures, fit, uniform

LEARN_FROM_LABELS = frozenset({"rhgn"})  # models whose vectors were trained on fold A
USERS_AT_A_TIME = 100_000


@dataclass(frozen=True)
class Config:
    seed: int
    source: Source
    graph: Graph
    publishing: Publishing
    lookalike: Lookalike
    profiles: Profiles
    spark: Spark


@dataclass(frozen=True)
class Users:
    """Everybody with a vector: ids sorted by bytes, features float32 (n, F) with NaN where a model has none of the user, source of the vector."""

    user_id: pa.Array
    features: np.ndarray
    source: pa.Array


@dataclass(frozen=True)
class Profile:
    """One label tonight. facts: for the report and the manifest; the rest is there where a classifier was trained."""

    label: str
    facts: dict[str, Any]
    classes: list[str] = field(default_factory=list)
    probabilities: np.ndarray | None = None  # float32 (n, K)
    label_seen: np.ndarray | None = None  # bool (n,)


def read_users(date: datetime.date, models: list[str], user_embeddings: Input) -> Users:
    """The published vectors of `date`, side by side; a user's source is that of the first model that has the user. PartitionMissing."""
    root, _, view = user_embeddings.uri.rstrip("/").rpartition("/")
    store, columns = FeatureStore(root), ["user_id", "embedding", "source"]
    found = [store.read(view, model=model, dt=date.isoformat(), columns=columns) for model in models]
    raw = [one.table.column("user_id").cast(pa.string()).combine_chunks() for one in found]
    user_id = raw[0] if len(raw) == 1 else pc.unique(pa.chunked_array(raw))
    user_id = user_id.take(pc.sort_indices(user_id))
    parts, source = [], pa.nulls(len(user_id), pa.string())
    for one, ids in zip(found, raw, strict=True):
        at, matrix = pc.index_in(user_id, value_set=ids), one.matrix()
        parts.append(np.full((len(user_id), matrix.shape[1]), np.nan, np.float32))
        there = at.is_valid().to_numpy(zero_copy_only=False)
        parts[-1][there] = matrix[at.drop_null().to_numpy()]
        source = pc.coalesce(source, one.table.column("source").cast(pa.string()).combine_chunks().take(at))
    return Users(user_id, np.concatenate(parts, axis=1), source)


def with_baseline(users: Users, date: datetime.date, tables: tuple[Input, Input, Input, Input], config: Config) -> Users:
    """The same users with the baseline's columns as well. tables: knowledge_graph, interactions, entity_ids, relations."""
    snapshot = read_snapshot(date, *tables, config.graph)
    raw = user_id = users.user_id.cast(pa.large_string())
    everybody = Eligible(user_id, Ledger.read(tables[2].segments("user")).ids_of(raw))
    vocabulary = choose_vocabulary(snapshot, everybody, config.lookalike.history_attribute, config.graph.purchase)
    columns = baseline(snapshot, everybody, vocabulary, config.graph)
    return dataclasses.replace(users, features=np.concatenate([users.features, columns.values], axis=1))


def make_profile(label: str, known: Known, users: Users, head: Head | None, config: Config) -> Profile:
    """Train on B, test on C (RHGN's own head too, where there is one), predict everybody; or the reason why not."""
    started, profiles = time.perf_counter(), config.profiles
    mine = Labelled.among(users.user_id, known, label, profiles)
    kept = mine.counts[:, B] >= profiles.min_users_per_class
    facts = {"label": label, "column": profiles.column(label), "modelled": False, "users": len(users.user_id), "contradicting": known.contradicting} | mine.facts(kept)
    reason = known.problem or _too_little(label, mine, kept, profiles)
    if reason:
        return Profile(label, facts | {"reason": reason})
    classes, y, used = [mine.names[k] for k in np.flatnonzero(kept)], (np.cumsum(kept) - 1)[mine.code], kept[mine.code]
    b, c, order = used & (mine.fold == B), used & (mine.fold == C), uniform(profiles.salt, f"part of {label}", mine.ids)
    model = fit(users.features[mine.rows[b]], y[b], order[b], profiles.trees, config.seed, profiles.cross_validation, profiles.class_weights)
    probabilities = model.probabilities(users.features, profiles.trees.threads)
    seen = np.zeros(len(users.user_id), bool)
    seen[mine.rows[b]] = True
    if LEARN_FROM_LABELS & set(profiles.read_models(config.publishing.models)):
        seen[mine.rows[mine.fold == A]] = True
    facts |= {"modelled": True, "classes": classes, "features": users.features.shape[1], "predicted": _named(classes, probabilities)}
    facts |= _figures(model, y, b, c, probabilities[mine.rows[c]], config.seed) | {"seconds": round(time.perf_counter() - started, 3)}
    if head:
        facts["head"] = head.figures(label, [mine.ids[i] for i in np.flatnonzero(c)], y[c], classes, config.seed)
    return Profile(label, facts, classes, probabilities, seen)


def _too_little(label: str, mine: Labelled, kept: np.ndarray, profiles: Profiles) -> str:
    """Why a label cannot be modelled; empty where it can."""
    if not mine.names:
        return f"No user with a vector has a label in column {profiles.column(label)!r} of source.users. Fill it for some users, or name another: profiles.labels.{label}.column."
    if kept.sum() >= 2:
        return ""
    counts = ", ".join(f"{name!r}: {n}" for name, n in zip(mine.names[:10], mine.counts[:10, B].tolist(), strict=True))
    return (f"Fold B has {int(kept.sum())} of {len(kept)} classes with at least {profiles.min_users_per_class} users ({counts}); expected two or more. "
            "Label more users, or lower profiles.min_users_per_class.")  # fmt: skip


def _named(classes: list[str], probabilities: np.ndarray) -> dict[str, int]:
    """How many users each class is predicted for."""
    return dict(zip(classes, np.bincount(probabilities.argmax(axis=1), minlength=len(classes)).tolist(), strict=True))


def _figures(model: Classifier, y: np.ndarray, b: np.ndarray, c: np.ndarray, probabilities: np.ndarray, seed: int) -> dict[str, Any]:
    """What C says, where it has a user of a modelled class; the majority class is that of B."""
    majority = int(np.bincount(y[b]).argmax())
    test = figures(y[c], probabilities, majority, seed) if c.any() else None
    return {"rounds": model.rounds, "calibration": dataclasses.asdict(model.calibration), "majority": majority, "test": test}


def rows_of(profile: Profile, users: Users) -> Iterator[pa.Table]:
    """The table's rows of one label, some users at a time: sorted by user id and class."""
    schema, k = TABLES["profile_predictions"].arrow_schema(), len(profile.classes)
    likeliest = profile.probabilities.argmax(axis=1)
    for start in range(0, len(users.user_id), USERS_AT_A_TIME):
        mine = np.arange(start, min(start + USERS_AT_A_TIME, len(users.user_id)))
        user, one = np.repeat(mine, k), np.tile(np.arange(k), len(mine))
        columns = {
            "label": pa.repeat(profile.label, len(user)), "user_id": users.user_id.take(pa.array(user)), "class": pa.array(profile.classes, pa.string()).take(pa.array(one)),
            "probability": profile.probabilities[mine].ravel(), "predicted": likeliest[user] == one,
            "source": users.source.take(pa.array(user)), "label_seen": profile.label_seen[user]}  # fmt: skip
        yield pa.table([columns[name] for name in schema.names], schema=schema)


def fields_of(profiles: list[Profile], config: Profiles) -> dict[str, Any]:
    """What the manifest says of the labels, and how users were dealt into folds."""
    labels = {p.label: {name: fact for name, fact in p.facts.items() if name not in ("label", "seconds")} for p in profiles}
    return {
        "labels": labels, "salt": config.salt, "folds": dataclasses.asdict(config.folds), "config_hash": config_hash(config), "code_version": code_version()}  # fmt: skip


def report(profiles: list[Profile], users: Users) -> None:
    """The night's figures of this stage, and a warning per label that has no model."""
    for profile in profiles:
        if profile.probabilities is None:
            log.warning("label %s: no model tonight: %s", profile.label, profile.facts["reason"])
        elif profile.facts["rare"]:
            log.warning("label %s: %d classes have too few users in fold B: %s", profile.label, profile.facts["rare_classes"], ", ".join(map(repr, profile.facts["rare"])))
        if profile.facts["contradicting"]:
            log.warning("label %s: %d users left out, whose rows contradict each other", profile.label, profile.facts["contradicting"])
    metrics.put("rows_in", len(users.user_id))
    metrics.put("rows_out", sum(p.probabilities.size for p in profiles if p.probabilities is not None))
    metrics.put("profiles", detail=[p.facts for p in profiles])


def run(
    date: datetime.date, knowledge_graph: Input, interactions: Input, entity_ids: Input, relations: Input, user_embeddings: Input,
    checkpoints: Input, profile_predictions: Output, config: Config,
) -> None:  # fmt: skip
    """Read, train, predict, commit."""
    if not config.profiles.labels:
        raise Skip("No label is configured under profiles.labels: nothing to predict.")
    models, dt = config.profiles.read_models(config.publishing.models), date.isoformat()
    users, inputs = read_users(date, models, user_embeddings), [user_embeddings.lineage(dt, model) for model in models]
    if config.profiles.baseline_features:
        users = with_baseline(users, date, (knowledge_graph, interactions, entity_ids, relations), config)
        inputs += [knowledge_graph.lineage(dt), interactions.lineage(dt)]
    head = Head.read(date, checkpoints, entity_ids) if "rhgn" in models else None
    if head:
        inputs.append(checkpoints.lineage(dt, "rhgn"))
    with engine.session(config.spark, "train_profiles") as spark:
        known = read_labels(spark, config.source.users, config.profiles, date)
    profiles = [make_profile(label, known[label], users, head, config) for label in sorted(known)]
    report(profiles, users)
    modelled = [profile for profile in profiles if profile.probabilities is not None]
    if not modelled:
        raise Skip("; ".join(f"label {profile.label}: {profile.facts['reason']}" for profile in profiles))
    with profile_predictions.table().replace(dt, keep_versions=config.publishing.keep_versions) as commit:
        for profile in modelled:
            commit.write_table(pa.concat_tables(rows_of(profile, users)), sorted_by=profile_predictions.contract.sorted_by)
        commit.fields |= fields_of(profiles, config.profiles) | {
            "models": models, "spaces": {model: space_of(user_embeddings, model, date) for model in models}, "inputs": inputs}


if __name__ == "__main__":
    main(run)
