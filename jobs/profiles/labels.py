"""Labels of users as they were known at D: what profiles learn from. Missing labels are the normal case.

A row counts as in catalogue.py: where valid_from < D and valid_to is null or not before D. Of a user's rows those with the newest valid_from say
the label; where they contradict each other the user has none. Nulls and empty texts are no labels.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from jobs.configuration.profiles import Label, Profiles
from jobs.configuration.sections import SourceTable
from jobs.events.read_source import SourceError, quoted, read_entities, unusable_id
from jobs.graphs.catalogue import Kind, as_number, validity
from jobs.graphs.ledgers import USER
from jobs.program import JobError
from jobs.spark import explained

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

KEY = "user_id"


@dataclass(frozen=True)
class Known:
    """One label at D. user_id: strings, sorted by bytes, unique; classes: each one's class."""

    user_id: pa.Array
    classes: pa.Array
    contradicting: int  # users left out because their rows contradict each other
    problem: str = ""  # why nothing could be read


NOTHING = pa.array([], pa.string())


def read_labels(spark: SparkSession, users: SourceTable, profiles: Profiles, date: datetime.date) -> dict[str, Known]:
    """Every configured label. What is wrong with one (no such column, no number) stands in its `problem` and stops no other. SourceError: no such table."""
    found, frame = {}, read_entities(spark, users, KEY)
    for name, label in profiles.labels.items():
        try:
            with explained(f"reading the label {name!r}"):
                found[name] = _read(frame, users, label, profiles.column(name), f"profiles.labels.{name}", date)
        except JobError as error:
            found[name] = Known(NOTHING, NOTHING, 0, str(error))
    return found


def _read(frame: DataFrame, users: SourceTable, label: Label, column: str, path: str, date: datetime.date) -> Known:
    if column not in frame.columns:
        raise SourceError(f"{users.path} has no column {column!r} ({path}); it has {', '.join(map(repr, frame.columns))}. Name the right one: {path}.column.")
    rows = newest(frame, class_of(frame, label, column, f"column {column!r} of {users.path} ({path})"), Kind(USER, users, {}), date).toArrow()
    agreed = rows.filter(pc.equal(rows.column("n"), 1))
    one, two = (agreed.column(n).cast(pa.string()).combine_chunks() for n in (KEY, "class"))
    return Known(one, two, rows.num_rows - agreed.num_rows)


def class_of(frame: DataFrame, label: Label, column: str, where: str) -> Column:
    """A row's class as text: the value itself, or where the number lies between the bounds."""
    from pyspark.sql import functions as F

    found, value = frame.schema[column].dataType.simpleString(), F.col(quoted(column))
    if found.startswith(("array", "struct", "map", "binary")):
        raise SourceError(f"Found {found} in {where}; expected one plain value for a user. Name another column.")
    if not label.bounds:
        return value.cast("string")
    number, names = as_number(value, found, where), between(label.bounds)
    result = F.lit(names[-1])
    for bound, name in reversed(list(zip(label.bounds, names[:-1], strict=True))):
        result = F.when(number <= bound, name).otherwise(result)
    return F.when(number.isNotNull() & ~F.isnan(number), result)


def between(bounds: list[float]) -> list[str]:
    """Names of the classes that ascending bounds cut numbers into, in their order when sorted: `1: up to 24`, `2: above 24 up to 54`, `3: above 54`."""
    texts, width = [f"{bound:g}" for bound in bounds], len(str(len(bounds) + 1))
    inner = [f"above {low} up to {high}" for low, high in zip(texts[:-1], texts[1:], strict=True)]
    return [f"{n:0{width}d}: {name}" for n, name in enumerate([f"up to {texts[0]}", *inner, f"above {texts[-1]}"], 1)]


def newest(frame: DataFrame, one: Column, kind: Kind, date: datetime.date) -> DataFrame:
    """user_id, class, n: what the rows with each user's newest valid_from before `date` say, and how many different things they say."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    known, since = validity(frame, kind, date)
    rows = frame.where(unusable_id(KEY).isNull() & known).select(KEY, one.alias("class"), since.alias("since"))
    rows = rows.where(F.col("class").isNotNull() & (F.col("class") != "") & unusable_id("class").isNull())
    latest = F.dense_rank().over(Window.partitionBy(KEY).orderBy(F.col("since").desc_nulls_last()))
    rows = rows.withColumn("place", latest).where("place = 1")
    return rows.groupBy(KEY).agg(F.min("class").alias("class"), F.count_distinct("class").alias("n")).sort(KEY)
