"""Three nights from a table of Delta on an S3 server that changes between them, the data root beside it: part of
`make test-s3`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.feature_store.places import ObjectPath
from tests.jobs.events import test_nights_of_a_lake as nights
from tests.jobs.events.night import Sandbox
from tests.jobs.events.test_lakes_on_s3 import FarDelta
from tests.s3_server import S3Server

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


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
