"""
### Nightly user embeddings and audiences

events → clean events → ids and graphs → pretrained vectors → user embeddings → classifiers → audiences, profiles,
recommendations and report. The run of date D publishes partitions `dt=D`, which know every event before 00:00 UTC of D
and none from then on. Every task is one program, `python -m jobs.<module> --date=D …`; its command stands under
*Rendered Templates* and runs the same from a shell.

#### Something failed: where to look
%(triage)s

A task that failed at its first try would fail again: its last line says what to mend; others were tried `dag.retries`
times more. The report is written whatever happened before it, so that it can tell; `night_complete` makes the run fail
if any task did but `size_pods`. *Report of the night*, a link of both, leads to the page. To redo a task and what hangs
on it: `airflow tasks clear nightly_user_embeddings -s D -e D -t REGEX --downstream -y`. Rerunning any task replaces its
partition as a whole. A run without a logical date needs the parameter `date`.
"""

from airflow.sdk import TaskGroup, TriggerRule, chain, dag
from dagkit import datasets, triage
from dagkit.links import NightComplete, report_of
from dagkit.order import LastJob, earlier_runs
from dagkit.settings import load
from dagkit.tasks import NIGHT, date_parameter, house_defaults, job, night, wait_for_source

from models import families

SETTINGS = load()
TRAINED = {model: families.family_of(model) for model in SETTINGS.trained}
EVENTS = ["clean_events", "rejected_events"]
GRAPH = ["entity_ids", "relations", "knowledge_graph"]
BUILT = [*EVENTS, *GRAPH, "interactions", "user_activity", "user_labels"]
PUBLISHED = ["user_embeddings", "entity_embeddings"]
IN_ORDER = {"under_way": "{{ earlier_runs(params, dag_run) }}", "scheduled_run": "{{ dag_run.run_id }}"}
FEATURES = ["clean_events", *GRAPH, "interactions", *PUBLISHED]
HOWEVER = TriggerRule.ALL_DONE  # of what follows size_pods alone: without its result pods have the configured memory
TRIAGE = triage.table(family.triage for family in TRAINED.values())


def predecessor(model: str) -> dict[str, str]:
    """Options of a job that starts from an earlier night's vectors of `model`."""
    pulled = "ti.xcom_pull(task_ids='embeddings.resolve_predecessor')['%s']" % model
    return {"predecessor": "{{ %s or 'none' }}" % pulled}


@dag(
    dag_id="nightly_user_embeddings",
    schedule=SETTINGS.schedule,
    start_date=SETTINGS.start_date,
    catchup=False,
    max_active_runs=8,  # the jobs keep the order; with one, a night that waits would bar the one it waits for
    default_args=house_defaults(SETTINGS),
    params={"date": date_parameter()},
    user_defined_macros={"night": night, "earlier_runs": earlier_runs},
    doc_md=__doc__ % {"triage": TRIAGE},
    tags=["nocturne", "nightly"],
)
def nightly_user_embeddings():
    sizes = [size_pods()] if SETTINGS.pods and SETTINGS.pods.memory_nights else []
    with TaskGroup("graphs"):
        wait = [wait_for_source(SETTINGS, trigger_rule=HOWEVER)] if SETTINGS.ready_marker else []
        graphs = build_graphs(TriggerRule.ALL_SUCCESS if wait else HOWEVER)
        chain(*sizes, *wait, graphs)

    with TaskGroup("embeddings"):
        resolve = resolve_predecessor()
        graphs >> resolve
        trained = {}
        for model in TRAINED:
            trained[model] = train_model(model)
            sources = [trained[source] for source in SETTINGS.sources_of(model)]
            (sources or [resolve]) >> trained[model]
        published = {model: publish_model(model) for model in SETTINGS.models}
        for model, task in published.items():
            trained[model] >> task
        published_all = list(published.values())

    with TaskGroup("audiences"):
        train, score = train_lookalike(), score_lookalike()
        published_all >> train >> score

    profiles = [train_profiles()] if SETTINGS.labels else []
    for task in profiles:  # waits for the models that it reads, and for no other
        [published[model] for model in SETTINGS.profile_models] >> task

    recommended = {model: recommend_items(model) for model in SETTINGS.recommending}
    for model, task in recommended.items():
        published[model] >> task

    report, prune, complete = write_report(), prune_partitions(), night_complete()
    before = [*published_all, train, score, *profiles, *recommended.values()]
    before >> report
    [*before, report] >> prune
    [*before, report, prune] >> complete


def size_pods():
    return job(
        SETTINGS, "size_pods", inputs=["run_metrics"], returns_json=True, retries=0,
        doc_md="What memory each job's pod asks for, by what the job took on earlier nights. The night does not hang "
        "on it: where it fails, at its only try, pods ask for the configured memory.")  # fmt: skip


def build_graphs(trigger_rule: TriggerRule):
    read = dict.fromkeys(table for model, family in TRAINED.items() for table in family.job_of(model).reads)
    return job(
        SETTINGS, "graphs.build_graphs", outputs=[*BUILT, "nights"], options=IN_ORDER, trigger_rule=trigger_rule,
        also=[table for table in read if table not in BUILT],
        doc_md="Reads the source, commits usable events and rejected rows, gives ids to what was not seen before, and "
        "builds the graphs and tables that D's models read: all in one Spark session. Waits, rescheduled, while an "
        "earlier night is under way.")  # fmt: skip


def resolve_predecessor():
    return job(
        SETTINGS, "embeddings.resolve_predecessor", inputs=["user_embeddings", "checkpoints"], outputs=["nights"],
        returns_json=True, options=IN_ORDER,
        doc_md="Per model, the earlier night to start from: the newest of the same family before D, or none (a cold "
        "start and a new space). Waits, rescheduled, while an earlier night is under way.")  # fmt: skip


def train_model(model: str):
    training = TRAINED[model].job_of(model)
    return job(
        SETTINGS, training.program, task_id=training.task(model), inputs=training.reads,
        outputs=["checkpoints", *training.writes], doc_md=training.doc,
        options=({"model": model} if training.takes_model else {}) | predecessor(model))  # fmt: skip


def publish_model(model: str):
    return job(
        SETTINGS, "embeddings.publish_users", task_id=f"publish_{model}", outputs=[*PUBLISHED, "canaries"],
        inputs=["checkpoints", *GRAPH, "user_activity", "user_labels"],
        options={"model": model} | predecessor(model), outlets=[datasets.user_embeddings(SETTINGS, model)],
        doc_md="Turns the vectors into the predecessor's space, checks them, and publishes them in one step. Readers "
        "keep the former version if a check fails; other models are published all the same.")  # fmt: skip


def train_lookalike():
    return job(
        SETTINGS, "audiences.train_lookalike", inputs=FEATURES, outputs=["lookalike_models"],
        trigger_rule=TriggerRule.NONE_FAILED,  # a model may be skipped
        doc_md="Learns one classifier for all clients from past label windows, and each client's own beside it. With "
        "few sets of items that have buyers, or lookalike.pooled off, each client alone, on vectors of D − L and "
        "labels from [D − L, D): then skipped, with its reason, if D − L is missing or no client has buyers enough. "
        "Also the model of seed lists for audiences on demand: without clients that alone, skipped where it cannot be.")


def score_lookalike():
    return job(
        SETTINGS, "audiences.score_lookalike", inputs=[*FEATURES, "lookalike_models"],
        outputs=["lookalike_scores", "audiences", "audience_reasons"], outlets=[datasets.audiences(SETTINGS)],
        trigger_rule=TriggerRule.NONE_FAILED,  # the backtest needs no training tonight
        doc_md="Scores everybody eligible at D, hands out the k likeliest per client, and holds the scores of D − L "
        "against what happened. Skipped where neither is there, and without clients.")  # fmt: skip


def train_profiles():
    return job(
        SETTINGS, "profiles.train_profiles", outputs=["profile_predictions"],
        inputs=[*GRAPH, "interactions", "user_labels", "user_embeddings", "checkpoints"],
        outlets=[datasets.profile_predictions(SETTINGS)],
        doc_md="Learns each configured label from fold B of the labelled users, tests on fold C, and predicts it for "
        "every user with a vector.")  # fmt: skip


def recommend_items(model: str):
    return job(
        SETTINGS, "recommendations.recommend_items", task_id=f"recommend_{model}", inputs=FEATURES,
        outputs=["recommendations", "predicted_relations"], options={"model": model},
        doc_md="Recommends the best items to every user with a vector, exact over all items, and holds the lists of "
        "D − L against what happened. Predicts relationships, with probabilities, where some are named.")  # fmt: skip


def write_report():
    return job(
        SETTINGS, "report.write_report", operator=LastJob, trigger_rule=TriggerRule.ALL_DONE, outputs=["reports"],
        inputs=["rejected_events", *FEATURES, "lookalike_scores", "audiences", "audience_reasons", "run_metrics"],
        outlets=[datasets.reports(SETTINGS)], report=report_of(SETTINGS, NIGHT), returns_json=True,
        doc_md="The night's page: written also when something before it failed or was skipped, and says so. The link "
        "*Report of the night* leads to it.")  # fmt: skip


def prune_partitions():
    return job(
        SETTINGS, "prune_partitions", trigger_rule=TriggerRule.NONE_FAILED,
        doc_md="Deletes partitions older than `retention` that nothing kept still needs. Only after a night without "
        "failures.")  # fmt: skip


def night_complete():
    return NightComplete(
        task_id="night_complete", trigger_rule=TriggerRule.NONE_FAILED, report=report_of(SETTINGS, NIGHT),
        doc_md="The run's verdict: it succeeds only if no task failed that a result hangs on; a skip is no failure. "
        "Its link leads to the night's report.")  # fmt: skip


nightly_user_embeddings()
