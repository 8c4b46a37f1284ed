"""One real run of the DAG, jobs and all, on a small log: what `make nightly` does, from a file of events to the
report."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from pathlib import Path

import pytest

from feature_store import FeatureStore, Table
from feature_store.lineage import built_on, findings
from feature_store.tree import DataRoot
from jobs.run_nights import airflow, environment, failures, job_line
from jobs.summarise_nights import read_night
from tests.dags import small_log
from tests.jobs.written import wrong_columns

NIGHT = "2026-01-21"
STAGES = {
    "validate_events",
    "assign_ids",
    "build_knowledge_graph",
    "build_interactions",
    "build_user_activity",
    "read_labels",
    "build_graphs",
    "resolve_predecessor",
    "pretrain_transe",
    "publish_users_transe",
    "train_lookalike",
    "score_lookalike",
    "train_profiles",
    "write_report",
    "prune_partitions",
}


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The folder of the configuration, and what the program said."""
    folder = tmp_path_factory.mktemp("night")
    config = small_log.write(folder, ("transe",), profiles=small_log.PROFILES)
    command = [
        sys.executable,
        "-m",
        "jobs.run_nights",
        "--config",
        str(config),
        "--dates",
        NIGHT,
        "--folder",
        str(folder / "run"),
    ]
    return folder, subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=1500, check=False
    )


def test_the_night_ends_well(night: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = night
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    figures = read_night(str(folder / "data"), datetime.date.fromisoformat(NIGHT))
    assert set(figures.values) == STAGES, "every stage committed its figures"
    assert figures.value("train_lookalike", "status") == figures.value("score_lookalike", "status") == 99, (
        "there is no D − L yet"
    )
    assert all(v["status"] in (0, 99) for v in figures.values.values())


def test_what_it_published_can_be_read(night: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = night
    store = FeatureStore(str(folder / "data" / "feature_store"))
    features = store.read("user_embeddings", model="transe", dt=NIGHT)
    assert features.matrix().shape == (features.table.num_rows, 8) and 60 <= features.table.num_rows <= small_log.USERS
    assert Table(str(folder / "data" / "reports")).files(NIGHT)
    profiles = Table(str(folder / "data" / "profile_predictions")).read(NIGHT)
    assert (
        profiles.num_rows == 2 * features.table.num_rows
        and sum(profiles.column("predicted").to_pylist()) == features.table.num_rows
    )
    assert not store.table("user_embeddings", "transe").verify(NIGHT)


def test_the_table_at_the_end_tells_what_came_out(night: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = night
    figures = read_night(str(folder / "data"), datetime.date.fromisoformat(NIGHT))
    assert f"{figures.value('build_knowledge_graph', 'rows_out'):,.0f}" in done.stdout
    assert "train_lookalike was skipped on 2026-01-21" in done.stdout
    report = next(line.split()[1] for line in done.stdout.splitlines() if line.startswith("Report "))
    assert Path(report).is_file()


def test_every_manifest_says_what_it_was_built_on(night: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """So that `verify` tells what hangs on a task that ran again alone."""
    root = DataRoot(str(night[0] / "data"))
    found = {
        name: {edge.table for edge in built_on(table.manifest(NIGHT))}
        for name, table in root.tables.items()
        if table.key == "dt" and not name.startswith(("run_metrics/", "requested"))}
    vectors, items = "feature_store/user_embeddings/model=transe", "entity_embeddings/transe"
    assert found == {
        "rejected_events": set(),
        "knowledge_graph": {"clean_events"},
        "interactions": {"clean_events"},
        "user_activity": {"clean_events"},
        "user_labels": {"clean_events"},
        "checkpoints/transe": {"knowledge_graph"},
        vectors: {"checkpoints/transe", "knowledge_graph", "user_activity"},
        items: {"checkpoints/transe", "knowledge_graph", "user_activity"},
        "canaries/transe": {"checkpoints/transe", "knowledge_graph", "user_activity", "user_labels"},
        "profile_predictions": {vectors, "user_labels"},
        "reports": {"rejected_events", "knowledge_graph", "interactions", vectors, items},
    }
    assert not list(findings(root))


def test_an_audience_on_demand(night: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """The other DAG, on the night's vectors: users of even number are the seeds."""
    folder, _ = night
    seeds = folder / "even.txt"
    seeds.write_text("\n".join(f"u{u}" for u in range(0, small_log.USERS, 2)) + "\nnobody\n", encoding="utf-8")
    request = json.dumps({"date": NIGHT, "seeds": str(seeds), "k": 7, "model": "transe"})
    done = subprocess.run(
        airflow("dags", "test", "lookalike_audience", "-c", request),
        env=environment(folder / "run" / "airflow", folder / "small.yaml"),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    found = [
        row["user_id"] for row in Table(str(folder / "data" / "requested_audiences" / "even")).read(NIGHT).to_pylist()
    ]
    assert len(found) == 7 and all(int(user[1:]) % 2 for user in found), "seeds stay out"


def test_every_table_has_its_contracts_columns(night: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """To the letter, whoever wrote it: Spark, Arrow, or nobody because there was no row. (Scores and attention: in
    their jobs' tests.)"""
    folder, _ = night
    found = wrong_columns(folder / "data")
    there = {
        "clean_events",
        "rejected_events",
        "entity_ids",
        "relations",
        "knowledge_graph",
        "interactions",
        "user_activity",
        "entity_embeddings",
        "canaries",
        "user_embeddings",
        "requested_audiences",
        "profile_predictions",
        "user_labels",
        "run_metrics",
    }
    assert found == dict.fromkeys(there, [])


def test_job_lines_are_found_in_airflows_log() -> None:
    said = "2026-11-20 13:25:06,675 assign_ids 2026-01-21: rows_out 4, 3 s"
    line = f"2026-11-20T13:25:06.675Z [info     ] {said} [airflow.task.operators.x] loc=tasks.py:75\n"
    assert job_line(line) == ("assign_ids", "rows_out 4, 3 s")
    assert job_line("2026-11-20T13:25:06.675Z [info     ] Task instance state updated [task] loc=x.py:1\n") is None
    assert job_line("2026-11-20 13:25:06,675 assign_ids 2026-01-21: rows_out 4, 3 s\n") is None, (
        "again, within an exception"
    )


def test_a_failed_night_says_what_the_task_said(tmp_path: Path) -> None:
    log = tmp_path / "night.log"
    log.write_text(
        "2026-11-20T13:25:08Z [error    ] Task failed with exception [task]\n"
        "Traceback (most recent call last):\n  File x\n"
        "airflow.sdk.exceptions.AirflowException: a ended with exit status 1:\n"
        "2026-11-20 13:25:06,675 a 2026-01-21: StoreError: no room\n"
        "2026-11-20T13:25:09Z [info     ] something else\n",
        encoding="utf-8",
    )
    assert (
        failures(log)
        == "  | a ended with exit status 1:\n  | 2026-11-20 13:25:06,675 a 2026-01-21: StoreError: no room"
    )
