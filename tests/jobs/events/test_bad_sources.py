"""Broken sources: one clear message, and the store as it was. Broken lines: rejected one by one."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.configuration.sections import SourceTable
from jobs.events import validate_events
from jobs.events.read_source import PEEK_LINES, read_entities
from jobs.program import FAILED, FINAL, JobError, MayPass, execute
from tests.feature_store.faulty import FaultyOs
from tests.jobs.events.night import DATE, Sandbox, event, every_day

LINES = ["user_id,item_id,behavior,event_time,quantity,value"] + [
    f"u{n},i{n},view,2026-01-{day:02d} 12:00:00,1,2.5" for day in range(6, 11) for n in (1, 2)
]


def missing_column(sandbox: Sandbox) -> str:
    sandbox.write_parquet(every_day())
    sandbox.source["columns"] = {"user_id": "custommer"}
    return r"no column 'custommer' \(our 'user_id'\); it has 'user_id', 'item_id'"


def misnamed_column(sandbox: Sandbox) -> str:
    sandbox.source |= {"path": "events.csv", "format": "csv"}
    sandbox.write_lines([LINES[0].replace("event_time", "at"), *LINES[1:]], "events.csv")
    return r"no column 'event_time'.*it has .*'at'.*Map it"


def misnamed_column_in_a_later_file(sandbox: Sandbox) -> str:
    sandbox.source |= {"path": "log", "format": "csv"}
    (sandbox.folder / "log").mkdir()
    sandbox.write_lines(LINES, "log/a.csv")
    sandbox.write_lines([LINES[0].replace("user_id", "customer"), *LINES[1:]], "log/b.csv")
    return r"log/b.csv has no column 'user_id'.*it has 'customer', .*All files of a source need the same columns"


def wrong_type(sandbox: Sandbox) -> str:
    sandbox.write_parquet([row | {"quantity": [1.0]} for row in every_day()], quantity=pa.list_(pa.float32()))
    return r"column 'quantity'.*is of type list<.*expected a number"


def id_as_float(sandbox: Sandbox) -> str:
    sandbox.write_parquet([row | {"user_id": 17.0} for row in every_day()], user_id=pa.float64())
    return r"column 'user_id'.*is of type double; expected a text or a whole number"


def truncated_gzip(sandbox: Sandbox) -> str:
    sandbox.source |= {"path": "events.csv.gz", "format": "csv"}
    path = sandbox.write_lines(LINES, "events.csv.gz")
    path.write_bytes(path.read_bytes()[:-20])
    return r"events.csv.gz is a truncated or damaged gzip"


def no_parquet(sandbox: Sandbox) -> str:
    (sandbox.folder / "events.parquet").write_text("\n".join(LINES))
    return r"events.parquet is no readable Parquet file"


def damaged_parquet(sandbox: Sandbox) -> str:
    path = sandbox.write_parquet([event(f"u{n}", 7) for n in range(5000)])
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"\0" * 400 + content[404:])
    return r"cannot be read|Spark stopped|is no readable"


def no_event_in_the_window(sandbox: Sandbox) -> str:
    sandbox.write_parquet([event("u", day) for day in (2, 3, 20)])
    return r"No event in the window 2026-01-06 ≤ time < 2026-01-11.*run from 2026-01-02 to 2026-01-20"


def a_date_before_the_data_begins(sandbox: Sandbox) -> str:
    sandbox.write_parquet([event("u", 20), event("u", 7, event_time=None)])
    return r"No event in the window.*run from 2026-01-20 to 2026-01-20\. Choose a date after the data begins"


def a_date_after_the_data(sandbox: Sandbox) -> str:
    sandbox.write_parquet([event("u", day) for day in (1, 2)])
    return r"No event in the window.*Choose a date before the data has left the window: 2026-01-07 or earlier"


def nothing_there(sandbox: Sandbox) -> str:
    return r"Nothing to read at .*events.parquet"


CASES = [
    missing_column,
    misnamed_column,
    misnamed_column_in_a_later_file,
    wrong_type,
    id_as_float,
    truncated_gzip,
    no_parquet,
    damaged_parquet,
    no_event_in_the_window,
    a_date_before_the_data_begins,
    a_date_after_the_data,
    nothing_there,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_broken_source_is_one_error_and_changes_nothing(case: Any, sandbox: Sandbox) -> None:
    message = case(sandbox)
    with pytest.raises(JobError, match=message) as error:
        sandbox.run()
    assert "\n" not in str(error.value)
    assert sandbox.manifests() == {} and sandbox.outputs()[1].table().values() == []


def test_a_root_that_is_no_folder_is_one_message(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    sandbox.write_parquet(every_day())
    sandbox.root.write_text("a file")
    with caplog.at_level("ERROR", "nocturne"):
        call = ["--date", DATE.isoformat(), "--config", str(sandbox.config_file())]
        assert execute(validate_events.run, call) == FINAL
    assert "CannotWrite: Not a directory" in caplog.text and "Traceback" not in caplog.text
    assert sandbox.root.read_text() == "a file"


@pytest.mark.parametrize(
    ("error", "said", "status"),
    [(errno.ENOSPC, "DiskFull: No space left", FAILED), (errno.EROFS, "Mount the data root writable", FINAL)],
    ids=["full", "read-only"],
)
def test_a_disk_that_refuses_leaves_the_night_before(
    error: int, said: str, status: int, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sandbox.write_parquet(every_day())
    sandbox.run()
    before = sandbox.manifests()
    sandbox.write_parquet(every_day() + [event("new", 9)])
    with monkeypatch.context() as patched, caplog.at_level("ERROR", "nocturne"):
        FaultyOs(fails=lambda name, _: name in ("write", "link"), error=error).install(patched)
        call = ["--date", DATE.isoformat(), "--config", str(sandbox.config_file())]
        assert execute(validate_events.run, call) == status
    assert said in caplog.text and "Traceback" not in caplog.text
    assert sandbox.manifests() == before
    assert sandbox.run()["days_written"] == 1


def test_a_source_that_breaks_later_leaves_what_was_published(sandbox: Sandbox) -> None:
    path = sandbox.write_parquet(every_day())
    sandbox.run()
    before = sandbox.manifests()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(JobError, match="events.parquet is cut off"):
        sandbox.run()
    assert sandbox.manifests() == before


def test_broken_json_lines_are_rejected_one_by_one(sandbox: Sandbox) -> None:
    sandbox.source |= {
        "path": "events.jsonl.gz",
        "format": "jsonl",
        "columns": {"user_id": "who"},
        "constants": {"behavior": "view"},
    }
    good = [
        json.dumps({"who": 17, "item_id": f"i\n{n}", "event_time": f"2026-01-{6 + n:02d}T12:00:00+01:00"})
        for n in range(5)
    ]
    bad = [
        '{"who": "a", "item_id":',
        '["a"]',
        '{"who": "\\ud800", "item_id": "i", "event_time": "2026-01-07"}',
        '{"who": "a\\u0000", "item_id": "i", "event_time": "2026-01-07"}',
        '{"who": "a", "item_id": null, "event_time": "2026-01-07"}',
        '{"who": "a", "item_id": "i", "event_time": "yesterday"}',
    ]
    sandbox.write_lines(good + bad, "events.jsonl.gz")
    figures = sandbox.run()
    assert [(row["user_id"], row["item_id"], row["event_time"].hour) for row in sandbox.clean()] == [
        ("17", f"i\n{n}", 11) for n in range(5)
    ]
    found = {row["row_number"]: row["reason"] for row in sandbox.rejected()}
    reasons = [
        "malformed line",
        "malformed line",
        "user_id is not valid UTF-8",
        "user_id holds NUL",
        "item_id is null",
        "unparseable event_time",
    ]
    assert found == dict(enumerate(reasons, start=6))
    assert figures["rows_rejected"] == 6


def test_optional_keys_of_json_lines_count_wherever_they_first_occur(sandbox: Sandbox) -> None:
    """The first file is empty, and the first price comes after more lines than are looked at for their keys."""
    sandbox.source |= {"path": "log", "format": "jsonl"}
    (sandbox.folder / "log").mkdir()
    view = {"user_id": "u", "item_id": "i", "behavior": "view", "event_time": "2026-01-07 12:00:00"}
    (sandbox.folder / "log/a.jsonl").write_bytes(b"")
    sandbox.write_lines(
        [json.dumps(row) for row in [view] * PEEK_LINES + [view | {"behavior": "purchase", "value": 3.5}]],
        "log/b.jsonl",
    )
    sandbox.run()
    assert [row["value"] for row in sandbox.clean() if row["behavior"] == "purchase"] == [3.5]


def test_files_of_a_csv_may_be_empty_and_order_their_columns_as_they_like(sandbox: Sandbox) -> None:
    sandbox.source |= {"path": "log", "format": "csv"}
    (sandbox.folder / "log").mkdir()
    (sandbox.folder / "log/a.csv").write_bytes(b"")
    sandbox.write_lines(LINES, "log/b.csv")
    sandbox.write_lines(
        ["event_time,behavior,item_id,user_id,value,quantity", "2026-01-07 12:00:00,view,item,user,7,2"], "log/c.csv"
    )
    assert sandbox.run()["rows_rejected"] == 0
    assert [(row["item_id"], row["value"], row["quantity"]) for row in sandbox.clean() if row["user_id"] == "user"] == [
        ("item", 7.0, 2.0)
    ]


def test_broken_csv_lines_are_rejected_one_by_one(sandbox: Sandbox) -> None:
    sandbox.source |= {"path": "events.csv", "format": "csv"}
    bad = [
        "u,i,view",
        "u,i,view,2026-01-07 12:00:00,1,2.5,extra",
        '"u"x,i,view,2026-01-07 12:00:00,1,2',
        "u,i,view,2026-01-07 12:00:00,many,2",
        "u\udcff,i,view,2026-01-07 12:00:00,1,2",
    ]
    path = sandbox.write_lines(LINES + ['"a\n""b""",i,view,2026-01-07 12:00:00,,'], "events.csv")
    path.write_bytes(path.read_bytes() + "\n".join(bad).encode("utf-8", "surrogateescape") + b"\n")
    sandbox.run()
    assert 'a\n"b"' in {row["user_id"] for row in sandbox.clean()}
    found = {row["row_number"]: row["reason"] for row in sandbox.rejected()}
    assert found == {
        12: "malformed line",
        13: "malformed line",
        14: "malformed line",
        15: "quantity is no number",
        16: "user_id is not valid UTF-8",
    }
    assert len(sandbox.clean()) == 11


@pytest.mark.parametrize(
    ("name", "lines", "format", "message"),
    [
        ("items.parquet", ["no parquet"], "parquet", "is no readable Parquet file"),
        ("items.csv", ["sku,brand", "1,b"], "csv", "no column 'item_id'"),
        ("items.jsonl", ['{"item_id": "1"}', '{"item_id":'], "jsonl", "cannot be read as jsonl"),
        ("items.csv.gz", ["item_id,brand"] + [f"{n},b{n}" for n in range(300)], "csv", "truncated or damaged gzip"),
    ],
)
def test_broken_catalogues_are_one_error(
    name: str, lines: list[str], format: str, message: str, sandbox: Sandbox, spark
) -> None:
    path = sandbox.write_lines(lines, name)
    if name.endswith(".gz"):
        path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(JobError, match=message):
        read_entities(spark, SourceTable(str(path), format), "item_id").collect()


def test_catalogue_files_with_their_columns_in_another_order_are_refused(tmp_path: Path, spark) -> None:
    """Spark would take the brands of the second for ids."""
    (tmp_path / "a.csv").write_text("item_id,brand\n1,x\n")
    (tmp_path / "b.csv").write_text("brand,item_id\ny,2\n")
    with pytest.raises(JobError, match="b.csv has the columns 'brand', 'item_id', and .*a.csv has 'item_id', 'brand'"):
        read_entities(spark, SourceTable(str(tmp_path), "csv"), "item_id")


def test_attributes_that_only_later_rows_or_files_have_are_found(tmp_path: Path, spark) -> None:
    lines = tmp_path / "items.jsonl"
    lines.write_text(
        "".join(f'{{"item_id": "{n}"}}\n' for n in range(PEEK_LINES)) + '{"item_id": "last", "brand": "b"}\n'
    )
    assert read_entities(spark, SourceTable(str(lines), "jsonl"), "item_id").where("brand = 'b'").count() == 1
    for name, columns in (("a", {"item_id": ["1"]}), ("b", {"item_id": ["2"], "brand": ["b"]})):
        (tmp_path / "parts").mkdir(exist_ok=True)
        pq.write_table(pa.table(columns), tmp_path / f"parts/{name}.parquet")
    (tmp_path / "parts/_SUCCESS").write_text("")
    for path in (tmp_path / "parts", tmp_path / "parts/*"):
        assert {row.brand for row in read_entities(spark, SourceTable(str(path)), "item_id").collect()} == {None, "b"}


def test_catalogues_have_our_names_and_keep_hostile_ids(tmp_path: Path, spark) -> None:
    file = tmp_path / "items.csv"
    file.write_text('sku,colour\n"a\n""b""",=1+1\n007,\n', encoding="utf-8")
    source = SourceTable(str(file), "csv", columns={"item_id": "sku"}, constants={"shop": "north"})
    rows = sorted(
        (row.asDict() for row in read_entities(spark, source, "item_id").collect()), key=lambda row: row["item_id"]
    )
    assert rows == [
        {"item_id": "007", "colour": None, "shop": "north"},
        {"item_id": 'a\n"b"', "colour": "=1+1", "shop": "north"},
    ]


@pytest.mark.parametrize("change", ["longer", "gone"])
def test_a_source_that_changes_while_it_is_read_leaves_what_was_published(
    change: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sandbox.write_parquet(every_day())
    sandbox.run()
    before, whole = sandbox.manifests(), validate_events.write_rejected
    sandbox.write_parquet(every_day() + [event("new", 9)])

    def meanwhile(*arguments: Any) -> dict[str, Any]:
        found = whole(*arguments)
        sandbox.write_parquet(every_day() * 2) if change == "longer" else path.unlink()
        return found

    monkeypatch.setattr(validate_events, "write_rejected", meanwhile)
    said = "was changed while it was read: it had .* bytes" if change == "longer" else "has gone while it was read"
    with pytest.raises(MayPass, match=f"events.parquet {said}.*Nothing was committed"):
        sandbox.run()
    assert sandbox.manifests() == before and len(sandbox.rejected()) == 0
