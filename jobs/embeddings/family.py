"""Which partitions belong together: a model's family, its predecessor, and what a manifest says of both."""

from __future__ import annotations

import datetime
from typing import Any, Protocol

from feature_store import Table
from jobs.configuration.profiles import Profiles
from jobs.configuration.sections import Publishing, Training
from jobs.program import Input, JobError
from models.hyperparameters import KQGCHyperparameters, RHGNHyperparameters, TransEHyperparameters


class Configured(Protocol):
    """The sections that a family is read from."""

    transe: TransEHyperparameters
    kqgc: KQGCHyperparameters
    rhgn: RHGNHyperparameters
    training: Training
    publishing: Publishing
    profiles: Profiles


def family(model: str, config: Configured) -> dict[str, Any]:
    """Partitions of one family can be each other's predecessors: model, dimension, norm, space of the configuration; of RHGN what goes in, too, since its
    parameters make sense of no other vectors, and who is in fold A: parameters that learned from users who test now are no start for tonight's."""
    if model == "rhgn":
        given = {"init": config.rhgn.init, "init_attributes": config.rhgn.init_attributes, "transe": config.transe.norm}
        given |= {"salt": config.profiles.salt, "fold_a": config.profiles.folds.a}
        return {"model": model, "dimension": config.rhgn.width, "norm": "l2", "space": config.training.space, **given}
    norm = config.transe.norm if model == "transe" else config.kqgc.norm
    return {"model": model, "dimension": config.transe.dimension, "norm": norm, "space": config.training.space}


def models_of(config: Configured) -> list[str]:
    """TransE, from which all start, and every published model."""
    return ["transe", *(m for m in config.publishing.models if m != "transe")]


def newest_before(table: Table, date: datetime.date, wanted: dict[str, Any], max_gap_days: int) -> datetime.date | None:
    """The newest partition of the family strictly before `date` and at most `max_gap_days` old."""
    for value in reversed(table.values()):
        found = datetime.date.fromisoformat(value)
        if found >= date:
            continue
        if (date - found).days > max_gap_days:
            return None
        if table.existing_manifest(value).fields.get("family") == wanted:
            return found
    return None


def predecessor_of(model: str, date: datetime.date, user_embeddings: Input, checkpoints: Input, config: Configured) -> datetime.date | None:
    """The predecessor of `date`: the newest *published* one; for a model that is trained and not published, the newest checkpoint."""
    source = user_embeddings if model in config.publishing.models else checkpoints
    found = newest_before(source.table(model), date, family(model, config), config.training.max_gap_days)
    if found and not checkpoints.table(model).manifest(found.isoformat()):
        raise JobError(
            f"{model} of {found} is published but its checkpoint is gone ({checkpoints.location(model)}/dt={found}): {date} cannot start "
            f"from it. Rerun {found}, or set training.space to start a new space.")
    gap = (date - found).days if found else 0
    if config.training.on_gap == "fail" and gap > config.training.nights_apart_days:
        raise JobError(
            f"The newest {model} before {date} is of {found}, {gap} days earlier; nights are {config.training.nights_apart_days} days apart, so at "
            f"least one is missing, and training.on_gap is 'fail'. Run the missing dates first, or set training.on_gap: warm.")
    return found
