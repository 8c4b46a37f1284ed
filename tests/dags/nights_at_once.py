"""A real scheduler with three dates to run at once, of two backfills, on an empty store: in the end every night was
built on the one before it, as if they had run one at a time, oldest first: part of `make test-week`. What it rests on
is tested without a scheduler in tests/feature_store/test_leases.py, tests/jobs/test_nights.py and
tests/jobs/embeddings/test_resolve_in_order.py."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from feature_store import Leases, Table
from jobs.configuration.load import load_settings
from tests.dags import quick_nights, small_log
from tests.dags.services import Services, running

DAG = "nightly_user_embeddings"
DATES = [d.isoformat() for d in small_log.NIGHTS]


def backfill(first: str, last: str) -> list[str]:
    dates = ["--from-date", first, "--to-date", last]
    return ["backfill", "create", "--dag-id", DAG, *dates, "--max-active-runs", "3"]


def as_if_done(services: Services) -> None:
    """Every run there is has ended well, and every backfill: long ago, and on a disk that is gone."""
    path = services.variables["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].removeprefix("sqlite:///").partition("?")[0]
    with sqlite3.connect(path) as database:
        database.execute("UPDATE dag_run SET state = 'success', end_date = CURRENT_TIMESTAMP")
        database.execute("UPDATE task_instance SET state = 'success'")
        database.execute("UPDATE backfill SET completed_at = CURRENT_TIMESTAMP")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("at_once")


@pytest.fixture(scope="module")
def services(folder: Path) -> Iterator[Services]:
    """A running Airflow with two backfills, of two dates and of one, all of whose runs were cleared together."""
    config = small_log.write(folder, (quick_nights.MODEL,))
    quick = {
        "NOCTURNE_PYTHON": str(quick_nights.interpreter(folder)), "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1"}  # between one task and the next
    clear = ["tasks", "clear", DAG, "-s", DATES[0], "-e", DATES[2], "-y"]
    first = [backfill(DATES[0], DATES[1]), as_if_done, backfill(DATES[2], DATES[2]), as_if_done, clear]
    with running(folder, config, ["dags", "unpause", DAG], *first, variables=quick) as started:
        yield started


@pytest.fixture(scope="module")
def runs(services: Services) -> list[dict[str, Any]]:
    """All three, ended."""
    def ended() -> bool:
        return all(run["state"] in ("success", "failed") for run in services.runs(DAG))

    assert len(services.runs(DAG)) == 3
    services.wait("the nights' end", ended, seconds=900)
    return services.runs(DAG)


def table(folder: Path) -> Table:
    return Table(f"{folder}/data/{quick_nights.LOCATION}{quick_nights.MODEL}")


def test_all_end_well_and_were_under_way_together(services: Services, runs: list[dict[str, Any]]) -> None:
    assert {run["state"] for run in runs} == {"success"}, services.last_words()
    assert max(run["start_date"] for run in runs) < min(run["end_date"] for run in runs)


def test_contents_are_those_of_one_at_a_time_oldest_first(
    runs: list[dict[str, Any]], folder: Path, tmp_path: Path
) -> None:
    settings, found, alone = load_settings(folder / "small.yaml"), table(folder), Table(f"{tmp_path}/alone")
    for date, before in zip(DATES, [None, *DATES], strict=False):
        quick_nights.night(alone, date, before, settings)
    assert [found.manifest(date).content_hash for date in DATES] == [alone.manifest(d).content_hash for d in DATES]
    assert {found.manifest(date).fields["space_id"] for date in DATES} == {DATES[0]}


def test_the_waiting_nights_said_for_which_and_held_no_slot(runs: list[dict[str, Any]], folder: Path) -> None:
    logs = "\n".join(path.read_text(encoding="utf-8") for path in (folder / "airflow" / "logs").rglob("*.log"))
    assert f"The night of {DATES[1]} waits for dt={DATES[0]} (its run is running)" in logs
    assert f"The night of {DATES[2]} waits for" in logs and "marking task as UP_FOR_RESCHEDULE" in logs
    assert Leases(f"{folder}/data/nights").holding() == []
