"""What the stages of one night said of themselves, read from run_metrics."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from jobs.program import SKIPPED, Input
from jobs.report.flow import GRAPHS, Flow, stage_that_trains, task_of

DAG = "nightly_user_embeddings"
AFTER = ("write_report", "prune_partitions")  # what they left is of an earlier run
ON_DEMAND = ("find_audience", "resolve_request")  # requests, by model: of no night, whatever their date


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
    """All stages of `date`, in the order of the flow; those that the configuration expects are there even if they did
    not run."""

    date: datetime.date
    flow: Flow
    stages: tuple[Stage, ...]

    def __getitem__(self, name: str) -> Stage:
        return next((s for s in self.stages if s.name == name), Stage(name, False))

    @property
    def models(self) -> tuple[str, ...]:
        """Those published."""
        return self.flow.published

    def of_models(self, prefix: str) -> Iterator[tuple[str, Stage]]:
        """(model, its stage) for the stages that run once per published model."""
        for model in self.models:
            yield model, self[f"{prefix}_{model}"]

    def training(self) -> Iterator[tuple[str, Stage]]:
        """(model, the stage that trained it), in the order of training."""
        for model in self.flow.trained:
            yield model, self[stage_that_trains(model)]

    @property
    def prospects(self) -> bool:
        """Whether there are clients to find prospects for, or figures of some."""
        known = self["train_lookalike"].table("clients") or self["score_lookalike"].table("backtest")
        return self.flow.clients or bool(known)

    @property
    def profiles(self) -> bool:
        """Whether there are labels to predict, or figures of some."""
        return any(s.name == "train_profiles" for s in self.stages)

    def recommending(self) -> Iterator[tuple[str, Stage]]:
        """(model, the stage that recommended items by its vectors)."""
        for model in self.flow.recommending:
            yield model, self[f"recommend_items_{model}"]

    @property
    def gaps(self) -> list[Stage]:
        """Stages that did not do their work; of the graphs' task nothing that one of its programs tells already."""
        found = [s for s in self.stages if s.status != "done"]
        told = {s.name for s in found if s.ran} & set(self.flow.graph_stages)
        return [s for s in found if s.name != GRAPHS or not told]

    @property
    def seconds(self) -> float:
        """Of the whole night: the programs of the graphs' task are in its own seconds, where it has some."""
        inside = set(self.flow.graph_stages) if self[GRAPHS].ran else set()
        return sum(s.figure("seconds") or 0 for s in self.stages if s.name not in inside)

    def rerun(self, stage: Stage) -> str:
        """The command that runs a stage of this night, and what depends on it, again."""
        return f"airflow tasks clear {DAG} -s {self.date} -e {self.date} -t '{task_of(stage.name)}$' --downstream -y"


def read_night(date: datetime.date, run_metrics: Input, flow: Flow) -> Night:
    """Every stage that did something for `date`, and the expected ones that did not: without clients a skipped
    lookalike is no gap, nor profiles without labels."""
    expected = flow.stages
    folders = run_metrics.table(expected[0]).disk.list(run_metrics.uri)
    found = sorted(f.name.removeprefix("stage=") for f in folders if f.is_folder and f.name.startswith("stage="))
    whole = {GRAPHS} & set(found)
    names = [*flow.graph_stages, *whole, *expected[len(flow.graph_stages) :]]
    names += [name for name in found if name not in names and name not in AFTER and not name.startswith(ON_DEMAND)]
    stages = [_read_stage(name, date, run_metrics) for name in names]
    return Night(date, flow, tuple(s for s in stages if s.name in expected or s.status in ("done", "failed")))


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
