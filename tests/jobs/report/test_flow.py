"""Which stages a night is expected to have, by the records of the families; which task ran
each; whose figures are old."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from jobs.graphs import build_graphs
from jobs.report.flow import Flow, task_of
from jobs.report.write_report import drawn_first
from models import families
from models.hyperparameters import RHGNHyperparameters
from tests.jobs.report import night
from tests.jobs.report.night import DATE
from tests.jobs.report.test_write_report import Page, report


@pytest.fixture
def root(tmp_path: Path) -> Path:
    night.write_figures(tmp_path)
    night.write_config(tmp_path)
    return tmp_path


def earlier(html: str) -> list[str]:
    """Stages that are marked as of an earlier run."""
    rows = html[html.index('<section id="stages">') :].replace("<wbr>", "").split("<tr>")[1:]
    return [re.search(r'row">(\w+)<', row)[1] for row in rows if "of an earlier run" in row]


def test_the_expected_stages_follow_the_configuration() -> None:
    trained = Flow.of(["kqgc_mean"], {})
    assert trained.stages[-3:] == ["pretrain_transe", "smooth_kqgc_kqgc_mean", "publish_users_kqgc_mean"]
    tasks = {
        "smooth_kqgc_kqgc_mean": "smooth_kqgc_mean", "publish_users_transe": "publish_transe",
        "train_lookalike": "train_lookalike", "assign_ids": "build_graphs", "read_labels": "build_graphs"}  # fmt: skip
    assert {stage: task_of(stage) for stage in tasks} == tasks
    prospects = Flow.of(["transe"], {}, clients=True, labels=True).stages
    assert prospects[-4:] == ["publish_users_transe", "train_lookalike", "score_lookalike", "train_profiles"]
    assert "read_labels" in prospects and "read_labels" not in trained.stages


def test_the_graphs_task_runs_the_stages_that_the_report_expects_of_it() -> None:
    names = [program.rpartition(".")[2] for program in build_graphs.PROGRAMS]
    assert tuple(names) == Flow.of(["transe"], {}).graph_stages
    assert (*names, "read_labels") == Flow.of(["transe"], {}, labels=True).graph_stages


def test_a_family_is_trained_where_another_starts_from_it() -> None:
    flow = Flow.of(["rhgn"], {"rhgn": RHGNHyperparameters()})
    assert dict(flow.trained) == {"transe": (), "rhgn": ("transe",)} and flow.published == ("rhgn",)
    assert flow.stages[-3:] == ["pretrain_transe", "finetune_rhgn", "publish_users_rhgn"]


def test_the_models_that_know_most_are_drawn_first_and_those_of_labels_last() -> None:
    published = ["rhgn", "transe", "kqgc_attention2", "kqgc_mean", "kqgc_attention1"]
    assert drawn_first(published) == ["kqgc_mean", "kqgc_attention1", "kqgc_attention2", "transe", "rhgn"]
    assert drawn_first(["transe"]) == ["transe"]


def test_the_graphs_task_counts_once(root: Path) -> None:
    """Its own seconds are those of its programs, and what starting Spark took."""
    before = Page(report(root)).text
    programs = sum(2 + len(stage) / 3 for stage in Flow.of(["transe"], {}).graph_stages)
    night.put(root, "build_graphs", seconds=programs + 5)
    after = Page(report(root)).text
    assert seconds_in_all(after) == pytest.approx(seconds_in_all(before) + 5, abs=1.1)
    assert "build_graphs is the whole of the stages above it" in after and "is the whole of" not in before
    assert "Every stage done" in after and "13 of 13 stages done" in after


def seconds_in_all(page: str) -> float:
    found = re.search(r"(?:(\d+) min )?([\d.]+) s in all", page)
    return 60 * int(found[1] or 0) + float(found[2])


def test_a_program_of_the_graphs_task_that_failed_is_told_once_with_the_tasks_command(root: Path) -> None:
    night.put(root, "assign_ids", 1, "no room on the disk")
    night.put(root, "build_graphs", 1, "assign_ids ended with exit status 1")
    page = Page(report(root))
    assert "no room on the disk" in page.text and "ended with exit status 1" not in page.text
    assert page.text.count(f"-s {DATE} -e {DATE} -t 'build_graphs$' --downstream") == 1


def test_a_graphs_task_that_died_before_its_programs_says_why(root: Path) -> None:
    for stage in Flow.of(["transe"], {}).graph_stages:
        shutil.rmtree(root / "data" / "run_metrics" / f"stage={stage}")
    night.put(root, "build_graphs", 1, "Java is not there")
    page = Page(report(root))
    assert "Something failed" in page.text and "Java is not there" in page.text


def test_figures_older_than_those_of_a_stage_before_are_marked(root: Path) -> None:
    assert earlier(report(root)) == []
    night.put(root, "build_interactions", rows_out=63_100)
    night.put(root, "publish_users_transe", rows_out=1987)
    assert earlier(report(root)) == [], "nothing that is marked waits for these"
    night.put(root, "pretrain_transe", rows_in=5)
    assert earlier(report(root)) == ["smooth_kqgc_kqgc_mean", "train_lookalike", "score_lookalike"]
    night.put(root, "validate_events", rows_in=5)
    assert earlier(report(root))[:3] == ["assign_ids", "build_knowledge_graph", "pretrain_transe"]


def test_every_stage_of_a_flow_has_a_task_and_every_model_a_card() -> None:
    flow = Flow.of(families.published_models(), {}, clients=True, labels=True)
    assert list(flow.trained) == list(families.published_models())
    assert len(set(flow.stages)) == len(flow.stages) and all(task_of(stage) for stage in flow.stages)
