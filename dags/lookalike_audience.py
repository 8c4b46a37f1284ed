"""
### One audience on demand

Seed users (or a client of the configuration) in, the `k` active users most like them out. Positives are the seeds,
negatives are active users who are none, 1:3; vectors and features are those of `date`. The quality is that of a
cross-validation, called *in time*: only the nightly DAG's backtest looks forward. Seeds stay out of the ranking;
unknown ids are counted, not fatal.

**Parameters**: `seeds`, a text, CSV or Parquet file of user ids where the worker can read it, *or* `client`; `k`;
`model`, whose vectors are used; `date`, a published night (else the run's logical date); `name`, under which the
audience is kept; `include_seeds`. The audience, its CSV and its report are in `requested_audiences/<name>/dt=<date>`.

#### Something failed
*No partition*: that night or model is not published: `python -m feature_store list` shows what is. *Too few seeds
matched*: the message gives the match rate; the ids must be those of the event log, byte by byte.
"""

from airflow.sdk import Param, dag
from dagkit.settings import load
from dagkit.tasks import date_parameter, house_defaults, job, night

SETTINGS = load()
INPUTS = [
    "clean_events",
    "knowledge_graph",
    "interactions",
    "entity_ids",
    "relations",
    "user_embeddings",
    "entity_embeddings",
]
OPTIONS = {
    name: "{{ params.%s if params.%s is not none else 'none' }}" % (name, name)
    for name in ("seeds", "client", "k", "model", "name", "include_seeds")
}


@dag(
    dag_id="lookalike_audience",
    schedule=None,
    start_date=SETTINGS.start_date,
    catchup=False,
    max_active_runs=1,
    default_args=house_defaults(SETTINGS),
    params={
        "seeds": Param(
            None,
            type=["null", "string"],
            minLength=1,
            title="Seed file",
            description="text, CSV or Parquet file of user ids; or name a client",
        ),
        "client": Param(
            None, enum=[None, *SETTINGS.clients], title="Client", description="its buyers are the seeds; or name a file"
        ),
        "k": Param(SETTINGS.top_k, type="integer", minimum=1, title="Size of the audience"),
        "model": Param(
            SETTINGS.models[-1],
            type="string",
            enum=list(SETTINGS.models),
            title="Model",
            description="whose user vectors are used",
        ),
        "date": date_parameter(),
        "name": Param(
            None,
            type=["null", "string"],
            pattern="^[a-z0-9_]+$",
            title="Name",
            description="of the audience; else the file's or the client's",
        ),
        "include_seeds": Param(False, type="boolean", title="Rank the seeds as well"),
    },
    user_defined_macros={"night": night},
    doc_md=__doc__,
    tags=["nocturne", "on demand"],
)
def lookalike_audience():
    job(
        SETTINGS,
        "audiences.find_audience",
        inputs=INPUTS,
        outputs=["requested_audiences"],
        options=OPTIONS,
        doc_md="Reads the seeds, fits one classifier, ranks the active users who are no seeds, and says how good it "
        "is.",
    )


lookalike_audience()
