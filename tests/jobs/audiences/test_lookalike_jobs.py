"""train_lookalike and score_lookalike on a planted world: what is committed, what is
skipped, what the backtest says."""

from __future__ import annotations

import csv
import datetime
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.metrics import average_precision_score

from feature_store import Table, lineage
from feature_store.errors import SpaceMismatch
from feature_store.tree import DataRoot
from jobs.audiences import one_client
from jobs.audiences.snapshot import Ledger
from jobs.audiences.vectors import read_vectors
from jobs.configuration.tree import ConfigError
from jobs.program import JobError, Skip
from tests.jobs.audiences.worlds import (
    BRANDS,
    DATE,
    DIMENSION,
    GRAPH,
    ITEMS,
    START,
    config,
    events,
    figures,
    planted,
    reads,
    score,
    train,
)
from tests.jobs.report.tables_by_hand import Log, table_input, write_clean_events, write_graphs, write_vectors
from tests.jobs.written import wrong_columns

NEXT = DATE + datetime.timedelta(days=7)
ROTATION, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(DIMENSION, DIMENSION)))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Log, dict, dict]:
    """(root, log, figures of training, figures of scoring)."""
    root = tmp_path_factory.mktemp("world")
    log = planted(root, users=800, rotation=ROTATION)
    return root, log, train(root, config()), score(root, config())


def rows(root: Path, name: str, date: datetime.date = DATE) -> pd.DataFrame:
    return table_input(root, name).table().read(date.isoformat()).to_pandas()


def test_everybody_eligible_is_scored_and_the_best_are_handed_out(world: tuple) -> None:
    root, log, trained, scored = world
    scores, audiences = rows(root, "lookalike_scores"), rows(root, "audiences")
    end = pd.Timestamp(DATE, tz="UTC")
    known = log.events[log.events["event_time"].between(end - pd.Timedelta(days=28), end, inclusive="left")]
    for _, mine in scores.groupby(["client", "feature_set"]):
        assert set(mine["user_id"]) == set(known["user_id"]) and mine["user_id"].is_unique
    for client, mine in scores[scores["chosen"]].groupby("client"):
        top = audiences[audiences["client"] == client]
        assert top["rank"].tolist() == list(range(1, 41))
        assert top["score"].is_monotonic_decreasing
        assert top["score"].min() >= mine.loc[~mine["user_id"].isin(top["user_id"]), "score"].max()
        assert 0 <= mine["score"].min() and mine["score"].max() <= 1
    assert set(scores.loc[scores["chosen"], "feature_set"]) == set(trained["chosen"].values())
    assert set(scores.loc[~scores["chosen"], "feature_set"]) == {"baseline", "strong"} - set(trained["chosen"].values())
    assert {"lookalike_scores": [], "audiences": []}.items() <= wrong_columns(root).items()


def test_each_client_gets_a_csv_of_its_audience(world: tuple) -> None:
    root, _, _, scored = world
    folder = Path(Table(f"{root}/audiences").path(DATE.isoformat()))
    for row in scored["audiences"]:
        cells = list(csv.DictReader(io.StringIO((folder / row["file"]).read_text(encoding="utf-8"))))
        mine = rows(root, "audiences").query("client == @row['client']")
        assert [c["user_id"] for c in cells] == mine["user_id"].tolist()
        assert row["k"] == len(cells) == 40


def test_the_calibrated_scores_add_up_to_the_buyers(world: tuple) -> None:
    root, _, trained, _ = world
    prevalence = {row["client"]: row["prevalence"] for row in trained["clients"]}
    means = rows(root, "lookalike_scores").groupby(["client", "feature_set"])["score"].mean()
    for (client, _), mean in means.items():
        assert mean == pytest.approx(prevalence[client], abs=0.06)


def test_validation_figures_are_whole(world: tuple) -> None:
    _, _, trained, _ = world
    assert len(trained["pr_auc"]) == BRANDS * 4 == len(trained["curves"])
    for row in trained["pr_auc"]:
        assert row["pr_auc_1to3_low"] <= row["pr_auc_1to3"] <= row["pr_auc_1to3_high"]
        assert row["pr_auc_population_low"] <= row["pr_auc_population"] <= row["pr_auc_population_high"]
        ascending = row["prevalence"] < row["pr_auc_population"] < row["pr_auc_1to3"]
        assert ascending or row["prevalence"] > 0.25 or row["feature_set"] == "baseline"
    best = pd.DataFrame(trained["pr_auc"]).groupby("feature_set")["pr_auc_1to3"].mean().idxmax()
    assert set(trained["chosen"].values()) == {best}


def test_the_backtest_holds_the_scores_against_what_happened(world: tuple) -> None:
    root, log, _, _ = world
    random = np.random.default_rng(9)
    users = np.arange(800)
    bought = (users % BRANDS) + BRANDS * random.integers(0, ITEMS // BRANDS, 800)
    later = events(users, bought, 7 + 7 * random.random(800))
    at_next = events(np.array([0]), np.array([1]), np.array([14.0]))  # 00:00 of the backtest's date: not part of it
    whole = Log(pd.concat([log.events, later, at_next], ignore_index=True), log.items, log.users)
    write_clean_events(root, whole)
    write_graphs(root, whole, NEXT, GRAPH)
    with pytest.raises(Skip, match="There is no lookalike model"):
        score(root, config(), NEXT)
    found, scores = figures()["backtest"], rows(root, "lookalike_scores")
    by = ["client", "feature_set", "chosen"]
    assert {tuple(row[name] for name in by) for row in found} == {tuple(key) for key, _ in scores.groupby(by)}
    assert len(found) == 3 * BRANDS, "the chosen features beside both baselines"
    for row in found:
        brand, its = int(row["client"][-1]), scores[scores["client"] == row["client"]]
        mine = its[its["feature_set"] == row["feature_set"]]
        labels = mine["user_id"].isin([f"u{u:05d}" for u in users[users % BRANDS == brand]])
        assert row["buyers"] == labels.sum()
        assert row["pr_auc_population"] == pytest.approx(average_precision_score(labels, mine["score"]), abs=1e-6)
        top = mine.sort_values(["score", "user_id"], ascending=[False, True]).head(40)["user_id"]
        assert row["precision_at_k"] == pytest.approx(labels[mine["user_id"].isin(top)].mean(), abs=1e-6)
        assert row["lift_at_k"] == pytest.approx(row["precision_at_k"] / row["prevalence"], abs=1e-3)
        assert row["scored_at"] == DATE.isoformat()


def test_a_night_without_its_label_start_is_skipped_with_what_to_run(world: tuple) -> None:
    root, *_ = world
    again = r"dt=2026-02-23.*backfill create.*--from-date 2026-02-23 --to-date 2026-03-02.*learnt alone.*20 are needed"
    with pytest.raises(Skip, match=again) as skip:
        train(root, config(), START)
    tables = {one["table"] for one in skip.value.wanted}
    assert {"knowledge_graph", "interactions", "feature_store/user_embeddings/model=transe"} <= tables
    assert {one["dt"] for one in skip.value.wanted} == {"2026-02-23"}
    assert {one.get("same_space_as") for one in skip.value.wanted} == {None, "2026-03-02"}


def test_another_space_is_skipped_with_the_dates_to_rerun(tmp_path: Path) -> None:
    planted(tmp_path, users=200)
    random = np.random.default_rng(0)
    users = {f"u{u:05d}": random.normal(size=DIMENSION) for u in range(200)}
    items = {f"i{i}": random.normal(size=DIMENSION) for i in range(ITEMS)}
    write_vectors(tmp_path, "transe", DATE, users, items, np.zeros(DIMENSION), space_id="other")
    with pytest.raises(Skip, match=r"'space'.*'other'.*--from-date 2026-03-02 --to-date 2026-03-09"):
        train(tmp_path, config())


def test_users_are_drawn_once_per_client_and_shared_by_all_feature_sets(
    world: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, *_ = world
    drawn, used, honest, fit = [], {}, one_client.draw_sample, one_client.fit_one

    def fit_one(task: one_client.Task, *rest: object) -> one_client.Fitted:
        used.setdefault(task.client.name, []).append(id(task.sample))
        return fit(task, *rest)

    monkeypatch.setattr(one_client, "draw_sample", lambda *given: drawn.append(given[-1]) or honest(*given))
    monkeypatch.setattr(one_client, "fit_one", fit_one)
    found = pd.DataFrame(train(root, config(feature_sets=["baseline", "strong"]))["pr_auc"])
    assert sorted(drawn) == sorted(config().lookalike.clients)
    assert {name: (len(samples), len(set(samples))) for name, samples in used.items()} == dict.fromkeys(drawn, (2, 1))
    assert (found.groupby("client")[["positives", "validation_positives", "prevalence"]].nunique() == 1).all(axis=None)


def test_too_few_buyers_are_a_warning_and_the_others_go_on(world: tuple, caplog: pytest.LogCaptureFixture) -> None:
    root, *_ = world
    rare = {"rare": {"item_id": ["i1"]}, "brand_0": {"brand": "b0"}, "nothing": {"brand": "none"}}
    found = train(root, config(clients=rare, feature_sets=["baseline"]))
    modelled = {row["client"]: row["modelled"] for row in found["clients"]}
    assert modelled == {"rare": False, "brand_0": True, "nothing": False}
    limit = "lookalike.min_positives is 60"
    assert re.search(rf"client rare: .* [1-9]\d* buyers among \d+ eligible users, and {limit}", caplog.text)
    assert re.search(rf"client nothing: .* 0 buyers among \d+ eligible users, and {limit}", caplog.text)


def test_past_buyers_left_out_of_scoring_are_left_out_of_training(world: tuple) -> None:
    root, log, *_ = world
    settings = config(exclude_past_buyers=True, min_positives=20, feature_sets=["baseline"])
    found = train(root, settings)
    score(root, settings)
    brand = dict(zip(log.items["brand"]["id"], log.items["brand"]["value"], strict=True))

    def buyers(number: int, before: datetime.date) -> set[str]:
        bought = log.events[log.events["behavior"] == "purchase"]
        known = bought[bought["event_time"] < pd.Timestamp(before, tz="UTC")]
        return set(known.loc[known["item_id"].map(brand) == f"b{number}", "user_id"])

    for number in range(BRANDS):
        mine = rows(root, "lookalike_scores").query(f"client == 'brand_{number}'")
        assert not set(mine["user_id"]) & buyers(number, DATE) and len(mine)
        (row,) = (r for r in found["clients"] if r["client"] == f"brand_{number}")
        assert row["eligible"] < 800 - 0.9 * len(buyers(number, START))
    train(root, config())
    score(root, config())


def test_the_same_night_twice_is_the_same(world: tuple) -> None:
    root, *_ = world
    tables = [table_input(root, name).table() for name in ("lookalike_scores", "audiences")]
    before = [table.manifest(DATE.isoformat()).content_hash for table in tables]
    train(root, config())
    score(root, config())
    assert before == [table.manifest(DATE.isoformat()).content_hash for table in tables]


def test_native_vectors_come_back_from_the_published_ones(world: tuple) -> None:
    root, *_ = world
    tables = reads(root)
    ledger = Ledger.read(tables["entity_ids"].segments("user"))
    found = read_vectors("transe", DATE, tables["user_embeddings"], tables["entity_embeddings"], ledger, "purchase")
    ids = ledger.ids_of(pa.array(["u00003", "nobody"]))
    published = found.users_of(ids)
    assert np.isnan(published[1]).all() and np.isfinite(published[0]).all()
    np.testing.assert_allclose(found.native(published)[0] @ ROTATION, published[0], atol=1e-5)
    assert np.abs(found.native(published)[0] - published[0]).max() > 0.1


def test_users_and_items_of_different_publishes_are_not_taken_together(world: tuple) -> None:
    root, *_ = world
    tables, dt = reads(root), DATE.isoformat()
    ledger = Ledger.read(tables["entity_ids"].segments("user"))
    items = table_input(root, "entity_embeddings").table("transe")
    rows, fields = items.read(dt), items.manifest(dt).fields
    another = {"table": "checkpoints/transe", "dt": dt, "content_hash": "another"}
    with items.replace(dt) as commit:
        commit.write_table(rows)
        commit.fields |= fields | {"inputs": {"transe": another}}
    with pytest.raises(JobError, match="not published together.*publish_users for"):
        read_vectors("transe", DATE, tables["user_embeddings"], tables["entity_embeddings"], ledger, "purchase")
    items.rollback(dt)
    with items.replace(dt) as commit:
        commit.write_table(rows)
        commit.fields |= fields | {"space_id": "another"}
    again = f"airflow backfill create .*--from-date {dt} --to-date {dt}"
    with pytest.raises(SpaceMismatch, match=f"'another'.* Run: {again}"):
        read_vectors("transe", DATE, tables["user_embeddings"], tables["entity_embeddings"], ledger, "purchase")
    items.rollback(dt)
    read_vectors("transe", DATE, tables["user_embeddings"], tables["entity_embeddings"], ledger, "purchase")


def test_scores_built_on_vectors_that_were_published_anew_since_are_found(world: tuple) -> None:
    root, *_ = world
    users, dt = table_input(root, "user_embeddings").table("transe"), DATE.isoformat()
    data = table_input(root, "lookalike_scores").table().uri.rpartition("/")[0]
    assert [found for found in lineage.findings(DataRoot(data), "lookalike_scores") if found.rerun] == []
    fields = users.manifest(dt).fields
    rows = users.read(dt)
    with users.replace(dt) as commit:
        commit.write_table(rows.slice(1), sorted_by=["user_id"])
        commit.fields |= fields
    (found,) = [found for found in lineage.findings(DataRoot(data), "lookalike_scores") if found.rerun]
    assert found.rerun == dt and "model=transe" in found.text
    users.rollback(dt)


def test_feature_sets_and_clients_are_checked_with_the_configuration(tmp_path: Path) -> None:
    from jobs.configuration.checks import check
    from jobs.configuration.settings import Settings
    from jobs.configuration.tree import build

    graph = {"behaviors": {"purchase": {}}, "item_attributes": {"brand": {}}}
    source, events = {"events": {"path": "e"}, "items": {"path": "i"}}, {"behaviors": ["purchase"]}
    tree = {"data_root": "x", "source": source, "events": events, "graph": graph}
    for lookalike, message in (
        ({"feature_sets": ["basline"]}, r"lookalike.feature_sets\[0\] is 'basline'"),
        ({"score_with": "strong+rhgn:raw"}, "lookalike.score_with is .*not published"),
        ({"affinities": ["transe", "rhgn"]}, r"lookalike.affinities\[1\] is 'rhgn'.* one of publishing.models"),
        ({"affinities": ["transe", "transe"]}, r"lookalike.affinities\[1\] is 'transe'.*each once"),
        ({"clients": {"x": {"brnd": "a"}}}, "lookalike.clients.x.brnd"),
        ({"history_attribute": "colour"}, "lookalike.history_attribute is 'colour'"),
    ):
        with pytest.raises(ConfigError, match=message):
            check(build(Settings, tree | {"lookalike": lookalike}, ""))


def test_no_client_and_too_few_sets_is_no_work(world: tuple) -> None:
    root, *_ = world
    said = "No client .*, and no model of seed lists can be learned: .* sets of items .*; 20 are needed"
    with pytest.raises(Skip, match=said):
        train(root, config(clients={}))
