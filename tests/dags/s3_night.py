"""A whole night through Airflow with the data root on an S3 server, as `make nightly` runs it: by `make test-s3`, since
it takes minutes."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from pathlib import Path

from feature_store import FeatureStore, Table
from feature_store.__main__ import main as store_command
from feature_store.tree import DataRoot
from jobs.configuration.load import load_settings
from jobs.night_figures import read_night
from tests.dags import small_log
from tests.dags.test_night import NIGHT, STAGES
from tests.s3_server import BUCKET, S3Server


def test_a_night_through_airflow(s3_server: S3Server, tmp_path: Path) -> None:
    root = f"s3://{BUCKET}/{tmp_path.name}/nocturne"
    storage = {"endpoint": s3_server.endpoint, "region": "us-east-1"}
    source = small_log.configuration(())["source"] | {"ready_marker": f"s3://{BUCKET}/{tmp_path.name}/ready/{{ds}}"}
    sections = {"data_root": root, "storage": storage, "source": source, "profiles": small_log.PROFILES}
    config = small_log.write(tmp_path, ("transe",), **sections)
    settings = load_settings(config)
    DataRoot(root).disk.put_atomic(settings.source.ready_marker.replace("{ds}", NIGHT), b"")
    command = [sys.executable, "-m", "jobs.run_nights", "--config", str(config), "--dates", NIGHT]
    command += ["--folder", str(tmp_path / "run")]
    environment = os.environ | s3_server.environment
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=3000, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert f"Embeddings  {root}/feature_store/user_embeddings/model=transe/dt={NIGHT}/" in done.stdout
    (page,) = Table(f"{root}/reports").files(NIGHT)
    assert f"Report      {page}\n" in done.stdout
    log = (tmp_path / "run" / "logs" / f"{NIGHT}.log").read_text(encoding="utf-8")
    assert f"The night is complete; its report: {page}" in log
    assert b"</html>" in DataRoot(root).disk.read_bytes(page)
    figures = read_night(root, datetime.date.fromisoformat(NIGHT))
    assert set(figures.values) == STAGES and all(v["status"] in (0, 99) for v in figures.values.values())
    vectors = FeatureStore(f"{root}/feature_store").read("user_embeddings", model="transe", dt=NIGHT)
    assert vectors.table.num_rows > 50
    assert store_command(["verify", "--root", root]) == 0
