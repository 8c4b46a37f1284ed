"""A sandbox per test, on the suite's one Spark session."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from feature_store import known_stores
from tests.jobs.events.night import Sandbox
from tests.s3_server import BUCKET, S3Server

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture
def sandbox(tmp_path: Path, spark) -> Sandbox:
    return Sandbox(tmp_path)


@pytest.fixture
def place(s3_server: S3Server, spark: SparkSession, tmp_path: Path) -> str:
    """A folder of a bucket that this process and Spark's workers know how to reach."""
    spark.sparkContext.environment.update(s3_server.environment)  # of Spark's workers: it started before the server
    uri = f"s3://{BUCKET}/{tmp_path.name}"
    known_stores.know(uri, s3_server.storage())
    return uri
