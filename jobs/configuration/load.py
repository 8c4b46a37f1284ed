"""The configuration: one YAML file, the whole tree as frozen dataclasses, checked at start.

Every job reads the whole file, so that a typo anywhere stops the first job of the night, and then takes the sections
that its own `Config` names. An unknown key or a wrong value is a `ConfigError` that gives the dotted path and what
would do.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from feature_store import known_stores
from jobs.configuration.checks import check, check_data_root
from jobs.configuration.document import read_document
from jobs.configuration.pod_checks import check_addresses
from jobs.configuration.sections import Lookalike, SourceTable
from jobs.configuration.settings import Settings, settings_class
from jobs.configuration.tree import build
from jobs.tables import TABLES

T = TypeVar("T")


def load_settings(path: Path | str) -> Settings:
    """Read and check the whole file; relative paths in it become absolute, seen from the file's folder. ConfigError.

    From then on this process knows where the object stores are that it names (`known_stores`).
    """
    path = Path(path)
    document = read_document(path)
    check_addresses(document)
    settings = build(settings_class(), document, "")
    check(settings)
    settings = _anchored(settings, path.parent.resolve())
    check_data_root(settings.data_root)
    source = settings.source
    known_stores.know("", settings.storage)
    known_stores.know(settings.data_root, settings.storage)
    for table in source.tables.values():
        known_stores.know(table.path, table.storage)
    return settings


def load(path: Path | str, config: type[T]) -> T:
    """The sections of the file that the dataclass `config` names (by field name), after checking the whole file."""
    return select(load_settings(path), config)


def select(settings: Settings, config: type[T]) -> T:
    """Those fields of `settings` that `config` has; all of it for `Settings`."""
    if isinstance(settings, config):
        return settings
    return config(**{f.name: getattr(settings, f.name) for f in dataclasses.fields(config)})


def config_hash(config: Any) -> str:
    """sha256 over the values of a (part of the) configuration, independent of the order of keys."""
    plain = json.dumps(dataclasses.asdict(config), sort_keys=True, default=str)
    return hashlib.sha256(plain.encode()).hexdigest()


def _anchored(settings: Settings, folder: Path) -> Settings:
    def anchor(path: str) -> str:
        return path.rstrip("/") if "://" in path else os.path.normpath(folder / path)

    root, docs = anchor(settings.data_root), settings.quality.data_docs
    record = f"{root}/{TABLES['rejected_events'].folder}"

    def anchor_table(table: SourceTable | None) -> SourceTable | None:
        storage = table and (table.storage or settings.storage)
        return table and dataclasses.replace(table, path=anchor(table.path), storage=storage, record=record)

    source = settings.source
    several = isinstance(source.events, list)
    events = [anchor_table(table) for table in source.event_tables.values()]
    source = dataclasses.replace(
        source, events=events if several else events[0], items=anchor_table(source.items),
        users=anchor_table(source.users), ready_marker=source.ready_marker and anchor(source.ready_marker))
    quality = dataclasses.replace(settings.quality, data_docs=docs and f"{root}/{docs}")
    lookalike = _with_lists(settings.lookalike, anchor)
    return dataclasses.replace(settings, data_root=root, source=source, quality=quality, lookalike=lookalike)


def _with_lists(lookalike: Lookalike, anchor: Callable[[str], str]) -> Lookalike:
    """The files of those who may not be written to, anchored."""
    campaigns = {
        name: dataclasses.replace(campaign, suppress=campaign.suppress and anchor(campaign.suppress))
        for name, campaign in lookalike.campaigns.items()}
    suppress = lookalike.suppress and anchor(lookalike.suppress)
    return dataclasses.replace(lookalike, suppress=suppress, campaigns=campaigns)
