"""Find, per model, the partition that tonight starts from, and say it as one line of JSON on standard output.

Reads: user_embeddings, checkpoints (manifests only). Writes: the lease of D in nights, where it waits.
Guarantees: the only place that looks for a predecessor; every later job gets it as `--predecessor`. While an earlier
night that D could start from is under way it does not look, but waits; a scheduler that tells of its runs as
`--under-way` is told to come back later instead (exit status 75).
"""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass

from jobs.configuration.profiles import Profiles
from jobs.configuration.sections import Publishing, Training
from jobs.configuration.settings import Families
from jobs.embeddings.predecessors import predecessors_of
from jobs.nights import Turn
from jobs.program import Input, Output, main, metrics


@dataclass(frozen=True)
class Config:
    families: Families
    training: Training
    publishing: Publishing
    profiles: Profiles


def run(
    date: datetime.date, user_embeddings: Input, checkpoints: Input, nights: Output, config: Config,
    under_way: str | None = None, scheduled_run: str | None = None,
) -> None:  # fmt: skip
    """Print `{"<model>": "2026-02-16", "<model>": null, …}`: a date, or null for a cold start.

    under_way, scheduled_run: as in `Turn.expect`, from a scheduler.
    """
    turn = Turn.of(date, nights, config.training)
    if under_way is None:
        turn.wait()
    else:
        turn.expect(under_way, scheduled_run)
    found = predecessors_of(date, user_embeddings, checkpoints, config)
    answer = {model: day and day.isoformat() for model, day in found.items()}
    metrics.put("predecessors", detail=answer)
    print(json.dumps(answer, sort_keys=True), flush=True)


if __name__ == "__main__":
    main(run)
