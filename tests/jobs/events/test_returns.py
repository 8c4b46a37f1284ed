"""Returns: rows of negative quantity, and what a night makes of them, in Spark and on Arrow alike."""

from __future__ import annotations

import datetime
import importlib.util
import pkgutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import jobs
from jobs.audiences.event_log import read_log
from jobs.audiences.population import active_users, purchases_between
from jobs.events.returns import CANCEL, DROP, KEEP, KEY, Counted, applied, counted
from jobs.graphs.window import open_window, read_events
from jobs.program import Input
from tests.jobs.events.night import DATE, Sandbox, at, event, every_day

FIRST = DATE - datetime.timedelta(days=5)


def bought(user: str, day: float, **changes: Any) -> dict[str, Any]:
    return event(user, 1, event_time=at(1, 24 * (day - 1)), behavior="purchase", **changes)


def test_a_return_is_a_row_of_negative_quantity_wherever_the_source_has_the_sign(sandbox: Sandbox) -> None:
    sandbox.events["max_rejected_share"] = 0.0
    given = {
        "quantity": bought("a", 7.5, quantity=-2.0, value=3.0), "value": bought("b", 7.5, value=-3.0),
        "both": bought("c", 7.5, quantity=-2.0, value=-3.0), "no quantity": bought("d", 7.5, quantity=None, value=-3.0),
        "no value": bought("e", 7.5, quantity=-2.0), "none": bought("f", 7.5, quantity=0.0, value=-3.0),
        "a rating": event("g", 7, value=-1.0), "taken out of the view": event("h", 7, quantity=-1.0),
        "free": bought("i", 7.5, value=0.0)}
    sandbox.write_parquet(every_day() + list(given.values()))
    figures = sandbox.run()
    assert (figures["rows_rejected"], figures["rows_out"], figures["rows_returned"]) == (0, 19, 7)
    found = {row["user_id"]: (row["quantity"], row["value"]) for row in sandbox.clean()}
    assert [found[name] for name in "abcdefghi"] == [
        (-2, 3), (-1, 3), (-2, 3), (-1, 3), (-2, None), (-1, 3), (1, -1), (-1, None), (1, 0)]
    assert [m.fields["returns"] for m in sandbox.manifests().values()] == [0, 7, 0, 0, 0]


def test_what_returns_mean_changes_no_clean_day(sandbox: Sandbox) -> None:
    """Each night decides; a source that is read in another way is another matter."""
    sandbox.write_parquet(every_day() + [bought("a", 7, quantity=-1.0)])
    sandbox.run()
    before = sandbox.manifests()
    sandbox.events["returns"] = "cancel"
    sandbox.run()
    assert sandbox.manifests() == before


def many(seed: int) -> list[dict[str, Any]]:
    """Few users and items, so that returns meet purchases; some at one time."""
    random = np.random.default_rng(seed)
    return [
        bought(f"u{random.integers(3)}", 6 + random.integers(40) / 8, item_id=f"i{random.integers(3)}",
               quantity=float(random.choice([1, 2, -1, -3], p=[0.4, 0.2, 0.3, 0.1])),
               value=float(random.integers(3)), event_id=None if random.random() < 0.5 else f"e{n}")
        for n in range(200)]


def by_hand(rows: list[dict[str, Any]]) -> list[tuple]:
    """The rule, row by row: a stack for each user, item and behaviour."""
    stacks: dict[tuple, list[dict]] = {}
    for row in sorted(rows, key=lambda r: (r["event_time"], -r["quantity"], r["value"], r["event_id"] or "")):
        stack = stacks.setdefault(tuple(row[name] for name in KEY), [])
        if row["quantity"] >= 0:
            stack.append(row)
        elif stack:
            stack.pop()
    return sorted(told(row) for stack in stacks.values() for row in stack)


def told(row: dict[str, Any]) -> tuple:
    return (*(row[name] for name in KEY), row["event_time"], row["quantity"], row["value"], row["event_id"] or "")


@pytest.mark.parametrize("seed", range(2))
def test_each_return_takes_back_the_latest_earlier_purchase(seed: int, sandbox: Sandbox, spark) -> None:
    rows = many(seed)
    sandbox.write_parquet(every_day() + rows)
    sandbox.run()
    clean, expected = Input("clean_events", str(sandbox.root / "clean_events")), by_hand(rows)
    night = counted(clean, DATE, CANCEL)
    days = clean.table().values()
    on_arrow = [row for day in days for row in night.table().read(day).to_pylist()]
    assert sorted(told(row) for row in on_arrow if row["behavior"] == "purchase") == expected
    window = open_window(clean, DATE, 5)
    on_spark = [row.asDict() for row in read_events(spark, window, clean, CANCEL).collect()]
    for row in on_spark:
        row["event_time"] = row["event_time"].replace(tzinfo=datetime.UTC)
    assert sorted(told(row) for row in on_spark if row["behavior"] == "purchase") == expected
    assert sum(row["behavior"] == "view" for row in on_spark) == 10
    one = applied(read_events(spark, open_window(clean, DATE, 3), clean, KEEP), CANCEL)
    shorter = [row for row in by_hand(rows) if row[3] >= at(8, 0)]
    assert one.where("behavior = 'purchase'").count() == len(shorter), "a window's beginning changes nothing in it"


def test_an_event_is_taken_back_whole_whatever_the_quantities(sandbox: Sandbox) -> None:
    sandbox.write_parquet(every_day() + [
        bought("one of three", 7, quantity=3.0), bought("one of three", 8, quantity=-1.0),
        *(bought("three of three ones", day) for day in (6, 7, 8)),
        bought("three of three ones", 9, quantity=-3.0)])
    sandbox.run()
    night = counted(Input("clean_events", str(sandbox.root / "clean_events")), DATE, CANCEL)
    left = purchases_between(night, FIRST, DATE, "purchase").user_id.to_pylist()
    assert left == ["three of three ones"] * 2


def test_a_return_of_the_date_or_later_takes_nothing_back(sandbox: Sandbox) -> None:
    sandbox.write_parquet(every_day() + [bought("a", 7), bought("a", 8), bought("a", 9, quantity=-1.0)])
    sandbox.run()
    clean = Input("clean_events", str(sandbox.root / "clean_events"))
    left = {}
    for day in (9, 10):
        date = datetime.date(2026, 1, day)
        night = counted(clean, date, CANCEL)
        left[day] = purchases_between(night, FIRST, date, "purchase").user_id.to_pylist()
        rows = night.table().read("2026-01-08", ["user_id"])
        assert rows.num_rows == 2 + (day == 9), "also of whoever reads a day as it stands"
    assert left == {9: ["a", "a"], 10: ["a"]}
    assert counted(clean, DATE, CANCEL).taken_back == {"2026-01-08": np.array([0])}


@pytest.mark.parametrize("returns", [DROP, CANCEL])
def test_columns_labels_and_who_is_active_go_by_what_counts(returns: str, sandbox: Sandbox, tmp_path: Path) -> None:
    """As if the source had never had what does not count."""
    plain = [bought("a", 7, value=2.0), bought("b", 7), bought("b", 8), bought("c", 8)]
    gone = [bought("a", 8, quantity=-1.0, value=2.0), bought("only returns", 9, quantity=-1.0)]
    if returns == CANCEL:
        plain = plain[1:]
        gone += [bought("a", 7, value=2.0)]
    logs = []
    for folder, rows in ((tmp_path / "with", plain + gone), (tmp_path / "without", plain)):
        folder.mkdir()
        box = Sandbox(folder)
        box.write_parquet(every_day() + rows)
        box.run()
        clean = Input("clean_events", str(box.root / "clean_events"))
        clean = counted(clean, DATE, returns) if folder.name == "with" else clean
        log = read_log(clean, FIRST, DATE, pa.array(["i1"], pa.large_string()))
        behavior = log.behaviors["purchase"]
        arrays = {name: getattr(behavior, name).tolist() for name in ("start", "item", "day", "count", "money")}
        logs.append((log.users.to_pylist(), arrays, active_users(clean, DATE, 5).to_pylist(),
                     purchases_between(clean, FIRST, DATE, "purchase").user_id.to_pylist()))
    assert logs[0] == logs[1]


def test_days_that_were_committed_before_returns_were_counted_are_looked_at(sandbox: Sandbox) -> None:
    sandbox.write_parquet(every_day() + [bought("a", 7, quantity=-1.0)])
    sandbox.run()
    clean = Input("clean_events", str(sandbox.root / "clean_events"))
    with clean.table().replace("2026-01-07") as commit:
        commit.write_table(clean.table().read("2026-01-07"))  # its manifest does not tell
    assert clean.table().existing_manifest("2026-01-07").fields.get("returns") is None
    assert counted(clean, DATE, DROP).table().read("2026-01-07", ["user_id"]).num_rows == 2


def test_keep_is_the_table_itself(tmp_path: Path) -> None:
    clean = Input("clean_events", str(tmp_path))
    assert counted(clean, DATE, KEEP) is clean and isinstance(counted(clean, DATE, DROP), Counted)


# who looks at more than what counts, and why
ALL_ROWS = {
    "jobs.events.validate_events": "writes them",
    "jobs.profiles.read_labels": "names whoever may have a vector; more names do nothing",
    "jobs.report.write_report": "counts the rows of days"}


def test_every_program_that_reads_clean_events_goes_by_the_setting() -> None:
    found = {}
    for module in pkgutil.walk_packages(jobs.__path__, "jobs."):
        source = Path(importlib.util.find_spec(module.name).origin or "").read_text()
        if "\ndef run(" in source and "clean_events: Input" in source:
            found[module.name] = "config.events.returns" in source
    assert {name for name, goes_by in found.items() if not goes_by} == set(ALL_ROWS)
    assert len(found) > 6
