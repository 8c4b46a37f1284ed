"""The pure functions of `make paper-lookalike`: what is taken out of a log, who is cold together, what is chosen."""

from __future__ import annotations

import dataclasses
import json
import typing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse

from jobs.audiences.event_log import Behavior, EventLog
from jobs.audiences.item_sets import CLIENT, ItemSets, rows_of
from jobs.audiences.nights import Tables
from jobs.audiences.pooled import Lessons
from jobs.audiences.set_columns import Past
from jobs.configuration.settings import Settings
from jobs.program import Input, Output
from jobs.tables import TABLES
from models.families import family_of, job_of, trained_models
from tests.papers import paper_lookalike
from tests.papers.cold_clients import groups, known_buyers, pool_sets, without
from tests.papers.gains import Scored
from tests.papers.lookalike_cache import cached, code_hash
from tests.papers.lookalike_figures import Results, best, by_thirds, few_of, figures_of, mean_gain, mean_log_loss
from tests.papers.lookalike_frames import ALL_MODELS, MODELS_OF, Frame
from tests.papers.lookalike_limits import next_baskets, told
from tests.papers.lookalike_peers import alike, popularity
from tests.papers.lookalike_rows import variants
from tests.papers.paper_lookalike import Draws, last_lines, named
from tests.papers.seed_lists import hidden, peers_of, seeds_of
from tests.papers.shops import program

N = 6  # items


def log_of(rows: list[tuple[int, int, int]], users: int = 3) -> EventLog:
    """Purchases (user, item, day), one each."""
    user, item, day = (np.array(column, np.int32) for column in zip(*sorted(rows), strict=True))
    order = np.lexsort((item, day, user))
    user, item, day = user[order], item[order], day[order]
    ones, never = np.ones(len(user), np.float32), np.full(len(user), -(1 << 30), np.int32)
    start = np.searchsorted(user, np.arange(users + 1))
    names = pa.array([str(k) for k in range(users)], pa.large_string())
    items = pa.array([str(k) for k in range(N)], pa.large_string())
    return EventLog(names, items, {"purchase": Behavior(start, item, day, ones, ones, never)}, int(day.min()))


def sets_of(**members: list[int]) -> ItemSets:
    names = [name if "=" in name else CLIENT + name for name in members]
    return ItemSets(names, rows_of([np.array(m) for m in members.values()], N), sparse.csr_array((N, 0)))


def past_of(log: EventLog, today: int) -> Past:
    return Past(log, today, 180, 45, "purchase", np.arange(len(log.users)))


def events(log: EventLog) -> list[tuple[int, int, int]]:
    rows = log.behaviors["purchase"]
    return [(int(u), int(i), int(d)) for u, i, d in zip(rows.user, rows.item, rows.day, strict=True)]


def test_only_known_buyers_keep_what_they_bought_of_a_cold_client() -> None:
    rows = [(0, 1, 5), (0, 2, 6), (1, 1, 5), (1, 1, 12), (2, 3, 7)]
    cold, kept = np.isin(np.arange(N), [1]), np.array([True, False, False])
    left = without(log_of(rows), cold, kept, end=10)
    assert events(left) == [(0, 1, 5), (0, 2, 6), (1, 1, 12), (2, 3, 7)]  # what comes after the day is the label
    assert list(left.behaviors["purchase"].start) == [0, 2, 3, 4]
    assert events(without(log_of(rows), cold, np.zeros(3, bool), 1 << 30)) == [(0, 2, 6), (2, 3, 7)]


def test_known_buyers_bought_before_the_day_and_fewer_are_among_more() -> None:
    log = log_of([(u, 1, 5) for u in range(8)] + [(8, 1, 20), (9, 2, 5)], users=10)
    keys, of_client = np.arange(10).astype(np.uint64), np.isin(np.arange(N), [1])
    three, five = (set(known_buyers(past_of(log, 10), of_client, "c", n, keys)) for n in (3, 5))
    assert len(three) == 3 and three < five and not five & {8, 9}
    assert len(known_buyers(past_of(log, 10), of_client, "c", 0, keys)) == 0


def test_sets_that_are_mostly_a_cold_clients_leave_the_pool() -> None:
    values = {"c": [0, 1], "other": [2, 3], "a=most": [0, 1, 2], "a=half_of_it": [1, 2, 3], "a=apart": [4, 5]}
    left = pool_sets(sets_of(**values), ["c"])
    assert left.names == [CLIENT + "c", CLIENT + "other", "a=half_of_it", "a=apart"]
    assert list(np.flatnonzero(left.mask(left.place("other")))) == [2, 3]
    wide = pool_sets(sets_of(c=[0, 1], **{"a=all": [0, 1, 2, 3, 4, 5]}), ["c"])
    assert wide.names == [CLIENT + "c"]  # it holds all of the client


def test_a_hidden_client_teaches_nothing_of_its_lists() -> None:
    left = hidden(sets_of(c=[0, 1], other=[2, 3], **{"a=most": [0, 1, 2], "a=apart": [4, 5]}), ["c"])
    assert left.names == [CLIENT + "other", "a=apart"]
    assert list(np.flatnonzero(left.mask(left.place("other")))) == [2, 3]


def test_seeds_are_eligible_buyers_before_the_day_and_fewer_are_among_more() -> None:
    log = log_of([(u, 1, 5) for u in range(8)] + [(8, 1, 20), (9, 2, 5)], users=10)
    past = dataclasses.replace(past_of(log, 10), eligible=np.array([1, 2, 3, 4, 5, 8, 9]))
    keys, of_client = np.arange(10).astype(np.uint64), np.isin(np.arange(N), [1])
    three, all_five = (set(seeds_of(past, of_client, "c", n, keys)) for n in (3, 20))
    assert len(three) == 3 and three < all_five == {1, 2, 3, 4, 5}


def test_who_is_told_the_next_baskets_knows_so_many_days_of_the_window_and_no_more() -> None:
    log = log_of([(0, 1, 5), (0, 2, 10), (0, 3, 10), (0, 4, 12), (0, 5, 60), (1, 0, 9), (2, 1, 54), (2, 2, 55)])
    past = past_of(log, 10)
    of = {number: next_baskets(past, 45, number).toarray() for number in (1, 2, 4)}
    assert [list(np.flatnonzero(row)) for row in of[1]] == [[2, 3], [], [1]]
    assert [list(np.flatnonzero(row)) for row in of[2]] == [[2, 3, 4], [], [1]]
    assert np.array_equal(of[4], of[2]), "from day 55 on is no part of the window"
    assert next_baskets(dataclasses.replace(past, eligible=np.array([2])), 45, 1).shape == (1, N)


def test_what_is_told_of_the_next_basket_is_a_column_of_its_own() -> None:
    past, sets = past_of(log_of([(0, 1, 10), (1, 2, 10), (2, 1, 9)]), 10), sets_of(c=[1])
    nothing, columns, names = np.zeros(0), lambda past, place, rows: np.zeros((len(rows), 2)), ["a", "b"]
    settings = typing.cast(Settings, SimpleNamespace(lookalike=SimpleNamespace(label_window_days=45)))
    lessons = Lessons(sets_of(c=[2]), [], nothing, nothing, columns, names)  # as the log of the lessons numbers items
    frame = told(Frame(settings, typing.cast(Tables, None), past.date, lessons, past, sets, columns, names, {}), 1)
    for columns, told_of in ((frame.columns, [0, 1, 0]), (frame.lessons.columns, [0, 0, 1])):
        assert columns(past, sets.place("c"), np.array([2, 0, 1])).tolist() == [[0, 0, told] for told in told_of]
    assert frame.names == frame.lessons.names == ["a", "b", "told:1"]


def test_a_gain_among_thin_histories_shows_there_alone() -> None:
    labels, events = np.arange(240) % 4 == 0, np.arange(240)[::-1]
    random = np.random.default_rng(0)
    noise = random.random(240)
    better = np.where(events < 80, labels + noise * 0.1, noise)
    results = Results([Scored("c", 0, "bare", labels, noise), Scored("c", 0, "more", labels, better)], [None] * 2)
    thin, middling, long = by_thirds(results, events, ["more"], "bare")
    assert [part["events"] for part in (thin, middling, long)] == [[0, 79], [80, 159], [160, 239]]
    assert thin["over"]["more"]["gain"] > 50 and thin["over"]["more"]["interval"][0] > 0
    assert middling["over"]["more"]["gain"] == long["over"]["more"]["gain"] == 0


def test_a_client_whom_no_user_of_a_third_buys_from_has_no_part_in_it() -> None:
    random, events = np.random.default_rng(1), np.arange(240)
    everywhere, late, one = np.arange(240) % 4 == 0, np.arange(240) >= 170, np.arange(240) == 100
    scores = {name: random.random(240) for name in ("bare", "more")}
    scored = [Scored(client, 0, row, labels, margins) for row, margins in scores.items()
              for client, labels in (("all", everywhere), ("late", late), ("one", one))]  # fmt: skip
    alone = Results([each for each in scored if each.client == "all"], [])
    found, expected = (by_thirds(Results(rows, []), events, ["more"], "bare") for rows in (scored, alone.scored))
    assert found[0] == expected[0], "nobody of the thin third buys from the other two"
    assert found[1]["over"]["more"] != expected[1]["over"]["more"], "one does from `one`"
    assert all(np.isfinite([*part["over"]["more"]["interval"], part["over"]["more"]["gain"]]).all() for part in found)
    nobody = Results([Scored("none", 0, row, ~(events >= 0), margins) for row, margins in scores.items()], [])
    assert by_thirds(nobody, events, ["more"], "bare") == []


def test_a_users_events_are_those_of_the_window() -> None:
    log = log_of([(0, 1, 10), (0, 2, 200), (0, 2, 205), (1, 1, 205), (1, 1, 210), (2, 3, 209)])
    past = dataclasses.replace(past_of(log, 210), eligible=np.array([0, 1]))
    frame = Frame(typing.cast(Settings, None), typing.cast(Tables, None), past.date, typing.cast(Lessons, None), past,
                  sets_of(c=[1]), lambda *_: np.zeros((0, 0)), [], {})  # fmt: skip
    assert frame.events.tolist() == [2, 1], "neither the event of 200 days before nor that of the day itself"


def test_fewer_seeds_or_models_leave_the_committed_figures_and_every_run_of_the_test_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paper_lookalike, "RESULTS", tmp_path / "paper_lookalike.json")

    def runs(code: str, seeds: int, name: str, models: list[str] = ALL_MODELS) -> int:
        monkeypatch.setattr(paper_lookalike, "code_of", lambda *_: code)
        paper_lookalike.write([], {"seeds": seeds, "models": models}, 1)
        return json.loads((tmp_path / f"paper_lookalike{name}.json").read_text())["test_runs"]

    assert [runs("a", 3, ""), runs("a", 3, "")] == [1, 1]
    assert [runs("b", 1, "_1_of_3_seeds"), runs("b", 1, "_1_of_3_seeds"), runs("c", 3, "")] == [2, 2, 3]
    assert runs("c", 3, "_hugt", ["hugt"]) == 4 and runs("c", 1, "_hugt_1_of_3_seeds", ["hugt"]) == 5
    assert json.loads((tmp_path / "paper_lookalike.json").read_text())["test_runs"] == 3


def test_of_some_models_alone_there_are_rows_of_their_families_and_all() -> None:
    assert variants(["kqgc_mean", "transe"]) == {
        "": ([], 3), "+transe": (["transe"], 3), "+kqgc": (["kqgc_mean"], 3), "+all": (["kqgc_mean", "transe"], 3)}
    assert list(variants(ALL_MODELS)) == ["", *(f"+{family}" for family in MODELS_OF), "+all"]
    assert list(trained_models(ALL_MODELS, {})) == ALL_MODELS
    assert named(ALL_MODELS) == "" and named(["transe", "kqgc_mean"]) == "transe_kqgc_mean"
    assert trained_models(["kqgc_mean"], {}) == ("transe", "kqgc_mean"), "with what it starts from, before it"
    assert peers_of(["transe"], 5) == ["recency", "count", "nearest transe", "density transe"]


def test_the_peer_of_few_seeds_is_chosen_on_the_day_before() -> None:
    labels = np.arange(40) % 4 == 0
    good, bad = (np.where(labels, 1.0, 0.0) * sign + np.arange(40) * 1e-6 for sign in (1, -1))

    def results(ours: np.ndarray, a: np.ndarray, b: np.ndarray) -> dict[int, Results]:
        rows = {"ours": ours, "a": a, "b": b}
        return {5: Results([Scored("c", 0, row, labels, margins) for row, margins in rows.items()], [None] * 3)}

    few = few_of(results(bad, good, bad), results(good, bad, good), "ours", lambda _: ["a", "b"])
    (row,) = few.rows("seeds")
    assert row["peer"] == "a" and row["seeds"] == 5 and row["gain"] > 0 and row["pr_auc"]["ours"] == 1
    assert few_of({5: Results([], [])}, {5: Results([], [])}, "ours", lambda _: ["a"]).rows("seeds") == []


def test_clients_that_share_an_item_are_not_cold_together() -> None:
    sets = sets_of(a=[0, 1], b=[1, 2], c=[3], d=[2, 4])
    assert groups(sets, ["a", "b", "c", "d"]) == [["a", "c", "d"], ["b"]]


def test_popularity_by_the_last_purchase_and_by_their_number() -> None:
    log = log_of([(0, 1, 9), (1, 1, 3), (1, 1, 4), (2, 2, 9)])
    found = popularity(past_of(log, 10), np.isin(np.arange(N), [1]))
    assert list(np.argsort(-found["recency"])) == [0, 1, 2] and list(np.argsort(-found["count"])) == [1, 0, 2]


def test_alike_are_items_outside_the_set() -> None:
    kin, of_set = np.array([9, 3, 2, 0, 0, 0], np.float32), np.isin(np.arange(N), [0])
    assert list(np.flatnonzero(alike(kin, of_set))) == [1, 2]


def results_of(**margins: np.ndarray) -> Results:
    labels = np.arange(40) % 4 == 0
    scored = [Scored("c", 0, row, labels, values) for row, values in margins.items()]
    return Results(scored, [None] * len(scored))


RIGHT, WRONG = (np.arange(40) % 4 == 0) * 2.0 + np.linspace(0, 1, 40), np.linspace(1, 0, 40)


def test_the_best_row_and_gains_over_two_shops() -> None:
    figures = figures_of(results_of(good=RIGHT, bad=WRONG))
    assert best(figures, ["bad", "good"]) == "good"
    one = {("a", "c"): np.array(0.6), ("b", "c"): np.array(0.5)}
    two = {("a", "c"): np.array(0.5), ("b", "c"): np.array(0.5)}
    assert mean_gain([(one, "a", "b"), (two, "a", "b")]) == pytest.approx(10)


def test_log_loss_of_scores_is_calibrated_on_the_window_before() -> None:
    now = results_of(good=RIGHT)
    assert mean_log_loss(now, "good", None) is None
    calibrated, scaled = mean_log_loss(now, "good", now), results_of(good=1000 * RIGHT)
    assert calibrated == pytest.approx(mean_log_loss(scaled, "good", scaled)) and calibrated < 0.3
    assert mean_log_loss(results_of(bad=WRONG), "bad", results_of(bad=WRONG)) == pytest.approx(0.5623, abs=0.01)


def test_the_last_line_counts_cold_clients_of_0_5_and_20_buyers() -> None:
    def figures(value: float) -> dict[tuple[str, str], np.ndarray]:
        rows = {"strong": 0.5, "pooled": 0.55, "pooled+transe": 0.5775, "pooled+kqgc": 0.55, "pooled+ram_gnn": 0.55,
                "pooled+ram_gnn_rec": 0.605, "pooled+relgnn": 0.55, "pooled+hugt": 0.55,
                "peer": 0.4}  # fmt: skip
        return {(row, "c"): np.array(v) for row, v in (rows | {"pooled": value}).items()}

    warm, cold = figures(0.55), {0: figures(0.44), 5: figures(0.48), 20: figures(0.4), 100: figures(9.0)}
    draws = {key: np.array([value, value]) for key, value in warm.items()}
    shop = Draws((warm, draws), (cold, cold), "pooled", dict.fromkeys(cold, "peer"))
    lines, last = last_lines([shop, shop], ALL_MODELS)
    assert lines == [
        "transe_over_pooled: 5.00 low: 5.00",
        "ram_gnn_over_pooled: 0.00 low: 0.00",
        "ram_gnn_rec_over_pooled: 10.00 low: 10.00",
        "kqgc_over_pooled: 0.00 low: 0.00",
        "relgnn_over_pooled: 0.00 low: 0.00",
        "hugt_over_pooled: 0.00 low: 0.00",
        "over_strong: 10.00 low: 10.00 cold: 10.00",
    ]
    assert last["cold"] == pytest.approx(10)
    assert last_lines([shop], ["transe", "kqgc_mean"])[0] == [lines[0], lines[3], lines[-1]]


def test_the_shops_train_every_model_that_learns_no_label() -> None:
    assert {"transe", "ram_gnn", "ram_gnn_rec", "kqgc_mean"} <= set(ALL_MODELS) and "rhgn" not in ALL_MODELS
    for model in ALL_MODELS:
        job, more = job_of(model), family_of(model).builders
        for name in (job.program, *more):
            hints = typing.get_type_hints(program(name).run)
            tables = {table for table, kind in hints.items() if kind in (Input, Output)}
            assert tables and tables <= set(TABLES), name


def test_what_was_computed_is_kept_until_its_key_changes(tmp_path) -> None:
    counted = []

    def compute() -> dict[str, np.ndarray]:
        counted.append(1)
        return {"row\tclient": np.arange(3)}

    for key in ("a", "a", "b"):
        assert list(cached(tmp_path, key, compute)["row\tclient"]) == [0, 1, 2]
    assert len(counted) == 2
    (tmp_path / "x.py").write_text("1")
    before = code_hash([tmp_path])
    (tmp_path / "x.py").write_text("2")
    assert code_hash([tmp_path]) != before
