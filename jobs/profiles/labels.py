"""Labels of users as they were known at D: what profiles learn from. Missing labels are the normal case.

A row counts as in catalogue.py: where valid_from < D and valid_to is null or not before D. Of a user's rows those with
the newest valid_from say the label; where they contradict each other the user has none. Nulls and empty texts are no
labels. Spark reads them once a night into the table `user_labels`; whoever learns from them reads that.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.configuration.profiles import Label, Profiles
from jobs.configuration.sections import SourceTable
from jobs.events.places import SourceError, in_words
from jobs.events.read_source import quoted, read_entities, unusable_id
from jobs.graphs.catalogue import VALIDITY, Kind, as_number, validity
from jobs.graphs.ledgers import USER
from jobs.program import Input, JobError, MayPass
from jobs.spark import explained

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

KEY = "user_id"
ROWS = pa.schema([(KEY, pa.string()), ("class", pa.string())])


@dataclass(frozen=True)
class Known:
    """One label at D. user_id: strings, sorted by bytes, unique; classes: each one's class."""

    user_id: pa.Array
    classes: pa.Array
    contradicting: int  # users left out because their rows contradict each other
    problem: str = ""  # why nothing could be read

    @classmethod
    def of(cls, rows: pa.Table, problem: str = "") -> Known:
        """rows: user_id, sorted, and class, null where the user's rows contradict each other."""
        agreed = rows.filter(pc.is_valid(rows.column("class")))
        one, two = (agreed.column(name).combine_chunks() for name in (KEY, "class"))
        return cls(one, two, rows.num_rows - agreed.num_rows, problem)


def read_known(user_labels: Input, date: datetime.date, profiles: Profiles) -> dict[str, Known]:
    """Every configured label, from the table of D. PartitionMissing; JobError: it was read for other labels."""
    rows, manifest = user_labels.table().read_version(date.isoformat())
    facts = manifest.fields["labels"]
    for name in profiles.labels:
        _require_same(facts.get(name, {}), name, profiles, f"{user_labels.uri} of {date}")
    return {name: Known.of(_rows_of(rows, name), facts[name]["problem"]) for name in profiles.labels}


def _rows_of(rows: pa.Table, label: str) -> pa.Table:
    mine = pc.equal(rows.column("label"), label)
    return rows.filter(mine).select(ROWS.names)


def _require_same(found: dict[str, Any], name: str, profiles: Profiles, where: str) -> None:
    """JobError when a label is not what was read: its predictions would be of something else."""
    wanted = says(profiles, name)
    if {key: found.get(key) for key in wanted} != wanted:
        has = f"read {name!r} as {found}" if found else f"does not have {name!r}"
        now = f"profiles.labels.{name} now says {wanted}"
        raise JobError(f"{where} {has}; {now}. Run jobs.profiles.read_labels for this date first.")


def says(profiles: Profiles, name: str) -> dict[str, Any]:
    """What the configuration says of a label: the column it is read from, and the bounds that cut it into classes."""
    return {"column": profiles.column(name), "bounds": profiles.labels[name].bounds}


def read_rows(
    spark: SparkSession, users: SourceTable, profiles: Profiles, date: datetime.date, seen: DataFrame | None = None,
    files: list[str] | None = None,
) -> dict[str, tuple[pa.Table, str]]:
    """Every configured label: its rows as `Known.of` takes them, and why there are none.

    seen: the user_id of those who count; None: everybody. files: those of the source, where they are known. What is
    wrong with a label (no such column, no number) stops no other. SourceError: no such table.
    """
    found, frame = {}, read_entities(spark, users, KEY, files, VALIDITY)
    frame = frame if seen is None else frame.join(seen, KEY, "left_semi")
    for name, label in profiles.labels.items():
        try:
            with explained(f"reading the label {name!r}"):
                found[name] = _read(frame, users, label, profiles.column(name), f"profiles.labels.{name}", date), ""
        except MayPass:  # Spark stopped, and nothing is wrong with the label
            raise
        except JobError as error:
            found[name] = ROWS.empty_table(), str(error)
    return found


def _read(
    frame: DataFrame, users: SourceTable, label: Label, column: str, path: str, date: datetime.date
) -> pa.Table:
    if column not in frame.columns:
        has = in_words(frame.columns)
        raise SourceError(
            f"{users.path} has no column {column!r} ({path}); it has {has}. Name the right one: {path}.column.")
    one = class_of(frame, label, column, users.decimal, f"column {column!r} of {users.path} ({path})")
    return newest(frame, one, Kind(USER, users, {}), date).toArrow().cast(ROWS)


def class_of(frame: DataFrame, label: Label, column: str, decimal: str, where: str) -> Column:
    """A row's class as text: the value itself, or where the number lies between the bounds."""
    from pyspark.sql import functions as F

    found, value = frame.schema[column].dataType.simpleString(), F.col(quoted(column))
    if found.startswith(("array", "struct", "map", "binary")):
        raise SourceError(f"Found {found} in {where}; expected one plain value for a user. Name another column.")
    if not label.bounds:
        return value.cast("string")
    number, names = as_number(value, found, where, decimal), between(label.bounds)
    result = F.lit(names[-1])
    for bound, name in reversed(list(zip(label.bounds, names[:-1], strict=True))):
        result = F.when(number <= bound, name).otherwise(result)
    return F.when(number.isNotNull() & ~F.isnan(number), result)


def between(bounds: list[float]) -> list[str]:
    """Names of the classes that ascending bounds cut numbers into, in their order when sorted:
    `1: up to 24`, `2: above 24 up to 54`, `3: above 54`."""
    texts, width = [f"{bound:g}" for bound in bounds], len(str(len(bounds) + 1))
    inner = [f"above {low} up to {high}" for low, high in zip(texts[:-1], texts[1:], strict=True)]
    names = [f"up to {texts[0]}", *inner, f"above {texts[-1]}"]
    return [f"{n:0{width}d}: {name}" for n, name in enumerate(names, 1)]


def newest(frame: DataFrame, one: Column, kind: Kind, date: datetime.date) -> DataFrame:
    """user_id, class: what the rows with each user's newest valid_from before `date` say, null where not one thing."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    known, since = validity(frame, kind, date)
    rows = frame.where(unusable_id(KEY).isNull() & known).select(KEY, one.alias("class"), since.alias("since"))
    rows = rows.where(F.col("class").isNotNull() & (F.col("class") != "") & unusable_id("class").isNull())
    latest = F.dense_rank().over(Window.partitionBy(KEY).orderBy(F.col("since").desc_nulls_last()))
    rows = rows.withColumn("place", latest).where("place = 1")
    agreed = F.when(F.min("class") == F.max("class"), F.min("class"))
    return rows.groupBy(KEY).agg(agreed.alias("class")).sort(KEY)
