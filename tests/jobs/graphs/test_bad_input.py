"""Bad input: one clear message, and the store as it was."""

from __future__ import annotations

import datetime
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from feature_store import Table
from jobs.graphs import assign_ids, build_interactions, build_knowledge_graph
from jobs.program import FAILED, FINAL, execute
from tests.jobs.graphs.small_world import D, World, committed_edges, configuration, random_world, run_jobs

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

GRAPH_JOBS = (assign_ids.run, build_knowledge_graph.run, build_interactions.run)


def refused(config: Path, caplog: pytest.LogCaptureFixture, *runs: Any, date: datetime.date = D) -> str:
    """What the jobs say on failing, each with exit status 1."""
    caplog.clear()
    with caplog.at_level(logging.ERROR, "nocturne"):
        for run in runs:
            assert execute(run, ["--date", date.isoformat(), "--config", str(config)]) == FINAL
    return caplog.text


def nothing_committed(root: Path) -> bool:
    data = root / "data"
    return not (data / "relations").exists() and not any(
        (data / name).exists() for name in ("knowledge_graph", "interactions")
    )


def test_a_missing_day_is_named(spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = random_world(1).write(tmp_path)
    shutil.rmtree(tmp_path / "data/clean_events/day=2026-02-25")
    said = refused(config, caplog, *GRAPH_JOBS)
    assert said.count("2026-02-25") >= 3 and "validate_events" in said and nothing_committed(tmp_path)


def test_a_catalogue_that_changes_while_ids_are_given_leaves_the_ledgers(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, read = random_world(1), assign_ids.raw_ids
    config = world.write(tmp_path)

    def meanwhile(*arguments: Any) -> Any:
        rows = read(*arguments).persist()
        rows.count()
        world.items.head(3).to_parquet(tmp_path / "items.parquet", index=False)
        return rows

    monkeypatch.setattr(assign_ids, "raw_ids", meanwhile)
    with caplog.at_level(logging.ERROR, "nocturne"):
        assert execute(assign_ids.run, ["--date", D.isoformat(), "--config", str(config)]) == FAILED
    assert "items.parquet was changed while it was read" in caplog.text and nothing_committed(tmp_path)
    assert not list((tmp_path / "data/entity_ids").rglob("*.parquet"))


def test_a_window_without_an_event_stops(spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = random_world(1)
    later = world.events.assign(event_time=world.events["event_time"] + pd.Timedelta(days=30))
    config = World(later, world.items, world.users).write(tmp_path)
    said = refused(config, caplog, *GRAPH_JOBS)
    assert said.count("No event in the window") == 3 and nothing_committed(tmp_path)


def test_an_empty_day_and_one_user_are_a_graph(spark: SparkSession, tmp_path: Path) -> None:
    world = random_world(1)
    busy = world.events["event_time"].dt.date.isin([datetime.date(2026, 2, 27), datetime.date(2026, 2, 28)])
    events = world.events[busy].assign(user_id="alone")
    run_jobs(World(events, world.items, world.users).write(tmp_path), *GRAPH_JOBS)
    heads = {head for name, head, _, _ in committed_edges(tmp_path) if name in ("view", "purchase")}
    assert heads == {"alone"}


CASES = {
    "missing column": ({"item_attributes": {"colour": {}}}, "no column 'colour'"),
    "text for a number": (
        {"item_attributes": {"brand": {"type": "number"}}},
        "text that is no number in column 'brand'",
    ),
    "list for a number": ({"item_attributes": {"tags": {"type": "number"}}}, "expected numbers"),
    "a behaviour without events": ({"behaviors": {"refund": {}}, "purchase": "refund"}, "expected at least one"),
}


@pytest.mark.parametrize("case", CASES)
def test_wrong_columns_stop_the_graph(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    change, message = CASES[case]
    graph = {**configuration()["graph"], **change}
    events = {"behaviors": ["view", "purchase", "other", "refund"]}
    config = random_world(1).write(tmp_path, graph=graph, events=events)
    if case == "a behaviour without events":
        run_jobs(config, assign_ids.run)
    said = refused(
        config, caplog, build_knowledge_graph.run if case == "a behaviour without events" else assign_ids.run
    )
    assert message in said and not (tmp_path / "data/knowledge_graph").exists()
    assert "b<1>" not in said  # no value of anybody's row


def test_ids_that_no_ledger_knows_leave_the_last_graph(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = random_world(1)
    config = world.write(tmp_path)
    run_jobs(config, *GRAPH_JOBS)
    before = Table(str(tmp_path / "data/knowledge_graph")).existing_manifest(D.isoformat()).hash
    world.events.loc[world.events.index[-1], ["user_id", "behavior"]] = ["stranger", "purchase"]
    world.commit_day(tmp_path, world.events["event_time"].iloc[-1].date())
    said = refused(config, caplog, build_knowledge_graph.run, build_interactions.run)
    assert said.count("assign_ids") == 2 and "stranger" not in said
    assert Table(str(tmp_path / "data/knowledge_graph")).existing_manifest(D.isoformat()).hash == before
