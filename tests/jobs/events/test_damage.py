"""A damaged source is told by the file's name, with what was found, what was expected and what to do."""

from __future__ import annotations

import bz2
import gzip
import json
import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet as pq
import pytest

from jobs.configuration.sections import SourceTable
from jobs.events import damage
from jobs.events.damage import check_whole, damage_of
from jobs.events.places import SourceError
from jobs.events.read_source import read_entities
from jobs.program import JobError, MayPass
from jobs.spark import explained
from tests.jobs.events.night import Sandbox, event, every_day

ROWS = pa.table({"item_id": [f"i{n}" for n in range(4000)], "price": [n / 7 for n in range(4000)]})
LINES = b"item_id,price\n" + b"".join(b"i%d,%d\n" % (n, n) for n in range(500))
OBJECTS = b"".join(b'{"item_id": "i%d"}\n' % n for n in range(500))
ACTION = r"(Fetch|Rename|Write|Deliver|or take it away)"


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def parquet(path: Path, **options: object) -> bytes:
    pq.write_table(ROWS, path, **options)
    return path.read_bytes()


def in_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("items.csv", LINES)


CASES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    # file, how it comes about, what is said of it
    "an empty Parquet": ("a.parquet", lambda p: write(p, b""), r"is empty: 0 bytes; expected Parquet"),
    "a cut Parquet": ("a.parquet", lambda p: write(p, parquet(p)[:-300]), r"is cut off: it begins as Parquet"),
    "a Parquet of four bytes": ("a.parquet", lambda p: write(p, b"PAR1"), r"is (cut off|damaged)"),
    "a footer too long": (
        "a.parquet", lambda p: write(p, parquet(p)[:-8] + b"\xff\xff\xff\x7fPAR1"), r"is damaged: its footer is said"),
    "a footer of zeros": (
        "a.parquet", lambda p: write(p, parquet(p)[:-60] + b"\0" * 52 + parquet(p)[-8:]), r"is no readable|is damaged"),
    "CSV as Parquet": ("a.parquet", lambda p: write(p, LINES), r"is no readable Parquet file: it begins with b'ite"),
    "gzip as Parquet": (
        "a.parquet", lambda p: write(p, gzip.compress(LINES)), r"is no readable Parquet file: it is gzip"),
    "ORC as Parquet": (
        "a.parquet", lambda p: pyarrow.orc.write_table(ROWS, p), r"is no readable Parquet file: it is ORC"),
    "Arrow as Parquet": (
        "a.parquet", lambda p: pyarrow.feather.write_feather(ROWS, str(p)), r"is no readable Parquet file: it is Ar"),
    "a cut gzip": ("a.csv.gz", lambda p: write(p, gzip.compress(LINES)[:-20]), r"is a truncated or damaged gzip"),
    "a gzip with other bytes": (
        "a.csv.gz", lambda p: write(p, gzip.compress(LINES)[:-6] + b"\0" * 6), r"is a truncated or damaged gzip"),
    "an empty gzip": ("a.csv.gz", lambda p: write(p, b""), r"is no gzip: it is empty: 0 bytes"),
    "text as gzip": ("a.csv.gz", lambda p: write(p, LINES), r"is no gzip: it is text; expected CSV in a gzip"),
    "gzip as text": ("a.csv", lambda p: write(p, gzip.compress(LINES)), r"is a gzip; expected CSV as text, or a name"),
    "a gzip in a gzip": ("a.csv.gz", lambda p: write(p, gzip.compress(gzip.compress(LINES))), r"is a gzip; expected"),
    "Parquet as CSV": ("a.csv", lambda p: parquet(p), r"is Parquet; expected CSV in UTF-8"),
    "Parquet in a gzip": ("a.csv.gz", lambda p: write(p, gzip.compress(parquet(p))), r"is Parquet; expected CSV"),
    "ZIP as CSV": ("a.csv", in_zip, r"is ZIP or Excel; expected CSV"),
    "bzip2 as CSV": ("a.csv", lambda p: write(p, bz2.compress(LINES)), r"is bzip2; expected CSV"),
    "UTF-16 as CSV": ("a.csv", lambda p: write(p, LINES.decode().encode("utf-16")), r"is UTF-16 text; expected CSV"),
    "a page as CSV": ("a.csv", lambda p: write(p, b"\n<!DOCTYPE html><p>503"), r"is an HTML or XML page; expected CSV"),
    "zeros as CSV": ("a.csv", lambda p: write(p, bytes(4096)), r"is binary data, or text in UTF-16; expected CSV"),
    "zeros in a gzip": ("a.jsonl.gz", lambda p: write(p, gzip.compress(bytes(4096))), r"is binary data.*JSON lines"),
    "zeros as Parquet": ("a.parquet", lambda p: write(p, bytes(4096)), r"is no readable Parquet file: it is binary"),
    "JSON as CSV": ("a.csv", lambda p: write(p, OBJECTS), r"is JSON; expected CSV"),
    "CSV as JSON lines": ("a.jsonl", lambda p: write(p, LINES), r"holds no JSON: none of its first 501 lines is"),
    "an array as JSON lines": (
        "a.jsonl", lambda p: write(p, json.dumps([{"item_id": 1}] * 3, indent=1).encode()), r"holds one JSON array"),
    "Parquet as JSON lines": ("a.jsonl", lambda p: parquet(p), r"is Parquet; expected JSON lines"),
    "a cut JSON gzip": (
        "a.jsonl.gz", lambda p: write(p, gzip.compress(OBJECTS)[:-9]), r"is a truncated or damaged gzip"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_not_whole_or_not_of_the_format(case: str, tmp_path: Path) -> None:
    name, make, said = CASES[case]
    path = tmp_path / name
    make(path)
    with pytest.raises(SourceError, match=f"^{re.escape(str(path))} {said}") as error:
        check_whole(str(path), name.split(".")[1])
    assert re.search(ACTION, str(error.value)) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_what_is_whole_passes(name: str, tmp_path: Path) -> None:
    """Also texts that begin as another format does, and a malformed line among others."""
    path = tmp_path / name
    if name.endswith("parquet"):
        codes = pa.array(["a", None], pa.dictionary(pa.int32(), pa.string()))
        for table in (ROWS, ROWS.slice(0, 0), pa.table({"codes": codes, "tags": [[1, 2], []]})):
            pq.write_table(table, path, row_group_size=1500)
            check_whole(str(path), "parquet")
            assert damage_of(str(path)) == ""
    for text in (b"ORC,PK\n1,2\n", LINES, b"") if "csv" in name else (OBJECTS, b'{"a":\n' + OBJECTS, b"\n", b""):
        write(path, gzip.compress(text) if name.endswith(".gz") else text)
        if not name.endswith("parquet"):
            check_whole(str(path), name.split(".")[1])


@pytest.mark.parametrize("number", [4001, 9, 4096])
def test_a_footer_that_contradicts_itself(number: int, tmp_path: Path) -> None:
    """It says four times how many rows there are: in all, of the row group, and of each of two columns."""
    path, old = tmp_path / "a.parquet", zigzag(4000)
    content, refused = parquet(path), 0
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    for place in (found.start() for found in re.finditer(re.escape(old), content[footer:])):
        at = footer + place
        path.write_bytes(content[:at] + zigzag(number, len(old)) + content[at + len(old):])
        try:
            check_whole(str(path), "parquet")
        except SourceError as error:
            assert re.search(r"a.parquet is (damaged|no readable)", str(error))
            refused += 1
    assert refused >= 4


def zigzag(number: int, length: int = 0) -> bytes:
    """Thrift's compact form of a number, in at least so many bytes."""
    number, found = number << 1, b""
    while number >= 128 or len(found) + 1 < length:
        found, number = found + bytes([number & 127 | 128]), number >> 7
    return found + bytes([number])


def test_flipped_bytes_are_told_by_the_files_name(tmp_path: Path, spark) -> None:
    """Page checksums find every flip in a page; whatever Spark stops at then, the message names the file."""
    path = tmp_path / "many flips.parquet"
    content, draw, refused = parquet(path, write_page_checksum=True), random.Random(5), 0
    pages = pq.read_metadata(path).row_group(0).column(0).total_compressed_size
    for _ in range(12):
        at = draw.randrange(100, pages)
        path.write_bytes(content[:at] + bytes([content[at] ^ 16]) + content[at + 1:])
        try:
            with explained("a test"):
                assert read_entities(spark, SourceTable(str(path)), "item_id").distinct().count() == 4000
        except JobError as error:
            assert str(error).startswith(f"{path} is damaged") and not isinstance(error, MayPass), error
            refused += 1
    assert refused == 12


def test_what_spark_cannot_read_and_others_can_names_the_file_and_may_pass(
    tmp_path: Path, spark, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.parquet"
    content = parquet(path, write_page_checksum=True)
    path.write_bytes(content[:200] + bytes([content[200] ^ 16]) + content[201:])
    monkeypatch.setattr("jobs.spark.damage_of", lambda file: "")
    with pytest.raises(MayPass, match=f"Spark stopped in a test: .*{path}"), explained("a test"):
        read_entities(spark, SourceTable(str(path)), "item_id").distinct().count()


def test_events_with_flipped_bytes_name_their_file_among_many(sandbox: Sandbox) -> None:
    sandbox.write_parquet(every_day(), "lake/a.parquet")
    path = sandbox.write_parquet([event(f"u{n}", 7) for n in range(5000)], "lake/b.parquet")
    rows = pq.read_table(path, partitioning=None)
    pq.write_table(rows, path, write_page_checksum=True)
    content = path.read_bytes()
    path.write_bytes(content[:900] + bytes([content[900] ^ 1]) + content[901:])
    sandbox.source["path"] = "lake"
    with pytest.raises(JobError, match=r"^.*lake/b.parquet is damaged") as error:
        sandbox.run()
    assert "\n" not in str(error.value) and sandbox.manifests() == {}


def test_a_source_of_empty_files_alone_is_said_to_be_empty(sandbox: Sandbox, spark) -> None:
    sandbox.source |= {"path": "log", "format": "csv"}
    (sandbox.folder / "log").mkdir()
    for name in ("a", "b"):
        (sandbox.folder / f"log/{name}.csv").write_bytes(b"")
    with pytest.raises(JobError, match=r"log holds nothing: .*column"):
        sandbox.run()
    for format in ("csv", "jsonl"):
        (sandbox.folder / f"log/a.{format}").write_bytes(b"")
        with pytest.raises(JobError, match=r"log holds nothing: .*column"):
            read_entities(spark, SourceTable(str(sandbox.folder / "log"), format), "item_id")


def test_columns_that_nobody_could_read_are_named_in_short(sandbox: Sandbox) -> None:
    sandbox.source |= {"path": "events.csv", "format": "csv"}
    (sandbox.folder / "events.csv").write_text(",".join(["x" * 9000, *(f"c{n}" for n in range(900))]) + "\n")
    with pytest.raises(JobError, match=r"no column 'user_id' .*it has 'xxx.*…', 'c0', .* and 851 more") as error:
        sandbox.run()
    assert len(str(error.value)) < 1500


def test_a_file_that_has_gone_is_not_called_damaged(tmp_path: Path) -> None:
    """A committed file may have been replaced: the next try reads the new one."""
    assert damage_of(str(tmp_path / "gone.parquet")) == ""


def test_a_malformed_line_of_a_catalogue_is_named(tmp_path: Path, spark) -> None:
    (tmp_path / "a.jsonl").write_bytes(OBJECTS)
    (tmp_path / "b.jsonl").write_bytes(b'{"item_id": "1"}\n{"item_id":\n')
    with pytest.raises(JobError, match=r"cannot be read as jsonl: line 2 of .*b.jsonl is no JSON object"):
        read_entities(spark, SourceTable(str(tmp_path), "jsonl"), "item_id").collect()


def test_one_reader_of_parquet_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    content = parquet(path, write_page_checksum=True)
    assert damage.read_parquet(str(path), ["price"]).num_rows == 4000
    path.write_bytes(content[:200] + bytes([content[200] ^ 16]) + content[201:])
    with pytest.raises(SourceError, match=r"a.parquet is damaged: .*CRC"):
        damage.read_parquet(str(path), ["item_id"])
