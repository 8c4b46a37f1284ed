"""Which files a name means, and which folders are refused because a log says what counts in them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.configuration.sections import SourceTable
from jobs.events.fingerprint import labels
from jobs.events.places import find_files
from jobs.events.read_events import label_of, read_events
from jobs.events.read_source import read_entities
from jobs.events.readers import source_files
from jobs.program import JobError
from tests.jobs.events.night import DATE, Sandbox, event, every_day

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

HOSTILE = ["e*.parquet", "events[1].parquet", "e{1,2}.parquet", "e?.parquet", "back\\slash.parquet", "100% +#é.parquet"]


def names(path: Path, format: str = "parquet") -> list[str]:
    return [Path(file).name for file in find_files(str(path), format)]


def marked(folder: Path, mark: str) -> None:
    """A folder that a lake format has left its log in; a mark that ends in `/` is a folder."""
    path = folder / mark
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(parents=True) if mark.endswith("/") else path.write_text("{}")


LAKES = {"Delta": "_delta_log/", "Hudi": ".hoodie/", "Iceberg": "metadata/00001-a.metadata.json"}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_exists_is_that_file(name: str, sandbox: Sandbox, spark) -> None:
    """Beside it lie others, which it would find as a glob."""
    for other in ("e1.parquet", "e2.parquet", "events1.parquet"):
        sandbox.write_parquet([event("other", 7)] * 3, f"lake/{other}")
    path = sandbox.write_parquet(every_day(), f"lake/{name}")
    rows = read_events(spark, SourceTable(str(path)), find_files(str(path), "parquet"))
    assert [tuple(row) for row in rows.groupBy("source_file").count().collect()] == [(name, 10)]


@pytest.mark.parametrize("name", ["items[1].csv", "i*.csv", "items{1}.jsonl", "i?.parquet"])
def test_catalogues_go_the_same_way(name: str, tmp_path: Path, spark) -> None:
    format = name.rpartition(".")[2]
    for file, brand in (("items1", "other"), (name.rpartition(".")[0], "ours")):
        path = tmp_path / f"{file}.{format}"
        if format == "parquet":
            pq.write_table(pa.table({"item_id": ["1"], "brand": [brand]}), path)
        else:
            lines = ["item_id,brand", f"1,{brand}"] if format == "csv" else [f'{{"item_id": "1", "brand": "{brand}"}}']
            path.write_text("\n".join(lines) + "\n")
    rows = read_entities(spark, SourceTable(str(tmp_path / name), format), "item_id").collect()
    assert [row.brand for row in rows] == ["ours"]


def test_a_glob_is_expanded_once_and_what_was_read_stands_in_the_manifest(sandbox: Sandbox) -> None:
    """The file that a glob finds has a name that is a glob itself."""
    sandbox.write_parquet(every_day(), "lake/e*.parquet")
    sandbox.write_parquet([event("later", 7)], "lake/elder.parquet")
    sandbox.write_parquet([event("none", 7)], "lake/x.parquet")
    sandbox.source["path"] = "lake/e*[r*].parquet"
    assert sandbox.run()["rows_in"] == 11
    read = sandbox.outputs()[1].table().existing_manifest(DATE.isoformat()).fields["files"]
    assert [(file["name"], len(file["sha256"])) for file in read] == [("e*.parquet", 64), ("elder.parquet", 64)]


def test_a_folder_that_exists_is_no_glob_for_the_files_below_it(sandbox: Sandbox) -> None:
    """Nor is the data root's."""
    sandbox.write_parquet([event("other", 7)], "lake1/e1.parquet")
    sandbox.write_parquet(every_day(), "lake[1]/e1.parquet")
    sandbox.source["path"], sandbox.root = "lake[1]/e?.parquet", sandbox.folder / "data[1]"
    for folder in ("data[1]", "data1"):
        (sandbox.folder / folder).mkdir()
    sandbox.config_file()
    assert sandbox.run()["rows_in"] == 10


def test_a_glob_reads_the_folders_that_spark_names_like_files(tmp_path: Path) -> None:
    for name in ("a.parquet/part-0.parquet", "a.parquet/_temporary/part-1.parquet", "b.parquet", "c/d.parquet"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert names(tmp_path / "*.parquet") == ["part-0.parquet", "b.parquet"]
    assert names(tmp_path / "**/*.parquet") == ["part-0.parquet", "b.parquet", "d.parquet"]
    assert names(tmp_path) == ["part-0.parquet", "b.parquet", "d.parquet"], "a folder's name makes it no file"
    with pytest.raises(JobError, match=r"\*c finds folders alone, e.g. .*/c; .*Add /\* to it"):
        names(tmp_path / "*c")
    (tmp_path / "b.parquet").rename(tmp_path / "c" / "b.csv")
    (tmp_path / "c" / "d.parquet").unlink()
    with pytest.raises(JobError, match=r"/c is a folder without any .parquet or .pq file. Check source.*format"):
        names(tmp_path / "c")
    with pytest.raises(JobError, match=r"Nothing to read at .*Braces are no part of a glob here"):
        names(tmp_path / "{a,b}.parquet")


@pytest.mark.parametrize("name", ["_e.parquet", ".e.parquet", "2026-01-05T00:00.parquet"])
def test_what_spark_would_leave_out_is_refused_by_name(name: str, sandbox: Sandbox) -> None:
    sandbox.write_parquet(every_day(), name)
    sandbox.source["path"] = name
    with pytest.raises(JobError, match=rf"The name of .*{name} .*; Spark reads no such file"):
        sandbox.run()


@pytest.mark.parametrize("lake", LAKES)
@pytest.mark.parametrize("path", ["table", "table/part.parquet", "table/d=1/*.parquet", "*/d=1/*", ".", "**/*.parquet"])
def test_the_folder_of_a_lake_format_is_refused_by_its_name(lake: str, path: str, tmp_path: Path) -> None:
    marked(tmp_path / "table", LAKES[lake])
    for name in ("part.parquet", "d=1/part.parquet"):
        (tmp_path / "table" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "table" / name).write_bytes(b"x")
    with pytest.raises(JobError, match=f"{tmp_path}/table is a table of {lake}: its log, .*Write a snapshot"):
        find_files(str(tmp_path / path), "parquet")


def test_a_lake_format_is_found_through_a_link_and_without_a_file_of_the_format(tmp_path: Path) -> None:
    marked(tmp_path / "table", "_delta_log/")
    (tmp_path / "table/part.parquet").write_bytes(b"x")
    (tmp_path / "linked.parquet").symlink_to(tmp_path / "table/part.parquet")
    for path, format in (("linked.parquet", "parquet"), ("table", "csv"), ("table/*.csv", "csv")):
        with pytest.raises(JobError, match="table of Delta"):
            find_files(str(tmp_path / path), format)


def test_a_partition_taken_out_of_a_hudi_table_is_refused(tmp_path: Path) -> None:
    marked(tmp_path / "d=1", ".hoodie_partition_metadata")
    (tmp_path / "d=1/part.parquet").write_bytes(b"x")
    with pytest.raises(JobError, match="table of Hudi"):
        find_files(str(tmp_path / "d=1"), "parquet")


def test_links_are_followed_once_and_lead_somewhere(tmp_path: Path) -> None:
    for name in ("lake/a.parquet", "else/b.parquet"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "lake/there").symlink_to(tmp_path / "else")
    (tmp_path / "else/back").symlink_to(tmp_path / "lake")
    assert names(tmp_path / "lake") == ["a.parquet", "b.parquet"]
    (tmp_path / "lake/c.parquet").symlink_to(tmp_path / "gone.parquet")
    for path in ("lake", "lake/*.parquet"):
        with pytest.raises(JobError, match=r"lake/c.parquet is a link to nothing: .*gone.parquet"):
            names(tmp_path / path)


def test_every_source_of_a_lake_format_is_refused(sandbox: Sandbox, spark) -> None:
    marked(sandbox.folder / "lake", "_delta_log/")
    sandbox.write_parquet(every_day(), "lake/part.parquet")
    sandbox.source["path"] = "lake"
    with pytest.raises(JobError, match="lake is a table of Delta.*source.events.path"):
        sandbox.run()
    with pytest.raises(JobError, match="lake is a table of Delta"):
        read_entities(spark, SourceTable(str(sandbox.folder / "lake")), "user_id")


def test_importers_refuse_a_lake_format_too(tmp_path: Path) -> None:
    marked(tmp_path, "_delta_log/")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("a\n1\n")
    for read, name in ((source_files.read_parquet, "a.parquet"), (source_files.read_text, "a.csv")):
        with pytest.raises(JobError, match="table of Delta"):
            read(tmp_path / name, ["a"])


def test_a_folder_called_metadata_alone_is_no_table(tmp_path: Path) -> None:
    marked(tmp_path, "metadata/about.json")
    (tmp_path / "part.parquet").write_bytes(b"x")
    assert names(tmp_path) == ["part.parquet"]


PLACES = {
    "a folder": ["/data/log/a.parquet", "/data/log/b/c.parquet"],
    "one file": ["/data/log/a.parquet"],
    "the root alone in common": ["/north/a.parquet", "/south/b/c.parquet"],
    "a file in the root": ["/a.parquet", "/south/b.parquet"],
    "its own name below it": ["/data/data/a.parquet", "/data/b/data/c.parquet"],
    "a bucket": ["s3://bucket/north/a.parquet", "s3://bucket/south/b.parquet"],
    "nothing but a store": ["s3://north/a.parquet", "s3://south/b.parquet"]}


@pytest.mark.parametrize("place", PLACES)
def test_rows_name_their_file_as_its_fingerprint_does(place: str, spark: SparkSession) -> None:
    files = PLACES[place]
    rows = spark.createDataFrame([(file,) for file in files], "path string")
    found = {row.path: row.label for row in rows.select("path", label_of(rows.path, files).alias("label")).collect()}
    assert found == labels(files)
    assert not any(label.startswith("/") or not label for label in found.values())
