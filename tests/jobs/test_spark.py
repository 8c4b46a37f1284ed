"""What is said of Spark when it stops, and whether another try may help."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from pyspark.errors import PySparkException

from jobs import spark as engine
from jobs.configuration.sections import Spark
from jobs.program import JobError, MayPass

LOST = "org.apache.spark.SparkException: Job aborted due to stage failure: ExecutorLostFailure (executor 3 exited)"
STOPS = {
    "an executor lost": (LOST, MayPass),
    "no Java process": ("[JAVA_GATEWAY_EXITED] Java gateway process exited before sending its port number.", MayPass),
    "a number that is none": ("x\nCaused by: o.a.NumberException: [CAST_INVALID_INPUT] SQLSTATE: 22018", JobError),
    "a column that is none": ("[UNRESOLVED_COLUMN.WITH_SUGGESTION] A column cannot. SQLSTATE: 42703", JobError),
    "raise_error": ("o.a.SparkRuntimeException: [USER_RAISED_EXCEPTION] no time SQLSTATE: P0001", JobError),
    "a file that was replaced": ("[PATH_NOT_FOUND] Path does not exist: file:/x. SQLSTATE: 42K03", MayPass),
    "a read that failed": ("[FAILED_READ_FILE.NO_HINT] Encountered error while reading file x. SQLSTATE: KD0", MayPass),
}  # fmt: skip


@pytest.mark.parametrize("case", STOPS)
def test_what_the_data_are_to_blame_for_is_final(case: str) -> None:
    said, kind = STOPS[case]
    with pytest.raises(JobError, match="^Spark stopped in a test: ") as error, engine.explained("a test"):
        raise PySparkException(said)
    assert type(error.value) is kind and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a.parquet", "a b%20+é.parquet", "e*[1].parquet"])
def test_the_file_that_was_read_is_found_in_what_spark_says(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"x")
    for shown in (f"file://{quote(str(path))}", f"file:{path}"):
        text = f"[FAILED_READ_FILE.NO_HINT] Encountered error while reading file {shown}.  SQLSTATE: KD001\nx"
        assert engine.file_read(PySparkException(text)) == str(path)
    assert engine.file_read(PySparkException(LOST)) == ""


def test_without_java_no_try_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from pyspark.sql import SparkSession

    monkeypatch.setattr(SparkSession, "getActiveSession", lambda: None)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(JobError, match="Found no Java") as error, engine.session(Spark(), "test"):
        pass
    assert type(error.value) is JobError
