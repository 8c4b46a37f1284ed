"""
### Nightly user embeddings and audiences

events → clean events → ids and graphs → TransE → KQGC, RHGN → user embeddings → classifiers → audiences, profiles and report. The run of date D
publishes partitions `dt=D`, which know every event before 00:00 UTC of D and none from then on. Every task is one program,
`python -m jobs.<module> --date=D …`; its command stands under *Rendered Templates* and runs the same from a shell.

#### Something failed: where to look
| what | why, and what to do |
|---|---|
| `wait_for_source` | The input's marker did not come in time. Deliver the input, clear the task. |
| `validate_events` | Unreadable input, or more rejected rows than `events.max_rejected_share`. The rows and their reasons are in `rejected_events/dt=D`. Mend the source or the limit, clear the task. |
| `assign_ids`, `build_…` | Mostly memory or disk. Safe to clear: ids once given stay. |
| `resolve_predecessor` | `training.on_gap: fail` and a night is missing: run the missing dates first, or set `warm`. |
| `finetune_rhgn` skipped | No label can be learned from yet; its log says of each what is missing. Its vectors and profiles are skipped with it. |
| `pretrain_transe`, `smooth_kqgc` | Memory, or a loss that is not finite. Clear the task: it goes on from its last snapshot. |
| `publish_users` | A check before publishing failed (coverage, norms, alignment); **readers still have the former version**. The message names the check. Other models are published all the same; audiences wait for all of them. |
| `train_lookalike` skipped | No vectors of D − L in the same space; the reason names the dates to rerun. Nothing to do on the first nights. |
| `train_profiles` skipped | No label can be modelled; the reason says of each what is missing. A label that cannot stops no other. |
| `write_report` | The embeddings are out; clear the task. |

The report is written whatever happened before it, so that it can tell; `night_complete` makes the run fail if any task did.
To redo a task and what hangs on it: `airflow tasks clear nightly_user_embeddings -s D -e D -t REGEX --downstream -y`.
Rerunning any task replaces its partition as a whole. A run without a logical date needs the parameter `date`.
"""

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import TaskGroup, TriggerRule, dag
from dagkit import datasets
from dagkit.settings import load
from dagkit.tasks import date_parameter, house_defaults, job, night, wait_for_source

SETTINGS = load()
GRAPH = ["entity_ids", "relations", "knowledge_graph"]
PUBLISHED = ["user_embeddings", "entity_embeddings"]
FEATURES = ["clean_events", *GRAPH, "interactions", *PUBLISHED]


def predecessor(model: str) -> dict[str, str]:
    """Options of a job that starts from an earlier night's vectors of `model`."""
    return {"predecessor": "{{ ti.xcom_pull(task_ids='embeddings.resolve_predecessor')['%s'] or 'none' }}" % model}


@dag(
    dag_id="nightly_user_embeddings",
    schedule=SETTINGS.schedule,
    start_date=SETTINGS.start_date,
    catchup=False,
    max_active_runs=1,
    default_args=house_defaults(SETTINGS),
    params={"date": date_parameter()},
    user_defined_macros={"night": night},
    doc_md=__doc__,
    tags=["nocturne", "nightly"],
)
def nightly_user_embeddings():
    with TaskGroup("events"):
        validate = job(
            SETTINGS, "events.validate_events", outputs=["clean_events", "rejected_events"],
            doc_md="Reads the source; commits the usable events by day, and the rejected rows with their reasons. Fails above the allowed share of rejected rows.")
        if SETTINGS.ready_marker:
            wait_for_source(SETTINGS) >> validate

    with TaskGroup("graphs"):
        ids = job(
            SETTINGS, "graphs.assign_ids", inputs=["clean_events"], outputs=["entity_ids", "relations"],
            doc_md="Gives ids to users, items and values not seen before, above the highest. Ids once given never change.")
        knowledge_graph = job(
            SETTINGS, "graphs.build_knowledge_graph", inputs=["clean_events", "entity_ids", "relations"], outputs=["knowledge_graph"],
            doc_md="Typed edges known at D: user –behaviour→ item, item and user –attribute→ value.")
        interactions = job(
            SETTINGS, "graphs.build_interactions", inputs=["clean_events", "entity_ids"], outputs=["interactions"],
            doc_md="Who did what with which item in the graph's window, counted.")
        validate >> ids >> [knowledge_graph, interactions]

    with TaskGroup("embeddings"):
        resolve = job(
            SETTINGS, "embeddings.resolve_predecessor", inputs=["user_embeddings", "checkpoints"], returns_json=True,
            doc_md="Per model, the earlier night to start from: the newest of the same family before D, or none (a cold start and a new space).")
        transe = job(
            SETTINGS, "embeddings.pretrain_transe", inputs=GRAPH, outputs=["checkpoints"], options=predecessor("transe"),
            doc_md="Trains TransE on the knowledge graph, or carries it over on a night without training.")
        [knowledge_graph, interactions] >> resolve >> transe
        publish = {model: publish_model(model, transe) for model in SETTINGS.models}
        published = list(publish.values())

    with TaskGroup("audiences"):
        train = job(
            SETTINGS, "audiences.train_lookalike", inputs=FEATURES, outputs=["lookalike_models"], trigger_rule=TriggerRule.NONE_FAILED,  # RHGN may be skipped
            doc_md="Fits one classifier per client and feature set on vectors of D − L and labels from [D − L, D). Skipped, with its reason, if D − L is missing.")
        score = job(
            SETTINGS, "audiences.score_lookalike", inputs=[*FEATURES, "lookalike_models"], outputs=["lookalike_scores", "audiences"],
            outlets=[datasets.audiences(SETTINGS)], trigger_rule=TriggerRule.NONE_FAILED,  # the backtest needs no training tonight
            doc_md="Scores everybody eligible at D, hands out the k likeliest per client, and holds the scores of D − L against what happened. Skipped where neither is there.")
        report = job(
            SETTINGS, "audiences.write_report", trigger_rule=TriggerRule.ALL_DONE, outputs=["reports"], outlets=[datasets.reports(SETTINGS)],
            inputs=["rejected_events", *FEATURES, "lookalike_scores", "audiences", "run_metrics"],
            doc_md="The night's page: written also when something before it failed or was skipped, and says so.")
        published >> train >> score
        profiles = [predict_profiles([publish[model] for model in SETTINGS.profile_models])] if SETTINGS.labels else []
        [*published, score, *profiles] >> report

    prune = job(
        SETTINGS, "prune_partitions", trigger_rule=TriggerRule.NONE_FAILED,
        doc_md="Deletes partitions older than `retention` that nothing kept still needs. Only after a night without failures.")
    [*published, train, score, *profiles, report] >> prune

    complete = EmptyOperator(
        task_id="night_complete", trigger_rule=TriggerRule.NONE_FAILED,
        doc_md="The run's verdict: it succeeds only if no task failed; a skip is no failure.")
    [*published, train, score, *profiles, report, prune] >> complete


def publish_model(model: str, transe):
    """The tasks of one model up to its published vectors; they fail without stopping another model."""
    if model == "rhgn":
        smooth = job(
            SETTINGS, "embeddings.finetune_rhgn", inputs=GRAPH, outputs=["checkpoints", "attention"], options=predecessor(model),
            doc_md="Trains RHGN on TransE's vectors and the labels of fold A, computes the vectors of all users, and whom each listens to.")
        transe >> smooth
    elif model != "transe":
        smooth = job(
            SETTINGS, "embeddings.smooth_kqgc", task_id=f"smooth_{model}", inputs=GRAPH, outputs=["checkpoints"],
            options={"model": model} | predecessor(model),
            doc_md="Trains KQGC on TransE's vectors, and computes those of all users with all their neighbours.")
        transe >> smooth
    publish = job(
        SETTINGS, "embeddings.publish_users", task_id=f"publish_{model}", inputs=["checkpoints", "interactions", "entity_ids", "relations"], outputs=PUBLISHED,
        options={"model": model} | predecessor(model), outlets=[datasets.user_embeddings(SETTINGS, model)],
        doc_md="Turns the vectors into the predecessor's space, checks them, and publishes them in one step. Readers keep the former version if a check fails.")
    (transe if model == "transe" else smooth) >> publish
    return publish


def predict_profiles(published):
    """Waits for the models that it reads, and for no other."""
    predict = job(
        SETTINGS, "audiences.train_profiles", inputs=[*GRAPH, "interactions", "user_embeddings", "checkpoints"], outputs=["profile_predictions"],
        outlets=[datasets.profile_predictions(SETTINGS)],
        doc_md="Learns each configured label from fold B of the labelled users, tests on fold C, and predicts it for every user with a vector.")
    published >> predict
    return predict


nightly_user_embeddings()
