"""Line up every user's events in their order: what models learn from that read histories.

Reads: clean_events of the days that histories cover, entity_ids. Writes: sequences of D. Guarantees: events of
`sequences.behaviors` in [D − `sequences.history_days`, D), and none from D on; of each user the last
`sequences.max_length`, in the order of time, then the source's own id of the event (those without one first), then the
bytes of the item's id; `position` counts from 0 without a gap. Items that have left the catalogue are in it.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs import spark as engine
from jobs.configuration.histories import Sequences, history_days
from jobs.configuration.load import config_hash
from jobs.configuration.sections import Events, Graph, Publishing, Quality, Spark
from jobs.configuration.settings import Families
from jobs.graphs.build_interactions import require_known, with_ids
from jobs.graphs.checked import write_checked
from jobs.graphs.ledgers import ITEM, USER, ledger, snapshots
from jobs.graphs.window import known_at, open_window, read_events
from jobs.program import Input, JobError, Output, code_version, main, metrics
from jobs.quality import suites
from jobs.quality.check import prepare

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

ORDER = ("event_time", "event_id", "item_id", "behavior")  # the last for events that are alike in all others


@dataclass(frozen=True)
class Config:
    graph: Graph
    events: Events
    families: Families
    publishing: Publishing
    sequences: Sequences
    spark: Spark
    quality: Quality = Quality()


def last_events(events: DataFrame, max_length: int) -> DataFrame:
    """user_id, item_id, behavior, event_time, position: the last so many events of each user, from the oldest on."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    of_user = Window.partitionBy("user_id")
    newest_first = of_user.orderBy(*(F.col(name).desc_nulls_last() for name in ORDER))
    numbered = events.select("user_id", *ORDER).withColumn("back", F.row_number().over(newest_first))
    kept = numbered.where(F.col("back") <= max_length)
    position = (F.max("back").over(of_user) - F.col("back")).cast("int")
    return kept.withColumn("position", position).drop("back", "event_id")


def run(date: datetime.date, clean_events: Input, entity_ids: Input, sequences: Output, config: Config) -> None:
    """Commit the sequences of D."""
    from pyspark.sql import functions as F

    prepare()
    section, dt, days = config.sequences, date.isoformat(), history_days(config, date)
    behaviors = section.behaviors_of(config.graph)
    window = open_window(clean_events, date, days)
    with engine.session(config.spark, "build_sequences") as spark:
        counted = read_events(spark, window, clean_events, config.events.returns)
        events = known_at(counted, date, dict.fromkeys(behaviors, days))
        users, items = (ledger(spark, snapshot) for snapshot in snapshots(entity_ids, (USER, ITEM)).values())
        rows = with_ids(last_events(events, section.max_length), users, items)
        rows = rows.select(sequences.contract.columns).persist()
        if rows.isEmpty():
            raise JobError(f"None of the {window.rows} events of the {days} days before {date} is of {behaviors}; "
                           "expected at least one. Check sequences.behaviors and sequences.history_days.")
        require_known(rows.where(F.col("user").isNull() | F.col("item").isNull()).count(), entity_ids, date)
        with sequences.table().replace(dt) as commit:
            suite, page = suites.sequences(behaviors, section.max_length), config.quality.page(date, "sequences")
            write_checked(spark, rows, commit, sequences.contract, suite, page)
            commit.fields |= {
                "window": window.fields | {"max_length": section.max_length}, "returns": config.events.returns,
                "inputs": {"clean_events": window.inputs}, "config_hash": config_hash(section),
                "code_version": code_version()}  # fmt: skip
        metrics.put("users", rows.select("user").distinct().count())
        rows.unpersist()
    metrics.put("rows_in", window.rows)
    metrics.put("rows_out", sequences.table().existing_manifest(dt).row_count)


if __name__ == "__main__":
    main(run)
