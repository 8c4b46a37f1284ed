"""When, and on how many days, each user did something in the graph's window before D.

Reads: clean_events of the window. Writes: user_activity of D. Guarantees: the events of `graph.behaviors`, each
behaviour's in its own window, as the knowledge graph and the `n_events` of published users count them.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs import spark as engine
from jobs.configuration.load import config_hash
from jobs.configuration.sections import Events, Graph, Quality, Spark
from jobs.graphs.checked import write_checked
from jobs.graphs.window import known_at, open_window, read_events
from jobs.program import Input, Output, code_version, main, metrics
from jobs.quality import suites
from jobs.quality.check import prepare

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@dataclass(frozen=True)
class Config:
    graph: Graph
    events: Events
    spark: Spark
    quality: Quality = Quality()


def activity(events: DataFrame) -> DataFrame:
    """user_id, first_event, last_event, n_days; days are those of UTC."""
    from pyspark.sql import functions as F

    time = F.col("event_time")
    return events.groupBy("user_id").agg(
        F.min(time).alias("first_event"), F.max(time).alias("last_event"),
        F.countDistinct(F.to_date(time)).alias("n_days"))  # fmt: skip


def run(date: datetime.date, clean_events: Input, user_activity: Output, config: Config) -> None:
    """Commit the activity of D."""
    prepare()
    graph, dt = config.graph, date.isoformat()
    window = open_window(clean_events, date, graph.window_days)
    with engine.session(config.spark, "build_user_activity") as spark:
        events = known_at(read_events(spark, window, clean_events, config.events.returns), date, graph.windows)
        with user_activity.table().replace(dt) as commit:
            page = config.quality.page(date, "user_activity")
            write_checked(spark, activity(events), commit, user_activity.contract, suites.user_activity(), page)
            commit.fields |= {
                "window": window.fields | {"behaviors": graph.windows}, "inputs": {"clean_events": window.inputs},
                "returns": config.events.returns, "config_hash": config_hash(graph), "code_version": code_version()}
    metrics.put("rows_in", window.rows)
    metrics.put("rows_out", user_activity.table().existing_manifest(dt).row_count)


if __name__ == "__main__":
    main(run)
