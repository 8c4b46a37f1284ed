"""The pooled classifier's columns and rows at their edges: a log by hand in which every figure can be counted."""

from __future__ import annotations

import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import sparse

from jobs.audiences import learn_pool, set_affinities, stand_ins
from jobs.audiences.event_log import EventLog, day_number, read_log
from jobs.audiences.features import Columns
from jobs.audiences.item_sets import ItemSets, item_sets, rows_of
from jobs.audiences.learn_pool import lessons_from, log_before
from jobs.audiences.nights import Tables
from jobs.audiences.pooled import Lessons, rows_of_client
from jobs.audiences.pooled import rows_of as rows_of_set
from jobs.audiences.pooled_rows import Window, order_of, window_of
from jobs.audiences.population import active_users
from jobs.audiences.score_lookalike import Scored, columns_of_sets
from jobs.audiences.set_affinities import Near, Published, affinity_names, near_of
from jobs.audiences.set_columns import MOST_SHARE, Past, columns, names
from jobs.audiences.snapshot import Attribute, Snapshot
from jobs.audiences.train_lookalike import Config, clients_of
from jobs.configuration.predicates import parse
from models.vectors.affinities import names_of
from tests.jobs.audiences.worlds import DATE as WORLD
from tests.jobs.audiences.worlds import GRAPH, START, config, planted, reads
from tests.jobs.report.tables_by_hand import Log, table_input, write_clean_events

DATE = datetime.date(2026, 3, 9)
TODAY, WINDOW, LATELY = day_number(DATE), 20, 5


def log_of(root: Path, rows: list[tuple[str, str, int]], more_items: tuple[str, ...] = (), **changes: Any) -> EventLog:
    """Purchases of (user, item, days before DATE; 0 and less from DATE on), each of 2 pieces at 3."""
    times = [pd.Timestamp(DATE, tz="UTC") - pd.Timedelta(days=ago) for _, _, ago in rows]
    frame = pd.DataFrame({
        "user_id": [user for user, *_ in rows], "item_id": [item for _, item, _ in rows], "behavior": "purchase",
        "event_time": pd.Series(times).dt.as_unit("us"), "quantity": 2.0, "value": 3.0} | changes)  # fmt: skip
    write_clean_events(root, Log(frame, {}))
    first, end = (DATE + datetime.timedelta(days=days) for days in (-90, 60))
    return read_log(table_input(root, "clean_events"), first, end, pa.array(more_items, pa.large_string()))


def past_of(log: EventLog, users: list[str] | None = None, today: int = TODAY) -> Past:
    eligible = np.arange(len(log.users)) if users is None else log.numbers(pa.array(users, pa.large_string()))
    return Past(log, today, WINDOW, LATELY, "purchase", eligible)


def sets_of(log: EventLog, *sets: list[str], values: list[list[str]] | None = None) -> ItemSets:
    """Sets of these items; items by attribute value."""
    numbers = [np.sort(log.items_among(pa.array(items, pa.large_string()))) for items in (*sets, *(values or []))]
    carried = rows_of(numbers[len(sets) :], len(log.items)).T.astype(np.float32)
    members = rows_of(numbers[: len(sets)], len(log.items))
    return ItemSets([f"client:{n}" for n in range(len(sets))], members, sparse.csr_array(carried))


def told(past: Past, sets: ItemSets, place: int = 0) -> pd.DataFrame:
    rows = columns(past, sets, place, np.arange(len(past.eligible)))
    return pd.DataFrame(rows, index=past.raw.to_pylist(), columns=names(past))


def test_days_count_from_the_first_of_the_window_to_the_day_before(tmp_path: Path) -> None:
    log = log_of(tmp_path, [("a", "x", WINDOW + 1), ("b", "x", WINDOW), ("c", "x", 1), ("d", "x", 0)])
    found = told(past_of(log), sets_of(log, ["x"]))
    assert found["purchase:events"].to_dict() == {"a": 0, "b": 1, "c": 1, "d": 0}
    assert found.loc["b", "purchase:since"] == WINDOW and found.loc["c", "purchase:since"] == 1
    assert past_of(log).bought.sum() == 2


def test_a_label_window_begins_on_its_day_and_ends_before_the_next(tmp_path: Path) -> None:
    log = log_of(tmp_path, [("a", "x", 1), ("b", "x", 0), ("c", "x", -6), ("d", "x", -7), ("e", "x", -2)])
    window = window_of(past_of(log, ["a", "b", "c", "d"]), sets_of(log, ["x"]), 7)
    assert window.labels(0).tolist() == [False, True, True, False]
    assert window.not_eligible.tolist() == [1] and window.known.tolist() == [True]


def test_a_window_without_an_item_of_the_set_before_it_teaches_no_one(tmp_path: Path) -> None:
    """What nobody could buy is no lesson, whoever buys it later; a client of it keeps its newest window."""
    rows = [(f"u{n:02d}", "new", 0) for n in range(40)] + [(f"v{n:02d}", "old", 3) for n in range(80)]
    log = log_of(tmp_path, rows + [(f"u{n:02d}", "old", 9) for n in range(40)])
    sets = sets_of(log, ["new"], ["old", "new"])
    window = window_of(past_of(log), sets, 7)
    assert window.buyers.tolist() == [40, 40] and window.usable().tolist() == [False, True]
    later = window_of(past_of(log, today=TODAY + 7), sets, 7)
    lessons = lessons_of([later, window], sets)
    assert len(rows_of_client(lessons, 0, prospects=False).labels) == 0, "of the window that knew it, without buyers"
    assert len(rows_of_client(lessons, 1, prospects=False).labels) == 4 * (80 // 3), "three of the 80 others to a buyer"


def lessons_of(windows: list[Window], sets: ItemSets) -> Lessons:
    """A row's only column is the number of its eligible user."""
    users = len(windows[0].past.log.users)
    fold, keys = np.arange(users) * 100, np.arange(users).astype(np.uint64)

    def numbers(past: Past, place: int, rows: np.ndarray) -> np.ndarray:
        return rows[:, None].astype(np.float32)

    return Lessons(sets, windows, fold, keys, numbers, ["number"])


@pytest.mark.parametrize("prospects", [False, True])
def test_a_row_has_its_own_users_label_and_fold(tmp_path: Path, prospects: bool) -> None:
    """Eligible are others than the first of the log. With prospects alone nobody is a row who bought before."""
    before = [(f"u{n:02d}", "x" if n % 5 == 0 else "y", 3) for n in range(60)]
    log = log_of(tmp_path, before + [(f"u{n:02d}", "x", -1) for n in range(0, 60, 4)])
    eligible = [f"u{n:02d}" for n in range(7, 60)]
    sets = sets_of(log, ["x"], ["y"])
    lessons = lessons_of([window_of(past_of(log, eligible), sets, 7)], sets)
    rows = rows_of_set(lessons, 0, 0, prospects, most=150)
    number = rows.features[:, 0].astype(int) + 7
    assert rows.fold.tolist() == (100 * number).tolist()
    assert rows.labels.tolist() == (number % 4 == 0).tolist() and rows.labels.any() and not rows.labels.all()
    assert (number % 5 == 0).any() == (not prospects)


def test_what_a_set_is_worth_is_counted_of_the_eligible(tmp_path: Path) -> None:
    rows = [("a", "x", LATELY), ("a", "x", 9), ("b", "y", LATELY + 1), ("c", "z", 2), ("d", "z", 2)]
    log = log_of(tmp_path, rows, more_items=("never",))
    found = told(past_of(log), sets_of(log, ["x", "y", "never"])).iloc[0]
    assert found["set:buyers"] == 0.5 and found["set:buyers_lately"] == 0.25 and found["set:buying_again"] == 0.5
    assert found["set:share_of_items"] == pytest.approx(2 / 3) and found["set:buyers_per_item"] == 0.25
    assert found["set:trend"] == pytest.approx(0.25 / (0.5 * LATELY / WINDOW))


def test_shares_are_of_what_the_user_did_at_large_and_money_is_value_times_quantity(tmp_path: Path) -> None:
    rows = [("a", "x", 12), ("a", "x", 8), ("a", "y", 8), ("a", "y", 3), ("a", "y", 2), ("b", "y", 2), ("c", "y", 2)]
    changes = {"quantity": [1.0, 1.0, 4.0, 1.0, 1.0, 2.0, 2.0], "value": [7.0, 1.0, 2.0, 0.0, 0.0, 8.0, 8.0]}
    found = told(past_of(log := log_of(tmp_path, rows, **changes)), sets_of(log, ["x"])).loc["a"]
    shares = [found[f"purchase:share_of_{what}"] for what in ("days", "events", "money")]
    assert shares == pytest.approx([2 / 4, 2 / 5, 8 / 16])
    assert found["purchase:gap"] == 4 and found["purchase:overdue"] == 2
    assert found["purchase:at_large_gap"] == pytest.approx(10 / 3)
    rank = told(past_of(log), sets_of(log, ["x"]))["purchase:at_large_money_rank"]
    assert rank.tolist() == [0.5] * 3, "16 each: equal ones alike, in the middle"


def test_lift_is_of_what_goes_with_the_set_and_kin_of_what_shares_its_values(tmp_path: Path) -> None:
    """Whoever buys x buys y; z goes with nothing, and shares x's rare value."""
    together = [(f"a{n:02d}", item, 2) for n in range(30) for item in ("x", "y")]
    log = log_of(tmp_path, together + [(f"b{n:02d}", "z", 2) for n in range(30)], more_items=("new", "w"))
    values = [["x", "z", "new"], ["x", "y", "z", "new", "w"]]
    sets, past = sets_of(log, ["y"], ["x", "new"], values=values), past_of(log)
    lift, kin = past.lift(sets.mask(1)), sets.kin(1, past.known)
    at = {item: n for n, item in enumerate(log.items.to_pylist())}
    assert lift[at["y"]] == pytest.approx(np.log((30 + 10) / (50 * 0.5))) and lift[at["z"]] < 0
    assert kin[at["z"]] == pytest.approx(np.log(3 / 2)) and kin[at["y"]] == 0 < kin[at["new"]]
    found = told(past, sets, 1)
    assert found.loc["a00", "purchase:most_lift"] == pytest.approx(lift[at["y"]])
    assert found.loc["b00", "purchase:mean_kin"] == pytest.approx(kin[at["z"]])
    mixed = sets_of(log, ["x", "w"], values=[["x", "z"], ["w", "y"]])
    assert mixed.kin(0, past.known)[at["y"]] == 0, "w is an item that nobody touched: it says nothing"


def test_a_values_set_holds_the_items_that_have_it(tmp_path: Path) -> None:
    """Whatever order the ledgers have: that of when each item and value came up."""
    log = log_of(tmp_path, [("a", "gone", 2), ("a", "x", 2)], more_items=("z", "x", "y"))
    carriers = {"b": ["z", "x"], "a": ["y"], "client:acme": ["z"], "c": ["x"]}
    items, values = ["z", "x", "y"], list(carriers)
    pairs = [(items.index(item), values.index(value)) for value, mine in carriers.items() for item in mine]
    heads, codes = np.array(pairs).T
    brand = Attribute(heads, codes, pa.array(values, pa.large_string()))
    snapshot = Snapshot(DATE, None, {"brand": brand}, {}, np.arange(3), pa.array(items, pa.large_string()))
    clients = {"acme": {"brand": "c"}, "twin": {"brand": "c"}, "nothing": {"brand": "none"}}
    parsed = {name: parse(tree, name, GRAPH.item_attributes) for name, tree in clients.items()}
    sets = item_sets(snapshot, log, parsed)
    raw = np.array(log.items.to_pylist())
    found = {name: sorted(raw[sets.mask(place)]) for place, name in enumerate(sets.names)}
    assert found == {
        "client:acme": ["x"], "client:twin": ["x"], "client:nothing": [], "brand=a": ["y"], "brand=b": ["x", "z"],
        "brand=client:acme": ["z"]}  # fmt: skip
    assert sets.place("acme") == 0 and sets.values.sum() == len(pairs) and sets.values.shape == (4, 4)


def test_groups_by_vectors_hold_no_item_that_the_log_has_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    near = {f"x{n:02d}": [1.0, 0.01 * n] for n in range(20)} | {f"y{n:02d}": [0.01 * n, 1.0] for n in range(20)}
    gone = {f"gone{n}": [1.0, 0.0] for n in range(5)}
    log = log_of(tmp_path, [("a", "x00", 2)], more_items=tuple(near))
    every = [*gone, *near]
    ledger = SimpleNamespace(raw_of=lambda ids: pa.array([every[i] for i in ids], pa.large_string()))
    vectors = np.arange(len(every)), np.array([*gone.values(), *near.values()])
    monkeypatch.setattr(stand_ins, "Ledger", SimpleNamespace(read=lambda segments: ledger))
    monkeypatch.setattr(stand_ins, "read_entities", lambda *_: vectors)
    published = SimpleNamespace(table=lambda model: SimpleNamespace(values=lambda: [DATE.isoformat()]))
    tables = SimpleNamespace(entity_ids=SimpleNamespace(segments=str), entity_embeddings=published)
    monkeypatch.setattr(stand_ins, "MOST_GROUPS", (100, 30, 2))
    all_groups = stand_ins.groups(log, tables, DATE, ["transe"], 0)
    found = {name: items for name, items in all_groups.items() if name.endswith(" of 4")}
    coarse = {name: items for name, items in all_groups.items() if name not in found}
    raw = np.array(log.items.to_pylist())
    assert sorted(item for items in found.values() for item in raw[items]) == sorted(near)
    halves = [{item[0] for item in raw[items]} for items in found.values()]
    assert len(halves) == 4 and all(len(half) == 1 for half in halves)
    assert set(coarse) == {"group 0 of 2", "group 1 of 2"} and {len(items) for items in coarse.values()} == {20}


def test_an_item_that_left_the_catalogue_is_no_item_of_the_set(tmp_path: Path) -> None:
    """A past night's graph has items that neither tonight's nor the log holds."""
    log = log_of(tmp_path, [("a", "x", 2), ("b", "y", 2)])
    sets, asked = sets_of(log, ["x"], ["y"]), []
    source = SimpleNamespace(vectors={}, of_items=lambda name, mask: asked.append((name, mask.tolist())))
    night = Published(source, log.items_among(pa.array(["gone", "y", "x"], pa.large_string())), np.arange(2))
    for place in (0, 1):
        near_of(night, [], past_of(log), sets, place, np.arange(2).astype(np.uint64))
    assert asked == [("", [False, False, True]), ("", [False, True, False])]


def test_reference_users_are_drawn_by_their_keys_and_come_by_their_raw_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the ledger's order, so that sums are the same to the last bit; several times as many as are used."""
    log, asked = log_of(tmp_path, [(f"u{n}", "x", 2) for n in range(9)] + [("other", "y", 2)]), []
    client = SimpleNamespace(as_client=lambda model, references, *most: asked.append(references.tolist()))
    source = SimpleNamespace(vectors={"transe": None}, of_items=lambda name, mask: client)
    ledger_ids = np.array([50, 7, 3, 9, 1, 8, 2, 6, 4, 5])
    keys = np.random.default_rng(0).integers(0, 1 << 60, 10).astype(np.uint64)
    night = Published(source, log.items_among(log.items), ledger_ids)
    for most in (3, 1):
        monkeypatch.setattr(set_affinities, "MOST_REFERENCES", most)
        near_of(night, ["transe"], past_of(log), sets_of(log, ["x"]), 0, keys)
    first = 1 + np.argsort(order_of(keys[1:], "references"))[: set_affinities.ASKED]
    assert asked == [ledger_ids[1:].tolist(), ledger_ids[np.sort(first)].tolist()], "`other` comes first, and bought y"


def test_each_models_affinities_stand_in_its_own_columns() -> None:
    source = SimpleNamespace(
        affinities_to=lambda client, model, rows: np.repeat(rows[:, None] + client, len(names_of(model)), 1))
    models = ["kqgc", "hugt", "rhgn", "transe"]
    found = Near(models, source, {"transe": 10.0, "rhgn": 20.0, "hugt": 30.0})(np.arange(3))
    mine = np.split(found, [8, 17, 25], axis=1)  # one that has probabilities has a column more
    assert found.shape[1] == len(affinity_names(models)) == 33 and np.isnan(mine[0]).all()
    for part, first in zip(mine[1:], (30, 20, 10), strict=True):
        assert (part == [[first], [first + 1], [first + 2]]).all()


def test_a_log_without_an_event_has_the_behaviours_that_were_learned(tmp_path: Path) -> None:
    log_of(tmp_path, [("a", "x", 200)])
    clean, day = table_input(tmp_path, "clean_events"), datetime.timedelta(days=1)
    log = read_log(clean, DATE - day, DATE, pa.array(["x"], pa.large_string()), ["view", "purchase"])
    assert len(log.users) == 0 and sorted(log.behaviors) == ["purchase", "view"] and log.first == TODAY
    past = past_of(log)
    assert columns(past, sets_of(log, ["x"]), 0, np.arange(0)).shape == (0, len(names(past)))
    assert read_log(clean, DATE - day, DATE, log.items).behaviors == {}


def both(root: Path, settings: Config) -> tuple[Lessons, Scored]:
    """What training learns from and what scoring reads, of one client."""
    tables, look, graph = Tables(**reads(root)), settings.lookalike, settings.graph
    clients, snapshot = clients_of(settings), tables.snapshot(WORLD, graph)
    log = log_before(tables, WORLD, snapshot, graph, look)
    lessons = lessons_from(log, item_sets(snapshot, log, clients), tables, WORLD, ["transe"], graph, look, 0)
    assert isinstance(lessons, Lessons), lessons
    model = {"client": "brand_0", "feature_set": "pooled", "columns": lessons.names}
    return lessons, columns_of_sets([model], tables, WORLD, settings)["brand_0"]


@pytest.fixture
def few_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learn_pool, "LEAST_SETS", 1)


def test_a_behaviour_last_seen_in_an_earlier_window_keeps_its_columns(tmp_path: Path, few_sets: None) -> None:
    """Else no night could score until the last label window has passed it."""
    log, old = planted(tmp_path, users=300), WORLD - datetime.timedelta(days=GRAPH.window_days + 3)
    log.events.loc[:9, ["event_time", "behavior"]] = pd.Timestamp(old, tz="UTC"), "cart"
    write_clean_events(tmp_path, log)
    lessons, scored = both(tmp_path, config())
    assert "cart:events" in lessons.names and scored.names == lessons.names
    found = pd.DataFrame(scored.columns(np.arange(20)), columns=scored.names)
    assert (found["cart:events"] == 0).all() and found["cart:since"].isna().all() and found["view:days"].any()


def test_eligible_are_the_active_also_where_that_reaches_beyond_the_graphs_window(
    tmp_path: Path, few_sets: None
) -> None:
    """The columns of vectors are of these very users, in this order."""
    log, settings = planted(tmp_path, users=300), config(active_days=60)
    quiet = log.events["user_id"] < "u00050"
    log.events.loc[quiet, "event_time"] = pd.Timestamp(WORLD - datetime.timedelta(days=50), tz="UTC")
    write_clean_events(tmp_path, log)
    lessons, scored = both(tmp_path, settings)
    active = active_users(table_input(tmp_path, "clean_events"), WORLD, 60)
    assert scored.raw.equals(active) and active[0].as_py() < "u00050"
    for window in lessons.windows:
        assert window.past.raw.equals(active_users(table_input(tmp_path, "clean_events"), window.past.date, 60))
    wanted = affinities_alone(tmp_path, settings)
    found = pd.DataFrame(scored.columns(scored.rows), columns=scored.names)[wanted.names]
    np.testing.assert_allclose(found.iloc[:, :4], wanted.values[:, :4], rtol=1e-5)


@pytest.mark.parametrize("name", ["interactions", "entity_embeddings", "user_embeddings"])
def test_a_window_whose_night_retention_took_a_table_of_has_no_vectors(
    tmp_path: Path, few_sets: None, name: str
) -> None:
    planted(tmp_path, users=300)
    table = table_input(tmp_path, name).table("transe" if "embeddings" in name else None)
    Path(table.path(START.isoformat())).rename(tmp_path / "gone")
    lessons, scored = both(tmp_path, config())
    window, at = lessons.windows[0], [lessons.names.index(name) for name in affinity_names(["transe"])]
    assert window.past.date == START and np.isnan(lessons.columns(window.past, 0, np.arange(9))[:, at]).all()
    assert np.isfinite(scored.columns(np.arange(9))[:, at]).all(), "tonight's are there"


def affinities_alone(root: Path, settings: Config) -> Columns:
    """Of brand 0, as of a client learnt alone."""
    source = Tables(**reads(root)).source(WORLD, ["transe"], GRAPH, settings.lookalike, 0)
    return source.client("client:brand_0", clients_of(settings)["brand_0"]).affinity("transe")


def test_affinities_are_those_of_a_client_alone_and_past_buyers_are_left_out_where_asked_for(
    tmp_path: Path, few_sets: None
) -> None:
    log, settings = planted(tmp_path, users=300), config(exclude_past_buyers=True)
    wanted, (_, scored) = affinities_alone(tmp_path, settings), both(tmp_path, settings)
    known = log.events[log.events["event_time"] < pd.Timestamp(WORLD, tz="UTC")]
    of_brand = known["item_id"].str[1:].astype(int) % 4 == 0
    before = set(known[of_brand & (known["behavior"] == "purchase")]["user_id"])
    raw = np.array(scored.raw.to_pylist())
    assert raw[scored.rows].tolist() == [user for user in raw if user not in before] and len(before) > 50
    found = pd.DataFrame(scored.columns(np.arange(len(raw))), columns=scored.names)[wanted.names]
    np.testing.assert_allclose(found, wanted.values, rtol=1e-4, atol=1e-5)
    assert np.isfinite(wanted.values).all()


def test_money_given_back_makes_no_share_infinite(tmp_path: Path) -> None:
    """One row of a source must not stop the night: trees refuse an infinite figure."""
    rows = [("a", "x", 3), ("a", "y", 3), ("a", "z", 3), ("b", "x", 2), ("b", "y", 2), ("c", "x", 2), ("c", "y", 1)]
    values = [3e38, -3e38, 1e-20, 3e38, 3e38, -5.0, 6.0]
    log = log_of(tmp_path, rows, quantity=[1.0] * 3 + [3e38] * 2 + [1.0] * 2, value=values)
    found = told(past_of(log), sets_of(log, ["x"]))
    assert not np.isinf(found.to_numpy()).any()
    assert found["purchase:share_of_money"].iloc[[0, 2]].tolist() == [MOST_SHARE, -5]
