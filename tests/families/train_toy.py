"""A model family that exists in the tests alone: a user's vector is the mean of random vectors of the items he touched.

Nothing outside this folder knows of it; what a new family needs is what stands here: hyperparameters, a job, a record.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from jobs.arrays import NONE, TRAINED, Night
from jobs.embeddings import training
from jobs.embeddings.training import Outcome, Tonight
from jobs.program import Input, Output
from models.family import Family, Job
from models.hyperparameters import check_range
from models.learning.initialisation import keyed_vectors


@dataclass(frozen=True)
class ToyHyperparameters:
    """What can be set about the toy."""

    dimension: int = 16

    def __post_init__(self) -> None:
        check_range("dimension", self.dimension, 1)


RECORD = Family(
    name="toy",
    title="Toy",
    hyperparameters="tests.families.train_toy.ToyHyperparameters",
    jobs=(Job(program="embeddings.train_toy", models=("toy",), doc="Means of random vectors."),),
    compared="cosine",
    dimension="toy.dimension",
    norm="l2",
    learns_from="events",
    measure="validation_nearness",
    measured="{:.2f} of a nearness that was never measured",
    triage=("`train_toy`", "It is a toy: clear the task."),
)


@dataclass(frozen=True)
class Config(training.Config):
    toy: ToyHyperparameters


def means_of_items(night: Night, dimension: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(float32 (n, d), source (n,)): items have random vectors keyed by raw id, users the mean of theirs, nobody else
    one."""
    vectors = np.zeros((night.n_entities, dimension), np.float32)
    items, users = night.of_type("item"), night.of_type("user")
    vectors[items] = keyed_vectors(night.entity_keys()[items], dimension, seed, 1.0)
    touched = np.isin(night.heads, users) & np.isin(night.tails, items)
    edges = (night.counts[touched].astype(np.float64), (night.heads[touched], night.tails[touched]))
    weights = sparse.csr_array(edges, shape=(night.n_entities, night.n_entities))
    totals = np.asarray(weights.sum(axis=1)).ravel()
    some = totals > 0
    vectors[some] = (weights @ vectors)[some] / totals[some, None]
    source = np.full(night.n_entities, NONE, np.uint8)
    source[items] = source[some] = TRAINED
    return vectors, source


def run(
    date: datetime.date,
    knowledge_graph: Input,
    entity_ids: Input,
    relations: Input,
    checkpoints: Output,
    config: Config,
    predecessor: datetime.date | None = None,
) -> None:
    """Commit the means of D."""
    tonight = Tonight.read(date, "toy", predecessor, config, knowledge_graph, entity_ids, relations, checkpoints)
    vectors, source = means_of_items(tonight.night, config.toy.dimension, config.seed)
    history = [{"epoch": 0, "loss": 1.0}]
    events = int(tonight.night.counts.sum())
    tonight.commit(Outcome(vectors, None, source, {}, date, history, 0, learned_from=events))
