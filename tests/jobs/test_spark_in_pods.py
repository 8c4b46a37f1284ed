"""Spark on Kubernetes as far as no cluster is needed: what the driver is told, and the JVM that an executor becomes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from jobs import spark, spark_executor

POD = {"NOCTURNE_POD_IP": "10.1.2.3", "NOCTURNE_POD_NAME": "build-graphs-x", "NOCTURNE_POD_NAMESPACE": "night",
       "NOCTURNE_IMAGE": "jobs:0.2.0"}  # fmt: skip
TOLD = {
    "SPARK_DRIVER_URL": "spark://CoarseGrainedScheduler@10.1.2.3:7078", "SPARK_EXECUTOR_ID": "1",
    "SPARK_EXECUTOR_CORES": "4", "SPARK_EXECUTOR_MEMORY": "6g", "SPARK_APPLICATION_ID": "spark-1",
    "SPARK_EXECUTOR_POD_IP": "10.1.2.4", "SPARK_EXECUTOR_POD_NAME": "exec-1", "SPARK_RESOURCE_PROFILE_ID": "0",
    "SPARK_JAVA_OPT_10": "-Dk=10", "SPARK_JAVA_OPT_2": "-Da b=2", "JAVA_HOME": "/opt/java"}


def test_the_driver_is_found_by_its_pods_address_and_owns_its_executors() -> None:
    conf = spark.on_kubernetes("k8s://https://kubernetes.default.svc", POD)
    assert conf["spark.driver.host"] == "10.1.2.3" and conf["spark.driver.bindAddress"] == "0.0.0.0"
    assert conf["spark.kubernetes.driver.pod.name"] == "build-graphs-x"
    assert conf["spark.kubernetes.namespace"] == "night"
    assert conf["spark.kubernetes.container.image"] == "jobs:0.2.0"
    assert conf["spark.submit.deployMode"] == "client"


@pytest.mark.parametrize("master", ["local[2]", "yarn", "spark://host:7077"])
def test_another_master_knows_nothing_of_pods(master: str) -> None:
    assert spark.on_kubernetes(master, POD) == {}


def test_an_executor_is_the_jvm_that_the_driver_asked_for() -> None:
    command = spark_executor.command(TOLD, Path("/opt/spark"))
    assert command[:3] == ["/opt/java/bin/java", "-Da b=2", "-Dk=10"], "in the order of their numbers, unsplit"
    assert {"-Xms6g", "-Xmx6g"} <= set(command) and command[command.index("-cp") + 1] == "/opt/spark/jars/*"
    after = command[command.index(spark_executor.BACKEND) + 1 :]
    options = dict(zip(after[::2], after[1::2], strict=True))
    assert options["--driver-url"] == TOLD["SPARK_DRIVER_URL"] and options["--hostname"] == "10.1.2.4"
    assert options["--podName"] == "exec-1" and options["--resourceProfileId"] == "0"


def test_without_a_driver_it_says_so() -> None:
    command = [sys.executable, "-m", "jobs.spark_executor"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin"})
    assert done.returncode == 1 and "SPARK_EXECUTOR_MEMORY" in done.stderr
