"""Tables of Delta and Iceberg as their own libraries write them: which version a night reads, and reads again."""

from __future__ import annotations

import datetime
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from jobs.configuration.load import load, load_settings
from jobs.configuration.messages import ConfigError
from jobs.configuration.sections import Attribute, Graph, SourceTable
from jobs.events.import_dataset import main as import_main
from jobs.events.lake_tables import files_of, newest_metadata, snapshot_of
from jobs.events.look import main
from jobs.events.night import Config
from jobs.events.read_events import read_events
from jobs.events.read_source import read_entities
from jobs.graphs.catalogue import kinds, read_catalogue
from jobs.program import JobError
from tests.jobs.events.night import DATE, Sandbox, every_day

SCHEMA = pa.schema([
    ("user_id", pa.string()), ("item_id", pa.int64()), ("behavior", pa.string()),
    ("event_time", pa.timestamp("us", "UTC"))])


def rows_of(users: str, day: int = 7) -> pa.Table:
    when = datetime.datetime(2026, 1, day, 12, tzinfo=datetime.UTC)
    n = len(users)
    return pa.table([list(users), list(range(n)), ["view"] * n, [when] * n], schema=SCHEMA)


class Delta:
    """delta-rs."""

    format = "delta"

    def __init__(self, folder: Path) -> None:
        self.path = folder / "delta table"
        self.library = pytest.importorskip("deltalake")

    def write(self, rows: pa.Table, **settings: Any) -> int:
        """The version that it makes."""
        self.library.write_deltalake(str(self.path), rows, mode="append", **settings)
        return self.table.version()

    @property
    def table(self) -> Any:
        return self.library.DeltaTable(str(self.path))

    def delete(self, user: str) -> int:
        self.table.delete(f"user_id = '{user}'")
        return self.table.version()


class Iceberg:
    """pyiceberg, with a catalogue in memory."""

    format = "iceberg"

    def __init__(self, folder: Path) -> None:
        pytest.importorskip("pyiceberg")
        memory = pytest.importorskip("pyiceberg.catalog.memory")
        catalogue = memory.InMemoryCatalog("test", warehouse=f"file://{folder}")
        catalogue.create_namespace("lake")
        self.table = catalogue.create_table("lake.events", SCHEMA)
        self.path = Path(self.table.location().removeprefix("file://"))

    def write(self, rows: pa.Table) -> int:
        self.table.append(rows)
        return self.table.current_snapshot().snapshot_id

    def delete(self, user: str) -> int:
        self.table.delete(f"user_id == '{user}'")
        return self.table.current_snapshot().snapshot_id


@pytest.fixture(params=[Delta, Iceberg], ids=["delta", "iceberg"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return request.param(tmp_path)


def users(lake: Any, spark, **settings: Any) -> str:
    source = SourceTable(str(lake.path), lake.format, **settings)
    found = read_events(spark, source, files_of(source, "source.events")).select("user_id").collect()
    return "".join(sorted(row.user_id for row in found))


def test_every_version_is_read_and_deleted_rows_stay_away(lake: Any, spark) -> None:
    versions = [lake.write(rows_of("ab"))]
    time.sleep(0.01)
    between = datetime.datetime.now(datetime.UTC)
    time.sleep(0.01)
    versions += [lake.write(rows_of("cd")), lake.delete("a")]
    assert users(lake, spark) == "bcd"
    assert [users(lake, spark, version=version) for version in versions] == ["ab", "abcd", "bcd"]
    assert users(lake, spark, as_of=between.isoformat()) == "ab"
    source = SourceTable(str(lake.path), lake.format)
    assert snapshot_of(source, "source.events").version == versions[-1]
    assert read_entities(spark, source, "user_id").count() == 3


def test_a_date_reads_its_version_again_and_another_the_current_one(lake: Any, sandbox: Sandbox) -> None:
    for day in range(6, 11):
        lake.write(rows_of("uv", day))
    sandbox.source |= {"path": str(lake.path), "format": lake.format}
    first = sandbox.run()
    record = sandbox.outputs()[1].table().existing_manifest(DATE.isoformat()).fields["versions"]
    later = lake.write(rows_of("w", 9))
    assert sandbox.run() == first and {row["user_id"] for row in sandbox.clean()} == {"u", "v"}
    assert sandbox.run(DATE + datetime.timedelta(days=1))["rows_out"] == 9
    manifests = sandbox.outputs()[1].table()
    assert manifests.existing_manifest("2026-01-12").fields["versions"] == {"source.events": later}
    assert manifests.existing_manifest("2026-01-11").fields["versions"] == record
    sandbox.source["version"] = later
    assert sandbox.run()["rows_out"] == 11
    assert manifests.existing_manifest("2026-01-11").fields["versions"] == {"source.events": later}


def test_catalogues_are_of_the_version_that_the_night_began_with(lake: Any, sandbox: Sandbox, spark) -> None:
    sandbox.write_parquet(every_day())
    lake.write(rows_of("a"))
    tree = yaml.safe_load(sandbox.config_file().read_text())
    tree["source"]["items"] = {"path": str(lake.path), "format": lake.format}
    path = sandbox.folder / "my.yaml"
    path.write_text(yaml.safe_dump(tree))
    sandbox.config_file = lambda: path
    sandbox.run()
    lake.write(rows_of("abc"))
    source = load(path, Config).source
    graph = Graph(behaviors={}, item_attributes={"behavior": Attribute()})
    counts = [read_catalogue(spark, kinds(graph, source)[0], date).frame.count()
              for date in (DATE, DATE + datetime.timedelta(days=1))]
    assert counts == [1, 4]


def test_what_cannot_be_read_is_one_message(lake: Any) -> None:
    source = SourceTable(str(lake.path), lake.format, version=99)
    if lake.format == "delta":
        with pytest.raises(JobError, match="cannot be read as a table of Delta at version 99"):
            files_of(source, "source.events")
    lake.write(rows_of("ab"))
    cases = (({"version": 99}, "at version 99"), ({"as_of": "2001-01-01T00:00:00Z"}, "2001-01-01|nothing"))
    for wrong, message in cases:
        with pytest.raises(JobError, match=message) as error:
            files_of(SourceTable(str(lake.path), lake.format, **wrong), "source.events")
        assert "\n" not in str(error.value)
    with pytest.raises(JobError, match=f"is a table of .*Say what it is: source.events.format: {lake.format}"):
        files_of(SourceTable(str(lake.path)), "source.events")
    empty = lake.path.parent / "empty"
    empty.mkdir()
    with pytest.raises(JobError, match=f"{empty} "):
        files_of(SourceTable(str(empty), lake.format), "source.events")


def test_files_that_were_taken_away_are_told_with_the_version(lake: Any) -> None:
    version = lake.write(rows_of("ab"))
    source = SourceTable(str(lake.path), lake.format, version=version)
    Path(files_of(source, "source.events")[0]).unlink()
    with pytest.raises(JobError, match=f"1 of the 1 files of version {version} are gone.*source.events.version"):
        files_of(source, "source.events")


def test_a_package_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("deltalake", "pyiceberg.table"):
        monkeypatch.setitem(sys.modules, name, None)
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata/v1.metadata.json").write_text("{}")
    for format in ("delta", "iceberg"):
        with pytest.raises(JobError, match=r"takes a package that is not there.*nocturne\[lake\]"):
            files_of(SourceTable(str(tmp_path), format), "source.events")


def test_partitions_of_delta_are_columns(tmp_path: Path, spark) -> None:
    lake = Delta(tmp_path)
    table = rows_of("abc").set_column(2, "behavior", pa.array(["view", "a/b =%é", None]))
    lake.write(table, partition_by=["behavior"])
    source = SourceTable(str(lake.path), "delta")
    rows = read_events(spark, source, files_of(source, "source.events")).collect()
    assert {row.user_id: row.behavior for row in rows} == {"a": "view", "b": "a/b =%é", "c": None}


def test_columns_that_iceberg_renamed_are_refused(tmp_path: Path) -> None:
    lake = Iceberg(tmp_path)
    lake.write(rows_of("ab"))
    source = SourceTable(str(lake.path), "iceberg")
    for change in (lambda update: update.rename_column("behavior", "action"),
                   lambda update: update.delete_column("item_id")):
        with lake.table.update_schema() as update:
            change(update)
    lake.table.append(rows_of("c").rename_columns(["user_id", "x", "action", "event_time"]).drop_columns("x"))
    with pytest.raises(JobError, match="has a column 'behavior' from before columns were renamed"):
        files_of(source, "source.events")


def test_the_newest_metadata_is_the_hinted_or_the_highest(tmp_path: Path) -> None:
    folder = tmp_path / "metadata"
    folder.mkdir()
    for name in ("00009-b.metadata.json", "00010-a.metadata.json", "v3.metadata.json"):
        (folder / name).write_text("{}")
    assert newest_metadata(str(tmp_path)).endswith("/00010-a.metadata.json")
    (folder / "version-hint.text").write_text("3\n")
    assert newest_metadata(str(tmp_path)).endswith("/v3.metadata.json")


def test_look_understands_them(lake: Any, capsys: pytest.CaptureFixture[str]) -> None:
    lake.write(rows_of("ab"))
    assert main(["--source", str(lake.path)]) == 0
    text = capsys.readouterr().out
    assert f"format: {lake.format}" in text and "rejected: none" in text


@pytest.mark.parametrize(("settings", "message"), [
    ({"version": 1}, "source.events.version is 1.*format: delta or iceberg"),
    ({"format": "delta", "version": -1}, "source.events.version is -1"),
    ({"format": "delta", "as_of": "yesterday"}, "source.events.as_of.*ISO 8601"),
    ({"format": "delta", "as_of": "2026-01-05"}, "source.events.as_of.*ISO 8601"),
    ({"format": "iceberg", "version": 1, "as_of": "2026-01-05T10:00:00Z"}, "not both"),
    ({"record": "/tmp"}, "source.events.record.*no setting"),
])
def test_wrong_settings_are_told_by_their_path(settings: dict, message: str, sandbox: Sandbox) -> None:
    sandbox.source |= settings
    with pytest.raises(ConfigError, match=message):
        load_settings(sandbox.config_file())


def test_a_version_without_rows_is_refused(tmp_path: Path) -> None:
    lake = Delta(tmp_path)
    lake.write(rows_of("a"))
    lake.delete("a")
    with pytest.raises(JobError, match="version 1, holds nothing"):
        files_of(SourceTable(str(lake.path), "delta"), "source.events")


def test_any_table_is_imported_as_it_stands(lake: Any, tmp_path: Path, spark) -> None:
    lake.write(rows_of("ab"))
    lake.write(rows_of("c"))
    lake.delete("a")
    out = tmp_path / "out"
    assert import_main(["--format", "table", "--source", str(lake.path), "--output", str(out)]) == 0
    assert sorted(pq.read_table(out / "events.parquet").column("user_id").to_pylist()) == ["b", "c"]
