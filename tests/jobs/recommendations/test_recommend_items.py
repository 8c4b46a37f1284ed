"""Recommendations over planted nights: everybody's best items, the backtest out of time, filters, configuration."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from feature_store import Table
from feature_store.errors import PartitionMissing
from jobs.configuration.load import load_settings
from jobs.configuration.messages import ConfigError
from jobs.configuration.recommendations import Recommendations
from jobs.configuration.sections import Lookalike, Publishing
from jobs.program import Output, metrics
from jobs.recommendations import recommend_items
from models.vectors.recommendation import best_items
from tests.jobs.audiences.worlds import BRANDS, DATE, DIMENSION, GRAPH, ITEMS, READS, START, events, log_of, planted
from tests.jobs.embeddings.planted import write_config
from tests.jobs.report.tables_by_hand import table_input, write_clean_events, write_graphs, write_vectors
from tests.jobs.report.test_write_report import HOSTILE


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recommend")
    planted(folder, users=300)
    return folder


def night(root: Path, date: object, **changes: Any) -> tuple[list[dict], dict[str, Any]]:
    """(the rows of the table, the job's figures)."""
    config = recommend_items.Config(GRAPH, Lookalike(), Publishing(models=["transe"]), Recommendations(**changes))
    tables = {name: table_input(root, name) for name in READS}
    metrics.rows.clear()
    output = Output("recommendations", str(root / "recommendations"))
    predicted = Output("predicted_relations", str(root / "predicted_relations"))
    recommend_items.run(
        date, "transe", **tables, recommendations=output, predicted_relations=predicted, config=config)
    figures = {name: value if detail is None else json.loads(detail) for name, value, detail in metrics.rows}
    return output.table("transe").read(date.isoformat()).to_pylist(), figures


def test_everybody_has_a_list_of_unseen_items_in_the_order_of_scores(root: Path) -> None:
    rows, figures = night(root, DATE, top_k=10)
    seen = {(r["user"], r["item"]) for r in table_input(root, "interactions").table().read(str(DATE)).to_pylist()}
    raw = {kind: dict(zip(*(table_input(root, "entity_ids").segments(kind).read().column(c).to_pylist()
                            for c in ("raw", "id")), strict=True)) for kind in ("user", "item")}  # fmt: skip
    lists: dict[str, list[dict]] = {}
    for row in rows:
        lists.setdefault(row["user_id"], []).append(row)
    n = len(raw["user"])  # one of 300 never did anything: a vector, and no place in the graph
    assert len(lists) == figures["users"] == n >= 295 and figures["rows_out"] == len(rows) == 10 * n
    for user, mine in lists.items():
        assert [row["rank"] for row in mine] == list(range(1, 11))
        assert (np.diff([row["score"] for row in mine]) <= 0).all()
        assert not {(raw["user"][user], raw["item"][row["item_id"]]) for row in mine} & seen
    assert 0 < figures["coverage"] <= 1 and figures["items"] == ITEMS and 0 < figures["novelty"] < 9
    assert len(figures["examples"]) == 5 and all(len(one["recommended"]) == 5 for one in figures["examples"])


def test_lists_of_the_label_windows_start_are_held_against_what_was_bought(root: Path) -> None:
    assert night(root, START)[1]["backtest"] == []
    rows, figures = night(root, DATE)
    assert [row["at"] for row in figures["backtest"]] == [10, 20]
    (ten, twenty) = figures["backtest"]
    assert ten["date"] == str(START) and ten["users"] > 100
    chance = 10 / ITEMS
    assert ten["hr"] > 2 * chance and twenty["hr"] > ten["hr"] > ten["ndcg"] > 0, "a taste is worth half the catalogue"
    assert {row["user_id"] for row in rows if row["rank"] == 1}


def test_what_was_seen_may_be_recommended_by_option(root: Path) -> None:
    rows, _ = night(root, DATE, unseen_only=False, top_k=ITEMS)
    assert len(rows) == len({row["user_id"] for row in rows}) * ITEMS


def test_a_predicate_filters_the_catalogue(root: Path) -> None:
    rows, figures = night(root, DATE, items={"brand": ["b1", "b2"]}, top_k=3)
    assert {int(row["item_id"][1:]) % BRANDS for row in rows} == {1, 2} and figures["items"] == ITEMS // 2


def test_a_rerun_gives_the_same_lists(root: Path) -> None:
    hashes = []
    for _ in range(2):
        night(root, DATE, top_k=7)
        hashes.append(Table(str(root / "recommendations/model=transe")).existing_manifest(str(DATE)).content_hash)
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("unseen_only", [True, False])
def test_the_figures_are_those_of_the_lists_and_of_the_log(root: Path, unseen_only: bool) -> None:
    before, _ = night(root, START, unseen_only=unseen_only)
    touched = {str(date): touched_by(root, date) for date in (START, DATE)}
    first, few = night(root, DATE, unseen_only=unseen_only, top_k=1)
    assert few["coverage"] == len({row["item_id"] for row in first}) / ITEMS < 1
    rows, figures = night(root, DATE, unseen_only=unseen_only, top_k=10)
    for one in figures["examples"]:
        assert set(one["had"]) <= {item for user, item in touched[str(DATE)] if user == one["user"]}
        assert one["recommended"] == [row["item_id"] for row in rows if row["user_id"] == one["user"]][:5]
    assert any(one["had"] for one in figures["examples"])
    events = table_input(root, "clean_events").table()
    days = [str(START + datetime.timedelta(days=n)) for n in range((DATE - START).days)]
    bought = {(event["user_id"], event["item_id"]) for day in days for event in events.read(day).to_pylist()
              if event["behavior"] == "purchase"}  # fmt: skip
    bought -= touched[str(START)] if unseen_only else set()
    listed = {(row["user_id"], row["item_id"]): row["rank"] for row in before}
    judged = {user for user, _ in bought} & {row["user_id"] for row in before}
    (ten,) = figures["backtest"]
    hits = {user for user, item in bought if listed.get((user, item), 11) <= 10}
    assert ten["users"] == len(judged) and ten["hr"] == pytest.approx(len(hits) / len(judged))


@pytest.mark.parametrize("unseen_only", [True, False])
def test_purchases_that_no_list_could_hold_do_not_count(root: Path, tmp_path: Path, unseen_only: bool) -> None:
    """Of the brands that may be recommended alone: who bought of others missed nothing, and nothing more was
    possible."""
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    section = {"unseen_only": unseen_only, "items": {"brand": ["b1", "b2"]}, "top_k": ITEMS}
    before, _ = night(tmp_path, START, **section)
    _, figures = night(tmp_path, DATE, **section | {"top_k": 10})
    events, known = table_input(tmp_path, "clean_events").table(), touched_by(tmp_path, START)
    days = [str(START + datetime.timedelta(days=n)) for n in range((DATE - START).days)]
    bought = {(event["user_id"], event["item_id"]) for day in days for event in events.read(day).to_pylist()
              if event["behavior"] == "purchase" and int(event["item_id"][1:]) % BRANDS in (1, 2)}  # fmt: skip
    bought -= known if unseen_only else set()
    listed = {(row["user_id"], row["item_id"]): row["rank"] for row in before}
    assert bought and bought <= set(listed), "lists as long as the catalogue hold all of them"
    at, gains = {user: [] for user, _ in bought}, 1 / np.log2(np.arange(2, 12))
    for pair in bought:
        at[pair[0]].append(listed[pair])
    ndcg = [
        sum(gains[place - 1] for place in places if place <= 10) / gains[: len(places)].sum() for places in at.values()]
    (ten,) = figures["backtest"]
    assert ten["users"] == len(at) < len({user for user, _ in listed})
    assert ten["hr"] == pytest.approx(np.mean([min(places) <= 10 for places in at.values()]), abs=1e-6)
    assert ten["ndcg"] == pytest.approx(np.mean(ndcg), abs=1e-6)
    assert ten["popular_hr"] > 0 and ten["popular_ndcg"] < 1


def test_where_it_is_not_known_any_more_what_was_allowed_nothing_is_held_against_it(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    only = {"brand": "b1"}
    night(tmp_path, START, items=only)
    assert night(tmp_path, DATE, items=only)[1]["backtest"]
    shutil.rmtree(tmp_path / "knowledge_graph" / f"dt={START}")
    assert night(tmp_path, DATE, items=only)[1]["backtest"] == []
    shutil.copytree(root, tmp_path / "without")
    night(tmp_path / "without", START)
    shutil.rmtree(tmp_path / "without" / "knowledge_graph" / f"dt={START}")
    (ten, _) = night(tmp_path / "without", DATE)[1]["backtest"]
    assert ten["users"] > 0 and "popular_hr" not in ten, "all are allowed by rule"


def touched_by(root: Path, date: datetime.date) -> set[tuple[str, str]]:
    """(user, item) by raw id, of the graph's window."""
    raw = {kind: dict(zip(*(table_input(root, "entity_ids").segments(kind).read().column(c).to_pylist()
                            for c in ("id", "raw")), strict=True)) for kind in ("user", "item")}  # fmt: skip
    rows = table_input(root, "interactions").table().read(str(date)).to_pylist()
    return {(raw["user"][row["user"]], raw["item"][row["item"]]) for row in rows}


def test_short_lists_are_judged_at_their_length(root: Path) -> None:
    night(root, START, top_k=3)
    assert [row["at"] for row in night(root, DATE, top_k=3)[1]["backtest"]] == [3]


def test_a_filter_that_leaves_no_item_gives_empty_lists(root: Path) -> None:
    assert night(root, START, items={"brand": "nobody's"})[0] == []
    _, figures = night(root, DATE, items={"brand": "nobody's"})
    assert figures["users"] == figures["items"] == 0 and figures["coverage"] is figures["novelty"] is None
    assert figures["examples"] == [] and {row["hr"] for row in figures["backtest"]} == {None}


def test_a_published_space_is_turned_back(root: Path, tmp_path: Path) -> None:
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(DIMENSION, DIMENSION)))[0]
    planted(tmp_path, users=300, rotation=turn)
    (plain, _), (turned, _) = (night(folder, DATE, top_k=5) for folder in (root, tmp_path))
    np.testing.assert_allclose(*([row["score"] for row in rows] for rows in (plain, turned)), atol=1e-4)
    assert np.mean([a["item_id"] == b["item_id"] for a, b in zip(plain, turned, strict=True)]) > 0.99


def crowded(root: Path, taste: float, users: int = 400) -> None:
    """Items whose popularity falls by rank and a model that knows nothing; `taste`: of the purchases so many are the
    user's own item."""
    random, popular = np.random.default_rng(5), 1 / np.arange(1, ITEMS + 1) ** 1.5
    own = random.integers(0, ITEMS, users)

    def frame(n: int, low: float, high: float) -> Any:
        who = random.integers(0, users, n)
        drawn = random.choice(ITEMS, n, p=popular / popular.sum())
        return events(who, np.where(random.random(n) < taste, own[who], drawn), random.uniform(low, high, n))

    log = log_of([frame(3 * users, -30, 0), frame(3 * users, 0, 7)], users)
    write_clean_events(root, log)
    near = np.eye(ITEMS)
    for date in (START, DATE):
        write_graphs(root, log, date, GRAPH)
        write_vectors(
            root, "transe", date, {f"u{u:05d}": near[own[u]] for u in range(users)},
            {f"i{i}": near[i] for i in range(ITEMS)}, np.zeros(ITEMS))  # fmt: skip


@pytest.mark.parametrize("taste", [0.0, 0.6])
def test_popularity_counts_as_far_as_the_last_window_says(tmp_path: Path, taste: float) -> None:
    crowded(tmp_path, taste)
    alone, without = night(tmp_path, DATE, top_k=10, popularity=False)
    assert "weights" not in without, "the report says nothing of what was not asked"
    rows, figures = night(tmp_path, DATE, top_k=10)
    learned = figures["weights"]
    assert learned["choices"] > 300 and learned["popularity"] > 0.4
    manifest = Table(str(tmp_path / "recommendations/model=transe")).existing_manifest(str(DATE))
    assert manifest.fields["weights"] == learned
    first = {row["item_id"] for row in rows if row["rank"] == 1}
    assert len({row["item_id"] for row in alone if row["rank"] == 1}) > 30 > len(first)
    popular = {f"i{i}" for i in range(20)}
    shares = [np.mean([row["item_id"] in popular for row in found]) for found in (alone, rows)]
    assert shares[1] > 0.8 and shares[0] < 0.6
    assert night(tmp_path, START, top_k=10)[1]["weights"] == {"score": 1.0, "popularity": 0.0, "choices": 0}
    (ten,) = night(tmp_path, DATE, top_k=10)[1]["backtest"]
    assert ten["popular_hr"] > ten["hr"], "lists of before had nothing to learn from"


def test_the_most_popular_stand_beside_the_lists_by_the_same_rules(tmp_path: Path) -> None:
    crowded(tmp_path, 0.0)
    night(tmp_path, START, top_k=10)
    (ten,) = night(tmp_path, DATE, top_k=10)[1]["backtest"]
    touched, later = touched_by(tmp_path, START), touched_by(tmp_path, DATE)
    counts = {f"i{i}": sum(item == f"i{i}" for _, item in touched) for i in range(ITEMS)}
    users = sorted({user for user, _ in touched})
    bought = {pair for pair in later - touched if pair[0] in users}
    hits = dict.fromkeys({user for user, _ in bought}, 0.0)
    for user in hits:
        open_to = [item for item in counts if (user, item) not in touched]
        edge = sorted((counts[item] for item in open_to), reverse=True)[9]
        sure = [item for item in open_to if counts[item] > edge]
        hits[user] = float(any((user, item) in bought for item in sure))
    assert np.mean(list(hits.values())) <= ten["popular_hr"] <= np.mean(list(hits.values())) + 0.1
    assert ten["popular_hr"] > 0.3


def test_another_space_or_a_lost_night_teaches_no_weights(tmp_path: Path) -> None:
    crowded(tmp_path, 0.0)
    published = table_input(tmp_path, "user_embeddings").table("transe")
    rows, manifest = published.read_version(str(START))
    for table in (published, table_input(tmp_path, "entity_embeddings").table("transe")):
        rows, manifest = table.read_version(str(START))
        with table.replace(str(START)) as commit:
            commit.write_table(rows)
            commit.fields |= manifest.fields | {"space_id": "another"}
    assert night(tmp_path, DATE, top_k=10)[1]["weights"]["choices"] == 0
    shutil.rmtree(tmp_path / "interactions" / f"dt={START}")
    assert night(tmp_path, DATE, top_k=10)[1]["weights"]["choices"] == 0


def test_a_model_that_was_not_published_has_no_lists(root: Path) -> None:
    with pytest.raises(PartitionMissing):
        night(root, DATE + datetime.timedelta(days=1))
    assert str(DATE + datetime.timedelta(days=1)) not in Table(str(root / "recommendations/model=transe")).values()


def test_hostile_names_pass_through() -> None:
    names = pa.array([*HOSTILE, "", "a\nb", "../x", "\u202e", "💥"], pa.large_string())
    numbers = np.arange(len(names))
    catalogue = recommend_items.Catalogue(names, names, numbers, numbers, np.ones(len(names), bool))
    users, items = catalogue.keys()
    assert len({*users.tolist(), *items.tolist()}) == 2 * len(names), "a user and an item of one name are two"
    nothing = np.zeros(0, np.int64), np.zeros(0, np.int64)
    lists = best_items(lambda rows: np.zeros((len(rows), len(names))), users, items, catalogue.allowed, nothing, 50)
    found = recommend_items.as_table(lists, catalogue).to_pylist()
    assert {(row["user_id"], row["item_id"]) for row in found} == set(itertools.product(names.to_pylist(), repeat=2))


@pytest.mark.parametrize(("section", "said"), [
    ({"models": ["rhgn"]}, r"recommendations\.models\[0\] is 'rhgn' \(str\); expected one of publishing"),
    ({"items": {"colour": "red"}}, r"Unknown key 'recommendations\.items\.colour'"),
    ({"top_k": 0}, r"recommendations\.top_k is 0"),
    ({"k": 3}, r"Unknown key 'recommendations\.k'"),
])  # fmt: skip
def test_a_wrong_section_is_named(tmp_path: Path, section: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_settings(write_config(tmp_path, recommendations=section))


def test_it_is_off_where_no_model_is_named(tmp_path: Path) -> None:
    assert dataclasses.asdict(load_settings(write_config(tmp_path)).recommendations) == {
        "models": [], "top_k": 20, "unseen_only": True, "items": {}, "relations": [],
        "popularity": True}  # fmt: skip


def test_without_a_predicate_a_purchase_of_what_came_later_counts_as_missed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    night(tmp_path, START)
    honest, looking_back = night(tmp_path, DATE)[1]["backtest"], recommend_items.looking_back

    def nothing_offered(*given: Any) -> tuple[Any, Any]:
        weights, offered = looking_back(*given)
        return weights, dataclasses.replace(offered, items=offered.items[:0])

    monkeypatch.setattr(recommend_items, "looking_back", nothing_offered)
    assert night(tmp_path, DATE)[1]["backtest"] == honest and honest[0]["users"] > 0


def test_lists_of_another_predicate_are_held_against_nothing(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    night(tmp_path, START, items={"brand": "b1"})
    assert night(tmp_path, DATE, items={"brand": "b2"})[1]["backtest"] == []
    assert night(tmp_path, DATE, items={"brand": "b1"})[1]["backtest"]
