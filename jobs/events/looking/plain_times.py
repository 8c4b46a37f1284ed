"""Times of a sample as UTC, without Spark: what times.py and epochs.py say, value by value."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from zoneinfo import ZoneInfo

from jobs.configuration.sections import SourceTable
from jobs.events import epochs
from jobs.events.places import SourceError
from jobs.events.time_texts import canonical
from jobs.events.times import BASIC_DAY, MAX_MICROS, NUMBER, PER_SECOND, Reading

DAY = datetime.timedelta(days=1)
MICROSECOND = datetime.timedelta(microseconds=1)
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def reading_of(values: Iterable[object], source: SourceTable, name: str, setting: str) -> Reading:
    """How the values of our column `name` are to be read. SourceError: numbers of several units, or of none."""
    unit, form = source.unit_of(name), source.form_of(name)
    if unit or form:
        return Reading(unit, unit is not None, form)
    counts = dict.fromkeys((*PER_SECOND, "numbers"), 0)
    is_number = False
    for value in values:
        number = as_number(value, False)
        if number is not None:
            is_number |= not isinstance(value, str)
            counts["numbers"] += 1
            for each in PER_SECOND:
                first, last = epochs.bounds(each)
                counts[each] += first <= number < last
    found = epochs.unit_of_numbers(counts)
    if not found and counts["numbers"] and (is_number or any(counts[each] for each in PER_SECOND)):
        raise SourceError(epochs.undecided(source, name, counts, setting))
    return Reading(found)


def as_number(value: object, configured: bool) -> Decimal | None:
    """The number that a value is; None where it is none."""
    if isinstance(value, str):
        if not re.match(NUMBER, value, re.ASCII) or (not configured and re.match(BASIC_DAY, value, re.ASCII)):
            return None
    elif isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def moment(
    value: object, reading: Reading, zone: str, day_only: bool = False, is_local: bool = True
) -> datetime.datetime | None:
    """The time of a value in UTC; None where it is none. is_local: a timestamp without a zone is one of `zone`."""
    try:
        return _moment(value, reading, place_of(zone), day_only, is_local)
    except (ValueError, OverflowError):
        return None


def place_of(zone: str) -> datetime.tzinfo:
    """A zone, or an offset such as +01:00."""
    if zone[0] in "+-":
        return datetime.datetime.strptime(zone, "%z").tzinfo
    return ZoneInfo(zone)


def _moment(
    value: object, reading: Reading, place: datetime.tzinfo, day_only: bool, is_local: bool
) -> datetime.datetime | None:
    if value is None:
        return None
    if isinstance(value, datetime.datetime):
        found = value if value.tzinfo or not is_local else value.replace(tzinfo=place)
        found = found if found.tzinfo else found.replace(tzinfo=datetime.UTC)
    elif isinstance(value, datetime.date):
        return _end(value, place)
    else:
        text = str(value) if reading.form else value
        number = None if reading.form else as_number(value, reading.configured)
        if number is not None:
            found = _from_number(number, reading.unit)
        else:
            written = canonical(text, reading.form) if isinstance(text, str) else None
            if written is None:
                return None
            if len(written) == len("2026-01-05"):
                return _end(datetime.date.fromisoformat(written), place)
            found = datetime.datetime.fromisoformat(written)
            found = found if found.tzinfo else found.replace(tzinfo=place)
        if found is None:
            return None
    if day_only:
        return _end(found.astimezone(place).date(), place)
    return found.astimezone(datetime.UTC)


def _from_number(number: Decimal, unit: str | None) -> datetime.datetime | None:
    if unit is None:
        return None
    if abs(number) >= MAX_MICROS * PER_SECOND[unit] // 1_000_000:
        return None  # beyond Python's years, and perhaps beyond what it counts with
    micros = int((number * 1_000_000 / PER_SECOND[unit]).to_integral_value("ROUND_FLOOR"))
    return EPOCH + datetime.timedelta(microseconds=micros)


def _end(day: datetime.date, place: datetime.tzinfo) -> datetime.datetime:
    midnight = datetime.datetime.combine(day + DAY, datetime.time(), place)
    return midnight.astimezone(datetime.UTC) - MICROSECOND
