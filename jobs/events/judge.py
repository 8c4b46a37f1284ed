"""Which rows are usable events, and why the others are not: pure functions on the frame of read_events.py."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from jobs.events.read_source import unusable_id

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

MAX_FLOAT32 = 3.4028235e38
UNPARSEABLE, NOT_UTF8, NO_NUMBER = "unparseable event_time", "is not valid UTF-8", "is no number"
MICROSECOND = datetime.timedelta(microseconds=1)


def judge(
    rows: DataFrame,
    behaviors: Collection[str],
    earliest: datetime.datetime,
    first: datetime.datetime,
    until: datetime.datetime,
) -> DataFrame:
    """The rows that the night of `until` has to know, with `reason` (null: usable) and `day` (yyyy-mm-dd, null without
    a usable time).

    Rows with a time in [first, until) are known, rows without a usable time, and rows before `earliest`. Rows from
    `until` on are not read: neither rejected nor counted.
    """
    from pyspark.sql import functions as F

    time = F.col("event_time")
    known = rows.filter(time.isNull() | ((time < F.lit(until)) & ((time >= F.lit(first)) | (time < F.lit(earliest)))))
    day = F.when(time >= F.lit(earliest), F.date_format("event_time", "yyyy-MM-dd"))
    return known.withColumns({"reason": _reason(behaviors, earliest), "day": day})


def _reason(behaviors: Collection[str], earliest: datetime.datetime) -> Column:
    from pyspark.sql import functions as F

    time = F.col("event_time")
    return F.coalesce(
        F.col("problem"),
        F.when(
            time.isNull(), F.when(F.col("event_time_given"), UNPARSEABLE).otherwise("event_time is null")
        ),
        F.when(time < F.lit(earliest), f"event_time before {earliest.date()}"),
        unusable_id("user_id"),
        unusable_id("item_id"),
        F.when(F.col("behavior").isNull(), "behavior is null").when(
            ~F.col("behavior").isin(list(behaviors)), "unknown behavior"
        ),
        *(_unusable_number(name) for name in ("quantity", "value")),
        F.when(F.col("event_id").isNotNull(), unusable_id("event_id")),
        F.when(F.col("ingested_at_given") & F.col("ingested_at").isNull(), "unparseable ingested_at"),
    )


def _unusable_number(name: str) -> Column:
    from pyspark.sql import functions as F

    column = F.col(name)
    finite = F.when(F.isnan(column), False).otherwise(F.abs(column) <= MAX_FLOAT32)  # as float32, which the table holds
    return F.when(F.col(f"{name}_given") & column.isNull(), f"{name} {NO_NUMBER}").when(
        ~finite, f"{name} is not finite"
    )


def rejected(judged: DataFrame) -> DataFrame:
    """The columns of rejected_events; the original row only where its user's erasure would find it."""
    from pyspark.sql import functions as F

    usable = unusable_id("user_id").isNull()
    user = F.when(usable, F.col("user_id")).alias("user_id")
    row = F.when(usable, F.col("row")).alias("row")
    return judged.filter(F.col("reason").isNotNull()).select("source_file", "row_number", "reason", user, row)


def accepted(judged: DataFrame, purchase: str | None = None) -> DataFrame:
    """Usable events with quantity 1 where there is none; keeps day, source_file and row_number.

    Returns, which are rows of negative quantity and rows of `purchase` with a negative value (a rating may have one),
    have a negative quantity and a value that is not, whichever of the two the source has the sign in.
    """
    from pyspark.sql import functions as F

    quantity, value = F.coalesce(F.col("quantity"), F.lit(1.0)).cast("float"), F.col("value").cast("float")
    is_return = (quantity < 0) | ((F.col("behavior") == F.lit(purchase)) & (value < 0) if purchase else F.lit(False))
    is_return = F.coalesce(is_return, F.lit(False))
    number = F.when(quantity == 0, F.lit(1.0)).otherwise(F.abs(quantity))
    return judged.filter(F.col("reason").isNull()).withColumns({
        "quantity": F.when(is_return, -number).otherwise(quantity).cast("float"),
        "value": F.when(is_return, F.abs(value)).otherwise(value),
    })


def without_repeats(events: DataFrame, exact: bool, has_event_ids: bool, several: bool = False) -> DataFrame:
    """One row per day and `event_id`, the one taken in last; rows without one: exact repeats once if `exact`, else
    all. several: of several tables, where an id is one of its behaviour: click 17 is not order 17."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    if not (exact or has_event_ids):
        return events
    columns = ["user_id", "item_id", "behavior", "event_time", "quantity", "value", "event_id", "ingested_at"]
    without_id = F.to_json(F.struct(*columns)) if exact else F.concat_ws("#", "source_file", "row_number")
    key = F.when(F.col("event_id").isNotNull(), F.concat(F.lit("id:"), "event_id")).otherwise(
        F.concat(F.lit("row:"), without_id)
    )
    latest = [F.desc_nulls_last("ingested_at"), *(F.col(name) for name in columns if name != "ingested_at")]
    order = Window.partitionBy("day", *["behavior"] * several, "_key").orderBy(*latest)
    return (
        events.withColumn("_key", key)
        .withColumn("_rank", F.row_number().over(order))
        .filter("_rank = 1")
        .drop("_key", "_rank")
    )


def sharing_ids(judged: DataFrame, several: bool) -> int:
    """How many users and items stand beside others under one `event_id` of a day, and are lost to without_repeats."""
    from pyspark.sql import functions as F

    key = ["day", "event_id", *["behavior"] * several]
    pairs = judged.filter("reason is null and event_id is not null").select(*key, "user_id", "item_id").distinct()
    return pairs.groupBy(*key).count().agg(F.sum(F.col("count") - 1)).first()[0] or 0


def share_ids(count: int) -> str:
    """The warning of `sharing_ids`."""
    return (f"{count:,} events have one that is also of another user or item on their day; of each one event is kept, "
            "and the others are left out. Where it is a receipt's or a session's, map no column to event_id")


def figures(prefixes: Iterable[str] = ()) -> list[Column]:
    """Counts over judged rows: rows_in, rows_rejected, in_window (with a usable time), late. `<count> <prefix>`: of the
    rows whose file's name begins with the prefix."""
    from pyspark.sql import functions as F

    next_day = F.date_add(F.col("event_time").cast("date"), 1).cast("timestamp")
    conditions = {
        "rows_in": F.lit(True),
        "rows_rejected": F.col("reason").isNotNull(),
        "in_window": F.col("day").isNotNull(),
        "late": F.col("reason").isNull() & (F.col("ingested_at") >= next_day),
    }
    of_files = {"": F.lit(True)} | {f" {prefix}": F.startswith("source_file", F.lit(prefix)) for prefix in prefixes}
    return [
        F.count(F.when(condition & mine, 1)).alias(f"{name}{of}")
        for of, mine in of_files.items() for name, condition in conditions.items()]  # fmt: skip
