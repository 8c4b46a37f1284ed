"""What the values of a column look like: a time and in which form, a list in a text, an id, a code, a number."""

from __future__ import annotations

import datetime
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from jobs.events import epochs
from jobs.events.looking.plain_times import as_number
from jobs.events.time_texts import canonical, form_of
from jobs.events.times import PER_SECOND

MOST_VALUES = 5_000  # of a column that are looked at
MOST = 0.95  # of the values that have to be of a kind
OLDEST = 157_766_400  # seconds: 1975, of a column that is called like one of times
OWN, FEW = 0.9, 1_000  # share of different values of an id; number of different values of a code
SEPARATORS = ("|", ";", ",", "/", " ")
COMMA = r"\s*[-+]?\d+(,\d+)?\s*"  # three digits behind it alone may be thousands
FORMS = tuple(
    day + time for day, time in itertools.product(
        ("%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y%m%d", "%d %b %Y", "%b %d %Y",
         "%d/%b/%Y"),
        (" %H:%M:%S", " %H:%M", "", " %I:%M %p", " %I:%M:%S %p", ":%H:%M:%S %z", "%H%M%S")))


@dataclass(frozen=True)
class Look:
    """kind: time, number, list, id, code, text or nothing; words: what is said of it."""

    kind: str
    words: str
    values: int = 0  # different ones among those looked at
    unit: str | None = None  # of times: of numbers since 1970
    is_old: bool = False  # of times: some are before 2000, so that the unit has to be said
    form: str | None = None  # of times that are neither ISO 8601 nor numbers since 1970
    separator: str | None = None  # of lists
    decimal: str = "."  # of numbers in texts


def look_at(values: Sequence[Any], is_time: bool = False) -> Look:
    """values: those that are there. is_time: the column is called like one of times."""
    values = values[:: max(1, len(values) // MOST_VALUES)][:MOST_VALUES]
    if not values:
        return Look("nothing", "nothing in it")
    if all(isinstance(value, (datetime.datetime, datetime.date)) for value in values):
        return Look("time", "times")
    if all(isinstance(value, (list, dict)) for value in values):
        return Look("list" if isinstance(values[0], list) else "nested", "lists" if isinstance(values[0], list) else
                    "values within values")
    texts = [str(value) for value in values]
    different = len(set(texts))
    return _time(texts, different, is_time) or _list(texts, different) or _plain(values, texts, different)


def examples(values: Sequence[Any], most: int = 3) -> list[str]:
    """What the most frequent forms of the values look like: digits as 9, letters as a."""
    counts = Counter(form_of(str(value)) for value in values[:MOST_VALUES])
    return [form for form, _ in counts.most_common(most)]


def _share(holds: Sequence[bool]) -> float:
    return sum(holds) / len(holds)


def _time(texts: Sequence[str], different: int, is_time: bool) -> Look | None:
    numbers = [as_number(text, False) for text in texts]
    for unit in PER_SECOND:
        first, last = epochs.bounds(unit)
        if _share([number is not None and first <= number < last for number in numbers]) >= MOST:
            return Look("time", f"{epochs.WORDS[unit]} since 1970", different, unit=unit)
        if is_time and _share([number is not None and OLDEST * PER_SECOND[unit] <= number < last
                               for number in numbers]) >= MOST:
            words = f"{epochs.WORDS[unit]} since 1970, some before 2000"
            return Look("time", words, different, unit=unit, is_old=True)
    if not all(len(text) <= 8 and text.isdigit() for text in texts) and _share(
            [canonical(text) is not None for text in texts]) >= MOST:
        return Look("time", "times in ISO 8601", different)
    some = list(dict.fromkeys(texts))[:50]
    fitting = [form for form in FORMS if _plausible(some, form)]
    fitting = [form for form in fitting if _plausible(texts, form)]
    if not fitting:
        return None
    other = f", or as {fitting[1]!r}: which, only you know" if len(fitting) > 1 else ""
    return Look("time", f"times as {fitting[0]!r}{other}", different, form=fitting[0])


def _plausible(texts: Sequence[str], form: str) -> bool:
    """Whether nearly all are times in the form, of 1990 to 2100."""
    found = [canonical(text, form) for text in texts]
    return _share([time is not None and "1990" <= time[:4] < "2101" for time in found]) >= MOST


def _list(texts: Sequence[str], different: int) -> Look | None:
    """A list: many cells are cut, and their parts come again more often than the cells do."""
    for separator in SEPARATORS:
        cut = [text.split(separator) for text in texts]
        lengths = {len(parts) for parts in cut if len(parts) > 1}
        if _share([len(parts) > 1 for parts in cut]) < 0.1:
            continue
        if separator not in "|;" and len(lengths) == 1:
            continue  # always as many parts: a name or a date, and no list
        parts = Counter(part for one in cut for part in one)
        short = sum(len(part) for part in parts) / len(parts) <= 25
        fewer = separator in "|;" or len(parts) <= 0.5 * different  # the others stand in names as well
        if short and fewer and parts.total() >= 4 * len(parts):
            words = f"lists, cut at {separator!r}: {len(parts):,} values"
            return Look("list", words, different, separator=separator)
    return None


def _plain(values: Sequence[Any], texts: Sequence[str], different: int) -> Look:
    is_number = [as_number(value, True) is not None and not isinstance(value, bool) for value in values]
    own = len(texts) >= 20 and different >= OWN * len(texts)
    points = any(isinstance(value, (float, Decimal)) or isinstance(value, str) and "." in value for value in values)
    numbers = [as_number(value, True) for value in values]
    whole = all(number is None or number == number.to_integral_value() for number in numbers)
    commas = [re.fullmatch(COMMA, text) for text in texts]
    if any(found and len(found[1] or "") not in (0, 4) for found in commas) and _share([*map(bool, commas)]) >= MOST:
        return Look("number", f"numbers with a decimal comma, {different:,} different", different, decimal=",")
    if _share(is_number) >= MOST and points and whole and different <= FEW:
        words = f"whole numbers with a decimal point, {different:,} different: codes, or amounts"
        return Look("code", words, different)
    if _share(is_number) >= MOST and points:
        return Look("number", f"numbers, {different:,} different", different)
    if own:
        longest = max(len(text) for text in texts)
        words = "texts, nearly all different" if longest > 60 else "ids: nearly all different"
        return Look("text" if longest > 60 else "id", words, different)
    if different <= FEW and all(re.fullmatch(r"\S{0,12}", text) for text in texts):
        return Look("code", f"codes: {different:,} different", different)
    if different <= FEW and max(len(text) for text in texts) <= 60 and not all(is_number):
        return Look("code", f"names: {different:,} different", different)
    if _share(is_number) >= MOST:
        return Look("number", f"numbers, {different:,} different", different)
    return Look("text", f"texts, {different:,} different", different)
