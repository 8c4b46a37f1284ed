"""What `verify` says of nights out of order: spaces opened too soon, stages skipped too soon, inputs changed alone."""

from pathlib import Path
from typing import Any

import pytest

from feature_store import Table
from feature_store.__main__ import main

TRANSE, KQGC, ITEMS = (
    f"feature_store/user_embeddings/model={name}" for name in ("transe", "kqgc_mean", "transe_of_items"))
SKIPPED = "run_metrics/stage=train_lookalike"
FAMILY = {"model": "transe", "dimension": 8}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


def commit(root: Path, name: str, dt: str, content: str = "", **fields: Any) -> dict[str, str]:
    """A partition; what a manifest built on it says of it."""
    table = Table(f"{root}/{name}")
    with table.replace(dt) as partition:
        partition.write_bytes(".txt", (content or f"{name} {dt}").encode())
        partition.fields |= fields
    return {"table": name, "dt": dt, "content_hash": table.manifest(dt).content_hash}


def vectors(
    root: Path, dt: str, predecessor: dict[str, str] | None = None, name: str = TRANSE, space: str = "", **more: Any
) -> dict[str, str]:
    fields = {"space_id": space or dt, "family": FAMILY, "max_gap_days": 30, "predecessor": predecessor} | more
    return commit(root, name, dt, **fields)


def verify(root: Path, capsys: pytest.CaptureFixture[str], *given: str) -> list[str]:
    status = main(["verify", "--root", str(root), *given])
    lines = capsys.readouterr().out.splitlines()
    assert status == any(line.startswith("PROBLEM") for line in lines)
    return lines


def command(first: str, last: str) -> str:
    return (f"airflow backfill create --dag-id nightly_user_embeddings --from-date {first} --to-date {last} "
            "--max-active-runs 1 --reprocess-behavior completed")  # fmt: skip


def test_three_dates_at_once_that_opened_three_spaces_are_named(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (TRANSE, KQGC, ITEMS):
        for dt in ("2026-01-05", "2026-01-12", "2026-01-19"):
            vectors(root, dt, name=name)
    lines = verify(root, capsys)
    assert lines[0] == f"Run these 2 dates again, oldest first: {command('2026-01-12', '2026-01-19')}"
    assert [line[:19] for line in lines[1:3]] == ["PROBLEM 2026-01-12:", "PROBLEM 2026-01-19:"], "a line a date"
    assert "and 2 more: opened a space of its own, though 2026-01-12 is published, 7 days before it" in lines[2]
    assert "9 partitions of 3 tables verified: 2 problems, 0 notes" in lines[-1] and len(lines) == 4


def test_a_space_opened_for_good_reason_is_none_to_tell(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vectors(root, "2026-01-05")
    vectors(root, "2026-02-05")  # 31 days later
    other = vectors(root, "2026-02-12", family=FAMILY | {"dimension": 16})
    vectors(root, "2026-02-19", predecessor=other, space="broken")  # on_space_break: publish
    commit(root, "reports", "2026-02-20", predecessor=None)
    assert verify(root, capsys)[0] == "no problem found"


def test_a_date_before_the_first_makes_that_one_stale(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also what hangs on it is to be run again, and named."""
    opened = vectors(root, "2026-01-12")
    vectors(root, "2026-01-19", opened, space="2026-01-12")
    assert verify(root, capsys)[0] == "no problem found"
    vectors(root, "2026-01-05")
    lines = verify(root, capsys)
    assert lines[0].endswith(command("2026-01-12", "2026-01-19"))
    assert lines[1].startswith("PROBLEM 2026-01-12: ") and "though 2026-01-05 is published" in lines[1]
    assert any(line.startswith("note    2026-01-19: hangs on") for line in lines)


def test_partitions_of_before_and_strange_fields_are_read_on(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vectors(root, "2026-01-05")
    vectors(root, "2026-01-06", max_gap_days=None)
    vectors(root, "2026-01-07", max_gap_days="many")
    vectors(root, "2026-01-08", family=None)
    commit(root, SKIPPED, "2026-01-06", wanted="all")
    commit(root, SKIPPED, "2026-01-07", wanted=[3, {}, {"table": 3, "dt": "2026-01-05"}])
    commit(root, SKIPPED, "2026-01-08", wanted=[{"table": TRANSE, "dt": "../x"}])
    assert verify(root, capsys)[0] == "no problem found"


def test_a_stage_skipped_for_want_of_a_date_is_named_when_all_it_wants_has_come(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = [
        {"table": "interactions", "dt": "2026-01-05"},
        {"table": TRANSE, "dt": "2026-01-05", "same_space_as": "2026-01-12"}]  # fmt: skip
    commit(root, SKIPPED, "2026-01-12", wanted=wanted)
    vectors(root, "2026-01-12", space="a")
    commit(root, "interactions", "2026-01-05")
    assert verify(root, capsys)[0] == "no problem found"
    vectors(root, "2026-01-05", space="b", family=None)
    assert verify(root, capsys)[0] == "no problem found", "of another space: it would be skipped again"
    vectors(root, "2026-01-05", space="a", family=None)
    lines = verify(root, capsys)
    assert lines[0] == f"Run this date again: {command('2026-01-12', '2026-01-12')}"
    said = f"PROBLEM 2026-01-12: {SKIPPED}: train_lookalike was skipped for want of 2026-01-05, which has come since"
    assert lines[1] == said


def test_what_hangs_on_a_task_that_ran_alone_is_told_where_the_content_changed(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`tasks clear -t publish_transe` without `--downstream`."""
    published = vectors(root, "2026-01-05")
    scores = commit(root, "lookalike_scores", "2026-01-05", inputs=[published])
    commit(root, "audiences", "2026-01-05", inputs=[published])
    commit(root, "reports", "2026-01-05", inputs=[scores])
    vectors(root, "2026-01-12", published, space="2026-01-05")
    vectors(root, "2026-01-05")
    assert verify(root, capsys)[0] == "no problem found", "the same content again"
    vectors_again = dict(space_id="2026-01-05", family=FAMILY, max_gap_days=30, predecessor=None)
    commit(root, TRANSE, "2026-01-05", "other", **vectors_again)
    lines = verify(root, capsys)
    assert lines[0] == f"Run these 2 dates again, oldest first: {command('2026-01-05', '2026-01-12')}"
    same_day = f"PROBLEM 2026-01-05: audiences and 1 more: built on a former version of its input {TRANSE} 2026-01-05"
    assert lines[1].startswith(same_day)
    assert lines[2].startswith(f"PROBLEM 2026-01-12: {TRANSE}: built on a former version of its predecessor")


def test_a_requested_audience_is_no_nights_to_run_again(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    published = vectors(root, "2026-01-05")
    commit(root, "requested_audiences/spring", "2026-01-05", inputs=[published])
    commit(root, TRANSE, "2026-01-05", "other")
    lines = verify(root, capsys)
    assert lines[0].startswith("note    2026-01-05: requested_audiences/spring: built on a former version")
    assert lines[0].endswith("ask for it again")
