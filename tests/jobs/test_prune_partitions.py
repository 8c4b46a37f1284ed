"""Retention: what goes, what a later night still needs, and what the configuration refuses."""

from __future__ import annotations

import datetime
import shutil
from pathlib import Path

import pytest

import feature_store.prune
from feature_store import Leases, Table
from jobs import prune_partitions
from jobs.configuration.load import load_settings
from jobs.configuration.tree import ConfigError
from jobs.program import FAILED, FINAL, execute, metrics
from tests.jobs.embeddings.planted import write_config

DATES = [f"2026-01-{day:02d}" for day in range(1, 29)]


def commit_dates(root: Path, name: str, predecessor: dict[str, str] | None = None) -> Table:
    table = Table(str(root / "data" / name))
    for date in DATES:
        with table.replace(date) as commit:
            commit.write_bytes(".txt", date.encode())
            if predecessor and date in predecessor:
                content_hash = table.existing_manifest(predecessor[date]).content_hash
                commit.fields["predecessor"] = {"table": name, "dt": predecessor[date], "content_hash": content_hash}
    return table


def prune(config: Path, *options: str) -> int:
    return execute(prune_partitions.run, ["--date", DATES[-1], "--config", str(config), *options])


def test_old_partitions_go_and_needed_ones_stay(tmp_path: Path) -> None:
    reports = commit_dates(tmp_path, "reports")
    checkpoints = commit_dates(tmp_path, "checkpoints/transe", {DATES[-1]: DATES[2]})
    config = write_config(tmp_path, retention={"reports": 10, "checkpoints": 10}, lookalike={"label_window_days": 7})
    assert prune(config, "--dry-run", "true") == 0 and reports.values() == DATES
    assert prune(config) == 0
    assert reports.values() == DATES[-11:]
    assert checkpoints.values() == [DATES[2], *DATES[-11:]]  # the predecessor of a kept night


def test_a_broken_manifest_is_told_when_the_rest_is_pruned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    reports = commit_dates(tmp_path, "reports")
    broken = Path(reports.path(DATES[4]), "_manifest.json")
    broken.write_text("{")
    config = write_config(tmp_path, retention={"reports": 10}, lookalike={"label_window_days": 7})
    assert prune(config) == FINAL and f"Left, while the rest was pruned: {broken}" in caplog.text
    assert reports.values() == [DATES[3], DATES[4], *DATES[-11:]]


def test_what_a_night_under_way_may_read_stays_until_it_has_ended(tmp_path: Path) -> None:
    """As a backfill's: of its date and what goes before it by the retention, and the one that it starts from."""
    reports = commit_dates(tmp_path, "reports", {DATES[5]: DATES[0]})
    nights = Leases(str(tmp_path / "data" / "nights"))
    checkpoints = commit_dates(tmp_path, "checkpoints/transe")
    for date in DATES[3:16]:
        shutil.rmtree(checkpoints.path(date))
    config = write_config(
        tmp_path, retention={"reports": 10, "checkpoints": 10}, lookalike={"label_window_days": 7})
    for date in (DATES[15], DATES[-1]):  # the night that prunes has a lease itself
        nights.write(date, datetime.timedelta(hours=1))
    assert prune(config) == 0 and reports.values() == [DATES[0], *DATES[5:16], *DATES[-11:]]
    assert checkpoints.values() == [DATES[2], *DATES[-11:]]
    nights.end(DATES[15])
    assert prune(config) == 0 and reports.values() == checkpoints.values() == DATES[-11:]


def test_a_partition_that_another_writer_holds_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = commit_dates(tmp_path, "reports")
    config = write_config(tmp_path, retention={"reports": 10}, lookalike={"label_window_days": 7})
    monkeypatch.setattr(feature_store.prune.delete, "__defaults__", (0.1,))  # seconds to wait
    with reports.replace(DATES[3]) as commit:
        commit.write_bytes(".txt", b"")
        assert prune(config) == FAILED and "Left, while the rest was pruned" in caplog.text
    assert metrics.rows[0] == ("rows_out", len(DATES) - 12, None)
    assert reports.values() == [DATES[3], *DATES[-11:]]
    assert prune(config) == 0 and reports.values() == DATES[-11:]


def test_label_windows_keep_their_start_however_short_the_retention(tmp_path: Path) -> None:
    start = datetime.date.fromisoformat(DATES[-1]) - datetime.timedelta(days=7)
    assert start.isoformat() in prune_partitions.needed_dates(datetime.date.fromisoformat(DATES[-1]), 7)


def test_without_retention_everything_is_kept(tmp_path: Path) -> None:
    reports = commit_dates(tmp_path, "reports")
    assert prune(write_config(tmp_path)) == 0 and reports.values() == DATES


@pytest.mark.parametrize(
    ("retention", "named"),
    [
        ({"reprots": 30}, "retention.reprots"),
        ({"reports": 2}, "retention.reports"),
        ({"clean_events": 20}, "retention.clean_events"),
    ],
)
def test_a_retention_that_would_harm_is_refused(tmp_path: Path, retention: dict[str, int], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load_settings(write_config(tmp_path, retention=retention))
