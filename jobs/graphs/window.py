"""The events that a night's graph may see: those of [D − window, D), and none from 00:00 UTC of D on."""

from __future__ import annotations

import datetime
import functools
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs.events.returns import applied
from jobs.program import Input, JobError, midnight
from jobs.side_by_side import each
from jobs.spark import read

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


@dataclass(frozen=True)
class Window:
    """The committed days before D. `inputs` (day → content hash) and `files` are of the same versions."""

    date: datetime.date
    days: list[str]
    files: list[str]  # without those of empty days
    rows: int
    inputs: dict[str, str]

    @property
    def fields(self) -> dict:
        """What manifests say of it."""
        return {"days": len(self.days), "from": self.days[0], "before": self.date.isoformat()}


def days_before(date: datetime.date, window_days: int) -> list[str]:
    """The days of [D − window, D), ascending."""
    return [(date - datetime.timedelta(days=n)).isoformat() for n in range(window_days, 0, -1)]


def open_window(clean_events: Input, date: datetime.date, window_days: int) -> Window:
    """The window's days as they are committed now. JobError: a day was never committed, or no day holds an event."""
    table, days = clean_events.table(), days_before(date, window_days)
    manifests = dict(zip(days, each(table.disk, table.manifest, days), strict=True))
    missing = [day for day, manifest in manifests.items() if manifest is None]
    if missing:
        raise JobError(
            f"{table.uri} has no partition for {len(missing)} of the {window_days} days before {date} ({missing[0]} "
            f"to {missing[-1]}); "
            f"expected every day of the window, also empty ones. Run jobs.events.validate_events for {date} first."
        )
    rows = sum(manifest.row_count for manifest in manifests.values())
    if not rows:
        raise JobError(
            f"No event in the window from {days[0]} until before {date} in {table.uri}; expected at least one. "
            "Check the date, source.events.path and graph.window_days, and what validate_events rejected."
        )
    each(table.disk, lambda day: table.check_frames(day, manifests[day]), days)
    files = [
        f"{table.path(day)}/{file.name}"
        for day, manifest in manifests.items()
        for file in manifest.files
        if manifest.row_count
    ]
    return Window(date, days, files, rows, {day: manifest.content_hash for day, manifest in manifests.items()})


def read_events(spark: SparkSession, window: Window, contract_of: Input, returns: str) -> DataFrame:
    """All events of the window's days that count, by `events.returns`."""
    disk = contract_of.table().disk
    return applied(read(spark, disk, window.files, contract_of.contract), returns)


def known_at(events: DataFrame, date: datetime.date, window_days: Mapping[str, int]) -> DataFrame:
    """The events of the named behaviours with event_time in [D − the behaviour's window, D)."""
    from pyspark.sql import functions as F

    time = F.col("event_time")
    since = {name: F.lit(midnight(date - datetime.timedelta(days=days))) for name, days in window_days.items()}
    wanted = [(F.col("behavior") == name) & (time >= start) for name, start in since.items()]
    return events.where(time < F.lit(midnight(date))).where(functools.reduce(operator.or_, wanted))
