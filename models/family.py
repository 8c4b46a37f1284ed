"""What a record of a model family says. The records stand in `families.py`; standard library alone, as there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

GRAPH = ("entity_ids", "relations", "knowledge_graph")

# How a user's vector u is held against an item's v, and against another user's:
#   translation  the distance of u + r from v in the family's norm, r being the relation's vector; of two users, theirs
#   diagonal     less the product of u · r and v, r being the relation's diagonal; of two users, 1 less their cosine
#   complex      the same of complex numbers, whose real parts are a vector's first half: less the real part of the sum
#                of u · r and conjugated v
#   dot          less the product of u and v; of two users, 1 less their cosine
#   softmax      the same, e^product being in proportion to the probability that v comes next
#   cosine       1 less the cosine, of items and users alike; relations have no vector
Comparison = Literal["translation", "diagonal", "complex", "dot", "softmax", "cosine"]


@dataclass(frozen=True)
class Job:
    """A program that trains models of a family: `python -m jobs.<program> --date=D …`, once for each of them."""

    program: str  # module below `jobs`; its last word names the task and the stage
    # that it trains; of several it is told which with --model, and the model's name ends that of the task
    models: tuple[str, ...]
    doc: str  # of the task, shown in Airflow
    reads: tuple[str, ...] = GRAPH  # tables of D, beside the checkpoints that it starts from
    writes: tuple[str, ...] = ()  # tables of D, beside its checkpoint
    # families whose vectors it can start from, the first where its settings name none and it does not start alone
    starts_from: tuple[str, ...] = ()
    start_settings: tuple[str, ...] = ()  # keys of the family's section whose values name one of them
    starts_alone: bool = False  # where its settings name none, it starts from none

    @property
    def name(self) -> str:
        """Its last word, such as `pretrain_transe`."""
        return self.program.rpartition(".")[2]

    @property
    def takes_model(self) -> bool:
        """Whether it is told which model to train."""
        return len(self.models) > 1

    def task(self, model: str) -> str:
        """The DAG's task that trains a model, without its group."""
        return f"{self.name.split('_')[0]}_{model}" if self.takes_model else self.name

    def stage(self, model: str) -> str:
        """The stage of run_metrics that the task's figures stand under."""
        return f"{self.name}_{model}" if self.takes_model else self.name

    def starts(self, section: Mapping[str, Any]) -> tuple[str, ...]:
        """The families that it starts from by the values of the family's section; () where it starts from none."""
        named = {section.get(key) for key in self.start_settings}
        by_name = tuple(name for name in self.starts_from if name in named)
        return by_name or (() if self.starts_alone else self.starts_from[:1])


@dataclass(frozen=True)
class Family:
    """One model family. A dotted path names a value of the configuration, such as `transe.norm`; what stands in braces
    in it is such a path itself, and its value takes the place."""

    name: str  # of its section in the YAML
    title: str  # as people write it
    hyperparameters: str  # dotted name of the dataclass that its section is read into
    jobs: tuple[Job, ...]
    compared: str  # a Comparison, or the dotted path of one
    dimension: str  # dotted path of its vectors' length
    norm: str  # l1 or l2, or the dotted path of it
    learns_from: str  # what training counts, in words: edges, pairs, labelled users, events
    measure: str  # the held-out figure that it is judged by: a key of its training history and of the stage's figures
    measured: str  # the same for people, with a place for the figure
    triage: tuple[str, str]  # a row of the DAG's table: what one sees, and why it is so and what to do
    # what two nights must have alike beside dimension, norm and space: name → dotted path
    same: Mapping[str, str] = field(default_factory=dict)
    # what holds of a partition that does not say one of these: the value that it had before it could be set
    unsaid: Mapping[str, Any] = field(default_factory=dict)
    # keys of its section that vectors follow from, beside what was learned: a night on which one is another than the
    # predecessor's trains, or R of that night would not hold
    shaped_by: tuple[str, ...] = ()
    # whose vectors a night's space is fitted on, those of both nights: users; or items, where a user's vector is a
    # state that moves with every event
    aligned_by: Literal["user", "item"] = "user"
    learns_labels: bool = False  # from those of fold A: it needs profiles.labels, and is judged on other users
    # Spark programs below `jobs` that build the tables its jobs read, beside the graph's
    builders: tuple[str, ...] = ()
    # module whose `start_of` finds vectors for relations and values around its users and items, where it has none and
    # a model that starts from it needs them
    around: str | None = None
    head: str | None = None  # module of its own classifiers of labels, shown beside XGBoost's figures
    section: str | None = None  # module of its section of the report

    @property
    def models(self) -> tuple[str, ...]:
        """The names it publishes under."""
        return tuple(model for job in self.jobs for model in job.models)

    def job_of(self, model: str) -> Job:
        """The job that trains a model."""
        return next(job for job in self.jobs if model in job.models)
