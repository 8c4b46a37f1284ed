"""Whether a model trains tonight, or infers from what it learned before."""

from __future__ import annotations

import datetime

from jobs.arrays import Checkpoint
from jobs.configuration.sections import Training


def last_trained(former: Checkpoint) -> datetime.date:
    """The date whose night trained the parameters in a checkpoint."""
    return datetime.date.fromisoformat(former.facts["trained_at"])


def trains_tonight(date: datetime.date, former: Checkpoint | None, training: Training) -> bool:
    """Always on a cold start; else when `train_every_days` have passed since the last training."""
    return former is None or (date - last_trained(former)).days >= training.train_every_days


def trains(date: datetime.date, transe: Checkpoint, former: Checkpoint | None, training: Training) -> bool:
    """A model that starts from TransE's vectors: as TransE's schedule has it, and whenever TransE was trained since; a model added between
    two trainings is not left behind."""
    return trains_tonight(date, former, training) or last_trained(transe) > last_trained(former)
