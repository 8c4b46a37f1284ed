"""The operators: results, exit statuses, stopping, which night it is."""

from __future__ import annotations

import datetime
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from jobs.program import Output
from jobs.tables import TABLES

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import DagBag

MIDNIGHT = datetime.datetime(2026, 1, 12, tzinfo=datetime.UTC)


def operator(program: str, kind: Any = None, **arguments: Any) -> Any:
    from dagkit.tasks import JobOperator

    return (kind or JobOperator)(task_id="probe", command=[sys.executable, "-c", program], **arguments)


def context(**params: Any) -> dict[str, Any]:
    return {"params": params, "dag_run": SimpleNamespace(logical_date=MIDNIGHT, run_id="test"), "outlet_events": {}}


def test_the_result_is_the_last_json_line_wherever_log_lines_stand(dagbag: DagBag) -> None:
    """`program.py` logs a line to standard error after the job's own last line."""
    program = (
        "import sys; print('{\"a\": 1}'); print('{\"transe\": null}', flush=True); "
        "print('12:00 done, 3 s', file=sys.stderr)"
    )
    assert operator(program, returns_json=True).execute(context()) == {"transe": None}
    assert operator(program).execute(context()) is None, "no XCom where none is asked for"


def test_a_result_that_is_asked_for_and_missing_is_a_failure(dagbag: DagBag) -> None:
    from airflow.sdk.exceptions import AirflowException

    with pytest.raises(AirflowException, match="printed no line with a JSON object"):
        operator("print('nothing')", returns_json=True).execute(context())


@pytest.mark.parametrize(
    ("status", "kind"),
    [(1, "AirflowException"), (2, "AirflowFailException"), (3, "AirflowFailException"), (99, "AirflowSkipException")],
)
def test_exit_statuses(dagbag: DagBag, status: int, kind: str) -> None:
    with pytest.raises(Exception, match="the reason") as caught:
        operator(f"import sys; print('the reason'); sys.exit({status})").execute(context())
    assert type(caught.value).__name__ == kind


def test_an_event_of_a_published_partition_says_which(dagbag: DagBag) -> None:
    from airflow.sdk import Asset

    asset, event = Asset("probe.asset"), SimpleNamespace(extra={})
    operator("pass", outlets=[asset]).execute(context() | {"outlet_events": {asset: event}})
    assert event.extra == {"dt": "2026-01-12"}


def is_running(process: int) -> bool:
    """A zombie has ended."""
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_stopping_a_task_stops_the_program_and_its_children(dagbag: DagBag) -> None:
    """Spark's JVM must not outlive a task that ran out of time."""
    program = (
        "import subprocess, sys, time; sleep = [sys.executable, '-c', 'import time; time.sleep(600)']; "
        "print(subprocess.Popen(sleep).pid, flush=True); time.sleep(600)"
    )
    task = operator(program)
    lines = task._lines()
    child = int(next(lines))
    assert is_running(child) and os.getpgid(child) == task.process.pid
    lines.close()  # as when a time limit strikes while the task reads
    end = time.monotonic() + 30
    while is_running(child) and time.monotonic() < end:
        time.sleep(0.05)
    assert not is_running(child) and task.process.poll() is not None


def test_which_night_it_is(dagbag: DagBag) -> None:
    from airflow.sdk.exceptions import AirflowFailException
    from dagkit.tasks import night

    scheduled, manual = (SimpleNamespace(logical_date=d, run_id="r") for d in (MIDNIGHT, None))
    assert night({}, scheduled) == night({"date": None}, scheduled) == "2026-01-12"
    assert night({"date": "2026-01-05"}, scheduled) == night({"date": "2026-01-05"}, manual) == "2026-01-05"
    with pytest.raises(AirflowFailException, match="no logical date and no `date` parameter"):
        night({"date": None}, manual)
    east = datetime.timezone(datetime.timedelta(hours=9))
    assert night({}, SimpleNamespace(logical_date=MIDNIGHT.astimezone(east), run_id="r")) == "2026-01-12", (
        "days are UTC days"
    )


def test_the_wait_for_the_input_takes_its_path_from_the_night(small: Path, dagbag: DagBag, tmp_path: Path) -> None:
    from airflow.sdk import DAG
    from dagkit import settings, tasks

    marker = str(tmp_path / "ready" / "{ds}")
    given = settings._settings(
        {"data_root": "x", "source": {"ready_marker": marker}, "events": {"ready_timeout_minutes": 90}}, small
    )
    with DAG("probe", start_date=MIDNIGHT, schedule=None, user_defined_macros={"night": tasks.night}) as dag:
        sensor = tasks.wait_for_source(given)
    assert (sensor.mode, sensor.timeout) == ("reschedule", 90 * 60)
    path = sensor.render_template(sensor.path, context() | {"night": tasks.night}, dag.get_template_env())
    assert path == str(tmp_path / "ready" / "2026-01-12")
    sensor.path = path
    sensor.done = sensor.render_template(sensor.done, context() | {"night": tasks.night}, dag.get_template_env())
    assert sensor.done[0] == str(small.parent / "x/rejected_events/dt=2026-01-12/_manifest.json")
    assert sensor.poke({}) is False
    Path(path).mkdir(parents=True)
    assert sensor.poke({}) is True


@pytest.mark.parametrize(
    ("name", "model"), [("rejected_events", None), ("user_embeddings", "transe"), ("user_embeddings", "kqgc_mean")])
def test_a_marker_that_is_asked_for_later_holds_no_date_that_was_run(
    name: str, model: str | None, small: Path, dagbag: DagBag, tmp_path: Path
) -> None:
    """Whichever table `retention` has left of it."""
    from dagkit import settings, tasks

    root, contract = tmp_path / "data", TABLES[name]
    tree = {"data_root": str(root), "source": {"ready_marker": "ready/{ds}"}}
    sensor = tasks.wait_for_source(settings._settings(tree, small))
    sensor.path, sensor.done = "nowhere", [file.replace(tasks.NIGHT, "2026-01-12") for file in sensor.done]
    with Output(name, f"{root}/{contract.folder}").table(model).replace("2026-01-12") as commit:
        assert sensor.poke({}) is False, "a date that has begun and read nothing waits"
        commit.write_table(contract.arrow_schema(3 if model else None).empty_table())
    assert sensor.poke({}) is True


def test_the_report_has_a_link(small: Path, dagbag: DagBag, tmp_path: Path) -> None:
    from dagkit import settings
    from dagkit.links import ReportLink, report_of

    tree = {"data_root": str(tmp_path / "data")}
    own, served = (settings._settings(tree | {"dag": {"reports_url": url}}, small) for url in (None, "https://x/r/"))
    task = SimpleNamespace(report=report_of(own, "2026-01-12"))
    assert ReportLink().get_link(task, ti_key=None) == "", "none is published"
    with Output("reports", str(tmp_path / "data/reports")).table().replace("2026-01-12") as commit:
        commit.write_bytes(".html", b"<p>")
        (file,) = commit.files
    assert ReportLink().get_link(task, ti_key=None) == f"file://{tmp_path}/data/reports/dt=2026-01-12/{file.name}"
    task.report = report_of(served, "2026-01-12")
    assert ReportLink().get_link(task, ti_key=None) == f"https://x/r/dt=2026-01-12/{file.name}"


def test_the_run_and_the_report_keep_their_link_when_the_scheduler_reads_the_dag(dagbag: DagBag) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    read = DagSerialization.from_dict(DagSerialization.to_dict(dagbag.dags["nightly_user_embeddings"]))
    linked = {task.task_id for task in read.tasks if "Report of the night" in task.extra_links}
    assert linked == {"write_report", "night_complete"}


def test_a_wrong_configuration_is_not_waited_for(small: Path, dagbag: DagBag, tmp_path: Path) -> None:
    from airflow.sdk.exceptions import AirflowFailException
    from dagkit import settings, tasks

    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(small.read_text(encoding="utf-8") + "seed: 4\n", encoding="utf-8")
    given = settings._settings({"data_root": "x", "source": {"ready_marker": "ready"}}, wrong)
    with pytest.raises(AirflowFailException, match="seed stands twice"):
        tasks.wait_for_source(given).poke({})
