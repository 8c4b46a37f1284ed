"""RHGN's night on the planted graph: the users' table with a label, the configuration, the jobs one after the other."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from feature_store import Table
from jobs.arrays import Checkpoint, read_checkpoint
from jobs.embeddings import finetune_rhgn, pretrain_transe, publish_users
from jobs.profiles import read_labels
from jobs.program import execute
from models.classifiers.folds import folds
from tests.jobs.embeddings.planted import N_USERS, group_of, write_config, write_day, write_graph, write_ledgers

DATES = [datetime.date(2026, 1, 5), datetime.date(2026, 1, 6)]
USERS = [f"u{n:03d}" for n in range(N_USERS)]
WIDTH, CAP = 8, 3
FOLD = folds("nocturne", USERS, 0.6, 0.2)
PROFILES = {
    "labels": {"taste": {}},
    "folds": {"a": 0.6, "b": 0.2, "c": 0.2},
    "min_users_per_class": 4,
    "cross_validation": 2,
    "attention_rows": CAP,
}


def write_world(root: Path) -> None:
    """Graphs of both dates, and everybody's taste as a label."""
    write_ledgers(root / "data", USERS)
    write_day(root / "data", DATES[0] - datetime.timedelta(days=1), USERS)
    for date in DATES:
        write_graph(root / "data", date, USERS)
    label(root, lambda user: str(group_of(user)))


def label(root: Path, of: Callable[[str], str | None]) -> None:
    """Write the users' table: everybody's taste as `of` has it."""
    pd.DataFrame({"user_id": USERS, "taste": pd.array([of(user) for user in USERS], "string")}).to_parquet(
        root / "users.parquet", index=False
    )


RHGN = {"width": WIDTH, "heads": 2, "epochs": 20, "batch_size": 16, "learning_rate": 0.02, "validation_share": 0.1}


def config_of(root: Path, **sections: object) -> Path:
    source = {name: {"path": f"{name}.parquet"} for name in ("events", "items", "users")}
    publishing = {"models": ["transe", "rhgn"], "min_neighbour_overlap": 0.0}
    return write_config(
        root, **{"source": source, "rhgn": RHGN, "profiles": PROFILES, "publishing": publishing, **sections}
    )


def night(root: Path, date: datetime.date, predecessor: datetime.date | None = None, **sections: object) -> int:
    """Labels, TransE and RHGN of a night; the exit status of the last job that ran."""
    plain = ["--date", str(date), "--config", str(config_of(root, **sections))]
    base = [*plain, "--predecessor", str(predecessor)]
    status = execute(read_labels.run, plain)
    if status:
        return status
    assert execute(pretrain_transe.run, base) == 0
    return execute(finetune_rhgn.run, base)


def publish(root: Path, date: datetime.date, predecessor: datetime.date | None = None, **sections: object) -> int:
    base = ["--date", str(date), "--config", str(config_of(root, **sections)), "--predecessor", str(predecessor)]
    return execute(publish_users.run, [*base, "--model", "rhgn"])


def checkpoint(root: Path, date: datetime.date) -> Checkpoint:
    return read_checkpoint(Table(str(root / "data/checkpoints/rhgn")), str(date))


def content(root: Path, date: datetime.date = DATES[0]) -> list[str]:
    return [
        Table(str(root / "data" / name)).manifest(str(date)).content_hash for name in ("checkpoints/rhgn", "attention")
    ]
