"""What a night makes of returns: the one place that decides it, for graphs, labels and columns alike.

A return is a row of `clean_events` with a negative quantity (judge.py sees to it). `events.returns` says what it means:
- drop: nothing; it is as if it were not there.
- cancel: it takes back the latest earlier event of the same user, item and behaviour that none has taken back yet, and
  counts as nothing itself. One without such an event takes back nothing.
- keep: it is an event like any other, of negative money.

Decided from the rows before D alone: a return of D or later takes nothing back. Reading from any day on gives the same
as reading all: what lies before that day is taken back last. At equal times a return follows what it takes back, as on
days whose events are known to the day only.

Rows of one user, item and behaviour in that order are brackets: an event opens one, a return closes the last that is
open. An event is taken back where, later on, fewer are open than when it had opened its own.
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

DROP, CANCEL, KEEP = "drop", "cancel", "keep"
COUNT = "returns"  # of a day's rows, in its manifest
KEY = ["user_id", "item_id", "behavior"]
ORDER = ["event_time", "quantity", "value", "event_id"]  # quantity descending: events before returns


def counted(clean_events: Input, date: datetime.date, returns: str) -> Input:
    """The same table for the night of `date`, without what does not count: a reader of days reads it instead."""
    return clean_events if returns == KEEP else Counted(clean_events.name, clean_events.uri, date, returns)


@dataclasses.dataclass(frozen=True)
class Counted(Input):
    """`clean_events` as the night of `date` counts them."""

    date: datetime.date
    returns: str

    def table(self, name: str | None = None) -> Table:
        plain = super().table(name)
        return CountedDays(plain, self)

    @functools.cached_property
    def taken_back(self) -> dict[str, np.ndarray]:
        """Day → the numbers of its rows that are taken back, of days with any; before the night's date."""
        return taken_back(super().table(), self.date) if self.returns == CANCEL else {}


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


def taken_back(table: Table, date: datetime.date) -> dict[str, np.ndarray]:
    """Day → numbers of the rows that returns before `date` take back."""
    days = [day for day in table.values() if day < date.isoformat()]
    holders = [day for day in days if returns_of(table, day)]
    if not holders:
        return {}
    of_return = pa.concat_tables(table.read(day, KEY, pc.field("quantity") < 0) for day in holders)
    keys = of_return.group_by(KEY).aggregate([])
    rows = pa.concat_tables(_candidates(table, day, keys) for day in days[: days.index(holders[-1]) + 1])
    order = [(name, "descending" if name == "quantity" else "ascending", "at_start") for name in [*KEY, *ORDER]]
    rows = rows.take(pc.sort_indices(rows, sort_keys=order))
    gone = rows.filter(pa.array(_closed(rows)))
    days_of, numbers = gone.column("day").to_numpy(), gone.column("row").to_numpy()
    return {day: numbers[days_of == day] for day in np.unique(days_of)}


def _candidates(table: Table, day: str, keys: pa.Table) -> pa.Table:
    """A day's rows of those users, items and behaviours, with the day and their numbers in it."""
    rows = table.read(day, [*KEY, *ORDER])
    rows = rows.append_column("row", pa.array(np.arange(rows.num_rows)))
    rows = rows.filter(pc.is_in(rows.column("user_id"), value_set=keys.column("user_id").combine_chunks()))
    chosen = rows.join(keys, KEY, join_type="left semi")
    return chosen.append_column("day", pa.repeat(pa.scalar(day), chosen.num_rows))


def _closed(rows: pa.Table) -> np.ndarray:
    """bool: the event is taken back. Rows in order, by key."""
    frame = rows.select([*KEY, "quantity"]).to_pandas()
    group = frame.groupby(KEY, sort=False).ngroup().to_numpy()
    opens = frame["quantity"].to_numpy() >= 0
    steps = pd.Series(np.where(opens, 1, -1))
    total = steps.groupby(group).cumsum()
    depth = total - total.groupby(group).cummin().clip(upper=0)
    least_after = depth[::-1].groupby(group[::-1]).cummin()[::-1]
    return opens & (least_after < depth).to_numpy()


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
