"""Texts of times in one form, plain Python: what ISO 8601 and strptime's forms have beyond what Spark reads itself.

`canonical` gives what Spark's own parsing and `datetime.fromisoformat` take alike: `2026-01-05`,
`2026-01-05 10:00:00.5`, and either time with an offset behind it.
"""

from __future__ import annotations

import datetime
import functools
import re

import pyarrow as pa

ISO = re.compile(
    r"(?P<date>\d{4}-\d{2}-\d{2}|\d{8}|\d{4}-?\d{3}|\d{4}-W\d{2}-\d|\d{4}W\d{3})"
    r"(?:[Tt ](?P<time>\d{2}(?::\d{2}(?::\d{2}(?:[.,]\d+)?)?)?|\d{4}(?:\d{2}(?:[.,]\d+)?)?)"
    r"(?: ?(?P<offset>[Zz]|UTC|GMT|[+-]\d{2}(?::?\d{2})?))?)?",
    re.ASCII,
)
MIDNIGHT = re.compile(r"24(:?00){0,2}([.,]0+)?")
ORDINAL = re.compile(r"(\d{4})-?(\d{3})")
OF_DAY = re.compile(r"%-?[HIMSfTRcXprs]")  # directives that say more than the day
MOST_OF_FORM = 40  # characters


@functools.lru_cache(maxsize=100_000)
def canonical(text: str, form: str | None = None) -> str | None:
    """The time of a text in ISO 8601, or in `form` (strptime) where one is given; None where it is none."""
    try:
        return _in_form(text, form) if form else _iso(text)
    except (ValueError, OverflowError):
        return None


def canonical_array(texts: pa.Array, form: str | None) -> pa.Array:
    """The same of many."""
    found = [None if text is None else canonical(text, form) for text in texts.to_pylist()]
    return pa.array(found, pa.string())


def form_of(text: str) -> str:
    """What a text looks like, digits as 9 and letters as a: nothing of what it says."""
    shown = "".join("9" if c.isdigit() else "a" if c.isalpha() else c if c.isprintable() else "?" for c in text)
    return shown if len(shown) <= MOST_OF_FORM else f"{shown[:MOST_OF_FORM]}…"


def _in_form(text: str, form: str) -> str:
    time = datetime.datetime.strptime(text, form)
    return str(time) if OF_DAY.search(form.replace("%%", "")) else str(time.date())


def _iso(text: str) -> str | None:
    found = ISO.fullmatch(text)
    if found is None:
        return None
    day, time, offset = _day(found["date"]), found["time"], found["offset"] or ""
    if time is None:
        return day.isoformat()
    if MIDNIGHT.fullmatch(time):
        day, time = day + datetime.timedelta(days=1), "00"
    zone = "Z" if offset in ("UTC", "GMT") else offset.upper()
    basic = time.replace(":", "") + zone.replace(":", "")
    return str(datetime.datetime.fromisoformat(f"{day:%Y%m%d}T{basic}"))


def _day(text: str) -> datetime.date:
    ordinal = ORDINAL.fullmatch(text)
    if ordinal is None:
        return datetime.date.fromisoformat(text)
    day = datetime.date(int(ordinal[1]), 1, 1) + datetime.timedelta(days=int(ordinal[2]) - 1)
    if f"{day:%Y%j}" != ordinal[1] + ordinal[2]:
        raise ValueError(f"no such day: {form_of(text)}")
    return day
