"""What every training job shares: tonight's graph and what it goes on from come in, a checkpoint goes out.

A family's own job holds what is its own: what is learned from, and how everybody gets a vector. Here stand the
predecessor, the schedule, the models it starts from, the manifest's fields and the night's figures.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jobs.arrays import INDUCTIVE, NONE, Checkpoint, Night, read_checkpoint, read_night
from jobs.configuration.load import config_hash
from jobs.configuration.profiles import Profiles
from jobs.configuration.sections import Graph, Publishing, Training
from jobs.configuration.settings import Families
from jobs.embeddings.family import family, shaped_by, sources_of
from jobs.late_imports import postpone_compiler
from jobs.program import Input, JobError, Output, code_version, log, metrics
from jobs.progress import report_best
from models import families
from models.learning.divergence import Diverged

_SHAPED_BY = "shaped_by"  # of a checkpoint's facts


@dataclass(frozen=True)
class Config:
    """What every training job is configured by; a family's own job may add sections."""

    seed: int
    deterministic: bool
    graph: Graph
    families: Families
    training: Training
    publishing: Publishing
    profiles: Profiles


@dataclass(frozen=True)
class GraphTables:
    """Where tonight's graph lies, and the checkpoints."""

    knowledge_graph: Input
    entity_ids: Input
    relations: Input
    checkpoints: Output


@dataclass(frozen=True)
class Outcome:
    """What a night knows of a model.

    entities: float32 (n, d); relations: float32 (m, d), None for a model whose relations have no vector; source: uint8
    (n,) as in `Checkpoint`; extra: what a warm start needs; trained_at: the night that trained the parameters; history:
    empty where that was an earlier one; best_epoch: the one that is kept; learned_from: how many of what the family's
    record counts.
    """

    entities: np.ndarray
    relations: np.ndarray | None
    source: np.ndarray
    extra: dict[str, np.ndarray]
    trained_at: datetime.date
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int | None = None
    learned_from: int | None = None
    facts: dict[str, str] = field(default_factory=dict)  # for the checkpoint's own metadata
    fields: dict[str, Any] = field(default_factory=dict)  # for the manifest, beside those of every family


@dataclass(frozen=True)
class Tonight:
    """Where a training job starts: the graph of D, the checkpoints of D that it starts from, and its own of the
    predecessor."""

    date: datetime.date
    model: str
    predecessor: datetime.date | None
    config: Config
    tables: GraphTables
    night: Night
    sources: dict[str, Checkpoint]
    former: Checkpoint | None

    @classmethod
    def read(
        cls, date: datetime.date, model: str, predecessor: datetime.date | None, config: Config, *tables: Input
    ) -> Tonight:
        """tables: as in `GraphTables`. PartitionMissing for a graph or a checkpoint that is not there."""
        postpone_compiler()
        require_device(model, config)
        found, dt = GraphTables(*tables), date.isoformat()
        night = read_night(dt, found.knowledge_graph, found.entity_ids, found.relations)
        sources = {name: read_checkpoint(found.checkpoints.table(name), dt) for name in sources_of(model, config)}
        for source in sources.values():
            source.require_of(night)
        former = read_checkpoint(found.checkpoints.table(model), predecessor.isoformat()) if predecessor else None
        return cls(date, model, predecessor, config, found, night, sources, former)

    @property
    def dt(self) -> str:
        return self.date.isoformat()

    @property
    def source(self) -> Checkpoint:
        """The checkpoint it starts from; of several the first of its record."""
        return next(iter(self.sources.values()))

    @property
    def trains(self) -> bool:
        """On a cold start; when `train_every_days` have passed since the last training; whenever a model that it
        starts from was trained since: parameters belong to the vectors that they learned on; and where it is
        `reshaped`."""
        if self.former is None:
            return True
        last, every = last_trained(self.former), self.config.training.train_every_days
        since = any(last_trained(source) > last for source in self.sources.values())
        return self.reshaped or since or (self.date - last).days >= every

    @functools.cached_property
    def reshaped(self) -> bool:
        """Whether vectors follow from other hyperparameters than the predecessor's did; False where that does not say
        them."""
        if self.former is None:
            return False
        before, section = json.loads(self.former.facts.get(_SHAPED_BY, "{}")), families.family_of(self.model).name
        changed = [f"{section}.{name} is {now!r} and was {before[name]!r}" for name, now in self._shaped_by.items()
                   if before.get(name, now) != now]  # fmt: skip
        if changed:
            log.warning("%s of %s is trained, whatever train_every_days says: %s on %s", self.model, self.date,
                        ", ".join(changed), self.predecessor)  # fmt: skip
        return bool(changed)

    @property
    def _shaped_by(self) -> dict[str, Any]:
        return shaped_by(self.model, self.config)

    @contextlib.contextmanager
    def fitting(self) -> Iterator[None]:
        """JobError where a training diverges, or a checkpoint's parameters do not fit the configuration's model."""
        try:
            with converging(families.family_of(self.model).name, self.config):
                yield
        except (ValueError, KeyError) as error:
            read = [*self.sources.values(), *([self.former] if self.former else [])]
            if not read:
                raise
            lacking = f"there is no array {error}" if isinstance(error, KeyError) else str(error)
            raise JobError(
                f"Does not fit together: {lacking}. Read were {' and '.join(one.path for one in read)}. Run the jobs "
                "that write them for that date again, or set another training.space to begin anew."
            ) from error

    def lineage(self) -> dict[str, Any]:
        """What the manifests of all that the job writes say alike."""
        checkpoints = {name: self.tables.checkpoints.lineage(self.dt, name) for name in self.sources}
        inputs = {"knowledge_graph": self.tables.knowledge_graph.lineage(self.dt)} | checkpoints
        return {"config_hash": config_hash(self.config), "code_version": code_version(), "inputs": inputs}

    def commit(self, outcome: Outcome) -> None:
        """Say the night's figures and commit the checkpoint of D."""
        shape = {_SHAPED_BY: json.dumps(self._shaped_by)}
        facts = {"trained_at": outcome.trained_at.isoformat()} | shape | outcome.facts
        relations = outcome.relations
        if relations is None:
            relations = np.zeros((len(self.night.relation_names), outcome.entities.shape[1]), np.float32)
        checkpoint = Checkpoint.of_night(self.night, outcome.entities, relations, outcome.source, outcome.extra, facts)
        self._report(outcome)
        checkpoints, keep = self.tables.checkpoints, self.config.publishing.keep_versions
        before = checkpoints.lineage(self.predecessor.isoformat(), self.model) if self.predecessor else None
        with checkpoints.table(self.model).replace(self.dt, keep_versions=keep) as commit:
            checkpoint.write(commit)
            commit.fields |= self.lineage() | {
                "family": family(self.model, self.config), "trained_at": facts["trained_at"], "predecessor": before,
            } | outcome.fields  # fmt: skip

    def _report(self, outcome: Outcome) -> None:
        if outcome.learned_from is not None:
            metrics.put("rows_in", outcome.learned_from)
        metrics.put("rows_out", int((outcome.source != NONE).sum()))
        metrics.put("warm", float(self.former is not None), "warm start" if self.former else "cold start")
        metrics.put("inductive_entities", int((outcome.source == INDUCTIVE).sum()))
        metrics.put("history", detail=outcome.history)
        if outcome.best_epoch is not None:
            report_best(outcome.history, outcome.best_epoch, families.family_of(self.model).measure)


@contextlib.contextmanager
def converging(section: str, config: Config) -> Iterator[None]:
    """JobError where a training by the hyperparameters of a section diverges."""
    try:
        yield
    except Diverged as error:
        raise JobError(
            f"{section}: {error}. Set {section}.learning_rate, which is {config.families[section].learning_rate}, to "
            "less; the training then begins anew."
        ) from error


def require_device(model: str, config: Config) -> None:
    """JobError where the configuration asks for a GPU that this machine does not show: to fail now, and for good."""
    name = families.family_of(model).name
    device = getattr(config.families[name], "device", "cpu")
    if not device.startswith("cuda"):
        return
    import torch

    at, there = int(device.partition(":")[2] or 0), torch.cuda.device_count()
    if at >= there:
        raise JobError(f"{name}.device is {device}, and PyTorch finds {there} CUDA devices on this machine; expected "
                       f"it among them. Set {name}.device: cpu, or run the task where the GPU is.")


def last_trained(checkpoint: Checkpoint) -> datetime.date:
    """The date whose night trained the parameters in a checkpoint."""
    return datetime.date.fromisoformat(checkpoint.facts["trained_at"])


def trained_edges(night: Night, behaviours: list[str], min_train_events: int) -> np.ndarray:
    """bool (E,): the edges to learn from: all but those of users with fewer events in the window; all where every user
    has fewer."""
    users = night.of_type("user")
    few = np.zeros(night.n_entities, bool)
    few[users] = night.user_events(behaviours)[users] < min_train_events
    if len(users) and few[users].all():
        log.warning(
            "no user has training.min_train_events %d events in the window: all are trained on", min_train_events
        )
        few[:] = False
    return ~few[night.heads]
