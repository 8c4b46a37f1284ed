"""What the stages of a night left in `run_metrics`, and which models it published."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass, field
from typing import Any

from feature_store import Table
from feature_store.disk import open_disk
from jobs.configuration.settings import Settings
from jobs.program import SKIPPED
from jobs.tables import TABLES
from models import families

EVENTS_AND_GRAPHS = (
    "validate_events", "assign_ids", "build_knowledge_graph", "build_interactions", "build_user_activity")
LABELS = "read_labels"
LATER = ("train_lookalike", "score_lookalike", "train_profiles", "write_report", "prune_partitions")


@dataclass
class Night:
    """One night's figures: stage → metric → value, and the same for details."""

    date: datetime.date
    values: dict[str, dict[str, float]] = field(default_factory=dict)
    details: dict[str, dict[str, Any]] = field(default_factory=dict)

    def value(self, stage: str, metric: str) -> float | None:
        return self.values.get(stage, {}).get(metric)

    def detail(self, stage: str, metric: str) -> Any:
        return self.details.get(stage, {}).get(metric)

    def was_skipped(self, stage: str) -> bool:
        return self.value(stage, "status") == SKIPPED

    def message(self, stage: str) -> str:
        """Why a stage was skipped or failed, in its own words."""
        return str(self.detail(stage, "status") or "no reason given")


def read_night(data_root: str, date: datetime.date, since: datetime.datetime | None = None) -> Night:
    """Every stage's figures of one date; where `since` is given, of the stages that ended after it."""
    night = Night(date)
    disk, folder = open_disk(f"{data_root}/{TABLES['run_metrics'].folder}", None)
    for entry in disk.list(folder):
        table = Table(f"{folder}/{entry.name}", filesystem=disk)
        if not entry.name.startswith("stage=") or not is_written(table, date, since):
            continue
        stage = entry.name.removeprefix("stage=")
        for row in table.read(date.isoformat()).to_pylist():
            if row["value"] is not None:
                night.values.setdefault(stage, {})[row["metric"]] = row["value"]
            if row["detail"] is not None:
                night.details.setdefault(stage, {})[row["metric"]] = json.loads(row["detail"])
    return night


def is_written(table: Table, date: datetime.date, since: datetime.datetime | None) -> bool:
    """Whether the partition of a date is there, and was committed after `since`."""
    manifest = table.manifest(date.isoformat())
    if manifest is None:
        return False
    return since is None or datetime.datetime.fromisoformat(manifest.created_timestamp) >= since


def stages() -> list[str]:
    """All that there can be, in the order of the night."""
    builders = [path.rpartition(".")[2] for family in families.FAMILIES for path in family.builders]
    trained = [job.stage(model) for family in families.FAMILIES for job in family.jobs for model in job.models]
    published = [publishes(model) for model in families.published_models()]
    recommended = [f"recommend_items_{model}" for model in families.published_models()]
    before = ["size_pods", *EVENTS_AND_GRAPHS, *builders, LABELS, "resolve_predecessor"]
    return [*before, *trained, *published, *recommended, *LATER]


def publishes(model: str) -> str:
    """The stage that publishes a model."""
    return f"publish_users_{model}"


def place(stage: str) -> tuple[int, str]:
    """Sorts stages in the order of the night; those that nobody knows come last."""
    known = stages()
    return known.index(stage) if stage in known else len(known), stage


@dataclass(frozen=True)
class Outcome:
    """What a night made of a model: the folder of its partition, or why it wrote none."""

    model: str
    path: str | None
    reason: str = ""
    skipped: bool = False  # a stage found nothing to do and said why: no failure


def outcomes(settings: Settings, night: Night, since: datetime.datetime | None = None) -> list[Outcome]:
    """One for each model that is to be published; where `since` is given, an older partition is none."""
    return [_outcome(settings, model, night, since) for model in settings.publishing.models]


def _outcome(settings: Settings, model: str, night: Night, since: datetime.datetime | None) -> Outcome:
    contract = TABLES["user_embeddings"]
    table = Table(contract.location(f"{settings.data_root}/{contract.folder}", model))
    for stage in _stages_before(settings, model, night):
        status = night.value(stage, "status")
        if status == SKIPPED:
            return Outcome(model, None, f"{stage} was skipped: {night.message(stage)}", skipped=True)
        if status:
            return Outcome(model, None, f"{stage} failed: {night.message(stage)}")
        if status is None and since is not None:
            return Outcome(model, None, f"{stage} did not run" if night.values else "no task of the night ran")
    if not is_written(table, night.date, since):
        return Outcome(model, None, f"{publishes(model)} left no partition dt={night.date} in {table.uri}")
    return Outcome(model, f"{table.path(night.date.isoformat())}/")


def _stages_before(settings: Settings, model: str, night: Night) -> list[str]:
    """The stages that a model's vectors hang on, in their order; of those that all share, the ones that went wrong."""
    sections = {name: vars(section) for name, section in settings.families.items()}
    shared = [stage for stage in (*EVENTS_AND_GRAPHS, "resolve_predecessor") if night.value(stage, "status")]
    if families.family_of(model).learns_labels and night.value(LABELS, "status"):
        shared.append(LABELS)
    trained = families.trained_models([model], sections)
    return [*shared, *(families.job_of(one).stage(one) for one in trained), publishes(model)]
