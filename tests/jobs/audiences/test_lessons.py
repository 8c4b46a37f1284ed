"""A request learns from columns that end before what made its seeds seeds."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.audiences.lessons import UNKNOWN, Lesson, drawn, first_days, timed
from jobs.audiences.nights import Tables
from jobs.audiences.seeds import read_days
from jobs.program import JobError
from tests.jobs.audiences.test_find_audience import ask
from tests.jobs.audiences.worlds import DATE, DIMENSION, GRAPH, ITEMS, config, day, null, planted, reads
from tests.jobs.report.tables_by_hand import Log, table_input, write_vectors

WINDOW = datetime.timedelta(days=GRAPH.window_days)


@pytest.fixture(scope="module")
def by_lot(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Log]:
    """Who buys what is drawn by lot, and nobody's vector says anything."""
    root = tmp_path_factory.mktemp("lot")
    log = null(root, users=900, idle=50, newcomers=50)
    same, random = np.ones(DIMENSION), np.random.default_rng(1)
    users = dict.fromkeys(log.events["user_id"], same)
    items = {f"i{i}": random.normal(size=DIMENSION) for i in range(ITEMS)}
    write_vectors(root, "transe", DATE, users, items, np.zeros(DIMENSION))
    return root, log


@pytest.mark.parametrize("client", ["brand_0", "brand_2"])
def test_a_clients_buyers_are_at_prevalence_where_they_bought_by_lot(by_lot: tuple[Path, Log], client: str) -> None:
    """By purchases of D itself they would be told apart: they have bought."""
    _, report = ask(by_lot[0], client=client, name=f"lot_{client}")
    assert report["pr_auc_population"] == pytest.approx(report["prevalence"], abs=0.06)
    assert report["pr_auc_1to3"] == pytest.approx(0.25, abs=0.06)
    assert report["seeds_have_times"] and 30 < report["seeds_learned_from"] < report["seeds_active"]


def test_seeds_of_a_file_are_at_prevalence_by_their_times_alone(by_lot: tuple[Path, Log], tmp_path: Path) -> None:
    root, log = by_lot
    bought = bought_of(log, "i0", "i4", "i8", "i12", "i16", "i20", "i24", "i28")
    first = bought.groupby("user_id")["event_time"].min().reset_index()
    first.to_csv(tmp_path / "timed.csv", index=False)
    first[["user_id"]].to_csv(tmp_path / "untimed.csv", index=False)
    (_, with_times), (_, without) = (ask(root, seeds=tmp_path / f"{name}.csv") for name in ("timed", "untimed"))
    assert with_times["pr_auc_population"] == pytest.approx(with_times["prevalence"], abs=0.06)
    assert without["pr_auc_population"] > without["prevalence"] + 0.09, "purchases of D are among the columns"
    assert (with_times["seeds_have_times"], without["seeds_have_times"]) == (True, False)
    assert without["seeds_learned_from"] == without["seeds_active"] > with_times["seeds_learned_from"]


def bought_of(log: Log, *items: str) -> pd.DataFrame:
    events, end = log.events, pd.Timestamp(DATE, tz="UTC")
    before = events[(events["event_time"] < end) & (events["event_time"] >= end - WINDOW)]
    return before[(before["behavior"] == "purchase") & before["item_id"].isin(items)]


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> tuple[Log, dict[str, datetime.date], np.ndarray, Lesson]:
    """(log, first day of each seed, the seeds among the users, the lesson)."""
    root = tmp_path_factory.mktemp("lesson")
    log = planted(root, users=80, seed=3)
    tables, settings = Tables(**reads(root)), config()
    source = tables.source(DATE, [], GRAPH, settings.lookalike, 0)
    clean, items = table_input(root, "clean_events"), pa.array(["i1", "i5", "i9"], pa.large_string())
    days = first_days(clean, DATE - WINDOW, DATE, "purchase", items)
    is_seed = np.isin(source.users.raw.to_numpy(zero_copy_only=False).astype(str), list(days))
    return log, days, is_seed, timed(source, is_seed, days, clean, 28, "x")


def test_the_day_of_a_buyer_is_that_of_the_first_purchase_in_the_window(lesson: tuple) -> None:
    log, days, is_seed, _ = lesson
    wanted = bought_of(log, "i1", "i5", "i9").groupby("user_id")["event_time"].min().dt.date.to_dict()
    assert days == wanted and is_seed.sum() == len(wanted)


def test_columns_end_before_the_day_of_each_seed(lesson: tuple) -> None:
    """Against a loop over the log, for seeds; the others' borders are days of seeds."""
    log, days, is_seed, found = lesson
    columns = dict(zip(found.then.baseline.names, found.then.baseline.values.T, strict=True))
    category = dict(zip(log.items["category"]["id"], log.items["category"]["value"], strict=True))
    for row in np.flatnonzero(is_seed):
        user = found.now.users.raw[row].as_py()
        border = day(days[user], 0)
        mine = log.events[(log.events["user_id"] == user) & (log.events["event_time"] < border)]
        mine = mine[mine["event_time"] >= border - WINDOW]
        bought = mine[mine["behavior"] == "purchase"]
        since = (border - mine["event_time"].max()).total_seconds() / 86_400 if len(mine) else np.nan
        wanted = {
            "days_since_last_event": since, "purchase_events": len(bought),
            "purchase_items": bought["item_id"].nunique(),
            "view_events": len(mine) - len(bought), "money": 5.0 * len(bought),
            "bought:category=c1": (bought["item_id"].map(category) == "c1").sum()}  # fmt: skip
        for name, value in wanted.items():
            assert columns[name][row] == pytest.approx(value, abs=1e-4, nan_ok=True), (user, name)
        active = len(mine) and mine["event_time"].max() >= border - pd.Timedelta(days=28)
        assert bool(found.allowed[row]) == bool(active) == bool(found.positive[row])
    assert found.then.baseline.names == found.now.baseline.names
    more = found.now.baseline.values[is_seed, found.now.baseline.names.index("purchase_events")]
    assert (more > columns["purchase_events"][is_seed]).all(), "the purchase itself is known at D alone"


def test_who_was_active_longer_ago_than_the_graphs_window_may_be_learned_from(lesson: tuple, tmp_path: Path) -> None:
    log, days, is_seed, found = lesson
    planted(tmp_path, users=80, seed=3)
    graph = dataclasses.replace(GRAPH, window_days=2)
    now = dataclasses.replace(found.now, graph=graph)
    short = timed(now, is_seed, days, table_input(tmp_path, "clean_events"), 28, "x")
    np.testing.assert_array_equal(short.allowed, found.allowed)
    interactions = short.then.snapshot.interactions
    assert (interactions.last >= short.now.snapshot.seconds - 2 * 86_400).all() and len(interactions.last)


def test_others_have_days_as_the_seeds_have(lesson: tuple) -> None:
    own = np.where(np.arange(4000) % 4 == 0, np.repeat([100, 110, 130, 130], 1000), UNKNOWN)
    others = drawn(own, 140, np.random.default_rng(0).random(4000))[own == UNKNOWN]
    assert set(others) == {100, 110, 130} and (others == 130).mean() == pytest.approx(0.5, abs=0.03)
    assert drawn(np.full(3, UNKNOWN), 140, np.zeros(3)).tolist() == [140] * 3


def test_times_from_d_on_let_columns_go_up_to_d(lesson: tuple, tmp_path: Path) -> None:
    *_, is_seed, found = lesson
    seeds = found.now.users.raw.filter(pa.array(is_seed)).to_pylist()
    root = tmp_path
    planted(root, users=80, seed=3)
    clean = table_input(root, "clean_events")
    later = dict.fromkeys(seeds, DATE + datetime.timedelta(days=3))
    up_to_d = timed(found.now, is_seed, later, clean, 28, "x")
    np.testing.assert_array_equal(up_to_d.then.baseline.values, found.now.baseline.values)
    assert up_to_d.allowed.all()


def test_times_are_read_from_csv_and_parquet(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    rows = ("2026-01-05,u1", "2026-01-04T23:30:00-01:00,u1", "2026-01-09T00:00:00Z,'=u2", ",u3")
    table.write_text("\n".join(["event_time,user_id", *rows]))
    wanted = {"u1": datetime.date(2026, 1, 5), "'=u2": datetime.date(2026, 1, 9), "=u2": datetime.date(2026, 1, 9)}
    assert read_days(table) == wanted
    moments = pa.array([1_767_571_200_000_000_001, None], pa.timestamp("ns", "Europe/Berlin"))
    pq.write_table(pa.table({"user_id": ["u1", "u2"], "event_time": moments}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"user_id": ["u1"], "event_time": [datetime.date(2026, 1, 5)]}), tmp_path / "c.parquet")
    assert read_days(tmp_path / "b.parquet") == read_days(tmp_path / "c.parquet") == {"u1": datetime.date(2026, 1, 5)}
    for name, text in (("d.csv", "user_id\nu1\n"), ("e.txt", "u1\n"), ("f.csv", "user_id,event_time\nu1,\n")):
        (tmp_path / name).write_text(text)
        assert read_days(tmp_path / name) is None


@pytest.mark.parametrize("text", ["5.1.2026", "2026-01-05T10:00:00", "20260105", "2026-02-30", "soon", "1767571200"])
def test_what_is_no_time_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"user_id,event_time\nu1,2026-01-05\nu2,{text}\n")
    with pytest.raises(JobError, match=r"a.csv, row 2: event_time is .*; expected a day, 2026-01-05, or a time with"):
        read_days(tmp_path / "a.csv")


@pytest.mark.parametrize("times", [pa.array([1, 2]), pa.array([1, 2], pa.timestamp("us"))])
def test_numbers_and_times_without_a_zone_are_no_times(times: pa.Array, tmp_path: Path) -> None:
    pq.write_table(pa.table({"user_id": ["u1", "u2"], "event_time": times}), tmp_path / "a.parquet")
    with pytest.raises(JobError, match="row 1: event_time is .* leave the column out"):
        read_days(tmp_path / "a.parquet")


def test_seeds_of_whom_nothing_was_known_before_are_no_lesson(by_lot: tuple[Path, Log], tmp_path: Path) -> None:
    root, log = by_lot
    users = sorted(set(bought_of(log, *(f"i{n}" for n in range(ITEMS)))["user_id"]))[:200]
    pd.DataFrame({"user_id": users, "event_time": "2025-06-01"}).to_csv(tmp_path / "old.csv", index=False)
    with pytest.raises(JobError, match="0 were active in the 28 days before the day on which they became seeds"):
        ask(root, seeds=tmp_path / "old.csv")
