"""Fixtures of the whole suite: one Spark session, the shared data sets."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from feature_store import known_stores
from tests.s3_server import bucket, s3_server, storage  # noqa: F401 (fixtures)

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def nothing_told_of_stores_outlives_a_test() -> Iterator[None]:
    """Else whoever reads a configuration with a `storage` sends the tests after it to that server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(known_stores, "_known", known_stores.told())
        yield


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """One session for all tests: starting one takes longer than most of them. Jobs run in this process find it
    running."""
    from jobs.configuration.sections import Spark
    from jobs.spark import session

    # small jobs end before the second compiler pays, before generated code does, and before a plan made anew after each
    # stage does (nights in tests/dags have both)
    quick_start = {
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.sql.adaptive.enabled": "false",
    }
    settings = Spark(driver_memory="1g", shuffle_partitions=2, conf=quick_start)
    # at the very end it speaks of closed connections, into a stream that pytest has closed
    logging.getLogger("py4j").setLevel(logging.WARNING)
    with session(settings, "tests") as started:
        yield started


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the real data sets beside the repository; tests that need one are skipped without it."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no data sets at {SHARED_DATA.name} beside the repository")
    return SHARED_DATA
