"""One night of validate_events: which files and days it is about, and what former nights left written down about them.

The manifest of `rejected_events` keeps, per date: hashes of source and settings (`source_hash`, `settings_hash`), the
files' fingerprints (`files`), the content hash of each clean day as the run left it (`days`), and the run's `figures`.
"""

from __future__ import annotations

import dataclasses
import datetime
from dataclasses import dataclass
from typing import Any

from jobs.configuration.histories import Sequences, days_before
from jobs.configuration.load import config_hash
from jobs.configuration.messages import one_line
from jobs.configuration.sections import Events, Graph, Lookalike, Publishing, Quality, Source, SourceTable, Spark
from jobs.configuration.settings import Families
from jobs.events.files import Status
from jobs.events.fingerprint import combined, fingerprints_now, was
from jobs.events.lake_tables import VERSIONS, record_key, snapshot_of
from jobs.events.places import SourceError
from jobs.program import Input
from jobs.side_by_side import each

FORMER_NIGHTS = 10  # how many nights' records are searched for fingerprints of files and days


@dataclass(frozen=True)
class Config:
    source: Source
    events: Events
    graph: Graph
    lookalike: Lookalike
    families: Families
    publishing: Publishing
    sequences: Sequences
    spark: Spark
    quality: Quality = Quality()


@dataclass(frozen=True)
class EventTable:
    """One table of events and its files. prefix: of their names in fingerprints and rejected rows, since files of
    several tables may be called alike."""

    setting: str
    source: SourceTable
    files: list[str]
    fingerprints: list[dict[str, Any]]
    prefix: str


@dataclass(frozen=True)
class Night:
    """What this run has to know: the date, its days, the source's files and settings, the versions of tables."""

    date: datetime.date
    config: Config
    tables: list[EventTable]
    versions: dict[str, int]  # by `record_key`, of the sources that have any

    @property
    def fingerprints(self) -> list[dict[str, Any]]:
        """Of all files."""
        return [one for table in self.tables for one in table.fingerprints]

    @property
    def stamps(self) -> dict[str, Status]:
        """What the files were before they were read."""
        return {file: was(one) for table in self.tables
                for file, one in zip(table.files, table.fingerprints, strict=True)}  # fmt: skip

    @property
    def first(self) -> datetime.date:
        return self.date - datetime.timedelta(window_days(self.config, self.date))

    @property
    def days(self) -> list[str]:
        return [(self.first + datetime.timedelta(n)).isoformat() for n in range((self.date - self.first).days)]

    @property
    def record(self) -> dict[str, Any]:
        """Equal records mean equal clean events; kept in the manifest of `rejected_events`."""
        settings = dataclasses.replace(
            self.config.events, max_rejected_share=1.0, ready_timeout_minutes=0, returns="drop")
        of_place = {"path": "", "storage": None, "record": "", "version": None, "as_of": None}
        sources = [dataclasses.replace(table, **of_place) for table in self.config.source.event_tables.values()]
        return {
            "source_hash": combined(self.fingerprints),
            "settings_hash": "".join(map(config_hash, [settings, *sources])),
            "purchase": self.config.graph.purchase,  # whose negative values are returns
        }


def window_days(config: Config, date: datetime.date) -> int:
    """Days before the date that any job of the night reads."""
    relations = (relation.window_days or 0 for relation in config.graph.behaviors.values())
    window = max(config.graph.window_days, *relations, config.lookalike.active_days)
    return days_before(config, date, window)


def open_night(date: datetime.date, config: Config, former: list[dict[str, Any]]) -> Night:
    """The source's files and what they are now, with as little reading as the former nights' records allow.
    SourceError."""
    of_events = config.source.event_tables
    asked = {setting: one for setting, one in config.source.tables.items() if one.is_lake or setting in of_events}
    found = {setting: snapshot_of(table, setting, date) for setting, table in asked.items()}
    known = {file["name"]: file for record in reversed(former) for file in record.get("files", [])}
    tables = []
    for number, (setting, source) in enumerate(of_events.items()):
        prefix, files = f"{number}/" if len(of_events) > 1 else "", found[setting].files
        prints = fingerprints_now(files, source.file_format, known, source.encoding, prefix)
        tables.append(EventTable(setting, source, files, prints, prefix))
    require_different(tables)
    versions = {record_key(asked[setting], setting): one.version for setting, one in found.items()
                if one.version is not None}  # fmt: skip
    return Night(date, config, tables, versions)


def require_different(tables: list[EventTable]) -> None:
    """SourceError where two tables read a file alike: each of its events would be two. Read in two ways, one file may
    hold two behaviours."""
    first: dict[tuple[str, str], str] = {}
    for table in tables:
        read_as = repr((sorted(table.source.columns.items()), sorted(table.source.constants.items())))
        for file in table.files:
            other = first.setdefault((file, read_as), table.setting)
            if other != table.setting:
                raise SourceError(f"{table.setting} reads {one_line(file)} just as {other} does: each of its events "
                                  "would be two. Leave the file out of one of them, or give each its own behaviour.")


def former_records(rejected_events: Input, date: datetime.date) -> list[dict[str, Any]]:
    """What the nights that ran so far wrote down, this date's own first, then the newest."""
    table = rejected_events.table()
    values = sorted(table.values(), key=lambda value: (value == date.isoformat(), value), reverse=True)
    return [table.existing_manifest(value).fields | {"dt": value} for value in values[:FORMER_NIGHTS]]


def fresh_days(night: Night, clean_events: Input, former: list[dict[str, Any]]) -> set[str]:
    """Days of the window that are committed as a run on this very source left them."""
    table = clean_events.table()
    left = {}
    for record in former:
        if all(record.get(key) == value for key, value in night.record.items()):
            left |= record.get("days", {})
    known = [day for day in night.days if day in left]
    committed = zip(known, each(table.disk, table.manifest, known), strict=True)
    return {day for day, manifest in committed if manifest is not None and manifest.content_hash == left[day]}


def is_done(night: Night, fresh: set[str], former: list[dict[str, Any]]) -> bool:
    """Whether this date was run to its end on this source and nothing has changed since."""
    own = next((record for record in former if record["dt"] == night.date.isoformat()), {})
    return (
        fresh == set(night.days)
        and set(own.get("days", {})) == fresh
        and all(own.get(k) == v for k, v in night.record.items())
        and own.get(VERSIONS, {}) == night.versions
    )
