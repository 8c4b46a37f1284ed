"""Recommendations over planted nights: everybody's best items, the backtest out of time, filters, configuration."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from feature_store import Table
from jobs.configuration.load import load_settings
from jobs.configuration.messages import ConfigError
from jobs.configuration.recommendations import Recommendations
from jobs.configuration.sections import Lookalike, Publishing
from jobs.program import Output, metrics
from jobs.recommendations import recommend_items
from tests.jobs.audiences.worlds import BRANDS, DATE, GRAPH, ITEMS, READS, START, planted
from tests.jobs.embeddings.planted import write_config
from tests.jobs.report.tables_by_hand import table_input


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
    recommend_items.run(date, "transe", **tables, recommendations=output, config=config)
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
        "models": [], "top_k": 20, "unseen_only": True, "items": {}}  # fmt: skip
