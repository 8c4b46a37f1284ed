"""Read the configured labels of users from their source, once for everybody who learns from them.

Reads: source.users, as it was known at D. Writes: user_labels of D.
Guarantees: nothing that is valid from D on is read; one row per label and user, sorted by their bytes; what is wrong
with one label is logged, stands in the manifest and stops no other. Skipped where no label is configured.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from jobs import spark as engine
from jobs.configuration.load import config_hash
from jobs.configuration.profiles import Profiles
from jobs.configuration.sections import Source, Spark
from jobs.profiles.labels import read_rows, says
from jobs.program import Output, Skip, code_version, log, main, metrics


@dataclass(frozen=True)
class Config:
    source: Source
    profiles: Profiles
    spark: Spark


def as_table(rows: dict[str, pa.Table], schema: pa.Schema) -> pa.Table:
    """label, user_id, class of all labels. rows: user_id and class of each."""
    parts = [[pa.repeat(name, rows[name].num_rows), *rows[name].columns] for name in sorted(rows)]
    return pa.concat_tables(pa.table(dict(zip(schema.names, part, strict=True)), schema=schema) for part in parts)


def facts_of(rows: pa.Table, problem: str) -> dict[str, Any]:
    """What the manifest and the night's figures tell of one label."""
    contradicting = rows.column("class").null_count
    return {"users": rows.num_rows - contradicting, "contradicting": contradicting, "problem": problem}


def run(date: datetime.date, user_labels: Output, config: Config) -> None:
    """Read, commit."""
    profiles = config.profiles
    if not profiles.labels:
        raise Skip("No label is configured under profiles.labels: nothing to read.")
    with engine.session(config.spark, "read_labels") as spark:
        found = read_rows(spark, config.source.users, profiles, date)
    facts = {name: says(profiles, name) | facts_of(*one) for name, one in found.items()}
    for name, fact in facts.items():
        if fact["problem"]:
            log.warning("label %s: nothing could be read: %s", name, fact["problem"])
    contract = user_labels.contract
    table = as_table({name: rows for name, (rows, _) in found.items()}, contract.arrow_schema())
    with user_labels.table().replace(date.isoformat()) as commit:
        commit.write_table(table, sorted_by=contract.sorted_by)
        commit.fields |= {"labels": facts, "config_hash": config_hash(profiles), "code_version": code_version()}
    metrics.put("rows_out", table.num_rows)
    metrics.put("labels", detail=facts)


if __name__ == "__main__":
    main(run)
