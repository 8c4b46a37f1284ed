"""How the numbers and the texts of a source's columns of times are to be read: as configured, else as all of them say.

A number that counts from 1970 says its unit by its size: the years 2000 to 2100 are 946,684,800 to 4,133,980,799
seconds, and a thousand times as many of the next unit, so that no number is in them by two units. Without `time_unit` a
column is read only where every number in it is in them by the same one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from jobs.configuration.sections import SourceTable
from jobs.events import times
from jobs.events.places import SourceError
from jobs.events.times import PER_SECOND, Reading
from jobs.program import log

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

FIRST, LAST = 946_684_800, 4_133_980_800  # seconds: 2000-01-01 ≤ time < 2101-01-01
WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
MAYBE_ISO = r"^\d{4}(-?\d|-?W\d)"


def readings(frame: DataFrame, source: SourceTable, names: Iterable[str], setting: str) -> dict[str, Reading]:
    """Name → how the column of that name is read; of those of `names` that are there. One pass over the columns of
    numbers and texts whose form is not configured. setting: `source.events`, for messages.

    SourceError: numbers whose unit cannot be told.
    """
    from pyspark.sql.types import StringType

    found, open_ones = {}, {}
    for name in names:
        if name in frame.columns:
            unit, form = source.unit_of(name), source.form_of(name)
            found[name] = Reading(unit, unit is not None, form)
            if form is None and _says_no_more(frame, name):
                open_ones[name] = frame.schema[name].dataType
    if open_ones:
        counts = frame.agg(*(count for name, kind in open_ones.items() for count in _counts(name, kind))).first()
        for name, kind in open_ones.items():
            found[name] = _reading(counts.asDict(), name, not isinstance(kind, StringType), source, setting)
    return found


def unit_of_numbers(counts: Mapping[str, int]) -> str | None:
    """The one unit that puts all numbers into the years 2000 to 2100, of counts by unit and of `numbers` in all; None
    where there is not one such unit."""
    return next((unit for unit in PER_SECOND if counts[unit] and counts[unit] == counts["numbers"]), None)


def in_words(counts: Mapping[str, int]) -> str:
    """What the numbers may be, with how many of them."""
    said = [f"as {WORDS[unit]} in {counts[unit]:,} rows" for unit in PER_SECOND if counts[unit]]
    other = counts["numbers"] - sum(counts[unit] for unit in PER_SECOND)
    return ", ".join(said + ([f"in no unit in {other:,} rows"] if other else []))


def bounds(unit: str) -> tuple[int, int]:
    """first ≤ number < last of the years 2000 to 2100."""
    return FIRST * PER_SECOND[unit], LAST * PER_SECOND[unit]


def _says_no_more(frame: DataFrame, name: str) -> bool:
    """Whether the column's type leaves open what its values are."""
    from pyspark.sql import types as T

    return isinstance(frame.schema[name].dataType, (T.StringType, T.NumericType))


def _counts(name: str, kind: Any) -> list[Column]:
    from pyspark.sql import functions as F
    from pyspark.sql.types import StringType

    column = F.col(name)
    number = times.as_number(column, kind)
    counts = {"numbers": number.isNotNull()}
    for unit in PER_SECOND:
        first, last = bounds(unit)
        counts[unit] = (number >= first) & (number < last)
    if isinstance(kind, StringType):
        plain = column.rlike(times.DAY) | column.rlike(times.LOCAL) | column.rlike(times.OFFSET)
        counts["other"] = column.rlike(MAYBE_ISO) & ~plain & number.isNull()
    else:
        counts["other"] = F.lit(False)
    return [F.count_if(holds).alias(f"{name} {what}") for what, holds in counts.items()]


def _reading(row: Mapping[str, int], name: str, is_number: bool, source: SourceTable, setting: str) -> Reading:
    counts = {what: row[f"{name} {what}"] for what in ("numbers", "other", *PER_SECOND)}
    if configured := source.unit_of(name):
        return Reading(configured, True, None, not counts["other"])
    unit, is_plain = unit_of_numbers(counts), not counts["other"]
    if unit:
        log.info("%s: the numbers in %s are read as %s since 1970: all %s lie in 2000 to 2100 as such, and in no other "
                 "unit", source.path, source.theirs(name), WORDS[unit], f"{counts['numbers']:,}")
    elif counts["numbers"] and (is_number or any(counts[each] for each in PER_SECOND)):
        raise SourceError(undecided(source, name, counts, setting))
    return Reading(unit, False, None, is_plain)


def undecided(source: SourceTable, name: str, counts: Mapping[str, int], setting: str) -> str:
    """The message on numbers whose unit cannot be told."""
    return (
        f"{source.path}: the numbers of column {source.theirs(name)!r} (our {name!r}) lie in the years 2000 to 2100 "
        f"{in_words(counts)}; expected one unit for all. Say it: {setting}.time_unit: s, ms, us or ns since 1970; or "
        f"{setting}.time_format, as Python's strptime has it, such as '%Y%m%d'.")
