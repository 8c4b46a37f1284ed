"""HUGT's section of the page: how well the next event is foretold, by how many events a history has: the last events
of users who were held out of training, among all items."""

from __future__ import annotations

from typing import Any

from jobs.report.night import Night

ANCHOR, NAME, TEMPLATE = "next_events", "Next events", "hugt_lengths.html.jinja"

Row = dict[str, Any]


def shown(night: Night) -> Row:
    """What the template reads: a row for each group of histories."""
    stage = night["train_hugt"]
    rows = [row | {"events": events_of(row)} for row in stage.table("by_length")]
    return {"stage": stage, "rows": rows, "users": sum(row["users"] for row in rows)}


def events_of(row: Row) -> str:
    """How many events a group's histories have, in words."""
    least, most = row["from"], row["to"]
    return f"{least} or more" if not most else str(least) if least == most else f"{least} to {most}"
