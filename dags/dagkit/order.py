"""Nights in order, as far as the scheduler knows it: which earlier runs are under way, and a run that is to run again.

Which night waits for which is decided by the jobs (jobs/nights.py); here is what they are told, in their words.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from typing import Any

from airflow.sdk.exceptions import AirflowFailException, AirflowRuntimeError

from dagkit.tasks import JobOperator, night

NOTHING = "nothing"
MOST_RUNS = 100  # of a state; the newest, each is a question to the API
BY_HAND = "dag_test"  # `airflow dags test`: nobody looks after such a run, it may be dead and "running" for ever
MIDNIGHT = datetime.time(tzinfo=datetime.UTC)


def earlier_runs(params: Any, dag_run: Any) -> str:
    """The runs of this DAG for earlier dates that are running or queued, `2026-01-05=running,2026-01-12=behind`; a
    queued one is `behind` where it may have to wait for the end of this very run. A macro, so that templates can call
    it.
    """
    date, told = night(params, dag_run), {}
    for state in ("running", "queued"):
        for run in _runs_before(dag_run, date, state):
            other = _night_of(run)
            if other is not None and other < date and not _is_by_hand(run):
                told.setdefault(other, _place(run, dag_run) if state == "queued" else state)
    return ",".join(f"{other}={told[other]}" for other in sorted(told)) or NOTHING


def _is_by_hand(run: Any) -> bool:
    """A backfill takes such a run over, and looks after it."""
    return run.triggering_user_name == BY_HAND and not _is_backfill(run)


def _is_backfill(run: Any) -> bool:
    return str(getattr(run.run_type, "value", run.run_type)) == "backfill"


def _place(run: Any, dag_run: Any) -> str:
    """Airflow counts active runs for each backfill, and for everything else together."""
    return "behind" if _is_backfill(run) == _is_backfill(dag_run) else "queued"


def _night_of(run: Any) -> str | None:
    """The date that another run is about; None for one that will fail for want of it."""
    try:
        return night({"date": (run.conf or {}).get("date")}, run)
    except (ValueError, TypeError, AirflowFailException):
        return None


def _runs_before(dag_run: Any, date: str, state: str) -> Iterator[Any]:
    """Other runs of the DAG by logical date, the newest first."""
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import GetPreviousDagRun

    supervisor = getattr(task_runner, "SUPERVISOR_COMMS", None)
    before = datetime.datetime.combine(datetime.date.fromisoformat(date), MIDNIGHT)
    for _ in range(MOST_RUNS if supervisor else 0):  # none where a command is rendered outside a task
        question = GetPreviousDagRun(dag_id=dag_run.dag_id, logical_date=before, state=state)
        run = supervisor.send(question).dag_run
        if run is None:
            return
        yield run
        before = run.logical_date


class EndsNight:
    """Of the night's last job: the runs that waited for the night's end with their places given up are run again."""

    def ended(self, context: Any, result: str | None) -> None:
        for run_id in _waiting(result):
            self.log.info("Run %s waited for this night's end: it is run again", run_id)
            try:
                run_again(context["dag_run"].dag_id, run_id)
            except AirflowRuntimeError as error:
                self.log.warning("Run %s could not be cleared: %s. Clear it by hand.", run_id, error)


class LastJob(EndsNight, JobOperator):
    """The night's last job, in a process beside the task's own."""


def _waiting(result: str | None) -> list[str]:
    """The runs that the job named, if it did; a line that only looks like its result is none."""
    try:
        return list(json.loads(result or "{}").get("resume", ()))
    except ValueError:
        return []


def run_again(dag_id: str, run_id: str) -> None:
    """Clear a whole run that failed, so that it starts anew when its turn comes."""
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import GetDagRunState, TriggerDagRun

    supervisor = task_runner.SUPERVISOR_COMMS
    if supervisor.send(GetDagRunState(dag_id=dag_id, run_id=run_id)).state in ("failed", "running"):
        supervisor.send(TriggerDagRun(dag_id=dag_id, run_id=run_id, reset_dag_run=True))
