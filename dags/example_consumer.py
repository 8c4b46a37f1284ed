"""
### An example of a team downstream

Runs whenever user embeddings are published. A run that an Asset triggers has **no logical date**: which night it is
about stands in the event's `extra`, and several nights may have been published since the last run (a backfill publishes
many, and triggers this DAG like any other night). Copy this file, keep `published_nights`, and put your own work in
place of `describe`.
"""

from airflow.sdk import dag, task
from dagkit import datasets
from dagkit.settings import load
from dagkit.tasks import JobOperator, house_defaults

SETTINGS = load()
MODEL = SETTINGS.models[0]
DESCRIBE = [
    SETTINGS.python,
    "-m",
    "feature_store",
    "describe",
    f"--root={SETTINGS.data_root}",
    f"feature_store/user_embeddings/model={MODEL}",
]


@task(doc_md="The nights that were published since the last run, from the events' `extra`.")
def published_nights(triggering_asset_events=None) -> list[str]:
    return sorted({event.extra["dt"] for events in triggering_asset_events.values() for event in events})


@task(doc_md="Makes one command per night.")
def commands(nights: list[str]) -> list[list[str]]:
    return [[*DESCRIBE, night] for night in nights]


@dag(
    dag_id="example_consumer",
    schedule=[datasets.user_embeddings(SETTINGS, MODEL)],
    start_date=SETTINGS.start_date,
    catchup=False,
    max_active_runs=1,
    default_args=house_defaults(SETTINGS),
    doc_md=__doc__,
    tags=["nocturne", "example"],
)
def example_consumer():
    describe = JobOperator.partial(task_id="describe", doc_md="Prints what a published partition holds.")
    describe.expand(command=commands(published_nights()))


example_consumer()
