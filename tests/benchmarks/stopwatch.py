"""Seconds and memory of repeated work, for both sides of a comparison:
the standard library alone, since peers import it too."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


def memory_mib(field: str) -> float:
    """VmRSS or VmHWM of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def timed(work: Callable[[], object], repeats: int) -> dict[str, object]:
    """Once to warm up, then `repeats` times: seconds on the clock and of the processor;
    mib is what the process grew by at its highest."""
    before, seconds, of_processor = memory_mib("VmRSS"), [], []
    for _ in range(1 + repeats):
        started, processor = time.perf_counter(), time.process_time()
        work()
        seconds.append(time.perf_counter() - started)
        of_processor.append(time.process_time() - processor)
    return {"seconds": seconds[1:], "processor_seconds": of_processor[1:], "mib": memory_mib("VmHWM") - before}
