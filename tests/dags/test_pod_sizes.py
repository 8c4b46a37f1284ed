"""Memory of the jobs' pods by what the jobs took on earlier nights: a task's result, which the pods after it ask by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.run_nights import environment
from tests.dags import test_pods

pytest.importorskip("airflow.providers.cncf.kubernetes")

TOLD = {"size_pods": None, "build_graphs": "20480Mi", "pretrain_transe": "1216Mi", "publish_users_transe": "768Mi",
        "smooth_kqgc_kqgc_mean": "9216Mi"}  # fmt: skip


@pytest.fixture(scope="module")
def sized(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The DAGs of a configuration with `pods.memory_nights`."""
    folder = tmp_path_factory.mktemp("sized")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(folder / "airflow", folder / "night.yaml").items():
            patch.setenv(name, value)
        return test_pods.dags(test_pods.configured(folder / "night.yaml", memory_nights=7, memory_most="20Gi"))


def memory_of(task: Any, told: Any, tries: int = 1) -> str:
    context = test_pods.context_of(task)
    context["ti"].try_number = tries
    context["ti"].xcom_pull = lambda task_ids: told if task_ids == "size_pods" else test_pods.XCOM[task_ids]
    task = task.prepare_for_execution()
    task.render_template_fields(context)
    resources = task.build_pod_request_obj(context, dry_run=True).spec.containers[0].resources
    assert resources.limits == resources.requests and resources.limits["cpu"]
    return resources.limits["memory"]


def test_a_pod_asks_for_what_its_job_took(sized: dict[str, Any]) -> None:
    found = {name.rpartition(".")[2]: memory_of(task, TOLD) for name, task in test_pods.jobs_of(sized).items()}
    assert (found["build_graphs"], found["pretrain_transe"]) == ("20480Mi", "1216Mi")
    assert (found["publish_transe"], found["smooth_kqgc_mean"]) == ("768Mi", "9216Mi")
    assert found["publish_kqgc_mean"] == "4Gi", "of which no figures are told"
    assert found["lookalike_audience find_audience"] == "4Gi", "a DAG of its own"


def test_what_is_told_of_nothing_changes_nothing(sized: dict[str, Any]) -> None:
    task = test_pods.jobs_of(sized)["nightly_user_embeddings graphs.build_graphs"]
    for told in (None, {}, {"size_pods": None}):
        assert memory_of(task, told) == "16Gi"


def test_a_second_try_has_no_less_than_configured(sized: dict[str, Any]) -> None:
    """The first one may have run out of memory."""
    jobs = test_pods.jobs_of(sized)
    assert memory_of(jobs["nightly_user_embeddings embeddings.pretrain_transe"], TOLD, tries=2) == "24Gi"
    assert memory_of(jobs["nightly_user_embeddings graphs.build_graphs"], TOLD, tries=2) == "20480Mi", "which is more"


def test_no_pod_asks_for_more_than_a_node_is_known_to_have(sized: dict[str, Any], tmp_path: Path) -> None:
    jobs = {name.rpartition(".")[2]: task for name, task in test_pods.jobs_of(sized).items()}
    most = {"build_graphs": "99999Mi", "pretrain_transe": "99999Mi", "publish_users_transe": "4160Mi"}
    for name, tries, asked in (
        ("build_graphs", 1, "20Gi"), ("build_graphs", 2, "20Gi"), ("pretrain_transe", 1, "24Gi"),
        ("publish_transe", 1, "4160Mi")):  # fmt: skip
        assert memory_of(jobs[name], most, tries) == asked
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(tmp_path / "airflow", tmp_path / "night.yaml").items():
            patch.setenv(name, value)
        plain = test_pods.dags(test_pods.configured(tmp_path / "night.yaml", memory_nights=7))
        graphs = test_pods.jobs_of(plain)["nightly_user_embeddings graphs.build_graphs"]
        assert [memory_of(graphs, most, tries) for tries in (1, 2)] == ["16Gi", "16Gi"], "more where it is said to do"
        assert memory_of(graphs, TOLD | {"build_graphs": "1024Mi"}) == "1024Mi"


def test_the_task_is_there_where_it_is_asked_for(sized: dict[str, Any], tmp_path: Path) -> None:
    night = sized["nightly_user_embeddings"]
    assert night.get_task("size_pods").downstream_task_ids == {"graphs.build_graphs"}
    assert night.get_task("size_pods").returns_json and not night.get_task("size_pods").upstream_task_ids
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(tmp_path / "airflow", tmp_path / "night.yaml").items():
            patch.setenv(name, value)
        plain = test_pods.dags(test_pods.configured(tmp_path / "night.yaml"))
    assert not plain["nightly_user_embeddings"].has_task("size_pods")


@pytest.mark.parametrize(("size", "mib"), [("1024Ki", 1), ("512Mi", 512), ("4Gi", 4096), ("1Ti", 1048576)])
def test_sizes_are_compared_in_one_unit(size: str, mib: float, sized: dict[str, Any]) -> None:
    from dagkit import pod_settings

    assert pod_settings.mib(size) == mib
