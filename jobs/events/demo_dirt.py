"""What is wrong with the demo's log, as with every log: unusable rows, repeats, ids that try to break things."""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa

UNKNOWN_ITEMS, UNKNOWN_USERS = 15, 40  # in the log, but neither in the catalogue nor in the table of users
REPEATS = 150  # rows that come a second time, later, under the same event_id
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

# column → value: each spoils so many rows
SPOILT: tuple[tuple[str, object, int], ...] = (
    ("user_id", None, 10),
    ("item_id", None, 6),
    ("user_id", "u" * 1025, 4),
    ("user_id", "user-\0-nul", 4),
    ("event_time", None, 6),
    ("event_time", EPOCH, 8),
    ("behavior", "hover", 14),
    ("value", float("nan"), 6),
    ("quantity", float("inf"), 4),
)
ROWS = REPEATS + sum(count for _, _, count in SPOILT)

HOSTILE = (
    "<script>alert(1)</script>",
    "=1+1",
    '"quoted", comma',
    "../../etc/passwd",
    "a/b\\c",
    "line\nbreak",
    "\u202eright-to-left",
    " padded ",
    "'; DROP TABLE users; --",
    "%7Bpercent%7D",
    "naïve-é",
    "nai\u0308ve-e\u0301",
    "null",
    "+48 123",
    "@sum",
    "日本語",
    "a=b",
    ".",
    "\t",
)


def hostile(ids: list[str], rng: np.random.Generator) -> list[str]:
    """The ids, a few of them replaced by usable ones that break careless code."""
    replaced = list(ids)
    for position, name in zip(rng.choice(len(ids), len(HOSTILE), replace=False), HOSTILE, strict=True):
        replaced[position] = name
    return replaced


def spoil(events: pa.Table, rng: np.random.Generator) -> pa.Table:
    """The events and `ROWS` bad ones among them."""
    rows = [events]
    for column, value, count in SPOILT:
        copies = _copies(events, rng, count, f"bad-{column}-{len(rows)}-")
        position = events.schema.get_field_index(column)
        rows.append(
            copies.set_column(
                position, events.schema.field(position), pa.array([value] * count, events.schema.field(position).type)
            )
        )
    rows.append(_repeats(events, rng))
    table = pa.concat_tables(rows)
    return table.take(
        np.argsort(np.concatenate([np.arange(events.num_rows), rng.integers(0, events.num_rows, ROWS)]), kind="stable")
    )


def _copies(events: pa.Table, rng: np.random.Generator, count: int, prefix: str) -> pa.Table:
    chosen = events.take(np.sort(rng.choice(events.num_rows, count, replace=False)))
    position = chosen.schema.get_field_index("event_id")
    return chosen.set_column(position, chosen.schema.field(position), pa.array([f"{prefix}{i}" for i in range(count)]))


def _repeats(events: pa.Table, rng: np.random.Generator) -> pa.Table:
    """The same events, taken in a minute later."""
    again = events.take(np.sort(rng.choice(events.num_rows, REPEATS, replace=False)))
    position = again.schema.get_field_index("ingested_at")
    later = pa.array(
        np.asarray(again["ingested_at"].to_numpy()) + np.timedelta64(60, "s"), again.schema.field(position).type
    )
    return again.set_column(position, again.schema.field(position), later)
