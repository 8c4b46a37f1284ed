"""A small world for profiles: users whose vectors tell their gender and age, and a table of users that says them for some."""

from __future__ import annotations

import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jobs.configuration.profiles import Label, Profiles
from jobs.configuration.sections import Attribute, Graph, Lookalike, Publishing, Relation, Source, SourceTable, Spark
from jobs.profiles import train_profiles
from jobs.program import Output, metrics
from models.classifiers.profiling import folds
from models.hyperparameters import TreeHyperparameters
from tests.jobs.report.tables_by_hand import table_input, write_vectors

DATE, DIMENSION, USERS = datetime.date(2026, 3, 2), 6, 900
HOSTILE = ["<b>x</b>", "../../etc", "\u202eright to left", "é", "e\u0301", " "]
GRAPH = Graph(
    behaviors={"view": Relation(), "purchase": Relation()}, window_days=40, item_attributes={"brand": Attribute(), "category": Attribute()},
    user_attributes={"age": Attribute()})  # fmt: skip
INPUTS = ("knowledge_graph", "interactions", "entity_ids", "relations", "user_embeddings", "checkpoints")


def names(n: int = USERS) -> list[str]:
    return [*HOSTILE, *(f"u{u:05d}" for u in range(n - len(HOSTILE)))]


def planted(n: int = USERS, seed: int = 0) -> tuple[np.ndarray, pd.DataFrame]:
    """(vectors (n, 6), a table with the true gender and years of everybody)."""
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(n, DIMENSION))
    gender = np.where(vectors[:, 0] + 0.5 * random.normal(size=n) > 0.3, "f", "m")
    return vectors, pd.DataFrame({"user_id": names(n), "gender": gender, "years": np.round(40 + 15 * vectors[:, 1] + 3 * random.normal(size=n))})


def write(root: Path, known: pd.DataFrame, vectors: np.ndarray, date: datetime.date = DATE, model: str = "transe") -> None:
    """The users' source and the published vectors of `names`."""
    known.to_parquet(root / "users.parquet", index=False)
    write_vectors(root, model, date, dict(zip(names(len(vectors)), vectors, strict=True)), {}, np.zeros(vectors.shape[1]))


def config(root: Path, **changes: Any) -> train_profiles.Config:
    trees = TreeHyperparameters(threads=1, rounds=40, early_stopping_rounds=8, learning_rate=0.2)
    profiles = Profiles(labels={"gender": Label(), "age_band": Label("years", [30, 50])}, trees=trees, cross_validation=3)
    users = SourceTable(str(root / "users.parquet"))
    return train_profiles.Config(
        0, Source(SourceTable("none"), users=users), GRAPH, Publishing(models=["transe", "kqgc_mean"]), Lookalike(), dataclasses.replace(profiles, **changes), Spark())


def train(root: Path, settings: train_profiles.Config, date: datetime.date = DATE) -> dict[str, dict[str, Any]]:
    """Run the job; its facts by label."""
    metrics.rows.clear()
    reads = {name: table_input(root, name) for name in INPUTS}
    train_profiles.run(date=date, **reads, profile_predictions=table_input(root, "profile_predictions", Output), config=settings)
    found = {name: detail for name, _, detail in metrics.rows}
    return {facts["label"]: facts for facts in json.loads(found["profiles"])}


def predictions(root: Path, date: datetime.date = DATE) -> pd.DataFrame:
    return table_input(root, "profile_predictions").table().read(date.isoformat()).to_pandas()


def fold_of(label: str, user_ids: list[str] | pd.Series, settings: train_profiles.Config) -> np.ndarray:
    return folds(settings.profiles.salt, user_ids, settings.profiles.folds.a, settings.profiles.folds.c)
