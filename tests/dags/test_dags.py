"""House rules of the DAG files: what they import, what every task has, that commands parse and inputs exist."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from jobs.configuration import load as configuration
from jobs.configuration import sections
from jobs.embeddings.family import models_of
from jobs.program import Input, Output, _parameters, parser
from jobs.run_nights import DAGS_FOLDER, environment
from jobs.tables import TABLES

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.sdk import DAG

DAG_IDS = {"nightly_user_embeddings", "lookalike_audience", "example_consumer"}
# runs at once; nights wait for each other by their leases
MOST_AT_ONCE = {"nightly_user_embeddings": 8, "lookalike_audience": 4, "example_consumer": 1}
# inputs that other runs wrote
FORMER_NIGHTS = {
    "resolve_predecessor": {"user_embeddings", "checkpoints"}, "find_audience": set(TABLES),
    "resolve_request": {"user_embeddings"}, "size_pods": {"run_metrics"}}  # fmt: skip
RESOLVED = {"embeddings.resolve_predecessor": None, "resolve_request": {"date": "2026-01-12"}}
PREDECESSORS = {"transe": "2026-01-05", "kqgc_mean": None, "kqgc_attention2": "2026-01-04", "rhgn": "2026-01-03"}


@pytest.fixture(scope="module")
def nightly(dagbag: DagBag) -> DAG:
    return dagbag.dags["nightly_user_embeddings"]


def rendered(task: Any, dag: Any, **params: Any) -> list[str]:
    """A job task's command as a run of 2026-01-12 has it."""
    given = {name: dag.params[name] for name in dag.params} | params
    moment = datetime.datetime(2026, 1, 12, tzinfo=datetime.UTC)
    context = {
        **dag.user_defined_macros,
        "params": given,
        "dag_run": SimpleNamespace(logical_date=moment, run_id="test", conf=params),
        "ds": "2026-01-12",
        "ti": SimpleNamespace(xcom_pull=lambda task_ids: RESOLVED[task_ids] or PREDECESSORS),
    }
    return task.render_template(task.command, context, dag.get_template_env())


def job_tasks(dag: Any) -> list[Any]:
    return [t for t in dag.tasks if hasattr(t, "command") and "jobs." in t.command[2]]


def test_dag_files_import_without_errors(dagbag: DagBag) -> None:
    assert dagbag.import_errors == {}
    assert set(dagbag.dags) == DAG_IDS


def test_dag_files_pull_in_no_engine(small: Path, tmp_path: Path) -> None:
    """Parsing happens every few seconds on the scheduler, where Spark, torch and the jobs need not be installed."""
    program = (
        "import sys, json; sys.path.insert(0, sys.argv[1])\n"
        "import airflow.sdk, airflow.providers.standard.operators.empty\nbefore = set(sys.modules)\n"
        "import nightly_user_embeddings, lookalike_audience, example_consumer\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))")
    done = subprocess.run(
        [sys.executable, "-c", program, str(DAGS_FOLDER)],
        env=environment(tmp_path, small),
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert {"dagkit", "models", "nightly_user_embeddings"} <= loaded
    assert {name for name in loaded if name.startswith("models.")} == {"models.families", "models.family"}
    assert not {name.split(".")[0] for name in loaded} & {
        "jobs",
        "feature_store",
        "pyspark",
        "torch",
        "dgl",
        "numpy",
        "pandas",
        "pyarrow",
        "sklearn",
        "xgboost",
        "numba",
    }


def test_every_task_has_retries_a_time_limit_and_a_doc(dagbag: DagBag) -> None:
    for dag in dagbag.dags.values():
        assert dag.doc_md and dag.tags and dag.catchup is False
        assert dag.max_active_runs == MOST_AT_ONCE[dag.dag_id]
        for task in dag.tasks:
            assert task.doc_md, task.task_id
            assert task.execution_timeout or task.task_id.endswith("wait_for_source"), task.task_id
            assert task.retries == 0 and task.retry_delay == datetime.timedelta(seconds=1), (
                "as the small configuration says"
            )
            assert task.retry_exponential_backoff == 2, task.task_id
            assert task.owner == "shop team", "as the small configuration says"


@pytest.mark.parametrize("dag_id", ["nightly_user_embeddings", "lookalike_audience"])
def test_commands_parse_with_the_jobs_own_parsers(dagbag: DagBag, small: Path, dag_id: str) -> None:
    dag = dagbag.dags[dag_id]
    assert job_tasks(dag)
    for task in job_tasks(dag):
        command = rendered(task, dag)
        run = importlib.import_module(command[2]).run
        given = parser(run).parse_args(command[3:])
        assert given.date == datetime.date(2026, 1, 12) and given.config == small
        assert all(
            getattr(given, name) for name, (kind, _, _) in _parameters(run).items() if kind in (Input, Output)
        ), "every table is named"
        declared = {
            n: {k for k, (kind, _, _) in _parameters(run).items() if kind is which}
            for n, which in (("inputs", Input), ("outputs", Output))
        }
        assert set(task.inputs) == declared["inputs"] and set(task.outputs) == declared["outputs"], command[2]


def test_every_input_is_external_or_written_upstream(nightly: DAG) -> None:
    for task in job_tasks(nightly):
        written = set().union(
            *(
                {*nightly.get_task(u).outputs}
                for u in task.get_flat_relative_ids(upstream=True)
                if hasattr(nightly.get_task(u), "outputs")
            ),
            set(),
        )
        former = FORMER_NIGHTS.get(task.command[2].rsplit(".", 1)[-1], set())
        missing = set(task.inputs) - written - former - {"run_metrics"}  # every stage writes its own figures
        assert not missing, f"{task.task_id} reads {missing}, which nothing upstream writes"


def test_predecessors_reach_the_jobs(nightly: DAG) -> None:
    found = {
        t.task_id.split(".")[-1]: [a for a in rendered(t, nightly) if a.startswith("--predecessor")]
        for t in job_tasks(nightly)
    }
    assert found["pretrain_transe"] == ["--predecessor=2026-01-05"]
    assert found["smooth_kqgc_mean"] == found["publish_kqgc_mean"] == ["--predecessor=none"]
    assert found["smooth_kqgc_attention2"] == ["--predecessor=2026-01-04"]
    assert found["finetune_rhgn"] == found["publish_rhgn"] == ["--predecessor=2026-01-03"]
    assert found["build_graphs"] == []


def test_models_do_not_wait_for_each_other(nightly: DAG) -> None:
    """A model that cannot be published stops the audiences, not another model; the report and the verdict come in any
    case."""
    publish = {t.task_id: t.get_flat_relative_ids(upstream=True) for t in nightly.tasks if ".publish_" in t.task_id}
    assert len(publish) == 4
    assert not [u for upstream in publish.values() for u in upstream if u in publish]
    report, verdict = nightly.get_task("write_report"), nightly.get_task("night_complete")
    assert nightly.get_task("prune_partitions").trigger_rule == "none_failed", (
        "nothing is deleted after a night that failed"
    )
    assert report.trigger_rule == "all_done" and set(publish) <= report.upstream_task_ids
    assert verdict.trigger_rule == "none_failed" and set(publish) <= verdict.upstream_task_ids
    assert [t.task_id for t in nightly.leaves] == ["night_complete"], "the only leaf, so that its state is the run's"


def test_assets_stand_on_the_tasks_that_publish(nightly: DAG) -> None:
    outlets = {t.task_id: [a.name for a in t.outlets] for t in nightly.tasks if t.outlets}
    assert outlets["embeddings.publish_kqgc_mean"] == ["user_embeddings.kqgc_mean"]
    assert outlets["audiences.score_lookalike"] == ["audiences"] and outlets["train_profiles"] == [
        "profile_predictions"
    ]


def test_profiles_wait_for_the_models_they_read_and_for_no_other(nightly: DAG) -> None:
    task = nightly.get_task("train_profiles")
    assert task.upstream_task_ids == {"embeddings.publish_transe"}
    assert task.downstream_task_ids == {"write_report", "prune_partitions", "night_complete"}


def test_there_are_no_profiles_without_a_label(tmp_path: Path) -> None:
    (tmp_path / "minimal.yaml").write_text(MINIMAL, encoding="utf-8")
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\nimport nightly_user_embeddings as n\n"
        "print(sorted(n.nightly_user_embeddings().task_ids))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(DAGS_FOLDER)],
        env=environment(tmp_path, tmp_path / "minimal.yaml"),
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert "write_report" in done.stdout and "train_profiles" not in done.stdout, done.stderr


def test_parameters_are_checked(dagbag: DagBag) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    params = copy.deepcopy(dagbag.dags["lookalike_audience"].params)  # resolve() also sets the value
    wrong = {
        "k": 0,
        "model": "bert",
        "client": "nobody",
        "date": "yesterday",
        "seeds": "",
        "name": "../x",
        "include_seeds": "no",
        "suppress": "",
        "control_share": 0.95,
    }
    for name, value in wrong.items():
        with pytest.raises(ParamValidationError):
            params.get_param(name).resolve(value)
    assert params.get_param("client").resolve("brand_one") == "brand_one"


def test_hostile_parameters_stay_one_argument(dagbag: DagBag) -> None:
    """No shell, no second look by Jinja, no way to smuggle in another option."""
    dag = dagbag.dags["lookalike_audience"]
    hostile = "--k=1; rm -rf $(pwd) `id` {{ 7 * 7 }} '\" \n|"
    task = dag.get_task("find_audience")
    command = rendered(task, dag, seeds=hostile, suppress=hostile, control_share=0.2)
    assert {f"--seeds={hostile}", f"--suppress={hostile}", "--control-share=0.2"} <= set(command)
    assert "--date=2026-01-12" in command and "--client=none" in command
    assert len(command) == len(task.command)


def test_settings_read_as_the_jobs_do(small: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from dagkit import settings

    for text in (small.read_text(encoding="utf-8"), MINIMAL):
        path = tmp_path / "one.yaml"
        path.write_text(text, encoding="utf-8")
        monkeypatch.setenv("NOCTURNE_CONFIG", str(path))
        ours, theirs = settings.load(), configuration.load_settings(path)
        assert ours.data_root == theirs.data_root and list(ours.models) == theirs.publishing.models
        assert (ours.schedule, ours.retries, ours.start_date.date()) == (
            theirs.dag.schedule,
            theirs.dag.retries,
            theirs.dag.start_date,
        )
        assert (ours.owner, ours.reports_url) == (theirs.dag.owner, theirs.dag.reports_url)
        assert ours.retry_delay.total_seconds() == theirs.dag.retry_delay_seconds
        assert ours.task_timeout.total_seconds() == theirs.dag.task_timeout_minutes * 60
        assert ours.ready_timeout.total_seconds() == theirs.events.ready_timeout_minutes * 60
        assert ours.ready_marker == theirs.source.ready_marker
        assert (list(ours.clients), ours.top_k) == (list(theirs.lookalike.clients), theirs.lookalike.top_k)
        assert (list(ours.labels), list(ours.profile_models)) == (
            list(theirs.profiles.labels),
            theirs.profiles.read_models(theirs.publishing.models),
        )
        assert ours.trained == models_of(theirs)
    assert {f.name for f in dataclasses.fields(sections.Dag)} == {
        "schedule",
        "owner",
        "reports_url",
        "start_date",
        "retries",
        "retry_delay_seconds",
        "task_timeout_minutes",
        "dates",
    }


def test_folders_are_those_of_the_contracts(dagbag: DagBag) -> None:
    from dagkit.datasets import FOLDERS

    assert FOLDERS == {name: contract.folder for name, contract in TABLES.items()}


MINIMAL = """
data_root: elsewhere
source: {events: {path: x.parquet}, ready_marker: "ready/{ds}"}
events: {behaviors: [purchase]}
graph: {behaviors: {purchase: {}}}
"""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "is not YAML"),
        ("[]", "no data_root"),
        ("data_root: x\npublishing: {models: [bert]}", "one or more of transe"),
        ("data_root: x\ndag: 3", "expected a mapping"),
        ("data_root: x\ndag: {start_date: 2026-02-30}", "cannot shape a DAG: day is out of range.*jobs.configuration"),
        ("data_root: x\ndag: {retry_delay_seconds: .nan}", "cannot shape a DAG: .*NaN.*jobs.configuration"),
        ("data_root: x\ndag: {task_timeout_minutes: 1.0e+99}", "cannot shape a DAG.*jobs.configuration"),
        ("data_root: x\npods: {imgae: jobs:1}", "pods.image is None; expected a text"),
        ("data_root: x\npods: {image: jobs:1, claim: c, traning: {}}", "pods.traning is no key; did you mean training"),
        ("a: " + "[" * 5000 + "]" * 5000, "not YAML that can be read: .*recursion.*jobs.configuration"),
        (
            "data_root: x\nprofiles: {models: [rhgn]}",
            "profiles.models in .* one or more of publishing.models: transe, kqgc_mean",
        ),
    ],
)
def test_a_wrong_configuration_is_an_import_error_that_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str
) -> None:
    from dagkit import settings

    path = tmp_path / "wrong.yaml"
    path.write_text(text, encoding="utf-8")
    monkeypatch.setenv("NOCTURNE_CONFIG", str(path))
    with pytest.raises(settings.SettingsError, match=says):
        settings.load()


@pytest.mark.parametrize(
    "wrong", ["seed: " + "9" * 5000, "dag: {dates: [2026-02-30]}", "publishing: {min_coverage: .nan}", "x: &x [*x]"]
)
def test_what_does_not_shape_a_dag_is_left_to_its_first_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    """Else there would be no DAG whose first task could say what is wrong."""
    from dagkit import settings

    path = tmp_path / "one.yaml"
    path.write_text(MINIMAL + wrong, encoding="utf-8")
    monkeypatch.setenv("NOCTURNE_CONFIG", str(path))
    assert settings.load().data_root == str(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="expected"):
        configuration.load_settings(path)


def test_pods_without_the_provider_say_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dagkit import settings, tasks

    path = tmp_path / "one.yaml"
    path.write_text(MINIMAL + "pods: {image: jobs:1, claim: data}", encoding="utf-8")
    monkeypatch.setenv("NOCTURNE_CONFIG", str(path))
    monkeypatch.setitem(sys.modules, "airflow.providers.cncf.kubernetes.operators.pod", None)
    monkeypatch.delitem(sys.modules, "dagkit.pods", raising=False)
    with pytest.raises(settings.SettingsError, match="pip install 'nocturne\\[kubernetes\\]'"):
        tasks.job(settings.load(), "prune_partitions")
