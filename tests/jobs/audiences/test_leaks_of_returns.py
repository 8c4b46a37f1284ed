"""A return takes nothing back before its day: columns of a label window's start are those of a night of that day."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from jobs.audiences.event_log import EventLog, day_number, moved_to, read_log
from jobs.audiences.item_sets import item_sets
from jobs.audiences.learn_pool import log_before, past_of, starts_of
from jobs.audiences.lessons import events_before, timed
from jobs.audiences.nights import Tables
from jobs.audiences.pooled_rows import window_of
from jobs.audiences.population import active_users, purchases_between
from jobs.audiences.set_columns import columns
from jobs.audiences.train_lookalike import clients_of
from jobs.events.returns import CANCEL, DROP, KEEP, counted
from jobs.program import Input
from tests.jobs.audiences.worlds import DATE, GRAPH, START, config, planted, reads
from tests.jobs.report.tables_by_hand import Log, write_clean_events

LOOK = config().lookalike
FIRST = START - datetime.timedelta(days=40)


def day(date: datetime.date) -> pd.Timestamp:
    return pd.Timestamp(date, tz="UTC")


def with_returns(log: Log, share: float = 0.4) -> Log:
    """Some purchases are returned, a day to three weeks later."""
    random, bought = np.random.default_rng(5), log.events[log.events["behavior"] == "purchase"]
    back = bought.sample(frac=share, random_state=5).assign(quantity=-1.0)
    later = pd.to_timedelta(random.integers(1, 22, len(back)), unit="D")
    back["event_time"] = (back["event_time"] + later).dt.as_unit("us")
    events = pd.concat([log.events, back[back["event_time"] < day(DATE)]], ignore_index=True)
    return dataclasses.replace(log, events=events)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Log]:
    root = tmp_path_factory.mktemp("returns")
    log = with_returns(planted(root, users=400, styles=24))
    write_clean_events(root, log)
    return root, log


def clean_of(root: Path, date: datetime.date, returns: str = CANCEL) -> Input:
    return counted(Input("clean_events", str(root / "clean_events")), date, returns)


def rows_of(log: EventLog, end: int) -> list[tuple]:
    """What is there before a day, by raw ids."""
    users, items, found = log.users.to_pylist(), log.items.to_pylist(), []
    for name, rows in log.behaviors.items():
        columns = (rows.user, rows.item, rows.day, rows.count, rows.money, rows.previous)
        found += [(name, users[u], items[i], *rest) for u, i, day, *more in zip(*columns, strict=True) if day < end
                  for rest in [(day, *more)]]
    return sorted(found)


@pytest.mark.parametrize("days_before", [7, 3, 1])
def test_a_log_as_of_a_day_is_the_log_of_a_night_of_that_day(world: tuple[Path, Log], days_before: int) -> None:
    then, nothing = DATE - datetime.timedelta(days=days_before), pa.array([], pa.large_string())
    before = rows_of(read_log(clean_of(world[0], then), FIRST, then, nothing), day_number(then))
    whole = read_log(clean_of(world[0], DATE), FIRST, DATE, nothing, since=START)
    assert rows_of(whole.as_of(day_number(then)), day_number(then)) == before
    assert rows_of(whole, day_number(then)) != before, "later returns are among what the night knows"
    borders = np.full(len(whole.users), day_number(then))
    assert rows_of(moved_to(whole, borders, day_number(then)), day_number(then)) == before
    with pytest.raises(ValueError, match="asked as of day"):
        whole.as_of(day_number(START) - 1)


def test_no_return_of_a_label_window_changes_a_column_as_of_its_start(tmp_path: Path) -> None:
    """As the lessons of the night of D have them; for each setting of returns."""
    plain = planted(tmp_path, users=300, styles=24)
    log = with_returns(plain)
    in_window = log.events["event_time"] >= day(START)
    worlds = log, Log(log.events[~(in_window & (log.events["quantity"] < 0))], {}, {})
    found: dict[str, list[np.ndarray]] = {}
    for events in worlds:
        write_clean_events(tmp_path, events)
        for returns in (CANCEL, DROP):
            tables = Tables(**reads(tmp_path) | {"clean_events": clean_of(tmp_path, DATE, returns)})
            snapshot = tables.snapshot(DATE, GRAPH)
            past = past_of(log_before(tables, DATE, snapshot, GRAPH, LOOK), START, GRAPH, LOOK)
            sets = item_sets(snapshot, past.log, clients_of(config()))
            by_user = columns(past, sets, 0, np.arange(len(past.eligible)))
            found.setdefault(returns, []).append(by_user)
            assert past.raw.equals(active_users(tables.clean_events, START, LOOK.active_days))
    for returns, (with_them, without) in found.items():
        np.testing.assert_array_equal(with_them, without, returns)


def test_who_is_eligible_hangs_on_no_later_return(tmp_path: Path) -> None:
    rows = [("kept", -3, 1.0), ("returned before", -3, 1.0), ("returned before", -1, -1.0),
            ("returned after", -3, 1.0), ("returned after", 2, -1.0),
            ("returned at once", -3, 1.0), ("returned at once", 0, -1.0), ("late", 1, 1.0), ("late", 3, -1.0)]
    times = pd.Series([day(START) + pd.Timedelta(days=days) for _, days, _ in rows]).dt.as_unit("us")
    frame = pd.DataFrame({"user_id": [user for user, *_ in rows], "item_id": "i0", "behavior": "purchase",
                          "event_time": times, "quantity": [number for *_, number in rows], "value": 1.0})
    write_clean_events(tmp_path, Log(frame, {}))
    clean = clean_of(tmp_path, DATE)
    eligible = ["kept", "returned after", "returned at once"]
    assert active_users(clean, START, 28).to_pylist() == eligible
    assert active_users(clean, DATE, 28).to_pylist() == ["kept"]
    until = [purchases_between(clean, START, START + datetime.timedelta(days), "purchase") for days in (2, 7)]
    assert [found.user_id.to_pylist() for found in until] == [["late"], []]
    log = read_log(clean, FIRST, DATE, pa.array([], pa.large_string()), since=START)
    for days, active in ((2, ["late"]), (7, [])):
        start, known = day_number(START), log.as_of(day_number(START), days)
        assert log.users.take(pa.array(known.active(start, start + 7))).to_pylist() == active
        assert log.users.take(pa.array(known.active(start - 28, start))).to_pylist() == eligible


def test_labels_of_every_window_know_the_returns_till_its_end(world: tuple[Path, Log]) -> None:
    settings = config(label_windows=2)
    tables = Tables(**reads(world[0]) | {"clean_events": clean_of(world[0], DATE)})
    snapshot = tables.snapshot(DATE, GRAPH)
    log = log_before(tables, DATE, snapshot, GRAPH, settings.lookalike)
    sets, starts = item_sets(snapshot, log, clients_of(settings)), starts_of(log, DATE, settings.lookalike)
    assert len(starts) == 2
    clients = {name: snapshot.item_raw.filter(pa.array(snapshot.matching(one)))
               for name, one in clients_of(settings).items()}
    for window in (window_of(past_of(log, start, GRAPH, settings.lookalike), sets, 7) for start in starts):
        end = window.past.date + datetime.timedelta(days=7)
        bought = purchases_between(clean_of(world[0], end), window.past.date, end, "purchase")
        for name, items in clients.items():
            labels = window.labels(sets.place(name))
            mine = set(window.past.raw.to_pylist()) & set(bought.buyers(items).to_pylist())
            assert set(window.past.raw.filter(pa.array(labels)).to_pylist()) == mine


def test_a_requests_columns_end_at_each_users_border(world: tuple[Path, Log]) -> None:
    """As a night of the border's day counts: what is returned later is there, what was before is not."""
    tables = Tables(**reads(world[0]) | {"clean_events": clean_of(world[0], DATE)})
    now, border = tables.source(DATE, [], GRAPH, LOOK, 0), day_number(START)
    seen, last = events_before(np.full(len(now.users), border), now, tables.clean_events, 28)
    then = clean_of(world[0], START).table()
    rows = pd.concat([then.read(one).to_pandas().assign(day=one) for one in then.values() if one < str(START)])
    rows = rows[rows["user_id"].isin(now.users.raw.to_pylist()) & (rows["day"] >= str(FIRST))]
    numbers = pd.Series(now.users.ids, now.users.raw.to_pylist())
    behaviors = np.array(seen.behaviors)[seen.behavior]
    found = pd.Series(seen.count, pd.MultiIndex.from_arrays([seen.user, behaviors])).groupby(level=[0, 1]).sum()
    wanted = rows.groupby([rows["user_id"].map(numbers), "behavior"]).size()
    assert found.sort_index().to_dict() == wanted.sort_index().to_dict() and len(wanted) > 100
    days = dict.fromkeys(now.users.raw.to_pylist()[:9], START)
    lesson = timed(now, np.arange(len(now.users)) < 9, days, tables.clean_events, LOOK.active_days, "x")
    assert lesson.allowed.sum() == (last >= border - LOOK.active_days).sum()


def test_without_cancel_nothing_is_read_twice(world: tuple[Path, Log]) -> None:
    for returns in (DROP, KEEP):
        log = read_log(clean_of(world[0], DATE, returns), FIRST, DATE, pa.array([], pa.large_string()), since=START)
        assert not log.taken and log.as_of(day_number(START)) is log
