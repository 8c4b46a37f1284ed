"""`airflow backfill create` with a real scheduler, then one of its dates again: every partition is there, once. Two
dates whose jobs are quick_nights.py's; `make test-week` asks for three with the real jobs (NOCTURNE_WHOLE_BACKFILL=1),
and has three at once (nights_at_once.py). One night of real jobs: test_night.py."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from feature_store import Table
from tests.dags import quick_nights, small_log
from tests.dags.services import Services, running

DAG = "nightly_user_embeddings"
CONSUMER = "example_consumer"
WHOLE = bool(os.environ.get("NOCTURNE_WHOLE_BACKFILL"))
MODELS = ("transe", "kqgc_mean") if WHOLE else (quick_nights.MODEL,)
NIGHTS = small_log.NIGHTS[: 3 if WHOLE else 2]
# those and no other, which the scheduler would start too; not as a range: croniter takes 21-21 for every day
SCHEDULE = f"0 0 {','.join(str(night.day) for night in NIGHTS)} 1 *"
DATES = [d.isoformat() for d in NIGHTS]
BY_MODEL = [f"{table}{model}" for model in MODELS for table in ("checkpoints/", quick_nights.LOCATION)]
NIGHTLY_TABLES = [*BY_MODEL, *(
    ["rejected_events", "knowledge_graph", "interactions", "user_activity", "reports",
     *(f"{table}{model}" for model in MODELS for table in ("entity_embeddings/", "canaries/"))]
    if WHOLE else [])]  # fmt: skip
LOOKALIKE_TABLES = ["lookalike_models", "lookalike_scores", "audiences"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("backfill")


@pytest.fixture(scope="module")
def services(folder: Path) -> Iterator[Services]:
    """A running Airflow that has a backfill to do."""
    backfill = [
        "backfill",
        "create",
        "--dag-id",
        DAG,
        "--from-date",
        DATES[0],
        "--to-date",
        DATES[-1],
        "--max-active-runs",
        "1",
        "--reprocess-behavior",
        "completed",
    ]
    unpause = ["dags", "unpause", f"{DAG}|{CONSUMER}", "--treat-dag-id-as-regex", "--yes"]
    # between one task and the next; 0.1 keeps a core busy
    variables = {"AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5"}
    if not WHOLE:
        variables["NOCTURNE_PYTHON"] = str(quick_nights.interpreter(folder))
    config = small_log.write(folder, MODELS, dag=small_log.configuration(MODELS)["dag"] | {"schedule": SCHEDULE})
    with running(folder, config, unpause, backfill, variables=variables) as started:
        yield started


@pytest.fixture(scope="module")
def first_hashes(services: Services, folder: Path) -> dict[tuple[str, str], str]:
    """After the backfill: content hash by table and date."""
    services.wait("the end of the backfill", lambda: ended(services))
    return hashes(folder)


def backfilled(services: Services) -> list[dict[str, Any]]:
    return [r for r in services.runs(DAG) if r["run_type"] == "backfill"]


def ended(services: Services) -> bool:
    runs = backfilled(services)
    return len(runs) == len(DATES) and all(r["state"] in ("success", "failed") for r in runs)


def table(folder: Path, name: str) -> Table:
    return Table(str(folder / "data" / name))


def hashes(folder: Path) -> dict[tuple[str, str], str]:
    manifests = ((name, date, table(folder, name).manifest(date)) for name in NIGHTLY_TABLES for date in DATES)
    return {(name, date): manifest.content_hash for name, date, manifest in manifests if manifest}


def test_every_date_succeeds(services: Services, first_hashes: dict[tuple[str, str], str]) -> None:
    runs = backfilled(services)
    assert sorted(r["logical_date"][:10] for r in runs) == DATES
    assert {r["state"] for r in runs} == {"success"}, services.last_words()


@pytest.mark.skipif(not WHOLE, reason="with real jobs: make test-week (by default in test_night.py and test_flow.py)")
def test_lookalike_says_that_it_skips(
    services: Services, first_hashes: dict[tuple[str, str], str], folder: Path
) -> None:
    """Nights in a row have no D − L with label windows of a week; everything else runs."""
    for run in backfilled(services):
        states = services.tasks(DAG, run["dag_run_id"])
        skipped = {task for task, state in states.items() if state == "skipped"}
        assert skipped == {"audiences.train_lookalike", "audiences.score_lookalike"}
        assert set(states.values()) == {"success", "skipped"}
    for date in DATES:
        said = table(folder, "run_metrics/stage=train_lookalike").read(date).to_pylist()
        reason = next(row["detail"] for row in said if row["metric"] == "status")
        assert reason and "2026-01-1" in reason, "the reason names D − L"
    assert not any(table(folder, name).values() for name in LOOKALIKE_TABLES)


def test_every_partition_is_there(first_hashes: dict[tuple[str, str], str], folder: Path) -> None:
    assert set(first_hashes) == {(name, date) for name in NIGHTLY_TABLES for date in DATES}
    for name in NIGHTLY_TABLES:
        assert table(folder, name).values() == DATES
        assert not [problem for date in DATES for problem in table(folder, name).verify(date)]
    users = table(folder, f"feature_store/user_embeddings/model={MODELS[-1]}")
    predecessors = [users.manifest(date).fields["predecessor"] for date in DATES]
    assert predecessors[0] is None and [p["dt"] for p in predecessors[1:]] == DATES[:-1], (
        "each night goes on from the one before"
    )


def test_a_backfill_triggers_consumers_with_the_right_nights(
    services: Services, first_hashes: dict[tuple[str, str], str]
) -> None:
    """A run that an Asset triggers has no logical date: the nights come from the events' extra."""

    def nights() -> set[str]:
        done = [r["dag_run_id"] for r in services.runs(CONSUMER) if r["state"] == "success"]
        told = "taskInstances/published_nights/xcomEntries/return_value?deserialize=true"
        path = f"api/v2/dags/{CONSUMER}/dagRuns/%s/{told}"
        return {night for run in done for night in services.api(path % run)["value"]}

    services.wait("the consumer's runs", lambda: nights() == set(DATES), seconds=300)
    assert all(r["logical_date"] is None for r in services.runs(CONSUMER))


def test_a_date_that_runs_again_replaces_itself(
    services: Services, first_hashes: dict[tuple[str, str], str], folder: Path
) -> None:
    """The README's command for running a night again; in deterministic mode it gives the same content."""
    again = DATES[-1]
    before = {name: table(folder, name).manifest(again).hash for name in NIGHTLY_TABLES}
    services.run("tasks", "clear", DAG, "-s", again, "-e", again, "-y")
    services.wait("the rerun's end", lambda: ended(services))
    assert {r["state"] for r in backfilled(services)} == {"success"}, services.last_words()
    content = {key: value for key, value in hashes(folder).items() if key[0] != "reports"}  # the page shows seconds
    assert content == {key: value for key, value in first_hashes.items() if key[0] != "reports"}
    anew = {name for name in NIGHTLY_TABLES if table(folder, name).manifest(again).hash != before[name]}
    assert anew == set(NIGHTLY_TABLES) - {"rejected_events"}, "of the source there was nothing to read again"
    for name in NIGHTLY_TABLES:
        assert table(folder, name).values() == DATES and not table(folder, name).verify(again)
