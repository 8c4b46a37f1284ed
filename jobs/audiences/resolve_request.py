"""Say which night a request on demand is of, as one line of JSON on standard output: `{"date": "2026-02-16"}`.

Reads: user_embeddings (manifests only). Writes: nothing.
Guarantees: the only place that looks for a request's night; find_audience gets it as `--date`. With `exact` it is the
date itself, else the newest published one up to it.
"""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass

from jobs.configuration.sections import Publishing
from jobs.program import Input, JobError, main, metrics


@dataclass(frozen=True)
class Config:
    publishing: Publishing


def night_of(date: datetime.date, user_embeddings: Input, model: str, exact: bool) -> str:
    """PartitionMissing, JobError."""
    dt, table = date.isoformat(), user_embeddings.table(model)
    if exact:
        table.existing_manifest(dt)
        return dt
    published = [value for value in table.values() if value <= dt]
    if not published:
        raise JobError(f"{table.uri} has no night up to {dt}; expected one to take vectors from. Run a night first.")
    return published[-1]


def run(date: datetime.date, user_embeddings: Input, config: Config, model: str, exact: bool = False) -> None:
    """Print the night."""
    if model not in config.publishing.models:
        published = ", ".join(config.publishing.models)
        raise JobError(f"Model {model!r} is not published; expected one of publishing.models: {published}.")
    answer = {"date": night_of(date, user_embeddings, model, exact)}
    metrics.put("request", detail=answer)
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(run)
