"""What every user did on every day of a stretch of clean_events, as arrays by user and day.

The columns of the pooled classifier (set_columns.py) are counted from it as of any day within the stretch, so that
several label windows need one reading and no night's tables.
Shapes: E rows of one behaviour (a user, an item, a day), U users, n items.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.audiences.population import days_between
from jobs.events.returns import NEVER as NOT_RETURNED
from jobs.events.returns import takes_back, with_returns
from jobs.program import Input
from jobs.side_by_side import each
from models.kernels.set_history import NEVER

EPOCH = datetime.date(1970, 1, 1)
BATCH_ROWS = 4_000_000  # raw ids looked up at a time: the look-up's table is built once for so many
_READ = ["user_id", "item_id", "behavior", "quantity", "value"]


@dataclass(frozen=True)
class Behavior:
    """One behaviour's rows, those of user u at start[u]:start[u + 1], by day: see models/kernels/set_history.py."""

    start: np.ndarray  # int64 (U + 1,)
    item: np.ndarray  # int32 (E,)
    day: np.ndarray  # int32 (E,), days since 1970
    count: np.ndarray  # float32 (E,), events
    money: np.ndarray  # float32 (E,), value times quantity
    previous: np.ndarray  # int32 (E,), the day before on which the user did it with the item; NEVER without one

    @property
    def user(self) -> np.ndarray:
        """int64 (E,)."""
        return np.repeat(np.arange(len(self.start) - 1), np.diff(self.start))

    def within(self, first: int, end: int) -> np.ndarray:
        """bool (E,): the days first <= day < end."""
        return (self.day >= first) & (self.day < end)


@dataclass(frozen=True)
class Taken:
    """One behaviour's rows that a return takes back, (E,) each, as those of `Behavior`; returned: its day."""

    user: np.ndarray
    item: np.ndarray
    day: np.ndarray
    count: np.ndarray
    money: np.ndarray
    returned: np.ndarray


@dataclass(frozen=True)
class EventLog:
    """Users and items by number, in the order of their raw ids' bytes; behaviours by name; the days that were read.

    The behaviours are as the night counts them; `taken` is what it does not count and an earlier day, not before
    `since`, did.
    """

    users: pa.Array
    items: pa.Array
    behaviors: dict[str, Behavior]
    first: int  # days since 1970: the first day on which there is an event
    since: int = 0  # days since 1970: the first day that `as_of` may be asked of; 0 where nothing is taken back
    taken: dict[str, Taken] = field(default_factory=dict)

    def numbers(self, raw: pa.Array) -> np.ndarray:
        """int64: the users' numbers, -1 for who has no event in the stretch."""
        return _numbers(raw, self.users)

    def items_among(self, raw: pa.Array) -> np.ndarray:
        """As `numbers`, of items."""
        return _numbers(raw, self.items)

    def as_of(self, today: int | np.ndarray, days: int = 0) -> EventLog:
        """What counted on a day, of all users or for each (U,): of what lies before it, what was not taken back before
        it; of the rest, what was not in so many days from it on. ValueError: a day before `since`."""
        if (earliest := int(np.min(today, initial=NOT_RETURNED))) < self.since:
            raise ValueError(f"asked as of day {earliest} of a log that was read to be asked from day {self.since} on")
        if not self.taken:
            return self
        known = {name: self._known(name, np.broadcast_to(today, len(self.users)), days) for name in self.behaviors}
        return dataclasses.replace(self, behaviors=known)

    def _known(self, name: str, today: np.ndarray, days: int) -> Behavior:
        rows, taken = self.behaviors[name], self.taken.get(name)
        if taken is None:
            return rows
        day = today[taken.user]
        there = taken.returned >= np.where(taken.day < day, day, day + days)
        both = zip((rows.user, rows.item, rows.day, rows.count, rows.money),
                   (taken.user, taken.item, taken.day, taken.count, taken.money), strict=True)
        return arranged(*_summed(*(np.concatenate([one, other[there]]) for one, other in both)), len(self.users))

    def active(self, first: int, end: int) -> np.ndarray:
        """Numbers, ascending, of the users with any event on the days first <= day < end."""
        seen = np.zeros(len(self.users), bool)
        for behavior in self.behaviors.values():
            seen[behavior.user[behavior.within(first, end)]] = True
        return np.flatnonzero(seen)


def moved_to(log: EventLog, borders: np.ndarray, today: int) -> EventLog:
    """Of each user the events before a day of his own, as they counted on it, moved so that this day becomes `today`.
    borders int64 (U,)."""
    log = log.as_of(borders)

    def moved(rows: Behavior) -> Behavior:
        user = rows.user
        kept = rows.day < borders[user]
        by = (today - borders[user[kept]]).astype(np.int32)
        start = np.concatenate([[0], np.cumsum(kept)])[rows.start]
        previous = rows.previous[kept]
        previous = np.where(previous == NEVER, NEVER, previous + by).astype(np.int32)
        return Behavior(start, rows.item[kept], rows.day[kept] + by, rows.count[kept], rows.money[kept], previous)

    return dataclasses.replace(log, behaviors={name: moved(rows) for name, rows in log.behaviors.items()})


def day_number(day: datetime.date) -> int:
    """Days since 1970."""
    return (day - EPOCH).days


def read_log(
    clean_events: Input, first: datetime.date, end: datetime.date, more_items: pa.Array,
    more_behaviors: Collection[str] = (), since: datetime.date | None = None,
) -> EventLog:  # fmt: skip
    """The events with first <= day < end. `more_items`: raw ids of items that have a number without one;
    `more_behaviors`: those that are there without one; `since`: the first day that `as_of` is asked of, else `end`."""
    since, cancels = since or end, takes_back(clean_events)
    disk, wanted = clean_events.table().disk, days_between(clean_events, first, end)
    read = each(disk, lambda day: _of_day(clean_events, day, since), wanted)
    parts, gone = [part for part, _ in read], [part for _, part in read if part.num_rows]
    nothing, every = pa.array([], pa.large_string()), parts + gone
    users = _sorted([p.column("user_id") for p in every] or [nothing])
    items = _sorted([p.column("item_id") for p in every] + [more_items])
    names = sorted({*more_behaviors, *(n for p in every for n in pc.unique(p.column("behavior")).to_pylist())})
    behaviors = {
        name: arranged(*columns, len(users)) for name, columns in _by_behavior(parts, users, items, names).items()}
    taken = {name: Taken(*columns) for name, columns in _by_behavior(gone, users, items, names).items()} if gone else {}
    days = [int(rows.day.min()) for rows in behaviors.values() if len(rows.day)]
    earliest = min(days, default=day_number(end))
    return EventLog(users, items, behaviors, earliest, day_number(since) if cancels else 0, taken)


def _by_behavior(
    parts: list[pa.Table], users: pa.Array, items: pa.Array, names: list[str]
) -> dict[str, list[np.ndarray]]:
    """Behaviour → user, item, day, count, money, returned."""
    rows = [_numbered(batch, users, items, names) for batch in _batches(parts)]
    codes, *columns = (np.concatenate(c) for c in zip(*rows, strict=True)) if rows else _nothing()
    return {name: [column[codes == code] for column in columns] for code, name in enumerate(names)}


def _of_day(clean_events: Input, day: str, since: datetime.date) -> tuple[pa.Table, pa.Table]:
    """user_id, item_id, behavior, day, count, money: a row for what a user did with an item on the day. (What counts,
    what does not and did on `since`; with `returned`, the day on which it was taken back.)"""
    rows, returned = with_returns(clean_events, day, _READ)
    gone = (returned < NOT_RETURNED) & (returned >= day_number(since))
    taken = rows.filter(pa.array(gone)).append_column("returned", pa.array(returned[gone]))
    return _summed_rows(rows.filter(pa.array(returned == NOT_RETURNED)), day), _summed_rows(taken, day)


def _summed_rows(rows: pa.Table, day: str) -> pa.Table:
    quantity = pc.fill_null(rows.column("quantity").cast(pa.float64()), 1.0)
    money = pc.fill_null(pc.multiply(rows.column("value").cast(pa.float64()), quantity), 0.0)
    texts = {name: rows.column(name).cast(pa.large_string()) for name in _READ[:3]}
    keys = texts | ({"returned": rows.column("returned")} if "returned" in rows.column_names else {})
    events = pa.table(keys | {"money": money})
    found = events.group_by(list(keys), use_threads=False).aggregate([([], "count_all"), ("money", "sum")])
    number = pa.repeat(pa.scalar(day_number(datetime.date.fromisoformat(day)), pa.int32()), found.num_rows)
    return found.append_column("day", number)


def _sorted(columns: list[pa.ChunkedArray | pa.Array]) -> pa.Array:
    """The different texts of all columns, by their bytes."""
    seen = pa.array([], pa.large_string())
    for column in columns:
        chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        seen = pc.unique(pa.chunked_array([seen, *(pc.unique(c) for c in chunks)], pa.large_string()))
    return seen.take(pc.sort_indices(seen))


def _batches(parts: list[pa.Table]) -> list[pa.Table]:
    batches, waiting = [], []
    for part in parts:
        waiting.append(part)
        if sum(p.num_rows for p in waiting) >= BATCH_ROWS:
            batches, waiting = [*batches, pa.concat_tables(waiting)], []
    return [*batches, pa.concat_tables(waiting)] if waiting else batches


def _numbered(rows: pa.Table, users: pa.Array, items: pa.Array, names: list[str]) -> tuple[np.ndarray, ...]:
    """codes of behaviours, users, items, days, counts, money; the days of returns where they are told."""
    codes = _numbers(rows.column("behavior"), pa.array(names, pa.large_string())).astype(np.int16)
    user, item = (_numbers(rows.column(n), to).astype(np.int32) for n, to in (("user_id", users), ("item_id", items)))
    day, count, money = (rows.column(name).to_numpy() for name in ("day", "count_all", "money_sum"))
    more = [rows.column("returned").to_numpy()] if "returned" in rows.column_names else []
    with np.errstate(over="ignore"):  # money beyond float32 is infinite
        return codes, user, item, day, count.astype(np.float32), money.astype(np.float32), *more


def _nothing() -> list[np.ndarray]:
    return [np.zeros(0, kind) for kind in (np.int16, np.int32, np.int32, np.int32, np.float32, np.float32)]


def _summed(
    user: np.ndarray, item: np.ndarray, day: np.ndarray, count: np.ndarray, money: np.ndarray
) -> tuple[np.ndarray, ...]:
    """One row for each user, item and day."""
    order = np.lexsort((item, day, user))
    keys = [column[order] for column in (user, item, day)]
    new = np.ones(len(order), bool)
    new[1:] = np.any([np.diff(key) != 0 for key in keys], axis=0)
    starts = np.flatnonzero(new)
    sums = [np.add.reduceat(column[order], starts) if len(starts) else column for column in (count, money)]
    return *(key[starts] for key in keys), *sums


def arranged(
    user: np.ndarray, item: np.ndarray, day: np.ndarray, count: np.ndarray, money: np.ndarray, users: int
) -> Behavior:
    """Rows of one behaviour by user, day and item."""
    by_pair = np.lexsort((day, item, user))
    same = (np.diff(user[by_pair]) == 0) & (np.diff(item[by_pair]) == 0)
    previous = np.full(len(user), NEVER, np.int32)
    previous[by_pair[1:]] = np.where(same, day[by_pair[:-1]], NEVER)
    order = np.lexsort((item, day, user))
    start = np.searchsorted(user[order], np.arange(users + 1))
    return Behavior(start, *(column[order] for column in (item, day, count, money, previous)))


def _numbers(raw: pa.Array | pa.ChunkedArray, known: pa.Array) -> np.ndarray:
    at = pc.index_in(raw.cast(pa.large_string()), value_set=known)
    return at.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
