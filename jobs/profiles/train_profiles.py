"""Predict labels of users (gender, age band, any column that is known of some) from their vectors, for every user
with one.

Reads: user_labels and user_embeddings of D; knowledge_graph, interactions, entity_ids, relations of D where
`profiles.baseline_features` asks for them; the checkpoint of D of a model that is read and has classifiers of its own.
Writes: profile_predictions of D.
Guarantees: a user's fold hangs on (user_id, salt) alone, whatever the label; the classifier learns from fold B, which
classes there are included, and no label of fold C reaches a vector or a prediction: C is what the figures are of,
those of a model's own head too. A label that cannot be modelled is named with its reason and stops no other; the
night is skipped where none can be.
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

from jobs.audiences.vectors import space_of
from jobs.configuration.load import config_hash
from jobs.configuration.profiles import Profiles
from jobs.configuration.sections import Graph, Lookalike, Publishing
from jobs.profiles.heads import Head, figures_of, read_heads
from jobs.profiles.labelled import Labelled
from jobs.profiles.labels import Known, read_known
from jobs.profiles.users import Users, read_users, with_baseline
from jobs.program import Input, Output, Skip, code_version, log, main, metrics
from jobs.tables import TABLES
from models import families
from models.classifiers.folds import A, B, C, uniform
from models.classifiers.profiling import Classifier, figures, fit

USERS_AT_A_TIME = 100_000


@dataclass(frozen=True)
class Config:
    seed: int
    graph: Graph
    publishing: Publishing
    lookalike: Lookalike
    profiles: Profiles


@dataclass(frozen=True)
class Profile:
    """One label tonight. facts: for the report and the manifest; the rest is there where a classifier was trained."""

    label: str
    facts: dict[str, Any]
    classes: list[str] = field(default_factory=list)
    probabilities: np.ndarray | None = None  # float32 (n, K)
    label_seen: np.ndarray | None = None  # bool (n,)


def make_profile(label: str, known: Known, users: Users, heads: dict[str, Head], config: Config) -> Profile:
    """Train on B, test on C (the models' own heads too, where there are some), predict everybody; or the reason why
    not."""
    started, profiles = time.perf_counter(), config.profiles
    mine = Labelled.among(users.user_id, known, label, profiles)
    kept = mine.counts[:, B] >= profiles.min_users_per_class
    facts = {"label": label, "column": profiles.column(label), "modelled": False, "users": len(users.user_id)}
    facts |= {"contradicting": known.contradicting} | mine.facts(kept)
    reason = known.problem or _too_little(label, mine, kept, profiles)
    if reason:
        return Profile(label, facts | {"reason": reason})
    classes, used = [mine.names[k] for k in np.flatnonzero(kept)], kept[mine.code]
    y = (np.cumsum(kept) - 1)[mine.code]
    b, c, order = used & (mine.fold == B), used & (mine.fold == C), uniform(profiles.salt, f"part of {label}", mine.ids)
    known_features = users.features[mine.rows[b]]
    model = fit(
        known_features, y[b], order[b], profiles.trees, config.seed, profiles.cross_validation, profiles.class_weights)
    probabilities = model.probabilities(users.features, profiles.trees.threads)
    facts |= {"modelled": True, "classes": classes, "features": users.features.shape[1]}
    facts |= {"predicted": _named(classes, probabilities)}
    facts |= _figures(model, y, b, c, probabilities[mine.rows[c]], config.seed)
    facts |= {"seconds": round(time.perf_counter() - started, 3)}
    tested = [mine.ids[i] for i in np.flatnonzero(c)]
    facts |= {"heads": figures_of(heads, label, tested, y[c], classes, config.seed)} if heads else {}
    return Profile(label, facts, classes, probabilities, _label_seen(mine, b, len(users.user_id), config))


def _label_seen(mine: Labelled, b: np.ndarray, n_users: int, config: Config) -> np.ndarray:
    """bool (n,): whose label something learned from: B, and A where a model that is read learns from labels."""
    seen = np.zeros(n_users, bool)
    seen[mine.rows[b]] = True
    models = config.profiles.read_models(config.publishing.models)
    if any(families.family_of(model).learns_labels for model in models):
        seen[mine.rows[mine.fold == A]] = True
    return seen


def _too_little(label: str, mine: Labelled, kept: np.ndarray, profiles: Profiles) -> str:
    """Why a label cannot be modelled; empty where it can."""
    if not mine.names:
        return (
            f"No user with a vector has a label in column {profiles.column(label)!r} of source.users. "
            f"Fill it for some users, or name another: profiles.labels.{label}.column.")
    if kept.sum() >= 2:
        return ""
    counts = zip(mine.names[:10], mine.counts[:10, B].tolist(), strict=True)
    return (
        f"Fold B has {int(kept.sum())} of {len(kept)} classes with at least {profiles.min_users_per_class} users "
        f"({', '.join(f'{name!r}: {n}' for name, n in counts)}); expected two or more. "
        "Label more users, or lower profiles.min_users_per_class.")


def _named(classes: list[str], probabilities: np.ndarray) -> dict[str, int]:
    """How many users each class is predicted for."""
    return dict(zip(classes, np.bincount(probabilities.argmax(axis=1), minlength=len(classes)).tolist(), strict=True))


def _figures(
    model: Classifier, y: np.ndarray, b: np.ndarray, c: np.ndarray, probabilities: np.ndarray, seed: int
) -> dict[str, Any]:
    """What C says, where it has a user of a modelled class; the majority class is that of B."""
    majority = int(np.bincount(y[b]).argmax())
    test = figures(y[c], probabilities, majority, seed) if c.any() else None
    calibration = dataclasses.asdict(model.calibration)
    return {"rounds": model.rounds, "calibration": calibration, "majority": majority, "test": test}


def rows_of(profile: Profile, users: Users) -> Iterator[pa.Table]:
    """The table's rows of one label, some users at a time: sorted by user id and class."""
    schema, k = TABLES["profile_predictions"].arrow_schema(), len(profile.classes)
    classes, likeliest = pa.array(profile.classes, pa.string()), profile.probabilities.argmax(axis=1)
    for start in range(0, len(users.user_id), USERS_AT_A_TIME):
        mine = np.arange(start, min(start + USERS_AT_A_TIME, len(users.user_id)))
        user, one = np.repeat(mine, k), np.tile(np.arange(k), len(mine))
        columns = {
            "label": pa.repeat(profile.label, len(user)), "user_id": users.user_id.take(pa.array(user)),
            "class": classes.take(pa.array(one)), "probability": profile.probabilities[mine].ravel(),
            "predicted": likeliest[user] == one, "source": users.source.take(pa.array(user)),
            "label_seen": profile.label_seen[user]}  # fmt: skip
        yield pa.table([columns[name] for name in schema.names], schema=schema)


def fields_of(profiles: list[Profile], config: Profiles) -> dict[str, Any]:
    """What the manifest says of the labels, and how users were dealt into folds."""
    apart = ("label", "seconds")
    labels = {p.label: {name: fact for name, fact in p.facts.items() if name not in apart} for p in profiles}
    return {
        "labels": labels, "salt": config.salt, "folds": dataclasses.asdict(config.folds),
        "config_hash": config_hash(config), "code_version": code_version()}


def report(profiles: list[Profile], users: Users) -> None:
    """The night's figures of this stage, and a warning per label that has no model."""
    for profile in profiles:
        label, facts = profile.label, profile.facts
        if profile.probabilities is None:
            log.warning("label %s: no model tonight: %s", label, facts["reason"])
        elif facts["rare"]:
            names = ", ".join(map(repr, facts["rare"]))
            log.warning("label %s: %d classes have too few users in fold B: %s", label, facts["rare_classes"], names)
        if facts["contradicting"]:
            said = "label %s: %d users left out, whose rows contradict each other"
            log.warning(said, label, facts["contradicting"])
    metrics.put("rows_in", len(users.user_id))
    metrics.put("rows_out", sum(p.probabilities.size for p in profiles if p.probabilities is not None))
    metrics.put("profiles", detail=[p.facts for p in profiles])


def run(
    date: datetime.date, knowledge_graph: Input, interactions: Input, entity_ids: Input, relations: Input,
    user_labels: Input, user_embeddings: Input, checkpoints: Input, profile_predictions: Output, config: Config,
) -> None:  # fmt: skip
    """Read, train, predict, commit."""
    if not config.profiles.labels:
        raise Skip("No label is configured under profiles.labels: nothing to predict.")
    models, dt = config.profiles.read_models(config.publishing.models), date.isoformat()
    users, inputs = read_users(date, models, user_embeddings), [user_embeddings.lineage(dt, model) for model in models]
    if config.profiles.baseline_features:
        users = with_baseline(users, date, (knowledge_graph, interactions, entity_ids, relations), config)
        inputs += [knowledge_graph.lineage(dt), interactions.lineage(dt)]
    heads = read_heads(models, date, checkpoints, entity_ids)
    known = read_known(user_labels, date, config.profiles)
    inputs += [*(checkpoints.lineage(dt, model) for model in heads), user_labels.lineage(dt)]
    profiles = [make_profile(label, known[label], users, heads, config) for label in sorted(known)]
    report(profiles, users)
    modelled = [profile for profile in profiles if profile.probabilities is not None]
    if not modelled:
        raise Skip("; ".join(f"label {profile.label}: {profile.facts['reason']}" for profile in profiles))
    spaces = {model: space_of(user_embeddings, model, date) for model in models}
    with profile_predictions.table().replace(dt, keep_versions=config.publishing.keep_versions) as commit:
        for profile in modelled:
            rows = pa.concat_tables(rows_of(profile, users))
            commit.write_table(rows, sorted_by=profile_predictions.contract.sorted_by)
        commit.fields |= fields_of(profiles, config.profiles) | {"models": models, "spaces": spaces, "inputs": inputs}


if __name__ == "__main__":
    main(run)
