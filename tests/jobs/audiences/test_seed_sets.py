"""What a list of users stands for, and how near others are to it: against slow loops."""

from __future__ import annotations

import dataclasses
import datetime
import math
from pathlib import Path

import numpy as np
import pytest

from jobs.audiences import seed_sets
from jobs.audiences.event_log import EventLog, day_number, moved_to, read_log
from jobs.audiences.item_sets import item_sets
from jobs.audiences.learn_pool import past_of
from jobs.audiences.nights import Tables
from jobs.audiences.pooled_rows import keys_of, order_of
from jobs.audiences.seed_sets import (
    AT_LARGE,
    BY_ITEM,
    BY_LIST,
    MOST_ITEMS,
    MOST_VALUES,
    SHARPNESS,
    SURE,
    SeedLists,
    evidence,
)
from jobs.audiences.set_affinities import Published
from models.kernels.set_history import NEVER
from tests.jobs.audiences.worlds import DATE, GRAPH, config, planted, reads
from tests.jobs.report.tables_by_hand import table_input

USERS = 120


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> SeedLists:
    root = tmp_path_factory.mktemp("world")
    planted(root, users=USERS, seed=4)
    look, tables = config().lookalike, Tables(**reads(root))
    source = tables.source(DATE, ["transe"], GRAPH, look, 0)
    first = DATE - datetime.timedelta(days=GRAPH.window_days)
    log = read_log(table_input(root, "clean_events"), first, DATE, source.snapshot.item_raw)
    sets = item_sets(source.snapshot, log, {})
    past = past_of(log, DATE, GRAPH, look)
    return SeedLists(past, sets, Published.of(source, log), ["transe", "kqgc_mean"], keys_of(log.users, 0))


def seeds_of(lists: SeedLists, number: int) -> np.ndarray:
    """Every third of the first eligible users."""
    return lists.past.eligible[: 3 * number : 3]


def column(lists: SeedLists, found: np.ndarray, name: str) -> np.ndarray:
    return found[:, lists.names().index(name)]


def bought_by(log: EventLog, user: int) -> dict[int, list[tuple[int, float]]]:
    """item → (day, count) of the user's purchases."""
    rows, found = log.behaviors["purchase"], {}
    for e in range(rows.start[user], rows.start[user + 1]):
        found.setdefault(int(rows.item[e]), []).append((int(rows.day[e]), float(rows.count[e])))
    return found


@pytest.mark.parametrize(("held", "seeds", "share"), [(3, 5, 0.1), (5, 5, 0.4), (20, 100, 0.05), (1, 5, 0.9)])
def test_evidence_is_how_much_likelier_the_seeds_own_share_makes_what_is_seen(
    held: int, seeds: int, share: float
) -> None:
    def log_likelihood(p: float) -> float:
        return held * math.log(p) + ((seeds - held) * math.log(1 - p) if held < seeds else 0)

    wanted = log_likelihood(held / seeds) - log_likelihood(share) if held / seeds > share else 0
    assert evidence(np.array([float(held)]), seeds, np.array([share]))[0] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("number", [1, 5, 20])
def test_a_lists_items_and_weights_are_those_of_a_loop(lists: SeedLists, number: int) -> None:
    seeds, past, sets = seeds_of(lists, number), lists.past, lists.sets
    found, n = lists.found(seeds), len(past.eligible)
    bought = {int(u): set(bought_by(past.log, int(u))) for u in past.eligible}
    value_of = {item: set(sets.values[[item]].indices.tolist()) for item in range(len(past.log.items))}
    of_user = {u: set().union(*(value_of[i] for i in items)) for u, items in bought.items()}

    def counted(of: dict[int, set[int]], one: int) -> tuple[int, int]:
        return sum(one in of[int(u)] for u in seeds), sum(one in known for known in of.values())

    def told(of: dict[int, set[int]], one: int) -> float:
        held, everybody = counted(of, one)
        return float(evidence(np.array([float(held)]), number, np.array([(everybody + 1) / (n + 1)]))[0])

    of_value = {v: told(of_user, v) for v in range(sets.values.shape[1])}
    best = sorted(of_value, key=lambda v: (-of_value[v], v))[:MOST_VALUES]
    for item in range(len(past.log.items)):
        held, everybody = counted(bought, item)
        share = number / n
        lift = math.log((held + 20 * share) / ((everybody + 20) * share))
        mine = sum(of_value[v] for v in best if v in value_of[item])
        wanted = [lift, lift if held else 0, told(bought, item), mine]
        assert found.weights[:, item] == pytest.approx(wanted, abs=1e-4), item
    items = sorted(range(len(past.log.items)), key=lambda i: (-told(bought, i), i))[:MOST_ITEMS]
    wanted = {i for i in items if told(bought, i) > 0}
    if of_value[best[0]] > SURE * math.log(sum(counted(of_user, v)[1] > 0 for v in of_value)):
        wanted = {i for i, values in value_of.items() if best[0] in values}
    assert set(np.flatnonzero(found.of_set)) == wanted != set()
    assert len(found.facts) == len(BY_LIST) and found.facts[0] == number and found.facts[1] == found.of_set.sum()


def test_a_list_of_one_values_buyers_stands_for_all_items_of_the_value(lists: SeedLists) -> None:
    """Where chance would not bring that out; five of its buyers are too few to be sure."""
    past, values = lists.past, lists.sets.values
    of_value = past.bought[past.eligible] @ values
    buyers = past.eligible[np.flatnonzero(of_value[:, [1]].toarray().ravel())]
    others = past.eligible[~np.isin(past.eligible, buyers)]
    assert lists.found(buyers).of_set.tolist() == (values[:, [1]].toarray().ravel() > 0).tolist()
    assert (lists.found(others[:5]).of_set != lists.found(buyers).of_set).any()


def test_the_density_of_seeds_is_against_that_of_all_and_nobody_is_near_himself(lists: SeedLists) -> None:
    seeds, past = seeds_of(lists, 7), lists.past
    rows = np.arange(0, len(past.eligible), 2)
    found = lists.columns(lists.found(seeds), seeds, rows)
    space = lists.spaces["transe"]
    assert len(past.eligible) <= AT_LARGE, "so that all users stand for all"
    for place, row in enumerate(rows):
        user = past.eligible[row]
        others = [int(other) for other in past.eligible if other != user]
        far = {o: float(np.linalg.norm(space.vectors[user] - space.vectors[o])) for o in others}
        mean, spread = np.mean(list(far.values())), np.std(list(far.values())) + 1e-6
        for sharp in SHARPNESS:
            near = {o: math.exp(-sharp * (d - mean) / spread) for o, d in far.items()}
            of_seeds = [near[int(s)] for s in seeds if s != user]
            wanted = math.log(np.mean(of_seeds) / np.mean(list(near.values())))
            assert column(lists, found, f"transe:density_{sharp:.0f}")[place] == pytest.approx(wanted, abs=1e-3)
    assert np.isnan(column(lists, found, f"kqgc_mean:density_{SHARPNESS[0]:.0f}")).all(), "not published that night"


def test_users_at_large_are_drawn_by_their_keys(lists: SeedLists, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seed_sets, "AT_LARGE", 5)
    there = lists.past.eligible
    first = np.argsort(order_of(lists.keys[there], "users at large"))[:5]
    assert seed_sets.Nearness.of(lists, "transe").at_large.tolist() == there[first].tolist() != there[:5].tolist()


def test_nearness_by_purchases_is_a_cosine_of_what_both_bought(lists: SeedLists) -> None:
    seeds, past = seeds_of(lists, 6), lists.past
    n, rows = len(past.eligible), np.arange(len(past.eligible))
    found = lists.columns(lists.found(seeds), seeds, rows)
    items = {int(u): set(bought_by(past.log, int(u))) for u in past.eligible}
    buyers = {i: sum(i in mine for mine in items.values()) for i in range(len(past.log.items))}
    weight = {i: math.log(n / max(1, b)) + 1e-3 for i, b in buyers.items()}

    def length(user: int) -> float:
        return math.sqrt(sum(weight[i] ** 2 for i in items[user])) or 1.0

    def cosine(a: int, b: int) -> float:
        return sum(weight[i] ** 2 for i in items[a] & items[b]) / length(a) / length(b)

    for row in rows[::5]:
        user = int(past.eligible[row])
        near = np.mean([cosine(user, int(s)) for s in seeds if s != user])
        at_large = np.mean([cosine(user, o) for o in items if o != user])
        assert column(lists, found, "purchases:near")[row] == pytest.approx(near, abs=1e-5)
        wanted = math.log((near + 1e-4) / (at_large + 1e-4))
        assert column(lists, found, "purchases:density")[row] == pytest.approx(wanted, abs=1e-3)


def test_all_that_a_user_bought_counts_by_its_weight(lists: SeedLists) -> None:
    seeds, past = seeds_of(lists, 8), lists.past
    what, rows = lists.found(seeds), np.arange(len(past.eligible))
    found = lists.columns(what, seeds, rows)
    for row in rows[::7]:
        mine = bought_by(past.log, int(past.eligible[row]))
        decayed = [(i, c * 2 ** (-(past.today - day) / 45)) for i, days in mine.items() for day, c in days]
        for place, name in enumerate(BY_ITEM):
            total = sum(what.weights[place, i] * w for i, w in decayed)
            for how, wanted in (
                ("mean", total / sum(w for _, w in decayed) if decayed else np.nan),
                ("most", max((what.weights[place, i] for i in mine), default=np.nan)),
                ("sum", total if decayed else np.nan),
            ):
                got = column(lists, found, f"purchase:{how}_{name}")[row]
                assert got == pytest.approx(wanted, abs=1e-3, nan_ok=True), (how, name)


def test_names_and_columns_are_as_many_and_nothing_is_infinite(lists: SeedLists) -> None:
    for seeds in (seeds_of(lists, 1), seeds_of(lists, 5), lists.past.eligible, lists.past.eligible[:0]):
        found = lists.columns(lists.found(seeds), seeds, np.arange(len(lists.past.eligible)))
        assert found.shape == (len(lists.past.eligible), len(lists.names())) and found.dtype == np.float32
        assert not np.isinf(found).any()
    assert len(set(lists.names())) == len(lists.names())


def test_seeds_without_purchases_and_a_log_without_purchases_have_no_items(lists: SeedLists) -> None:
    idle = [u for u in lists.past.eligible if not bought_by(lists.past.log, int(u))]
    assert idle, "users who only look"
    views = dataclasses.replace(lists.past.log, behaviors={"view": lists.past.log.behaviors["view"]})
    nothing_bought = dataclasses.replace(lists, past=dataclasses.replace(lists.past, log=views))
    for which, seeds in ((lists, np.array(idle[:5])), (nothing_bought, seeds_of(lists, 5))):
        found = which.found(seeds)
        columns = which.columns(found, seeds, np.arange(len(which.past.eligible)))
        assert not found.of_set.any() and columns.shape[1] == len(which.names())
        assert np.isfinite(column(which, columns, "transe:density_1")).all(), "vectors are left"


def test_a_users_events_end_at_his_own_border_and_count_from_it(lists: SeedLists) -> None:
    log, today = lists.past.log, lists.past.today
    borders = today - np.arange(len(log.users)) % 25
    moved = moved_to(log, borders, today)
    for name, rows in log.behaviors.items():
        wanted, before = [], {}
        for e, user in enumerate(rows.user):
            if rows.day[e] < borders[user]:
                by = int(today - borders[user])
                former = before.get((user, rows.item[e]), NEVER)
                wanted.append((user, rows.item[e], rows.day[e] + by, rows.count[e], former))
                before[user, rows.item[e]] = rows.day[e] + by
        mine = moved.behaviors[name]
        got = list(zip(mine.user, mine.item, mine.day, mine.count, mine.previous, strict=True))
        assert got == wanted and len(wanted) < len(rows.day)
        assert mine.start[-1] == len(mine.day)


def test_nothing_from_the_day_on_moves_a_column(tmp_path: Path) -> None:
    """Two worlds that differ in the events from the day on alone."""
    found = []
    for shift in (0, 1):
        root = tmp_path / str(shift)
        planted(root, users=60, seed=2)
        tables, look = Tables(**reads(root)), config().lookalike
        start = DATE - datetime.timedelta(days=7)
        snapshot = tables.snapshot(start, GRAPH)
        end = DATE if shift else start
        log = read_log(table_input(root, "clean_events"), start - datetime.timedelta(days=40), end, snapshot.item_raw)
        past = past_of(log, start, GRAPH, look)
        lists = SeedLists(past, item_sets(snapshot, log, {}), None, [], keys_of(log.users, 0))
        raw = past.raw.to_pylist()
        seeds = past.eligible[[raw.index(user) for user in raw[:10]]]
        found.append((raw, lists.names(), lists.columns(lists.found(seeds), seeds, np.arange(len(raw)))))
        assert past.today == day_number(start)
    (raw, names, without), (raw_too, names_too, with_later) = found
    assert raw == raw_too and names == names_too
    np.testing.assert_allclose(without, with_later, rtol=1e-5, atol=1e-6)
