"""Events in several tables: views in one, orders in another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from feature_store import Table
from jobs.configuration.load import load, load_settings
from jobs.configuration.messages import ConfigError
from jobs.events import fingerprint
from jobs.events.look import main
from jobs.events.night import Config, Night, open_night
from jobs.events.places import SourceError
from jobs.program import JobError
from tests.jobs.events.night import DATE, Sandbox, event, every_day
from tests.jobs.events.test_lake_tables import Delta, rows_of

ORDERS = {
    "path": "orders", "format": "csv", "columns": {"user_id": "buyer_id", "event_time": "at", "event_id": "order"},
    "constants": {"behavior": "purchase"}, "timezone": "Europe/Berlin"}


def write_orders(sandbox: Sandbox, *lines: str) -> None:
    (sandbox.folder / "orders").mkdir(exist_ok=True)
    sandbox.write_lines(["order,buyer_id,item_id,at,quantity", *lines], "orders/part-0.csv")


@pytest.fixture
def two(sandbox: Sandbox) -> Sandbox:
    """Views in Parquet, orders in CSV; ids of both count from 1, and of either a row cannot be used."""
    views = [event(row["user_id"], row["event_time"].day, event_id=n) for n, row in enumerate(every_day())]
    views.append(event(None, 7, event_id=99))
    sandbox.write_parquet(views, "views/part-0.parquet", event_id=pa.int64())
    write_orders(sandbox, "3,u1,i2,2026-01-07 12:30,2", "3,u1,i2,2026-01-07 12:30,3", "4,u2,i1,never,1")
    sandbox.source = [{"path": "views"}, ORDERS]
    return sandbox


def test_all_tables_are_read_each_in_its_own_form(two: Sandbox) -> None:
    figures = two.run()
    assert (figures["rows_in"], figures["rows_rejected"], figures["rows_repeated"]) == (14, 2, 1)
    bought = [row for row in two.clean() if row["behavior"] == "purchase"]
    assert [(row["user_id"], row["item_id"], row["event_time"].hour, row["quantity"]) for row in bought] == [
        ("u1", "i2", 11, 2.0)], "Berlin's time, and once, as its id says"
    views = [row["event_id"] for row in two.clean() if row["behavior"] == "view"]
    assert sorted(map(int, views)) == list(range(10)), "view 3 of the same day is not order 3"
    assert {row["source_file"]: row["reason"] for row in two.rejected()} == {
        "0/part-0.parquet": "user_id is null", "1/part-0.csv": "unparseable event_time"}
    held = {day: [one["name"] for one in manifest.fields["sources"]] for day, manifest in two.manifests().items()}
    assert held["2026-01-07"] == ["0/part-0.parquet", "1/part-0.csv"] and held["2026-01-08"] == ["0/part-0.parquet"]


def test_a_change_of_one_table_reaches_its_days_alone(two: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    check = fingerprint.check_whole

    def noted(file: str, *rest: str) -> None:
        read.append(Path(file).name)
        check(file, *rest)

    monkeypatch.setattr(fingerprint, "check_whole", noted)
    two.run()
    before = two.manifests()
    write_orders(two, "1,u1,i2,2026-01-09 12:30,2")
    assert two.run()["days_written"] == 2 and read == ["part-0.parquet", "part-0.csv", "part-0.csv"]
    changed = {day for day, manifest in two.manifests().items() if manifest.content_hash != before[day].content_hash}
    assert changed == {"2026-01-07", "2026-01-09"}
    assert two.run()["days_written"] == 2 and len(read) == 3, "nothing to do: the figures of before"


def test_a_small_table_that_cannot_be_read_stops_the_night(two: Sandbox) -> None:
    """Of all rows it is less than may be rejected: without it the night would go on without a purchase."""
    write_orders(two, "3,u1,i2,never,2", "4,u2,i1,07/01/2026,1")
    two.events["max_rejected_share"] = 0.25
    said = (r"2 of 2 rows of source.events\[1\] \(100.0%\) cannot be used, more than .* \(25.0%\) allows: "
            r"unparseable event_time: 2\..*one looks like '99/99/9999' .*source.events\[1\].time_format")
    with pytest.raises(JobError, match=said):
        two.run()
    assert two.manifests() == {} and len(two.rejected()) == 3
    two.source[1] = ORDERS | {"time_format": "%d/%m/%Y"}
    write_orders(two, *["4,u2,i1,07/01/2026,1"] * 4, "5,,i1,07/01/2026,1")
    assert two.run()["rows_rejected"] == 2


def test_a_table_without_an_event_in_the_window_is_told(two: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    write_orders(two)
    with caplog.at_level("WARNING", "nocturne"):
        two.run()
    assert "source.events[1] has no event in the window" in caplog.text and "source.events[0]" not in caplog.text


def test_a_log_cut_in_two_gives_the_days_of_the_whole(sandbox: Sandbox) -> None:
    bought = [event("u1", day, item_id=item, behavior="purchase") for day in (7, 9) for item in ("i1", "i1", "i2")]
    sandbox.events["deduplicate"] = "exact"
    sandbox.write_parquet([*bought, *every_day()])
    whole = sandbox.run()
    before = {day: manifest.content_hash for day, manifest in sandbox.manifests().items()}
    sandbox.write_parquet(every_day(), "views.parquet")
    sandbox.write_parquet(bought, "orders.parquet")
    sandbox.source = [{"path": "orders.parquet"}, {"path": "views.parquet"}]
    assert sandbox.run()["days_written"] == 0 and whole["rows_repeated"] == 2
    assert {day: manifest.content_hash for day, manifest in sandbox.manifests().items()} == before


def opened(sandbox: Sandbox) -> Night:
    return open_night(DATE, load(sandbox.config_file(), Config), [])


def test_a_list_of_one_table_is_that_table(sandbox: Sandbox) -> None:
    """Its nights are those of before, which have nothing to do again."""
    sandbox.write_parquet(every_day())
    alone = opened(sandbox)
    sandbox.source = [sandbox.source]
    assert opened(sandbox).record == alone.record and opened(sandbox).fingerprints == alone.fingerprints


def test_a_table_of_a_lake_beside_files_has_its_version_written_down(two: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    lake = Delta(tmp_path / "lake")
    lake.write(rows_of("xyz", 8))
    second = {"path": str(lake.path), "format": "delta"}
    two.source = [{"path": "views"}, second]
    first = opened(two)
    assert first.versions == {str(lake.path): 0}
    with Table(str(two.root / "rejected_events")).replace(str(DATE)) as commit:  # as the night leaves it
        commit.write_table(pa.table({"reason": pa.array([], pa.string())}))
        commit.fields |= {"versions": first.versions}
    lake.write(rows_of("w", 8))
    two.source = [second, {"path": "views"}]
    assert opened(two).versions == first.versions, "also where its number in the list has changed"


def test_all_tables_say_whether_there_is_anything_to_do(two: Sandbox) -> None:
    before = opened(two)
    assert sorted(Path(file).name for file in before.stamps) == ["part-0.csv", "part-0.parquet"]
    two.source = [{"path": "views"}, ORDERS | {"timezone": "UTC"}]
    assert opened(two).record["settings_hash"] != before.record["settings_hash"]
    assert opened(two).record["source_hash"] == before.record["source_hash"]


@pytest.mark.parametrize("again", [{"path": "views"}, {"path": "*/part-0.parquet"},
                                   {"path": "views/part-0.parquet", "timezone": "Europe/Berlin"}])  # fmt: skip
def test_a_file_that_two_tables_read_alike_is_refused(two: Sandbox, again: dict[str, str]) -> None:
    two.source = [{"path": "views"}, ORDERS, again]
    with pytest.raises(SourceError, match=r"source.events\[2\] reads .*part-0.parquet just as source.events\[0\] does"):
        opened(two)
    two.source = [{"path": "views"}, again | {"constants": {"behavior": "purchase"}}]
    assert len(opened(two).tables) == 2, "one row may hold two behaviours"


@pytest.mark.parametrize(("source", "said"), [
    ([], r"source.events is \[\].*; expected a table, or a list of at least one"),
    ([{"path": "views"}, {"format": "csv"}], r"Missing key 'source.events\[1\].path'"),
    ([{"path": "views"}, {"path": "orders", "colums": {}}],
     r"Unknown key 'source.events\[1\].colums'. Did you mean 'columns'"),
    ([{"path": "views"}, {"path": "orders", "columns": {"colour": "c"}}], r"source.events\[1\].columns.colour"),
    ([{"path": "views", "timezone": "Mars"}], r"source.events\[0\].timezone"),
    ("views", r"source.events is 'views' .*; expected a mapping of keys to values")])  # fmt: skip
def test_what_is_wrong_with_one_is_said_by_its_number(two: Sandbox, source: Any, said: str) -> None:
    two.source = source
    with pytest.raises(ConfigError, match=said):
        load_settings(two.config_file())


def test_a_table_that_is_not_there_is_named(two: Sandbox) -> None:
    two.source = [{"path": "views"}, ORDERS | {"path": "offers"}]
    with pytest.raises(SourceError, match=r"source.events\[1\].path"):
        two.run()
    assert two.manifests() == {}


def test_numbers_of_two_units_are_said_of_the_table_that_has_them(
    two: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    write_orders(two, "3,u1,i2,1767787200,2", "4,u1,i2,1767787200123,3")
    with pytest.raises(SourceError, match=r"source.events\[1\].time_unit"):
        two.run()
    assert main(["--config", str(two.config_file())]) == 1
    assert "source.events[1].time_unit" in capsys.readouterr().err


def test_what_a_new_user_sees_and_gets_of_two_tables(two: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    folder = two.folder
    good = [f"{n},u{n % 5},i2,2026-01-0{7 + n % 2} 12:30,2" for n in range(40)]
    write_orders(two, *good, "40,u2,i1,2026-01-08 12:,1")
    assert main(["--source", str(folder / "views"), str(folder / "orders")]) == 0
    out = capsys.readouterr().out
    assert "Events are in 2 tables" in out and out.count("  understood: ") == 2
    form = "times that cannot be read look like '9999-99-99 99:': source.events[1].time_format"
    assert form in out and "source.events[0].time_format" not in out
    proposed = yaml.safe_load(out.split("# A configuration to start from")[1].split("\n", 1)[1])
    assert [Path(one["path"]).parent.name for one in proposed["source"]["events"]] == ["views", "orders"]
    assert proposed["source"]["events"][1]["constants"] == {"behavior": "purchase"}
    assert str(proposed["events"]["earliest_event_time"]) == "2026-01-06", "the first of all, and no order's"
    assert set(proposed["events"]["behaviors"]) == {"view", "purchase"} and proposed["graph"]["purchase"] == "purchase"
    path = folder / "proposed.yaml"
    path.write_text(yaml.safe_dump(proposed))
    assert main(["--config", str(path)]) == 0
    looked = capsys.readouterr().out
    assert "source.events[0]: parquet" in looked and "source.events[1]: csv" in looked and form in looked


def test_a_table_whose_users_it_does_not_find_is_not_passed_over_in_silence(
    two: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    two.write_lines(["whom,item_id,at", *(f"u{n % 3},i{n % 2},2026-01-07 12:30" for n in range(9))], "gifts.csv")
    two.write_lines(["item_id,brand", *(f"i{n},b{n % 3}" for n in range(9))], "items.csv")
    assert main(["--source", *(str(two.folder / name) for name in ("views", "gifts.csv", "items.csv"))]) == 0
    out = capsys.readouterr().out
    assert "taken for: items, by item_id = 'item_id'; several rows have one id: if they are events" in out
    assert f"{two.folder}/gifts.csv is in no part of what follows" in out and "items.csv is in no part" not in out
