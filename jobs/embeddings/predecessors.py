"""Which night each model goes on from: its own predecessor, as long as what it starts from goes on with it.

Parameters belong to the vectors that they learned on. So a model whose source begins anew begins anew with it; and a
source that was never published (its model was added to publishing.models later) goes on from the checkpoint that the
models that start from it had, so that they need not.
"""

from __future__ import annotations

import datetime

from feature_store import Table
from jobs.embeddings.family import Configured, family, is_of_family, models_of, predecessor_of, sources_of
from jobs.program import Input, log

Found = dict[str, datetime.date | None]


def predecessors_of(
    date: datetime.date, user_embeddings: Input, checkpoints: Input, config: Configured
) -> Found:
    """Of every model that the night trains; None for a cold start. JobError as `predecessor_of` raises it."""
    models = models_of(config)
    found = {m: predecessor_of(m, date, user_embeddings, checkpoints, config) for m in models}
    for source in reversed(models):
        if found[source] is None:
            found[source] = _that_others_had(source, found, checkpoints, config)
    for model in models:
        for source in sources_of(model, config):
            if found[model] and not one_lineage(checkpoints.table(source), found[source], found[model]):
                log.info(
                    "%s begins anew, and not from %s: %s, which it starts from, goes on from %s, which is of another "
                    "lineage", model, found[model], source, found[source] or "nothing")  # fmt: skip
                found[model] = None
    return found


def _that_others_had(source: str, found: Found, checkpoints: Input, config: Configured) -> datetime.date | None:
    """The newest checkpoint of `source` that the predecessor of a model started from."""
    table, wanted = checkpoints.table(source), family(source, config)
    days = {found[model] for model in found if source in sources_of(model, config)} - {None}
    for day in sorted(days, reverse=True):
        manifest = table.manifest(day.isoformat())
        if manifest is not None and is_of_family(manifest, wanted):
            return day
    return None


def one_lineage(table: Table, one: datetime.date | None, other: datetime.date | None) -> bool:
    """Whether one of two checkpoints of a model goes back to the other, or both to a third."""
    while one and other and one != other:
        if one > other:
            one = _before(table, one)
        else:
            other = _before(table, other)
    return bool(one and other)


def _before(table: Table, date: datetime.date) -> datetime.date | None:
    """The date that a checkpoint went on from; None for a cold start, and where it is gone."""
    manifest = table.manifest(date.isoformat())
    former = manifest and manifest.fields.get("predecessor")
    found = datetime.date.fromisoformat(former["dt"]) if former else None
    return found if found and found < date else None
