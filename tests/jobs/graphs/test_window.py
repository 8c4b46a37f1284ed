"""What a night may know: [D − window, D), to the microsecond."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from jobs.graphs.window import days_before, known_at
from jobs.program import midnight

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

D = datetime.date(2026, 3, 1)
TICK = datetime.timedelta(microseconds=1)
DAY = datetime.timedelta(days=1)


def test_the_window_ends_with_the_day_before_d() -> None:
    assert days_before(D, 3) == ["2026-02-26", "2026-02-27", "2026-02-28"]
    assert len(days_before(D, 45)) == 45


def test_an_event_at_midnight_of_d_is_not_known(spark: SparkSession) -> None:
    """Turns red with `<=` for `<` at D, and with `>` for `>=` at the window's start."""
    end, rows = midnight(D), []
    for behavior, days in (("view", 2), ("purchase", 5)):
        start = end - days * DAY
        rows += [
            (behavior, "out", end),
            (behavior, "out", end + TICK),
            (behavior, "in", end - TICK),
            (behavior, "in", start),
            (behavior, "out", start - TICK),
        ]
    rows.append(("unheard_of", "out", end - TICK))
    events = spark.createDataFrame(rows, "behavior string, wanted string, event_time timestamp")
    assert [row["wanted"] for row in known_at(events, D, {"view": 2, "purchase": 5}).collect()] == ["in"] * 4
