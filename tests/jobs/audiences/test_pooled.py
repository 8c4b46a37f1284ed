"""The pooled classifier through both jobs: who gets an audience, and that nothing leaks."""

from __future__ import annotations

import dataclasses
import datetime
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from jobs.audiences import learn_pool, pooled
from jobs.audiences.event_log import day_number, read_log
from jobs.audiences.item_sets import item_sets
from jobs.audiences.learn_pool import KEPT_SETS, lessons_of, past_of
from jobs.audiences.nights import Tables
from jobs.audiences.pooled_rows import NOBODYS, RATIO, draw, odds_of_draw
from jobs.audiences.score_lookalike import Scored, warn_of_no_items
from jobs.audiences.set_columns import columns, names
from jobs.audiences.train_lookalike import Config, clients_of
from jobs.configuration.load import load_settings
from jobs.configuration.messages import ConfigError
from jobs.program import JobError, Skip, metrics
from tests.jobs.audiences.worlds import (
    DATE,  # fmt: skip
    START,
    STYLED,
    figures,
    planted,
    reads,
    score,
    table_input,
    train,
)
from tests.jobs.audiences.worlds import config as of_brands
from tests.jobs.report.tables_by_hand import Log, write_clean_events, write_graphs

CLIENTS = {
    "brand_0": {"brand": "b0"}, "brand_1": {"brand": "b1"}, "twin": {"brand": "b0"},
    "both": {"any": [{"brand": "b0"}, {"brand": "b1"}]}, "nothing": {"brand": "none"},
    "all_items": {"not": {"brand": "none"}}, "one_item": {"item_id": ["i7"]}}  # fmt: skip


def config(**changes: Any) -> Config:
    found = of_brands(**{"clients": CLIENTS, "feature_sets": None, "label_windows": 2} | changes)
    return dataclasses.replace(found, graph=STYLED)


def rows(root: Path, name: str) -> pd.DataFrame:
    return table_input(root, name).table().read(DATE.isoformat()).to_pandas()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Log, dict, dict]:
    root = tmp_path_factory.mktemp("pooled")
    log = planted(root, styles=24)
    return root, log, train(root, config()), score(root, config())


def test_a_client_without_an_item_is_warned_of(caplog: pytest.LogCaptureFixture, world: tuple) -> None:
    """A misspelt value gives an audience like another, so it has to be said."""
    items = {row["client"]: row["items"] for row in world[3]["audiences"]}
    assert items["nothing"] == 0 < items["brand_0"] < items["both"] < items["all_items"] and items["one_item"] == 1
    of = Scored([], lambda rows: rows, np.arange(1), pa.array(["u"]), DATE)
    warn_of_no_items({name: dataclasses.replace(of, items=n) for name, n in items.items()} | {"alone": of})
    assert [record.args[0] for record in caplog.records] == ["nothing"]


def test_every_client_has_an_audience_however_few_its_buyers(world: tuple) -> None:
    root, _, found, scored = world
    assert found["pool"]["sets"] >= 40 and found["pool"]["windows"] == 2
    audiences = rows(root, "audiences")
    assert audiences.groupby("client").size().to_dict() == dict.fromkeys(CLIENTS, 40)
    clients = {row["client"]: row for row in found["clients"]}
    assert clients["nothing"]["own_buyers"] == 0 and clients["nothing"]["own_share"] == 0
    assert clients["brand_0"]["own_buyers"] > clients["one_item"]["own_buyers"] > 0
    assert {row["feature_set"] for row in scored["audiences"]} == {"blend"}
    scores = rows(root, "lookalike_scores")
    assert scores["score"].between(0, 1).all() and set(scores["feature_set"]) == {
        "baseline", "strong", "pooled", "own", "blend"}  # fmt: skip


def test_a_client_without_baselines_is_no_warning(world: tuple, caplog: pytest.LogCaptureFixture) -> None:
    root, *_ = world
    with caplog.at_level("INFO"):
        train(root, config())
    found = [r for r in caplog.records if "client nothing" in r.getMessage() and "baselines" in r.getMessage()]
    assert [r.levelname for r in found] == ["INFO"] and "no model tonight" not in caplog.text


def test_equal_clients_have_equal_pooled_scores(world: tuple) -> None:
    root, *_ = world
    scores = rows(root, "lookalike_scores").query("feature_set == 'pooled'")
    ranks = {name: mine.set_index("user_id")["score"].rank() for name, mine in scores.groupby("client")}
    assert ranks["twin"].corr(ranks["brand_0"]) > 0.999 > ranks["brand_1"].corr(ranks["brand_0"])


def test_calibrated_to_what_buyers_there_are(world: tuple) -> None:
    root, _, found, _ = world
    scores = rows(root, "lookalike_scores").query("feature_set == 'blend'").groupby("client")["score"].mean()
    for row in found["clients"]:
        assert scores[row["client"]] == pytest.approx(row["prevalence"], abs=0.03)


def test_the_same_night_twice_is_the_same(world: tuple) -> None:
    root, *_ = world
    tables = [table_input(root, name).table() for name in ("lookalike_models", "lookalike_scores", "audiences")]
    before = [table.manifest(DATE.isoformat()).content_hash for table in tables]
    train(root, config())
    score(root, config())
    assert before == [table.manifest(DATE.isoformat()).content_hash for table in tables]


def test_the_first_night_has_audiences_from_history_alone(tmp_path: Path) -> None:
    """Nothing was run at the label windows' starts, and no vectors were published at all."""
    planted(tmp_path, styles=24)
    for table in ("knowledge_graph", "interactions"):
        (tmp_path / table / f"dt={START}").rename(tmp_path / f"{table} gone")
    found = train(tmp_path, config())
    score(tmp_path, config())
    assert {row["feature_set"] for row in found["pr_auc"]} == {"pooled", "own", "blend"}
    assert len(rows(tmp_path, "audiences")) == 40 * len(CLIENTS)


@pytest.mark.parametrize("reason", ["alone", "few sets", "short log"])
def test_learnt_alone_where_asked_for_and_where_there_is_too_little(tmp_path: Path, reason: str) -> None:
    planted(tmp_path, users=300, styles=0 if reason == "few sets" else 24)
    changes: dict[str, Any] = {"min_positives": 20, "feature_sets": ["baseline"]}
    changes |= {"pooled": False} if reason == "alone" else {}
    if reason == "short log":
        for day in table_input(tmp_path, "clean_events").table().values():
            if day < (START - datetime.timedelta(days=3)).isoformat():
                (tmp_path / "clean_events" / f"day={day}").rename(tmp_path / f"gone {day}")
    found = train(tmp_path, config(**changes))
    assert {row["feature_set"] for row in found["pr_auc"]} == {"baseline"}
    wanted = {"alone": "pooled is false", "few sets": "20 are needed", "short log": "begins less than two label"}
    assert wanted[reason] in found["pool"]["reason"]


def test_an_attribute_with_another_value_for_each_item_teaches_nothing(tmp_path: Path) -> None:
    planted(tmp_path, styles=80)
    tables, settings = Tables(**reads(tmp_path)), config()
    snapshot, look = tables.snapshot(DATE, settings.graph), settings.lookalike
    found = lessons_of(tables, DATE, snapshot, clients_of(settings), ["transe"], settings.graph, look, 0)
    assert re.match(r"\d+ sets of items have buyers enough .* 20 are needed", str(found))


def test_one_client_alone_is_served(tmp_path: Path) -> None:
    planted(tmp_path, styles=24)
    settings = config(clients={"brand_0": {"brand": "b0"}}, label_windows=1)
    assert {row["client"] for row in train(tmp_path, settings)["clients"]} == {"brand_0"}
    score(tmp_path, settings)
    assert len(rows(tmp_path, "audiences")) == 40


def test_a_window_in_which_nobody_bought_is_learnt_alone_and_skipped_by_name(tmp_path: Path) -> None:
    log = planted(tmp_path, users=300, styles=24)
    log.events.loc[log.events["event_time"] >= pd.Timestamp(START, tz="UTC"), "behavior"] = "view"
    write_clean_events(tmp_path, log)
    with pytest.raises(Skip, match="None of 7 clients has buyers enough"):
        train(tmp_path, config())


def lessons(root: Path, settings: Config) -> pooled.Lessons:
    tables, look = Tables(**reads(root)), settings.lookalike
    found = lessons_of(
        tables, DATE, tables.snapshot(DATE, settings.graph), clients_of(settings), ["transe"], settings.graph, look, 0)
    assert isinstance(found, pooled.Lessons), found
    return found


def test_no_event_of_a_label_window_changes_a_column_as_of_its_start(tmp_path: Path) -> None:
    log = planted(tmp_path, users=300, styles=24)
    settings = config(label_window_days=7)

    def columns_then() -> np.ndarray:
        tables, graph = Tables(**reads(tmp_path)), settings.graph
        snapshot = tables.snapshot(DATE, graph)
        later = read_log(tables.clean_events, START - datetime.timedelta(days=60), DATE, snapshot.item_raw)
        sets, past = item_sets(snapshot, later, clients_of(settings)), past_of(later, START, graph, settings.lookalike)
        everybody = np.arange(len(past.eligible))
        assert len(names(past)) == columns(past, sets, 0, everybody).shape[1]
        return np.concatenate([columns(past, sets, place, everybody) for place in range(len(CLIENTS))])

    before = columns_then()
    in_window = log.events["event_time"] >= pd.Timestamp(START, tz="UTC")
    random = np.random.default_rng(1)
    log.events.loc[in_window, "item_id"] = random.permutation(log.events.loc[in_window, "item_id"].to_numpy())
    log.events.loc[in_window, "user_id"] = random.permutation(log.events.loc[in_window, "user_id"].to_numpy())
    log.events.loc[in_window & (random.random(len(log.events)) < 0.3), "behavior"] = "view"
    write_clean_events(tmp_path, log)
    after = columns_then()
    np.testing.assert_array_equal(before, after)
    log.events.loc[~in_window, "value"] += 1.0 * random.integers(0, 9, int((~in_window).sum()))
    write_clean_events(tmp_path, log)
    assert not np.array_equal(before, columns_then(), equal_nan=True)


def test_a_users_rows_are_on_one_side_of_every_split(world: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    root, *_ = world
    found, fits = lessons(root, config()), []

    monkeypatch.setattr(pooled, "fit_folds", lambda *given: fits.append(given))
    taught = pooled.rows_of_pool(found, prospects=False)
    pooled.fit_rows(taught, 4, settings_trees(), 0)
    ((features, _, fold, folds, *_),) = fits
    kept = taught.fold[taught.fold != NOBODYS]
    assert len(features) == len(kept) and (taught.fold == NOBODYS).any() and folds == 4
    np.testing.assert_array_equal(fold, kept)
    users = [window.past.log.users for window in found.windows]
    assert all(one.equals(users[0]) for one in users), "a user has one fold, whatever the window"


def test_columns_are_the_same_in_whatever_order_sets_windows_and_users_are_asked_for(world: tuple) -> None:
    """What hangs on a set alone is kept between chunks of users; never another set's, nor another window's."""
    found = lessons(world[0], config())
    asked = [(window, place) for place in range(KEPT_SETS + 2) for window in found.windows]
    first = [found.columns(window.past, place, np.arange(40)) for window, place in asked]
    for (window, place), wanted in reversed(list(zip(asked, first, strict=True))):
        part = found.columns(window.past, place, np.arange(39, 9, -1))
        np.testing.assert_array_equal(part, wanted[39:9:-1])
    assert len({one.tobytes() for one in first}) > KEPT_SETS


def settings_trees() -> Any:
    return config().lookalike.pooled_trees


def test_rows_are_three_others_to_a_buyer_and_their_odds_are_known() -> None:
    random = np.random.default_rng(0)
    labels, allowed = random.random(4000) < 0.1, random.random(4000) < 0.9
    chosen = draw(labels, allowed, random.random(4000), most=150)
    assert labels[chosen].sum() == 150 and (~labels[chosen]).sum() == RATIO * 150 and allowed[chosen].all()
    buyers, others = (labels & allowed).sum(), (~labels & allowed).sum()
    assert np.exp(odds_of_draw(labels, allowed)) == pytest.approx(others / buyers / RATIO, rel=0.01)
    assert np.isfinite(odds_of_draw(np.zeros(9, bool), np.ones(9, bool)))
    common = random.random(4000) < 0.9
    thinned = draw(common, allowed, random.random(4000), most=4000)
    others = int((~common & allowed).sum())
    assert common[thinned].sum() == others // RATIO and (~common[thinned]).sum() == RATIO * (others // RATIO)


def test_a_set_of_the_same_items_counts_once_under_the_clients_name(world: tuple) -> None:
    root, *_ = world
    sets = lessons(root, config()).sets
    assert "brand=b0" not in sets.names and "brand=b2" in sets.names
    members = [sets.mask(place).tobytes() for place in range(len(CLIENTS), len(sets))]
    assert len(set(members)) == len(members)


def test_an_excluded_attribute_makes_no_set_and_says_nothing_of_kind(world: tuple) -> None:
    root, *_ = world
    all_sets, sets = lessons(root, config()).sets, lessons(root, config(exclude_attributes=["category"])).sets
    assert any(name.startswith("category=") for name in all_sets.names)
    assert not any(name.startswith("category=") for name in sets.names)
    assert sets.values.shape[1] == all_sets.values.shape[1] - 5


def test_models_that_learned_with_other_attributes_score_nobody(world: tuple) -> None:
    root, *_ = world
    with pytest.raises(JobError, match=r"exclude_attributes \[\]; found \['category'\] now. Run train_lookalike again"):
        score(root, config(exclude_attributes=["category"]))


def test_history_is_counted_from_the_events_themselves(world: tuple) -> None:
    root, log, *_ = world
    found = lessons(root, config())
    past, place = found.windows[0].past, found.sets.place("brand_1")
    mine = columns(past, found.sets, place, np.arange(len(past.eligible)))
    brand = dict(zip(log.items["brand"]["id"], log.items["brand"]["value"], strict=True))
    age = (pd.Timestamp(START, tz="UTC") - log.events["event_time"].dt.normalize()).dt.days
    known = log.events[(age > 0) & (age <= STYLED.window_days) & (log.events["behavior"] == "purchase")]
    bought = known[known["item_id"].map(brand) == "b1"].assign(age=age)
    wanted = bought.groupby("user_id").agg(events=("age", "size"), days=("age", "nunique"), since=("age", "min"))
    table = pd.DataFrame(mine, index=past.raw.to_pylist(), columns=names(past))
    for column in ("events", "days", "since"):
        got = table[f"purchase:{column}"]
        expected = wanted[column].reindex(got.index)
        np.testing.assert_allclose(got, expected if column == "since" else expected.fillna(0))
    assert past.today == day_number(START) and pa.types.is_large_string(past.raw.type)


def test_the_backtest_is_of_clients_as_they_were_and_tells_how_many_own_buyers_were_known(
    world: tuple, caplog: pytest.LogCaptureFixture
) -> None:
    root, log, *_ = world
    later = DATE + datetime.timedelta(days=7)
    write_graphs(root, log, later, STYLED)
    with pytest.raises(Skip, match=f"no lookalike model of {later}"):
        metrics.rows.clear()
        score(root, config(), later)
    found = {row["client"]: row["own_buyers"] for row in figures()["backtest"]}
    assert found["nothing"] == 0 < found["one_item"] < found["brand_0"]
    with caplog.at_level("WARNING"), pytest.raises(Skip):
        metrics.rows.clear()
        score(root, config(clients=CLIENTS | {"twin": {"brand": "b1"}}), later)
    assert {row["client"] for row in figures()["backtest"]} == found.keys() - {"twin"}
    assert f"no backtest of client twin: its scores of {DATE} are of another predicate" in caplog.text


def test_a_client_without_the_model_that_is_to_score_is_scored_by_blend(
    world: tuple, caplog: pytest.LogCaptureFixture
) -> None:
    root, *_ = world
    settings = config(score_with="strong")
    train(root, settings)
    used = {row["client"]: row["feature_set"] for row in score(root, settings)["audiences"]}
    assert used.keys() == CLIENTS.keys() and set(used.values()) == {"strong", "blend"}
    assert used["nothing"] == "blend" and used["brand_0"] == "strong"
    said = r"score_with is strong, of which there is no model tonight for .*nothing.*: scored by blend"
    assert re.search(said, caplog.text)
    chosen = rows(root, "lookalike_scores").query("chosen")
    assert dict(zip(chosen["client"], chosen["feature_set"], strict=True)) == used
    train(root, config())
    score(root, config())


def test_score_with_names_what_scores(world: tuple, tmp_path: Path) -> None:
    root, *_ = world
    settings = config(score_with="pooled")
    train(root, settings)
    assert {row["feature_set"] for row in score(root, settings)["audiences"]} == {"pooled"}
    path = tmp_path / "config.yaml"
    text = (
        "data_root: data\nsource: {events: {path: e.parquet}}\nevents: {behaviors: [purchase]}\n"
        "graph: {behaviors: {purchase: {}}}\nlookalike: {pooled: false, score_with: pooled}\n")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=re.escape("lookalike.score_with is 'pooled'")):
        load_settings(path)
    train(root, config())
    score(root, config())


def test_the_own_models_share_falls_with_the_buyers() -> None:
    judged = learn_pool.Judged(*[np.zeros(1)] * 3, np.zeros(1), [], 10, 0.0)
    shares = [learn_pool.own_share(dataclasses.replace(judged, buyers=n), 0.5) for n in (0, 30, 100, 10_000)]
    assert shares == sorted(shares) and shares[0] == 0 and shares[2] == 0.25 and shares[3] < 0.5
    assert learn_pool.own_share(dataclasses.replace(judged, own=None), 0.5) == 0
