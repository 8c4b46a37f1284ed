"""A small world for profiles: users whose vectors tell their gender and age, and a table of
users that says them for some."""

from __future__ import annotations

import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jobs.configuration.profiles import Label, Profiles
from jobs.configuration.sections import (
    Attribute,
    Graph,
    Lookalike,
    Publishing,
    Relation,
    Source,
    SourceTable,
    Spark,
)
from jobs.profiles import read_labels, train_profiles
from jobs.program import Output, metrics
from models.classifiers.folds import folds
from models.hyperparameters import TreeHyperparameters
from tests.jobs.embeddings.planted import write_day
from tests.jobs.report.tables_by_hand import table_input, write_vectors

DATE, DIMENSION, USERS = datetime.date(2026, 3, 2), 6, 900
HOSTILE = ["<b>x</b>", "../../etc", "\u202eright to left", "é", "e\u0301", " "]
GRAPH = Graph(
    behaviors={"view": Relation(), "purchase": Relation()}, window_days=40, user_attributes={"age": Attribute()},
    item_attributes={"brand": Attribute(), "category": Attribute()})  # fmt: skip
INPUTS = ("knowledge_graph", "interactions", "entity_ids", "relations", "user_labels", "user_embeddings", "checkpoints")


def names(n: int = USERS) -> list[str]:
    return [*HOSTILE, *(f"u{u:05d}" for u in range(n - len(HOSTILE)))]


def planted(n: int = USERS, seed: int = 0) -> tuple[np.ndarray, pd.DataFrame]:
    """(vectors (n, 6), a table with the true gender and years of everybody)."""
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(n, DIMENSION))
    gender = np.where(vectors[:, 0] + 0.5 * random.normal(size=n) > 0.3, "f", "m")
    years = np.round(40 + 15 * vectors[:, 1] + 3 * random.normal(size=n))
    return vectors, pd.DataFrame({"user_id": names(n), "gender": gender, "years": years})


def write(
    root: Path, known: pd.DataFrame, vectors: np.ndarray, date: datetime.date = DATE, model: str = "transe"
) -> None:
    """The users' source and the published vectors of `names`."""
    known.to_parquet(root / "users.parquet", index=False)
    users = dict(zip(names(len(vectors)), vectors, strict=True))
    write_vectors(root, model, date, users, {}, np.zeros(vectors.shape[1]))
    write_day(root, date - datetime.timedelta(days=1), list(users))


def config(**changes: Any) -> train_profiles.Config:
    trees = TreeHyperparameters(threads=1, rounds=40, early_stopping_rounds=8, learning_rate=0.2)
    labels = {"gender": Label(), "age_band": Label("years", [30, 50])}
    profiles = dataclasses.replace(Profiles(labels=labels, trees=trees, cross_validation=3), **changes)
    return train_profiles.Config(0, GRAPH, Publishing(models=["transe", "kqgc_mean"]), Lookalike(), profiles)


def read(root: Path, settings: train_profiles.Config, date: datetime.date = DATE) -> None:
    """Labels from the users' source into their table, as a night does."""
    source = Source(SourceTable("none"), users=SourceTable(str(root / "users.parquet")))
    config = read_labels.Config(source, GRAPH, settings.publishing, settings.profiles, Spark())
    days, labels = table_input(root, "clean_events"), table_input(root, "user_labels", Output)
    read_labels.run(date=date, clean_events=days, user_labels=labels, config=config)


def train(root: Path, settings: train_profiles.Config, date: datetime.date = DATE) -> dict[str, dict[str, Any]]:
    """Read the labels, run the job; its facts by label."""
    read(root, settings, date)
    return train_only(root, settings, date)


def train_only(root: Path, settings: train_profiles.Config, date: datetime.date = DATE) -> dict[str, dict[str, Any]]:
    """Run the job on the labels that were read; its facts by label."""
    metrics.rows.clear()
    reads = {name: table_input(root, name) for name in INPUTS}
    predictions = table_input(root, "profile_predictions", Output)
    train_profiles.run(date=date, **reads, profile_predictions=predictions, config=settings)
    found = {name: detail for name, _, detail in metrics.rows}
    return {facts["label"]: facts for facts in json.loads(found["profiles"])}


def predictions(root: Path, date: datetime.date = DATE) -> pd.DataFrame:
    return table_input(root, "profile_predictions").table().read(date.isoformat()).to_pandas()


def fold_of(user_ids: list[str] | pd.Series) -> np.ndarray:
    """By the configuration that all tests have."""
    profiles = config().profiles
    return folds(profiles.salt, user_ids, profiles.folds.a, profiles.folds.c)


def known_part(truth: pd.DataFrame) -> pd.DataFrame:
    """What the source says: the gender of a third is unknown, the years of a seventh; every fifth user has no row."""
    rows = truth[truth.index % 5 != 0]
    years = rows["years"].where(rows.index % 7 != 0)
    return rows.assign(gender=rows["gender"].where(rows.index % 3 != 0), years=years)


def retrained(root: Path, known: pd.DataFrame, **changes: Any) -> dict[str, dict[str, Any]]:
    """The job's facts in a world of `planted` vectors where the source says `known`."""
    write(root, known, planted()[0])
    return train(root, config(**changes))


def content_hash(root: Path) -> str:
    return table_input(root, "profile_predictions").table().existing_manifest(DATE.isoformat()).content_hash
