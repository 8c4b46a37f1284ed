"""What nights leave, written by hand: figures of stages, and published vectors of one user."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from feature_store import Table
from jobs.configuration.load import load_settings
from jobs.configuration.settings import Settings
from jobs.tables import TABLES
from tests.dags import small_log

D = datetime.date(2026, 1, 21)
MODELS = ("transe", "kqgc_mean", "rhgn")
GRAPH = ("validate_events", "assign_ids", "build_knowledge_graph", "build_interactions", "resolve_predecessor")
TRAINING = {"transe": "pretrain_transe", "kqgc_mean": "smooth_kqgc_kqgc_mean", "rhgn": "finetune_rhgn"}


def settings(folder: Path, models: tuple[str, ...] = MODELS, **sections: Any) -> Settings:
    """A small configuration with clients and labels."""
    return load_settings(small_log.write(folder, models, profiles=small_log.PROFILES, **sections))


def stage(
    root: str, name: str, date: datetime.date, status: int = 0, message: str | None = None, **details: Any
) -> None:
    """One stage's figures; those that are no number are details."""
    rows = [("status", float(status), message and json.dumps(message)), ("seconds", 1.5, None)]
    for metric, given in details.items():
        plain = isinstance(given, (int, float))
        rows.append((metric, float(given), None) if plain else (metric, None, json.dumps(given)))
    schema = TABLES["run_metrics"].arrow_schema()
    columns = [pa.array(column, one.type) for column, one in zip(zip(*rows, strict=True), schema, strict=True)]
    with Table(f"{root}/run_metrics/stage={name}").replace(date.isoformat()) as commit:
        commit.write_table(pa.Table.from_arrays(columns, schema=schema))


def vectors(root: str, model: str, date: datetime.date) -> None:
    """A partition of a model; what it holds is nobody's business here."""
    with Table(f"{root}/feature_store/user_embeddings/model={model}").replace(date.isoformat()) as commit:
        commit.write_table(pa.table({"user_id": ["u"]}))


def publish(root: str, model: str, date: datetime.date) -> None:
    """What the stages of one model leave."""
    stage(root, TRAINING[model], date)
    vectors(root, model, date)
    stage(root, f"publish_users_{model}", date, rows_out=1)


def whole_night(root: str, date: datetime.date, models: tuple[str, ...] = MODELS) -> None:
    """A night on which everything went well."""
    for name in GRAPH:
        stage(root, name, date, rows_in=100, rows_out=90)
    for model in models:
        publish(root, model, date)
    for name in ("train_lookalike", "score_lookalike", "train_profiles", "write_report", "prune_partitions"):
        stage(root, name, date)


def label_learner_skipped(root: str, date: datetime.date) -> None:
    """A night without a label to learn from."""
    whole_night(root, date, ("transe", "kqgc_mean"))
    few = ["label taste: fold A has 1 class"]
    stage(root, "finetune_rhgn", date, 99, "No label can be learned from.", warnings=few)
