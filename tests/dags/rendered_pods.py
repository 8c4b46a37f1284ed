"""Each task's pod as the official operator would ask for it. As a program it prints those of the DAGs that Airflow's
environment names, as one line of JSON; it needs Airflow and its Kubernetes provider alone, so it runs in an image too:
`python -c "$(cat tests/dags/rendered_pods.py)"`."""

from __future__ import annotations

import collections
import datetime
import json
import os
import sys
from types import SimpleNamespace
from typing import Any

MOMENT = datetime.datetime(2026, 1, 12, tzinfo=datetime.UTC)
DAGS = ("nightly_user_embeddings", "lookalike_audience")
COLD = {"embeddings.resolve_predecessor": collections.defaultdict(lambda: None),
        "resolve_request": {"date": "2026-01-12"}}  # fmt: skip


def jobs_of(found: dict[str, Any]) -> dict[str, Any]:
    """Every task that is a job's, by DAG and task."""
    nightly = [found[name] for name in DAGS]
    return {f"{d.dag_id} {t.task_id}": t for d in nightly for t in d.tasks if hasattr(t, "command")}


def context_of(task: Any, extra: Any = None, told: Any = COLD) -> dict[str, Any]:
    """What Airflow would hand to a task of the run of `MOMENT`; told: results of other tasks."""
    dag = task.dag
    given = {name: dag.params[name] for name in dag.params}
    ti = SimpleNamespace(
        dag_id=dag.dag_id, task_id=task.task_id, map_index=-1, try_number=1, xcom_push=lambda **_: None,
        xcom_pull=lambda task_ids: told.get(task_ids), start_date=MOMENT)  # fmt: skip
    run = SimpleNamespace(
        logical_date=MOMENT, run_id="scheduled__2026", conf={}, run_after=MOMENT, dag_id=dag.dag_id)  # fmt: skip
    return {
        **dag.user_defined_macros, "params": given, "dag_run": run, "run_id": run.run_id, "ti": ti, "dag": dag,
        "ds": "2026-01-12", "outlet_events": extra if extra is not None else {}}  # fmt: skip


def rendered_pod(task: Any, told: Any = COLD) -> tuple[list[str], dict[str, Any]]:
    """(the command, the pod as the API would get it) of a run; no pod where the job is a process."""
    from kubernetes.client import ApiClient

    context = context_of(task, told=told)
    command = task.render_template(list(task.command), context, task.dag.get_template_env())
    if not hasattr(task, "build_pod_request_obj"):
        return command, {}
    task = task.prepare_for_execution()
    task.render_template_fields(context)
    pod = task.build_pod_request_obj(context, dry_run=True)
    return command, ApiClient().sanitize_for_serialization(pod)


def main() -> None:
    from airflow.dag_processing.dagbag import DagBag

    folder = os.environ["AIRFLOW__CORE__DAGS_FOLDER"]
    sys.path.insert(0, folder)  # as the airflow command does
    bag = DagBag(dag_folder=folder)
    if bag.import_errors:
        raise SystemExit(f"{folder}: {bag.import_errors}")
    print(json.dumps({name: rendered_pod(task) for name, task in jobs_of(bag.dags).items()}))


if __name__ == "__main__":
    main()
