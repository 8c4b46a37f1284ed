"""The configuration: one YAML file, the whole tree as frozen dataclasses, checked at start.

Every job reads the whole file, so that a typo anywhere stops the first job of the night, and then takes the sections that
its own `Config` names. An unknown key or a wrong value is a `ConfigError` that gives the dotted path and what would do.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import itertools
import json
import math
import os
import re
import zoneinfo
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from jobs.audiences.feature_names import FeatureSet
from jobs.audiences.predicates import PredicateError, parse
from jobs.config_profiles import Profiles, check_profiles
from jobs.config_tree import ConfigError, build, expect
from jobs.tables import TABLES
from models.hyperparameters import KQGCHyperparameters, RHGNHyperparameters, TransEHyperparameters, TreeHyperparameters

T = TypeVar("T")
NAME = re.compile(r"[a-z0-9_]+")
MODELS = ("transe", "kqgc_mean", "kqgc_attention1", "kqgc_attention2", "rhgn")


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

    type: Literal["category", "number"] = "category"  # number: cut into bins at the quantiles of D's graph, or at `bounds`
    bins: int = 10  # number only: how many, where no bounds are given
    bounds: list[float] = field(default_factory=list)  # number only, ascending: [10, 20] cuts into ≤ 10, above 10 up to 20, above 20
    min_entities: int = 1  # category only: values that fewer items (or users) of D's graph have are left out of it
    entity_type: str | None = None  # name of the values' entity type; the attribute's own name where none

    @property
    def bin_names(self) -> list[str]:
        """number only: the values that stand for the bins, ascending, `bin_03_of_10`."""
        count = len(self.bounds) + 1 if self.bounds else self.bins
        return [f"bin_{n:0{len(str(count))}d}_of_{count}" for n in range(1, count + 1)]


@dataclass(frozen=True)
class Graph:
    """The knowledge graph: which behaviours and attributes, over how many days."""

    behaviors: dict[str, Relation]  # behaviour → relation user –behaviour→ item
    window_days: int = 45  # days before D that the graph and the interactions cover
    item_attributes: dict[str, Attribute] = field(default_factory=dict)
    user_attributes: dict[str, Attribute] = field(default_factory=dict)
    purchase: str = "purchase"  # the behaviour of Eq. 12–13 of KQGC and of the lookalike labels


@dataclass(frozen=True)
class Quality:
    """Great Expectations' results stand in the night's report; its own pages are an extra."""

    # A folder below the data root for its Data Docs, a page per checked table and night, e.g. data_docs; none: no pages. They load styles and
    # scripts from several outside servers: without a network they are plain, and who opens them with one is seen there.
    data_docs: str | None = None

    def page(self, date: datetime.date, table: str, model: str | None = None) -> str | None:
        """Path of the page on a table of a night; none where none is wanted."""
        return self.data_docs and f"{self.data_docs}/{date}/{table}{f'_{model}' if model else ''}.html"


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
    rhgn: RHGNHyperparameters = RHGNHyperparameters()
    quality: Quality = Quality()
    training: Training = Training()
    publishing: Publishing = Publishing()
    lookalike: Lookalike = Lookalike()
    profiles: Profiles = Profiles()
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
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as a text in UTF-8: {error}. Name a YAML file with --config.") from error
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


def _check(settings: Settings) -> None:
    """Rules across fields."""
    graph, events = settings.graph, settings.events
    _check_graph(graph, events)
    for i, model in enumerate(settings.publishing.models):
        expect(model in MODELS, model, f"publishing.models[{i}]", f"one of {', '.join(MODELS)}")
    _check_sources(settings.source)
    _check_lookalike(settings)
    check_profiles(settings.profiles, graph, settings.source, settings.publishing.models)
    positive = {"graph.window_days": graph.window_days, "lookalike.label_window_days": settings.lookalike.label_window_days,
                "lookalike.active_days": settings.lookalike.active_days, "training.train_every_days": settings.training.train_every_days,
                "training.max_gap_days": settings.training.max_gap_days, "lookalike.top_k": settings.lookalike.top_k}
    for path, value in positive.items():
        expect(value >= 1, value, path, "at least 1")
    docs, folders = settings.quality.data_docs, {contract.path.split("/")[0] for contract in TABLES.values()}
    usable = docs is None or (NAME.fullmatch(docs) and docs not in folders)
    expect(bool(usable), docs, "quality.data_docs", "the name of a folder of [a-z0-9_]+ that is no table's, such as data_docs")
    _check_retention(settings)
    expect(0 <= events.max_rejected_share <= 1, events.max_rejected_share, "events.max_rejected_share", "a share from 0 to 1")


def _check_graph(graph: Graph, events: Events) -> None:
    for name, relation in graph.behaviors.items():
        path, days = f"graph.behaviors.{name}", relation.window_days
        expect(name in events.behaviors, name, path, f"one of events.behaviors: {events.behaviors}")
        expect(bool(NAME.fullmatch(name)), name, path, "a name of [a-z0-9_]+")
        expect(days is None or 1 <= days <= graph.window_days, days, f"{path}.window_days", f"1 to graph.window_days ({graph.window_days})")
    expect(graph.purchase in graph.behaviors, graph.purchase, "graph.purchase", f"one of graph.behaviors: {list(graph.behaviors)}")
    for kind in ("item_attributes", "user_attributes"):
        for name, attribute in getattr(graph, kind).items():
            path, entity_type = f"graph.{kind}.{name}", attribute.entity_type or name
            usable = NAME.fullmatch(entity_type) and entity_type not in ("user", "item", "relation")
            expect(bool(usable), entity_type, path, "an entity type of [a-z0-9_]+ other than user, item, relation (set entity_type)")
            expect(attribute.bins >= 2, attribute.bins, f"{path}.bins", "at least 2")
            ascending = all(a < b for a, b in itertools.pairwise(attribute.bounds)) and all(map(math.isfinite, attribute.bounds))
            expect(ascending, attribute.bounds, f"{path}.bounds", "ascending numbers")
            expect(attribute.type == "number" or not attribute.bounds, attribute.bounds, f"{path}.bounds", "none: only a number has bounds (type: number)")
            least = attribute.min_entities
            expect(least >= 1 and (attribute.type == "category" or least == 1), least, f"{path}.min_entities", "at least 1, and for categories only")


def _check_sources(source: Source) -> None:
    for name in ("events", "items", "users"):
        table = getattr(source, name)
        if table is not None:
            check_source(table, f"source.{name}", TABLES["clean_events"].columns if name == "events" else None)


def check_source(table: SourceTable, path: str, known: Collection[str] | None) -> None:
    """ConfigError for a zone or delimiter that is none, or a mapping of a column that nothing reads (`known`; None: any may be an attribute)."""
    expect(_is_zone(table.timezone), table.timezone, f"{path}.timezone", "a zone such as Europe/Berlin, UTC, or an offset such as +01:00")
    expect(len(table.delimiter) == 1, table.delimiter, f"{path}.delimiter", 'one character (a tab is "\\t" in double quotes)')
    for key in ("columns", "constants"):
        for ours in getattr(table, key):
            expect(known is None or ours in known, ours, f"{path}.{key}.{ours}", f"one of our columns: {', '.join(known or ())}")


def _is_zone(name: str) -> bool:
    if re.fullmatch(r"[+-]\d{2}:\d{2}", name):
        return True
    try:
        return bool(zoneinfo.ZoneInfo(name))
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        return False


def _check_retention(settings: Settings) -> None:
    """No night may find that what it has to read is gone."""
    lookalike = settings.lookalike
    for name, days in settings.retention.items():
        known = name in TABLES and TABLES[name].key != "segments"
        expect(known, name, f"retention.{name}", f"a table with dates: {', '.join(n for n, t in TABLES.items() if t.key != 'segments')}")
        least = lookalike.label_window_days + 1
        if name == "clean_events":
            least += max(settings.graph.window_days, lookalike.active_days)
        expect(days >= least, days, f"retention.{name}", f"at least {least} days, which later nights still read")


def _check_lookalike(settings: Settings) -> None:
    lookalike, item_attributes = settings.lookalike, settings.graph.item_attributes
    for name, predicate in lookalike.clients.items():
        path = f"lookalike.clients.{name}"
        expect(bool(NAME.fullmatch(name)), name, path, "a name of [a-z0-9_]+")
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
    expect(attribute is None or attribute in item_attributes, attribute, "lookalike.history_attribute", f"one of graph.item_attributes: {known}")
    for name in ("negatives_per_positive", "min_positives"):
        expect(getattr(lookalike, name) >= 1, getattr(lookalike, name), f"lookalike.{name}", "at least 1")
    expect(lookalike.bootstrap_draws >= 0, lookalike.bootstrap_draws, "lookalike.bootstrap_draws", "at least 0")


def _anchored(settings: Settings, folder: Path) -> Settings:
    def anchor(path: str) -> str:
        return path if "://" in path else os.path.normpath(folder / path)

    def anchor_table(table: SourceTable | None) -> SourceTable | None:
        return table and dataclasses.replace(table, path=anchor(table.path))

    source = settings.source
    source = dataclasses.replace(
        source, events=anchor_table(source.events), items=anchor_table(source.items), users=anchor_table(source.users),
        ready_marker=source.ready_marker and anchor(source.ready_marker))
    root, docs = anchor(settings.data_root), settings.quality.data_docs
    quality = dataclasses.replace(settings.quality, data_docs=docs and f"{root}/{docs}")
    return dataclasses.replace(settings, data_root=root, source=source, quality=quality)
