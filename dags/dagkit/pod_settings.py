"""The section `pods` of the configuration: how the pod of each job looks. Keys and defaults are those of
`jobs/configuration/pods.py` (a test compares them), which also says which values would do.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Shape:
    """What jobs differ in; None: as for all."""

    image: str | None = None
    cpu: str | None = None
    memory: str | None = None
    gpus: int | None = None
    node_selector: Mapping[str, str] | None = None
    tolerations: list[dict[str, Any]] | None = None

    def over(self, other: Shape) -> Shape:
        """This one, and of the other what this one does not say."""
        names = [f.name for f in dataclasses.fields(Shape)]
        said = {name: getattr(self, name) for name in names}
        return Shape(**{name: getattr(other, name) if value is None else value for name, value in said.items()})


@dataclass(frozen=True)
class Pods:
    """The section, as the YAML has it."""

    image: str
    claim: str | None = None
    mount: str = "/data"
    lakes: Mapping[str, str] = field(default_factory=dict)
    config_map: str = "nocturne-config"
    namespace: str | None = None
    service_account: str = "nocturne-jobs"
    secrets: list[str] = field(default_factory=list)
    pull_secrets: list[str] = field(default_factory=list)
    connection: str = "kubernetes_default"
    python: str = "python"
    cpu: str = "2"
    memory: str = "4Gi"
    memory_nights: int = 0
    memory_headroom: float = 1.5
    memory_most: str | None = None
    gpus: int = 0
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: list[dict[str, Any]] = field(default_factory=list)
    training: Shape = Shape()
    jobs: Mapping[str, Shape] = field(default_factory=dict)
    scratch: str = "10Gi"
    startup_minutes: int = 30
    deferrable: bool = False

    def shape(self, program: str, trains: bool) -> Shape:
        """Of a job by its program's last name: what is said of it, else of training jobs, else of all."""
        of_all = Shape(**{f.name: getattr(self, f.name) for f in dataclasses.fields(Shape)})
        return self.jobs.get(program, Shape()).over(self.training.over(of_all) if trains else of_all)


def mib(size: str) -> float:
    """A size as Kubernetes has it."""
    return int(size[:-2]) * {"Ki": 1 / 1024, "Mi": 1, "Gi": 1024, "Ti": 1024**2}[size[-2:]]


def pods(section: Any) -> Pods | None:
    """None where there is no such section. ValueError: dotted path, what was found, what would do."""
    if section is None:
        return None
    told = dict(_mapping(section, "pods"))
    if not isinstance(told.get("image"), str):
        raise ValueError(f"pods.image is {told.get('image')!r}; expected a text: it has no default")
    if "training" in told:
        told["training"] = _built(Shape, told["training"], "pods.training")
    jobs = _mapping(told.get("jobs") or {}, "pods.jobs")
    told["jobs"] = {name: _built(Shape, shape, f"pods.jobs.{name}") for name, shape in jobs.items()}
    return _built(Pods, told, "pods")


def _built(kind: type, told: Any, path: str) -> Any:
    names = [f.name for f in dataclasses.fields(kind)]
    for key in _mapping(told or {}, path):
        if key not in names:
            near = difflib.get_close_matches(str(key), names, 1)
            guess = f"did you mean {near[0]}? " if near else ""
            raise ValueError(f"{path}.{key} is no key; {guess}expected some of {', '.join(names)}")
    return kind(**(told or {}))


def _mapping(value: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{path} is {value!r}; expected a mapping of keys to values")
    return value
