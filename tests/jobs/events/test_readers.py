"""What the importers make of the public data sets: small sources of the same shape, the real ones where they are."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from jobs.events.import_dataset import import_dataset, main, summary
from jobs.events.readers import movielens, online_retail
from jobs.events.readers.table import Options
from jobs.tables import TABLES
from tests.jobs.events.small_sources import RETAIL, RETAIL_FIRST

RETAIL_ROWS = [
    ("1", "85048", "RED TEA MUG", 12, "2010-10-31 01:30:00", 6.95, 13085.0, "United Kingdom"),
    ("1", "85048", " RED TEA MUG ", 1, "2010-03-28 01:30:00", 6.95, 13085.0, "Eire"),
    ("2", "85048", None, 1, "2010-07-01 12:00:00", 6.95, 13085.0, "United Kingdom"),
    ("2", "79323P", "odd", 1, "2010-07-01 12:00:00", 1.0, 5.0, "France"),
    ("3", "85048", "RED TEA MUG", 1, "2010-07-01 12:00:00", 6.95, None, "United Kingdom"),
    ("C4", "85048", "RED TEA MUG", -1, "2010-07-01 12:00:00", 6.95, 13085.0, "United Kingdom"),
    ("A5", "B", "Adjust bad debt", 1, "2010-07-01 12:00:00", 6.95, 13085.0, "United Kingdom"),
    ("6", "85048", "RED TEA MUG", 0, "2010-07-01 12:00:00", 6.95, 13085.0, "United Kingdom"),
    ("7", "POST", "POSTAGE", 1, "2010-07-01 12:00:00", 6.95, 13085.0, "United Kingdom"),
]


def retail_source(folder: Path) -> Path:
    pd.DataFrame(RETAIL_ROWS, columns=RETAIL).to_parquet(folder / "online_retail.parquet")
    return folder


def test_online_retail_drops_and_counts_what_is_no_purchase(tmp_path: Path) -> None:
    imported = online_retail.read(retail_source(tmp_path))
    assert list(imported.dropped.values()) == [1, 0, 1, 1, 1]
    events = imported.events.to_pylist()
    found = [(e["user_id"], e["item_id"], e["event_time"].strftime("%m-%d %H:%M")) for e in events]
    mug = ("13085", "85048")
    times = ["10-31 00:30", "03-28 01:30", "07-01 11:00"]
    assert found == [*((*mug, time) for time in times), ("5", "79323P", "07-01 11:00"), (*mug, "07-01 11:00")]
    assert [e["quantity"] for e in events] == [12, 1, 1, 1, -1], "a cancelled line is a return"
    people = [{"user_id": "13085", "country": "Eire"}, {"user_id": "5", "country": "France"}]
    assert imported.users.to_pylist() == people
    item = {"item_id": "85048", "stem": "85048", "description": "RED TEA MUG"}
    assert imported.items.select(list(item)).to_pylist()[1] == item


def first_edition(times: pd.Series) -> pd.DataFrame:
    """The same lines as the first edition calls them."""
    second = pd.DataFrame(RETAIL_ROWS, columns=RETAIL)
    return second.set_axis(RETAIL_FIRST, axis=1).assign(InvoiceDate=times)


TIMES = pd.to_datetime(pd.Series([row[4] for row in RETAIL_ROWS]))
PUBLISHED = pd.Series([f"{t.month}/{t.day}/{t.year} {t.hour}:{t.minute:02}" for t in TIMES])  # 10/31/2010 1:30


@pytest.mark.parametrize(("name", "lines"), [
    ("OnlineRetail.csv", first_edition(PUBLISHED)),
    ("data.csv.gz", first_edition(PUBLISHED).astype({"CustomerID": "Int64"})),
    ("data.csv", first_edition(TIMES)),
    ("lines.parquet", first_edition(TIMES)),
    ("lines.parquet", first_edition(TIMES.astype("datetime64[ms]")).astype({"CustomerID": "Int64"})),
    ("lines.parquet", first_edition(PUBLISHED)),
    ("lines.parquet", pd.DataFrame(RETAIL_ROWS, columns=RETAIL).assign(InvoiceDate=TIMES)),
    ("lines.csv", pd.DataFrame(RETAIL_ROWS, columns=RETAIL)),
])
@pytest.mark.parametrize("named", ["file", "folder"])
def test_online_retail_is_the_same_in_either_edition(
    name: str, lines: pd.DataFrame, named: str, tmp_path: Path
) -> None:
    (tmp_path / "second").mkdir()
    (tmp_path / "one").mkdir()
    file = tmp_path / "one" / name
    lines.to_parquet(file) if name.endswith(".parquet") else lines.to_csv(file, index=False)
    found = online_retail.read(file if named == "file" else file.parent)
    expected = online_retail.read(retail_source(tmp_path / "second"))
    assert (found.events, found.items, found.users) == (expected.events, expected.items, expected.users)
    assert found.dropped == expected.dropped and found.notes == expected.notes


def test_online_retail_in_latin_1_is_read_as_such(tmp_path: Path) -> None:
    lines = first_edition(PUBLISHED).assign(Description="£5 MUG")
    lines.to_csv(tmp_path / "data.csv", index=False, encoding="iso-8859-1")
    assert set(online_retail.read(tmp_path).items["description"].to_pylist()) == {"£5 MUG"}


def test_a_timestamp_with_a_zone_is_the_moment_that_it_says(tmp_path: Path) -> None:
    first_edition(TIMES.dt.tz_localize("America/New_York")).to_parquet(tmp_path / "lines.parquet")
    events = online_retail.read(tmp_path).events.to_pylist()
    assert events[2]["event_time"].isoformat() == "2010-07-01T16:00:00+00:00"


def test_product_words_are_the_items_own() -> None:
    """Whatever other items are called: rare words are a statistic, and statistics are those of D's graph."""
    assert online_retail.product_words("RED MUG with Pour, 12 box's red") == ["box", "mug", "red"]


def test_what_later_months_say_changes_no_item_and_no_customer(tmp_path: Path) -> None:
    source = retail_source(tmp_path)
    before = online_retail.read(source)
    rows = pd.read_parquet(source / "online_retail.parquet")
    later = [("8", "85048", "BLUE LAMP", 1, "2010-12-01 09:00:00", 6.95, 13085.0, "Norway")] * 9
    pd.concat([pd.DataFrame(later, columns=RETAIL), rows]).to_parquet(source / "online_retail.parquet")
    after = online_retail.read(source)
    assert after.items.equals(before.items) and after.users.equals(before.users)
    assert after.items["words"].to_pylist() == [["odd"], ["mug", "red", "tea"]]
    assert any("(1 items and 1 customers have others later)" in note for note in after.notes)


def test_movielens_ratings_are_three_behaviours() -> None:
    given = pd.Series([1, 2, 3, 4, 5])
    events = movielens._ratings(pd.Series(["u"] * 5), pd.Series(list("abcde")), given, np.arange(5))
    assert events.column("behavior").to_pylist() == ["disliked", "disliked", "seen", "liked", "liked"]
    assert events.column("value").to_pylist() == [1, 2, 3, 4, 5]


def test_movielens_times_follow_the_positions() -> None:
    users = np.array([1, 1, 1, 1, 2, 2, 2])
    seconds = np.array([100.0, 90.0, np.nan, 200.0, np.nan, 50.0, np.nan])
    positions = np.array([0, 1, 2, 3, 0, 1, 2])
    micros = movielens.times_in_order(users, seconds, positions)
    assert micros.tolist() == [100_000_000, 100_000_001, 100_000_002, 200_000_003, 50_000_000, 50_000_001, 50_000_002]


def test_alibaba_days_end_in_china(tmp_path: Path) -> None:
    edges = b"1\t2\t1\t20190616\n1\t2\t4\t20190617\n1\t3\t9\t20190617\n"
    (tmp_path / "ecomm_edge_train.txt.gz").write_bytes(gzip.compress(edges))
    (tmp_path / "ecomm_item_feature.txt.gz").write_bytes(gzip.compress(b"2\t33\t50\t0\t21.8\n3\t33\t51\t7\t1\n"))
    (tmp_path / "ecomm_user_feature.txt").write_text("1\t1\t5\t-1\t10\t15203.1\t1,6\n")
    imported = import_dataset("alibaba-ecomm", tmp_path, tmp_path / "out")
    events = pq.read_table(tmp_path / "out/events.parquet").to_pylist()
    found = {e["behavior"]: e["event_time"].isoformat() for e in events}
    assert found == {
        "click": "2019-06-16T15:59:59.999999+00:00", "purchase": "2019-06-17T15:59:59.999999+00:00"}
    assert imported.items["brand"].to_pylist() == [None, "7"]
    person = {"user_id": "1", "gender": "1", "age_level": "5", "education": None, "career": "10", "income": 15203.1,
              "stages": ["1", "6"]}
    assert imported.users.to_pylist() == [person]
    assert "left out: 1 rows: unknown behaviour code" in summary(imported)


def test_any_table_by_a_mapping(tmp_path: Path, spark) -> None:
    log = tmp_path / "log.csv.gz"
    good = ["a;1;2010-10-31 01:30;2", "b;2;2010-07-01;"]
    lines = ["customer;sku;at;n", *good, ";3;2010-07-01 00:00;1", "c;4;soon;1", "d;5"]
    log.write_bytes(gzip.compress("\n".join(lines).encode()))
    columns = {"user_id": "customer", "item_id": "sku", "event_time": "at", "quantity": "n"}
    options = Options(columns, {"behavior": "purchase"}, ";", "Europe/London")
    imported = import_dataset("table", log, tmp_path / "out", options)
    events = imported.events.to_pylist()
    assert [(e["user_id"], e["quantity"], e["event_time"].isoformat()) for e in events] == [
        ("a", 2.0, "2010-10-31T00:30:00+00:00"), ("b", 1.0, "2010-07-01T22:59:59.999999+00:00")]
    assert {e["behavior"] for e in events} == {"purchase"}
    assert imported.dropped == {"malformed line": 1, "unparseable event_time": 1, "user_id is null": 1}


def test_a_glob_of_tables(tmp_path: Path, spark) -> None:
    for name in ("a.csv", "b.csv", "c.txt"):
        (tmp_path / name).write_text(f"user_id,item_id,behavior,event_time\n{name},i,view,2010-07-01 12:00\n")
    imported = import_dataset("table", tmp_path / "*.csv", tmp_path / "out")
    assert imported.events["user_id"].to_pylist() == ["a.csv", "b.csv"]


TABLE = "user_id,item_id,behavior,event_time\nu,i,view,2010-07-01 12:00\n"


@pytest.mark.parametrize(("name", "text", "options", "says"), [
    ("log.csv", TABLE.replace("item_id", "sku"), [], ["no column 'item_id'", "'sku'", "--column OURS=THEIRS"]),
    ("log.csv", TABLE, ["--column", "value=price"], ["no column 'price'", "'behavior'", "--column OURS=THEIRS"]),
    ("log.csv", TABLE, ["--column", "price=value"], ["price", "our columns", "quantity"]),
    ("log.csv", "", [], ["log.csv has no rows"]),
    ("log.jsonl", "", [], ["log.jsonl has no rows"]),
    ("log.csv", TABLE.split("\n")[0] + "\n", [], ["No usable event in", "log.csv"]),
    ("log.csv", TABLE.replace("2010-07-01 12:00", "soon"), [], ["No usable event in", "unparseable event_time"]),
    ("log.parquet", TABLE, [], ["log.parquet", "no readable Parquet"]),
    ("log.csv.gz", TABLE, [], ["log.csv.gz", "is no gzip: it is text"]),
    ("log.xlsx", TABLE, [], ["log.xlsx", "ends in .parquet"]),
    ("log.csv", TABLE, ["--timezone", "Paris"], ["timezone", "'Paris'", "Europe/Berlin"]),
])
def test_a_table_that_cannot_be_read_is_one_message(
    name: str, text: str, options: list[str], says: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], spark
) -> None:
    (tmp_path / name).write_text(text)
    call = ["--format", "table", "--source", str(tmp_path / name), "--output", str(tmp_path / "out"), *options]
    assert main(call) == 1
    said = capsys.readouterr().err
    assert all(part in said for part in says), said
    assert "Traceback" not in said and not (tmp_path / "out").exists()


def test_a_table_that_is_not_there_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for source in ("empty", "nowhere", "*.csv"):
        call = ["--format", "table", "--source", str(tmp_path / source), "--output", str(tmp_path / "out")]
        assert main(call) == 1
        said = capsys.readouterr().err
        assert str(tmp_path / source) in said and ".csv" in said and "--source" in said and said.count("\n") == 1


REAL = [
    ("completejourney", "completejourney", 74_584, {"quantity 0": 416}),
    ("online-retail", "online-retail-2009-2010", 406_323 + 9_394, None),  # purchases, and returns
    ("movielens", "ml-100k", 100_000, {}),
    ("alibaba-ecomm", "alibaba-ecomm", 85_213, {"unknown behaviour code": 0}),
]


@pytest.mark.parametrize(("format", "name", "rows", "dropped"), REAL, ids=[name for _, name, *_ in REAL])
def test_real_sources(
    format: str, name: str, rows: int, dropped: dict | None, shared_data: Path, tmp_path: Path
) -> None:
    """Counts as the README of each data set has them."""
    imported = import_dataset(format, shared_data / name, tmp_path)
    assert imported.events.num_rows == rows
    returns = imported.events.filter(pc.field("quantity") < 0).num_rows
    assert returns == (9_394 if name.startswith("online-retail") else 0)
    assert dropped is None or imported.dropped == dropped
    assert pq.read_schema(tmp_path / "events.parquet").names == TABLES["clean_events"].columns
    assert all(imported.events[f.name].null_count == 0 for f in TABLES["clean_events"].fields if not f.nullable)
    for table, key in ((imported.items, "item_id"), (imported.users, "user_id")):
        assert len(set(table[key].to_pylist())) == table.num_rows
