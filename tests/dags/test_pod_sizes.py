"""Memory of the jobs' pods by what the jobs took on earlier nights: a task's result, which the pods after it ask by."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.run_nights import environment, prepare
from tests.dags import small_log, test_pods
from tests.dags.recorded_api import Api, Ending, by_component, connection, serving

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
    assert night.get_task("size_pods").retries == 0, "the night does not wait for figures that come no sooner"
    assert night.get_task("size_pods").returns_json and not night.get_task("size_pods").upstream_task_ids
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(tmp_path / "airflow", tmp_path / "night.yaml").items():
            patch.setenv(name, value)
        waits = test_pods.configured(tmp_path / "night.yaml", memory_nights=7)
        told = yaml.safe_load(waits.read_text("utf-8"))
        told["source"] = test_pods.SOURCES | {"ready_marker": "/lake/ready_{ds}"}
        waits.write_text(yaml.safe_dump(told), encoding="utf-8")
        waiting = test_pods.dags(waits)["nightly_user_embeddings"]
        plain = test_pods.dags(test_pods.configured(tmp_path / "night.yaml"))
    assert waiting.get_task("size_pods").downstream_task_ids == {"graphs.wait_for_source"}
    assert waiting.get_task("graphs.build_graphs").trigger_rule == "all_success", "no night without its input"
    assert not plain["nightly_user_embeddings"].has_task("size_pods")


@pytest.mark.parametrize(("size", "mib"), [("1024Ki", 1), ("512Mi", 512), ("4Gi", 4096), ("1Ti", 1048576)])
def test_sizes_are_compared_in_one_unit(size: str, mib: float, sized: dict[str, Any]) -> None:
    from dagkit import pod_settings

    assert pod_settings.mib(size) == mib


@dataclass(frozen=True)
class Cluster:
    """An Airflow whose DAGs have `pods.memory_nights`, and the API that it asks for pods."""

    airflow: subprocess.Popen[str]
    api: Api
    results: Path
    log: Path

    def night(self, date: str, **endings: Ending) -> tuple[dict[str, Any], list[dict[str, Any]], str]:
        """(the run's state and its tasks', the pods that were asked for, the log) of a night whose pods end well but
        those of the named programs."""
        self.api.others, self.api.created = by_component(endings), []
        said, ended = self.log.stat().st_size, self._results()
        asked = {"name": date, "dag": "nightly_user_embeddings", "date": date, "conf": {}, "endings": {}, "notes": ""}
        print(json.dumps(asked), file=self.airflow.stdin, flush=True)
        end = time.monotonic() + 300
        while self._results() == ended:
            assert self.airflow.poll() is None and time.monotonic() < end, self.log.read_text("utf-8")[-3000:]
            time.sleep(0.1)
        found = json.loads(self._results()[-1])
        assert found["name"] == date
        return found, self.api.created, self.log.read_bytes()[said:].decode()

    def _results(self) -> list[str]:
        text = self.results.read_text("utf-8") if self.results.exists() else ""
        return text[: text.rfind("\n") + 1].splitlines()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """It plays one night after the other: starting it takes longer than a night."""
    folder = tmp_path_factory.mktemp("home")
    config, results, log = small_log.write(folder, ("transe",)), folder / "results", folder / "nights.log"
    told = yaml.safe_load(config.read_text("utf-8")) | {"data_root": "/data/nocturne", "source": test_pods.SOURCES}
    told["pods"] = test_pods.PODS | {"memory_nights": 7}
    (folder / "night.yaml").write_text(yaml.safe_dump(told), encoding="utf-8")
    prepare(folder / "airflow", folder / "night.yaml", folder / "airflow.log")
    with serving(Ending(0, ('{"transe": null}',))) as (api, address), log.open("w") as sink:
        variables = environment(folder / "airflow", folder / "night.yaml") | {
            "AIRFLOW_CONN_KUBERNETES_DEFAULT": connection(address)}  # fmt: skip
        with subprocess.Popen(
            [sys.executable, "-m", "tests.dags.run_scenarios", str(results)], stdin=subprocess.PIPE, stdout=sink,
            stderr=subprocess.STDOUT, text=True, cwd=Path(__file__).resolve().parents[2], env=variables,
        ) as airflow:  # fmt: skip
            try:
                yield Cluster(airflow, api, results, log)
            finally:
                airflow.kill()


def memory_by_program(pods: list[dict[str, Any]]) -> dict[str, str]:
    containers = [pod["spec"]["containers"][0] for pod in pods]
    return {c["command"][2].rpartition(".")[2]: c["resources"]["limits"]["memory"] for c in containers}


def test_a_night_goes_on_without_sizes(cluster: Cluster) -> None:
    """Each pod asks for the configured memory, and the log says why there are no sizes."""
    found, pods, said = cluster.night("2026-01-12", size_pods=Ending(1, ("the bucket cannot be reached",)))
    assert found["tasks"].pop("size_pods") == "failed"
    assert (found["state"], set(found["tasks"].values())) == ("success", {"success"}), found
    memory = memory_by_program(pods)
    assert (memory["build_graphs"], memory["pretrain_transe"], memory["publish_users"]) == ("16Gi", "24Gi", "4Gi")
    assert len(pods) == len(found["tasks"]), "all but night_complete"
    assert "the bucket cannot be reached" in said


def test_a_night_without_sizes_still_tells_of_what_failed(cluster: Cluster) -> None:
    found, *_ = cluster.night("2026-01-13", size_pods=Ending(None), publish_users=Ending(3))
    assert (found["tasks"]["size_pods"], found["tasks"]["graphs.build_graphs"]) == ("failed", "success")
    assert (found["tasks"]["embeddings.publish_transe"], found["state"]) == ("failed", "failed")


def test_a_night_with_sizes_asks_for_them(cluster: Cluster) -> None:
    told = Ending(0, ('{"pretrain_transe": "1216Mi", "size_pods": null}',))
    found, pods, _ = cluster.night("2026-01-14", size_pods=told)
    assert found["state"] == "success"
    memory = memory_by_program(pods)
    assert (memory["build_graphs"], memory["pretrain_transe"]) == ("16Gi", "1216Mi")
