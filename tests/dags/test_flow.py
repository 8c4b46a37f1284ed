"""What follows what when tasks are skipped or fail: the real DAGs in Airflow, with an interpreter that only pretends to
run the jobs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from feature_store import Table
from jobs.program import FINAL
from jobs.run_nights import environment, prepare
from tests.dags import small_log

PRETEND = Path(__file__).with_name("pretend_python.py")
EVERYTHING = [
    "build_graphs",
    "resolve_predecessor",
    "pretrain_transe",
    "publish_users_transe",
    "smooth_kqgc_kqgc_mean",
    "publish_users_kqgc_mean",
    "train_lookalike",
    "score_lookalike",
    "train_profiles",
    "write_report",
    "prune_partitions",
]
NIGHTLY = {"dag": "nightly_user_embeddings", "conf": {}, "endings": {}}
SCENARIOS = [
    NIGHTLY | {"name": "plain", "date": "2026-01-12"},
    NIGHTLY
    | {"name": "lookalike skipped", "date": "2026-01-13", "endings": {"train_lookalike": 99, "score_lookalike": 99}},
    NIGHTLY | {"name": "profiles failed", "date": "2026-01-17", "endings": {"train_profiles": 1}},
    NIGHTLY | {"name": "publish failed", "date": "2026-01-14", "endings": {"publish_users_transe": 1}},
    NIGHTLY | {"name": "graphs failed", "date": "2026-01-15", "endings": {"build_graphs": 1}},
    NIGHTLY | {"name": "date as parameter", "date": "2026-01-16", "conf": {"date": "2026-01-12"}},
    NIGHTLY | {"name": "no date", "date": None},
    NIGHTLY | {"name": "may pass", "date": "2026-01-18", "endings": {"build_graphs": 1}, "retries": 1},
    NIGHTLY | {"name": "final", "date": "2027-01-01", "endings": {"build_graphs": FINAL}, "retries": 1},
    {
        "name": "no seeds",
        "dag": "lookalike_audience",
        "date": None,
        "conf": {"date": "2026-01-12", "seeds": "nowhere.csv"},
        "endings": {"find_audience_kqgc_mean": "real"},
        "retries": 1,
    },
    {
        "name": "on demand",
        "dag": "lookalike_audience",
        "date": None,
        "conf": {"date": "2026-01-12", "seeds": "a b;c.csv", "k": 5},
        "endings": {},
    },
    {"name": "typo", "dag": "lookalike_audience", "date": None, "conf": {"seed": "a.csv"}, "endings": {}},
]


@dataclass
class Run:
    state: str
    tasks: dict[str, str]
    notes: list[dict[str, Any]]  # what the pretended interpreter was asked to run
    said: str
    links: dict[str, str | None]  # to the report, of each task

    @property
    def names(self) -> list[str]:
        return [n["name"] for n in self.notes]

    def arguments(self, name: str) -> list[str]:
        return next(n["arguments"] for n in self.notes if n["name"] == name)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """All scenarios, by name."""
    folder = tmp_path_factory.mktemp("flow")
    config = small_log.write(folder, profiles=small_log.PROFILES | {"models": ["kqgc_mean"]})
    prepare(folder / "airflow", config, folder / "airflow.log")
    with Table(str(folder / "data/reports")).replace("2026-01-12") as commit:
        commit.write_bytes(".html", b"<p>")
    interpreter = folder / "python"
    interpreter.write_text(f"#!{sys.executable}\n{PRETEND.read_text(encoding='utf-8')}", encoding="utf-8")
    interpreter.chmod(0o755)
    asked = "".join(json.dumps(s | {"notes": str(folder / f"{i}.jsonl")}) + "\n" for i, s in enumerate(SCENARIOS))
    done = subprocess.run(
        [sys.executable, "-m", "tests.dags.run_scenarios", str(folder / "results")],
        input=asked,
        text=True,
        capture_output=True,
        timeout=300,
        check=False,
        env=environment(folder / "airflow", config) | {"NOCTURNE_PYTHON": str(interpreter)},
        cwd=Path(__file__).resolve().parents[2],
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    results = [json.loads(line) for line in (folder / "results").read_text(encoding="utf-8").splitlines()]
    said = dict(part.split("\n", 1) for part in done.stdout.split("\nscenario ")[1:])
    return {
        r["name"]: Run(r["state"], r["tasks"], _notes(folder / f"{i}.jsonl"), said[r["name"]], r["links"])
        for i, r in enumerate(results)
    }


def _notes(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def test_a_night_runs_every_job_once_in_order(runs: dict[str, Run]) -> None:
    run = runs["plain"]
    assert run.state == "success"
    assert sorted(run.names) == sorted(EVERYTHING)
    assert run.names[0] == "build_graphs" and run.names[-2:] == ["write_report", "prune_partitions"]
    assert all("--date=2026-01-12" in n["arguments"] for n in run.notes)
    assert "--predecessor=2026-01-05" in run.arguments("pretrain_transe") and "--predecessor=none" in run.arguments(
        "publish_users_kqgc_mean"
    )
    assert not [n for n in run.notes if n["airflow"]], "Airflow's own settings and secrets stay with Airflow"


def test_a_skipped_lookalike_is_no_failure_and_the_report_still_comes(runs: dict[str, Run]) -> None:
    run = runs["lookalike skipped"]
    assert run.state == "success"
    assert run.tasks["audiences.train_lookalike"] == run.tasks["audiences.score_lookalike"] == "skipped"
    assert "score_lookalike" in run.names, "the backtest needs no training tonight"
    assert run.names[-2:] == ["write_report", "prune_partitions"]


def test_failed_profiles_stop_no_audience_and_no_report(runs: dict[str, Run]) -> None:
    run = runs["profiles failed"]
    assert run.state == "failed" and run.tasks["train_profiles"] == "failed"
    assert run.tasks["audiences.score_lookalike"] == "success" and run.names[-1] == "write_report"


def test_a_model_that_cannot_be_published_stops_no_other(runs: dict[str, Run]) -> None:
    run = runs["publish failed"]
    assert run.state == "failed"
    assert run.tasks["embeddings.publish_kqgc_mean"] == "success" and run.tasks["embeddings.publish_transe"] == "failed"
    assert "train_lookalike" not in run.names and run.names[-1] == "write_report"
    assert run.tasks["train_profiles"] == "success", "they read the other model's vectors"
    assert "publish_transe ended with exit status 1" in run.said and "said by publish_users_transe" in run.said


def test_the_report_tells_of_a_night_that_failed_at_once(runs: dict[str, Run]) -> None:
    assert runs["graphs failed"].state == "failed"
    assert runs["graphs failed"].names == ["build_graphs", "write_report"]


def test_the_parameter_date_says_which_night_it_is(runs: dict[str, Run]) -> None:
    run = runs["date as parameter"]
    assert run.state == "success" and all("--date=2026-01-12" in n["arguments"] for n in run.notes)


def test_a_run_without_any_date_fails_at_its_first_task_with_a_message(runs: dict[str, Run]) -> None:
    run = runs["no date"]
    assert run.state == "failed" and run.names == [] and run.tasks["graphs.build_graphs"] == "failed"
    assert "has no logical date and no `date` parameter" in run.said


def test_what_may_pass_is_tried_again(runs: dict[str, Run]) -> None:
    run = runs["may pass"]
    assert run.state == "failed" and run.names == ["build_graphs", "build_graphs", "write_report"]


def test_what_another_try_would_end_the_same_is_not_tried_again(runs: dict[str, Run]) -> None:
    run = runs["final"]
    assert run.state == "failed" and run.tasks["graphs.build_graphs"] == "failed"
    assert run.names == ["build_graphs", "write_report"], "one try"
    assert "build_graphs failed, and trying again would not help" in run.said


def test_seeds_that_are_not_there_hold_nobody_up(runs: dict[str, Run]) -> None:
    run = runs["no seeds"]
    assert run.state == "failed" and run.names == ["resolve_request_kqgc_mean", "find_audience_kqgc_mean"], "one try"
    assert "Nothing to read at nowhere.csv" in run.said


def test_the_run_and_its_report_link_to_the_page(runs: dict[str, Run]) -> None:
    links = {task: link for task, link in runs["plain"].links.items() if link}
    assert set(links) == {"write_report", "night_complete"}
    page = r"file:///.*/data/reports/dt=2026-01-12/part-[\w-]+\.html"
    assert all(re.fullmatch(page, link) for link in links.values())
    assert runs["lookalike skipped"].links["write_report"] == "", "no report of that night"


def test_an_audience_on_demand(runs: dict[str, Run]) -> None:
    run = runs["on demand"]
    assert run.state == "success"
    resolved = run.arguments("resolve_request_kqgc_mean")
    assert {"--date=2026-01-12", "--exact=true", "--model=kqgc_mean"} <= set(resolved)
    passed_on = "--date=2026-01-09"  # what the first task said
    assert {passed_on, "--seeds=a b;c.csv", "--client=none", "--k=5", "--model=kqgc_mean"} <= set(
        run.arguments("find_audience_kqgc_mean")
    )


def test_a_request_with_an_unknown_key_fails_at_its_first_task(runs: dict[str, Run]) -> None:
    run = runs["typo"]
    assert run.state == "failed" and run.names == []
    assert run.tasks == {"resolve_request": "failed", "find_audience": "upstream_failed"}
    assert "Found 'seed'" in run.said and "Did you mean 'seeds'?" in run.said
