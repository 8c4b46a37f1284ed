"""What a night makes of returns: the one place that decides it, for graphs, labels and columns alike.

A return is a row of `clean_events` with a negative quantity (judge.py sees to it). `events.returns` says what it means:
- drop: nothing; it is as if it were not there.
- cancel: it takes back the latest earlier event of the same user, item and behaviour that none has taken back yet, and
  counts as nothing itself. One without such an event takes back nothing.
- keep: it is an event like any other, of negative money.

Decided from the rows before D alone: a return of D or later takes nothing back. A night that asks what was known on an
earlier day (a label window's start) decides it from the rows before that day: `as_of`, `with_returns`. Reading from any
day on gives the same as reading all: what lies before that day is taken back last. At equal times a return follows what
it takes back, as on days whose events are known to the day only.

Rows of one user, item and behaviour in that order are brackets: an event opens one, a return closes the last that is
open. Whole events are taken back, whatever the quantities: a return of one takes back a purchase of three.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from feature_store import Table
from jobs.program import Input

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

EPOCH = datetime.date(1970, 1, 1)
DROP, CANCEL, KEEP = "drop", "cancel", "keep"
COUNT = "returns"  # of a day's rows, in its manifest
NEVER = np.iinfo(np.int32).max  # the day, since 1970, of a return that has not come
KEY = ["user_id", "item_id", "behavior"]
ORDER = ["event_time", "quantity", "value", "event_id"]  # quantity descending: events before returns


def counted(clean_events: Input, date: datetime.date, returns: str) -> Input:
    """The same table for the night of `date`, without what does not count: a reader of days reads it instead."""
    return clean_events if returns == KEEP else Counted(clean_events.name, clean_events.uri, date, returns)


def as_of(clean_events: Input, date: datetime.date) -> Input:
    """What counted on an earlier day than the night's: its rows, but those from the day on take nothing back."""
    return clean_events.as_of(date) if isinstance(clean_events, Counted) else clean_events


def takes_back(clean_events: Input) -> bool:
    """Whether any event is taken back before the night's date."""
    return isinstance(clean_events, Counted) and bool(clean_events.matched)


def with_returns(clean_events: Input, day: str, columns: list[str]) -> tuple[pa.Table, np.ndarray]:
    """(the events of a day, taken back or not; int32 for each the day since 1970 of the return that takes it back).

    NEVER where none does before the night's date. With `events.returns` other than `cancel` none ever does.
    """
    numbers, returned = clean_events.matched.get(day, _NONE) if isinstance(clean_events, Counted) else _NONE
    if not len(numbers):
        rows = clean_events.table().read(day, columns)
        return rows, np.full(rows.num_rows, NEVER, np.int32)
    rows = Input.table(clean_events).read(day, list(dict.fromkeys([*columns, "quantity"])))
    until = np.full(rows.num_rows, NEVER, np.int32)
    until[numbers] = returned
    is_event = pc.greater_equal(rows.column("quantity"), 0)
    return rows.filter(is_event).select(columns), until[is_event.to_numpy()]


_NONE = np.zeros(0, np.int64), np.zeros(0, np.int32)


@dataclasses.dataclass(frozen=True)
class Counted(Input):
    """`clean_events` as the night of `date` counts them."""

    date: datetime.date
    returns: str

    def table(self, name: str | None = None) -> Table:
        plain = super().table(name)
        return CountedDays(plain, self)

    def as_of(self, date: datetime.date) -> Counted:
        """What `as_of` says. What takes back what is found once for all days."""
        found = dataclasses.replace(self, date=min(date, self.date))
        before = (found.date - EPOCH).days
        known = {day: (numbers[returned < before], returned[returned < before])
                 for day, (numbers, returned) in self.matched.items()}
        found.__dict__["matched"] = {day: pair for day, pair in known.items() if len(pair[0])}
        return found

    @functools.cached_property
    def matched(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Day → (numbers of its rows that are taken back, int32 the days since 1970 of the returns that do so), of days
        with any; before the night's date."""
        return taken_back(super().table(), self.date) if self.returns == CANCEL else {}

    @property
    def taken_back(self) -> dict[str, np.ndarray]:
        """Day → the numbers of its rows that are taken back, of days with any."""
        return {day: numbers for day, (numbers, _) in self.matched.items()}


class CountedDays(Table):
    """The days of `Counted`."""

    def __init__(self, plain: Table, counted: Counted) -> None:
        self.__dict__.update(plain.__dict__)
        self._plain, self._counted = plain, counted

    def read(self, value: str, columns: list[str] | None = None, filter: pc.Expression | None = None) -> pa.Table:
        """The rows of a day that count."""
        count, gone = pc.field("quantity") >= 0, self._counted.taken_back.get(value)
        if gone is None:
            if not returns_of(self._plain, value):
                return self._plain.read(value, columns, filter)
            return self._plain.read(value, columns, count if filter is None else count & filter)
        rows = self._plain.read(value)
        left = np.ones(rows.num_rows, bool)
        left[gone] = False
        rows = rows.filter(pa.array(left)).filter(count if filter is None else count & filter)
        return rows if columns is None else rows.select(columns)


def returns_of(table: Table, day: str) -> int:
    """How many returns a committed day holds."""
    known = table.existing_manifest(day).fields.get(COUNT)
    if known is not None:
        return known
    return table.read(day, ["quantity"], pc.field("quantity") < 0).num_rows


def taken_back(table: Table, date: datetime.date) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Day → (numbers of the rows that returns before `date` take back, the days since 1970 of these returns)."""
    days = [day for day in table.values() if day < date.isoformat()]
    holders = [day for day in days if returns_of(table, day)]
    if not holders:
        return {}
    of_return = pa.concat_tables(table.read(day, KEY, pc.field("quantity") < 0) for day in holders)
    keys = of_return.group_by(KEY).aggregate([])
    rows = pa.concat_tables(_candidates(table, day, keys) for day in days[: days.index(holders[-1]) + 1])
    order = [(name, "descending" if name == "quantity" else "ascending", "at_start") for name in [*KEY, *ORDER]]
    rows = rows.take(pc.sort_indices(rows, sort_keys=order))
    gone, by = _pairs(rows)
    days_of, numbers = rows.column("day").to_numpy(), rows.column("row").to_numpy()[gone]
    returned = days_of[by].astype("datetime64[D]").astype(np.int32)
    return {day: (numbers[mine], returned[mine]) for day in np.unique(days_of[gone]) for mine in [days_of[gone] == day]}


def _candidates(table: Table, day: str, keys: pa.Table) -> pa.Table:
    """A day's rows of those users, items and behaviours, with the day and their numbers in it."""
    rows = table.read(day, [*KEY, *ORDER])
    rows = rows.append_column("row", pa.array(np.arange(rows.num_rows)))
    rows = rows.filter(pc.is_in(rows.column("user_id"), value_set=keys.column("user_id").combine_chunks()))
    chosen = rows.join(keys, KEY, join_type="left semi")
    return chosen.append_column("day", pa.repeat(pa.scalar(day), chosen.num_rows))


def _pairs(rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """(places of the events that are taken back, for each the place of the return that does it). Rows in order, by key.

    How many are open, with the event or the return itself, is its level: what follows an event on its level is what
    closes it, since nothing else opens there before.
    """
    frame = rows.select([*KEY, "quantity"]).to_pandas()
    group = frame.groupby(KEY, sort=False).ngroup().to_numpy()
    opens = frame["quantity"].to_numpy() >= 0
    total = pd.Series(np.where(opens, 1, -1)).groupby(group).cumsum()
    depth = (total - total.groupby(group).cummin().clip(upper=0)).to_numpy()
    level = np.where(opens, depth, depth + 1)
    order = np.lexsort((level, group))
    here, after = order[:-1], order[1:]
    met = opens[here] & (group[here] == group[after]) & (level[here] == level[after])
    return here[met], after[met]


def applied(events: DataFrame, returns: str) -> DataFrame:
    """The rows that count, of all rows of a window before D, on Spark."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    count = F.col("quantity") >= 0
    if returns == KEEP:
        return events
    if returns == DROP:
        return events.where(count)
    keys = events.where(~count).select(*KEY).distinct()
    order = Window.partitionBy(*KEY).orderBy(*(F.desc(n) if n == "quantity" else F.asc(n) for n in ORDER))
    so_far = order.rowsBetween(Window.unboundedPreceding, 0)
    from_here = order.rowsBetween(0, Window.unboundedFollowing)
    rows = events.join(keys, KEY, "left_semi")
    rows = rows.withColumn("_total", F.sum(F.when(count, 1).otherwise(-1)).over(so_far))
    rows = rows.withColumn("_depth", F.col("_total") - F.least(F.lit(0), F.min("_total").over(so_far)))
    rows = rows.withColumn("_least", F.min("_depth").over(from_here))
    left = rows.where(count & (F.col("_least") >= F.col("_depth"))).select(*events.columns)
    return events.join(keys, KEY, "left_anti").select(*events.columns).unionAll(left)
