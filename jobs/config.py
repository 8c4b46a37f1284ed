"""The configuration: one YAML file, the whole tree as frozen dataclasses, checked at start.

Every job reads the whole file, so that a typo anywhere stops the first job of the night, and then takes the sections that
its own `Config` names. An unknown key or a wrong value is a `ConfigError` that gives the dotted path and what would do.
"""

from __future__ import annotations

import dataclasses
import datetime
import difflib
import hashlib
import json
import os
import re
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from jobs.audiences.feature_names import FeatureSet
from jobs.audiences.predicates import PredicateError, parse
from jobs.tables import TABLES
from models.hyperparameters import HyperparameterError, KQGCHyperparameters, TransEHyperparameters, TreeHyperparameters

T = TypeVar("T")
NAME = re.compile(r"[a-z0-9_]+")
MODELS = ("transe", "kqgc_mean", "kqgc_attention1", "kqgc_attention2")


class ConfigError(ValueError):
    """The configuration cannot be used: dotted path, what was found, what would do."""


@dataclass(frozen=True)
class SourceTable:
    """One input table: where it lies and how its columns are called there."""

    path: str  # a file, a folder or a glob; relative paths are relative to the configuration file
    format: Literal["parquet", "csv", "jsonl"] = "parquet"
    columns: dict[str, str] = field(default_factory=dict)  # our column → the source's; those not named keep their name
    constants: dict[str, str] = field(default_factory=dict)  # our column → one value for every row, e.g. behavior: purchase
    delimiter: str = ","  # csv only
    timezone: str = "UTC"  # zone of times without an offset
    day_only: bool = False  # times known to the day: stamped at the end of that day in `timezone`


@dataclass(frozen=True)
class Source:
    """The three inputs; items and users may be missing."""

    events: SourceTable
    items: SourceTable | None = None
    users: SourceTable | None = None
    ready_marker: str | None = None  # a path with {ds} in it; the first task waits until it exists


@dataclass(frozen=True)
class Events:
    """What a usable event is."""

    behaviors: list[str]  # the known ones; any other is rejected
    earliest_event_time: datetime.date = datetime.date(2000, 1, 1)  # events before it are rejected
    deduplicate: Literal["none", "exact"] = "none"  # for rows without event_id
    max_rejected_share: float = 0.05  # above it the night fails; the rejected rows are committed all the same
    ready_timeout_minutes: int = 360  # how long to wait for source.ready_marker


@dataclass(frozen=True)
class Relation:
    """A behaviour that becomes a relation of the knowledge graph."""

    window_days: int | None = None  # shorter than the graph's window, where given


@dataclass(frozen=True)
class Attribute:
    """An attribute of items or users whose values become entities."""

    type: Literal["category", "number"] = "category"  # number: cut into bins at the quantiles of D's graph
    bins: int = 10  # number only
    entity_type: str | None = None  # name of the values' entity type; the attribute's own name where none


@dataclass(frozen=True)
class Graph:
    """The knowledge graph: which behaviours and attributes, over how many days."""

    behaviors: dict[str, Relation]  # behaviour → relation user –behaviour→ item
    window_days: int = 45  # days before D that the graph and the interactions cover
    item_attributes: dict[str, Attribute] = field(default_factory=dict)
    user_attributes: dict[str, Attribute] = field(default_factory=dict)
    purchase: str = "purchase"  # the behaviour of Eq. 12–13 of KQGC and of the lookalike labels


@dataclass(frozen=True)
class Training:
    """When models are trained and what they start from."""

    train_every_days: int = 1  # trained when D − the date of last training is at least this (or a relation is new); between, users are inferred
    min_train_events: int = 1  # users with fewer events in the window are inferred, not trained
    max_gap_days: int = 30  # how old a predecessor may be
    on_gap: Literal["warm", "fail"] = "warm"  # a missing night between predecessor and D: go on from it, or stop
    nights_apart_days: int = 1  # how far apart scheduled nights are: a predecessor further back means that one is missing
    space: str = "default"  # changing it starts a new space


@dataclass(frozen=True)
class Publishing:
    """What has to hold before readers see a night's vectors."""

    models: list[str] = field(default_factory=lambda: ["transe", "kqgc_mean"])
    carry_days: int = 90  # a user without events keeps the last vector for so long
    on_space_break: Literal["fail", "publish"] = "fail"  # publish: opens a new space when alignment fails
    min_neighbour_overlap: float = 0.2  # of aligned vectors with the predecessor's, mean share of common 10 nearest
    min_coverage: float = 0.99  # share of the users with events who have a vector
    min_norm: float = 1e-3  # a shorter vector has collapsed
    max_norm: float = 1e3  # a longer one has exploded; both may befall a share of 1 − min_coverage
    keep_versions: int = 1  # replaced versions kept for rollback


@dataclass(frozen=True)
class Lookalike:
    """Target prospecting: who buys from a client next."""

    clients: dict[str, dict[str, Any]] = field(default_factory=dict)  # name → predicate on items (models the README's examples)
    label_window_days: int = 7  # L
    active_days: int = 28  # eligible: an event in so many days before the features' date
    negatives_per_positive: int = 3
    min_positives: int = 100  # a client with fewer is skipped, with a warning
    exclude_past_buyers: bool = False  # prospects only; then left out of training too
    top_k: int = 1000
    feature_sets: list[str] | None = None  # none: both baselines, and strong + affinities of each published model
    score_with: str | None = None  # the feature set that scores; none: the best mean validation PR-AUC
    history_attribute: str | None = None  # item attribute of the purchase history by category; none: the coarsest that most items have
    trees: TreeHyperparameters = TreeHyperparameters()
    bootstrap_draws: int = 200  # for intervals


@dataclass(frozen=True)
class Spark:
    """How Spark is started."""

    master: str = "local[2]"
    driver_memory: str = "2g"
    shuffle_partitions: int = 4
    conf: dict[str, str] = field(default_factory=dict)  # anything else


@dataclass(frozen=True)
class Dag:
    """What shapes the DAG and its schedule; read by dags/dagkit/settings.py as well."""

    schedule: str | None = "@daily"
    start_date: datetime.date = datetime.date(2026, 1, 1)
    retries: int = 2
    retry_delay_seconds: int = 60
    task_timeout_minutes: int = 240
    dates: list[datetime.date] = field(default_factory=list)  # nights that make sense for this data (`make nightly`)


@dataclass(frozen=True)
class Settings:
    """The whole file."""

    data_root: str  # every table lies below it; relative to the configuration file
    source: Source
    events: Events
    graph: Graph
    seed: int = 0
    deterministic: bool = False  # one thread, equal content hashes for equal inputs
    transe: TransEHyperparameters = TransEHyperparameters()
    kqgc: KQGCHyperparameters = KQGCHyperparameters()
    training: Training = Training()
    publishing: Publishing = Publishing()
    lookalike: Lookalike = Lookalike()
    spark: Spark = Spark()
    dag: Dag = Dag()
    retention: dict[str, int] = field(default_factory=dict)  # table → days kept; tables not named are kept for ever


def load_settings(path: Path | str) -> Settings:
    """Read and check the whole file; relative paths in it become absolute, seen from the file's folder."""
    path = Path(path)
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"No configuration at {path}. Name one of jobs/configs/*.yaml or your own with --config.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    settings = build(Settings, document, "")
    _check(settings)
    return _anchored(settings, path.parent.resolve())


def load(path: Path | str, config: type[T]) -> T:
    """The sections of the file that the dataclass `config` names (by field name), after checking the whole file."""
    return select(load_settings(path), config)


def select(settings: Settings, config: type[T]) -> T:
    """Those fields of `settings` that `config` has."""
    return config(**{f.name: getattr(settings, f.name) for f in dataclasses.fields(config)})


def config_hash(config: Any) -> str:
    """sha256 over the values of a (part of the) configuration, independent of the order of keys."""
    plain = json.dumps(dataclasses.asdict(config), sort_keys=True, default=str)
    return hashlib.sha256(plain.encode()).hexdigest()


def build(cls: Any, value: Any, path: str) -> Any:
    """`value`, as YAML gave it, as an instance of the type `cls`; `path` is its dotted path for messages."""
    origin, arguments = typing.get_origin(cls), typing.get_args(cls)
    if dataclasses.is_dataclass(cls):
        return _build_dataclass(cls, value, path)
    if origin is Literal:
        return _expect(value in arguments, value, path, f"one of {', '.join(map(repr, arguments))}")
    if origin in (types.UnionType, typing.Union):
        inner = [a for a in arguments if a is not type(None)]
        return None if value is None else build(inner[0], value, path)
    if origin is list:
        _expect(isinstance(value, list), value, path, "a list")
        return [build(arguments[0], v, f"{path}[{i}]") for i, v in enumerate(value)]
    if origin is dict:
        _expect(isinstance(value, dict), value, path, "a mapping")
        return {_expect_key(k, path): build(arguments[1], v, f"{path}.{k}") for k, v in value.items()}
    return _build_plain(cls, value, path)


def _build_dataclass(cls: Any, value: Any, path: str) -> Any:
    value = {} if value is None else value
    _expect(isinstance(value, dict), value, path, "a mapping of keys to values")
    hints = typing.get_type_hints(cls)
    for key in value:
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"Unknown key {_join(path, key)!r}.{hint} Known here: {', '.join(sorted(hints))}.")
    for f in dataclasses.fields(cls):
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING and f.name not in value:
            raise ConfigError(f"Missing key {_join(path, f.name)!r}: it has no default. Add it to the configuration.")
    fields = {key: build(hints[key], v, _join(path, key)) for key, v in value.items()}
    try:
        return cls(**fields)
    except HyperparameterError as error:
        raise ConfigError(f"{_join(path, str(error))}") from error


def _build_plain(cls: Any, value: Any, path: str) -> Any:
    if cls is Any:
        return value
    if cls is float and type(value) is int:
        return float(value)
    if cls is datetime.date and isinstance(value, str):
        try:
            return datetime.date.fromisoformat(value)
        except ValueError:
            _expect(False, value, path, "a date such as 2026-01-31")
    if cls is datetime.date:
        return _expect(type(value) is datetime.date, value, path, "a date such as 2026-01-31")
    names = {int: "a whole number", float: "a number", str: "a text (quote it)", bool: "true or false", dict: "a mapping"}
    return _expect(type(value) is cls, value, path, names.get(cls, cls.__name__))


def _expect(holds: bool, value: Any, path: str, wanted: str) -> Any:
    if not holds:
        raise ConfigError(f"{path or 'The file'} is {value!r} ({type(value).__name__}); expected {wanted}.")
    return value


def _expect_key(key: Any, path: str) -> str:
    return _expect(isinstance(key, str), key, path, "a text as key (quote it)")


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def _check(settings: Settings) -> None:
    """Rules across fields."""
    graph, events = settings.graph, settings.events
    for name in graph.behaviors:
        _expect(name in events.behaviors, name, f"graph.behaviors.{name}", f"one of events.behaviors: {events.behaviors}")
    _expect(graph.purchase in graph.behaviors, graph.purchase, "graph.purchase", f"one of graph.behaviors: {list(graph.behaviors)}")
    for kind in ("item_attributes", "user_attributes"):
        for name, attribute in getattr(graph, kind).items():
            entity_type = attribute.entity_type or name
            usable = NAME.fullmatch(entity_type) and entity_type not in ("user", "item", "relation")
            _expect(bool(usable), entity_type, f"graph.{kind}.{name}", "an entity type of [a-z0-9_]+ other than user, item, relation (set entity_type)")
    for name in graph.behaviors:
        _expect(bool(NAME.fullmatch(name)), name, f"graph.behaviors.{name}", "a name of [a-z0-9_]+")
    for i, model in enumerate(settings.publishing.models):
        _expect(model in MODELS, model, f"publishing.models[{i}]", f"one of {', '.join(MODELS)}")
    _check_lookalike(settings)
    positive = {"graph.window_days": graph.window_days, "lookalike.label_window_days": settings.lookalike.label_window_days,
                "lookalike.active_days": settings.lookalike.active_days, "training.train_every_days": settings.training.train_every_days,
                "training.max_gap_days": settings.training.max_gap_days, "lookalike.top_k": settings.lookalike.top_k}
    for path, value in positive.items():
        _expect(value >= 1, value, path, "at least 1")
    _check_retention(settings)
    _expect(0 <= events.max_rejected_share <= 1, events.max_rejected_share, "events.max_rejected_share", "a share from 0 to 1")


def _check_retention(settings: Settings) -> None:
    """No night may find that what it has to read is gone."""
    lookalike = settings.lookalike
    for name, days in settings.retention.items():
        known = name in TABLES and TABLES[name].key != "segments"
        _expect(known, name, f"retention.{name}", f"a table with dates: {', '.join(n for n, t in TABLES.items() if t.key != 'segments')}")
        least = lookalike.label_window_days + 1
        if name == "clean_events":
            least += max(settings.graph.window_days, lookalike.active_days)
        _expect(days >= least, days, f"retention.{name}", f"at least {least} days, which later nights still read")


def _check_lookalike(settings: Settings) -> None:
    lookalike, item_attributes = settings.lookalike, settings.graph.item_attributes
    for name, predicate in lookalike.clients.items():
        path = f"lookalike.clients.{name}"
        _expect(bool(NAME.fullmatch(name)), name, path, "a name of [a-z0-9_]+")
        try:
            parse(predicate, path, item_attributes)
        except PredicateError as error:
            raise ConfigError(str(error)) from error
    named = {f"lookalike.feature_sets[{i}]": name for i, name in enumerate(lookalike.feature_sets or [])}
    for path, name in (named | ({"lookalike.score_with": lookalike.score_with} if lookalike.score_with else {})).items():
        try:
            FeatureSet.parse(name, settings.publishing.models)
        except ValueError as error:
            raise ConfigError(f"{path} {error}.") from error
    attribute = lookalike.history_attribute
    known = ", ".join(item_attributes) or "none is configured"
    _expect(attribute is None or attribute in item_attributes, attribute, "lookalike.history_attribute", f"one of graph.item_attributes: {known}")
    for name in ("negatives_per_positive", "min_positives"):
        _expect(getattr(lookalike, name) >= 1, getattr(lookalike, name), f"lookalike.{name}", "at least 1")
    _expect(lookalike.bootstrap_draws >= 0, lookalike.bootstrap_draws, "lookalike.bootstrap_draws", "at least 0")


def _anchored(settings: Settings, folder: Path) -> Settings:
    def anchor(path: str) -> str:
        return path if "://" in path else os.path.normpath(folder / path)

    def anchor_table(table: SourceTable | None) -> SourceTable | None:
        return table and dataclasses.replace(table, path=anchor(table.path))

    source = settings.source
    source = dataclasses.replace(
        source, events=anchor_table(source.events), items=anchor_table(source.items), users=anchor_table(source.users),
        ready_marker=source.ready_marker and anchor(source.ready_marker))
    return dataclasses.replace(settings, data_root=anchor(settings.data_root), source=source)
