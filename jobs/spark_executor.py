"""A Spark executor in a pod: `python -m jobs.spark_executor` becomes the JVM that Spark's driver asked for.

Spark on Kubernetes starts an executor with the word `executor` and tells it everything by environment variables; the
script that reads them comes with Spark's own images, not with the Python package, and wants a shell. The executors' pod
template (helm/nocturne) names this program as the command.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

BACKEND = "org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend"
OPTIONS = {
    "--driver-url": "SPARK_DRIVER_URL",
    "--executor-id": "SPARK_EXECUTOR_ID",
    "--cores": "SPARK_EXECUTOR_CORES",
    "--app-id": "SPARK_APPLICATION_ID",
    "--hostname": "SPARK_EXECUTOR_POD_IP",
    "--resourceProfileId": "SPARK_RESOURCE_PROFILE_ID",
    "--podName": "SPARK_EXECUTOR_POD_NAME",
}


def command(told: Mapping[str, str], home: Path) -> list[str]:
    """The JVM's command line. told: the environment that the driver gave; home: the folder with Spark's jars.

    KeyError: a variable that the driver always sets is not there.
    """
    numbered = {int(m[1]): value for name, value in told.items() if (m := re.fullmatch(r"SPARK_JAVA_OPT_(\d+)", name))}
    java = str(Path(told["JAVA_HOME"]) / "bin" / "java") if told.get("JAVA_HOME") else "java"
    paths = [told.get("SPARK_CLASSPATH", ""), f"{home}/jars/*"]
    memory = told["SPARK_EXECUTOR_MEMORY"]
    options = [word for option, name in OPTIONS.items() for word in (option, told[name])]
    return [
        java, *(numbered[n] for n in sorted(numbered)), f"-Xms{memory}", f"-Xmx{memory}",
        "-cp", ":".join(filter(None, paths)), BACKEND, *options]  # fmt: skip


def main() -> None:
    spark = find_spec("pyspark")
    if spark is None or spark.origin is None:
        sys.exit("Found no pyspark; executors need the image that the jobs run in.")
    try:
        told = command(os.environ, Path(spark.origin).parent)
    except KeyError as missing:
        sys.exit(f"Found no {missing} in the environment; Spark's driver starts this program, nobody else.")
    os.execvp(told[0], told)


if __name__ == "__main__":
    main()
