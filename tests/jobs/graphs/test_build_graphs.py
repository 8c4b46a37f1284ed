"""All programs of a night in one session: the tables of each alone, figures of each, an end at the first failure."""

from __future__ import annotations

import dataclasses
import datetime
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from feature_store import Segments, Table
from jobs.configuration.settings import Families
from jobs.events import validate_events
from jobs.graphs import assign_ids, build_graphs, build_interactions, build_knowledge_graph, build_user_activity
from jobs.profiles import read_labels
from jobs.program import FINAL, Input, Skip, execute, metrics
from jobs.summarise_nights import read_night
from models import families
from tests.dags import small_log

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NIGHT = small_log.NIGHTS[0]
ALONE = (
    validate_events, assign_ids, build_knowledge_graph, build_interactions, build_user_activity,
    read_labels)  # fmt: skip
STAGES = [job.__name__.rpartition(".")[2] for job in ALONE]
TABLES = ("rejected_events", "knowledge_graph", "interactions", "user_activity", "user_labels")


def call(config: Path, *options: str) -> list[str]:
    return ["--date", NIGHT.isoformat(), "--config", str(config), *options]


def tables(config: Path) -> dict[str, object]:
    """Content hashes of the night's tables and days, and the ledgers' rows."""
    root = config.parent / "data"
    found: dict[str, object] = {n: Table(f"{root}/{n}").existing_manifest(str(NIGHT)).content_hash for n in TABLES}
    days = Table(f"{root}/clean_events", "day")
    found |= {day: days.existing_manifest(day).content_hash for day in days.values()}
    folders = [*(root / "entity_ids").iterdir(), root / "relations"]
    return found | {folder.name: Segments(str(folder)).read().to_pylist() for folder in folders if folder.is_dir()}


def statuses(config: Path) -> dict[str, float]:
    night = read_night(str(config.parent / "data"), NIGHT)
    return {stage: figures["status"] for stage, figures in night.values.items()}


@pytest.fixture(scope="module")
def built(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = small_log.write(tmp_path_factory.mktemp("built"), ("transe",), profiles=small_log.PROFILES)
    assert execute(build_graphs.run, call(config)) == 0
    return config


def test_each_table_is_what_its_program_makes_alone(built: Path, tmp_path: Path) -> None:
    alone = small_log.write(tmp_path / "alone", ("transe",), profiles=small_log.PROFILES)
    for job in ALONE:
        assert execute(job.run, call(alone)) == 0
    assert tables(built) == tables(alone)


def test_each_program_has_figures_of_its_own(built: Path) -> None:
    night = read_night(str(built.parent / "data"), NIGHT)
    assert set(night.values) == {*STAGES, "build_graphs"}
    assert set(night.values["build_graphs"]) == {"status", "seconds", "peak_memory_mib"}, "none of another stage"
    assert night.value("validate_events", "rows_out") == night.value("assign_ids", "rows_in")
    assert night.value("build_interactions", "rows_out") != night.value("build_knowledge_graph", "rows_out") > 0
    assert night.value("build_graphs", "seconds") > sum(night.value(stage, "seconds") for stage in STAGES)


def test_the_first_failure_ends_it_with_its_message_and_leaves_what_was_there(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = small_log.write(tmp_path / "x", ("transe",), profiles=small_log.PROFILES)
    (config.parent / "source" / "items.csv").write_text("item_id,brand\ni1,b1\n", encoding="utf-8")
    assert execute(build_graphs.run, call(config)) == FINAL
    assert statuses(config) == {"validate_events": 0, "assign_ids": 1, "build_graphs": 1}
    said = read_night(str(config.parent / "data"), NIGHT).detail("build_graphs", "status")
    assert said.startswith("assign_ids failed: ") and "has no column 'category'" in said
    assert caplog.text.count("has no column 'category'") == 2, "the stage says it, and the task"
    assert Table(f"{config.parent}/data/clean_events", "day").values()
    assert not (config.parent / "data/knowledge_graph").exists()


@dataclasses.dataclass(frozen=True)
class ToyConfig:
    families: Families


def toy_builder(date: datetime.date, knowledge_graph: Input, config: ToyConfig) -> None:
    """Counts the edges of D, and finds nothing to do where there are few."""
    edges = knowledge_graph.table().existing_manifest(str(date)).row_count
    metrics.put("rows_in", edges, {"epochs": config.families["transe"].epochs})
    if edges < 10_000:
        raise Skip("too few edges")


@pytest.fixture(scope="module")
def elsewhere(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A night without labels whose tables go elsewhere, and one of whose families has a builder; its configuration."""
    folder, module = tmp_path_factory.mktemp("elsewhere"), ModuleType("jobs.graphs.count_toys")
    module.run = toy_builder
    records = {family.name: family for family in families.FAMILIES}
    records["transe"] = dataclasses.replace(records["transe"], builders=("graphs.count_toys",))
    records["rhgn"] = dataclasses.replace(records["rhgn"], builders=("graphs.nowhere",))
    config = small_log.write(folder / "x", ("kqgc_mean",))
    given = {"clean-events": "events", "entity-ids": "ids", "knowledge-graph": "graph"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)
        patch.setattr(families, "FAMILIES", tuple(records.values()))
        options = [f"--{name}={folder}/{place}" for name, place in given.items()]
        assert execute(build_graphs.run, call(config, *options)) == 0, "a program without work fails nothing"
    return config


def test_tables_go_where_the_command_line_says(elsewhere: Path) -> None:
    other = elsewhere.parents[1]
    assert Table(f"{other}/graph").values() == [str(NIGHT)] and Table(f"{other}/events", "day").values()
    written = {path.name for path in (elsewhere.parent / "data").iterdir()}
    assert written == {"rejected_events", "relations", "interactions", "user_activity", "run_metrics", "nights"}


def test_without_labels_none_are_read(elsewhere: Path) -> None:
    assert "read_labels" not in statuses(elsewhere) and not (elsewhere.parent / "data/user_labels").exists()


def test_the_builders_of_trained_families_run_too(elsewhere: Path) -> None:
    """Those of a family that is trained because a published one starts from it; those of no other."""
    night = read_night(str(elsewhere.parent / "data"), NIGHT)
    mine = "test_build_graphs"  # a stage is called like the module that holds the job
    assert night.value(mine, "status") == 99 and night.detail(mine, "status") == "too few edges"
    assert night.value(mine, "rows_in") == night.value("build_knowledge_graph", "rows_out")
    assert night.detail(mine, "rows_in") == {"epochs": 3}


def test_what_a_bug_raises_is_a_failure_of_stage_and_task(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(assign_ids, "raw_ids", broken)
    config = small_log.write(tmp_path / "x", ("transe",))
    with pytest.raises(KeyError):
        execute(build_graphs.run, call(config))
    assert statuses(config) == {"validate_events": 0, "assign_ids": 1, "build_graphs": 1}
    rows = Table(f"{config.parent}/data/run_metrics/stage=build_graphs").read(str(NIGHT)).to_pylist()
    assert {row["metric"] for row in rows} == {"status", "seconds", "peak_memory_mib"}
    assert json.loads(rows[0]["detail"]) == "KeyError: see the task's log"
