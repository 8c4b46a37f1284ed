"""Find, per model, the partition that tonight starts from, and say it as one line of JSON on standard output.

Reads: user_embeddings, checkpoints (manifests only). Writes: nothing.
Guarantees: the only place that looks for a predecessor; every later job gets it as `--predecessor`.
"""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass

from jobs.configuration.profiles import Profiles
from jobs.configuration.sections import Publishing, Training
from jobs.embeddings.family import models_of, predecessor_of
from jobs.program import Input, main, metrics
from models.hyperparameters import KQGCHyperparameters, RHGNHyperparameters, TransEHyperparameters


@dataclass(frozen=True)
class Config:
    transe: TransEHyperparameters
    kqgc: KQGCHyperparameters
    rhgn: RHGNHyperparameters
    training: Training
    publishing: Publishing
    profiles: Profiles


def run(date: datetime.date, user_embeddings: Input, checkpoints: Input, config: Config) -> None:
    """Print `{"transe": "2026-02-16", "kqgc_mean": null, …}`: a date, or null for a cold start."""
    found = {model: predecessor_of(model, date, user_embeddings, checkpoints, config) for model in models_of(config)}
    answer = {model: day and day.isoformat() for model, day in found.items()}
    metrics.put("predecessors", detail=answer)
    print(json.dumps(answer, sort_keys=True), flush=True)


if __name__ == "__main__":
    main(run)
