"""What a platform engineer does in a week, with a real scheduler: `make test-week`.

Whatever is run, in whatever order and however many at once, the nights end as if they had run one at a time, oldest
first; where they cannot (a date filled in between, a date that failed), `verify` says so and its command mends it.

The tests are one play in this order, each goes on where the last one ended. `NOCTURNE_QUICK_WEEK=1` plays it with
nights of which only the order is real (quick_nights.py).
"""

from __future__ import annotations

import datetime
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from feature_store import Table
from feature_store.tree import DataRoot
from jobs.configuration.load import load_settings
from tests.dags import quick_nights, small_log
from tests.dags.services import ATTEMPTS, Services, running

DAG, ON_DEMAND = "nightly_user_embeddings", "lookalike_audience"
QUICK = bool(os.environ.get("NOCTURNE_QUICK_WEEK"))
TODAY = datetime.datetime.now(datetime.UTC).date()
YEAR = TODAY.year if TODAY > datetime.date(TODAY.year, 3, 30) else TODAY.year - 1
NIGHTS = [datetime.date(YEAR, 3, day) for day in (1, 8, 15, 22, 29)]
DATES = [night.isoformat() for night in NIGHTS]
SCHEDULE = "0 0 1,8,15,22,29 3 *"  # unpausing starts the run of the last of them, and no other
VECTORS = f"{quick_nights.LOCATION}{quick_nights.MODEL}"
# The nights' own tables: contents of pages and figures tell of seconds, and the ledgers have no dates.
NOT_COMPARED = ("run_metrics/", "reports", "requested_audiences/", "clean_events")


class Week:
    """The scheduler, the store, and what the store held after the first nights."""

    def __init__(self, services: Services, folder: Path) -> None:
        self.services, self.folder, self.root = services, folder, folder / "data"
        self.first: dict[tuple[str, str], str] = {}

    def backfill(self, first: str, last: str, *more: str, runs: int = 1) -> None:
        """Ask for one, and wait until it has ended."""
        self.airflow(
            "backfill", "create", "--dag-id", DAG, "--from-date", first, "--to-date", last,
            "--max-active-runs", str(runs), "--reprocess-behavior", "completed", *more)  # fmt: skip

    def airflow(self, *command: str) -> None:
        """One command, and what it started until it has ended."""
        for _ in range(ATTEMPTS):
            self.services.wait("the end of what ran before", self._is_idle)
            try:
                self.services.run(*command)
                break
            except AssertionError as error:  # SQLite, which was busy, had refused the rest of a backfill
                if "Another backfill is running" not in str(error):
                    raise
                for one in self._running_backfills():
                    self.services.api(f"api/v2/backfills/{one['id']}/cancel", method="PUT")
        self.services.wait(f"the end of `airflow {' '.join(command)}`", self._is_idle)

    def _running_backfills(self) -> list[dict[str, Any]]:
        found = self.services.api(f"api/v2/backfills?dag_id={DAG}&limit=100")["backfills"]
        return [one for one in found if not one["completed_at"]]

    def _is_idle(self) -> bool:
        ended = all(run["state"] in ("success", "failed") for run in self.services.runs(DAG))
        return ended and not self._running_backfills()

    def states(self) -> dict[str, str]:
        return {run["logical_date"][:10]: run["state"] for run in self.services.runs(DAG)}

    def contents(self) -> dict[tuple[str, str], str]:
        tables = DataRoot(str(self.root)).tables
        nightly = {name: table for name, table in tables.items() if not name.startswith(NOT_COMPARED)}
        return {(n, v): t.manifest(v).content_hash for n, t in nightly.items() for v in t.values()}

    def predecessor(self, date: str) -> str | None:
        found = self.vectors.manifest(date).fields["predecessor"]
        return found and found["dt"]

    @property
    def vectors(self) -> Table:
        return Table(f"{self.root}/{VECTORS}")

    def forget(self, *dates: str) -> None:
        """Those nights were never run."""
        for name, table in DataRoot(str(self.root)).tables.items():
            for date in dates if table.key == "dt" and not name.startswith("requested_audiences/") else ():
                shutil.rmtree(table.path(date), ignore_errors=True)

    def verify(self) -> list[str]:
        command = [sys.executable, "-m", "feature_store", "verify", "--root", str(self.root)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()

    def assert_as_first(self) -> None:
        assert set(self.states().values()) == {"success"}, self.services.last_words()
        assert self.contents() == self.first
        assert [self.predecessor(date) for date in DATES] == [None, *DATES[:-1]]
        assert not [line for line in self.verify() if line.startswith("PROBLEM")]


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Week]:
    folder = tmp_path_factory.mktemp("week")
    document = small_log.configuration((quick_nights.MODEL,))["dag"]
    config = small_log.write(
        folder, (quick_nights.MODEL,), first_day=NIGHTS[0] - datetime.timedelta(days=25), days=60,
        dag=document | {"schedule": SCHEDULE, "dates": NIGHTS, "start_date": NIGHTS[0]})  # fmt: skip
    quick = {"NOCTURNE_PYTHON": str(quick_nights.interpreter(folder))} if QUICK else {}
    backfill = ["backfill", "create", "--dag-id", DAG, "--from-date", DATES[0], "--to-date", DATES[3],
                "--max-active-runs", "1"]  # fmt: skip
    unpause = [["dags", "unpause", dag] for dag in (DAG, ON_DEMAND)]
    with running(folder, config, backfill, *unpause, variables=quick) as services:
        yield Week(services, folder)


def test_a_scheduled_run_beside_a_backfill_waits_for_it(week: Week) -> None:
    def all_ended() -> bool:
        return len(week.services.runs(DAG)) == len(DATES) and week._is_idle()

    week.services.wait("the backfill's end and that of the scheduled run", all_ended)
    assert {run["run_type"] for run in week.services.runs(DAG)} == {"backfill", "scheduled"}
    week.first = week.contents()
    week.assert_as_first()
    if QUICK:
        alone, settings = Table(f"{week.folder}/alone"), load_settings(week.folder / "small.yaml")
        for date, before in zip(DATES, [None, *DATES], strict=False):
            quick_nights.night(alone, date, before, settings)
            assert week.first[VECTORS, date] == alone.manifest(date).content_hash


def test_five_dates_three_at_a_time_on_an_empty_store(week: Week) -> None:
    shutil.rmtree(week.root)
    week.backfill(DATES[0], DATES[4], runs=3)
    week.assert_as_first()


def test_a_backwards_backfill_of_one_at_a_time_ends_in_order(week: Week) -> None:
    """The newest night has the only place: it is put off, and comes again after the one that it waits for."""
    week.forget(*DATES[2:])
    week.backfill(DATES[2], DATES[4], "--run-backwards")
    week.assert_as_first()


def test_a_date_filled_in_between_is_told_and_a_range_cleared_mends_it(week: Week) -> None:
    week.forget(*DATES[2:])
    week.backfill(DATES[3], DATES[4])
    assert week.predecessor(DATES[3]) == DATES[1]
    week.backfill(DATES[2], DATES[2])
    said = week.verify()
    problems = [line for line in said if line.startswith("PROBLEM")]
    stage = "run_metrics/stage=train_lookalike: train_lookalike"
    skipped = f"PROBLEM {DATES[3]}: {stage} was skipped for want of {DATES[2]}"
    assert [line.startswith(skipped) for line in problems] == ([] if QUICK else [True])
    assert [line for line in said if line.startswith(f"note    {DATES[3]}: ") and f"{DATES[2]} is nearer" in line]
    week.airflow("tasks", "clear", DAG, "-s", DATES[2], "-e", DATES[4], "-y")
    week.assert_as_first()


def test_one_task_cleared_alone_changes_nothing_that_hangs_on_it(week: Week) -> None:
    week.airflow("tasks", "clear", DAG, "-s", DATES[2], "-e", DATES[2], "-t", "embeddings.publish_.*", "-y")
    week.assert_as_first()


def test_a_failed_date_is_mended_by_verifys_command(week: Week) -> None:
    """The night after it does not wait for ever: it starts from an earlier one."""
    week.forget(*DATES[3:])
    stumble = week.root / "checkpoints" / quick_nights.MODEL / f"dt={DATES[3]}"
    stumble.write_text("no folder", encoding="utf-8")
    week.backfill(DATES[3], DATES[4])
    assert week.states() == dict.fromkeys(DATES, "success") | {DATES[3]: "failed"}
    assert week.predecessor(DATES[4]) == DATES[2]
    stumble.unlink()
    week.backfill(DATES[3], DATES[4])
    week.assert_as_first()


def test_verifys_command_mends_a_space_that_was_opened_too_soon(week: Week) -> None:
    """The first dates come after the others: what began anew without them, and all that hangs on it, is named."""
    week.forget(*DATES[:2])
    week.backfill(DATES[2], DATES[2])
    week.backfill(DATES[0], DATES[1])
    said = week.verify()
    assert said[0].startswith("Run these 3 dates again, oldest first: airflow backfill create"), said
    assert said[1].startswith(f"PROBLEM {DATES[2]}: ") and f"though {DATES[1]} is published" in said[1]
    week.airflow(*shlex.split(said[0].partition(": ")[2])[1:])
    week.assert_as_first()


def test_requests_with_wrong_seeds_between_good_ones(week: Week) -> None:
    seeds = week.folder / "seeds.txt"
    seeds.write_text("\n".join(f"u{user}" for user in range(0, small_log.USERS, 2)), encoding="utf-8")
    given = [("a", str(seeds)), ("b", str(week.folder / "nowhere.txt")), ("c", str(seeds))]
    for name, path in given:
        conf = {"seeds": path, "date": DATES[4], "name": name, "k": 5}
        week.services.run("dags", "trigger", ON_DEMAND, "--run-id", name, "--conf", json.dumps(conf))

    def states() -> dict[str, str]:
        return {run["dag_run_id"]: run["state"] for run in week.services.runs(ON_DEMAND)}

    week.services.wait("the requests' end", lambda: set(states().values()) <= {"success", "failed"})
    assert states() == {"a": "success", "b": "failed", "c": "success"}
