"""From what a request learns: each user's columns, as they were known before the user became a seed.

What makes seeds of users (they bought) must not stand in the columns that tell them apart from others, else a
classifier learns that seeds are those who have bought. So the columns of purchases, money and all other events end at a
border: the day on which the user became a seed. Who is none has a day drawn from the seeds' own (by a hash of the id),
else the length of what is known would tell the two apart. Learned from are those who were active before their border.
The ranking is of users who are no seeds, by their columns as of D.

The border hangs on what is known of the seeds' times:
- a client's buyers: the day of the first purchase in the graph's window;
- a file with times: theirs, at most D. Who has none there is given a day as those who are no seeds;
- a file without: D for everybody. What the log holds may be what made them seeds, or may not; the report says so.

Vectors are those of D whatever the border: they know the window's events, which is why a request's quality is called in
time.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.audiences.event_log import EPOCH, day_number
from jobs.audiences.feature_sets import Source
from jobs.audiences.population import days_between, uniform
from jobs.audiences.snapshot import DAY_SECONDS, Interactions, Snapshot
from jobs.events.returns import with_returns
from jobs.program import Input

UNKNOWN, NEVER = 1 << 40, -(1 << 40)  # days since 1970: after all others, before them
Days = Mapping[str, datetime.date]  # raw user id → the day (UTC) on which the user became a seed
_EVENT = ["user_id", "item_id", "behavior", "event_time", "quantity", "value"]
_NOTHING = pa.table({
    "user": pa.array([], pa.int64()), "item_id": pa.array([], pa.large_string()),
    "behavior": pa.array([], pa.large_string()), "worth": pa.array([], pa.float64()), "last": pa.array([], pa.int64())})


@dataclass(frozen=True)
class Lesson:
    """Whom to learn from, of the n users of D who are ranked.

    then: their columns, each as of the user's border; the very `now` where that is D for all. allowed: bool (n,), was
    active before it; positive: and is a seed. borders: int64 (n,), days since 1970; None where they are D for all.
    """

    now: Source
    then: Source
    allowed: np.ndarray
    positive: np.ndarray
    borders: np.ndarray | None

    @property
    def timed(self) -> bool:
        """Whether borders are the seeds' own."""
        return self.borders is not None


def untimed(now: Source, is_seed: np.ndarray) -> Lesson:
    """Columns as of D."""
    return Lesson(now, now, np.ones(len(is_seed), bool), is_seed, None)


def timed(now: Source, is_seed: np.ndarray, days: Days, clean_events: Input, active_days: int, name: str) -> Lesson:
    """Columns as of the day of each seed. is_seed: bool (n,); days: of seeds by raw id."""
    limit = day_number(now.snapshot.date)
    at = pc.index_in(now.users.raw, value_set=pa.array(days, pa.large_string())).fill_null(-1).to_numpy()
    numbers = np.array([*(min(day_number(day), limit) for day in days.values()), UNKNOWN])
    own = np.where(is_seed, numbers[at], UNKNOWN)  # the last one for those without a day
    borders = drawn(own, limit, uniform(now.seed, "border", name, now.users.raw))
    seen, last_day = events_before(borders, now, clean_events, active_days)
    then = dataclasses.replace(now, snapshot=dataclasses.replace(now.snapshot, interactions=seen))
    allowed = borders - last_day <= active_days
    return Lesson(now, then, allowed, is_seed & allowed, borders)


def drawn(own: np.ndarray, limit: int, order: np.ndarray) -> np.ndarray:
    """int64 (n,): each one's own day; where it is UNKNOWN one of the others', by a number in [0, 1) for each. `limit`
    where nobody has one."""
    known = np.sort(own[own != UNKNOWN])
    if not len(known):
        return np.full(len(own), limit)
    return np.where(own == UNKNOWN, known[(order * len(known)).astype(np.int64)], own)


def first_days(clean_events: Input, first: datetime.date, end: datetime.date, purchase: str, items: pa.Array) -> Days:
    """The day in [first, end) of each user's first purchase of one of the items, by raw id."""
    table, found = clean_events.table(), {}
    of_items = (pc.field("behavior") == purchase) & pc.field("item_id").isin(items)
    for day in reversed(days_between(clean_events, first, end)):
        buyers = pc.unique(table.read(day, columns=["user_id"], filter=of_items).column("user_id"))
        found |= dict.fromkeys(buyers.to_pylist(), datetime.date.fromisoformat(day))
    return found


def events_before(
    borders: np.ndarray, now: Source, clean_events: Input, active_days: int
) -> tuple[Interactions, np.ndarray]:
    """(what each user did in the graph's window before the own border; the last day before it with an event, as far
    back as the window or the active days go, NEVER without one).

    Times are moved by as much as the border lies before D, so that days since then count to the border. What is taken
    back from the border on was not yet.
    """
    date, window, raw = now.snapshot.date, now.graph.window_days, now.users.raw
    start = EPOCH + datetime.timedelta(days=int(borders.min()) - max(window, active_days))
    parts, last_day = [_NOTHING], np.full(len(borders), NEVER)
    for day in days_between(clean_events, start, date):
        rows, returned = with_returns(clean_events, day, _EVENT)
        of_user = pc.index_in(rows.column("user_id").cast(pa.large_string()), value_set=raw).fill_null(-1).to_numpy()
        border = np.where(of_user >= 0, borders[of_user], NEVER)
        today = day_number(datetime.date.fromisoformat(day))
        counts = (today < border) & (returned >= border)
        last_day[of_user[counts]] = today
        chosen = counts & (today >= border - window)
        moved = (day_number(date) - border[chosen]) * DAY_SECONDS
        parts.append(_rows(rows.filter(pa.array(chosen)), now.users.ids[of_user[chosen]], moved))
    return _summed(pa.concat_tables(parts), now.snapshot), last_day


def _rows(events: pa.Table, user: np.ndarray, moved: np.ndarray) -> pa.Table:
    """An event each, as `_NOTHING` has its columns."""
    seconds = pc.cast(events.column("event_time").cast(pa.timestamp("s", "UTC"), safe=False), pa.int64())
    quantity = pc.fill_null(events.column("quantity").cast(pa.float64()), 1.0)
    worth = pc.fill_null(pc.multiply(events.column("value").cast(pa.float64()), quantity), 0.0)
    texts = [events.column(name).cast(pa.large_string()) for name in ("item_id", "behavior")]
    return pa.table([pa.array(user), *texts, worth, pc.add(seconds, pa.array(moved))], schema=_NOTHING.schema)


def _summed(events: pa.Table, snapshot: Snapshot) -> Interactions:
    """A row per user, item and behaviour, as build_interactions gives them. Items that the snapshot does not know have
    ids below 0."""
    pairs = events.group_by(["user", "item_id", "behavior"]).aggregate(
        [([], "count_all"), ("worth", "sum"), ("last", "max")])
    items, behaviors = (pairs.column(name).combine_chunks().dictionary_encode() for name in ("item_id", "behavior"))
    at = pc.index_in(items.dictionary, value_set=snapshot.item_raw).fill_null(-1).to_numpy(zero_copy_only=False)
    ids = np.where(at >= 0, snapshot.items[at] if len(snapshot.items) else -1, -1 - np.arange(len(at)))
    user, count, worth, last = (pairs.column(n).to_numpy() for n in ("user", "count_all", "worth_sum", "last_max"))
    codes = behaviors.indices.to_numpy().astype(np.int64)
    return Interactions(user, ids[items.indices], codes, behaviors.dictionary.to_pylist(), count, worth, last)
