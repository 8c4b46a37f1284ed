"""How much memory a job and the programs that it started took at most."""

from __future__ import annotations

import os
import resource
from pathlib import Path


def peak_memory_mib() -> float:
    """Peak resident memory of this process and of every program it started and that still runs (Spark's JVM), in MiB.

    Each process's own peak, added up, so an upper bound of the peak of their sum. Linux tells of other processes;
    elsewhere only this one counts.
    """
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return own + sum(_peak_of(pid) for pid in _descendants(os.getpid()))


def _descendants(pid: int) -> list[int]:
    """Process ids below `pid`, from /proc."""
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:  # no /proc here, or the process has just ended
        return []
    return [p for child in children for p in (child, *_descendants(child))]


def _peak_of(pid: int) -> float:
    """VmHWM of a process in MiB; 0 when it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0.0)
