"""Jobs as pods: every task's pod as the official operator renders it, and that operator's own run against a recorded
API, whose exit statuses mean what they mean of a process."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from jobs.run_nights import DAGS_FOLDER, environment
from tests.dags import rendered_pods, small_log
from tests.dags.recorded_api import Ending, connection, serving
from tests.dags.rendered_pods import jobs_of

pytest.importorskip(
    "airflow.providers.cncf.kubernetes",
    reason="apache-airflow-providers-cncf-kubernetes is not installed (pip install 'nocturne[kubernetes]')")

PODS = {
    "image": "registry.example.com/nocturne/jobs:0.2.0", "claim": "nocturne-data", "namespace": "night",
    "lakes": {"/lake": "company-lake"}, "secrets": ["lake-credentials"], "pull_secrets": ["registry"],
    "training": {
        "image": "registry.example.com/nocturne/jobs-cuda:0.2.0", "gpus": 1, "memory": "24Gi",
        "node_selector": {"accelerator": "h100"}, "tolerations": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]},
    "jobs": {"build_graphs": {"cpu": "6", "memory": "16Gi"}, "smooth_kqgc": {"memory": "48Gi"}}}
SOURCES = {
    "events": {"path": "/lake/events/*.parquet"}, "items": {"path": "/data/items.csv", "format": "csv"},
    "users": {"path": "/lake/users.csv", "format": "csv"}}
TRAINING = ("pretrain_", "smooth_", "finetune_")
XCOM = {"embeddings.resolve_predecessor": {"transe": "2026-01-05", "kqgc_mean": None},
        "resolve_request": {"date": "2026-01-12"}}  # fmt: skip


def configured(path: Path, **pods: Any) -> Path:
    told = small_log.configuration(("transe", "kqgc_mean")) | {
        "data_root": "/data/nocturne", "source": SOURCES, "profiles": small_log.PROFILES}
    told |= {"pods": PODS | pods} if pods != {"off": True} else {}
    path.write_text(yaml.safe_dump(told), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the configuration, in Airflow's environment."""
    folder = tmp_path_factory.mktemp("pods")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(folder / "airflow", folder / "night.yaml").items():
            patch.setenv(name, value)
        yield folder


def dags(path: Path) -> dict[str, Any]:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(dag_folder=str(DAGS_FOLDER))
    assert not bag.import_errors
    return bag.dags


@pytest.fixture(scope="module")
def both(home: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(DAGs with processes, DAGs with pods) of one configuration file."""
    local = dags(configured(home / "night.yaml", off=True))
    return local, dags(configured(home / "night.yaml"))


def context_of(task: Any, extra: Any = None) -> dict[str, Any]:
    return rendered_pods.context_of(task, extra, XCOM)


def rendered_pod(task: Any) -> tuple[list[str], dict[str, Any]]:
    """(the command, the pod as the API would get it) of a run."""
    return rendered_pods.rendered_pod(task, XCOM)


def test_every_job_is_a_pod_with_the_same_command(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    local, pods = map(jobs_of, both)
    assert set(local) == set(pods) and len(pods) > 12
    for name, task in pods.items():
        command, pod = rendered_pod(task)
        container = pod["spec"]["containers"][0]
        assert container["command"] == command and not container.get("args"), name
        assert command[0] == "python" and command[1:] == rendered_pod(local[name])[0][1:], name
        same = ("inputs", "outputs", "retries", "trigger_rule", "execution_timeout", "doc_md", "upstream_task_ids")
        assert all(getattr(task, key) == getattr(local[name], key) for key in same), name
        assert [a.name for a in task.outlets] == [a.name for a in local[name].outlets], name


def test_every_pod_is_confined_and_holds_no_secret(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    for name, task in jobs_of(both[1]).items():
        pod = rendered_pod(task)[1]
        spec, container = pod["spec"], pod["spec"]["containers"][0]
        assert len(spec["containers"]) == 1 and pod["metadata"]["namespace"] == "night", name
        assert spec["restartPolicy"] == "Never" and spec["automountServiceAccountToken"] is False, name
        assert spec["serviceAccountName"] == "nocturne-jobs" and spec["imagePullSecrets"] == [{"name": "registry"}]
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        own = container["securityContext"]
        assert own["readOnlyRootFilesystem"] and own["capabilities"] == {"drop": ["ALL"]}, name
        assert own["allowPrivilegeEscalation"] is False and own["privileged"] is False
        assert container["resources"]["limits"] == container["resources"]["requests"]
        assert {"cpu", "memory"} <= set(container["resources"]["limits"])
        assert container["envFrom"] == [{"secretRef": {"name": "lake-credentials"}}], name
        plain = {e["name"]: e["value"] for e in container["env"] if "value" in e}
        known = {"HOME", "TMPDIR", "NUMBA_CACHE_DIR", "MPLCONFIGDIR", "NOCTURNE_IMAGE", "PYTHONUNBUFFERED"}
        assert set(plain) == known, "nothing of Airflow's environment goes along"
        assert spec["activeDeadlineSeconds"] > task.execution_timeout.total_seconds()


def test_every_pod_finds_its_configuration_its_data_and_a_place_to_write(
    both: tuple[dict[str, Any], dict[str, Any]], home: Path
) -> None:
    for task in jobs_of(both[1]).values():
        spec = rendered_pod(task)[1]["spec"]
        mounts = {m["name"]: (m["mountPath"], m.get("readOnly", False)) for m in spec["containers"][0]["volumeMounts"]}
        assert mounts == {"data": ("/data", False), "config": (str(home), True), "scratch": ("/tmp", False),
                          "lake-0": ("/lake", True)}  # fmt: skip
        volumes = {v["name"]: v for v in spec["volumes"]}
        assert volumes["data"]["persistentVolumeClaim"] == {"claimName": "nocturne-data"}
        assert volumes["config"]["configMap"] == {"name": "nocturne-config"}
        assert volumes["lake-0"]["persistentVolumeClaim"] == {"claimName": "company-lake", "readOnly": True}
        assert volumes["scratch"] == {"name": "scratch", "emptyDir": {"sizeLimit": "10Gi"}}
        assert f"--config={home / 'night.yaml'}" in spec["containers"][0]["command"]


def test_pods_without_a_claim_mount_no_data() -> None:
    from dagkit import pod_settings
    from dagkit import pods as rendered

    pods = pod_settings.Pods(image="i:1")
    assert [volume.name for volume in rendered._volumes(pods)] == ["config", "scratch"]
    assert [mount.name for mount in rendered._mounts(pods, "/etc/nocturne/night.yaml")] == ["config", "scratch"]


def test_training_jobs_alone_have_a_card_and_its_node(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    seen = set()
    for task in jobs_of(both[1]).values():
        pod = rendered_pod(task)[1]
        spec, container = pod["spec"], pod["spec"]["containers"][0]
        program = container["command"][2].rpartition(".")[2]
        trains = program.startswith(TRAINING)
        limits, cuda = container["resources"]["limits"], "jobs-cuda" in container["image"]
        assert (limits.get("nvidia.com/gpu") == "1") == cuda == bool(spec.get("nodeSelector")) == trains, program
        environment = {e["name"]: e.get("value") for e in container["env"]}
        assert environment["NOCTURNE_IMAGE"] == container["image"]
        if trains:
            assert spec["nodeSelector"] == {"accelerator": "h100"}
            taint = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
            assert spec["tolerations"] == [taint]
        own = {"build_graphs": "16Gi", "smooth_kqgc": "48Gi"}
        assert limits["memory"] == own.get(program, "24Gi" if trains else "4Gi")
        assert pod["metadata"]["labels"]["app.kubernetes.io/component"] == program.replace("_", "-")
        seen.add(program)
    assert {"build_graphs", "smooth_kqgc", "pretrain_transe", "write_report"} <= seen


def test_the_dags_with_pods_can_be_stored(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    for dag in both[1].values():
        assert DagSerialization.to_dict(dag)["dag"]["dag_id"] == dag.dag_id


def test_only_executors_need_the_cluster(home: Path) -> None:
    path = configured(home / "night.yaml")
    told = yaml.safe_load(path.read_text("utf-8")) | {"spark": {"master": "k8s://https://kubernetes.default.svc"}}
    path.write_text(yaml.safe_dump(told), encoding="utf-8")
    for name, task in jobs_of(dags(path)).items():
        spec = rendered_pod(task)[1]["spec"]
        assert spec["automountServiceAccountToken"] == name.endswith("build_graphs")
        fields = {e["name"] for e in spec["containers"][0]["env"] if "valueFrom" in e}
        assert fields == {"NOCTURNE_POD_IP", "NOCTURNE_POD_NAME", "NOCTURNE_POD_NAMESPACE"}


def kept(task: Any, result: Any) -> Any:
    """What Airflow itself keeps of a task's result, for those that pull it."""
    from airflow.sdk.execution_time import task_runner

    found = []
    ti, log = SimpleNamespace(task=task, is_mapped=False), SimpleNamespace(info=lambda *_, **__: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task_runner, "_xcom_push", lambda ti, key, value, **_: found.append(value))
        task_runner._push_xcom_if_needed(result, ti, log)
    return found[0] if found else None


def ran(found: dict[str, Any], name: str, ending: Ending, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, Any]:
    """(result as Airflow keeps it or what was raised, the API, the assets' events) of a task's run by the official
    operator."""
    extra = {}
    with serving(ending) as (api, address):
        monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", connection(address))
        task = jobs_of(found)[name].prepare_for_execution()
        task.startup_check_interval_seconds = 0.05
        for asset in task.outlets:
            extra[asset] = SimpleNamespace(extra=None)
        context = context_of(task, extra)
        task.render_template_fields(context)
        try:
            return kept(task, task.execute(context)), api, extra
        except Exception as error:
            return error, api, extra


RESOLVE = "nightly_user_embeddings embeddings.resolve_predecessor"
PUBLISH = "nightly_user_embeddings embeddings.publish_transe"


def test_a_pod_that_ends_well_gives_the_jobs_result_and_is_gone(
    both: tuple[dict[str, Any], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ending = Ending(0, ('{"transe": "2026-01-04"}', '{"transe": "2026-01-05"}', "resolve: 0.1 s, 200 MiB"))
    result, api, _ = ran(both[1], RESOLVE, ending, monkeypatch)
    assert result == {"transe": "2026-01-05"}, "the last line that is JSON, as of a process"
    assert len(api.created) == 1 and not api.pods and ("DELETE", _path(api)) in api.asked
    assert api.created[0]["spec"]["containers"][0]["command"][:3] == [
        "python", "-m", "jobs.embeddings.resolve_predecessor"]  # fmt: skip
    assert not [path for _, path in api.asked if path.endswith("/exec")], "nothing is run in the pod"


def test_a_published_partition_says_its_night(
    both: tuple[dict[str, Any], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    result, _, extra = ran(both[1], PUBLISH, Ending(0, ("publish_users: rows 90",)), monkeypatch)
    assert result is None and [event.extra for event in extra.values()] == [{"dt": "2026-01-12"}]


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (99, "AirflowSkipException", "nothing to do: no buyers"),
        (75, "AirflowRescheduleException", ""),
        (2, "AirflowFailException", "Wrong command line or configuration"),
        (3, "AirflowFailException", "trying again would not help"),
        (76, "AirflowFailException", "nothing to do: no buyers"),
        (1, "AirflowException", "ended with exit status 1"),
        (137, "AirflowException", "OOMKilled"),
        (None, "AirflowException", ""),
    ],
)
def test_an_exit_status_means_what_it_means_of_a_process(
    both: tuple[dict[str, Any], dict[str, Any]], monkeypatch: pytest.MonkeyPatch, status: int | None, kind: str,
    says: str,
) -> None:  # fmt: skip
    reason = "OOMKilled" if status == 137 else None
    ending = Ending(status, ("publish_users: start", "publish_users: nothing to do: no buyers"), reason)
    error, api, extra = ran(both[1], PUBLISH, ending, monkeypatch)
    assert type(error).__name__ == kind and says in str(error), repr(error)
    assert not api.pods, "its pod is deleted, so that the next look or try begins a new one"
    assert all(event.extra is None for event in extra.values())


def test_the_last_job_runs_again_what_waited_for_it(
    both: tuple[dict[str, Any], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dagkit import order

    again = []
    monkeypatch.setattr(order, "run_again", lambda dag_id, run_id: again.append((dag_id, run_id)))
    ending = Ending(1, ('{"resume": ["scheduled__2026-01-13"]}', "write_report: failed, 1 s"))
    error, *_ = ran(both[1], "nightly_user_embeddings write_report", ending, monkeypatch)
    assert type(error).__name__ == "AirflowException"
    assert again == [("nightly_user_embeddings", "scheduled__2026-01-13")]


def test_a_deferred_job_is_judged_when_it_comes_back(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = dags(configured(home / "night.yaml", deferrable=True))
    for status, kind in ((0, None), (99, "AirflowSkipException"), (3, "AirflowFailException")):
        with serving(Ending(status, ('{"transe": null}', "done"))) as (api, address):
            monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", connection(address))
            task = jobs_of(found)[RESOLVE].prepare_for_execution()
            context = context_of(task)
            task.render_template_fields(context)
            deferred = _raised(task.execute, context)
            assert type(deferred).__name__ == "TaskDeferred" and deferred.method_name == "trigger_reentry"
            name, pod = next(iter(api.pods.items()))
            pod["looks"] = 2  # it has ended meanwhile
            event = {"status": "failed" if status else "success", "name": name, "namespace": "night", "message": "x"}
            back = jobs_of(found)[RESOLVE].prepare_for_execution()
            if kind is None:
                assert kept(back, back.trigger_reentry(context, event)) == {"transe": None}
            else:
                assert type(_raised(back.trigger_reentry, context, event)).__name__ == kind
            assert not api.pods


def _raised(function: Any, *arguments: Any) -> BaseException:
    with pytest.raises(BaseException) as caught:
        function(*arguments)
    return caught.value


def _path(api: Any) -> str:
    return f"/api/v1/namespaces/night/pods/{api.created[0]['metadata']['name']}"


def test_keys_and_defaults_are_those_of_the_jobs() -> None:
    from dagkit import pod_settings

    from jobs.configuration import pods as theirs

    for ours, other in ((pod_settings.Pods, theirs.Pods), (pod_settings.Shape, theirs.PodShape)):
        required = {"image": "i:1"} if ours is pod_settings.Pods else {}
        assert dataclasses.asdict(ours(**required)) == dataclasses.asdict(other(**required))
