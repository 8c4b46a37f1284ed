"""Two nights with the data root on an S3 server: every job, and what one does with a root by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jobs.configuration.load import load_settings
from tests.jobs.nights_anywhere import NIGHTS, configured, content_of, run_night
from tests.s3_server import S3Server

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ENDPOINT_ALONE = ("endpoint", "region")


@pytest.fixture(scope="module")
def far(s3_server: S3Server, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of two nights that have run."""
    spark.sparkContext.environment.update(s3_server.environment)  # of Spark's workers: it started before the server
    folder = tmp_path_factory.mktemp("far")
    storage = {"endpoint": s3_server.endpoint, "region": "us-east-1"}
    config = configured(folder, data_root=f"{s3_server.new_bucket()}/shop/nights", storage=storage)
    for number in range(len(NIGHTS)):
        run_night(config, number)
    return config


def test_every_table_is_the_one_that_a_local_disk_gets(far: Path, spark: SparkSession, tmp_path: Path) -> None:
    near = configured(tmp_path)
    run_night(near, 0)
    expected = content_of(str(near.parent / "data"))
    found = content_of(load_settings(far).data_root)
    assert len(expected) > 15
    assert {key: found.get(key) for key in expected if key[1] == str(NIGHTS[0])} == {
        key: value for key, value in expected.items() if key[1] == str(NIGHTS[0])}
