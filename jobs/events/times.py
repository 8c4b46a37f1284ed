"""Times of any source as UTC timestamps, on Spark.

A time without an offset is local to the source's zone. At the two clock changes java.time's rule holds: a time that
does not exist (clocks went forward) moves on by the length of the gap, one that exists twice (clocks went back) is the
earlier of the two. A time known to the day only stands for the last microsecond of that day in the source's zone, so
that no night knows it before the day is over. Numbers are seconds since 1970-01-01 UTC.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import Column
    from pyspark.sql.types import DataType

DAY = r"^\d{4}-\d{2}-\d{2}$"
LOCAL = r"^\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?$"
OFFSET = r"^\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)? ?(Z|[+-]\d{2}:\d{2})$"
SECONDS = r"^-?\d{9,11}(\.\d+)?$"
MAX_SECONDS = 253_402_300_800  # the year 10000


def utc(column: Column, kind: DataType, zone: str, day_only: bool) -> Column:
    """The column (of Spark type `kind`) as a UTC timestamp; null where it cannot be read. TypeError: no time is of this
    type."""
    from pyspark.sql import functions as F
    from pyspark.sql import types as T

    if isinstance(kind, T.StringType):
        return _from_text(column, zone, day_only)
    if isinstance(kind, T.DateType):
        return end_of_day(column, zone)
    if isinstance(kind, T.TimestampNTZType):
        return end_of_day(column.cast("date"), zone) if day_only else F.to_utc_timestamp(column.cast("timestamp"), zone)
    if isinstance(kind, T.TimestampType):
        instant = column
    elif isinstance(kind, T.NumericType):
        instant = _from_seconds(column.cast("double"))
    else:
        raise TypeError(kind.simpleString())
    return end_of_day(F.from_utc_timestamp(instant, zone).cast("date"), zone) if day_only else instant


def end_of_day(day: Column, zone: str) -> Column:
    """The last microsecond of a date in a zone, UTC."""
    from pyspark.sql import functions as F

    return F.to_utc_timestamp(F.date_add(day, 1).cast("timestamp"), zone) - F.expr("INTERVAL 1 MICROSECOND")


def _from_seconds(seconds: Column) -> Column:
    from pyspark.sql import functions as F

    micros = F.round(F.when(F.abs(seconds) < MAX_SECONDS, seconds) * 1_000_000).cast("bigint")
    return F.timestamp_micros(micros)


def _from_text(text: Column, zone: str, day_only: bool) -> Column:
    from pyspark.sql import functions as F

    # digits of a local time as if they were UTC
    read = F.when(text.rlike(OFFSET) | text.rlike(LOCAL), text.try_cast("timestamp"))
    instant = F.when(text.rlike(LOCAL), F.to_utc_timestamp(read, zone)).otherwise(read)
    instant = F.when(text.rlike(SECONDS), _from_seconds(text.try_cast("double"))).otherwise(instant)
    day = F.when(text.rlike(DAY), text.try_cast("date"))
    if day_only:
        day = F.coalesce(day, F.from_utc_timestamp(instant, zone).cast("date"))
        return end_of_day(day, zone)
    return F.when(text.rlike(DAY), end_of_day(day, zone)).otherwise(instant)
