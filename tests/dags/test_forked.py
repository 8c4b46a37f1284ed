"""A job that is forked is what `python -m` would be: its output, status, arguments, environment, and how it is killed.

`timeit` stands for a job: a module that runs what it is told.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from dagkit import forked, tasks

Start = Callable[..., "forked.ForkedJob | subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    with forked.forks(sys.executable) as start:
        yield start


def told(statement: str) -> list[str]:
    return [sys.executable, "-m", "timeit", "-n", "1", "-r", "1", statement]


def outcome(process: forked.ForkedJob | subprocess.Popen[str]) -> tuple[list[str], int]:
    lines = [line.rstrip() for line in process.stdout]
    return lines, process.wait(60)


def test_one_after_the_other_with_both_streams_and_the_status(start: Start) -> None:
    for status in (0, 3, 99):
        both = f"import os, sys; print('out', flush=True); os.write(2, b'err\\n'); os._exit({status})"
        assert outcome(start(told(both), {})) == (["out", "err"], status)


def test_a_job_sees_its_arguments_and_environment_alone_in_its_group(start: Start) -> None:
    said, status = outcome(start(told(
        "import os, sys; print(os.environ['ASKED'], sys.argv[-1][:6], os.getpgid(0) == os.getpid(), sys.stdin.read(),"
        " 'great_expectations' in sys.modules, flush=True)"), {"ASKED": "ü;$(id)"}))  # fmt: skip
    assert said[0] == "ü;$(id) import True  True" and status == 0


def test_a_jobs_own_program_fails_as_from_a_shell(start: Start) -> None:
    command = [sys.executable, "-m", "jobs.configuration", "/nowhere/night.yaml"]
    shell = subprocess.run(command, capture_output=True, text=True, check=False)
    said, status = outcome(start(command, tasks.environment()))
    unlike = re.compile(r"^[\d-]+ [\d:,]+ ")
    assert status == shell.returncode == 2
    assert [unlike.sub("", line) for line in said] == [
        unlike.sub("", line) for line in (shell.stdout + shell.stderr).splitlines()]  # fmt: skip


def test_a_module_that_is_not_there(start: Start) -> None:
    said, status = outcome(start([sys.executable, "-m", "jobs.nowhere"], {}))
    assert status == 1 and "jobs.nowhere" in said[-1]


def test_it_is_killed_with_what_it_started_and_the_next_one_runs(start: Start) -> None:
    operator = tasks.JobOperator(task_id="sleeps", command=[])
    child = "import subprocess, sys; p = subprocess.Popen(['sleep', '600']); print(p.pid, flush=True); p.wait()"
    operator.process = start(told(child), {})
    sleeper = int(operator.process.stdout.readline())
    assert operator.process.poll() is None
    operator.on_kill()
    assert operator.process.poll() == -15
    for _ in range(100):
        if not os.path.exists(f"/proc/{sleeper}"):
            break
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{sleeper}")
    assert outcome(start(told("import os; os._exit(7)"), {})) == ([], 7)


def test_another_python_starts_as_ever(start: Start) -> None:
    assert isinstance(started := start(["/bin/echo", "-m", "jobs"], {}), subprocess.Popen)
    assert outcome(started) == (["-m jobs"], 0)


def test_no_process_is_left_behind() -> None:
    with forked.forks(sys.executable) as start:
        said, _ = outcome(start(told("import os; print(os.getppid(), flush=True); os._exit(0)"), {}))
        assert os.path.exists(f"/proc/{said[0]}")
    assert not os.path.exists(f"/proc/{said[0]}")
