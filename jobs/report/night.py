"""What the stages of one night said of themselves, read from run_metrics."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from jobs.program import SKIPPED, Input

DAG = "nightly_user_embeddings"
AFTER = ("write_report", "prune_partitions")  # what they left is of an earlier run


@dataclass(frozen=True)
class Stage:
    """One stage's figures. `ran` is false where the night has no figures of it at all."""

    name: str
    ran: bool
    figures: dict[str, float | None] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    finished: datetime.datetime | None = None  # when its figures were committed

    @property
    def status(self) -> str:
        """done, skipped, failed or absent."""
        if not self.ran:
            return "absent"
        return {0: "done", SKIPPED: "skipped"}.get(int(self.figures.get("status") or 0), "failed")

    @property
    def message(self) -> str:
        return str(self.details.get("status") or "")

    def figure(self, name: str) -> float | None:
        return self.figures.get(name)

    def table(self, name: str) -> list[dict[str, Any]]:
        """A detail that is a list of dicts; [] where it is missing or something else."""
        rows = self.details.get(name)
        return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []

    def mapping(self, name: str) -> dict[str, Any]:
        found = self.details.get(name)
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Night:
    """All stages of `date`, in the order of the flow; those that the configuration expects are there even if they did not run."""

    date: datetime.date
    models: tuple[str, ...]
    stages: tuple[Stage, ...]

    def __getitem__(self, name: str) -> Stage:
        return next((s for s in self.stages if s.name == name), Stage(name, False))

    def of_models(self, prefix: str) -> Iterator[tuple[str, Stage]]:
        """(model, its stage) for the stages that run once per model."""
        for model in self.models:
            yield model, self[f"{prefix}_{model}"]

    def training(self) -> Iterator[tuple[str, Stage]]:
        """(model, the stage that trained it)."""
        for model in self.models:
            yield model, self[trained_by(model)]

    @property
    def prospects(self) -> bool:
        """Whether there are clients to find prospects for, or figures of some."""
        return any(s.name in ("train_lookalike", "score_lookalike") for s in self.stages)

    @property
    def profiles(self) -> bool:
        """Whether there are labels to predict, or figures of some."""
        return any(s.name == "train_profiles" for s in self.stages)

    @property
    def gaps(self) -> list[Stage]:
        """Stages that did not do their work."""
        return [s for s in self.stages if s.status != "done"]

    def rerun(self, stage: Stage) -> str:
        """The command that runs a stage of this night, and what depends on it, again."""
        return f"airflow tasks clear {DAG} -s {self.date} -e {self.date} -t '{task_of(stage.name)}$' --downstream -y"


def trained_by(model: str) -> str:
    """The stage that trains a model."""
    return {"transe": "pretrain_transe", "rhgn": "finetune_rhgn"}.get(model, f"smooth_kqgc_{model}")


def task_of(stage: str) -> str:
    """The last word of the DAG's task that ran a stage: those that run once per model carry the model's name alone."""
    return stage.replace("smooth_kqgc_kqgc_", "smooth_kqgc_").replace("publish_users_", "publish_")


def expected_stages(models: list[str], has_clients: bool, has_labels: bool = False) -> list[str]:
    """The flow's stages in its order. TransE is trained even where only KQGC is published: KQGC starts from it."""
    later = [trained_by(m) for m in models if m != "transe"]
    names = ["validate_events", "assign_ids", "build_knowledge_graph", "build_interactions", "resolve_predecessor", "pretrain_transe"]
    names += later + [f"publish_users_{m}" for m in models]
    names += ["train_lookalike", "score_lookalike"] if has_clients else []
    return names + (["train_profiles"] if has_labels else [])


def read_night(date: datetime.date, run_metrics: Input, models: list[str], has_clients: bool, has_labels: bool = False) -> Night:
    """Every stage that did something for `date`, and the expected ones that did not: without clients a skipped lookalike is no gap, nor profiles without labels."""
    expected = expected_stages(models, has_clients, has_labels)
    folders = run_metrics.table(expected[0]).disk.list(run_metrics.uri)
    found = sorted(f.name.removeprefix("stage=") for f in folders if f.is_folder and f.name.startswith("stage="))
    others = [name for name in found if name not in expected and name not in AFTER]
    stages = [_read_stage(name, date, run_metrics) for name in expected + others]
    return Night(date, tuple(models), tuple(s for s in stages if s.name in expected or s.status in ("done", "failed")))


def _read_stage(name: str, date: datetime.date, run_metrics: Input) -> Stage:
    table = run_metrics.table(name)
    if table.manifest(date.isoformat()) is None:
        return Stage(name, False)
    rows, manifest = table.read_version(date.isoformat())
    figures, details = {}, {}
    for row in rows.to_pylist():
        figures[row["metric"]] = row["value"]
        if row["detail"] is not None:
            details[row["metric"]] = json.loads(row["detail"])
    return Stage(name, True, figures, details, datetime.datetime.fromisoformat(manifest.created_timestamp))
