"""Every table's columns, once: used by Spark, Arrow, the data checks and the documentation alike.

A contract is a list of fields in this file's few types; `arrow_schema()` and `spark_schema()` translate it. The path of
a table below the data root may hold one name in braces, e.g. `checkpoints/{model}`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from feature_store.columns import described

if TYPE_CHECKING:
    from pyspark.sql.types import StructType

NAME = re.compile(r"[a-z0-9_]+")
LENGTH = re.compile(r"(?<=>)\[\d+\]")  # of a fixed-size list, as Arrow writes it

ARROW = {
    "string": pa.string(),
    "int64": pa.int64(),
    "int32": pa.int32(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}
SPARK = {
    "string": "string", "int64": "bigint", "int32": "int", "float32": "float", "float64": "double", "bool": "boolean",
    "timestamp": "timestamp", "vector": "array<float>"}  # fmt: skip


@dataclass(frozen=True)
class Field:
    """A column: name, type (a key of `ARROW`, or `vector` for a fixed-size list of float32), what it means."""

    name: str
    type: str
    doc: str
    nullable: bool = False


@dataclass(frozen=True)
class Contract:
    """One table: where it lies below the data root, what cuts it into partitions, its columns."""

    path: str
    key: str  # dt, day; "segments" for the ledgers
    fields: tuple[Field, ...]
    doc: str
    sorted_by: tuple[str, ...] = ()
    provenance: tuple[str, ...] = ()  # columns that the content hash leaves out

    @property
    def columns(self) -> list[str]:
        return [f.name for f in self.fields]

    @property
    def folder(self) -> str:
        """The table's folder below the data root; for a path with braces, the folder of all its names."""
        return self.path.rpartition("/")[0] if "{" in self.path else self.path

    def location(self, folder: str, name: str | None = None) -> str:
        """The folder that holds the partitions; `name` fills the braces of the path,
        `folder` is where `self.folder` lies."""
        if "{" not in self.path:
            return folder
        if name is None or not NAME.fullmatch(name):
            raise ValueError(
                f"Found the name {name!r} for table {self.path}; expected letters a-z, digits and underscores."
            )
        return f"{folder}/{re.sub(r'{.*}', name, self.path.rpartition('/')[2])}"

    def arrow_schema(self, dimension: int | None = None) -> pa.Schema:
        """The columns for Arrow; `dimension` is the length of the vectors, where there are any."""
        fields = [pa.field(f.name, _arrow_type(f, dimension), f.nullable) for f in self.fields]
        metadata = {b"nocturne.provenance": ",".join(self.provenance).encode()} if self.provenance else None
        return pa.schema(fields, metadata=metadata)

    def schema_problem(self, found: pa.Schema) -> str | None:
        """What keeps a table with this Arrow schema from being this one; None when nothing does.

        Names, order, types and nullability count, to the letter; metadata does not, and vectors may have any length.
        """
        both = (described(found), described(self.arrow_schema(dimension=1)))
        theirs, ours = ([LENGTH.sub("[any]", column) for column in columns] for columns in both)
        if theirs == ours:
            return None
        strange = [column for column in theirs if column not in ours] or theirs  # none: only their order is wrong
        lacking = [column for column in ours if column not in theirs] or ours
        named = (", ".join(columns) or "none" for columns in (strange, lacking))
        return "found {}; expected {}, as jobs/tables.py has it for {}".format(*named, self.path)

    def spark_schema(self) -> StructType:
        from pyspark.sql.types import StructField, StructType

        return StructType([StructField(f.name, _spark_type(f), f.nullable) for f in self.fields])

    def spark_select(self) -> list[str]:
        """Expressions for `df.selectExpr`: each column of the contract, cast to its type, in order;
        Spark stops at a null that it forbids."""
        return [f"{_spark_value(f, self.path)} as `{f.name}`" for f in self.fields]


def _arrow_type(field: Field, dimension: int | None) -> pa.DataType:
    if field.type != "vector":
        return ARROW[field.type]
    if not dimension:
        raise ValueError(f"Column {field.name!r} holds vectors: name their dimension.")
    return pa.list_(pa.field("element", pa.float32(), nullable=False), dimension)


def _spark_value(field: Field, path: str) -> str:
    """The column as SQL. Spark writes it as nullable where the contract says so, and nowhere else.

    Spark derives that from its plan alone. A null where none may be stops the job; that `raise_error` gives no null,
    Spark believes only of an `if` with two values, neither of which is ever taken. No row has a negative partition, but
    the optimizer cannot know.
    """
    kind = SPARK[field.type]
    value = f"cast(`{field.name}` as {kind})"
    if field.type == "vector":  # Spark has no fixed-size list: the store refuses what it would write
        return value
    if field.nullable:
        return f"if(spark_partition_id() < 0, null, {value})"
    stop = f"raise_error('Found a null in {field.name} of {path}; expected a value in every row.')"
    return f"coalesce({value}, if(isnull({stop}), cast(0 as {kind}), cast(1 as {kind})))"


def _spark_type(field: Field):
    from pyspark.sql import types

    plain = {
        "string": types.StringType, "int64": types.LongType, "int32": types.IntegerType, "float32": types.FloatType,
        "float64": types.DoubleType, "bool": types.BooleanType, "timestamp": types.TimestampType}
    return types.ArrayType(types.FloatType(), False) if field.type == "vector" else plain[field.type]()


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

TABLES: dict[str, Contract] = {
    "clean_events": Contract(
        "clean_events", "day", _EVENT, "Usable events of one UTC day, shared by all nights.",
        sorted_by=("user_id", "event_time", "item_id", "behavior")),
    "rejected_events": Contract(
        "rejected_events", "dt",
        (
            Field("source_file", "string", "file it was read from"),
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
    "attributes": Contract(
        "attributes", "dt",
        (
            Field("entity_type", "string", "item or user"),
            Field("entity", "int64", "ledger id of the item or user"),
            Field("type", "string", "relation of the attribute, e.g. item_brand"),
            Field("value", "int64", "ledger id within the relation's tail type"),
        ),
        "Who has which value of which attribute: what entities can share.", sorted_by=("type", "value", "entity")),
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
        ),
        "User vectors for everybody downstream.", sorted_by=("user_id",)),
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
        ),
        "The k likeliest prospects per client (and one CSV per client).", sorted_by=("client", "rank")),
    "requested_audiences": Contract(
        "requested_audiences/{name}", "dt",
        (
            Field("rank", "int32", "1 is the likeliest"),
            Field("user_id", "string", "prospect"),
            Field("score", "float32", "calibrated probability to belong to the seeds"),
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
    "run_metrics": Contract(
        "run_metrics/stage={stage}", "dt",
        (
            Field("metric", "string", "name of the figure"),
            Field("value", "float64", "the figure; null where only detail is given", nullable=True),
            Field("detail", "string", "JSON: tables, curves, texts", nullable=True),
        ),
        "Seconds, peak memory, row counts and quality figures of one stage."),
    "reports": Contract("reports", "dt", (), "The night's page (HTML)."),
    "nights": Contract(
        "nights", "dt", (),
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
