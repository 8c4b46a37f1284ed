"""Tables of Delta and Iceberg on an S3 server, as their own libraries write them. Three nights from one, with the data
root beside it: `make test-s3` (lake_nights_on_s3.py)."""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jobs.configuration.sections import SourceTable
from jobs.events.lake_options import delta_options, iceberg_options
from jobs.events.lake_tables import files_of, snapshot_of
from jobs.events.look import main as look
from jobs.events.places import SourceError, find_files
from tests.feature_store.places import ObjectPath
from tests.jobs.events import test_lake_tables as near

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
