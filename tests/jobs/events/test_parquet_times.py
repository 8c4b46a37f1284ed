"""Times in Parquet mean the same in every unit and encoding: local without a zone, an instant with one."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.configuration.sections import Attribute, SourceTable
from jobs.events.parquet_times import kinds_of
from jobs.events.read_events import read_events
from jobs.events.read_source import read_entities
from jobs.graphs.catalogue import Kind, validity
from jobs.program import JobError
from tests.jobs.events.night import Sandbox, event

LOCAL = datetime.datetime(2026, 1, 8, 10, 0, 0, 123457)
AS_LOCAL, AS_INSTANT = (LOCAL.replace(hour=hour, tzinfo=datetime.UTC) for hour in (9, 10))
NO_SCHEMA = {"use_deprecated_int96_timestamps": True, "store_schema": False}
FORMS = {  # unit, zone, how it is written, what it means in Berlin
    "microseconds": ("us", None, {}, AS_LOCAL),
    "nanoseconds": ("ns", None, {}, AS_LOCAL),
    "microseconds with a zone": ("us", "UTC", {}, AS_INSTANT),
    "nanoseconds with UTC": ("ns", "UTC", {}, AS_INSTANT),
    "nanoseconds with another zone": ("ns", "America/New_York", {}, AS_INSTANT),
    "INT96 of pandas": ("ns", None, {"use_deprecated_int96_timestamps": True}, AS_LOCAL),
    "INT96 of pandas with a zone": ("ns", "Asia/Tokyo", {"use_deprecated_int96_timestamps": True}, AS_INSTANT),
    "INT96 of Spark": ("ns", None, NO_SCHEMA, AS_INSTANT)}


def times(unit: str, zone: str | None, moment: datetime.datetime = LOCAL) -> pa.Array:
    """Digits of `moment`: in UTC where there is a zone."""
    return pa.array([moment], pa.timestamp("us")).cast(pa.timestamp(unit)).cast(pa.timestamp(unit, zone))


def replace_times(path: Path, column: pa.Array, written: dict[str, Any], name: str = "event_time") -> None:
    rows = pq.read_table(path, partitioning=None)
    longer = pa.chunked_array([column] * rows.num_rows)
    pq.write_table(rows.set_column(rows.schema.get_field_index(name), name, longer), path, **written)


def micros(path: Path, spark, **settings: Any) -> int:
    """What the first event's time is read as, in microseconds since 1970."""
    from pyspark.sql import functions as F

    rows = read_events(spark, SourceTable(str(path), timezone="Europe/Berlin", **settings), [str(path)])
    return rows.select(F.unix_micros("event_time").alias("at")).first().at


@pytest.mark.parametrize("form", FORMS)
def test_events_of_every_form(form: str, sandbox: Sandbox, spark) -> None:
    unit, zone, written, meant = FORMS[form]
    path = sandbox.write_parquet([event("u", 8)])
    replace_times(path, times(unit, zone), written)
    assert micros(path, spark) == round(meant.timestamp() * 1e6)


def test_days_end_in_their_zone_in_every_unit(sandbox: Sandbox, spark) -> None:
    path = sandbox.write_parquet([event("u", 8)])
    replace_times(path, times("ns", None, LOCAL.replace(hour=0)), {})
    end = datetime.datetime(2026, 1, 8, 22, 59, 59, 999999, datetime.UTC)
    assert micros(path, spark, day_only=True) == round(end.timestamp() * 1e6)


@pytest.mark.parametrize("moment", [datetime.datetime(1969, 12, 31, 23, 59, 59, 999999), LOCAL])
@pytest.mark.parametrize("form", FORMS)
def test_validity_of_every_form(form: str, moment: datetime.datetime, tmp_path: Path, spark) -> None:
    """A row that begins an hour before midnight in Berlin is known at that midnight in UTC, whatever its unit."""
    from pyspark.sql import functions as F

    unit, zone, written, meant = FORMS[form]
    path, lag = tmp_path / "items.parquet", datetime.timedelta(hours=1 if meant == AS_LOCAL else 0)
    columns = {"item_id": pa.array(["1"]), "valid_from": times(unit, zone, moment), "made": times(unit, zone, moment)}
    pq.write_table(pa.table(columns), path, **written)
    source = SourceTable(str(path), timezone="Europe/Berlin")
    frame = read_entities(spark, source, "item_id")
    _, since = validity(frame, Kind("item", source, {"made": Attribute()}), datetime.date(2026, 1, 9))
    (row,) = frame.select(F.unix_micros(since).alias("at"), F.col("made").cast("string")).collect()
    assert row.at == round((moment.replace(tzinfo=datetime.UTC) - lag).timestamp() * 1e6)
    assert row.made == str(moment), "an attribute is what stands there"


@pytest.mark.parametrize(
    ("text", "meant"),
    [("2026-01-08 10:00:00", 9), ("2026-01-08T10:00:00Z", 10), ("2026-01-08 10:00:00.5+02:00", 8), ("2026-01-08", -1)])
def test_a_text_that_says_its_zone_is_not_moved(text: str, meant: int, tmp_path: Path, spark) -> None:
    from pyspark.sql import functions as F

    path = tmp_path / "items.csv"
    path.write_text(f"item_id,valid_from\n1,{text}\n")
    source = SourceTable(str(path), "csv", timezone="Europe/Berlin")
    frame = read_entities(spark, source, "item_id")
    _, since = validity(frame, Kind("item", source, {}), LOCAL.date())
    (row,) = frame.select(F.unix_seconds(since).alias("at")).collect()
    assert row.at == datetime.datetime(2026, 1, 8, tzinfo=datetime.UTC).timestamp() + 3600 * meant


@pytest.mark.parametrize("other", ["nanoseconds with UTC", "INT96 of pandas", "microseconds"])
def test_files_that_hold_a_column_in_several_ways_are_refused(other: str, sandbox: Sandbox, spark) -> None:
    """Spark would take all of it for what the first file holds."""
    sandbox.source["path"] = "lake"
    for name, form in (("a", "nanoseconds"), ("b", other)):
        path = sandbox.write_parquet([event("u", 8)], f"lake/{name}.parquet")
        replace_times(path, times(*FORMS[form][:2]), FORMS[form][2])
    with pytest.raises(JobError, match=r"lake/b.parquet: column .*lake/a.parquet.*Write the files alike"):
        sandbox.run()
    wanted = r"lake/b.parquet: column 'event_time' holds .*; in .*lake/a.parquet it holds local times"
    with pytest.raises(JobError, match=wanted):
        read_entities(spark, SourceTable(str(sandbox.folder / "lake")), "user_id")


def test_times_within_lists_and_structs_are_left_alone(tmp_path: Path) -> None:
    kind = pa.timestamp("ns")
    columns = {"seen": pa.array([[LOCAL]], pa.list_(kind)), "of": pa.array([{"at": LOCAL}], pa.struct([("at", kind)]))}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    assert kinds_of(str(tmp_path / "x.parquet")) == {}
