"""Which partitions belong together: a model's family, its predecessor, and what a manifest says of both."""

from __future__ import annotations

import datetime
import re
from dataclasses import asdict
from typing import Any, Protocol

from feature_store import Manifest, Table
from jobs.configuration.profiles import Profiles
from jobs.configuration.sections import Publishing, Training
from jobs.configuration.settings import Families
from jobs.program import Input, JobError
from models import families


class Configured(Protocol):
    """The sections that a family is read from."""

    families: Families
    training: Training
    publishing: Publishing
    profiles: Profiles


def family(model: str, config: Configured) -> dict[str, Any]:
    """Partitions of one family can be each other's predecessors: model, dimension, norm and space of the configuration
    are equal, and what else the family's record names."""
    record = families.family_of(model)
    norm = record.norm if record.norm in ("l1", "l2") else _value(record.norm, config)
    named = {
        "model": model,
        "dimension": _value(record.dimension, config),
        "norm": norm,
        "space": config.training.space,
    }
    return named | {name: _value(path, config) for name, path in record.same.items()}


def shaped_by(model: str, config: Configured) -> dict[str, Any]:
    """The hyperparameters that a model's vectors follow from, beside what was learned."""
    record = families.family_of(model)
    return {name: getattr(config.families[record.name], name) for name in record.shaped_by}


def compared(model: str, config: Configured) -> dict[str, str]:
    """How a model's vectors are compared, for the manifest, where its family leaves that to a setting."""
    declared = families.family_of(model).compared
    return {"compared": _value(declared, config)} if "." in declared else {}


def _value(path: str, config: Configured) -> Any:
    """What stands at a dotted path of the configuration, whose first word is a family or a section, or that of a value
    at a path in braces."""
    path = re.sub(r"{(.+?)}", lambda inner: str(_value(inner[1], config)), path)
    first, *names = path.split(".")
    value = config.families[first] if first in config.families else getattr(config, first)
    for name in names:
        value = getattr(value, name)
    return value


def sources_of(model: str, config: Configured) -> tuple[str, ...]:
    """The models whose checkpoints a model starts from."""
    return families.sources_of(model, _sections(config))


def models_of(config: Configured) -> tuple[str, ...]:
    """Every published model and those that they start from, in the order in which they are trained."""
    return families.trained_models(config.publishing.models, _sections(config))


def _sections(config: Configured) -> dict[str, dict[str, Any]]:
    return {name: asdict(hyperparameters) for name, hyperparameters in config.families.items()}


def newest_before(
    table: Table, date: datetime.date, wanted: dict[str, Any], max_gap_days: int
) -> datetime.date | None:
    """The newest partition of the family strictly before `date` and at most `max_gap_days` old."""
    for value in reversed(table.values()):
        found = datetime.date.fromisoformat(value)
        if found >= date:
            continue
        if (date - found).days > max_gap_days:
            return None
        if is_of_family(table.existing_manifest(value), wanted):
            return found
    return None


def is_of_family(manifest: Manifest, wanted: dict[str, Any]) -> bool:
    """Whether a partition is of the family. What an older one does not say, since nobody asked then, is what the
    family's record knows of that time, else no difference."""
    said = manifest.fields.get("family")
    if not isinstance(said, dict) or said.get("model") != wanted["model"]:
        return False
    return {**wanted, **families.family_of(wanted["model"]).unsaid, **said} == wanted


def predecessor_of(
    model: str, date: datetime.date, user_embeddings: Input, checkpoints: Input, config: Configured
) -> datetime.date | None:
    """The predecessor of `date`: the newest *published* one; for a model that is trained and not published, the newest
    checkpoint. JobError where its checkpoint is gone, or a night is missing that must not be."""
    training = config.training
    source = user_embeddings if model in config.publishing.models else checkpoints
    found = newest_before(source.table(model), date, family(model, config), training.max_gap_days)
    if found and not checkpoints.table(model).manifest(found.isoformat()):
        raise JobError(
            f"{model} of {found} is published but its checkpoint is gone ({checkpoints.location(model)}/dt={found}): "
            f"{date} cannot start from it. Rerun {found}, or set training.space to start a new space.")
    gap = (date - found).days if found else 0
    if training.on_gap == "fail" and gap > training.nights_apart_days:
        raise JobError(
            f"The newest {model} before {date} is of {found}, {gap} days earlier; nights are "
            f"{training.nights_apart_days} days apart, so at least one is missing, and training.on_gap is 'fail'. "
            "Run the missing dates first, or set training.on_gap: warm.")
    return found
