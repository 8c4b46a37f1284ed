"""The text that ends a run of nights: what was left out stands there with its counts, its limit and the limit's key."""

from __future__ import annotations

import dataclasses
import datetime
import re
from pathlib import Path

import pytest

from feature_store import Table
from jobs.configuration.recommendations import Recommendations
from jobs.summarise_nights import summary
from jobs.tables import TABLES
from tests.jobs import nights_by_hand as by_hand
from tests.jobs.nights_by_hand import D

WEEK = datetime.timedelta(7)
LIMIT = "and lookalike.min_positives is 100"


def block(text: str, title: str) -> list[str]:
    """The lines below a title, those that were broken whole again."""
    lines = next(part for part in text.split("\n\n") if part.startswith(title))
    return lines.replace("\n      ", " ").splitlines()[1:]


def paths(text: str) -> list[str]:
    """Everything absolute that the last block names."""
    return re.findall(r"(?<=\s)/\S+", text.split("\n\n")[-1])


def test_every_published_model_has_its_rows_and_a_folder_that_is_there(tmp_path: Path) -> None:
    settings = by_hand.settings(tmp_path)
    by_hand.whole_night(settings.data_root, D)
    text = summary(settings, [D])
    assert [line.split() for line in text.splitlines() if "vectors:" in line] == [
        ["vectors:", "transe", "1"], ["vectors:", "kqgc_mean", "1"], ["vectors:", "rhgn", "1"]]
    assert sum("user_embeddings" in path for path in paths(text)) == 3
    assert all(Path(path).exists() for path in paths(text)), paths(text)
    assert "Left out" not in text


def test_a_skipped_model_is_said_and_has_no_path(tmp_path: Path) -> None:
    settings, since = by_hand.settings(tmp_path), None
    by_hand.vectors(settings.data_root, "rhgn", D)  # of an earlier run
    by_hand.label_learner_skipped(settings.data_root, D)
    text = summary(settings, [D], since)
    said = block(text, "Left out")
    assert said == [
        f"  finetune_rhgn on {D}: label taste: fold A has 1 class",
        f"  finetune_rhgn was skipped on {D}: No label can be learned from.",
        f"  rhgn was not published on {D}: finetune_rhgn was skipped"]
    assert not any("model=rhgn" in path for path in paths(text)) and "--model kqgc_mean" in text


def test_what_did_not_run_is_said(tmp_path: Path) -> None:
    settings, since = by_hand.settings(tmp_path, ("transe",)), datetime.datetime.now(datetime.UTC)
    by_hand.publish(settings.data_root, "transe", D)
    text = summary(settings, [D], since)
    assert "train_profiles did not run on 2026-01-21" in text and f"Audiences   none of {D}" in text


def test_the_lists_of_every_model_that_recommends_have_a_line(tmp_path: Path) -> None:
    section = Recommendations(models=["transe", "rhgn"])
    settings = dataclasses.replace(by_hand.settings(tmp_path), recommendations=section)
    by_hand.whole_night(settings.data_root, D)
    rows = TABLES["recommendations"].arrow_schema().empty_table()
    with Table(f"{settings.data_root}/recommendations/model=transe").replace(D.isoformat()) as commit:
        commit.write_table(rows)
    lines = [line for line in summary(settings, [D]).splitlines() if line.startswith("Lists")]
    assert [line.endswith(f"none of {D}") for line in lines] == [False, True]
    assert Path(lines[0].split()[1]).exists() and "/recommendations/model=transe/" in lines[0]


def test_nothing_published_names_no_path(tmp_path: Path) -> None:
    settings = by_hand.settings(tmp_path)
    by_hand.whole_night(settings.data_root, D)
    later = datetime.datetime.now(datetime.UTC)
    text = summary(settings, [D], later)
    assert paths(text) == [] and f"Embeddings  none of {D}" in text


def test_clients_without_a_model_say_how_many_buyers_they_had(tmp_path: Path) -> None:
    """Sixty nights, two clients: two lines, not a hundred and twenty."""
    settings = by_hand.settings(tmp_path, ("transe",))
    nights = [D + datetime.timedelta(n) for n in range(60)]
    for n, night in enumerate(nights):
        texts = [f"client {name}: {count + n} buyers, {LIMIT}" for name, count in (("acme", 12), ("brim", 30))]
        by_hand.stage(settings.data_root, "train_lookalike", night, warnings=texts)
    lines = block(summary(settings, nights), "Left out")
    begin = f"  train_lookalike on 60 nights from {D} to {nights[-1]}: client"
    assert [line for line in lines if "train_lookalike" in line] == [
        f"{begin} acme: 12 to 71 buyers, {LIMIT}", f"{begin} brim: 30 to 89 buyers, {LIMIT}"]


def test_a_stage_and_its_date_are_said_once(tmp_path: Path) -> None:
    settings = by_hand.settings(tmp_path, ("transe",))
    by_hand.stage(settings.data_root, "assign_ids", D, warnings=[f"assign_ids {D}: 3 ids are new"])
    assert f"\n  assign_ids on {D}: 3 ids are new\n" in summary(settings, [D])


@pytest.mark.parametrize("warned", [["validate_events 2026-01-21: no event on 2 of 20 days: 2026-01-02, …"], []])
def test_days_without_an_event_are_said_once_whether_or_not_they_were_read_anew(tmp_path: Path, warned: list) -> None:
    settings = by_hand.settings(tmp_path, ("transe",))
    rows = {f"2026-01-{day:02}": 5 * (day > 4) for day in range(1, 21)}
    by_hand.stage(settings.data_root, "validate_events", D, warnings=warned, rows_by_day=rows)
    said = [line for line in block(summary(settings, [D]), "Left out") if "no event" in line]
    days = "2026-01-01, 2026-01-02, 2026-01-03, …"
    assert said == [f"  validate_events on {D}: no event on 4 of the window's 20 days: {days}"]


def test_rejected_and_repeated_events_are_counted_by_reason(tmp_path: Path) -> None:
    settings = by_hand.settings(tmp_path, ("transe",))
    for night, count in ((D, 31), (D + WEEK, 40)):
        by_hand.stage(
            settings.data_root, "validate_events", night, rows_in=2000, rows_repeated=7,
            rejected_by_reason={"unknown behavior": count, "user_id is null": 2})
    said = [line for line in block(summary(settings, [D, D + WEEK]), "Left out") if "events" in line]
    both = f"  validate_events on {D} and {D + WEEK}: "
    assert said[:3] == [
        f"{both}31 to 40 of 2,000 events rejected: unknown behavior (events.max_rejected_share lets 0.05 pass)",
        f"{both}2 of 2,000 events rejected: user_id is null (events.max_rejected_share lets 0.05 pass)",
        f"{both}7 of 2,000 events left out that repeat another (events.deduplicate)"]


def test_a_warning_that_the_skip_repeats_is_said_once(tmp_path: Path) -> None:
    settings = by_hand.settings(tmp_path, ("transe",))
    by_hand.whole_night(settings.data_root, D, ("transe",))
    reason = "Fold B has 1 of 2 classes with at least 5 users ('even': 9); expected two or more"
    warnings = [f"label taste: no model tonight: {reason}", "label taste: 4 users left out"]
    by_hand.stage(settings.data_root, "train_profiles", D, 99, f"label taste: {reason}", warnings=warnings)
    assert block(summary(settings, [D]), "Left out") == [
        f"  train_profiles on {D}: label taste: 4 users left out",
        f"  train_profiles was skipped on {D}: label taste: {reason}"]


def test_the_test_is_told_of_all_users_and_of_those_never_trained_on(tmp_path: Path) -> None:
    settings = by_hand.settings(tmp_path, ("transe",))
    by_hand.whole_night(settings.data_root, D, ("transe",))
    figures = {"feature_set": "strong", "pr_auc_1to3": 0.5}
    rows = [figures | {"untrained_pr_auc_1to3": figure} for figure in (0.42, 0.46, None)]
    by_hand.stage(settings.data_root, "score_lookalike", D, backtest=rows)
    said = summary(settings, [D])
    assert re.search(r"test \(backtest\): strong +0\.500\n +test, untrained: strong +0\.440\n", said)


def test_that_nothing_was_to_be_deleted_is_no_news(tmp_path: Path) -> None:
    settings = by_hand.settings(tmp_path, ("transe",))
    by_hand.whole_night(settings.data_root, D, ("transe",))
    by_hand.stage(settings.data_root, "prune_partitions", D, 99, "no retention")
    assert "prune_partitions was skipped" not in summary(settings, [D])


@pytest.mark.parametrize(("columns", "count"), [("100", 5), ("80", 3), ("30", 1), ("0", 5)])
def test_as_many_nights_stand_side_by_side_as_fit(
    columns: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no terminal is (0), a usual width."""
    settings = by_hand.settings(tmp_path, ("transe",))
    nights = [D + n * WEEK for n in range(31)]
    reason = "No vectors of D − L in the same space; " + " ".join(["lookalike", "needs", "them"] * 9)
    for night in nights:
        by_hand.whole_night(settings.data_root, night, ("transe",))
        by_hand.stage(settings.data_root, "train_lookalike", night, 99, reason)
        by_hand.stage(settings.data_root, "score_lookalike", night, 99, reason)
    monkeypatch.setenv("COLUMNS", columns)
    text, width = summary(settings, nights), int(columns) or 100
    assert text.startswith(f"The last {count} of 31 nights; figures of all are in {settings.data_root}/run_metrics\n")
    assert [line for line in text.splitlines() if str(nights[0]) in line and "─" in line] == []
    tables = [part for part in text.split("\n\n") if "─" in part]
    assert len(tables) >= 3
    if width > 60:
        shown = [*tables, next(part for part in text.split("\n\n") if part.startswith("Left out"))]
        assert max(len(line) for part in shown for line in part.splitlines()) <= width
    said = " ".join(block(text, "Left out"))
    assert said.count(reason) == 2, "once for each stage, for 31 nights"
    assert said.count(f"was skipped on 31 nights from {nights[0]} to {nights[-1]} (7 days apart)") == 2
