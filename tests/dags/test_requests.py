"""What the on-demand DAG is asked for: keys, dates, the form, and requests beside each other."""

from __future__ import annotations

import datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.sdk import DAG

NOW = datetime.datetime(2026, 3, 7, 23, 59, tzinfo=datetime.UTC)


@pytest.fixture(scope="module")
def dag(dagbag: DagBag) -> DAG:
    return dagbag.dags["lookalike_audience"]


def first_command(dag: DAG, conf: dict[str, Any] | None, **run: Any) -> list[str]:
    """As a run with this configuration has it: Airflow adds its keys to the parameters, whatever they are."""
    (task,) = (task for task in dag.tasks if not task.upstream_task_ids)
    given = {name: dag.params[name] for name in dag.params} | (conf or {})
    dag_run = SimpleNamespace(**{"conf": conf, "logical_date": None, "run_after": NOW} | run)
    context = {**dag.user_defined_macros, "params": given, "dag_run": dag_run}
    return task.render_template(task.command, context, dag.get_template_env())


@pytest.mark.parametrize(("key", "meant"), [
    ("seed", "seeds"), ("Client", "client"), ("clients", "client"), ("dates", "date"),
    ("x" * 300, None), ("{{ 7 }}", None),
])  # fmt: skip
def test_an_unknown_key_is_named_with_those_that_would_do(dag: DAG, key: str, meant: str | None) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    with pytest.raises(AirflowFailException) as refused:
        first_command(dag, {key: "a.csv", "k": 5})
    said = str(refused.value)
    known = "client, control_share, date, include_seeds, k, model, name, seeds, suppress"
    assert repr(key[:50]) in said and f"some of {known}." in said
    assert (f"Did you mean {meant!r}?" if meant else "Trigger") in said and len(said) < 420


def test_a_night_refuses_keys_that_it_does_not_read() -> None:
    from airflow.sdk.exceptions import AirflowFailException
    from dagkit.tasks import night

    run = SimpleNamespace(conf={"dat": "2026-01-12"}, logical_date=NOW, run_id="manual")
    with pytest.raises(AirflowFailException, match="Found 'dat' .*Did you mean 'date'"):
        night({"date": None}, run)
    assert night({"date": "2026-01-12"}, SimpleNamespace(conf={"date": "2026-01-12"})) == "2026-01-12"


def test_a_date_is_passed_on_and_an_empty_one_is_looked_for(dag: DAG) -> None:
    asked = first_command(dag, {"client": "x", "date": "2026-02-16"})
    assert "--date=2026-02-16" in asked and "--exact=true" in asked
    for conf in (None, {}, {"date": None}, {"date": ""}):
        asked = first_command(dag, conf)
        assert "--date=2026-03-07" in asked and "--exact=false" in asked, "the newest night up to now"
    night = datetime.datetime(2026, 2, 23, tzinfo=datetime.UTC)
    assert "--date=2026-02-23" in first_command(dag, {}, logical_date=night)


def test_requests_do_not_wait_for_somebody_to_unpause_nor_for_each_other(dag: DAG) -> None:
    assert dag.is_paused_upon_creation is False and dag.max_active_runs > 1


def test_the_form_says_what_no_client_is(dag: DAG) -> None:
    schema = dag.params.get_param("client").schema
    assert schema["type"] == ["null", "string"] and None in schema["enum"]
    assert schema["values_display"] == {"null": "no client, but a seed file"}
    for name in dag.params:
        assert dag.params.get_param(name).schema["title"] and dag.params.get_param(name).schema["type"]
