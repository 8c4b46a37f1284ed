"""DAGs whose data root, marker and reports lie on an object store: Airflow asks a program, and has no client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from feature_store.disk import open_disk
from jobs.run_nights import DAGS_FOLDER, environment
from tests.dags import small_log
from tests.s3_server import BUCKET, S3Server

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import DagBag

NIGHT = "2026-01-21"


@pytest.fixture
def far(tmp_path: Path, s3_server: S3Server) -> Path:
    """A configuration with everything in a bucket."""
    place = f"s3://{BUCKET}/{tmp_path.name}"
    source = small_log.configuration(())["source"] | {"ready_marker": f"{place}/ready/{{ds}}"}
    storage = {"endpoint": s3_server.endpoint, "region": "us-east-1"}
    return small_log.write(tmp_path, data_root=f"{place}/data", storage=storage, source=source)


def test_the_files_are_parsed_with_every_command_and_asset(far: Path, tmp_path: Path) -> None:
    program = (
        "import json\nfrom airflow.dag_processing.dagbag import DagBag\n"
        f"bag = DagBag(dag_folder={str(DAGS_FOLDER)!r})\nassert not bag.import_errors, bag.import_errors\n"
        "dag = bag.dags['nightly_user_embeddings']\n"
        "print(json.dumps([[asset.uri for task in dag.tasks for asset in task.outlets],"
        " dag.get_task('write_report').report]))\n")
    paths = {"PYTHONPATH": f"{DAGS_FOLDER}{os.pathsep}{DAGS_FOLDER.parent}"}
    environ = os.environ | environment(tmp_path / "home", far) | paths
    told = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    uris, report = json.loads(told.stdout.strip().splitlines()[-1])
    root = f"s3://{BUCKET}/{tmp_path.name}/data"
    assert f"{root}/audiences" in uris and f"{root}/feature_store/user_embeddings/model=transe" in uris
    assert report == [f"{root}/reports/dt={{{{ night(params, dag_run) }}}}"] * 2


def test_the_wait_for_a_marker_ends_when_it_is_there_or_the_night_was_run(
    dagbag: DagBag, far: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dagkit import settings, tasks

    monkeypatch.setenv("NOCTURNE_CONFIG", str(far))
    given = settings.load()
    disk, root = open_disk(given.data_root, s3_server.storage())

    def poke() -> bool:
        sensor = tasks.wait_for_source(given)
        sensor.path = given.ready_marker.replace("{ds}", NIGHT)
        sensor.done = [file.replace(tasks.NIGHT, NIGHT) for file in sensor.done]
        return sensor.poke({})

    assert poke() is False
    marker = given.ready_marker.replace("{ds}", NIGHT)
    disk.put_atomic(marker, b"")
    assert poke() is True
    disk.delete(marker)
    assert poke() is False
    disk.put_atomic(f"{root}/rejected_events/dt={NIGHT}/_manifest.json", b"{}")
    assert poke() is True


def test_the_link_to_a_report_leads_to_its_page_as_its_writer_told(dagbag: DagBag, capsys: Any) -> None:
    from dagkit.links import NightComplete, ReportLink

    results: Any = {"write_report": {"page": "part-1.html", "resume": ["scheduled__2026-01-22"]}}
    ti = SimpleNamespace(xcom_pull=lambda task_ids: results[task_ids])
    report = ("s3://b/reports/dt=2026-01-21", "https://web.example.com/dt=2026-01-21")
    task = NightComplete(task_id="night_complete", report=report)
    assert ReportLink().get_link(task, ti_key=ti) == "https://web.example.com/dt=2026-01-21/part-1.html"
    task.execute({"ti": ti})
    assert "its report: s3://b/reports/dt=2026-01-21/part-1.html" in capsys.readouterr().out
    for results["write_report"] in (None, {"resume": []}):
        assert ReportLink().get_link(task, ti_key=ti) == "", "none was written"
