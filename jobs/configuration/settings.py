"""The whole tree: its fixed sections, and one for every model family that models/families.py declares."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from feature_store.storage import Storage
from jobs.configuration.histories import Sequences
from jobs.configuration.pods import Pods
from jobs.configuration.profiles import Profiles
from jobs.configuration.ranges import DataRoot, Days, Range
from jobs.configuration.recommendations import Recommendations
from jobs.configuration.sections import (
    Dag,
    Events,
    Graph,
    Lookalike,
    Publishing,
    Quality,
    Source,
    Spark,
    Training,
)
from models import families

Families = Mapping[str, Any]  # name of a family → its hyperparameters


@dataclass(frozen=True)
class Settings:
    """The whole file."""

    data_root: DataRoot  # every table lies below it; relative to the configuration file
    source: Source
    events: Events
    graph: Graph
    storage: Storage = Storage()  # of a data root on an object store: where that is; credentials never stand here
    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    deterministic: bool = False  # one thread, equal content hashes for equal inputs
    sequences: Sequences = Sequences()
    quality: Quality = Quality()
    training: Training = Training()
    publishing: Publishing = Publishing()
    lookalike: Lookalike = Lookalike()
    profiles: Profiles = Profiles()
    recommendations: Recommendations = Recommendations()
    spark: Spark = Spark()
    dag: Dag = Dag()
    pods: Pods | None = None  # jobs as pods of a Kubernetes cluster; none: as processes beside Airflow
    retention: dict[str, Days] = field(default_factory=dict)  # table → days kept; tables not named are kept for ever

    @property
    def families(self) -> Families:
        """Every family's hyperparameters by its name, in the order of models/families.py."""
        return {family.name: getattr(self, family.name) for family in families.FAMILIES}


def settings_class() -> type[Settings]:
    """`Settings` with a field for each family, named like it, of its hyperparameters."""
    sections = [(family.name, found := _class_of(family.hyperparameters), found()) for family in families.FAMILIES]
    return dataclasses.make_dataclass("Settings", sections, bases=(Settings,), frozen=True)


def _class_of(dotted: str) -> type:
    module, _, name = dotted.rpartition(".")
    return getattr(importlib.import_module(module), name)
