"""Numbers since 1970 of every unit and size, and texts in a configured form: read as meant, or refused by name."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from jobs.configuration.load import load_settings
from jobs.configuration.messages import ConfigError
from jobs.configuration.sections import SourceTable
from jobs.events import times
from jobs.events.damage import check_whole
from jobs.events.epochs import readings
from jobs.events.looking.plain_times import reading_of
from jobs.events.places import find_files
from jobs.events.read_events import read_events
from jobs.events.read_source import header, read_entities
from jobs.events.text_rows import TextSource, read_rows
from jobs.events.time_texts import MOST_OF_FORM, canonical, form_of
from jobs.events.times import Reading
from jobs.graphs.catalogue import Kind, validity
from jobs.program import JobError
from tests.jobs.events.night import DATE, Sandbox, at, event, every_day

UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
SECONDS = 1767607200


def read(path, spark, **settings) -> list[int | None]:
    """Microseconds of each row's time."""
    from pyspark.sql import functions as F

    source = SourceTable(str(path), **settings)
    rows = read_events(spark, source, find_files(source.path, source.format))
    return [row.at for row in rows.select(F.unix_micros("event_time").alias("at")).collect()]


def log_of(times: list, **more) -> pd.DataFrame:
    return pd.DataFrame({"user_id": [f"u{n}" for n in range(len(times))], "item_id": "i", "behavior": "view",
                         "event_time": times} | more)


def test_every_unit_is_told_by_its_size_in_every_type(tmp_path, spark, caplog) -> None:
    """A column for each unit and type, as pandas, Polars and DuckDB write them."""
    from pyspark.sql import functions as F

    numbers = {unit: [(SECONDS + n) * per for n in range(3)] for unit, per in UNITS.items()}
    made = pl.DataFrame({f"{unit} int64": column for unit, column in numbers.items()}).with_columns(
        *(pl.col(f"{unit} int64").cast(pl.UInt64).alias(f"{unit} uint64") for unit in UNITS),
        *(pl.col(f"{unit} int64").cast(pl.String).alias(f"{unit} text") for unit in UNITS),
        pl.col("s int64").cast(pl.UInt32).alias("s uint32"),
        # a double has no room for nanoseconds
        *(pl.col(f"{unit} int64").cast(pl.Float64).alias(f"{unit} double") for unit in ("s", "ms", "us")))
    decimals = ", ".join(f'"{unit} int64"::decimal(20, 0) as "{unit} decimal"' for unit in UNITS)
    duckdb.from_arrow(made.to_arrow()).project(f"*, {decimals}").write_parquet(str(tmp_path / "times.parquet"))
    frame, source = spark.read.parquet(str(tmp_path / "times.parquet")), SourceTable("times.parquet")
    with caplog.at_level(logging.INFO, "nocturne"):
        found = readings(frame, source, frame.columns, "source.events")
    assert {name: reading.unit for name, reading in found.items()} == {name: name.split()[0] for name in frame.columns}
    assert "numbers in ms double are read as milliseconds since 1970: all 3 lie" in caplog.text
    read_as = {name: times.utc(F.col(f"`{name}`"), frame.schema[name].dataType, "Europe/Berlin", False, reading)
               for name, reading in found.items()}
    rows = frame.select(*(F.unix_micros(column).alias(name) for name, column in read_as.items())).collect()
    assert len(read_as) == 20 and {value for row in rows for value in row} == {(SECONDS + n) * 10**6 for n in range(3)}


def test_texts_of_numbers_as_engines_write_them(tmp_path, spark) -> None:
    """pandas makes floats of whole numbers with gaps; Polars writes those with an exponent."""
    frame = log_of([SECONDS * 1000, None]).astype({"event_time": "float64"})
    frame.to_csv(tmp_path / "pandas.csv", index=False)
    pl.from_pandas(frame).write_csv(tmp_path / "polars.csv")
    frame.to_json(tmp_path / "pandas.jsonl", orient="records", lines=True)
    for path in sorted(tmp_path.iterdir()):
        assert sorted(read(path, spark, format=path.suffix[1:]), key=bool) == [None, SECONDS * 10**6], path.name


@pytest.mark.parametrize(("numbers", "found"), [
    ([SECONDS, SECONDS * 1000], "as seconds in 1 rows, as milliseconds in 1 rows"),
    ([SECONDS * 1000, 0], "as milliseconds in 1 rows, in no unit in 1 rows"),
    ([946_684_799, SECONDS], "as seconds in 1 rows, in no unit in 1 rows"),
    ([4_133_980_800], "in no unit in 1 rows"),
    ([20260105], "in no unit in 1 rows"),
])
def test_numbers_of_more_than_one_unit_or_of_none_are_refused(numbers, found: str, spark) -> None:
    frame, source = spark.createDataFrame([(n,) for n in numbers], "event_time bigint"), SourceTable("log.parquet")
    with pytest.raises(JobError, match=rf"numbers of column 'event_time' .*lie in the years 2000 to 2100 {found}; "
                                       "expected one unit for all. Say it: source.events.time_unit"):
        readings(frame, source, ["event_time"], "source.events")


def test_the_first_and_the_last_moment_of_these_years_are_read_and_their_neighbours_are_not(spark) -> None:
    first, last = 946_684_800, 4_133_980_799  # 2000-01-01 00:00:00, 2100-12-31 23:59:59
    ends = {unit: (first * per, (last + 1) * per - 1) for unit, per in UNITS.items()}
    frame = spark.createDataFrame(list(zip(*ends.values(), strict=True)), ", ".join(f"{unit} bigint" for unit in UNITS))
    source, itself = SourceTable("log.parquet"), {unit: unit for unit in UNITS}
    assert {name: one.unit for name, one in readings(frame, source, UNITS, "").items()} == itself
    assert {unit: reading_of(pair, source, unit, "").unit for unit, pair in ends.items()} == itself
    wrong = {f"{unit}{by}": ends[unit][by > 0] + by for unit in UNITS for by in (-1, 1)}
    frame = spark.createDataFrame([tuple(wrong.values())], ", ".join(f"`{name}` bigint" for name in wrong))
    for name, number in wrong.items():
        for refuse in (lambda name=name: readings(frame, source, [name], ""),
                       lambda name=name, number=number: reading_of([number], source, name, "")):
            with pytest.raises(JobError, match="in no unit in 1 rows"):
                refuse()


def test_a_configured_unit_is_taken_whatever_the_size(tmp_path, spark) -> None:
    log_of([0, 881250949, -1, None]).astype({"event_time": "Int64"}).to_parquet(tmp_path / "log.parquet")
    log_of(["0", "20100101", "2026-01-05T10:00Z", "x"]).to_csv(tmp_path / "log.csv", index=False)
    assert read(tmp_path / "log.parquet", spark, time_unit="s") == [0, 881250949 * 10**6, -(10**6), None]
    assert read(tmp_path / "log.parquet", spark, time_unit={"event_time": "ms"})[1] == 881250949000
    assert read(tmp_path / "log.csv", spark, format="csv", time_unit="ms") == [
        0, 20100101000, SECONDS * 10**6, None]


def test_what_is_finer_than_a_microsecond_is_cut_off(tmp_path, spark) -> None:
    """Rounded, the last nanosecond of a day would belong to the next."""
    end = 1767657600 * 10**9 - 1
    log_of([end, end - 10**9]).to_parquet(tmp_path / "log.parquet")
    assert read(tmp_path / "log.parquet", spark)[0] == end // 1000
    log_of(["1767657599.9999999"]).to_csv(tmp_path / "log.csv", index=False)
    assert read(tmp_path / "log.csv", spark, format="csv") == [1767657599999999]


FORMS = [
    ("%d/%m/%Y %H:%M", "05/01/2026 10:00", SECONDS - 3600),
    ("%m/%d/%Y %I:%M %p", "1/5/2026 10:00 AM", SECONDS - 3600),
    ("%Y/%m/%d %H:%M:%S", "2026/01/05 10:00:00", SECONDS - 3600),
    ("%a, %d %b %Y %H:%M:%S %z", "Mon, 05 Jan 2026 10:00:00 +0000", SECONDS),
    ("%d/%b/%Y:%H:%M:%S %z", "05/Jan/2026:12:00:00 +0200", SECONDS),
    ("%Y%m%d%H%M%S", "20260105100000", SECONDS - 3600),
    ("%d.%m.%Y", "05.01.2026", SECONDS + 13 * 3600 - 1e-6),
    ("%Y%m%d", "20260105", SECONDS + 13 * 3600 - 1e-6),
]


def test_a_configured_form_is_read_and_nothing_else(spark) -> None:
    from pyspark.sql import functions as F

    frame = spark.createDataFrame([(n, text) for n, (_, text, _) in enumerate(FORMS)], "n int, text string")
    columns = [times.utc(F.col("text"), frame.schema["text"].dataType, "Europe/Berlin", False, Reading(form=form))
               for form, _, _ in FORMS]
    rows = frame.orderBy("n").select(*(F.unix_micros(c) for c in columns)).collect()
    for n, (form, text, seconds) in enumerate(FORMS):
        assert rows[n][n] == round(seconds * 1e6), (form, text)
    assert sum(value is not None for row in rows for value in row) == len(FORMS)


def test_whole_numbers_that_are_days_are_read_by_their_form(tmp_path, spark) -> None:
    """As warehouses keep them."""
    log_of([20260105, 20260106]).astype({"event_time": "int32"}).to_parquet(tmp_path / "log.parquet")
    found = read(tmp_path / "log.parquet", spark, time_format="%Y%m%d")
    assert found == [(SECONDS + 14 * 3600) * 10**6 - 1, (SECONDS + 38 * 3600) * 10**6 - 1]


def test_columns_of_times_may_be_written_in_different_ways(tmp_path, spark) -> None:
    from pyspark.sql import functions as F

    log_of(["05/01/2026 10:00"], ingested_at=[SECONDS * 1000]).to_csv(tmp_path / "log.csv", index=False)
    source = SourceTable(str(tmp_path / "log.csv"), "csv", time_format={"event_time": "%d/%m/%Y %H:%M"})
    (row,) = read_events(spark, source, [source.path]).select(
        F.unix_micros("event_time").alias("a"), F.unix_micros("ingested_at").alias("b")).collect()
    assert (row.a, row.b) == (SECONDS * 10**6, SECONDS * 10**6)


@pytest.mark.parametrize("written", ["1767607200000", "05/01/2026 10:00"])
def test_validity_is_read_in_the_same_ways(written: str, tmp_path, spark) -> None:
    from pyspark.sql import functions as F

    path = tmp_path / "items.csv"
    path.write_text(f"item_id,valid_from\n1,{written}\n2,\n")
    form = {"valid_from": "%d/%m/%Y %H:%M"} if "/" in written else None
    source = SourceTable(str(path), "csv", time_format=form)
    frame = read_entities(spark, source, "item_id")
    _, since = validity(frame, Kind("item", source, {}), DATE)
    assert [row.at for row in frame.select(F.unix_seconds(since).alias("at")).collect()] == [SECONDS, None]


def test_a_night_of_milliseconds(sandbox: Sandbox) -> None:
    rows = [row | {"event_time": int(row["event_time"].timestamp() * 1000)} for row in every_day()]
    sandbox.write_parquet(rows, event_time=pa.int64())
    assert sandbox.run()["rows_out"] == 10
    assert sorted({row["event_time"] for row in sandbox.clean()}) == [at(day) for day in range(6, 11)]


def test_the_message_names_the_form_of_a_rejected_time_and_never_the_time(sandbox: Sandbox) -> None:
    sandbox.events["max_rejected_share"] = 0.1
    sandbox.write_parquet([event("u", 7, event_time="05/Jän/2026 07:41")] * 3, event_time=pa.string())
    with pytest.raises(JobError, match=r"unparseable event_time: 3.*looks like '99/aaa/9999 99:99'.*time_format") as no:
        sandbox.run()
    assert "2026 07" not in str(no.value) and "Jän" not in str(no.value)


def test_a_log_without_a_readable_time_is_told_the_setting_also_where_all_may_be_rejected(sandbox: Sandbox) -> None:
    sandbox.write_parquet([event("u", 7, event_time="secret1")], event_time=pa.string())
    with pytest.raises(JobError, match=r"no event with a usable time\. Mend the source, or say .*'aaaaaa9'") as error:
        sandbox.run()
    assert "secret" not in str(error.value) and "\n" not in str(error.value)


def test_forms_are_bounded_and_plain() -> None:
    assert form_of("Ünal 12:٣\n\u202e") == "aaaa 99:9??"
    assert form_of("x" * 100) == "a" * MOST_OF_FORM + "…"
    assert canonical("2026-01-05T10:00:00Z\n") is None


@pytest.mark.parametrize(("setting", "message"), [
    ({"time_unit": "m"}, "source.events.time_unit is 'm'.*one of 's', 'ms', 'us', 'ns'"),
    ({"time_unit": {"valid_from": "s"}}, "source.events.time_unit.valid_from.*event_time, ingested_at"),
    ({"time_unit": "s", "time_format": "%Y%m%d"}, "time_format.*a unit or a form, not both"),
    ({"time_format": "%H:%M"}, "time_format.*year, month and day"),
    ({"time_format": "%Q"}, "time_format.*strptime"),
    ({"time_format": "yyyy-MM-dd"}, "time_format.*strptime"),
    ({"time_format": "%Y-%m-%d %Z"}, "time_format.*without %Z"),
    ({"time_format": {"event_time": 5}}, "time_format.event_time is 5"),
    ({"encoding": "klingon"}, "encoding is 'klingon'"),
    ({"encoding": "base64"}, "encoding is 'base64'"),
    ({"encoding": "latin-1", "format": "jsonl"}, "encoding is 'latin-1'.*format: csv"),
])
def test_a_wrong_setting_is_told_by_its_path(setting: dict, message: str, sandbox: Sandbox) -> None:
    sandbox.source |= setting
    with pytest.raises(ConfigError, match=message):
        load_settings(sandbox.config_file())


def write_encoded(path: Path, lines: list[str], encoding: str) -> Path:
    content = "".join(f"{line}\r\n" for line in lines).encode(encoding)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def test_wide_text_without_its_mark_or_cut_off_is_one_message_or_one_bad_row(sandbox: Sandbox) -> None:
    lines = ["user_id,item_id,behavior,event_time", *[f"u{n},i,view,2026-01-06 10:00" for n in range(9)]]
    path = write_encoded(sandbox.folder / "events.csv", lines, "utf-16-le")
    sandbox.source |= {"path": "events.csv", "format": "csv", "encoding": "utf-16"}
    with pytest.raises(JobError, match=r"events.csv is no text in UTF-16 .*utf-16-le") as error:
        sandbox.run()
    assert "\n" not in str(error.value)
    sandbox.source["encoding"] = "utf-16-le"
    path.write_bytes(b"\xff\xfe" + path.read_bytes()[:-7])
    figures = sandbox.run()
    assert (figures["rows_out"], figures["rejected_by_reason"]) == (8, {"event_time is not valid UTF-16-LE": 1})


@pytest.mark.parametrize(("encoding", "text"), [
    ("latin-1", "Crème brûlée"), ("cp1252", "5 € “x”"), ("utf-16", "Crème 茶"), ("utf-16-le", "茶"),
    ("utf-16-be", "茶"), ("shift_jis", "抹茶"), ("utf-8", "Crème 茶"), ("utf-8-sig", "茶"), ("UTF8", "茶")])
@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
def test_a_csv_of_any_encoding(encoding: str, text: str, ending: str, tmp_path) -> None:
    path = str(write_encoded(tmp_path / f"a.{ending}", [f'"{text}",b', f'"{text}\n",2'], encoding))
    check_whole(path, "csv", encoding)
    assert header(SourceTable(path, "csv", encoding=encoding), path) == [text, "b"]
    rows = list(read_rows(path, TextSource("csv", {}, encoding=encoding)))
    assert rows == [(None, {text: f"{text}\n", "b": "2"})]


def test_a_night_and_a_catalogue_of_another_encoding(sandbox: Sandbox, spark) -> None:
    lines = ["user_id,item_id,behavior,event_time"] + [f"Crème,“x”,view,2026-01-{d:02d} 10:00" for d in (6, 7)]
    write_encoded(sandbox.folder / "events.csv", lines, "cp1252")
    sandbox.source |= {"path": "events.csv", "format": "csv", "encoding": "cp1252"}
    assert sandbox.run()["rows_rejected"] == 0
    assert {(row["user_id"], row["item_id"]) for row in sandbox.clean()} == {("Crème", "“x”")}
    path = write_encoded(sandbox.folder / "items.csv", ["item_id,name", "007,Crème"], "cp1252")
    (row,) = read_entities(spark, SourceTable(str(path), "csv", encoding="cp1252"), "item_id").collect()
    assert (row.item_id, row["name"]) == ("007", "Crème")


def test_a_wrong_encoding_is_told_with_the_setting(sandbox: Sandbox, spark) -> None:
    sandbox.events["max_rejected_share"] = 0.0
    lines = ["user_id,item_id,behavior,event_time", "Crème,i,view,2026-01-06 10:00", "u,i,view,2026-01-07 10:00"]
    sandbox.write_lines(lines, "events.csv", "latin-1")
    sandbox.source |= {"path": "events.csv", "format": "csv"}
    with pytest.raises(JobError, match="user_id is not valid UTF-8: 1.*source.events.encoding"):
        sandbox.run()
    path = sandbox.write_lines(["item_id,name", "1,Crème"], "items.csv", "latin-1")
    source = SourceTable(str(path), "csv", encoding="ascii")
    with pytest.raises(Exception, match="name is not valid ASCII in row 1 of items.csv"):
        read_entities(spark, source, "item_id").collect()
