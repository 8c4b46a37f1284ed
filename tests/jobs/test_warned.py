"""What a job warns of reaches run_metrics, however it ends."""

from __future__ import annotations

import datetime
import json
import logging
from dataclasses import dataclass
from pathlib import Path

import pytest

from feature_store import Table
from jobs.program import FINAL, JobError, Metrics, Skip, execute, log
from jobs.warned import warnings_kept
from tests.jobs.embeddings.planted import write_config


@dataclass(frozen=True)
class Config:
    seed: int


def run(date: datetime.date, config: Config, end: str = "well") -> None:
    """Warns, and ends as told."""
    for count in (3, 3, 4):
        log.warning("client %s: %d buyers, and lookalike.min_positives is 5", "acme", count)
    log.info("no warning")
    if end == "skip":
        raise Skip("nobody to learn from")
    if end == "fail":
        raise JobError("broken")


def figures(folder: Path) -> dict[str, str | None]:
    table = Table(str(folder / "data/run_metrics/stage=test_warned")).read("2026-02-01")
    return {row["metric"]: row["detail"] for row in table.to_pylist()}


@pytest.mark.parametrize(("end", "status"), [("well", 0), ("skip", 99), ("fail", FINAL)])
def test_warnings_are_kept_once_each_and_the_end_is_none_of_them(tmp_path: Path, end: str, status: int) -> None:
    handlers = list(log.handlers)
    assert execute(run, ["--date", "2026-02-01", "--config", str(write_config(tmp_path)), "--end", end]) == status
    said = "client acme: {} buyers, and lookalike.min_positives is 5"
    assert json.loads(figures(tmp_path)["warnings"]) == [said.format(3), said.format(4)]
    assert log.handlers == handlers, "nothing is left on the logger"


def test_without_a_warning_there_is_no_figure(tmp_path: Path) -> None:
    log.setLevel(logging.INFO)

    def quiet(date: datetime.date, config: Config) -> None:
        log.info("fine")

    quiet.__module__, quiet.__annotations__ = __name__, {"date": datetime.date, "config": Config, "return": None}
    assert execute(quiet, ["--date", "2026-02-01", "--config", str(write_config(tmp_path))]) == 0
    assert "warnings" not in figures(tmp_path)


def test_what_a_stage_within_a_stage_warns_of_is_its_own() -> None:
    outer, inner = Metrics(), Metrics()
    with warnings_kept(log, outer):
        log.warning("before")
        with warnings_kept(log, inner):
            log.warning("within")
        log.warning("after")
    kept = [[json.loads(detail) for _, _, detail in metrics.rows] for metrics in (outer, inner)]
    assert kept == [[["before", "after"]], [["within"]]]
