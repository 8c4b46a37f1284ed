"""Every table's columns, once: used by Spark, Arrow, the data checks and the documentation alike.

The path of a table below the data root may hold one name in braces, e.g. `checkpoints/{model}`.
"""

from __future__ import annotations

from feature_store.leases import NIGHTS
from jobs.contracts import Contract, Field

_EVENT = (
    Field("user_id", "string", "who"),
    Field("item_id", "string", "what"),
    Field("behavior", "string", "view, cart, purchase, rate, …"),
    Field("event_time", "timestamp", "when, UTC"),
    Field("quantity", "float32", "how many, 1 where unknown"),
    Field("value", "float32", "price or rating", nullable=True),
    Field("event_id", "string", "the source's own id of the event", nullable=True),
    Field("ingested_at", "timestamp", "when the source took it in, UTC", nullable=True),
)

_GROUP = Field("group", "string", "mailing or control; null in partitions from before there was one", nullable=True)

TABLES: dict[str, Contract] = {
    "clean_events": Contract(
        "clean_events", "day", _EVENT, "Usable events of one UTC day, shared by all nights.",
        sorted_by=("user_id", "event_time", "item_id", "behavior")),
    "rejected_events": Contract(
        "rejected_events", "dt",
        (
            Field("source_file", "string", "file it was read from; of several tables, after the number: 1/…"),
            Field("row_number", "int64", "row in that file, from 1, header not counted", nullable=True),
            Field("reason", "string", "why it cannot be used"),
            Field("user_id", "string", "who, where the id is usable", nullable=True),
            Field("row", "string", "the row as JSON, only where the user id is usable", nullable=True),
        ),
        "Rows that a night read and could not use.",
        sorted_by=("reason", "user_id", "row"), provenance=("source_file", "row_number")),
    "entity_ids": Contract(
        "entity_ids/{type}", "segments",
        (Field("id", "int64", "dense id, never changed or reused"), Field("raw", "string", "the raw id or value")),
        "Ledger of one entity type."),
    "relations": Contract(
        "relations", "segments",
        (
            Field("id", "int64", "dense id"),
            Field("name", "string", "the relation's name"),
            Field("head_type", "string", "entity type of heads"),
            Field("tail_type", "string", "entity type of tails"),
        ),
        "Ledger of relations."),
    "knowledge_graph": Contract(
        "knowledge_graph", "dt",
        (
            Field("head", "int64", "ledger id within the relation's head type"),
            Field("relation", "int64", "ledger id of the relation"),
            Field("tail", "int64", "ledger id within the relation's tail type"),
            Field("count", "int64", "events behind the edge; 1 for attributes"),
        ),
        "Typed edges known at D.", sorted_by=("relation", "head", "tail")),
    "interactions": Contract(
        "interactions", "dt",
        (
            Field("user", "int64", "ledger id"),
            Field("item", "int64", "ledger id"),
            Field("behavior", "string", "view, purchase, …"),
            Field("count", "int64", "events in the window"),
            Field("value_sum", "float64", "sum of quantity × value (value where there is no quantity), nulls as 0"),
            Field("last_time", "timestamp", "latest event in the window, UTC"),
        ),
        "Who did what with which item in the graph's window.", sorted_by=("user", "item", "behavior")),
    "user_activity": Contract(
        "user_activity", "dt",
        (
            Field("user_id", "string", "who"),
            Field("first_event", "timestamp", "the first event in the graph's windows, UTC"),
            Field("last_event", "timestamp", "the last one, UTC"),
            Field("n_days", "int32", "UTC days with an event in them"),
        ),
        "When each user did something, each behaviour's events in its own window.", sorted_by=("user_id",)),
    "attributes": Contract(
        "attributes", "dt",
        (
            Field("entity_type", "string", "item or user"),
            Field("entity", "int64", "ledger id of the item or user"),
            Field("type", "string", "relation of the attribute, e.g. item_brand"),
            Field("value", "int64", "ledger id within the relation's tail type"),
        ),
        "Who has which value of which attribute: what entities can share.", sorted_by=("type", "value", "entity")),
    "sequences": Contract(
        "sequences", "dt",
        (
            Field("user", "int64", "ledger id"),
            Field("position", "int32", "0 is the oldest event that is kept"),
            Field("item", "int64", "ledger id, also of an item that has left the catalogue"),
            Field("behavior", "string", "view, purchase, …"),
            Field("event_time", "timestamp", "when, UTC"),
        ),
        "Every user's last `sequences.max_length` events, in order of time, event_id and the item id's bytes.",
        sorted_by=("user", "position")),
    "user_labels": Contract(
        "user_labels", "dt",
        (
            Field("label", "string", "label of the configuration, e.g. gender"),
            Field("user_id", "string", "who has one"),
            Field(
                "class", "string", "the user's class; null where the user's rows contradict each other", nullable=True),
        ),
        "What is known at D of the users, before it is dealt into folds.", sorted_by=("label", "user_id")),
    "checkpoints": Contract(
        "checkpoints/{model}", "dt", (), "safetensors: native parameters, vectors and optimiser state."),
    "entity_embeddings": Contract(
        "entity_embeddings/{model}", "dt",
        (
            Field("entity_type", "string", "user, item, an attribute, or relation"),
            Field("id", "int64", "ledger id within the type"),
            Field("raw", "string", "raw id, value, or the relation's name"),
            Field("embedding", "vector", "in the published space"),
        ),
        "Vectors of every entity and relation, rotated like the users'; "
        "zeros where a family's relations have no vector.",
        sorted_by=("entity_type", "raw")),
    "user_embeddings": Contract(
        "feature_store/user_embeddings/model={model}", "dt",
        (
            Field("user_id", "string", "sorted by bytes, unique in a partition"),
            Field("embedding", "vector", "constant length, finite"),
            Field("event_timestamp", "timestamp", "00:00 UTC of D: the vector knows nothing from then on"),
            Field("created_timestamp", "timestamp", "when it was committed"),
            Field("n_events", "int32", "events behind it in the graph: each behaviour's in its own window"),
            Field("source", "string", "trained, inductive or carried"),
            Field("carried_from", "timestamp", "date of the night that computed a carried vector", nullable=True),
            Field("first_event", "timestamp", "of those events; null without any, and before 1.1", nullable=True),
            Field("last_event", "timestamp", "of those events; null without any, and before 1.1", nullable=True),
            Field("n_days", "int32", "UTC days with one of them; null without any, and before 1.1", nullable=True),
        ),
        "User vectors for everybody downstream. Columns of version 1.1.", sorted_by=("user_id",),
        schema_version=(1, 1)),
    "canaries": Contract(
        "canaries/{model}", "dt",
        (
            Field("user_id", "string", "one of those who were drawn when the questions were frozen"),
            Field("embedding", "vector", "his published vector of that night"),
            Field("asked", "bool", "he is asked about; the rest is to learn from"),
            Field("likes", "bool", "bought of the kind that the manifest names; null without one", nullable=True),
            Field("label", "bool", "is of the class that the manifest names; null where of neither", nullable=True),
            Field("item", "string", "raw id of an item that he bought", nullable=True),
            Field("other", "string", "of one that he did not, and somebody else among them did", nullable=True),
        ),
        "Questions with known answers, handed on from night to night, which vectors have to answer to be published.",
        sorted_by=("user_id",)),
    "lookalike_models": Contract("lookalike_models", "dt", (), "XGBoost models (JSON) and their validation figures."),
    "lookalike_scores": Contract(
        "lookalike_scores", "dt",
        (
            Field("client", "string", "client of the configuration"),
            Field("feature_set", "string", "features of the model that scored"),
            Field("user_id", "string", "eligible user"),
            Field("score", "float32", "calibrated probability to buy from the client in the next label window"),
            Field("chosen", "bool", "the feature set of the audiences; the others are baselines, for the backtest"),
        ),
        "Every eligible user's score per client, by the chosen feature set and by the baselines that were fitted.",
        sorted_by=("client", "feature_set", "user_id")),
    "audiences": Contract(
        "audiences", "dt",
        (
            Field("client", "string", "client or seed list"),
            Field("rank", "int32", "1 is the likeliest"),
            Field("user_id", "string", "prospect"),
            Field("score", "float32", "calibrated probability"),
            _GROUP,
        ),
        "The k likeliest prospects per client (and per client a CSV of those to be mailed, one of the control group).",
        sorted_by=("client", "rank")),
    "audience_reasons": Contract(
        "audience_reasons", "dt",
        (
            Field("client", "string", "client of the configuration"),
            Field("user_id", "string", "prospect"),
            Field("rank", "int32", "in the audience"),
            Field("reason", "int32", "1 raises the score most; at most 3"),
            Field("group", "string", "group of the classifier's columns"),
            Field("contribution", "float32", "what the group adds to the log odds (exact: SHAP values of the trees)"),
            Field("text", "string", "the reason in words, with the user's own figures"),
        ),
        "Why the first lookalike.reasons_for of each audience are in it; none where clients are learnt alone.",
        sorted_by=("client", "rank", "reason")),
    "requested_audiences": Contract(
        "requested_audiences/{name}", "dt",
        (
            Field("rank", "int32", "1 is the likeliest"),
            Field("user_id", "string", "prospect"),
            Field("score", "float32", "calibrated probability to belong to the seeds"),
            _GROUP,
        ),
        "An audience somebody asked for: prospects like the seeds (and as CSV, with a report as JSON and HTML).",
        sorted_by=("rank",)),
    "attention": Contract(
        "attention", "dt",
        (
            Field("user_id", "string", "who listens"),
            Field("rank", "int32", "0 for the neighbour with the most weight"),
            Field("relation", "string", "of the graph"),
            Field("reversed", "bool", "the user is the relation's tail, not its head"),
            Field("neighbour_type", "string", "item, or an entity type of the graph"),
            Field("neighbour", "string", "raw id of the neighbour"),
            Field(
                "weight", "float32",
                "attention in RHGN's last layer, mean of its heads; "
                "a user's messages add up to 1, those cut off included"),
        ),
        "Why-table of RHGN: whom each user's vector listens to most, at most `profiles.attention_rows` each.",
        sorted_by=("user_id", "rank")),
    "profile_predictions": Contract(
        "profile_predictions", "dt",
        (
            Field("label", "string", "label of the configuration, e.g. gender"),
            Field("user_id", "string", "every user with a vector"),
            Field("class", "string", "a class of the label; a user's classes add up to 1"),
            Field("probability", "float32", "calibrated probability of the class"),
            Field("predicted", "bool", "the user's likeliest class: one row of each user and label"),
            Field("source", "string", "of the vector: trained, inductive or carried"),
            Field("label_seen", "bool", "the user's own label trained something: no user to judge predictions by"),
        ),
        "Every user's probable class of each label: a row per class, `where predicted` for one row per user.",
        sorted_by=("label", "user_id", "class")),
    "recommendations": Contract(
        "recommendations/model={model}", "dt",
        (
            Field("user_id", "string", "who has a vector"),
            Field("item_id", "string", "what is recommended"),
            Field("rank", "int32", "1 is the best; equal scores in an order of each user's own"),
            Field("score", "float32", "minus the distance of the model's family: a product, or minus a length"),
        ),
        "The best `recommendations.top_k` items of every user by one model's vectors, exact over all items.",
        sorted_by=("user_id", "rank")),
    "predicted_relations": Contract(
        "predicted_relations/model={model}", "dt",
        (
            Field("head_type", "string", "user; of an attribute of items: item"),
            Field("head", "string", "raw id: who has a vector"),
            Field("relation", "string", "one of recommendations.relations"),
            Field("tail_type", "string", "item; of an attribute the type of its values"),
            Field("tail", "string", "raw id: with what"),
            Field("rank", "int32", "1 is the likeliest of the head and relation"),
            Field("score", "float32", "minus the distance of the model's family along the relation"),
            Field("probability", "float32", "that it occurs in the next label window, learned on the last one; "
                  "null where that one cannot teach", nullable=True),
        ),
        "The likeliest `recommendations.top_k` relationships of all heads under each relation, by one model's vectors.",
        sorted_by=("relation", "head", "rank")),
    "run_metrics": Contract(
        "run_metrics/stage={stage}", "dt",
        (
            Field("metric", "string", "name of the figure"),
            Field("value", "float64", "the figure; null where only detail is given", nullable=True),
            Field("detail", "string", "JSON: tables, curves, texts", nullable=True),
        ),
        "Seconds, peak memory, row counts and quality figures of one stage."),
    "reports": Contract("reports", "dt", (), "The night's page (HTML)."),
    "erasures": Contract(
        "erasures", "dt",
        (
            Field("reference", "string", "what the request to erase was called"),
            Field("users", "int64", "ids on its list"),
            Field("table", "string", "of which something was erased, as a path below the data root"),
            Field("partitions", "int64", "of it that held something; for the ledger 1"),
            Field("rows", "int64", "that were erased; for reports pages that were written anew or deleted, for the "
                  "ledger names"),
            Field("versions", "int64", "replaced versions that were dropped"),
        ),
        "Receipts of the day's erasures (jobs/erase_users.py); they name nobody."),
    "nights": Contract(
        NIGHTS, "dt", (),
        "The lease of each night under way: a file `dt=…` that its first task writes, every task renews and the last "
        "one removes (jobs/nights.py)."),
}


def markdown() -> str:
    """All contracts as a page; `docs/tables.md` is this text (`python -m jobs.tables > docs/tables.md`)."""
    source = "Written by `python -m jobs.tables`; the source is `jobs/tables.py`. Paths are below the data root."
    lines = ["# Tables", "", source, ""]
    for name, contract in TABLES.items():
        suffix = "segments" if contract.key == "segments" else f"{contract.key}=…"
        lines += [f"## {name}", "", f"`{contract.path}/{suffix}` — {contract.doc}", ""]
        if contract.fields:
            lines += ["| column | type | meaning |", "|---|---|---|"]
            lines += [_row(field) for field in contract.fields] + [""]
    return "\n".join(lines)


def _row(field: Field) -> str:
    return f"| `{field.name}` | {field.type}{' or null' if field.nullable else ''} | {field.doc} |"


if __name__ == "__main__":
    print(markdown(), end="")
