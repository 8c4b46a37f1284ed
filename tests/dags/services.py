"""A real Airflow for tests: api-server, scheduler and dag-processor on SQLite, on the loopback only, each in its own
process group."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.run_nights import airflow, environment, prepare

DAEMONS = ("api-server", "scheduler", "dag-processor")
WAIT_SECONDS = 3600  # on a busy machine; on an idle one a night takes about one minute
ATTEMPTS = 5


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Services:
    """The running Airflow: its command line and its REST interface."""

    variables: dict[str, str]
    port: int
    logs: Path

    def run(self, *arguments: str) -> str:
        """`airflow <arguments>`; its output. SQLite may refuse while a daemon writes: asked again."""
        for _ in range(ATTEMPTS):
            done = subprocess.run(
                airflow(*arguments),
                env=self.variables,
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                timeout=300,
                check=False,
            )
            if done.returncode == 0:
                return done.stdout
            if "database is locked" not in done.stderr:
                break
        raise AssertionError(f"airflow {' '.join(arguments)}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")

    def api(self, path: str, body: dict[str, Any] | None = None, method: str | None = None) -> dict[str, Any]:
        """GET, or POST where there is a body, or another method."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._token()}"}
        url, data = f"http://127.0.0.1:{self.port}/{path}", body and json.dumps(body).encode()
        request = urllib.request.Request(url, data=data, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def _token(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/auth/token", timeout=60) as answer:
            return json.load(answer)["access_token"]

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        return self.api(f"api/v2/dags/{dag_id}/dagRuns?limit=100&order_by=run_after")["dag_runs"]

    def tasks(self, dag_id: str, run_id: str) -> dict[str, str | None]:
        found = self.api(f"api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances?limit=100")["task_instances"]
        return {t["task_id"]: t["state"] for t in found}

    def wait(self, what: str, holds: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
        """Look every two seconds; AssertionError with the daemons' last words when it takes too long."""
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, f"{what} did not happen within {seconds} s\n{self.last_words()}"
            time.sleep(2)

    def last_words(self) -> str:
        return "\n".join(
            f"== {p.name}\n" + p.read_text(encoding="utf-8", errors="replace")[-1500:]
            for p in sorted(self.logs.glob("*.log"))
        )


@contextlib.contextmanager
def running(
    folder: Path, config: Path, *first: list[str] | Callable[[Services], None], variables: dict[str, str] | None = None
) -> Iterator[Services]:
    """Run the commands `first`, start the three daemons in `folder/airflow`, wait until they are healthy; stop them by
    their process ids. `variables` are added to everybody's environment.

    `airflow backfill create` belongs to `first`: a busy SQLite refuses it half-way while the scheduler writes. The
    scheduler finds it there.
    """
    port, home = free_port(), folder / "airflow"
    prepare(home, config, folder / "prepare.log")
    own = environment(home, config) | settings(port, home) | (variables or {})
    services = Services(own, port, folder / "daemons")
    services.logs.mkdir()
    for command in first:
        command(services) if callable(command) else services.run(*command)
    started: list[subprocess.Popen[bytes]] = []
    try:
        for name in DAEMONS:
            started.append(start(name, services))
            if name == "api-server":  # tasks talk to it: it has to be there first
                services.wait("an answering api-server", lambda: health(port) is not None, seconds=300)
        services.wait("a healthy Airflow", lambda: is_healthy(port), seconds=300)
        yield services
    finally:
        stop(started)


def start(name: str, services: Services) -> subprocess.Popen[bytes]:
    """One daemon, in a process group of its own."""
    with (services.logs / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            airflow(name),
            env=services.variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def settings(port: int, home: Path) -> dict[str, str]:
    """What the daemons and the command line have to agree on."""
    return {
        # several processes write to one file
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db?timeout=120",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(40),
        "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
        "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
    }


def health(port: int) -> dict[str, Any] | None:
    """What the api-server says of everybody's health; None while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v2/monitor/health", timeout=10) as answer:
            return json.load(answer)
    except OSError:
        return None


def is_healthy(port: int) -> bool:
    parts = health(port) or {}
    return all(
        (parts.get(name) or {}).get("status") == "healthy" for name in ("metadatabase", "scheduler", "dag_processor")
    )


def stop(started: list[subprocess.Popen[bytes]]) -> None:
    """End each daemon's process group: ask, then insist."""
    for process in reversed(started):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
    for process in started:
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
