"""The section `pods`: the night's jobs as pods of a Kubernetes cluster, where it is there; else as processes beside
Airflow. Read by dags/dagkit/pod_settings.py as well (docs/deploy.md).

It is read in a ConfigMap and shown by Airflow: secrets stand in it by the names of Secrets alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from jobs.configuration.ranges import Minutes, Pattern, Range

_TAG = r"(:(?!latest$)[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}|@sha256:[0-9a-f]{64})"
IMAGE = Pattern(rf"[a-z0-9][a-z0-9._/:-]{{0,400}}{_TAG}", "an image with its version or digest, which is not latest")
NAME = Pattern(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", "a name of Kubernetes: lower case, digits, '-' and '.'")
CPU = Pattern(r"(?=.*[1-9])\d{1,4}(\.\d{1,3})?|[1-9]\d{0,6}m", "processors such as \"4\", \"1.5\" or \"500m\", quoted")
SIZE = Pattern(r"[1-9]\d{0,8}(Ki|Mi|Gi|Ti)", "a size such as 4Gi or 512Mi")
FOLDER = Pattern(r"(/[^/\x00]{1,200}){1,20}", "a folder's absolute path without a slash at its end")
LABEL = Pattern(r"[A-Za-z0-9]([A-Za-z0-9_./-]{0,315}[A-Za-z0-9])?", "a label of Kubernetes")
Cpu, Size, Image, Name = (Annotated[str, rule] for rule in (CPU, SIZE, IMAGE, NAME))
Gpus = Annotated[int, Range(0, 64)]


@dataclass(frozen=True)
class Toleration:
    """A taint of nodes that a pod puts up with."""

    key: Annotated[str, LABEL]
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


@dataclass(frozen=True)
class PodShape:
    """What differs for some jobs; what is not said is as for all."""

    image: Image | None = None
    cpu: Cpu | None = None
    memory: Size | None = None
    gpus: Gpus | None = None  # nvidia.com/gpu
    node_selector: dict[str, str] | None = None
    tolerations: list[Toleration] | None = None


@dataclass(frozen=True)
class Pods:
    """How a job's pod looks: docker/ has its images, helm/nocturne what it finds in its namespace."""

    image: Image  # of the target `jobs`
    # the PersistentVolumeClaim that holds the data root, many pods at a time (ReadWriteMany); none: it is on an object
    # store
    claim: Name | None = None
    mount: Annotated[str, FOLDER] = "/data"  # where it is mounted; data_root lies there or below
    # further claims, mounted to read: folder → claim; what `source` names lies in one of them or below `mount`
    lakes: dict[str, str] = field(default_factory=dict)
    config_map: Name = "nocturne-config"  # holds this file under its own name, mounted where NOCTURNE_CONFIG has it
    namespace: Name | None = None  # none: Airflow's own
    service_account: Name = "nocturne-jobs"
    secrets: list[str] = field(default_factory=list)  # Secrets whose keys become environment variables of every job
    pull_secrets: list[str] = field(default_factory=list)  # Secrets for pulling the image
    connection: str = "kubernetes_default"  # Airflow's connection; where there is none, the cluster that Airflow is in
    python: str = "python"  # in the image
    cpu: Cpu = "2"  # asked for and limit, as the memory
    memory: Size = "4Gi"
    # on how many earlier nights to look for what a job took at most; 0: `memory` counts, here and below
    memory_nights: Annotated[int, Range(0, 365)] = 0
    memory_headroom: Annotated[float, Range(1, 10)] = 1.5  # times the most that it took on them
    memory_most: Size | None = None  # up to which such figures may raise a job's memory; none: they only lower it
    gpus: Gpus = 0
    node_selector: dict[str, str] = field(default_factory=dict)
    tolerations: list[Toleration] = field(default_factory=list)
    training: PodShape = PodShape()  # for jobs that train a model family
    jobs: dict[str, PodShape] = field(default_factory=dict)  # for one program by its last name, e.g. build_graphs
    scratch: Size = "10Gi"  # of /tmp, all that a job can write to beside `mount`
    startup_minutes: Minutes = 30  # for a node to come up and an image to be pulled
    deferrable: bool = False  # wait for the pod's end in Airflow's triggerer, without a worker slot
