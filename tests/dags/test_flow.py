"""What follows what when tasks are skipped or fail: the real DAG in Airflow, with an interpreter that only pretends to run the jobs."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jobs.run_nights import airflow, environment, prepare
from tests.dags import small_log

PRETEND = Path(__file__).with_name("pretend_python.py")
EVERYTHING = [
    "validate_events", "assign_ids", "build_knowledge_graph", "build_interactions", "resolve_predecessor", "pretrain_transe", "publish_users_transe",
    "smooth_kqgc_kqgc_mean", "publish_users_kqgc_mean", "train_lookalike", "score_lookalike", "write_report"]


@dataclass
class Run:
    status: int
    text: str
    notes: list[dict[str, Any]]

    @property
    def names(self) -> list[str]:
        return [n["name"] for n in self.notes]

    def arguments(self, name: str) -> list[str]:
        return next(n["arguments"] for n in self.notes if n["name"] == name)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flow")
    config = small_log.write(folder)
    prepare(folder / "airflow", config, folder / "airflow.log")
    return folder


def dags_test(home: Path, tmp_path: Path, *arguments: str, endings: dict[str, int] | None = None, dag: str = "nightly_user_embeddings") -> Run:
    """`airflow dags test` with the pretended interpreter."""
    interpreter, notes = tmp_path / "python", tmp_path / "notes.jsonl"
    interpreter.write_text(f"#!{sys.executable}\n{PRETEND.read_text(encoding='utf-8')}", encoding="utf-8")
    interpreter.chmod(0o755)
    pretend = {"NOCTURNE_PYTHON": str(interpreter), "PRETEND_NOTES": str(notes), "PRETEND_ENDINGS": json.dumps(endings or {})}
    done = subprocess.run(
        airflow("dags", "test", dag, *arguments), env=environment(home / "airflow", home / "small.yaml") | pretend, capture_output=True, text=True,
        stdin=subprocess.DEVNULL, timeout=180, check=False)
    lines = notes.read_text(encoding="utf-8").splitlines() if notes.exists() else []
    return Run(done.returncode, done.stdout + done.stderr, [json.loads(line) for line in lines])


def test_a_night_runs_every_job_once_in_order(home: Path, tmp_path: Path) -> None:
    run = dags_test(home, tmp_path, "2026-01-12")
    assert run.status == 0, run.text[-3000:]
    assert sorted(run.names) == sorted(EVERYTHING)
    assert run.names[0] == "validate_events" and run.names[-1] == "write_report"
    assert all("--date=2026-01-12" in n["arguments"] for n in run.notes)
    assert "--predecessor=2026-01-05" in run.arguments("pretrain_transe") and "--predecessor=none" in run.arguments("publish_users_kqgc_mean")
    assert not [n for n in run.notes if n["airflow"]], "Airflow's own settings and secrets stay with Airflow"


def test_a_skipped_lookalike_is_no_failure_and_the_report_still_comes(home: Path, tmp_path: Path) -> None:
    run = dags_test(home, tmp_path, "2026-01-13", endings={"train_lookalike": 99})
    assert run.status == 0, run.text[-3000:]
    assert "score_lookalike" not in run.names and run.names[-1] == "write_report"


def test_a_model_that_cannot_be_published_stops_no_other(home: Path, tmp_path: Path) -> None:
    run = dags_test(home, tmp_path, "2026-01-14", endings={"publish_users_transe": 1})
    assert run.status == 1, "the run has failed"
    assert "publish_users_kqgc_mean" in run.names and "train_lookalike" not in run.names and run.names[-1] == "write_report"
    assert "publish_transe ended with exit status 1" in run.text and "said by publish_users_transe" in run.text


def test_the_report_tells_of_a_night_that_failed_at_once(home: Path, tmp_path: Path) -> None:
    run = dags_test(home, tmp_path, "2026-01-15", endings={"validate_events": 1})
    assert run.status == 1 and run.names == ["validate_events", "write_report"]


def test_the_parameter_date_says_which_night_it_is(home: Path, tmp_path: Path) -> None:
    run = dags_test(home, tmp_path, "2026-01-16", "-c", json.dumps({"date": "2026-01-12"}))
    assert run.status == 0 and all("--date=2026-01-12" in n["arguments"] for n in run.notes)


def test_a_run_without_any_date_fails_at_its_first_task_with_a_message(home: Path, tmp_path: Path) -> None:
    run = dags_test(home, tmp_path)
    assert run.status == 1 and run.names == []
    assert "has no logical date and no `date` parameter" in run.text


def test_an_audience_on_demand(home: Path, tmp_path: Path) -> None:
    run = dags_test(home, tmp_path, "-c", json.dumps({"date": "2026-01-12", "seeds": "a b;c.csv", "k": 5}), dag="lookalike_audience")
    assert run.status == 0, run.text[-3000:]
    assert {"--date=2026-01-12", "--seeds=a b;c.csv", "--client=none", "--k=5", "--model=kqgc_mean"} <= set(run.arguments("find_audience_kqgc_mean"))
