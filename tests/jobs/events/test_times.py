"""Times of any source become UTC by one rule, in Spark and in the importers alike."""

from __future__ import annotations

import datetime

import pandas as pd
import pytest

from jobs.events import times
from jobs.events.readers.imported import end_of_day, local_to_utc
from jobs.events.times import Reading

LONDON, SHANGHAI = "Europe/London", "Asia/Shanghai"


def utc(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC)


TEXTS = [
    # text, zone, day_only, UTC
    ("2010-03-28 00:59:59", LONDON, False, "2010-03-28 00:59:59"),
    ("2010-03-28 01:30:00", LONDON, False, "2010-03-28 01:30:00"),  # does not exist: moves on to 02:30 summer time
    ("2010-03-28 02:00:00", LONDON, False, "2010-03-28 01:00:00"),
    ("2010-10-31 00:59:59", LONDON, False, "2010-10-30 23:59:59"),
    ("2010-10-31 01:30:00", LONDON, False, "2010-10-31 00:30:00"),  # exists twice: the earlier
    ("2010-10-31 02:00:00", LONDON, False, "2010-10-31 02:00:00"),
    ("2010-07-01T12:00:00Z", LONDON, False, "2010-07-01 12:00:00"),
    ("2010-07-01 12:00:00.123456+05:30", LONDON, False, "2010-07-01 06:30:00.123456"),
    ("2019-06-19", SHANGHAI, True, "2019-06-19 15:59:59.999999"),
    ("2019-06-19 08:00:00", SHANGHAI, True, "2019-06-19 15:59:59.999999"),
    # a date alone is known to the day, whatever the settings say
    ("2019-06-19", SHANGHAI, False, "2019-06-19 15:59:59.999999"),
    ("2010-03-28", LONDON, True, "2010-03-28 22:59:59.999999"),  # a day of 23 hours
    ("2010-10-31", LONDON, True, "2010-10-31 23:59:59.999999"),
    # ISO 8601's other forms, and what engines write into CSV
    ("20190619", SHANGHAI, False, "2019-06-19 15:59:59.999999"),
    ("2019-170", SHANGHAI, False, "2019-06-19 15:59:59.999999"),
    ("2019170", SHANGHAI, False, "2019-06-19 15:59:59.999999"),
    ("2019-W25-3", SHANGHAI, False, "2019-06-19 15:59:59.999999"),
    ("2019W253", SHANGHAI, True, "2019-06-19 15:59:59.999999"),
    ("20100701T120000Z", LONDON, False, "2010-07-01 12:00:00"),
    ("20100701T120000", LONDON, False, "2010-07-01 11:00:00"),
    ("20100701T120000.5+0530", LONDON, False, "2010-07-01 06:30:00.5"),
    ("2010-07-01T12:00:00,25", LONDON, False, "2010-07-01 11:00:00.25"),
    ("2010-07-01 12:00:00+00", LONDON, False, "2010-07-01 12:00:00"),
    ("2010-07-01T12:00:00.000000+0000", LONDON, False, "2010-07-01 12:00:00"),
    ("2010-07-01 12:00:00 UTC", LONDON, False, "2010-07-01 12:00:00"),
    ("2010-07-01t12:00:00z", LONDON, False, "2010-07-01 12:00:00"),
    ("2010-07-01T12:00:00.123456789-03", LONDON, False, "2010-07-01 15:00:00.123456"),
    ("2010-07-01T12", LONDON, False, "2010-07-01 11:00:00"),
    ("2010-06-30T24:00:00", LONDON, False, "2010-06-30 23:00:00"),
    ("20100630T24", LONDON, False, "2010-06-30 23:00:00"),
]
NO_TIMES = [
    "",
    "yesterday",
    "12:30",
    "2010",
    "2010-02-30",
    "2010-13-01 00:00:00",
    "2010-01-01 25:00:00",
    "20101301",
    "2010-366",
    "2010-W53-1",
    "2010-W01-8",
    "2010-0101",
    "2010-01-01x10:00",
    "2010-01-01T10:00:00+5",
    "2010-01-01T24:00:01",
    "20100101120000",
    "1276000000",
    "05/01/2010",
    "\u0661\u0662\u0660\u0661-01-01",
    "2010-01-01 00:00:00 Mars",
    "now",
]


def test_texts_become_utc(spark) -> None:
    from pyspark.sql import functions as F

    rows = spark.createDataFrame([(text,) for text, *_ in TEXTS], "text string").cache()
    for zone, day_only in {(zone, day_only) for _, zone, day_only, _ in TEXTS}:
        column = times.utc(F.col("text"), rows.schema["text"].dataType, zone, day_only, Reading(is_plain=False))
        found = {row.text: row.micros for row in rows.select("text", F.unix_micros(column).alias("micros")).collect()}
        for text, its_zone, its_day_only, expected in TEXTS:
            if (its_zone, its_day_only) == (zone, day_only):
                assert found[text] == round(utc(expected).timestamp() * 1e6), (text, zone)


def test_what_is_no_time_is_null(spark) -> None:
    from pyspark.sql import functions as F

    rows = spark.createDataFrame([(text,) for text in NO_TIMES], "text string")
    for reading in (Reading(), Reading(is_plain=False)):
        column = times.utc(F.col("text"), rows.schema["text"].dataType, "UTC", False, reading)
        found = rows.select("text", column.alias("time")).collect()
        assert [row.text for row in found if row.time is not None] == []


@pytest.mark.parametrize("zone", [LONDON, "America/New_York", SHANGHAI, "Australia/Lord_Howe"])
def test_importers_and_spark_agree_around_the_clock_changes(zone: str, spark) -> None:
    """Each half hour of the days of both changes, also where clocks move by half an hour."""
    from pyspark.sql import functions as F

    days = ["2010-03-14", "2010-03-28", "2010-04-04", "2010-10-03", "2010-10-31", "2010-11-07"]
    local = pd.Series([pd.Timestamp(day) + pd.Timedelta(minutes=30 * n) for day in days for n in range(48)]).astype(
        "datetime64[us]"
    )
    rows = spark.createDataFrame([(time.isoformat(),) for time in local], "text string").selectExpr(
        "cast(text as timestamp_ntz) as local"
    )
    on_spark = rows.select(
        F.unix_micros(times.utc(F.col("local"), rows.schema["local"].dataType, zone, False)).alias("micros")
    ).collect()
    assert [row.micros for row in on_spark] == (local_to_utc(local, zone).astype("int64")).tolist()


def test_days_of_importers_end_where_spark_ends_them() -> None:
    days = pd.Series(["2019-06-19", "2010-03-28"])
    assert end_of_day(days, SHANGHAI)[0] == pd.Timestamp("2019-06-19 15:59:59.999999", tz="UTC")
    assert end_of_day(days, LONDON)[1] == pd.Timestamp("2010-03-28 22:59:59.999999", tz="UTC")
