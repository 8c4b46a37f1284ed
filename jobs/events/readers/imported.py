"""What every reader gives, and how times of a source become UTC."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from jobs.events.read_events import REQUIRED
from jobs.tables import TABLES

DAY = datetime.timedelta(days=1)
MICROSECOND = datetime.timedelta(microseconds=1)


@dataclass(frozen=True)
class Imported:
    """Tables in our columns; what was left out, by reason; what had to be assumed or is not there."""

    events: pa.Table
    items: pa.Table | None = None
    users: pa.Table | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()


    def usable(self) -> Imported:
        """Without the events that lack what no event can lack; those are counted."""
        events, dropped = self.events, dict(self.dropped)
        for name in REQUIRED:
            if lacking := events[name].null_count:
                dropped[f"{name} is null"] = dropped.get(f"{name} is null", 0) + lacking
                events = events.filter(pc.is_valid(events[name]))
        return dataclasses.replace(self, events=events, dropped=dropped)


class Rows:
    """A pandas table of a source's rows; those that are dropped are counted, each under the first reason that holds."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame
        self.dropped: dict[str, int] = {}

    def drop(self, bad: pd.Series, reason: str) -> None:
        """Leave out the rows where `bad` holds."""
        self.dropped[reason] = int(bad.sum())
        self.frame = self.frame[~bad]


def events_table(columns: Mapping[str, pa.Array | pd.Series | np.ndarray | list]) -> pa.Table:
    """The columns of our events, those not given null (quantity: 1)."""
    n = len(columns["user_id"])
    arrays = []
    for one in TABLES["clean_events"].arrow_schema():
        values = columns.get(one.name, np.ones(n) if one.name == "quantity" else pa.nulls(n, one.type))
        is_arrow = isinstance(values, pa.Array)
        arrays.append(values.cast(one.type) if is_arrow else pa.array(values, one.type, from_pandas=True))
    return pa.Table.from_arrays(arrays, names=TABLES["clean_events"].columns)


def local_to_utc(times: pd.Series, zone: str) -> pd.Series:
    """Local times without offset as UTC, nulls kept.

    A time that does not exist (clocks forward) moves on by the gap, one that exists twice (clocks back) is the earlier:
    the rule of jobs/events/times.py, here by PEP 495 with fold = 0.
    """
    place = ZoneInfo(zone)

    def instant(local: pd.Timestamp) -> pd.Timestamp:
        return pd.Timestamp(local.to_pydatetime().replace(tzinfo=place).astimezone(datetime.UTC))

    known = {local: instant(local) for local in times.dropna().unique()}
    return times.map(known).astype("datetime64[us, UTC]")


def end_of_day(days: pd.Series, zone: str) -> pd.Series:
    """Dates as the last microsecond of that day in the zone, UTC."""
    return local_to_utc(pd.to_datetime(days) + DAY, zone) - MICROSECOND


def text_lists(texts: pd.Series, separator: str) -> pa.Array:
    """`a|b` → [a, b]; nulls stay."""
    lists = [None if pd.isna(text) else [part for part in text.split(separator) if part] for text in texts]
    return pa.array(lists, pa.list_(pa.string()))
