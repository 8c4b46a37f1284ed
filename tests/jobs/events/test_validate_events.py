"""Which rows become clean events, which are rejected and why, and what is committed when."""

from __future__ import annotations

import datetime
import json

import pyarrow as pa
import pytest

from jobs.events import look, validate_events
from jobs.program import JobError
from tests.jobs.events.night import DATE, Sandbox, at, event, every_day
from tests.jobs.written import wrong_columns

HOSTILE = [
    "a/b", "../../etc/passwd", '"quoted"', "line\nbreak", "<script>alert(1)</script>", "\u202eltr", "=1+1", " padded ",
    "e\u0301", "\u00e9", "", "null", "x" * 1024,
]


def test_each_unusable_row_is_rejected_with_its_reason(sandbox: Sandbox) -> None:
    bad = {
        "user_id is null": event(None, 7),
        "item_id is null": event("u", 7, item_id=None),
        "user_id is longer than 1024 bytes": event("é" * 513, 7),
        "item_id holds NUL": event("u", 7, item_id="a\0b"),
        "event_time is null": event("u", 7, event_time=None),
        "event_time before 2026-01-02": event("u", 1),
        "unknown behavior": event("u", 7, behavior="sneeze"),
        "behavior is null": event("u", 7, behavior=None),
        "value is not finite": event("u", 7, value=float("nan")),
        "quantity is not finite": event("u", 7, quantity=float("-inf")),
    }
    sandbox.write_parquet(every_day() + list(bad.values()))
    figures = sandbox.run()
    assert figures["rejected_by_reason"] == dict.fromkeys(bad, 1)
    assert (figures["rows_in"], figures["rows_rejected"], figures["rows_out"]) == (20, 10, 10)
    rejected = {row["reason"]: row for row in sandbox.rejected()}
    assert [r["row_number"] for r in (rejected[reason] for reason in bad)] == list(range(11, 21))
    assert (
        rejected["user_id is null"]["row"] is None and rejected["user_id is longer than 1024 bytes"]["user_id"] is None
    )
    assert (
        json.loads(rejected["unknown behavior"]["row"])["behavior"] == "sneeze"
        and rejected["unknown behavior"]["user_id"] == "u"
    )
    assert {row["user_id"] for row in sandbox.clean()} == {"u1", "u2"}
    assert figures["checks"] and all(check["success"] for check in figures["checks"])


def test_hostile_ids_are_kept_as_they_are_and_days_sorted_by_bytes(sandbox: Sandbox) -> None:
    sandbox.write_parquet(every_day() + [event(name, 8, item_id=name) for name in HOSTILE])
    assert sandbox.run()["rows_rejected"] == 0
    users = [row["user_id"] for row in sandbox.outputs()[0].table().read("2026-01-08").to_pylist()]
    assert sorted(users) == sorted([*HOSTILE, "u1", "u2"])
    assert users == sorted(users, key=lambda name: name.encode())


def test_nothing_from_the_date_on_is_read(sandbox: Sandbox) -> None:
    """Neither good nor bad rows; the last microsecond before is known, and so is the first of the window but not the
    one before."""
    edge = datetime.timedelta(microseconds=1)
    inside = [event("first", 6, event_time=at(6, 0)), event("last", 10, event_time=at(11, 0) - edge)]
    outside = [
        event("early", 5, event_time=at(6, 0) - edge),
        event("late", 11, event_time=at(11, 0)),
        event(None, 11),
        event("w", 12, behavior="sneeze"),
    ]
    sandbox.write_parquet(every_day() + inside + outside)
    figures = sandbox.run()
    assert (figures["rows_in"], figures["rows_rejected"]) == (12, 0)
    assert {row["user_id"] for row in sandbox.clean()} == {"u1", "u2", "first", "last"}
    assert list(sandbox.manifests()) == ["2026-01-06", "2026-01-07", "2026-01-08", "2026-01-09", "2026-01-10"]


def test_repeats_within_a_day_are_one_and_late_rows_are_counted(sandbox: Sandbox) -> None:
    resent = [
        event("r", 7, event_id="e", value=1.0, ingested_at=at(7, 13)),
        event("r", 7, event_id="e", value=2.0, ingested_at=at(8, 1)),
        event("r", 8, event_id="e", value=3.0, ingested_at=at(8, 13)),
        event("r", 9),
        event("r", 9),
    ]
    sandbox.write_parquet(every_day() + resent)
    figures = sandbox.run()
    assert [row["value"] for row in sandbox.clean() if row["user_id"] == "r"] == [2.0, 3.0, None, None]
    assert (figures["rows_repeated"], figures["rows_late"]) == (1, 1)
    sandbox.events["deduplicate"] = "exact"
    assert sandbox.run()["rows_repeated"] == 2
    assert [row["value"] for row in sandbox.clean() if row["user_id"] == "r"] == [2.0, 3.0, None]


def test_an_id_of_a_receipt_is_warned_of_and_one_of_a_resent_event_is_not(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    resent = [event("r", 7, event_id="e", ingested_at=at(7, hour)) for hour in (13, 14, 15)]
    sandbox.write_parquet(every_day() + resent)
    assert sandbox.run()["rows_repeated"] == 2 and "event_id" not in caplog.text
    lines = [event("r", 7, item_id=f"i{n % 3}", event_id=f"receipt {n // 4}") for n in range(8)]
    sandbox.write_parquet(every_day() + lines)
    assert sandbox.run()["rows_repeated"] == 6
    assert "event_id: 4 events have one that is also of another user or item on their day" in caplog.text
    assert look.main(["--config", str(sandbox.config_file())]) == 0
    assert "event_id: 4 events have one that is also of another" in capsys.readouterr().out


def test_an_empty_day_is_committed_with_a_warning(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    sandbox.write_parquet([row for row in every_day() if row["event_time"] != at(8)])
    with caplog.at_level("WARNING", "nocturne"):
        assert sandbox.run()["days_empty"] == 1
    assert "no event on 1 of 5 days: 2026-01-08" in caplog.text
    assert sandbox.manifests()["2026-01-08"].row_count == 0


@pytest.mark.parametrize("constants", [{}, {"event_id": "e", "ingested_at": "2026-01-20T00:00:00Z"}])
def test_days_with_and_without_rows_have_the_contracts_columns(sandbox: Sandbox, constants: dict[str, str]) -> None:
    """Nullability included, whatever Spark has found out about its rows: plain concatenation takes no less."""
    sandbox.source["constants"] = constants
    sandbox.write_parquet(
        [row for row in every_day() if row["event_time"] != at(8)] + [event("u", 7, behavior="sneeze")]
    )
    sandbox.run()
    assert wrong_columns(sandbox.root) == {"clean_events": [], "rejected_events": []}
    table = sandbox.outputs()[0].table()
    days = [table.read(day).replace_schema_metadata() for day in table.values()]
    assert {day.num_rows for day in days} == ({0, 2} if not constants else {0, 1}) and len(
        {str(day.schema) for day in days}
    ) == 1
    assert pa.concat_tables(days).num_rows == sum(day.num_rows for day in days)


def test_too_many_rejected_rows_are_committed_and_no_clean_day(sandbox: Sandbox) -> None:
    sandbox.events["max_rejected_share"] = 0.1
    sandbox.write_parquet(every_day() + [event("u", 7, behavior="sneeze")] * 2)
    with pytest.raises(JobError, match=r"2 of 12 rows \(16.7%\).*max_rejected_share \(10.0%\).*unknown behavior: 2"):
        sandbox.run()
    assert len(sandbox.rejected()) == 2 and sandbox.manifests() == {}
    sandbox.events["max_rejected_share"] = 0.2
    assert sandbox.run()["rows_out"] == 10


def test_a_log_without_one_readable_time_can_be_looked_at(sandbox: Sandbox) -> None:
    """Nothing is in the window, since nothing has a time: too many rejected rows, which are committed like any."""
    sandbox.events["max_rejected_share"] = 0.1
    sandbox.write_parquet([event(user, 7, event_time="07/01/2026") for user in "abc"], event_time=pa.string())
    with pytest.raises(JobError, match=r"3 of 3 rows \(100.0%\).*unparseable event_time: 3"):
        sandbox.run()
    assert [row["user_id"] for row in sandbox.rejected()] == ["a", "b", "c"] and sandbox.manifests() == {}


def test_pages_on_the_checks_come_when_asked_for(sandbox: Sandbox) -> None:
    sandbox.write_parquet(every_day())
    sandbox.run()
    assert not list(sandbox.root.rglob("*.html"))
    sandbox.quality["data_docs"] = "data_docs"
    sandbox.write_parquet([*every_day(), event("another", 8)])
    sandbox.run()
    assert [path.relative_to(sandbox.root).as_posix() for path in sandbox.root.rglob("*.html")] == [
        "data_docs/2026-01-11/clean_events.html"
    ]


def test_a_day_is_committed_only_when_its_rows_change(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox.source["path"] = "log"
    sandbox.write_parquet(every_day(), "log/a.parquet")
    first = sandbox.run()
    before = sandbox.manifests()
    assert first["days_written"] == 5
    assert [file["name"] for file in before["2026-01-07"].fields["sources"]] == ["a.parquet"]

    with monkeypatch.context() as patched:  # unchanged: not even a session is started
        patched.setattr(validate_events, "session", None)
        assert sandbox.run() == first

    sandbox.write_parquet([event("new", 9)], "log/b.parquet")
    assert sandbox.run()["days_written"] == 1
    after = sandbox.manifests()
    assert [day for day in after if after[day].hash != before[day].hash] == ["2026-01-09"]
    assert [file["name"] for file in after["2026-01-09"].fields["sources"]] == ["a.parquet", "b.parquet"]

    (sandbox.folder / "log/b.parquet").unlink()
    sandbox.run()
    assert {day: m.content_hash for day, m in sandbox.manifests().items()} == {
        day: m.content_hash for day, m in before.items()
    }


def content_hashes(sandbox: Sandbox) -> list[str]:
    """Of the five days of DATE's window, and of its rejected rows."""
    clean, rejected = (output.table() for output in sandbox.outputs())
    days = [clean.existing_manifest(f"2026-01-{day:02d}").content_hash for day in range(6, 11)]
    return [*days, rejected.existing_manifest(DATE.isoformat()).content_hash]


def test_later_nights_and_the_future_leave_a_night_as_it_was(sandbox: Sandbox) -> None:
    """Equal content hashes on a fresh root, and after a later night on a source with another future."""
    bad = [event("u", 7, behavior="sneeze")]
    sandbox.write_parquet(every_day() + bad)
    sandbox.run()
    before = content_hashes(sandbox)
    sandbox.write_parquet(
        every_day() + bad + [event("future", 11), event(None, 12), event("future", 13, behavior="sneeze")]
    )
    later = sandbox.run(DATE + datetime.timedelta(days=3))
    # of days 9 to 13: four, and the three that were the future
    assert (later["rows_in"], later["rows_rejected"]) == (7, 2)
    sandbox.run()
    assert content_hashes(sandbox) == before


def test_leftovers_of_a_killed_run_go(sandbox: Sandbox) -> None:
    sandbox.write_parquet(every_day())
    leftover = sandbox.root / "clean_events/_staging/dt=2026-01-11/day=2026-01-07/part.parquet"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half")
    assert sandbox.run()["rows_out"] == 10
    assert not (sandbox.root / "clean_events/_staging").exists()
