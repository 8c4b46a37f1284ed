"""Times of any source as UTC timestamps, on Spark.

A time without an offset is local to the source's zone. At the two clock changes java.time's rule holds: a time that
does not exist (clocks went forward) moves on by the length of the gap, one that exists twice (clocks went back) is the
earlier of the two. A time known to the day only stands for the last microsecond of that day in the source's zone, so
that no night knows it before the day is over. Numbers count seconds, milli-, micro- or nanoseconds since 1970-01-01 UTC
(epochs.py); what is finer than a microsecond is cut off, so that no time reaches into the next day.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from jobs.events.time_texts import MOST_OF_FORM, canonical_array

if TYPE_CHECKING:
    from pyspark.sql import Column
    from pyspark.sql.types import DataType

DAY = r"^\d{4}-\d{2}-\d{2}$"
LOCAL = r"^\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}:\d{2}(\.\d{1,9})?$"
OFFSET = r"^\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}:\d{2}(\.\d{1,9})? ?(Z|[+-]\d{2}:\d{2})$"
NUMBER = r"^[+-]?\d+(\.\d*)?([eE][+-]?\d{1,2})?$"
BASIC_DAY = r"^\d{7,8}$"  # 20260105, 2026005: days of ISO 8601, and no count of anything since 1970
DECIMAL = "decimal(38,9)"
MAX_MICROS = 253_402_300_800_000_000  # the year 10000
PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


@dataclass(frozen=True)
class Reading:
    """How a column's numbers and texts are to be read."""

    unit: str | None = None  # of numbers since 1970: a key of PER_SECOND; None: no number is a time
    configured: bool = False  # the unit is the configuration's: then a text of 8 digits is such a number as well
    form: str | None = None  # strptime's, of all texts and whole numbers
    is_plain: bool = True  # all texts are in the forms that Spark reads


PLAIN = Reading()


def utc(column: Column, kind: DataType, zone: str, day_only: bool, reading: Reading = PLAIN,
        of_day: Callable[[Column, str], Column] | None = None) -> Column:
    """The column (of Spark type `kind`) as a UTC timestamp; null where it cannot be read.

    of_day: (day, zone) → the time that stands for a day; its end where none is given. TypeError: no time is of this
    type.
    """
    from pyspark.sql import functions as F
    from pyspark.sql import types as T

    of_day = of_day or end_of_day
    if isinstance(kind, T.StringType) or (reading.form and isinstance(kind, T.IntegralType)):
        return _from_text(column.cast("string"), zone, day_only, reading, of_day)
    if isinstance(kind, T.DateType):
        return of_day(column, zone)
    if isinstance(kind, T.TimestampNTZType):
        return of_day(column.cast("date"), zone) if day_only else F.to_utc_timestamp(column.cast("timestamp"), zone)
    if isinstance(kind, T.TimestampType):
        instant = column
    elif isinstance(kind, T.NumericType):
        instant = _from_number(as_number(column, kind), reading.unit)
    else:
        raise TypeError(kind.simpleString())
    return of_day(F.from_utc_timestamp(instant, zone).cast("date"), zone) if day_only else instant


def end_of_day(day: Column, zone: str) -> Column:
    """The last microsecond of a date in a zone, UTC."""
    from pyspark.sql import functions as F

    return F.to_utc_timestamp(F.date_add(day, 1).cast("timestamp"), zone) - F.expr("INTERVAL 1 MICROSECOND")


def start_of_day(day: Column, zone: str) -> Column:
    """Its first microsecond, UTC."""
    from pyspark.sql import functions as F

    return F.to_utc_timestamp(day.cast("timestamp"), zone)


def as_number(column: Column, kind: DataType, configured: bool = False) -> Column:
    """The number in a column of numbers or texts, exact to nine places; null where there is none."""
    from pyspark.sql import functions as F
    from pyspark.sql import types as T

    if not isinstance(kind, T.StringType):
        return column.try_cast(DECIMAL)
    is_number = column.rlike(NUMBER) if configured else column.rlike(NUMBER) & ~column.rlike(BASIC_DAY)
    return F.when(is_number, column.try_cast(DECIMAL))


def form(text: Column) -> Column:
    """What a text looks like, as `time_texts.form_of` says it."""
    from pyspark.sql import functions as F

    masked = text.substr(1, MOST_OF_FORM)
    for what, shown in ((r"\p{Nd}", "9"), (r"\p{L}", "a"), (r"[^\p{Graph} ]", "?")):
        masked = F.regexp_replace(masked, what, shown)
    return masked


def _from_number(number: Column, unit: str | None) -> Column:
    from pyspark.sql import functions as F

    if unit is None:
        return F.lit(None).cast("timestamp")
    per_micro = PER_SECOND[unit] / 1_000_000
    within = F.when(F.abs(number) < MAX_MICROS * per_micro, number)  # beyond it the product would be too wide
    micros = F.floor(within / int(per_micro) if per_micro >= 1 else within * round(1 / per_micro))
    return F.timestamp_micros(micros.cast("bigint"))


def _from_text(
    text: Column, zone: str, day_only: bool, reading: Reading, of_day: Callable[[Column, str], Column]
) -> Column:
    from pyspark.sql import functions as F
    from pyspark.sql.types import StringType

    number = None if reading.form else as_number(text, StringType(), reading.configured)
    text = text if reading.is_plain and not reading.form else _canonical(text, reading.form)
    # digits of a local time as if they were UTC
    read = F.when(text.rlike(OFFSET) | text.rlike(LOCAL), text.try_cast("timestamp"))
    instant = F.when(text.rlike(LOCAL), F.to_utc_timestamp(read, zone)).otherwise(read)
    if number is not None and reading.unit:
        instant = F.coalesce(_from_number(number, reading.unit), instant)
        text = F.when(number.isNull(), text)
    day = F.when(text.rlike(DAY), text.try_cast("date"))
    if day_only:
        day = F.coalesce(day, F.from_utc_timestamp(instant, zone).cast("date"))
        return of_day(day, zone)
    return F.coalesce(of_day(day, zone), instant)


def _canonical(text: Column, form: str | None) -> Column:
    from pyspark.sql import functions as F

    def read(texts: pa.Array) -> pa.Array:
        return canonical_array(texts, form)

    return F.arrow_udf(read, "string")(text)
