"""Jobs that need not read their libraries: `python -m jobs.forked` has read them, and forks for each job.

A night on a small log spends more time on imports than on work: Great Expectations and torch take seconds each, in a
process for every model that is trained and published. Who runs nights one after the other on one machine
(dags/dagkit/play_nights.py) starts this program once, with a socket (AF_UNIX, SOCK_SEQPACKET) as its standard input.
Each request is one message, a JSON object with `module`, `arguments` and `environment`, and with it the file
descriptor to which both streams of the job go; the answers are its process id and, when it has ended, its exit status.
One job at a time. The job is what `python -m module` would be: a process group of its own, that module as `__main__`.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import socket
import sys
from typing import Any

LARGEST = 1 << 20  # bytes of a request
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
        requests.send(str(pid).encode())
        requests.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())


def main() -> None:
    requests = socket.socket(fileno=os.dup(sys.stdin.fileno()))
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), sys.stdin.fileno())
    read_libraries()
    job = next_job(requests)
    requests.close()
    if job is not None:
        os.environ.update(job["environment"])
        sys.argv[1:] = job["arguments"]
        runpy.run_module(job["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
