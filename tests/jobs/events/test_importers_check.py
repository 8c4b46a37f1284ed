"""Every importer checks its source: what is missing, empty or of another kind is one message, nothing is written."""

from __future__ import annotations

import dataclasses
import gzip
from pathlib import Path

import pandas as pd
import pytest

from jobs.events.import_dataset import main
from tests.jobs.events.small_sources import SOURCES, Part, write

PARTS = [(case, i) for case, (_, parts) in SOURCES.items() for i in range(len(parts()))]
COLUMNS = [(case, i, name) for case, i in PARTS for name in SOURCES[case][1]()[i].columns]


class Tried:
    """What the program says of a source."""

    def __init__(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        self.capsys, self.output = capsys, tmp_path / "out"

    def status(self, format: str, source: Path, *options: str) -> int:
        return main(["--format", format, "--source", str(source), "--output", str(self.output), *options])

    def refused(self, format: str, source: Path, *options: str) -> str:
        """The message with which a source is refused."""
        assert self.status(format, source, *options) == 1
        said = self.capsys.readouterr()
        assert not said.out and said.err.count("\n") == 1, "one message"
        assert "Traceback" not in said.err and not self.output.exists()
        return said.err


@pytest.fixture
def tried(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Tried:
    return Tried(capsys, tmp_path)


def without(part: Part, column: str) -> Part:
    return dataclasses.replace(part, columns={name: values for name, values in part.columns.items() if name != column})


def otherwise(part: Part) -> Part:
    """A text gzipped where it is not, and unpacked where it is."""
    name = part.name.removesuffix(".gz") if part.name.endswith(".gz") else f"{part.name}.gz"
    return dataclasses.replace(part, name=name) if part.separator else part


@pytest.mark.parametrize("case", SOURCES)
def test_the_small_sources_are_read(case: str, tried: Tried, tmp_path: Path) -> None:
    format, parts = SOURCES[case]
    assert tried.status(format, write(tmp_path / "source", parts())) == 0


@pytest.mark.parametrize("case", SOURCES)
def test_gzipped_or_not_is_all_one(case: str, tried: Tried, tmp_path: Path) -> None:
    format, parts = SOURCES[case]
    assert tried.status(format, write(tmp_path / "source", [otherwise(part) for part in parts()])) == 0


@pytest.mark.parametrize(("case", "gone"), PARTS)
def test_a_missing_file_is_named_with_what_was_found_and_what_would_do(
    case: str, gone: int, tried: Tried, tmp_path: Path
) -> None:
    format, parts = SOURCES[case]
    kept = [part for i, part in enumerate(parts()) if i != gone]
    said = tried.refused(format, write(tmp_path / "source", [*kept, Part("notes.txt", {"a": ["b"]}, "\t")]))
    missing = "online_retail.parquet" if format == "online-retail" else parts()[gone].name.removesuffix(".gz")
    assert missing in said and "notes.txt" in said and "--source" in said
    assert all(part.name in said for part in kept)


@pytest.mark.parametrize(("case", "i", "gone"), COLUMNS)
def test_a_missing_column_is_named_with_what_was_found(
    case: str, i: int, gone: str, tried: Tried, tmp_path: Path
) -> None:
    format, parts = SOURCES[case]
    broken = parts()
    broken[i] = without(broken[i], gone)
    said = tried.refused(format, write(tmp_path / "source", broken))
    assert broken[i].name in said and gone in said
    if broken[i].header is None:
        assert f"has {len(broken[i].columns)} columns" in said and f"expected {len(broken[i].columns) + 1}: " in said
    else:
        assert "has no column" in said and all(repr(name) in said for name in broken[i].columns)


@pytest.mark.parametrize(("case", "i"), PARTS)
@pytest.mark.parametrize("kind", ["no byte", "no row", "other bytes"])
def test_an_empty_or_damaged_file_is_named(case: str, i: int, kind: str, tried: Tried, tmp_path: Path) -> None:
    format, parts = SOURCES[case]
    broken = parts()
    if kind == "no row":
        broken[i] = dataclasses.replace(broken[i], columns={name: [] for name in broken[i].columns})
    source = write(tmp_path / "source", broken)
    if kind != "no row":
        (source / broken[i].name).write_bytes(b"" if kind == "no byte" else b"\x00\xff\xfe\x81;,:\n\x9d")
    said = tried.refused(format, source)
    assert broken[i].name in said


@pytest.mark.parametrize("case", [case for case, (format, _) in SOURCES.items() if format != "online-retail"])
def test_a_file_in_the_folders_place_is_said_to_be_one(case: str, tried: Tried, tmp_path: Path) -> None:
    format, parts = SOURCES[case]
    part = parts()[0]
    said = tried.refused(format, write(tmp_path / "source", parts()) / part.name)
    assert "is a file" in said and part.name.removesuffix(".gz") in said and "folder" in said


@pytest.mark.parametrize("format", sorted({format for format, _ in SOURCES.values()}))
def test_an_empty_folder_and_no_folder(format: str, tried: Tried, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "nothing" in tried.refused(format, tmp_path / "empty")
    assert "Nothing at" in tried.refused(format, tmp_path / "nowhere")


@pytest.mark.parametrize(("case", "i", "column", "value", "expected"), [
    ("completejourney", 0, "quantity", "about 3", "a number"),
    ("completejourney", 0, "sales_value", "3,50", "a number"),
    ("completejourney", 0, "transaction_timestamp", "28.1.2017", "%Y-%m-%d"),
    ("online retail", 0, "InvoiceDate", "13/1/2010 8:26", "%m/%d/%Y"),
    ("online retail", 0, "UnitPrice", "£2.55", "a number"),
    ("online retail II", 0, "Quantity", "a dozen", "a number"),
    ("movielens 100k", 0, "timestamp", "yesterday", "a number"),
    ("movielens 100k", 0, "timestamp", "", "a whole number"),
    ("movielens 100k", 0, "rating", "good", "a number"),
    ("movielens 100k", 2, "age", "49.5", "a whole number"),
    ("movielens 1m", 0, "position", "0.5", "a whole number"),
    ("movielens 1m", 0, "ts_exact", "noon", "a number"),
    ("movielens 1m", 2, "age", "old", "a number"),
    ("alibaba", 0, "day", "2019-06-17", "%Y%m%d"),
    ("alibaba", 1, "price", "cheap", "a number"),
    ("alibaba", 2, "income", "high", "a number"),
])
def test_a_value_of_another_kind_is_named_with_its_row(
    case: str, i: int, column: str, value: str, expected: str, tried: Tried, tmp_path: Path
) -> None:
    format, parts = SOURCES[case]
    broken = parts()
    rows = len(broken[i].columns[column])
    broken[i].columns[column][-1] = value
    if not broken[i].separator:
        broken[i].columns[column][:] = [str(value) for value in broken[i].columns[column]]
    said = tried.refused(format, write(tmp_path / "source", broken))
    assert broken[i].name in said and repr(column) in said and expected in said
    assert f"{value!r} in row {rows}" in said or (not value and f"None in row {rows}" in said)


def test_lines_of_another_length_are_no_table(tried: Tried, tmp_path: Path) -> None:
    source = write(tmp_path / "source", SOURCES["alibaba"][1]())
    (source / "ecomm_user_feature.txt").write_text("1\t1\t5\t-1\t10\t15203.1\t1,6\n1\t1\t5\t-1\t10\t15203.1\t1,6\tx\n")
    assert "ecomm_user_feature.txt" in tried.refused("alibaba-ecomm", source)


def test_a_truncated_gzip_is_named(tried: Tried, tmp_path: Path) -> None:
    source = write(tmp_path / "source", SOURCES["movielens 1m"][1]())
    whole = gzip.compress(b"user_id\tmovie_id\n" * 5000)
    (source / "interactions.tsv.gz").write_bytes(whole[: len(whole) // 2])
    assert "truncated or damaged gzip" in tried.refused("movielens", source)


def test_a_source_whose_every_row_is_left_out_is_no_success(
    tried: Tried, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = SOURCES["online retail"][1]()
    parts[0].columns["InvoiceNo"] = ["C536365"]
    assert tried.status("online-retail", write(tmp_path / "source", parts)) == 1
    said = capsys.readouterr().err
    assert "No usable event" in said and "1 rows: cancellation" in said and not tried.output.exists()


def test_rows_without_an_id_or_a_time_are_left_out_and_counted(
    tried: Tried, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = SOURCES["completejourney"][1]()
    nat, moment = pd.NaT, pd.Timestamp("2017-01-28 19:06:53")
    parts[0].columns.update(
        household_id=["h1", None, "h2"], product_id=["p1"] * 3, quantity=[1.0] * 3, sales_value=[1.0] * 3,
        transaction_timestamp=[moment, moment, nat])
    source = write(tmp_path / "source", parts)
    assert tried.status("completejourney", source) == 0
    said = capsys.readouterr().out
    assert "events: 1 rows" in said and "1 rows: user_id is null" in said and "1 rows: event_time is null" in said


def test_a_place_that_cannot_be_written_to_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "source", SOURCES["alibaba"][1]())
    (tmp_path / "taken").write_text("a file")
    options = ["--format", "alibaba-ecomm", "--source", str(source), "--output", str(tmp_path / "taken")]
    assert main(options) == 1 and "--output" in capsys.readouterr().err
