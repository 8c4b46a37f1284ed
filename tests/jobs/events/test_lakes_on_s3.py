"""Tables of Delta and Iceberg on an S3 server, as their own libraries write them, and three nights from one, with the
data root beside it."""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from feature_store import known_stores
from jobs.configuration.sections import SourceTable
from jobs.events.lake_options import delta_options, iceberg_options
from jobs.events.lake_tables import files_of, snapshot_of
from jobs.events.look import main as look
from jobs.events.places import SourceError, find_files
from tests.feature_store.places import ObjectPath
from tests.jobs.events import test_lake_tables as near
from tests.jobs.events import test_nights_of_a_lake as nights
from tests.jobs.events.night import Sandbox
from tests.s3_server import BUCKET, S3Server

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class FarDelta(near.Delta):
    """delta-rs."""

    def __init__(self, uri: str) -> None:
        super().__init__(Path())
        self.path = f"{uri}/delta table"

    def write(self, rows: Any, **settings: Any) -> int:
        return super().write(rows, storage_options=delta_options(self.path), **settings)

    @property
    def table(self) -> Any:
        return self.library.DeltaTable(self.path, storage_options=delta_options(self.path))


class FarIceberg(near.Iceberg):
    """pyiceberg, with a catalogue in memory."""

    def __init__(self, uri: str) -> None:
        memory = pytest.importorskip("pyiceberg.catalog.memory")
        catalogue = memory.InMemoryCatalog("test", warehouse=f"{uri}/lake", **iceberg_options(uri))
        catalogue.create_namespace("lake")
        self.table = catalogue.create_table("lake.events", near.SCHEMA)
        self.path = self.table.location()


@pytest.fixture
def place(s3_server: S3Server, spark: SparkSession, tmp_path: Path) -> str:
    spark.sparkContext.environment.update(s3_server.environment)  # of Spark's workers: it started before the server
    uri = f"s3://{BUCKET}/{tmp_path.name}"
    known_stores.know(uri, s3_server.storage())
    return uri


@pytest.fixture(params=[FarDelta, FarIceberg], ids=["delta", "iceberg"])
def lake(request: pytest.FixtureRequest, place: str) -> Any:
    return request.param(place)


def test_every_version_is_read(lake: Any, spark: SparkSession, capsys: pytest.CaptureFixture[str]) -> None:
    versions = [lake.write(near.rows_of("ab"))]
    time.sleep(1.1)  # a server tells when an object was put to the second, and delta-rs goes by that
    between = datetime.datetime.now(datetime.UTC)
    time.sleep(1.1)
    versions += [lake.write(near.rows_of("cd")), lake.delete("a")]
    assert [near.users(lake, spark, version=version) for version in versions] == ["ab", "abcd", "bcd"]
    assert near.users(lake, spark, as_of=between.isoformat()) == "ab"
    assert snapshot_of(SourceTable(lake.path, lake.format), "source.events").version == versions[-1]
    with pytest.raises(SourceError, match=f"is a table of {lake.format.title()}.*format: {lake.format}"):
        find_files(lake.path, "parquet")
    assert look(["--source", lake.path]) == 0
    said = capsys.readouterr().out
    assert f"format: {lake.format}" in said and "3 rows" in said


def test_files_that_were_taken_away_are_told_with_the_version(lake: Any) -> None:
    lake.write(near.rows_of("ab"))
    source = SourceTable(lake.path, lake.format)
    (file,) = files_of(source, "source.events")
    ObjectPath(file).unlink()
    with pytest.raises(SourceError, match="1 of the 1 files of version .* are gone"):
        files_of(source, "source.events")


class FarShop(nights.Shop):
    """Events, items and data root in one bucket."""

    def __init__(self, sandbox: Sandbox, place: str, storage: dict[str, Any], folder: Path) -> None:
        self.root = ObjectPath(f"{place}/nights")
        self.events, self.items = FarDelta(place), FarDelta(f"{place}/catalogue")
        tree = yaml.safe_load(sandbox.config_file().read_text())
        tree |= {"data_root": str(self.root), "storage": storage}
        tree["source"] = {name: {"path": lake.path, "format": "delta"}
                          for name, lake in (("events", self.events), ("items", self.items))}
        tree["graph"] |= {"behaviors": {"view": {}, "purchase": {}}, "item_attributes": {"brand": {}}}
        self.config = folder / "nights.yaml"
        self.config.write_text(yaml.safe_dump(tree))


def test_three_nights_from_a_table_that_changes(
    place: str, sandbox: Sandbox, s3_server: S3Server, spark: SparkSession, tmp_path: Path
) -> None:
    storage = {"endpoint": s3_server.endpoint, "region": "us-east-1"}
    nights.test_a_night_that_runs_again_reads_its_own_version(FarShop(sandbox, place, storage, tmp_path), spark)
