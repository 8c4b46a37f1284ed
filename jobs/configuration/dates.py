"""Which dates can be run: those given on a command line or as `dag.dates`, and what is said of one outside the data.

The night of date D knows the events of its window, from D − graph.window_days on, before 00:00 UTC of D.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Sequence

from jobs.configuration.messages import ConfigError, expect, shown
from jobs.configuration.ranges import EARLIEST, LATEST
from jobs.configuration.settings import Settings

DAY = datetime.timedelta(days=1)


def parse_dates(given: str) -> list[datetime.date]:
    """The dates of `2026-01-05,2026-01-12`, ascending; none of an empty text. ConfigError: one that is no date, that
    stands twice or before an earlier one: nights run in order, and each starts from the one before."""
    dates = [_parse_date(part.strip()) for part in given.split(",") if part.strip()]
    expect_order(dates, "DATES")
    return dates


def expect_order(dates: Sequence[datetime.date], name: str) -> None:
    """ConfigError unless every date is later than the one before it."""
    for former, date in itertools.pairwise(dates):
        if former == date:
            raise ConfigError(f"{name} holds {date} twice; expected every date once: take one out.")
        if former > date:
            raise ConfigError(f"{name} holds {former} before {date}; expected ascending dates: the oldest night first.")


def expect_possible(dates: Sequence[datetime.date], settings: Settings, name: str = "DATES") -> None:
    """ConfigError for a night that can know no event: all before it are rejected."""
    earliest = settings.events.earliest_event_time
    for date in dates:
        if date <= earliest:
            wanted = f"a date after events.earliest_event_time ({earliest}): events before that are rejected"
            raise ConfigError(f"{name} holds {date}; expected {wanted}. Choose later dates, or set it earlier.")


def advice(date: datetime.date, window_days: int, first: datetime.date, last: datetime.date) -> str:
    """What to do about a night without an event in its window, where the source's events run from day first to last."""
    if first >= date:
        return f"Choose a date after the data begins: {first + DAY} or later"
    begin = date - window_days * DAY
    if last < begin:
        return f"Choose a date before the data has left the window: {last + window_days * DAY} or earlier"
    return f"The source has a gap from {begin} on: choose another date, or a longer graph.window_days"


def _parse_date(text: str) -> datetime.date:
    wanted = f"dates such as 2026-01-05,2026-01-12, from {EARLIEST} to {LATEST}"
    try:
        date = datetime.date.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"DATES holds {shown(text)}; expected {wanted}.") from None
    return expect(EARLIEST <= date <= LATEST, date, "DATES", wanted)
