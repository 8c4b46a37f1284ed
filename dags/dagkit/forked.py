"""Jobs as forks of one process that has read their libraries (jobs/forked.py), where nights are played one after the
other on one machine: `with forks() as start`, and `start` takes the place of `tasks.start`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping

from dagkit import tasks


class ForkedJob:
    """What an operator asks of a `subprocess.Popen`, of a process that another one forks."""

    def __init__(self, forks: socket.socket, command: list[str], environment: Mapping[str, str]) -> None:
        """command: a Python, -m, the module and its arguments."""
        _, _, module, *arguments = command
        asked = {"module": module, "arguments": arguments, "environment": dict(environment)}
        reading, writing = os.pipe()
        self.stdout = os.fdopen(reading, encoding="utf-8", errors="backslashreplace")
        try:
            socket.send_fds(forks, [json.dumps(asked).encode()], [writing])
        finally:
            os.close(writing)
        self._forks, self.returncode, self.pid = forks, None, None
        self.pid = self._answer(None)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, as `subprocess.Popen.wait` gives it."""
        if self.returncode is None:
            self.returncode = self._answer(timeout)
        return self.returncode

    def poll(self) -> int | None:
        """Its exit status; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def _answer(self, timeout: float | None) -> int:
        self._forks.settimeout(timeout)
        try:
            answer = self._forks.recv(64)
        except (BlockingIOError, TimeoutError):
            raise subprocess.TimeoutExpired("a forked job", timeout or 0) from None
        except ConnectionError:
            answer = b""
        finally:
            self._forks.settimeout(None)
        if not answer:
            self._end()
            raise ConnectionError("The process that forks for jobs was ended, and the job with it; a retry starts it "
                                  "as a process of its own.")
        return int(answer)

    def _end(self) -> None:
        """Where nobody is left who could say how the job ended."""
        self.returncode = -signal.SIGKILL
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)


@contextlib.contextmanager
def forks(python: str) -> Iterator[Callable[[list[str], Mapping[str, str]], ForkedJob | subprocess.Popen[str]]]:
    """Start the process that forks; it begins to read libraries at once, and ends with the block. A job that it cannot
    take, since it was ended or the environment is too large for a message, is started as ever."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    own = tasks.start

    def start(command: list[str], environment: Mapping[str, str]) -> ForkedJob | subprocess.Popen[str]:
        if command[:2] != [python, "-m"]:
            return own(command, environment)
        try:
            return ForkedJob(ours, command, environment)
        except OSError:
            return own(command, environment)

    with theirs:
        # a session of its own: who presses Ctrl-C ends Airflow, which ends the job, and only then this
        process = subprocess.Popen(
            [python, "-m", "jobs.forked"], stdin=theirs, env=tasks.environment(), start_new_session=True)
    with process, ours:
        yield start
