"""Sum up who did what with which item in the graph's window before D.

Reads: clean_events of the window, entity_ids. Writes: interactions of D. Guarantees: every behaviour of
`events.behaviors`, over the whole `graph.window_days`; one row per user, item and behaviour; equal inputs give equal
rows, to the last bit of `value_sum` (each sum adds its events in one order).
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs import spark as engine
from jobs.configuration.load import config_hash
from jobs.configuration.sections import Events, Graph, Quality, Spark
from jobs.graphs.checked import write_checked
from jobs.graphs.ledgers import ITEM, USER, ledger, snapshots
from jobs.graphs.window import known_at, open_window, read_events
from jobs.program import Input, JobError, Output, code_version, main, metrics
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


def summed(events: DataFrame) -> DataFrame:
    """user_id, item_id, behavior, count, value_sum, last_time.

    Floating-point sums depend on the order of their terms: a pair's events are brought together and sorted before they
    are added.
    """
    from pyspark.sql import functions as F

    worth = F.coalesce(
        F.col("value").cast("double") * F.coalesce(F.col("quantity").cast("double"), F.lit(1.0)), F.lit(0.0)
    )
    rows = events.select("user_id", "item_id", "behavior", "event_time", worth.alias("worth"))
    together = rows.repartition("user_id", "item_id").sortWithinPartitions(
        "user_id", "item_id", "behavior", "event_time", "worth"
    )
    return together.groupBy("user_id", "item_id", "behavior").agg(
        F.count("*").alias("count"), F.sum("worth").alias("value_sum"), F.max("event_time").alias("last_time")
    )


def with_ids(rows: DataFrame, users: DataFrame, items: DataFrame) -> DataFrame:
    """The rows with ledger ids `user` and `item`; null where a ledger does not know one."""
    from pyspark.sql import functions as F

    users, items = (
        users.select(F.col("id").alias("user"), F.col("raw").alias("user_id")),
        items.select(F.col("id").alias("item"), F.col("raw").alias("item_id")),
    )
    return rows.join(users, "user_id", "left").join(items, "item_id", "left").drop("user_id", "item_id")


def require_known(count: int, entity_ids: Input, date: datetime.date) -> None:
    """JobError when `count` rows have an end without a ledger id."""
    if count:
        raise JobError(
            f"{count} rows name users, items or values that the ledgers in {entity_ids.uri} do not know. "
            f"Run jobs.graphs.assign_ids for {date} first (again, if events came in since).")


def run(date: datetime.date, clean_events: Input, entity_ids: Input, interactions: Output, config: Config) -> None:
    """Commit the interactions of D."""
    from pyspark.sql import functions as F

    prepare()
    behaviors, dt = config.events.behaviors, date.isoformat()
    window = open_window(clean_events, date, config.graph.window_days)
    with engine.session(config.spark, "build_interactions") as spark:
        counted = read_events(spark, window, clean_events, config.events.returns)
        events = known_at(counted, date, dict.fromkeys(behaviors, config.graph.window_days))
        users, items = (ledger(spark, snapshot) for snapshot in snapshots(entity_ids, (USER, ITEM)).values())
        rows = with_ids(summed(events), users, items).select(interactions.contract.columns).persist()
        require_known(rows.where(F.col("user").isNull() | F.col("item").isNull()).count(), entity_ids, date)
        with interactions.table().replace(dt) as commit:
            write_checked(
                spark,
                rows,
                commit,
                interactions.contract,
                suites.interactions(behaviors),
                config.quality.page(date, "interactions"),
            )
            commit.fields |= {
                "window": window.fields, "inputs": {"clean_events": window.inputs},
                "returns": config.events.returns,
                "config_hash": config_hash(config.graph), "code_version": code_version()}  # fmt: skip
        rows.unpersist()
    metrics.put("rows_in", window.rows)
    metrics.put("rows_out", interactions.table().existing_manifest(dt).row_count)


if __name__ == "__main__":
    main(run)
