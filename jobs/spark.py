"""The Spark session of a job: started once, with settings that hold on a laptop and on a cluster."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import unquote

from jobs.events.damage import damage_of
from jobs.events.places import SourceError
from jobs.program import JobError, MayPass
from jobs.spark_parts import reaches, read_parts, write_parts

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    from feature_store import Commit
    from feature_store.disk import Disk
    from jobs.configuration.sections import Spark
    from jobs.contracts import Contract

LOCAL = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
# The driver in its own pod: executors find it by its address, and go with it. What dags/dagkit/pods.py tells it.
IN_POD = {
    "spark.driver.host": "NOCTURNE_POD_IP",
    "spark.kubernetes.driver.pod.name": "NOCTURNE_POD_NAME",
    "spark.kubernetes.namespace": "NOCTURNE_POD_NAMESPACE",
    "spark.kubernetes.container.image": "NOCTURNE_IMAGE",
}
PORTS = {"spark.driver.port": "7078", "spark.driver.blockManager.port": "7079"}  # that the chart's policy lets through
ALWAYS = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": str(sys.stderr.isatty()).lower(),
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.sql.parquet.compression.codec": "zstd",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.ansi.enabled": "true",
    "spark.hadoop.parquet.page.verify-checksum.enabled": "true",
    # files are listed faster without a Spark job, which has a task for each: of ten thousand in a fifth of the time
    "spark.sql.sources.parallelPartitionDiscovery.threshold": "100000",
    "spark.hadoop.mapreduce.fileoutputcommitter.marksuccessfuljobs": "false",
    # else each column expression asks the JVM ten more times, to remember the line that it stands on
    "spark.python.sql.dataFrameDebugging.enabled": "false",
}

# SQLSTATE of what the data or the query are to blame for: data exception, wrong statement, raise_error; a path that is
# not found (42K03) may have been a committed file that was replaced meanwhile
BY_DATA = re.compile(r"SQLSTATE: (22|42(?!K03)|P0)")
OF_A_SOURCE = re.compile(r"(?m)^\S*\bSourceError: (.+)$")  # what a worker found that read a source
# names are names, never globs; without the second, several files of which one looks like a glob are read twice
PLAIN = {"__globPaths__": "false", "recursiveFileLookup": "true"}


@contextmanager
def session(spark: Spark, name: str) -> Iterator[SparkSession]:
    """The running session, or a new one that stops with the block. What Spark raises in the block becomes a
    JobError."""
    if not spark.master.startswith("k8s://"):  # where executors have an image of their own
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    from pyspark.sql import SparkSession

    active = SparkSession.getActiveSession()
    if active is not None:
        with explained(name):
            yield active
        return
    _require_java()
    with explained(f"starting for {name}; its own words stand above this line"):
        started = _builder(spark, name).getOrCreate()
    started.sparkContext.setLogLevel("ERROR")
    try:
        with explained(name):
            yield started
    finally:
        started.stop()


def _require_java() -> None:
    """JobError where there is none: no other try would find one."""
    if shutil.which("java") is None and not os.environ.get("JAVA_HOME"):
        raise JobError("Found no Java on the path and no JAVA_HOME; Spark needs Java 17. Debian: apt install "
                       "openjdk-17-jre-headless.")


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turns what Spark raises into a JobError: what a worker said of a source, the damaged file, where one is found,
    or the first line of the innermost cause, which says what happened; MayPass unless the data or the query are to
    blame."""
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        if told := OF_A_SOURCE.search(str(error)):
            raise SourceError(told[1]) from error
        said = f"Spark stopped in {doing}: {said_by_spark(error)}"
        if damage := damage_of(file) if (file := file_read(error)) else "":
            raise JobError(f"{damage} {said}") from error
        kind = JobError if BY_DATA.search(str(error)) else MayPass
        raise kind(f"{said}. What was published before is unchanged.") from error


def said_by_spark(error: Exception) -> str:
    """The first line of the innermost cause, with the file that was read where it names none."""
    causes = re.findall(r"(?m)^(?:Caused by: )?([\w.$]+(?:Exception|Error)(?:: .+)?)$", str(error))
    said = (causes[-1] if causes else str(error).strip().split("\n")[0])[:500]
    file = file_read(error)
    return f"{said}, while reading {file}" if file and file not in said else said


def file_read(error: Exception) -> str:
    """The file that Spark says it was reading when it stopped; nothing where it says none."""
    found = re.search(r"error while reading file (?:file:)?/*(/.+?)\.\s+(?=SQLSTATE|Could not|[A-Z])", str(error))
    if found is None:
        return ""
    return next((path for path in (unquote(found[1]), found[1]) if os.path.exists(path)), unquote(found[1]))


def _builder(spark: Spark, name: str):
    from pyspark.sql import SparkSession

    local = spark.master.startswith("local")
    if local:
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    builder = SparkSession.builder.appName(f"nocturne-{name}").master(spark.master)
    conf = ALWAYS | (LOCAL if local else {}) | on_kubernetes(spark.master, os.environ) | {
        "spark.driver.memory": spark.driver_memory,
        "spark.sql.shuffle.partitions": str(spark.shuffle_partitions),
    } | spark.conf
    for key, value in conf.items():
        builder = builder.config(key, value)
    return builder


def on_kubernetes(master: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Settings of a driver whose executors are pods; none for another master."""
    if not master.startswith("k8s://"):
        return {}
    known = {key: environment[name] for key, name in IN_POD.items() if environment.get(name)}
    python = {"spark.pyspark.python": "python"}  # the executors', which have the driver's image
    return {"spark.submit.deployMode": "client", "spark.driver.bindAddress": "0.0.0.0"} | PORTS | python | known


def no_rows(spark: SparkSession, contract: Contract) -> DataFrame:
    """The contract's columns alone."""
    return spark.createDataFrame([], contract.spark_schema())


def read(spark: SparkSession, disk: Disk, files: Iterable[str], contract: Contract) -> DataFrame:
    """Committed Parquet files as a DataFrame with the contract's columns; no files give no rows."""
    files = list(files)
    if not files:
        return no_rows(spark, contract)
    if not reaches(disk):
        return read_parts(spark, disk, files, contract.arrow_schema())
    return spark.read.options(**PLAIN).schema(contract.spark_schema()).parquet(*files).select(*contract.columns)


def write(frame: DataFrame, commit: Commit, contract: Contract) -> None:
    """Write the frame into an open commit, with the contract's columns, sorted over all files by the contract's
    order."""
    frame = frame.selectExpr(*contract.spark_select())
    order = list(dict.fromkeys([*contract.sorted_by, *contract.columns]))  # ties broken by all columns: one order only
    write_as_it_lies(frame.sort(*order), commit, contract)


def write_as_it_lies(frame: DataFrame, commit: Commit, contract: Contract) -> None:
    """Write the rows of the frame's partitions, one after the other, into an open commit.

    Spark appends its own part files to the partition's folder; the commit adopts them in the order of their names,
    which is the order of Spark's partitions, so that the rows of the committed files follow each other sorted. Where
    Spark cannot reach the store, its workers write the parts.
    """
    if reaches(commit.disk):
        frame.write.mode("append").parquet(commit.path)
        commit.adopt_new()
    else:
        written = write_parts(frame, commit.disk, commit.path, contract.arrow_schema())
        commit.adopt_parts(part for _, part in written)
    if not commit.files:
        commit.write_table(contract.arrow_schema().empty_table())


def write_aside(frame: DataFrame, disk: Disk, folder: str, schema: pa.Schema) -> list[str]:
    """Write the rows of the frame's partitions into an empty folder; the files, in the rows' order.

    Spark numbers its files in the order of its partitions.
    """
    if reaches(disk):
        frame.write.parquet(folder)
        names = [entry.name for entry in disk.list(folder) if entry.name.endswith(".parquet")]
    else:
        names = [part.name for _, part in write_parts(frame, disk, folder, schema)]
    return [f"{folder}/{name}" for name in names]
