"""
### One audience on demand

Seed users (or a client of the configuration) in, the `k` active users most like them out. The night's model of seed
lists ranks, from 5 seeds up; from 30 up its mean with a classifier of this list alone (seeds against active users who
are none, 1:3), which ranks by itself where the night has no such model. Vectors are those of `date`, and what is
learned from ends where a seed became one. The quality is that of a cross-validation, called *in time*: only the nightly
DAG's backtest looks forward. Seeds stay out of the ranking; unknown ids are counted, not fatal.

**Parameters**: `seeds`, a text, CSV or Parquet file of user ids where the worker can read it (a column `event_time`
says when each became a seed), *or* `client`; `k`; `model`, whose vectors the list's own classifier reads (with fewer
than 30 seeds it ranks nothing: the night's model reads its own); `date`, a published night (else the newest one);
`name`, under which the audience is kept; `include_seeds`; `suppress`, a file of user ids who must not be in it, beside
those of the configuration; `control_share` of the audience is not mailed and has a CSV of its own (else as
configured). The audience, its CSV and its report are in `requested_audiences/<name>/dt=<date>`.
The DAG has no schedule and is not paused; several requests run at a time.

#### Something failed
*Unknown key*: a typo in `--conf`; the first task names it, and the keys that would do. *No partition*: that night or
model is not published: `python -m feature_store list` shows what is. *Too few seeds matched*: the message gives the
counts and how many are needed; the ids must be those of the event log, byte by byte. *A suppression list cannot be
used*: the message names the key and the file; without the list there is no audience. *Name taken*: another request has
an audience of that name and date; give this one a `name`, which then replaces what bears it.
"""

import functools

from airflow.sdk import Param, dag
from dagkit.requests import until
from dagkit.settings import load
from dagkit.tasks import date_parameter, house_defaults, job

SETTINGS = load()
INPUTS = [
    "clean_events",
    "knowledge_graph",
    "interactions",
    "entity_ids",
    "relations",
    "user_embeddings",
    "entity_embeddings",
    "lookalike_models",
]
OPTIONS = {
    name: "{{ params.%s if params.%s is not none else 'none' }}" % (name, name)
    for name in ("seeds", "client", "k", "model", "name", "include_seeds", "suppress", "control_share")
}
PARAMETERS = {
    "seeds": Param(
        None,
        type=["null", "string"],
        minLength=1,
        title="Seed file",
        description="text, CSV or Parquet file of user ids; or choose a client",
    ),
    "client": Param(
        None,
        type=["null", "string"],
        enum=[None, *SETTINGS.clients],
        values_display={"null": "no client, but a seed file"},
        title="Client",
        description="its buyers are the seeds; or name a seed file",
    ),
    "k": Param(SETTINGS.top_k, type="integer", minimum=1, title="Size of the audience"),
    "model": Param(
        SETTINGS.models[-1],
        type="string",
        enum=list(SETTINGS.models),
        title="Model",
        description="whose user vectors the list's own classifier reads, from 30 seeds up; fewer are ranked by the "
        "night's model alone, which reads its own",
    ),
    "date": date_parameter("a published night, dt=D; empty: the newest one"),
    "name": Param(
        None,
        type=["null", "string"],
        pattern="^[a-z0-9_]+$",
        title="Name",
        description="of the audience; else the file's or the client's",
    ),
    "include_seeds": Param(False, type="boolean", title="Rank the seeds as well"),
    "suppress": Param(
        None,
        type=["null", "string"],
        minLength=1,
        title="Suppression file",
        description="text, CSV or Parquet file of user ids who must not be in it, beside the configuration's",
    ),
    "control_share": Param(
        None,
        type=["null", "number"],
        minimum=0,
        maximum=0.9,
        title="Control group",
        description="share of the audience that is not mailed, e.g. 0.1; empty: as configured",
    ),
}


@dag(
    dag_id="lookalike_audience",
    schedule=None,
    start_date=SETTINGS.start_date,
    catchup=False,
    is_paused_upon_creation=False,  # nothing starts by itself, and a request must not wait for somebody to unpause
    max_active_runs=4,  # requests do not wait for a wrong or a slow one
    default_args=house_defaults(SETTINGS),
    params=PARAMETERS,
    user_defined_macros={"until": functools.partial(until, known=PARAMETERS)},
    doc_md=__doc__,
    tags=["nocturne", "on demand"],
)
def lookalike_audience():
    night = job(
        SETTINGS,
        "audiences.resolve_request",
        inputs=["user_embeddings"],
        options={
            "date": "{{ until(params, dag_run) }}",
            "model": OPTIONS["model"],
            "exact": "{{ 'true' if params.date else 'false' }}",
        },
        returns_json=True,
        doc_md="Refuses keys that nobody reads, and says which night the request is of: its date, else the newest one.",
    )
    audience = job(
        SETTINGS,
        "audiences.find_audience",
        inputs=INPUTS,
        outputs=["requested_audiences"],
        options={"date": "{{ ti.xcom_pull(task_ids='resolve_request')['date'] }}"} | OPTIONS,
        doc_md="Reads the seeds, ranks the active users who are none by the night's model of seed lists and a "
        "classifier of this list, and says how good it is.",
    )
    night >> audience


lookalike_audience()
