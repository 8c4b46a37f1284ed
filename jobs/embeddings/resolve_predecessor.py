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
from jobs.configuration.settings import Families
from jobs.embeddings.predecessors import predecessors_of
from jobs.program import Input, main, metrics


@dataclass(frozen=True)
class Config:
    families: Families
    training: Training
    publishing: Publishing
    profiles: Profiles


def run(date: datetime.date, user_embeddings: Input, checkpoints: Input, config: Config) -> None:
    """Print `{"<model>": "2026-02-16", "<model>": null, …}`: a date, or null for a cold start."""
    found = predecessors_of(date, user_embeddings, checkpoints, config)
    answer = {model: day and day.isoformat() for model, day in found.items()}
    metrics.put("predecessors", detail=answer)
    print(json.dumps(answer, sort_keys=True), flush=True)


if __name__ == "__main__":
    main(run)
