"""What the jobs are told of the scheduler's other runs, and what becomes of a run that has to wait."""

from __future__ import annotations

import datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from jobs.nights import NOTHING, states_of
from tests.dags.test_tasks import context, operator

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import DagBag

DAG = "nightly_user_embeddings"


def run(day: int, state: str, kind: str = "scheduled", hour: int = 0, **more: Any) -> SimpleNamespace:
    moment = datetime.datetime(2026, 1, day, hour, tzinfo=datetime.UTC)
    known = {"dag_id": DAG, "run_id": f"{kind}-{day}", "conf": None, "triggering_user_name": None}
    return SimpleNamespace(**known | {"logical_date": moment, "state": state, "run_type": kind} | more)


class Supervisor:
    """Answers a task's questions from a list of runs."""

    def __init__(self, *runs: SimpleNamespace) -> None:
        self.runs, self.cleared = runs, []

    def send(self, question: Any) -> Any:
        kind = type(question).__name__
        assert question.dag_id == DAG
        if kind == "GetPreviousDagRun":
            before = [r for r in self.runs if r.state == question.state and r.logical_date < question.logical_date]
            return SimpleNamespace(dag_run=max(before, key=lambda r: r.logical_date, default=None))
        if kind == "GetDagRunState":
            return SimpleNamespace(state=next(r.state for r in self.runs if r.run_id == question.run_id))
        assert kind == "TriggerDagRun" and question.reset_dag_run
        return self.cleared.append(question.run_id)


@pytest.fixture
def asked(dagbag: DagBag, monkeypatch: pytest.MonkeyPatch) -> Any:
    """earlier_runs(), for a run among others."""
    from airflow.sdk.execution_time import task_runner
    from dagkit.order import earlier_runs

    def ask(own: SimpleNamespace, *others: SimpleNamespace, **params: Any) -> str:
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(own, *others), raising=False)
        return earlier_runs(params, own)

    return ask


def test_earlier_runs_that_are_under_way_are_told_oldest_first(asked: Any) -> None:
    own = run(12, "running")
    told = asked(own, run(10, "queued"), run(9, "running"), run(8, "failed"), run(7, "success"), run(13, "running"))
    assert told == "2026-01-09=running,2026-01-10=behind"
    assert asked(own, run(8, "failed"), run(13, "queued")) == NOTHING
    assert states_of(told) == {datetime.date(2026, 1, 9): "running", datetime.date(2026, 1, 10): "behind"}


def test_a_queued_run_of_another_kind_has_a_place_of_its_own(asked: Any) -> None:
    own = run(12, "running", "backfill")
    told = asked(own, run(9, "queued", "manual"), run(10, "queued", "backfill"), run(11, "queued"))
    assert told == "2026-01-09=queued,2026-01-10=behind,2026-01-11=queued"
    assert asked(run(12, "running", "manual"), run(9, "queued")) == "2026-01-09=behind"


def test_a_runs_night_is_its_parameter_date_if_it_has_one(asked: Any) -> None:
    own = run(12, "running", "manual", conf={"date": "2026-01-06"})
    others = run(5, "running"), run(7, "running"), run(4, "running", "manual", conf={"date": "2026-01-20"})
    assert asked(own, *others, date="2026-01-06") == "2026-01-05=running", "no two can wait for each other"
    assert asked(own, run(3, "running", "manual", conf={"date": "yesterday"}), date="2026-01-06") == NOTHING
    assert asked(own, run(3, "queued", "backfill", conf={"dat": "2026-01-03"}), date="2026-01-06") == NOTHING


def test_other_hours_than_midnight_count(asked: Any) -> None:
    assert asked(run(12, "running", hour=3), run(11, "running", hour=5)) == "2026-01-11=running"
    assert asked(run(12, "running", hour=3), run(12, "running", hour=1)) == NOTHING, "the same night, twice"


def test_what_airflow_dags_test_left_running_is_nobodys_care(asked: Any) -> None:
    """A night of `make nightly` that was killed stays "running" for ever; its lease runs out."""
    assert asked(run(12, "running"), run(11, "running", "manual", triggering_user_name="dag_test")) == NOTHING
    taken_over = run(11, "running", "backfill", triggering_user_name="dag_test")
    assert asked(run(12, "running"), taken_over) == "2026-01-11=running"


def test_many_runs_are_asked_for_up_to_a_limit(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from dagkit import order

    monkeypatch.setattr(order, "MOST_RUNS", 3)
    told = asked(run(20, "running"), *(run(day, "queued") for day in range(1, 20)))
    assert told == "2026-01-17=behind,2026-01-18=behind,2026-01-19=behind"


def test_a_command_is_rendered_without_a_supervisor(dagbag: DagBag) -> None:
    from dagkit.order import earlier_runs

    assert earlier_runs({}, run(12, "running")) == NOTHING


def test_a_task_that_comes_too_early_gives_its_slot_back(dagbag: DagBag) -> None:
    from airflow.sdk.exceptions import AirflowFailException, AirflowRescheduleException

    with pytest.raises(AirflowRescheduleException) as raised:
        operator("raise SystemExit(75)").execute(context())
    wait = raised.value.reschedule_date - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(seconds=20) < wait <= datetime.timedelta(minutes=1)
    with pytest.raises(AirflowFailException, match="given up"):
        operator("print('given up'); raise SystemExit(76)").execute(context())


def test_a_line_that_only_looks_like_a_result_is_none(dagbag: DagBag) -> None:
    operator("print('{half')", kind=type(dagbag.dags[DAG].get_task("write_report"))).execute(context())


@pytest.mark.parametrize("ending", [0, 1])
def test_the_nights_last_task_clears_the_runs_that_waited_for_it(
    dagbag: DagBag, monkeypatch: pytest.MonkeyPatch, ending: int
) -> None:
    from airflow.sdk.exceptions import AirflowException
    from airflow.sdk.execution_time import task_runner

    last = dagbag.dags[DAG].get_task("write_report")
    supervisor = Supervisor(run(19, "failed", "backfill"), run(20, "success"), run(21, "queued"))
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    names = '["backfill-19", "scheduled-20", "scheduled-21"]'
    program = f"""print('{{"resume": {names}}}'); raise SystemExit({ending})"""
    probe = operator(program, kind=type(last))
    try:
        probe.execute(context() | {"dag_run": run(12, "running")})
    except AirflowException:
        assert ending
    assert supervisor.cleared == ["backfill-19"], "those that failed: others were started by somebody else"
