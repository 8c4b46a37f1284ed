"""Predicted relations of attributes: an item's likeliest brands, a user's likeliest ages, over planted nights."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from jobs.configuration.load import load_settings
from jobs.configuration.messages import ConfigError
from tests.jobs.audiences.worlds import BRANDS, DATE, DIMENSION, GRAPH, ITEMS, START, planted
from tests.jobs.embeddings.planted import write_config
from tests.jobs.recommendations.test_predicted_relations import predicted
from tests.jobs.report.tables_by_hand import Log, ledger_ids, table_input, write_graphs

CENTRES = 3 * np.eye(BRANDS, DIMENSION)
RELATION = np.full(DIMENSION, 0.1)
VALUES = {("brand", f"b{b}"): CENTRES[b] + RELATION for b in range(BRANDS)}
AGES = {("age", str(age)): CENTRES[age] for age in range(3)}


def with_entities(root: Path, vectors: dict[tuple[str, str], np.ndarray]) -> None:
    """Vectors of (entity type, raw id) among the published ones."""
    table = table_input(root, "entity_embeddings").table("transe")
    ids = {kind: iter(ledger_ids(root, kind, pd.Series([raw for k, raw in vectors if k == kind])))
           for kind, _ in vectors if kind != "relation"}  # fmt: skip
    found = [{"entity_type": kind, "raw": raw, "id": 9 if kind == "relation" else int(next(ids[kind])),
              "embedding": vector.tolist()} for (kind, raw), vector in vectors.items()]  # fmt: skip
    for date in (START, DATE):
        rows, manifest = table.read_version(str(date))
        with table.replace(str(date)) as commit:
            commit.write_table(pa.concat_tables([rows, pa.Table.from_pylist(found, schema=rows.schema)]))
            commit.fields |= {name: manifest.fields[name] for name in ("space_id", "rotation", "norm")}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Log]:
    root = tmp_path_factory.mktemp("attributes")
    log = planted(root, users=200)
    relations = {("relation", "item_brand"): RELATION, ("relation", "user_age"): np.zeros(DIMENSION)}
    with_entities(root, relations | VALUES | AGES)
    for date, unbranded in ((START, 20), (DATE, 10)):
        without(root, log, date, unbranded)
    return root, log


def without(root: Path, log: Log, date: datetime.date, unbranded: int) -> None:
    """The graph of a date where the first so many items have no brand."""
    brands = log.items["brand"]
    kept = brands[brands["id"].str[1:].astype(int) >= unbranded]
    write_graphs(root, dataclasses.replace(log, items=log.items | {"brand": kept}), date, GRAPH)


def test_an_item_without_a_brand_has_its_likeliest_and_the_others_none_that_they_have(world: tuple[Path, Log]) -> None:
    rows, (figures,) = predicted(world[0], relations=["item_brand"], top_k=BRANDS)
    assert {(r["head_type"], r["relation"], r["tail_type"]) for r in rows} == {("item", "item_brand", "brand")}
    lists: dict[int, list[str]] = {}
    for row in rows:
        lists.setdefault(int(row["head"][1:]), []).append(row["tail"])
        assert row["rank"] == len(lists[int(row["head"][1:])])
    assert len(lists) == ITEMS and figures["rows"] == len(rows) == 10 * BRANDS + (ITEMS - 10) * (BRANDS - 1)
    for item, brands in lists.items():
        own = f"b{item % BRANDS}"
        assert brands[0] == own if item < 10 else own not in brands
    entities = {(r["entity_type"], r["raw"]): np.array(r["embedding"]) for r in
                table_input(world[0], "entity_embeddings").table("transe").read(str(DATE)).to_pylist()}  # fmt: skip
    for row in rows[:: len(rows) // 20]:
        gap = entities["item", row["head"]] + RELATION - entities["brand", row["tail"]]
        assert row["score"] == pytest.approx(-np.linalg.norm(gap), rel=1e-5)


def test_its_probability_is_what_items_without_a_brand_taught_who_got_one_since(world: tuple[Path, Log]) -> None:
    rows, (figures,) = predicted(world[0], relations=["item_brand"], top_k=BRANDS)
    learned = 20 * BRANDS + (ITEMS - 20) * (BRANDS - 1)
    assert figures["learned_from"] == learned and figures["happened"] == pytest.approx(10 / learned)
    chances = {(row["head"], row["rank"]): row["probability"] for row in rows}
    assert min(chances[f"i{i}", 1] for i in range(10)) > 3 * max(chances[f"i{i}", 2] for i in range(10))
    again, (all_of_them,) = predicted(world[0], relations=["item_brand"], top_k=BRANDS, unseen_only=False)
    assert len(again) == ITEMS * BRANDS and all_of_them["happened"] == pytest.approx(10 / (ITEMS * BRANDS)), (
        "a brand that an item had before is nothing that came about")


def test_an_attribute_that_never_changes_has_no_probability(world: tuple[Path, Log]) -> None:
    rows, (purchase, age) = predicted(world[0], relations=["user_age", "purchase"], top_k=2)
    mine = [row for row in rows if row["relation"] == "user_age"]
    assert {(r["head_type"], r["tail_type"], r["probability"]) for r in mine} == {("user", "age", None)}
    assert all(row["tail"] != str(int(row["head"][1:]) % 3) for row in mine)
    assert (age["happened"], age["learned_from"]) == (None, 0) and purchase["happened"] > 0


def test_an_attribute_without_a_vector_stops_no_night(tmp_path: Path) -> None:
    planted(tmp_path, users=100)
    assert predicted(tmp_path, relations=["item_brand"])[1][0]["rows"] == 0
    with_entities(tmp_path, {("relation", "item_brand"): RELATION})
    assert predicted(tmp_path, relations=["item_brand"])[1][0]["rows"] == 0, "and one whose values have none"


def test_an_attribute_is_named_as_the_graph_names_it(tmp_path: Path) -> None:
    graph = {"behaviors": {"view": {}, "purchase": {}}, "item_attributes": {"brand": {}}}
    common = {"graph": graph, "events": {"behaviors": ["view", "purchase"]}, "publishing": {"models": ["transe"]}}
    named = {"models": ["transe"], "relations": ["item_brand"]}
    path = write_config(tmp_path, recommendations=named, **common)
    assert load_settings(path).recommendations.relations == ["item_brand"]
    path = write_config(tmp_path, recommendations=named | {"relations": ["brand"]}, **common)
    with pytest.raises(ConfigError, match=r"relations\[0\] is 'brand' .*expected .*or an attribute: item_brand"):
        load_settings(path)
