"""Say what memory each job's pod asks for tonight, by what the job took on earlier nights, as one line of JSON.

Reads: run_metrics. Writes: nothing. Part of a night only with `pods.memory_nights`.
Guarantees: figures of nights before D alone, and of jobs that did their work. A job without such figures, or with some
that cannot be read, is left out: its pod asks for what the configuration says. So does a second try, where that is
more, since what failed may have run out of memory.
"""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass

from feature_store import Table
from feature_store.errors import StoreError
from jobs.configuration.pods import Pods
from jobs.night_figures import stages
from jobs.program import Input, log, main, metrics

LEAST_MIB, STEP_MIB = 512, 64
NIGHTS_FOR_ONE = 3  # are looked through at most for each that is wanted: a stage may have been skipped for years


@dataclass(frozen=True)
class Config:
    pods: Pods | None = None


def peaks_before(date: datetime.date, table: Table, nights: int) -> list[float]:
    """MiB that a stage took at most, on each of the newest nights before D on which it did its work."""
    found: list[float] = []
    earlier = [value for value in table.values() if value < date.isoformat()]
    for value in reversed(earlier[-NIGHTS_FOR_ONE * nights :]):
        if len(found) == nights:
            break
        figures = {row["metric"]: row["value"] for row in table.read(value).to_pylist()}
        if figures.get("status") == 0 and (peak := figures.get("peak_memory_mib")):
            found.append(peak)
    return found


def asked_for(peaks: list[float], headroom: float) -> str:
    """A size as Kubernetes has it: the highest peak and so much more, in whole steps."""
    wanted = max(max(peaks) * headroom, LEAST_MIB)
    return f"{math.ceil(wanted / STEP_MIB) * STEP_MIB}Mi"


def run(date: datetime.date, run_metrics: Input, config: Config) -> None:
    """Tell `{"<stage>": "1216Mi", …}`."""
    pods = config.pods
    for stage in (*stages(), "build_graphs") if pods and pods.memory_nights else ():
        try:
            peaks = peaks_before(date, run_metrics.table(stage), pods.memory_nights)
        except (StoreError, OSError) as error:
            log.warning("size_pods %s: the figures of %s cannot be read: %s", date, stage, error)
            continue
        if peaks:
            metrics.told[stage] = asked_for(peaks, pods.memory_headroom)
    metrics.put("memory", detail=metrics.told)
    metrics.told.setdefault("size_pods", None)  # also where nothing is known it is a result


if __name__ == "__main__":
    main(run)
