"""Who entered an audience and who left it, and what the page says of campaigns."""

from __future__ import annotations

import datetime
import shutil
from pathlib import Path
from typing import Any

import pytest

from feature_store import Table
from jobs.program import Input
from jobs.report.changes import changes
from tests.jobs.report import night
from tests.jobs.report.night import BEFORE, DATE
from tests.jobs.report.test_write_report import HOSTILE, Page, report

AUDIENCES = ("client", "rank", "user_id", "score", "group")


def audience(root: Path, date: datetime.date, **clients: list[str]) -> None:
    """Of each client these users, best first."""
    rows = [(c, i + 1, user, 0.5, "mailing") for c, users in clients.items() for i, user in enumerate(users)]
    columns = zip(*rows, strict=True) if rows else ([] for _ in AUDIENCES)
    night.commit(root, "audiences", dict(zip(AUDIENCES, columns, strict=True)), value=date.isoformat())


def changed(root: Path, max_gap_days: int = 30) -> dict[str, Any] | None:
    return changes(DATE, max_gap_days, Input("audiences", str(root / "data" / "audiences")))


def test_counts_and_the_best_of_those_who_came_and_went(tmp_path: Path) -> None:
    before, now = [f"u{n}" for n in range(10)], [f"u{n}" for n in (1, 12, 3, 4, 5, 6, 17, 8, 19, 0)]
    audience(tmp_path, BEFORE, luna=before, gone=["x", "y"])
    audience(tmp_path, DATE, luna=now, fresh=["a"])
    found = changed(tmp_path)
    assert (found["before"], found["problem"]) == ("2026-02-23", "")
    rows = {row["client"]: row for row in found["clients"]}
    assert list(rows) == ["fresh", "gone", "luna"]
    assert [rows["luna"][name] for name in ("then", "now", "stayed", "entered", "left")] == [10, 10, 7, 3, 3]
    entered, left = rows["luna"]["examples"]
    assert entered == [{"user_id": f"u{n}", "rank": r} for n, r in ((12, 2), (17, 7), (19, 9))]
    assert left == [{"user_id": f"u{n}", "rank": n + 1} for n in (2, 7, 9)]
    assert (rows["fresh"]["entered"], rows["fresh"]["then"], rows["gone"]["left"], rows["gone"]["now"]) == (1, 0, 2, 0)


def test_no_more_than_a_few_are_named(tmp_path: Path) -> None:
    audience(tmp_path, BEFORE, luna=[f"u{n}" for n in range(100)])
    audience(tmp_path, DATE, luna=[f"v{n}" for n in range(100)])
    (row,) = changed(tmp_path)["clients"]
    assert [[user["rank"] for user in users] for users in row["examples"]] == [[1, 2, 3, 4, 5]] * 2
    assert (row["entered"], row["left"], row["stayed"]) == (100, 100, 0)


def test_the_newest_earlier_night_within_the_gap_is_the_one(tmp_path: Path) -> None:
    audience(tmp_path, DATE, luna=["a"])
    later, oldest = DATE + datetime.timedelta(days=1), DATE - datetime.timedelta(days=30)
    audience(tmp_path, later, luna=["b"])
    assert changed(tmp_path) is None, "a later night is none, nor tonight itself"
    audience(tmp_path, oldest, luna=["a"])
    assert changed(tmp_path)["before"] == oldest.isoformat() and changed(tmp_path, 29) is None
    audience(tmp_path, BEFORE, luna=["a"])
    assert changed(tmp_path)["before"] == BEFORE.isoformat()
    shutil.rmtree(tmp_path / "data" / "audiences" / f"dt={DATE}")
    assert changed(tmp_path) is None


def test_partitions_of_before_there_were_groups_are_compared(tmp_path: Path) -> None:
    audience(tmp_path, DATE, luna=["a", "b"])
    with Table(str(tmp_path / "data" / "audiences")).replace(BEFORE.isoformat()) as commit:
        commit.write_table(Table(str(tmp_path / "data" / "audiences")).read(DATE.isoformat()).drop_columns("group"))
    assert changed(tmp_path)["clients"][0]["stayed"] == 2


@pytest.fixture
def root(tmp_path: Path) -> Path:
    night.write_night(tmp_path, 40)
    return tmp_path


def test_the_page_shows_them_and_its_manifest_names_that_night(root: Path) -> None:
    page = Page(report(root))
    assert "Who entered and who left since 2026-02-23" in page.text
    assert "luna14661 user-00000 · 2 user-00001" in page.text.replace("\xa0", " ")
    fields = Table(str(root / "data" / "reports")).existing_manifest(DATE.isoformat()).fields
    assert (fields["compared_with"]["table"], fields["compared_with"]["dt"]) == ("audiences", BEFORE.isoformat())
    assert [one["dt"] for one in fields["inputs"] if one["table"] == "audiences"] == [DATE.isoformat()]
    assert "control group" not in page.text and "suppressed" not in page.text.casefold()


def test_a_night_before_that_cannot_be_read_is_told_and_stops_nothing(root: Path) -> None:
    folder = root / "data" / "audiences" / f"dt={BEFORE}"
    next(folder.glob("*.parquet")).write_bytes(b"PAR1 damaged")
    assert "The audiences of that night cannot be read" in Page(report(root)).text
    (folder / "_manifest.json").write_text("{", encoding="utf-8")
    assert "The audiences of that night cannot be read" in Page(report(root)).text
    assert "compared_with" not in Table(str(root / "data" / "reports")).existing_manifest(DATE.isoformat()).fields


def test_the_page_counts_what_campaigns_did_and_shows_hostile_names_as_text(root: Path) -> None:
    rows = [
        {"client": client, "feature_set": "strong", "eligible": 1612, "k": 200, "file": f"part-{client}.csv",
         "suppressed": 31, "control": 24, "control_share": share, "control_file": f"part-{client}-control.csv"}
        for client, share in (("luna", 0.125), ("sol", 0))]  # fmt: skip
    lists = [
        {"key": "lookalike.suppress", "file": HOSTILE[0], "listed": 1204, "known": 1187},
        {"key": "lookalike.campaigns.sol.suppress", "file": "b.txt", "listed": 7, "known": 0}]  # fmt: skip
    night.put(root, "score_lookalike", audiences=rows, suppression=lists)
    audience(root, DATE, luna=HOSTILE, sol=["a"])
    html = report(root)
    page = Page(html)
    assert "12.5 % by lot" in page.text and "part-luna-control.csv" in page.text
    assert "part-sol-control.csv" not in page.text
    assert f"Suppressed by lookalike.suppress: {HOSTILE[0]}, 1,204 ids, 1,187 of them known users" in page.text
    assert page.text.count("none known") == 1 and "script" not in page.elements and "img" not in page.elements
    assert "\u202e" not in html and "x" * 100 not in html
    before = Table(str(root / "data" / "reports")).existing_manifest(DATE.isoformat()).content_hash
    again = [{**row, "control_file": f"part-2-{row['client']}-control.csv"} for row in rows]
    night.put(root, "score_lookalike", audiences=again, suppression=lists)
    report(root)
    assert Table(str(root / "data" / "reports")).existing_manifest(DATE.isoformat()).content_hash == before


def test_a_client_whose_predicate_fits_no_item_is_told_from_one_without_buyers(root: Path) -> None:
    night.put(root, "train_lookalike", pool={"sets": 40, "windows": 2})
    rows = [
        {"client": client, "feature_set": "blend", "eligible": 9, "k": 1, "file": "a.csv", "own_buyers": 0, **items}
        for client, items in (("luna", {"items": 0}), ("sol", {"items": 7}), ("of_before", {}))]  # fmt: skip
    night.put(root, "score_lookalike", audiences=rows)
    audience(root, DATE, luna=["a"], sol=["b"], of_before=["c"])
    text = Page(report(root)).text
    assert text.count("none, nor an item in the graph: is its predicate right?") == 1
    assert text.count("none: by other sets") == 2
