"""Read the configured labels of users from their source, once for everybody who learns from them.

Reads: source.users, as it was known at D; the days of clean_events before D. Writes: user_labels of D. Guarantees:
nothing that is valid from D on is read, and nobody whose first event comes then; one row per label and user, sorted by
their bytes; what is wrong with one label is logged, stands in the manifest and stops no other. Skipped where no label
is configured.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from feature_store import Manifest
from jobs import spark as engine
from jobs.configuration.load import config_hash
from jobs.configuration.profiles import Profiles
from jobs.configuration.sections import Graph, Publishing, Source, Spark
from jobs.events.files import statuses
from jobs.events.fingerprint import fingerprints, require_unchanged
from jobs.events.lake_tables import files_of
from jobs.profiles.labels import KEY, read_rows, says
from jobs.program import Input, JobError, Output, Skip, code_version, log, main, metrics

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


@dataclass(frozen=True)
class Config:
    source: Source
    graph: Graph
    publishing: Publishing
    profiles: Profiles
    spark: Spark


def days_with_users(clean_events: Input, date: datetime.date, days: int) -> dict[str, Manifest]:
    """The committed ones of the `days` before D, as far back as they are kept: whoever has a vector has an event there.
    JobError where there is none: labels of nobody would be no news but a mistake."""
    table, since = clean_events.table(), str(date - datetime.timedelta(days=days))
    found = {day: table.existing_manifest(day) for day in table.values() if since <= day < str(date)}
    if not found:
        raise JobError(
            f"{table.uri} has no day from {since} until before {date}; expected the days of the graph's window. "
            f"Run jobs.events.validate_events for {date} first.")
    return found


def users_of(spark: SparkSession, clean_events: Input, days: dict[str, Manifest]) -> DataFrame:
    """user_id of everybody with an event on these days, each once."""
    table = clean_events.table()
    files = [f"{table.path(day)}/{file.name}" for day, m in days.items() for file in m.files if file.row_count]
    return engine.read(spark, table.disk, files, clean_events.contract).select(KEY).distinct()


def as_table(rows: dict[str, pa.Table], schema: pa.Schema) -> pa.Table:
    """label, user_id, class of all labels. rows: user_id and class of each."""
    parts = [[pa.repeat(name, rows[name].num_rows), *rows[name].columns] for name in sorted(rows)]
    return pa.concat_tables(pa.table(dict(zip(schema.names, part, strict=True)), schema=schema) for part in parts)


def facts_of(rows: pa.Table, problem: str) -> dict[str, Any]:
    """What the manifest and the night's figures tell of one label."""
    contradicting = rows.column("class").null_count
    return {"users": rows.num_rows - contradicting, "contradicting": contradicting, "problem": problem}


def run(date: datetime.date, clean_events: Input, user_labels: Output, config: Config) -> None:
    """Read, commit."""
    profiles = config.profiles
    if not profiles.labels:
        raise Skip("No label is configured under profiles.labels: nothing to read.")
    days = days_with_users(clean_events, date, config.graph.window_days + config.publishing.carry_days)
    source = config.source.users
    files = files_of(source, "source.users", date)
    before = statuses(files)
    with engine.session(config.spark, "read_labels") as spark:
        users = users_of(spark, clean_events, days)
        found = read_rows(spark, source, profiles, date, users, files)
        read = fingerprints(files, source.file_format, source.encoding)
    require_unchanged(before)
    facts = {name: says(profiles, name) | facts_of(*one) for name, one in found.items()}
    for name, fact in facts.items():
        if fact["problem"]:
            log.warning("label %s: nothing could be read: %s", name, fact["problem"])
    contract = user_labels.contract
    table = as_table({name: rows for name, (rows, _) in found.items()}, contract.arrow_schema())
    with user_labels.table().replace(date.isoformat()) as commit:
        commit.write_table(table, sorted_by=contract.sorted_by)
        commit.fields |= {
            "labels": facts, "config_hash": config_hash(profiles), "code_version": code_version(),
            "sources": {"source.users": read},
            "inputs": {"clean_events": {day: manifest.content_hash for day, manifest in days.items()}}}  # fmt: skip
    metrics.put("rows_out", table.num_rows)
    metrics.put("labels", detail=facts)


if __name__ == "__main__":
    main(run)
