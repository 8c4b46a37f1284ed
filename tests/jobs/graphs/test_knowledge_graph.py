"""The graph jobs against plain recomputation on random logs, and what of the future may not reach them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from feature_store import Table
from jobs.graphs import assign_ids, bins, build_interactions, build_knowledge_graph
from tests.jobs.graphs.small_world import (
    MIDNIGHT,
    WINDOW,
    D,
    World,
    committed_edges,
    configuration,
    expected_edges,
    ledger,
    random_world,
    run_jobs,
)

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

JOBS = (assign_ids.run, build_knowledge_graph.run, build_interactions.run)


@pytest.fixture(scope="module")
def built(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, World]:
    root, world = tmp_path_factory.mktemp("graph"), random_world(1)
    run_jobs(world.write(root), *JOBS)
    return root, world


def figure(root: Path, stage: str, name: str) -> float | dict:
    rows = Table(str(root / f"data/run_metrics/stage={stage}")).read(D.isoformat()).to_pylist()
    row = next(r for r in rows if r["metric"] == name)
    return row["value"] if row["value"] is not None and row["detail"] is None else json.loads(row["detail"])


def test_edges_are_those_of_a_plain_recomputation(built: tuple[Path, World]) -> None:
    root, world = built
    assert committed_edges(root) == expected_edges(world)


def test_rows_are_sorted_and_the_manifest_says_what_they_were_built_on(built: tuple[Path, World]) -> None:
    root, world = built
    table = Table(str(root / "data/knowledge_graph"))
    rows, manifest = table.read(D.isoformat()).to_pandas(), table.existing_manifest(D.isoformat())
    assert list(rows.sort_values(["relation", "head", "tail"]).index) == list(range(len(rows)))
    days = manifest.fields["inputs"]["clean_events"]
    assert len(days) == WINDOW and days == {
        day: Table(str(root / "data/clean_events"), "day").existing_manifest(day).content_hash for day in days
    }
    assert manifest.fields["static_attributes"] == [
        "item_brand",
        "item_price",
        "item_tags",
        "user_likes",
        "user_region",
    ]
    assert manifest.fields["window"]["behaviors"] == {"view": 4, "purchase": 10}
    files = {kind: [file["name"] for file in files] for kind, files in manifest.fields["sources"].items()}
    assert files == {"source.items": ["items.parquet"], "source.users": ["users.parquet"]}
    (read,) = manifest.fields["sources"]["source.items"]
    assert read["sha256"] == hashlib.sha256((root / "items.parquet").read_bytes()).hexdigest()


def test_figures_count_the_graph_and_what_the_catalogue_lacks(built: tuple[Path, World]) -> None:
    root, world = built
    edges = expected_edges(world)
    names = pd.Series([e[0] for e in edges])
    assert figure(root, "build_knowledge_graph", "edges") == names.value_counts().to_dict()
    items = {e[2] for e in edges if e[0] in ("view", "purchase")}
    tags = {e[2] for e in edges if e[0] in ("item_tags", "user_likes")}
    entities = figure(root, "build_knowledge_graph", "entities")
    assert (entities["item"], entities["tag"]) == (len(items), len(tags))
    assert (
        figure(root, "build_knowledge_graph", "items_not_in_catalogue") == len(items - set(world.items["item_id"])) > 0
    )
    with_brand = {e[1] for e in edges if e[0] == "item_brand"}
    assert figure(root, "build_knowledge_graph", "attributes_missing")["item_brand"] == len(items) - len(with_brand) > 0


def test_interactions_are_those_of_a_plain_recomputation(built: tuple[Path, World]) -> None:
    root, world = built
    found = Table(str(root / "data/interactions")).read(D.isoformat()).to_pandas()
    for kind in ("user", "item"):
        found[kind] = found[kind].map(ledger(root, kind).set_index("id")["raw"])
    events = world.events[world.events["event_time"] >= MIDNIGHT - pd.Timedelta(days=WINDOW)].copy()
    events["worth"] = (events["value"].astype(float) * events["quantity"].astype(float)).fillna(0.0)
    grouped = events.groupby(["user_id", "item_id", "behavior"]).agg(
        count=("worth", "size"), value_sum=("worth", "sum"), last_time=("event_time", "max")
    )
    expected = grouped.reset_index().rename(columns={"user_id": "user", "item_id": "item"})
    keys = ["user", "item", "behavior"]
    found, expected = (frame.sort_values(keys).reset_index(drop=True) for frame in (found, expected))
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-12)


def test_nothing_from_d_on_reaches_the_graph(built: tuple[Path, World], tmp_path: Path) -> None:
    """Another future, and items valid from D on: the same content, on a fresh root, to the last byte."""
    root, world = built
    later = random_world(9).events
    later["event_time"] += pd.Timedelta(days=WINDOW)
    later.loc[0, "event_time"] = MIDNIGHT
    never = pd.Series(pd.NaT, world.items.index, dtype=pd.DatetimeTZDtype("us", "UTC"))
    items = world.items.assign(valid_from=never, valid_to=never)
    late = items.head(20).assign(item_id=[f"new{n}" for n in range(20)], brand="new", price=1e6, valid_from=MIDNIGHT)
    other = World(
        pd.concat([world.events, later], ignore_index=True), pd.concat([items, late], ignore_index=True), world.users
    )
    run_jobs(other.write(tmp_path), *JOBS)
    for name in ("knowledge_graph", "interactions"):
        here, there = (
            Table(str(folder / "data" / name)).existing_manifest(D.isoformat()) for folder in (root, tmp_path)
        )
        assert here.content_hash == there.content_hash, name


def test_a_ledger_filled_by_later_nights_changes_ids_alone(built: tuple[Path, World], tmp_path: Path) -> None:
    root, world = built
    later = random_world(5).events
    later["user_id"] = "0" + later["user_id"]  # before the others by its bytes
    later["event_time"] += pd.Timedelta(days=WINDOW)
    both = World(pd.concat([world.events, later], ignore_index=True), world.items, world.users)
    config = both.write(tmp_path)
    run_jobs(config, assign_ids.run, date=D + pd.Timedelta(days=WINDOW).to_pytimedelta())
    run_jobs(config, assign_ids.run, build_knowledge_graph.run)
    assert committed_edges(tmp_path) == committed_edges(root)
    assert not ledger(tmp_path, "user").equals(ledger(root, "user"))


def test_attributes_may_be_called_as_the_columns_beside_them(spark: SparkSession, tmp_path: Path) -> None:
    """Nothing but an attribute's entity type is bound to a form."""
    world = random_world(5)
    items, users = {"brand": "raw", "tags": "enters", "price": "head"}, {"region": "has_event", "likes": "A b.`c`"}
    named = World(world.events, world.items.rename(columns=items), world.users.rename(columns=users))
    graph = configuration()["graph"] | {
        "item_attributes": {"raw": {}, "enters": {"entity_type": "tag"}, "head": {"type": "number", "bins": 5}},
        "user_attributes": {"has_event": {}, "A b.`c`": {"entity_type": "tag"}}}
    run_jobs(named.write(tmp_path, graph=graph), assign_ids.run, build_knowledge_graph.run)
    relations = {f"item_{was}": f"item_{now}" for was, now in items.items()}
    relations |= {f"user_{was}": f"user_{now}" for was, now in users.items()}
    expected = [(relations.get(name, name), *rest) for name, *rest in expected_edges(world)]
    assert committed_edges(tmp_path) == sorted(expected)


def test_validity_lets_entities_in_and_keeps_them_out(spark: SparkSession, tmp_path: Path) -> None:
    world = random_world(3)
    random = np.random.default_rng(0)
    offsets = random.integers(-3, 4, len(world.items))
    items = pd.concat(
        [world.items, world.items.head(30).assign(item_id=[f"silent{n}" for n in range(30)])], ignore_index=True
    )
    offsets = np.concatenate([offsets, np.tile([-2, -1, 0, 1, 2], 6)])
    since = pd.Series(MIDNIGHT.as_unit("us") + pd.to_timedelta(offsets, unit="D")).where(
        random.random(len(items)) < 0.8
    )
    until = pd.Series(MIDNIGHT.as_unit("us") + pd.to_timedelta(random.integers(-1, 2, len(items)), unit="D")).where(
        random.random(len(items)) < 0.5
    )
    world.items = items.assign(valid_from=since, valid_to=until)
    run_jobs(world.write(tmp_path), assign_ids.run, build_knowledge_graph.run)
    edges = committed_edges(tmp_path)
    assert edges == expected_edges(world)
    assert any(head.startswith("silent") for _, head, _, _ in edges) and "silent2" not in {e[1] for e in edges}
    assert Table(str(tmp_path / "data/knowledge_graph")).existing_manifest(D.isoformat()).fields[
        "static_attributes"
    ] == ["user_likes", "user_region"]


def test_rare_values_are_those_of_the_nights_graph_alone(spark: SparkSession, tmp_path: Path) -> None:
    """A value that many items of the catalogue have, and too few in the graph, is left out; numbers and other
    attributes stay."""
    world = random_world(1)
    unseen = world.items.head(40).assign(item_id=[f"unseen{n}" for n in range(40)], brand="b3")
    world.items = pd.concat([world.items, unseen], ignore_index=True)
    everything = expected_edges(world)
    counts = pd.Series([tail for name, _, tail, _ in everything if name == "item_brand"]).value_counts()
    least = int(counts["b3"]) + 1
    assert (counts < least).any() and (counts >= least).any()
    graph = configuration()["graph"]
    graph["item_attributes"]["brand"] = {"min_entities": least}
    run_jobs(world.write(tmp_path, graph=graph), assign_ids.run, build_knowledge_graph.run)
    assert committed_edges(tmp_path) == [
        edge for edge in everything if edge[0] != "item_brand" or counts[edge[2]] >= least
    ]


def test_configured_bounds_cut_the_same_every_night(spark: SparkSession, tmp_path: Path) -> None:
    world = random_world(1)
    graph = configuration()["graph"]
    graph["item_attributes"] |= {"price": {"type": "number", "bounds": [1.0, 2.5]}, "brand": {}}
    run_jobs(world.write(tmp_path, graph=graph), assign_ids.run, build_knowledge_graph.run)
    price = world.items.set_index("item_id")["price"]
    found = [(item, name) for relation, item, name, _ in committed_edges(tmp_path) if relation == "item_price"]
    wanted = {item: f"bin_{1 + (price[item] > 1.0) + (price[item] > 2.5)}_of_3" for item, _ in found}
    assert (
        dict(found) == wanted and len(set(wanted.values())) == 3 and {1.0, 2.5} <= set(price[item] for item in wanted)
    )
    assert set(ledger(tmp_path, "price")["raw"]) == {"bin_1_of_3", "bin_2_of_3", "bin_3_of_3"}


@pytest.mark.parametrize("parts", [1, 3])
def test_bounds_are_the_order_statistics_of_each_group(spark: SparkSession, parts: int) -> None:
    random = np.random.default_rng(2)
    groups = {"a": random.random(101), "b": random.integers(0, 3, 50).astype(float), "c": np.array([5.0])}
    rows = [(name, float(x)) for name, values in groups.items() for x in values]
    random.shuffle(rows)
    frame = spark.createDataFrame([(str(n), float(x)) for n, x in rows], "relation string, number double").repartition(
        parts
    )
    found = bins.bounds(frame, {"a": 10, "b": 4, "c": 3})
    for name, count in (("a", 10), ("b", 4), ("c", 3)):
        np.testing.assert_array_equal(
            found[name], np.quantile(groups[name], np.arange(1, count) / count, method="inverted_cdf")
        )
