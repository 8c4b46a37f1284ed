"""What a night would make of a sample's rows, without Spark: what read_events.py and judge.py say, row by row."""

from __future__ import annotations

import datetime
import math
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from jobs.configuration.sections import Events
from jobs.events import judge
from jobs.events.looking.plain_times import moment, reading_of
from jobs.events.looking.sample import Sample
from jobs.events.read_events import NUMBERS, TEXTS, TIMES, check_parquet_columns, columns_of
from jobs.events.read_source import MAX_ID_BYTES
from jobs.events.time_texts import form_of
from jobs.events.times import Reading
from jobs.program import midnight


@dataclass
class Judged:
    """Counts over a sample; times in UTC."""

    columns: dict[str, str]  # ours → the source's
    rows: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    forms: Counter[str] = field(default_factory=Counter)  # of times that cannot be read
    number_forms: Counter[str] = field(default_factory=Counter)  # of numbers that are none
    behaviors: Counter[str] = field(default_factory=Counter)  # of all rows, those of unknown behaviour as well
    holders: dict[tuple[str, ...], set[tuple[str, ...]]] = field(default_factory=dict)  # of an event_id: user and item
    returns: int = 0
    first: datetime.datetime | None = None
    last: datetime.datetime | None = None
    clocks: set[datetime.time] = field(default_factory=set)  # times of day, in UTC; three of them say no more than many
    days: Counter[str] = field(default_factory=Counter)
    users: dict[str, set[str]] = field(default_factory=dict)  # by day
    items: dict[str, set[str]] = field(default_factory=dict)
    readings: dict[str, Reading] = field(default_factory=dict)

    @property
    def rejected(self) -> int:
        return sum(self.reasons.values())

    @property
    def shared(self) -> int:
        """As judge.sharing_ids."""
        return sum(len(pairs) - 1 for pairs in self.holders.values())

    def distinct(self, of: dict[str, set[str]]) -> int:
        return len(set().union(*of.values())) if of else 0


def judged(sample: Sample, events: Events | None, purchase: str, setting: str = "source.events") -> Judged:
    """Every row of the sample, whatever its date. events: none where the behaviours are not known. SourceError: a
    column is missing, or of a type that none can be of."""
    source = sample.source
    columns = columns_of(source, sample.looked_at)
    if source.file_format == "parquet":
        check_parquet_columns(sample.looked_at, columns)
    found = Judged(columns)
    rows = [(problem, {ours: row.get(theirs) for ours, theirs in columns.items()} | source.constants)
            for problem, row in sample.rows]
    for name in TIMES:
        values = (row[name] for _, row in rows if row.get(name) is not None)
        found.readings[name] = reading_of(values, source, name, setting)
    earliest = midnight(events.earliest_event_time) if events else None
    for problem, row in rows:
        found.rows += 1
        _judge(found, problem, row, sample, events and events.behaviors, earliest, purchase, setting != "source.events")
    return found


def _judge(
    found: Judged, problem: str | None, row: dict[str, Any], sample: Sample, behaviors: Collection[str] | None,
    earliest: datetime.datetime | None, purchase: str, several: bool,
) -> None:
    texts, broken = _texts(row, sample.source.encoding)
    texts["behavior"] = sample.source.behaviors.get(texts["behavior"], texts["behavior"])
    times = {name: _time(row.get(name), name, found, sample) for name in TIMES}
    numbers = {name: _number(row.get(name), sample.source.decimal) for name in NUMBERS}
    if texts["behavior"] is not None:
        found.behaviors[texts["behavior"]] += 1
    time = times["event_time"]
    reason = problem or broken or _reason(row, texts, times, numbers, behaviors, earliest)
    if reason:
        found.reasons[reason] += 1
        if reason == judge.UNPARSEABLE:
            found.forms[form_of(str(row["event_time"]))] += 1
        if reason.endswith(judge.NO_NUMBER):
            found.number_forms[form_of(str(row[reason.split()[0]]))] += 1
        return
    day = time.date().isoformat()
    found.first, found.last = min(found.first or time, time), max(found.last or time, time)
    if len(found.clocks) < 3:
        found.clocks.add(time.time())
    found.days[day] += 1
    found.users.setdefault(day, set()).add(texts["user_id"])
    found.items.setdefault(day, set()).add(texts["item_id"])
    if texts["event_id"] is not None:
        key = (day, texts["event_id"], *[texts["behavior"]] * several)
        found.holders.setdefault(key, set()).add((texts["user_id"], texts["item_id"]))
    quantity, value = numbers["quantity"] or 0, numbers["value"] or 0
    found.returns += quantity < 0 or (value < 0 and texts["behavior"] == purchase)


def _reason(
    row: dict[str, Any], texts: dict[str, str | None], times: dict[str, datetime.datetime | None],
    numbers: dict[str, float | None], behaviors: Collection[str] | None, earliest: datetime.datetime | None,
) -> str | None:
    """As judge.py has them, in its order."""
    time, behavior = times["event_time"], texts["behavior"]
    if time is None:
        return "event_time is null" if row.get("event_time") is None else judge.UNPARSEABLE
    if earliest and time < earliest:
        return f"event_time before {earliest.date()}"
    for name in ("user_id", "item_id"):
        if problem := _unusable_id(name, texts[name]):
            return problem
    if behavior is None:
        return "behavior is null"
    if behaviors is not None and behavior not in behaviors:
        return "unknown behavior"
    for name in NUMBERS:
        if row.get(name) is not None and numbers[name] is None:
            return f"{name} {judge.NO_NUMBER}"
        if numbers[name] is not None and not abs(numbers[name]) <= judge.MAX_FLOAT32:
            return f"{name} is not finite"
    if texts["event_id"] is not None and (problem := _unusable_id("event_id", texts["event_id"])):
        return problem
    if row.get("ingested_at") is not None and times["ingested_at"] is None:
        return "unparseable ingested_at"
    return None


def _texts(row: dict[str, Any], encoding: str) -> tuple[dict[str, str | None], str | None]:
    """(ids and behaviour as texts, what of the row is no text of the encoding)."""
    texts, broken = {}, None
    for name, value in row.items():
        if isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
            broken = broken or f"{name} is not valid {encoding.upper()}"
    for name in TEXTS:
        value = row.get(name)
        texts[name] = value if value is None or isinstance(value, str) else str(value)
    return texts, broken


def _unusable_id(name: str, text: str | None) -> str | None:
    if text is None:
        return f"{name} is null"
    if len(text.encode("utf-8", "surrogatepass")) > MAX_ID_BYTES:
        return f"{name} is longer than {MAX_ID_BYTES} bytes"
    return f"{name} holds NUL" if "\0" in text else None


def _time(value: Any, name: str, found: Judged, sample: Sample) -> datetime.datetime | None:
    is_local = found.columns.get(name) not in sample.instants
    source = sample.source
    return moment(value, found.readings[name], source.timezone, source.day_only and name == "event_time", is_local)


def no_numbers(values: Collection[Any], decimal: str) -> list[str]:
    """Of an attribute of numbers the texts that stop a night (jobs/graphs/catalogue.py); blank ones are none given."""
    texts = [value.strip(" ") for value in values if isinstance(value, str)]
    return [text for text in texts if text and _number(text, decimal) is None]


def _number(value: Any, decimal: str) -> float | None:
    if isinstance(value, str) and decimal == ",":
        value = None if "." in value else value.replace(",", ".")
    try:
        return None if value is None or isinstance(value, bool) else float(value)
    except (ValueError, TypeError, OverflowError):
        return math.inf if isinstance(value, int) else None
