"""Jobs that need not read their libraries: `python -m jobs.forked` has read them, and forks for each job.

A night on a small log spends more time on imports than on work: Great Expectations and torch take seconds each, in a
process for every model that is trained and published. Who runs nights one after the other on one machine
(dags/dagkit/play_nights.py) starts this program once, with a socket (AF_UNIX, SOCK_SEQPACKET) as its standard input.
Each request is one message, a JSON object with `module`, `arguments` and `environment`, and with it the file
descriptor to which both streams of the job go; the answers are its process id and, when it has ended, its exit status.
One job at a time, which is ended if nobody is there any more to hear of it. The job is what `python -m module` would
be: a process group of its own, that module as `__main__`.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from typing import Any

LARGEST = 1 << 20  # bytes of a request
GRACE_SECONDS = 20  # for a job that is asked to end
# What jobs read most of; no module of ours that keeps a state of its own.
LIBRARIES = ("pandas", "pyarrow.parquet", "jobs.program", "jobs.arrays", "numba", "torch", "dgl", "sklearn", "xgboost")


def read_libraries() -> None:
    """Import them; none of them starts a thread that a fork would lose."""
    from jobs.late_imports import postpone_compiler
    from jobs.quality.check import library

    for name in LIBRARIES:
        importlib.import_module(name)
    postpone_compiler()
    library()
    gc.freeze()  # a job's own search for garbage leaves out what was here before


def next_job(requests: socket.socket) -> dict[str, Any] | None:
    """Fork for every request and wait for its end. Comes back with the request in the job's own process, and with None
    when nobody is there any more to ask."""
    while True:
        message, descriptors = b"", []
        with contextlib.suppress(ConnectionError):
            message, descriptors, *_ = socket.recv_fds(requests, LARGEST, 1)
        if not message:
            return None
        pid = os.fork()
        if pid == 0:
            os.setsid()
            for stream in (sys.stdout, sys.stderr):
                os.dup2(descriptors[0], stream.fileno())
            os.close(descriptors[0])
            return json.loads(message)
        os.close(descriptors[0])
        with contextlib.suppress(ConnectionError):
            requests.send(str(pid).encode())
        status = status_of(pid, requests)
        with contextlib.suppress(ConnectionError):
            requests.send(str(status).encode())


def status_of(pid: int, requests: socket.socket) -> int:
    """The job's exit status, once it has ended: by itself, or with its group, since nobody asks any more."""
    process = os.pidfd_open(pid)
    either, alone = select.poll(), select.poll()
    either.register(requests, 0)  # of a socket that is left alone, the other side's end
    for watch in (either, alone):
        watch.register(process, select.POLLIN)
    if all(descriptor != process for descriptor, _ in either.poll()):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGTERM)
            if not alone.poll(GRACE_SECONDS * 1000):
                os.killpg(pid, signal.SIGKILL)
    os.close(process)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> None:
    requests = socket.socket(fileno=os.dup(sys.stdin.fileno()))
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), sys.stdin.fileno())
    read_libraries()
    job = next_job(requests)
    requests.close()
    if job is not None:
        os.environ.clear()
        os.environ.update(job["environment"])
        sys.argv[1:] = job["arguments"]
        runpy.run_module(job["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
