"""The attributes of a random night against its graph recomputed in pandas; a graph without any."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from feature_store import Table
from jobs.graphs import assign_ids, build_attributes, build_knowledge_graph
from jobs.program import SKIPPED, execute
from tests.jobs.graphs.small_world import D, configuration, expected_edges, ledger, random_world, run_jobs

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TYPES = {  # of the attribute: whose it is, and the entity type of its values
    "item_brand": ("item", "brand"), "item_tags": ("item", "tag"), "item_price": ("item", "price"),
    "user_region": ("user", "region"), "user_likes": ("user", "tag")}  # fmt: skip


def committed(root: Path) -> list[tuple[str, str, str]]:
    """(type, entity, value) by raw ids, sorted."""
    rows = Table(str(root / "data/attributes")).read(D.isoformat()).to_pylist()
    raw = {kind: dict(ledger(root, kind).itertuples(index=False)) for ends in TYPES.values() for kind in ends}
    assert all(row["entity_type"] == TYPES[row["type"]][0] for row in rows)
    found = [(row["type"], *(raw[k][row[c]] for k, c in zip(TYPES[row["type"]], ("entity", "value"), strict=True)))
             for row in rows]  # fmt: skip
    return sorted(found)


def test_they_are_the_graphs_values_with_numbers_in_bands_and_lists_in_rows(
    spark: SparkSession, tmp_path: Path
) -> None:
    world = random_world(seed=4)
    config = world.write(tmp_path)
    run_jobs(config, assign_ids.run, build_knowledge_graph.run, build_attributes.run)
    expected = sorted(edge[:3] for edge in expected_edges(world) if edge[0] in TYPES)
    assert committed(tmp_path) == expected
    assert {"bin_1_of_5", "bin_5_of_5"} <= {value for kind, _, value in expected if kind == "item_price"}
    several = [item for kind, item, _ in expected if kind == "item_tags"]
    assert len(several) > len(set(several)) > 10
    fields = Table(str(tmp_path / "data/attributes")).existing_manifest(D.isoformat()).fields
    assert fields["inputs"]["knowledge_graph"]["table"] == "knowledge_graph"


def test_a_graph_without_attributes_skips_it(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = random_world(seed=5)
    graph = configuration()["graph"] | {"item_attributes": {}, "user_attributes": {}}
    config = world.write(tmp_path, graph=graph)
    run_jobs(config, assign_ids.run, build_knowledge_graph.run)
    assert execute(build_attributes.run, ["--date", D.isoformat(), "--config", str(config)]) == SKIPPED
    assert "the configuration names none" in caplog.text
    assert not Table(str(tmp_path / "data/attributes")).values()


def test_rows_of_an_earlier_run_do_not_outlive_the_graph_they_are_of(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = random_world(seed=5)
    graph = configuration()["graph"] | {"item_attributes": {"brand": {}}, "user_attributes": {}}
    config = world.write(tmp_path, graph=graph)
    run_jobs(config, assign_ids.run, build_knowledge_graph.run, build_attributes.run)
    table = Table(str(tmp_path / "data/attributes"))
    assert table.read(D.isoformat()).num_rows > 0
    world.items["brand"] = ""
    config = world.write(tmp_path, graph=graph)
    run_jobs(config, assign_ids.run, build_knowledge_graph.run)
    assert execute(build_attributes.run, ["--date", D.isoformat(), "--config", str(config)]) == SKIPPED
    assert "the configuration names ['item_brand']" in caplog.text
    assert table.read(D.isoformat()).num_rows == 0
