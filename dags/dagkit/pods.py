"""A job in a pod of its own, by the official provider's `KubernetesPodOperator`: the same command, the same meaning of
its exit status, the same words in the task's log as where it is a process (tasks.py).

A job's result is read in the pod's log, as it is read in a process's output: the pod needs no second container, and
Airflow no right to run anything in it. Imported only where the configuration has the section `pods`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk.exceptions import AirflowException
from kubernetes.client import ApiException
from kubernetes.client import models as k8s
from urllib3.exceptions import HTTPError

from dagkit.links import ReportLink
from dagkit.order import EndsNight, LastJob
from dagkit.pod_settings import Pods, Shape, mib
from dagkit.settings import Settings
from dagkit.tasks import GRACE_SECONDS, Job, JobOperator

CONTAINER = "job"
USER = 10001  # of docker/Dockerfile
LAST_LINES = 200  # of the pod's log, in which the result and the last words are looked for
SIZES = "size_pods"  # the task whose result is what memory each job asks for
SPARK_PROGRAM = "build_graphs"  # the one that may start executors, and so may talk to the cluster
SCRATCH = {"HOME": "/tmp", "TMPDIR": "/tmp", "NUMBA_CACHE_DIR": "/tmp/numba", "MPLCONFIGDIR": "/tmp"}
ABOUT_THE_POD = {
    "NOCTURNE_POD_IP": "status.podIP", "NOCTURNE_POD_NAME": "metadata.name",
    "NOCTURNE_POD_NAMESPACE": "metadata.namespace"}  # fmt: skip


class JobInPod(Job, KubernetesPodOperator):
    """What `JobOperator` is, in a pod."""

    template_fields: Sequence[str] = (*KubernetesPodOperator.template_fields, "command", "report")

    def __init__(
        self, *, command: list[str], inputs: Sequence[str] = (), outputs: Sequence[str] = (),
        returns_json: bool = False, report: tuple[str, str] | None = None, stage: str = "",
        memory_most: str | None = None, **arguments: Any,
    ) -> None:  # fmt: skip
        """stage: by which its own figures are found, which raise its memory up to `memory_most`; else as
        `JobOperator`."""
        super().__init__(base_container_name=CONTAINER, container_name_log_prefix_enabled=False, **arguments)
        self.command, self.inputs, self.outputs = command, tuple(inputs), tuple(outputs)
        self.returns_json, self.report, self.stage, self.memory_most = returns_json, report, stage, memory_most
        if report is not None:
            self.operator_extra_links = (ReportLink(),)
        self.result: dict[str, Any] | None = None

    def build_pod_request_obj(self, context: Any = None, **how: Any) -> k8s.V1Pod:
        """The command is rendered by now."""
        self.cmds = list(self.command)
        if context and self.dag.has_task(SIZES):
            self._take_measure(context["ti"])
        return super().build_pod_request_obj(context, **how)

    def _take_measure(self, ti: Any) -> None:
        """Ask for the memory that earlier nights' figures tell, but for no more than a node is known to have; from the
        second try on for no less than configured: what failed may have run out of it."""
        measured = (ti.xcom_pull(task_ids=SIZES) or {}).get(self.stage)
        resources = self.container_resources
        configured = resources.limits["memory"]
        if measured:
            measured = min(measured, max(configured, self.memory_most or configured, key=mib), key=mib)
        if measured and (ti.try_number < 2 or mib(measured) > mib(configured)):
            self.log.info("Memory by the figures of earlier nights: %s (configured: %s)", measured, configured)
            requests, limits = ({**told, "memory": measured} for told in (resources.requests, resources.limits))
            self.container_resources = k8s.V1ResourceRequirements(requests=requests, limits=limits)

    def execute(self, context: Any) -> dict[str, Any] | None:
        super().execute(context)
        return self._handed_over()

    def trigger_reentry(self, context: Any, event: dict[str, Any]) -> dict[str, Any] | None:
        super().trigger_reentry(context, event)
        return self._handed_over()

    def _handed_over(self) -> dict[str, Any] | None:
        """The result; from now on `do_xcom_push` is no longer the provider's word for a second container, but
        Airflow's, which keeps no result without it."""
        self.do_xcom_push = self.returns_json
        return self.result

    def cleanup(self, pod: Any, remote_pod: Any, xcom_result: Any = None, context: Any = None) -> None:
        """The pod's end, waited for here or in the triggerer: it is deleted, and its job's status judged."""
        if self._killed or not remote_pod:
            return
        said, ended = self._last_lines(remote_pod), _ended(remote_pod)
        failure = None
        try:
            super().cleanup(pod, remote_pod, xcom_result, context)
        except AirflowException as error:
            failure = error
        if ended is None:  # evicted, never started, past its deadline: nothing that a job could say
            raise failure or AirflowException(f"{self.task_id}: the pod has ended without an exit status.")
        if ended.exit_code and ended.reason not in (None, "Error"):  # OOMKilled
            said = [*said, f"The pod's container was ended: {ended.reason}"]
        self.result = self.finish(context, ended.exit_code, said)

    def _last_lines(self, pod: Any) -> list[str]:
        asked = {"container": self.base_container_name, "tail_lines": LAST_LINES, "_preload_content": False}
        try:
            read = self.client.read_namespaced_pod_log(pod.metadata.name, pod.metadata.namespace, **asked)
            return read.data.decode("utf-8", "backslashreplace").splitlines()
        except (ApiException, HTTPError) as error:
            self.log.warning("The end of the pod's log cannot be read: %s", error)
            return []


class LastJobInPod(EndsNight, JobInPod):
    """What `LastJob` is, in a pod."""


IN_POD: dict[type[JobOperator], type[JobInPod]] = {JobOperator: JobInPod, LastJob: LastJobInPod}


def _ended(pod: Any) -> Any:
    """How the job's container ended: `exit_code`, `reason`; None where it did not."""
    statuses = (pod.status and pod.status.container_statuses) or ()
    found = next((status for status in statuses if status.name == CONTAINER), None)
    return found and found.state and found.state.terminated


def job_in_pod(settings: Settings, program: str, trains: bool, operator: type, **arguments: Any) -> JobInPod:
    """The task of a program by its last name, as `operator` would run it here."""
    pods = settings.pods
    shape = pods.shape(program, trains)
    starts_executors = program == SPARK_PROGRAM and settings.spark_master.startswith("k8s://")
    return IN_POD[operator](
        name=f"nocturne-{program}", namespace=pods.namespace, image=shape.image, kubernetes_conn_id=pods.connection,
        labels={"app.kubernetes.io/name": "nocturne", "app.kubernetes.io/component": program.replace("_", "-")},
        env_vars=_environment(shape), env_from=[k8s.V1EnvFromSource(secret_ref=_ref(n)) for n in pods.secrets],
        image_pull_secrets=[k8s.V1LocalObjectReference(name=name) for name in pods.pull_secrets],
        volumes=_volumes(pods), volume_mounts=_mounts(pods, settings.config),
        container_resources=_resources(shape), node_selector=dict(shape.node_selector or {}),
        tolerations=[k8s.V1Toleration(**({"operator": "Exists"} | told)) for told in shape.tolerations or ()],
        service_account_name=pods.service_account, automount_service_account_token=starts_executors,
        security_context=k8s.V1PodSecurityContext(
            run_as_non_root=True, run_as_user=USER, run_as_group=USER, fs_group=USER,
            fs_group_change_policy="OnRootMismatch", seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault")),
        container_security_context=k8s.V1SecurityContext(
            read_only_root_filesystem=True, allow_privilege_escalation=False, privileged=False,
            capabilities=k8s.V1Capabilities(drop=["ALL"])),
        startup_timeout_seconds=pods.startup_minutes * 60, termination_grace_period=GRACE_SECONDS,
        # one that Airflow has lost sight of ends too
        active_deadline_seconds=int(settings.task_timeout.total_seconds()) + pods.startup_minutes * 60,
        deferrable=pods.deferrable, log_pod_spec_on_failure=False, log_events_on_failure=True,
        do_xcom_push=False, **arguments)  # fmt: skip


def _ref(name: str) -> k8s.V1SecretEnvSource:
    return k8s.V1SecretEnvSource(name=name)


def _environment(shape: Shape) -> list[k8s.V1EnvVar]:
    fields = {name: k8s.V1ObjectFieldSelector(field_path=path) for name, path in ABOUT_THE_POD.items()}
    known = [k8s.V1EnvVar(name, value_from=k8s.V1EnvVarSource(field_ref=ref)) for name, ref in fields.items()]
    own = SCRATCH | {"NOCTURNE_IMAGE": shape.image, "PYTHONUNBUFFERED": "1"}
    return [*(k8s.V1EnvVar(name, value) for name, value in own.items()), *known]


def _volumes(pods: Pods) -> list[k8s.V1Volume]:
    claim = k8s.V1PersistentVolumeClaimVolumeSource
    lakes = [k8s.V1Volume(name=f"lake-{n}", persistent_volume_claim=claim(claim_name=name, read_only=True))
             for n, name in enumerate(pods.lakes.values())]  # fmt: skip
    data = [k8s.V1Volume(name="data", persistent_volume_claim=claim(claim_name=pods.claim))] if pods.claim else []
    return [
        *data,
        k8s.V1Volume(name="config", config_map=k8s.V1ConfigMapVolumeSource(name=pods.config_map)),
        k8s.V1Volume(name="scratch", empty_dir=k8s.V1EmptyDirVolumeSource(size_limit=pods.scratch)), *lakes]


def _mounts(pods: Pods, config: str) -> list[k8s.V1VolumeMount]:
    """The configuration lies where Airflow reads it, so that a job's command is the same everywhere."""
    lakes = [k8s.V1VolumeMount(name=f"lake-{n}", mount_path=folder, read_only=True)
             for n, folder in enumerate(pods.lakes)]  # fmt: skip
    data = [k8s.V1VolumeMount(name="data", mount_path=pods.mount)] if pods.claim else []
    return [
        *data,
        k8s.V1VolumeMount(name="config", mount_path=str(Path(config).parent), read_only=True),
        k8s.V1VolumeMount(name="scratch", mount_path="/tmp"), *lakes]


def _resources(shape: Shape) -> k8s.V1ResourceRequirements:
    """Asked for and limit are one: a job is not ended for what its node's neighbours take."""
    told = {"cpu": str(shape.cpu), "memory": shape.memory}
    if shape.gpus:
        told["nvidia.com/gpu"] = str(shape.gpus)
    return k8s.V1ResourceRequirements(requests=dict(told), limits=dict(told))
