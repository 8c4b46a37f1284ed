"""What memory each job's pod asks for, by the figures of earlier nights."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

from jobs import size_pods
from jobs.configuration.pods import Pods
from jobs.program import Input, execute, metrics
from tests.jobs import nights_by_hand as by_hand
from tests.jobs.nights_by_hand import D


def told(folder: Path, **options: float) -> dict[str, str | None]:
    """Of figures in a folder. No configuration can be loaded here whose pods see it: a pod's /tmp is its own."""
    metrics.told = {}
    pods = Pods("i:1", **options)
    size_pods.run(D, Input("run_metrics", str(folder / "run_metrics")), size_pods.Config(pods))
    return metrics.told


def before(days: int) -> datetime.date:
    return D - datetime.timedelta(days=days)


def test_the_most_of_the_last_nights_and_so_much_more(tmp_path: Path) -> None:
    root = str(tmp_path)
    for days, peak in ((-1, 9e5), (0, 8e5), (1, 1000.0), (2, 1500.0), (3, 7e5)):
        by_hand.stage(root, "build_graphs", before(days), peak_memory_mib=peak)
    by_hand.stage(root, "pretrain_transe", before(1), status=99, peak_memory_mib=9e5)  # it did nothing
    by_hand.stage(root, "pretrain_transe", before(4), peak_memory_mib=2000.0)
    by_hand.stage(root, "write_report", before(1), status=1, peak_memory_mib=9e5)
    by_hand.stage(root, "publish_users_transe", before(1), peak_memory_mib=10.0)
    assert told(tmp_path, memory_nights=2, memory_headroom=1.2) == {
        "build_graphs": "1856Mi", "pretrain_transe": "2432Mi", "publish_users_transe": "512Mi", "size_pods": None}


def test_a_stage_that_is_always_skipped_is_not_read_back_to_its_first_night(tmp_path: Path) -> None:
    for days in range(1, 8):
        status = 99 if days < 7 else 0
        by_hand.stage(str(tmp_path), "build_graphs", before(days), status=status, peak_memory_mib=1000.0)
    assert told(tmp_path, memory_nights=2) == {"size_pods": None}
    assert told(tmp_path, memory_nights=3) == {"build_graphs": "1536Mi", "size_pods": None}


def test_figures_that_cannot_be_read_leave_the_configured_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = str(tmp_path)
    for stage in ("build_graphs", "pretrain_transe"):
        by_hand.stage(root, stage, before(1), peak_memory_mib=1000.0)
    (tmp_path / f"run_metrics/stage=build_graphs/dt={before(1)}/_manifest.json").write_text("{")
    assert told(tmp_path, memory_nights=2) == {"pretrain_transe": "1536Mi", "size_pods": None}
    assert "the figures of build_graphs cannot be read" in caplog.text


def test_without_earlier_nights_or_the_option_nothing_is_told(tmp_path: Path) -> None:
    by_hand.stage(str(tmp_path), "build_graphs", D, peak_memory_mib=1000.0)
    assert told(tmp_path, memory_nights=3) == {"size_pods": None}
    by_hand.stage(str(tmp_path), "build_graphs", before(1), peak_memory_mib=1000.0)
    assert told(tmp_path) == {"size_pods": None}


def test_as_a_program_it_says_one_line_of_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    by_hand.settings(tmp_path)
    assert execute(size_pods.run, ["--date", str(D), "--config", str(tmp_path / "small.yaml")]) == 0
    assert json.loads(capsys.readouterr().out) == {"size_pods": None}
