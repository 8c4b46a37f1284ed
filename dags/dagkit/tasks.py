"""Operators with house defaults: a job as a task, and the wait for the night's input.

A job is started as a list of arguments, never through a shell. The standard provider's `SubprocessHook` keeps the last
line of both streams only; the error message of a job stands some lines above it, and a result that goes to XCom must
not be mistaken for a log line, so the process is read here.
"""

from __future__ import annotations

import collections
import datetime
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import Asset, BaseOperator, BaseSensorOperator, Param
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
)

from dagkit import datasets
from dagkit.links import ReportLink
from dagkit.requests import check_keys
from dagkit.settings import Settings, SettingsError
from models import families

SKIPPED, WRONG_CALL, FINAL, NOT_YET, PUT_OFF = 99, 2, 3, 75, 76  # exit statuses of jobs/program.py
# A task that comes too early looks again after so long. Not much sooner: Airflow takes the end of one look for a
# failure of the next where its scheduler has not heard of it before that one is queued.
LOOK_AGAIN = datetime.timedelta(seconds=30)
NIGHT = "{{ night(params, dag_run) }}"
# Airflow's own settings and secrets stay with Airflow
OWN_VARIABLES = ("AIRFLOW__", "AIRFLOW_CONN_", "AIRFLOW_VAR_", "_AIRFLOW_")
GRACE_SECONDS = 20


def night(params: Any, dag_run: Any) -> str:
    """The date D of a run: its `date` parameter, else its logical date. A macro, so that templates can call it.

    AirflowFailException: there is none, or the run was given a key that no night reads.
    """
    check_keys(getattr(dag_run, "conf", None), ["date"])
    if params.get("date"):
        return datetime.date.fromisoformat(params["date"]).isoformat()
    if dag_run.logical_date is None:
        raise AirflowFailException(
            f"Run {dag_run.run_id} has no logical date and no `date` parameter, so it is not said which night it is. "
            'Trigger it again with a logical date, or with --conf \'{"date": "2026-01-31"}\'.')
    return dag_run.logical_date.astimezone(datetime.UTC).date().isoformat()


def date_parameter(description: str = "dt=D, if not the run's logical date") -> Param:
    """The parameter `date`, which may be left out."""
    return Param(None, type=["null", "string"], format="date", title="Date", description=description)


def house_defaults(settings: Settings) -> dict[str, Any]:
    """`default_args` of every DAG: whose it is, retries with exponential back-off, and a time limit."""
    return {
        "owner": settings.owner,
        "retries": settings.retries,
        "retry_delay": settings.retry_delay,
        # a factor since Airflow 3.2; True would be 1, no back-off, in a mapped task
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": datetime.timedelta(hours=1),
        "execution_timeout": settings.task_timeout,
    }


def environment() -> dict[str, str]:
    """What a job sees of Airflow's environment."""
    return {k: v for k, v in os.environ.items() if not k.startswith(OWN_VARIABLES)}


def start(command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """A program with both streams in one, and a process group of its own."""
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment,
        text=True, encoding="utf-8", errors="backslashreplace", start_new_session=True)


class Job:
    """What a task makes of its program's end, wherever that runs. Exit 0: done; 99: skipped; 75: not yet, looked at
    again later without a slot meanwhile; 2 (wrong call), 3 (another try would end the same) and 76 (put off): not tried
    again; else failed, and tried again."""

    ui_color = "#e8eef7"

    def finish(self, context: Any, status: int, said: Sequence[str]) -> dict[str, Any] | None:
        """The task's result. said: the program's output, at least its last lines; the last one that is JSON is its
        result."""
        result = next((line for line in reversed(said) if line.startswith("{")), None)
        self.ended(context, result)
        self._judge(status, said[-6:])
        for asset in self.outlets:
            context["outlet_events"][asset].extra = {"dt": night(context["params"], context["dag_run"])}
        return self._result(result) if self.returns_json else None

    def ended(self, context: Any, result: str | None) -> None:
        """What is to be done when the program has ended, however it did; result: its last line that is JSON."""

    def _judge(self, status: int, last: Sequence[str]) -> None:
        said = "\n".join(last)
        if status == SKIPPED:
            raise AirflowSkipException(said)
        if status == NOT_YET:
            raise AirflowRescheduleException(datetime.datetime.now(datetime.UTC) + LOOK_AGAIN)
        if status == PUT_OFF:
            raise AirflowFailException(said)
        if status == WRONG_CALL:
            raise AirflowFailException(f"Wrong command line or configuration; trying again would not help:\n{said}")
        if status == FINAL:
            raise AirflowFailException(f"{self.task_id} failed, and trying again would not help:\n{said}")
        if status:
            raise AirflowException(f"{self.task_id} ended with exit status {status}:\n{said}")

    def _result(self, line: str | None) -> dict[str, Any]:
        if line is None:
            raise AirflowException(
                f"{self.task_id} printed no line with a JSON object; expected one as its result. "
                "Run its command by hand."
            )
        return json.loads(line)


class JobOperator(Job, BaseOperator):
    """One program, as a list of arguments, in a process beside the task's own."""

    template_fields: Sequence[str] = ("command", "report")

    def __init__(
        self, *, command: list[str], inputs: Sequence[str] = (), outputs: Sequence[str] = (),
        returns_json: bool = False, report: tuple[str, str] | None = None, **arguments: Any,
    ) -> None:  # fmt: skip
        """`inputs` and `outputs` name the tables; `returns_json`: the last line that is a JSON object becomes the
        task's XCom. `report`: where the page lies that the task's link leads to (links.py)."""
        super().__init__(**arguments)
        self.report = report
        if report is not None:
            self.operator_extra_links = (ReportLink(),)
        self.command, self.inputs, self.outputs, self.returns_json = (
            command,
            tuple(inputs),
            tuple(outputs),
            returns_json,
        )
        self.process: subprocess.Popen[str] | None = None

    def execute(self, context: Any) -> dict[str, Any] | None:
        result, last = None, collections.deque(maxlen=6)
        for line in self._lines():
            self.log.info("%s", line)
            last.append(line)
            if line.startswith("{"):
                result = line
        said = [*last] if result is None or result in last else [result, *last]
        return self.finish(context, self.process.returncode, said)

    def _lines(self) -> Iterator[str]:
        """Start the program and give its output (both streams) line by line; it has ended when the lines have."""
        self.log.info("Command: %s", self.command)
        self.process = start(self.command, environment())
        try:
            for line in self.process.stdout:
                yield line.rstrip()
            self.process.wait()
        finally:
            self.on_kill()  # a time limit or a failure here leaves nothing running

    def on_kill(self) -> None:
        """Stop the program with all its children (Spark's JVM): ask, then insist."""
        if self.process is None or self.process.poll() is not None:
            return
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def job(
    settings: Settings,
    module: str,
    *,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    also: Sequence[str] = (),
    options: dict[str, str] | None = None,
    task_id: str | None = None,
    outlets: Sequence[Asset] = (),
    returns_json: bool = False,
    operator: type[JobOperator] = JobOperator,
    **arguments: Any,
) -> BaseOperator:
    """The task that runs `python -m jobs.<module>` for the run's date, as a process, or in a pod where the
    configuration has `pods`.

    `options` are its further parameters, templated. `also` names tables that it writes where the configuration's data
    root has them, without being told.
    """
    tables = {table: datasets.uri(settings, table) for table in dict.fromkeys([*inputs, *outputs])}
    options = {"date": NIGHT, "config": settings.config} | tables | (options or {})
    command = [settings.pods.python if settings.pods else settings.python, "-m", f"jobs.{module}"]
    command += [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    program = module.rsplit(".", 1)[-1]
    arguments |= {
        "task_id": task_id or program, "command": command, "inputs": inputs, "outputs": [*outputs, *also],
        "outlets": list(outlets), "returns_json": returns_json}
    if settings.pods is None:
        return operator(**arguments)
    try:
        from dagkit.pods import job_in_pod
    except ImportError as error:
        needed = "apache-airflow-providers-cncf-kubernetes beside Airflow: pip install 'nocturne[kubernetes]'"
        raise SettingsError(f"{settings.config} has the section pods, which needs {needed} ({error}).") from error

    trains = any(module == one.program for family in families.FAMILIES for one in family.jobs)
    stage = "_".join([program, *([options["model"]] if "model" in options else [])])  # as jobs/program.py has it
    most = settings.pods.memory_most
    return job_in_pod(settings, program, trains, operator, stage=stage, memory_most=most, **arguments)


class MarkerSensor(BaseSensorOperator):
    """Waits until a file or folder exists; gives its worker slot back between looks.

    check: a command that ends with status 2 where the configuration is wrong, and there is nothing to wait for.
    done: files of which one is there once the night has read its input; then a marker that came to be asked for later
    holds nothing up.
    """

    template_fields: Sequence[str] = ("path", "done")

    def __init__(self, *, path: str, check: list[str], done: list[str], **arguments: Any) -> None:
        super().__init__(mode="reschedule", **arguments)
        self.path, self.check, self.done = path, check, done

    def poke(self, context: Any) -> bool:
        far = [place for place in (self.path, *self.done) if "://" in place]  # the check looks there, this task cannot
        told = subprocess.run(
            [*self.check, *(["--look-for", *far] if far else [])], capture_output=True, text=True, check=False)
        if told.returncode == WRONG_CALL:
            raise AirflowFailException(f"Wrong configuration; waiting would not help:\n{told.stderr.strip()[-2000:]}")
        self.log.info("Looking for %s", self.path)
        if far:
            self.log.info("%s", (told.stdout + told.stderr).strip()[-2000:])
            if told.returncode == 0:
                return True
        if Path(self.path).exists():
            return True
        found = next((file for file in self.done if Path(file).exists()), None)
        if found:
            self.log.info("It is not there, but this date was run before (%s): nothing to wait for", found)
        return found is not None


def wait_for_source(settings: Settings, **arguments: Any) -> MarkerSensor:
    """The wait for the marker that the configuration names; fails after its limit, without another try. A date that
    was run before is not held up."""
    vectors = [f"{datasets.uri(settings, 'user_embeddings')}/model={model}" for model in settings.models]
    tables = [datasets.uri(settings, "rejected_events"), *vectors]  # of which `retention` may have taken the first
    done = [f"{table}/dt={NIGHT}/_manifest.json".removeprefix("file://") for table in tables]
    return MarkerSensor(
        task_id="wait_for_source", path=settings.ready_marker.replace("{ds}", NIGHT), poke_interval=60, done=done,
        check=[settings.python, "-m", "jobs.configuration", settings.config],
        timeout=settings.ready_timeout.total_seconds(), execution_timeout=None, doc_md=wait_for_source.__doc__,
        **arguments)
