"""Logs of Airflow's tasks on a cluster: where they stay, and until when."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import yaml

from tests.deploy.rendering import ROOT


def test_a_tasks_log_outlives_its_pod_until_it_is_old(tmp_path: Path) -> None:
    """The sidecar's own command; of the other two the official chart's would look for a file that no image here has."""
    airflow = yaml.safe_load((ROOT / "helm" / "airflow-values.yaml").read_text("utf-8"))
    assert airflow["executor"] == "KubernetesExecutor" and airflow["logs"]["persistence"]["enabled"] is True
    assert re.fullmatch(r"\d+Gi", airflow["logs"]["persistence"]["size"])
    assert not any(airflow[part]["logGroomerSidecar"]["enabled"] for part in ("triggerer", "dagProcessor"))
    groomer, now = airflow["scheduler"]["logGroomerSidecar"], time.time()
    logs = {days: tmp_path / "logs" / f"dag_id={days}" / "attempt=1.log" for days in (1, 80, 100)}
    for days, path in logs.items():
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
        os.utime(path, (now - days * 86400,) * 2)
    days = str(groomer["retentionDays"])
    environment = os.environ | {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__LOG_RETENTION_DAYS": days}
    process = subprocess.Popen(groomer["args"], env=environment, start_new_session=True)
    try:
        while logs[100].exists():
            assert process.poll() is None and time.time() < now + 30
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # it and its sleep
        process.wait(30)
    assert days == "90" and logs[1].exists() and logs[80].exists()
