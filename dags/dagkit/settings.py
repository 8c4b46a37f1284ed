"""What shapes the DAGs: a few keys of the YAML file that `NOCTURNE_CONFIG` names, read whenever a DAG file is parsed.

Only the models, the schedule and the waiting for the input are read here; the jobs check the whole file themselves, and
the first job of the night stops at any wrong key. Defaults and relative paths are those of `jobs/configuration` (a test
compares them).
"""

from __future__ import annotations

import datetime
import os
import reprlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dagkit.pod_settings import Pods, pods
from models import families

DEMO = Path(__file__).resolve().parents[2] / "jobs" / "configs" / "demo.yaml"


class Lenient(yaml.SafeLoader):
    """A value that is none of its kind (2026-02-30, a number of 5,000 digits) is its text: the first task names it, in
    a DAG that has to be there for that."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError:
            if isinstance(node, yaml.ScalarNode):
                return node.value
            raise


class SettingsError(ValueError):
    """The configuration cannot shape a DAG; shown in the UI as an import error."""


@dataclass(frozen=True)
class Settings:
    """The DAGs' part of the configuration."""

    config: str  # absolute path of the YAML file, handed to every job
    python: str  # the interpreter that runs the jobs
    data_root: str  # absolute path or URI
    models: tuple[str, ...]  # that are published
    # of each model family, as the YAML has them: they say what a family starts from
    sections: dict[str, dict[str, Any]]
    schedule: str | None
    owner: str
    reports_url: str | None  # where a web server shows the folder of the reports
    start_date: datetime.datetime
    retries: int
    retry_delay: datetime.timedelta
    task_timeout: datetime.timedelta
    ready_marker: str | None  # a path with {ds} in it
    ready_timeout: datetime.timedelta
    clients: tuple[str, ...]  # the choice that the on-demand DAG offers; the nightly DAG does not read them
    top_k: int
    labels: tuple[str, ...]  # profiles are predicted where there is one
    profile_models: tuple[str, ...]  # whose vectors they are predicted from
    recommending: tuple[str, ...]  # models by whose vectors items are recommended
    pods: Pods | None  # how the jobs' pods look; None: jobs are processes beside the task's own
    spark_master: str

    @property
    def trained(self) -> tuple[str, ...]:
        """Models that a night trains: those published and what they start from, in the order of training."""
        return families.trained_models(self.models, self.sections)

    def sources_of(self, model: str) -> tuple[str, ...]:
        """Models whose checkpoints a model starts from."""
        return families.sources_of(model, self.sections)


def load() -> Settings:
    """The settings of the file that `NOCTURNE_CONFIG` names, the demo's where it names none."""
    path = Path(os.environ.get("NOCTURNE_CONFIG") or DEMO).resolve()
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=Lenient)
    except FileNotFoundError:
        raise SettingsError(
            f"No configuration at {path}. Let NOCTURNE_CONFIG name a YAML file, e.g. one of jobs/configs/.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SettingsError(f"{path} is not YAML that can be read: {error}. {_advice(path)}") from error
    if not isinstance(document, dict) or "data_root" not in document:
        raise SettingsError(
            f"{path} has no data_root: it is not a configuration of this pipeline. See jobs/configs/demo.yaml.")
    try:
        return _settings(document, path)
    except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
        if isinstance(error, SettingsError):
            raise
        raise SettingsError(f"{path} cannot shape a DAG: {error}. {_advice(path)}") from error


def _advice(path: Path) -> str:
    return f"`python -m jobs.configuration {path}` says what is wrong."


def _settings(document: dict[str, Any], path: Path) -> Settings:
    dag, publishing, lookalike = (
        _section(document, "dag"),
        _section(document, "publishing"),
        _section(document, "lookalike"),
    )
    events, source, profiles = (_section(document, name) for name in ("events", "source", "profiles"))
    models = _models(publishing.get("models", list(families.DEFAULT_MODELS)), path)
    start = datetime.date.fromisoformat(str(dag.get("start_date", "1900-01-01")))
    marker = source.get("ready_marker")
    return Settings(
        config=str(path),
        python=os.environ.get("NOCTURNE_PYTHON") or sys.executable,
        data_root=_anchored(str(document["data_root"]), path.parent),
        models=models,
        sections={family.name: _section(document, family.name) for family in families.FAMILIES},
        schedule=dag.get("schedule", "@daily"),
        owner=str(dag.get("owner", "airflow")),
        reports_url=dag.get("reports_url"),
        start_date=datetime.datetime.combine(start, datetime.time(), datetime.UTC),
        retries=dag.get("retries", 2),
        retry_delay=datetime.timedelta(seconds=dag.get("retry_delay_seconds", 60)),
        task_timeout=datetime.timedelta(minutes=dag.get("task_timeout_minutes", 240)),
        ready_marker=_anchored(marker, path.parent) if marker else None,
        ready_timeout=datetime.timedelta(minutes=events.get("ready_timeout_minutes", 360)),
        clients=tuple(lookalike.get("clients") or {}),
        top_k=lookalike.get("top_k", 1000),
        labels=tuple(profiles.get("labels") or {}),
        profile_models=_profile_models(profiles.get("models"), models, path),
        recommending=_recommending(_section(document, "recommendations").get("models"), models, path),
        pods=pods(document.get("pods")),
        spark_master=str(_section(document, "spark").get("master", "local[2]")),
    )


def _section(document: dict[str, Any], name: str) -> dict[str, Any]:
    section = document.get(name) or {}
    if not isinstance(section, dict):
        raise SettingsError(f"{name} is {reprlib.repr(section)}; expected a mapping of keys to values.")
    return section


def _models(names: Any, path: Path) -> tuple[str, ...]:
    return _some_of(names, families.published_models(), f"publishing.models in {path}", "")


def _profile_models(names: Any, published: tuple[str, ...], path: Path) -> tuple[str, ...]:
    if names is None:
        return published[:1]
    return _some_of(names, published, f"profiles.models in {path}", "publishing.models: ")


def _recommending(names: Any, published: tuple[str, ...], path: Path) -> tuple[str, ...]:
    if not names:
        return ()
    return _some_of(names, published, f"recommendations.models in {path}", "publishing.models: ")


def _some_of(names: Any, known: tuple[str, ...], where: str, of: str) -> tuple[str, ...]:
    if not isinstance(names, list) or not names or any(name not in known for name in names):
        wanted = f"a list of one or more of {of}{', '.join(known)}"
        raise SettingsError(f"{where} is {reprlib.repr(names)}; expected {wanted}.")
    return tuple(dict.fromkeys(names))


def _anchored(path: str, folder: Path) -> str:
    """Relative paths are relative to the configuration file."""
    return path.rstrip("/") if "://" in path else os.path.normpath(folder / path)
