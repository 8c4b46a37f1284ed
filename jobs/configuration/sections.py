"""The sections of the YAML file, as frozen dataclasses: every key with its meaning and its default.

A model family's section is its hyperparameters (models/hyperparameters.py), that of profiles stands in profiles.py.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from feature_store.storage import Storage
from jobs.configuration.ranges import (
    MOST,
    MOST_DAYS,
    AnyPath,
    AtLeastOne,
    ControlShare,
    Count,
    Days,
    Minutes,
    Pattern,
    Range,
    Share,
)
from models import families
from models.hyperparameters import PooledTreeHyperparameters, TreeHyperparameters

OWNER = Pattern(r"[^,\x00-\x1f]{1,200}", "a name without a comma, of at most 200 characters")
ADDRESS = Pattern(r"https?://[^\s<>\"']{1,1000}", "an address such as https://files.example.com/reports")
MASTER = Pattern(
    r"local(\[(\*|\d{1,4})(, ?\d{1,4})?\])?|local-cluster\[[\d, ]{5,40}\]|yarn|(spark|k8s)://\S{1,500}",
    "a master such as local[4], local[*], spark://host:7077, yarn or k8s://https://host:6443")
UNSET = Pattern("", "nothing: it is no setting, leave it out")
MEMORY = Pattern(r"[1-9]\d{0,8}[kmgtKMGT]?[bB]?", "a size such as 2g or 800m")
TimeUnit = Literal["s", "ms", "us", "ns"]


@dataclass(frozen=True)
class ListColumn:
    """A column of texts that hold several values each."""

    column: str
    separator: str  # between them, e.g. "|"


@dataclass(frozen=True)
class SourceTable:
    """One input table: where it lies and how its columns are called there."""

    # a file, a folder or a glob, relative to the configuration file; a name that exists is that file, whatever it holds
    path: AnyPath
    format: Literal["parquet", "csv", "jsonl", "delta", "iceberg"] = "parquet"
    # our column → the source's; those not named keep their name. Of attributes also {column: cats, separator: "|"}:
    # their texts are lists
    columns: dict[str, str | ListColumn] = field(default_factory=dict)
    # our column → one value for every row, e.g. behavior: purchase
    constants: dict[str, str] = field(default_factory=dict)
    delimiter: str = ","  # csv only
    encoding: str = "utf-8"  # csv only: as Python calls it, e.g. latin-1, cp1252, utf-16
    timezone: str = "UTC"  # zone of times without an offset
    day_only: bool = False  # times known to the day: stamped at the end of that day in `timezone`
    # what numbers count since 1970; none: told by their size, where all lie in 2000 to 2100 by one unit
    time_unit: TimeUnit | dict[str, TimeUnit] | None = None  # of all columns of times, or by our column
    # the form of texts, in strptime's letters, e.g. "%d/%m/%Y %H:%M"; none: ISO 8601
    time_format: str | dict[str, str] | None = None  # of all columns of times, or by our column
    # of a table of Delta or Iceberg: its version (Iceberg: the snapshot's id), or its state at a time such as
    # "2026-01-05T10:00:00Z"; none: the current one when a date is first run, and for that date ever after
    version: Annotated[int, Range(0, 2**63 - 1)] | None = None
    as_of: str | None = None
    storage: Storage | None = None  # of a path on an object store: where that is; none: as the data root's
    # of events: the source's word for a behaviour → ours, e.g. {Add to Cart: cart}; those not named keep theirs
    behaviors: dict[str, str] = field(default_factory=dict)
    decimal: Literal[".", ","] = "."  # of numbers that are texts: 1234.5 or 1234,5, nothing between thousands
    record: Annotated[str, UNSET] = ""  # not of the file: where load.py says each night writes down what it has read

    @property
    def is_lake(self) -> bool:
        """Whether a log says which of its files count."""
        return self.format in ("delta", "iceberg")

    @property
    def file_format(self) -> str:
        """Of its files."""
        return "parquet" if self.is_lake else self.format

    def unit_of(self, name: str) -> str | None:
        """What the numbers of our column of times count, where it is configured."""
        return self.time_unit.get(name) if isinstance(self.time_unit, dict) else self.time_unit

    def form_of(self, name: str) -> str | None:
        """The form of the texts of our column of times, where it is configured."""
        return self.time_format.get(name) if isinstance(self.time_format, dict) else self.time_format

    def theirs(self, name: str) -> str:
        """What the source calls our column."""
        return self.names.get(name, name)

    @property
    def names(self) -> dict[str, str]:
        """Our column → the source's, of those that are mapped."""
        return {
            ours: theirs.column if isinstance(theirs, ListColumn) else theirs for ours, theirs in self.columns.items()}

    @property
    def separators(self) -> dict[str, str]:
        """Our column → what separates the values of one text, where there are several."""
        return {ours: theirs.separator for ours, theirs in self.columns.items() if isinstance(theirs, ListColumn)}


@dataclass(frozen=True)
class Source:
    """The three inputs; items and users may be missing."""

    events: SourceTable | list[SourceTable]  # of several, such as clicks in one and orders in another, all are read
    items: SourceTable | None = None
    users: SourceTable | None = None
    ready_marker: AnyPath | None = None  # a path with {ds} in it; the first task waits until it exists

    @property
    def event_tables(self) -> dict[str, SourceTable]:
        """By the setting: source.events, or of a list source.events[0], source.events[1], …"""
        if isinstance(self.events, SourceTable):
            return {"source.events": self.events}
        return {f"source.events[{number}]": table for number, table in enumerate(self.events)}

    @property
    def tables(self) -> dict[str, SourceTable]:
        """All, by the setting."""
        others = {"source.items": self.items, "source.users": self.users}
        return self.event_tables | {setting: table for setting, table in others.items() if table is not None}


@dataclass(frozen=True)
class Events:
    """What a usable event is."""

    behaviors: list[str]  # the known ones; any other is rejected
    earliest_event_time: datetime.date = datetime.date(2000, 1, 1)  # events before it are rejected
    deduplicate: Literal["none", "exact"] = "none"  # for rows without event_id
    # what a night makes of rows of negative quantity, or purchases of negative value: nothing; each takes back the
    # latest earlier one of the same user and item; or they count like the others (jobs/events/returns.py)
    returns: Literal["drop", "cancel", "keep"] = "drop"
    max_rejected_share: Share = 0.05  # of all rows, and of each of several tables: above it the night fails
    ready_timeout_minutes: Minutes = 360  # how long to wait for source.ready_marker


@dataclass(frozen=True)
class Relation:
    """A behaviour that becomes a relation of the knowledge graph."""

    window_days: Days | None = None  # shorter than the graph's window, where given


@dataclass(frozen=True)
class Attribute:
    """An attribute of items or users whose values become entities."""

    # number: cut into bins at the quantiles of D's graph, or at `bounds`
    type: Literal["category", "number"] = "category"
    bins: Annotated[int, Range(2, 10_000)] = 10  # number only: how many, where no bounds are given
    # number only, ascending: [10, 20] cuts into ≤ 10, above 10 up to 20, above 20
    bounds: list[float] = field(default_factory=list)
    # category only: values that fewer items (or users) of D's graph have are left out of it
    min_entities: AtLeastOne = 1
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
    window_days: Days = 45  # days before D that the graph and the interactions cover
    item_attributes: dict[str, Attribute] = field(default_factory=dict)
    user_attributes: dict[str, Attribute] = field(default_factory=dict)
    purchase: str = "purchase"  # the behaviour that smoothing learns from, and of the lookalike labels

    @property
    def windows(self) -> dict[str, int]:
        """Days before D in which each behaviour's events count in the knowledge graph."""
        return {name: min(of.window_days or self.window_days, self.window_days) for name, of in self.behaviors.items()}


@dataclass(frozen=True)
class Quality:
    """Great Expectations' results stand in the night's report; its own pages are an extra."""

    # A folder below the data root for its Data Docs, a page per checked table and night, e.g. data_docs; none: no
    # pages. They load styles and
    # scripts from several outside servers: without a network they are plain, and who opens them with one is seen there.
    data_docs: str | None = None

    def page(self, date: datetime.date, table: str, model: str | None = None) -> str | None:
        """Path of the page on a table of a night; none where none is wanted."""
        return self.data_docs and f"{self.data_docs}/{date}/{table}{f'_{model}' if model else ''}.html"


@dataclass(frozen=True)
class Training:
    """When models are trained and what they start from."""

    # trained when D − the date of last training is at least this (or a relation is new); between, users are inferred
    train_every_days: Days = 1
    min_train_events: Count = 1  # users with fewer events in the window are inferred, not trained
    max_gap_days: Days = 30  # how old a predecessor may be
    on_gap: Literal["warm", "fail"] = "warm"  # a missing night between predecessor and D: go on from it, or stop
    # how far apart scheduled nights are: a predecessor further back means that one is missing
    nights_apart_days: Days = 1
    # how long a night counts as under way after its last sign of life: a later one waits for it so long at most
    lease_minutes: Minutes = 15
    space: str = "default"  # changing it starts a new space


@dataclass(frozen=True)
class Publishing:
    """What has to hold before readers see a night's vectors."""

    models: list[str] = field(default_factory=lambda: list(families.DEFAULT_MODELS))
    carry_days: Annotated[int, Range(0, MOST_DAYS)] = 90  # a user without events keeps the last vector for so long
    on_space_break: Literal["fail", "publish"] = "fail"  # publish: opens a new space when alignment fails
    min_neighbour_overlap: Share = 0.2  # of aligned vectors with the predecessor's, mean share of common 10 nearest
    min_coverage: Share = 0.99  # share of the users with events who have a vector
    min_norm: Annotated[float, Range(0, MOST)] = 1e-3  # a shorter vector has collapsed
    # a longer one has exploded; both may befall a share of 1 − min_coverage
    max_norm: Annotated[float, Range(0, MOST, open_minimum=True)] = 1e3
    # users about whom a space's first night freezes questions that every later night is asked (canaries.py); 0: none
    canaries: Annotated[int, Range(0, 1_000_000)] = 2000
    min_canary_lead: Share = 0.5  # of the lead over guessing that the night before has, what tonight has to keep
    on_canary_failure: Literal["fail", "publish"] = "fail"
    keep_versions: Annotated[int, Range(0, 1000)] = 1  # replaced versions kept for rollback


@dataclass(frozen=True)
class Campaign:
    """What one client's audiences keep to (docs/campaigns.md)."""

    suppress: AnyPath | None = None  # as lookalike.suppress, and beside it
    control_share: ControlShare | None = None  # in place of lookalike.control_share


@dataclass(frozen=True)
class Lookalike:
    """Target prospecting: who buys from a client next."""

    # name → predicate on items (models the README's examples)
    clients: dict[str, dict[str, Any]] = field(default_factory=dict)
    label_window_days: Days = 7  # L
    active_days: Days = 28  # eligible: an event in so many days before the features' date
    # that a client learnt alone, and a list's own classifier, learn from; figures at 1:3 are so whatever this is
    negatives_per_positive: Annotated[int, Range(1, 10_000)] = 3
    min_positives: AtLeastOne = 100  # alone (pooled: false), a client with fewer is skipped, with a warning
    exclude_past_buyers: bool = False  # prospects only; then left out of training too
    top_k: AtLeastOne = 1000
    reasons_for: Annotated[int, Range(0, 1_000_000)] = 1000  # the first so many of each audience get reasons in words
    # a file of user ids (text, CSV, Parquet), relative to the configuration file: they are in no audience
    suppress: AnyPath | None = None
    control_share: ControlShare = 0.0  # of each audience: drawn by hash and not mailed, so that uplift can be measured
    campaigns: dict[str, Campaign] = field(default_factory=dict)  # client → what differs for it
    # attributes of users or items that stand in no column, e.g. [gender, age]
    exclude_attributes: list[str] = field(default_factory=list)
    # published models whose affinities are columns; none: all of them; an empty list: none at all
    affinities: list[str] | None = None
    # learnt alone beside or instead of the pooled model; none: both baselines, and where each client is learnt alone
    # strong + affinities of each of those models
    feature_sets: list[str] | None = None
    # the feature set that scores; none: blend, or where each client is learnt alone the best mean validation PR-AUC. A
    # client that has no model of it is scored as if there were none, and the log says so
    score_with: str | None = None
    # item attribute whose values are the categories of purchases and of attention; none: the coarsest that most items
    # have
    history_attribute: str | None = None
    trees: TreeHyperparameters = TreeHyperparameters()
    # one model learns from every set of items with buyers, and scores every client; false: each client is learnt alone
    pooled: bool = True
    label_windows: Annotated[int, Range(1, 24)] = 3  # past windows of L days to learn from, as far as the log goes
    pooled_trees: PooledTreeHyperparameters = PooledTreeHyperparameters()
    bootstrap_draws: Annotated[int, Range(0, 100_000)] = 200  # for intervals


@dataclass(frozen=True)
class Spark:
    """How Spark is started."""

    master: Annotated[str, MASTER] = "local[2]"
    driver_memory: Annotated[str, MEMORY] = "2g"
    shuffle_partitions: Annotated[int, Range(1, 100_000)] = 4
    conf: dict[str, str] = field(default_factory=dict)  # anything else


@dataclass(frozen=True)
class Dag:
    """What shapes the DAG and its schedule; read by dags/dagkit/settings.py as well."""

    schedule: str | None = "@daily"
    owner: Annotated[str, OWNER] = "airflow"  # shown in Airflow's UI; "airflow" is Airflow's own default
    # where a web server shows <data root>/reports: the link to a night's report leads there; none: to the file itself
    reports_url: Annotated[str, ADDRESS] | None = None
    start_date: datetime.date = datetime.date(1900, 1, 1)  # no run but a backfill's has a task before it
    retries: Annotated[int, Range(0, 100)] = 2
    retry_delay_seconds: Annotated[int, Range(0, 86_400)] = 60
    task_timeout_minutes: Minutes = 240
    dates: list[datetime.date] = field(default_factory=list)  # nights that make sense for this data (`make nightly`)
