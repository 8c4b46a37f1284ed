"""`python -m jobs.events.look`: what it says of a source is what a night makes of it, and it says no value."""

from __future__ import annotations

import datetime
import functools
import gzip
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from jobs.configuration.load import load_settings
from jobs.configuration.sections import SourceTable
from jobs.events import look
from jobs.events.look import main
from jobs.events.looking import proposal, sample
from jobs.events.looking.column_kinds import examples, look_at
from jobs.events.looking.plain_judge import judged
from jobs.events.looking.plain_times import moment
from jobs.events.looking.sample import take
from jobs.events.times import Reading
from tests.jobs.events.night import Sandbox, at, event, every_day
from tests.jobs.events.test_times import NO_TIMES, TEXTS

AT = datetime.datetime(2026, 1, 7, 12)


def said(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> str:
    assert main([str(one) for one in arguments]) == status
    out = capsys.readouterr()
    return out.err if status else out.out


def proposed(text: str) -> str:
    return text[text.index("# A configuration to start from"):]


def test_times_without_spark_are_those_of_spark() -> None:
    for text, zone, day_only, expected in TEXTS:
        found = moment(text, Reading(), zone, day_only)
        assert found == datetime.datetime.fromisoformat(expected).replace(tzinfo=datetime.UTC), text
    assert [text for text in NO_TIMES if moment(text, Reading(), "UTC") is not None] == []


VALUES = [  # value, reading, microseconds since 1970
    (1767607200123, Reading("ms"), 1767607200123000), ("1767607200.9999999", Reading("s"), 1767607200999999),
    (1767607200123456789, Reading("ns"), 1767607200123456), (Decimal("1767607200"), Reading("s"), 1767607200000000),
    (1.7676072e9, Reading("s"), 1767607200000000), (float("nan"), Reading("s"), None), (1e300, Reading("s"), None),
    (20260105, Reading(form="%Y%m%d"), 1767657599999999), ("20260105", Reading("s", True), 20260105000000),
    (True, Reading("s"), None), (AT, Reading(), 1767787200000000), (AT.date(), Reading(), 1767830399999999)]


@pytest.mark.parametrize(("value", "reading", "micros"), VALUES)
def test_values_of_other_types_as_well(value: object, reading: Reading, micros: int | None) -> None:
    found = moment(value, reading, "UTC")
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    assert (found and (found - epoch) // datetime.timedelta(microseconds=1)) == micros


def test_what_it_counts_is_what_the_night_counts(sandbox: Sandbox) -> None:
    """Rows of every kind, in the window of the night."""
    rows = every_day() + [
        event(None, 7), event("u", 7, item_id="a\0b"), event("é" * 513, 7), event("u", 7, behavior="sneeze"),
        event("u", 7, behavior=None), event("u", 7, value=float("nan")), event("u", 7, quantity=float("-inf")),
        event("u", 1), event("u", 7, event_time=None), event("r", 7, behavior="purchase", value=-2.0),
        event("r", 7, quantity=-1.0), event("u", 7, event_id="x" * 1025)]
    sandbox.write_parquet(rows)
    figures = sandbox.run()
    settings = load_settings(sandbox.config_file())
    found = judged(take(settings.source.events, ""), settings.events, settings.graph.purchase)
    assert dict(found.reasons) == figures["rejected_by_reason"]
    assert (found.rows, found.rejected, found.returns) == (
        figures["rows_in"], figures["rows_rejected"], figures["rows_returned"])
    assert dict(found.days) == {day: n for day, n in figures["rows_by_day"].items() if n}


def test_lines_of_text_are_counted_like_the_night_does(sandbox: Sandbox) -> None:
    sandbox.source |= {"path": "events.csv", "format": "csv", "timezone": "Europe/Berlin"}
    lines = ["user_id,item_id,behavior,event_time,value,ingested_at", "u,i,view,2026-01-07 12:00:00,1,", "u,i,view",
             "u,i,view,07/01/2026,,", "u,i,view,2026-01-07T12:00Z,many,", "u,i,view,20260108,,yesterday"]
    path = sandbox.write_lines(lines, "events.csv")
    path.write_bytes(path.read_bytes() + b"\xff,i,view,2026-01-07 12:00:00,1,\n")
    figures = sandbox.run()
    settings = load_settings(sandbox.config_file())
    found = judged(take(settings.source.events, ""), settings.events, settings.graph.purchase)
    assert dict(found.reasons) == figures["rejected_by_reason"] and len(found.reasons) == 5
    assert dict(found.forms) == {"99/99/9999": 1}


def test_a_configuration_is_looked_at_source_by_source(sandbox: Sandbox, capsys) -> None:
    sandbox.write_parquet([*every_day(), event("secret-user-1", 7, behavior="sneeze"), event("r", 7, quantity=-1.0)])
    items = pd.DataFrame({
        "item_id": [f"i{n}" for n in range(40)], "cats": [f"c{n % 3}|c{n % 5}" if n % 4 else "c1" for n in range(40)],
        "title": [f"thing {n}" for n in range(40)], "price": [n * 1.37 for n in range(40)]})
    items.to_csv(sandbox.folder / "items.csv", index=False)
    tree = yaml.safe_load(sandbox.config_file().read_text())
    tree["source"]["items"] = {"path": "items.csv", "format": "csv", "columns": {"category": "cats"}}
    tree["graph"]["item_attributes"] = {"category": {}, "title": {}, "price": {}, "weight": {}}
    path = sandbox.folder / "my.yaml"
    path.write_text(yaml.safe_dump(tree))
    text = said(capsys, "--config", path)
    for line in (
        "source.events: parquet, 1 file, 0.0 MB, 12 rows; looked at all", "times: 2026-01-06 12:00 to 2026-01-10 12:00",
        "behaviours: view 11, sneeze 1 (not in events.behaviors)", "rejected: 1 of 12 rows, 8.3%",
        "unknown behavior: 1", "returns: 1 rows of negative quantity or value; events.returns: drop",
        "source.items: csv, 1 file, 0.0 MB, 40 rows", "category: looks like lists, cut at '|': 5 values; columns: "
        "{category: {column: cats, separator: '|'}} under source.items", "title: ids: nearly all different",
        "price: numbers, 40 different; type: number", "weight: no column 'weight'", "'aaaaaa-aaaa-9'",
    ):
        assert line in text, line
    assert "secret-user" not in text and "thing 1" not in text


def test_from_nothing_to_a_configuration_that_runs(sandbox: Sandbox, tmp_path: Path, capsys, monkeypatch) -> None:
    """What a new user does: look, write down what it proposes, run the night."""
    lake = tmp_path / "lake"
    lake.mkdir()
    rows = every_day() * 3
    with gzip.open(lake / "orders.csv.gz", "wt") as file:
        file.write("Customer ID;SKU;ts;price\n")
        file.writelines(f"u{n % 7};i{n};{int(at(6 + n % 5).timestamp() * 1000)};{n}.5\n" for n in range(len(rows)))
    pd.DataFrame({"sku": [f"i{n}" for n in range(30)], "brand": ["a", "b"] * 15,
                  "tags": ["x|y", "y|z|x", "z"] * 10}).to_parquet(lake / "items.parquet")
    (lake / "README.md").write_text("about")
    text = said(capsys, "--source", lake)
    assert "taken for: events, by user_id = 'Customer ID', item_id = 'SKU', event_time = 'ts'" in text
    assert "milliseconds since 1970" in text and "rejected: none" in text
    path = tmp_path / "my.yaml"
    path.write_text(proposed(text))
    settings, proposed_tree = load_settings(path), yaml.safe_load(proposed(text))
    assert settings.graph.item_attributes.keys() == {"brand", "tags"}
    assert settings.source.items.separators == {"tags": "|"} and settings.source.events.delimiter == ";"
    assert settings.events.behaviors == ["purchase"]
    assert settings.spark.conf == load_settings(Path("jobs/configs/demo.yaml")).spark.conf, "as of small logs"
    monkeypatch.setattr(proposal, "SMALL", 1000)
    assert yaml.safe_load(proposed(said(capsys, "--source", lake))).keys() == proposed_tree.keys() - {"spark"}
    text = said(capsys, "--config", path)
    assert "rejected: none" in text and "7 users, 30 items, 5 days" in text


ROW = {"user": "1", "item": "2", "ts": "1767607200", "event": "view"}
BEHAVIORS = {"buy.csv": "purchase", "u_click.csv": "click", "views_.csv": "view"}


def written(header: str, rows: int) -> str:
    return f"{header}\n" + (",".join(ROW[name] for name in header.split(",")) + "\n") * rows


def proposed_of(lake: Path, capsys: pytest.CaptureFixture[str], header: str, *names: str) -> list[tuple[str, object]]:
    """(path, behaviour) of each table that a folder of such files is taken for."""
    lake.mkdir()
    for name in names:
        (lake / name).write_text(written(header, 3))
    events = yaml.safe_load(proposed(said(capsys, "--source", lake)))["source"]["events"]
    listed = events if isinstance(events, list) else [events]
    return [(Path(one["path"]).name, one.get("constants", {}).get("behavior")) for one in listed]


def test_files_that_are_a_behaviour_each_are_a_table_each(tmp_path: Path, capsys) -> None:
    assert proposed_of(tmp_path / "a", capsys, "user,item,ts", *BEHAVIORS) == list(BEHAVIORS.items())
    with_others = proposed_of(tmp_path / "b", capsys, "user,item,ts", *BEHAVIORS, "README.md")
    assert with_others == list(BEHAVIORS.items())


def test_files_of_one_behaviour_or_with_a_column_of_them_are_one_table(tmp_path: Path, capsys) -> None:
    header = "user,item,ts"
    assert proposed_of(tmp_path / "views", capsys, header, "view_1.csv", "view_2.csv") == [("views", "view")]
    assert proposed_of(tmp_path / "lake", capsys, header, "1.csv", "buy.csv") == [("lake", "view")]
    assert proposed_of(tmp_path / "said", capsys, "user,event,item,ts", *BEHAVIORS) == [("said", None)]


def test_of_rows_that_were_not_all_looked_at_earlier_ones_are_let_in(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sample, "MOST_ROWS", 100)
    monkeypatch.setattr(look, "take", functools.partial(take, most_rows=100))
    for rows, expected in ((101, "2025-01-01"), (10, "2026-01-05")):
        (tmp_path / "buy.csv").write_text(written("user,item,ts", rows))
        tree = yaml.safe_load(proposed(said(capsys, "--source", tmp_path / "buy.csv")))
        assert str(tree["events"]["earliest_event_time"]) == expected


CASES = {  # name → (content, what is said)
    "no names.csv": ("1,2,3\n4,5,6\n", "no names of columns but values, '9,9,9'"),
    "odd.dat": ("1::2::3\n4::5::6\n", "separated by '::'"),
    "one.txt": ("alone\nalone\n", "one column"),
    "array.json": ('[{"user_id": 1}]', "not one object a line"),
    "empty.csv": ("", "it is empty"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_no_source_can_be_is_said(name: str, tmp_path: Path, capsys) -> None:
    content, expected = CASES[name]
    (tmp_path / name).write_text(content)
    text = said(capsys, "--source", tmp_path / name)
    assert expected in text and "No events among them" in text


def test_what_is_wrong_with_a_file_is_said_where_it_is_named_twice(tmp_path: Path, capsys) -> None:
    (tmp_path / "empty.csv").write_text("")
    text = said(capsys, "--source", tmp_path / "empty.csv", tmp_path / "empty.csv")
    assert text.count("it is empty") == 1 and "No events among them" in text


def test_a_source_that_is_not_there_or_damaged_is_one_message(sandbox: Sandbox, tmp_path: Path, capsys) -> None:
    assert "Nothing to read at" in said(capsys, "--source", tmp_path / "nowhere", status=1)
    path = sandbox.write_parquet(every_day())
    path.write_bytes(path.read_bytes()[:100])
    assert "events.parquet is cut off" in said(capsys, "--config", sandbox.config_file(), status=1)
    assert "No configuration at" in said(capsys, "--config", tmp_path / "none.yaml", status=2)


def test_numbers_of_two_units_are_said_as_the_night_says_them(sandbox: Sandbox, capsys) -> None:
    rows = [event("u", 7, event_time=n) for n in (1767607200, 1767607200000)]
    sandbox.write_parquet(rows, event_time=pa.int64())
    text = said(capsys, "--config", sandbox.config_file(), status=1)
    assert "as seconds in 1 rows, as milliseconds in 1 rows; expected one unit" in text


@pytest.mark.parametrize(("values", "kind"), [
    ([f"a{n % 3}|b{n % 4}" if n % 3 else "a1" for n in range(100)], "list"),
    ([f"2026-01-{1 + n % 28:02d}" for n in range(50)], "time"),
    ([f"{1 + n % 28}/12/2026 10:00" for n in range(50)], "time"), ([f"id-{n}" for n in range(50)], "id"),
    ([n % 5 for n in range(50)], "code"), ([n / 7 for n in range(50)], "number"),
    ([f"{n % 9}00.0" for n in range(50)], "code"), (["Anna Lee", "Bo Li"] * 20, "code"), ([], "nothing"),
    ([["a"], ["b"]], "list"), ([AT], "time"), (["a very long text indeed " * 4 + str(n) for n in range(30)], "text")])
def test_kinds_of_columns(values: list, kind: str) -> None:
    assert look_at(values).kind == kind


def test_examples_are_masked_and_hostile_text_is_shown_plainly() -> None:
    assert examples(["\x1b[31mBob\u202e 7", "Ann 81"]) == ["?[99aaaa? 9", "aaa 99"]


def test_of_many_files_some_are_read_and_all_are_counted(tmp_path: Path) -> None:
    table = pa.table({"user_id": ["u"] * 10, "item_id": ["i"] * 10, "behavior": ["view"] * 10, "event_time": [AT] * 10})
    for n in range(50):
        pq.write_table(table, tmp_path / f"{n:02d}.parquet")
    sample = take(SourceTable(str(tmp_path)), "", most_rows=60)
    assert (len(sample.files), len(sample.looked_at), sample.total, len(sample.rows)) == (50, 20, 500, 60)
    assert {Path(file).name for file in sample.looked_at} >= {"00.parquet", "49.parquet"} and not sample.is_whole


def test_rows_that_were_not_read_are_not_called_all(tmp_path: Path, capsys, monkeypatch) -> None:
    """Neither of a short file beside a long one, nor of a catalogue."""
    (tmp_path / "a.csv").write_text(written("user,item,ts,event", 80))
    (tmp_path / "b.csv").write_text(written("user,item,ts,event", 9))
    monkeypatch.setattr(sample, "MOST_ROWS", 100)
    assert not take(SourceTable(str(tmp_path / "*.csv"), "csv"), "", 100).is_whole
    assert take(SourceTable(str(tmp_path / "*.csv"), "csv"), "", 200).is_whole
    assert not take(SourceTable(str(tmp_path / "a.csv"), "csv"), "", 50).is_whole


def test_times_of_rows_that_fall_for_another_reason_are_not_called_unreadable(sandbox: Sandbox, capsys) -> None:
    sandbox.source |= {"path": "events.csv", "format": "csv"}
    sandbox.write_lines(["user_id,item_id,behavior,event_time,value", 'u,i,view,2026-01-07,"9,99"'], "events.csv")
    text = said(capsys, "--config", sandbox.config_file())
    assert "times: of no row that can be used" in text and "none that can be read" not in text
    said_of = "look like '9,99': they are read as 1234.5, or as 1234,5 with source.events.decimal"
    assert said_of in text
    sandbox.write_lines(["user_id,item_id,behavior,event_time,value", "u,i,view,7/1/26,9"], "events.csv")
    assert "times: none that can be read" in said(capsys, "--config", sandbox.config_file())


def test_of_json_lines_no_column_is_said_that_is_not_there(tmp_path: Path, capsys) -> None:
    """They may first occur anywhere, so a night looks for all of ours."""
    (tmp_path / "x.jsonl").write_text('{"user_id": "u", "item_id": "i", "event_time": "2026-01-05T10:00"}\n' * 3)
    assert "user_id = 'user_id'" in (text := said(capsys, "--source", tmp_path)) and "ingested_at" not in text


@pytest.mark.parametrize(("times", "said_of"), [
    (["2026-01-05 00:00:00", "2026-07-06 00:00:00", "2026-07-07 00:00:00"], "22:00 or 23:00"),
    (["1767542400", "1767628800", "1767715200"], "16:00"),
    (["2026-01-05 00:00:00", "2026-01-06 00:00:00", "2026-01-07 00:30:00"], ""),
    (["2026-01-05", "2026-01-06", "2026-01-07"], "")])
def test_midnights_are_said_to_be_days_perhaps(times: list[str], said_of: str, sandbox: Sandbox, capsys) -> None:
    """An event that is known to the day counts from its end; a midnight would count before it has happened."""
    sandbox.source |= {"path": "events.csv", "format": "csv", "timezone": "Europe/Berlin"}
    sandbox.write_lines(["user_id,item_id,behavior,event_time", *(f"u,i,view,{time}" for time in times)], "events.csv")
    hint = f"every time is at {said_of} UTC: where that is midnight"
    text = said(capsys, "--config", sandbox.config_file())
    assert hint in text if said_of else "every time is at" not in text
    sandbox.source |= {"day_only": True}
    assert "every time is at" not in said(capsys, "--config", sandbox.config_file())


def test_behaviours_that_are_no_names_get_one(sandbox: Sandbox, tmp_path: Path, capsys) -> None:
    """From a look to a night: the source's words are written down once."""
    words = ["Ansehen", "Add to Cart", "Käufe", "点击", "view"]
    lines = [f"u{n % 4},i{n % 6},2026-01-{6 + n % 5:02} 12:00,{word}" for n, word in enumerate(words * 20)]
    sandbox.write_lines(["user_id,item_id,time,event", *lines], "events.csv")
    text = said(capsys, "--source", tmp_path / "events.csv")
    assert "No behaviour is called like a purchase: graph.purchase below is the most frequent one" in text
    tree = yaml.safe_load(proposed(text))
    named = {"Ansehen": "ansehen", "Add to Cart": "add_to_cart", "Käufe": "kaufe", "点击": "behavior_4"}
    assert tree["source"]["events"]["behaviors"] == named
    assert set(tree["events"]["behaviors"]) == {*named.values(), "view"}
    path = tmp_path / "my.yaml"
    path.write_text(yaml.safe_dump(tree))
    text = said(capsys, "--config", path)
    assert "behavior 'Add to Cart' as 'add_to_cart'" in text and "rejected: none" in text
    sandbox.source, sandbox.events["behaviors"] = tree["source"]["events"], [*tree["events"]["behaviors"], "purchase"]
    figures = sandbox.run()
    assert figures["rows_rejected"] == 0 and {row["behavior"] for row in sandbox.clean()} == {*named.values(), "view"}


def test_it_starts_no_spark(sandbox: Sandbox) -> None:
    sandbox.write_parquet(every_day())
    code = ("import sys; from jobs.events.look import main; "
            f"status = main(['--config', {str(sandbox.config_file())!r}]); "
            "sys.exit(status or 'pyspark' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


WITH_EVENTS = {"completejourney": "purchase 75,000", "jd-sample": "purchase 999", "ml-100k": "rate 100,000",
               "online-retail-2009-2010": "column 'Customer ID' (our 'user_id') is of type double",
               "sslrec-ijcai15": "behavior: purchase"}


@pytest.mark.parametrize("name", WITH_EVENTS)
def test_published_data_sets(name: str, shared_data: Path, capsys) -> None:
    text = said(capsys, "--source", shared_data / name)
    assert WITH_EVENTS[name] in text and "# A configuration to start from" in text


def test_folders_without_events_say_so(shared_data: Path, capsys) -> None:
    for name in ("gatne-amazon", "fb15k-237"):
        assert "No events among them" in said(capsys, "--source", shared_data / name)
