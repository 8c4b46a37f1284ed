"""Bring a model's vectors of D into the space that readers know, check them, and publish them.

Reads: checkpoints/<model>, knowledge_graph, entity_ids, relations of D; user_activity and user_labels of D, where there
are any; the predecessor's published vectors and canaries. Writes: canaries/<model>, entity_embeddings/<model> and
feature_store/user_embeddings/model=<model> of D, in this order. Guarantees: one orthogonal R for everything published
(DESIGN section 6.2); what fails a check or the canaries is not published, and readers keep what they had.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store import Table
from feature_store.prune import delete_partition
from feature_store.view import as_matrix
from jobs.arrays import NONE, SOURCES, TRAINED, Checkpoint, raw_of, read_checkpoint, vectors
from jobs.configuration.load import config_hash
from jobs.configuration.profiles import Profiles
from jobs.configuration.sections import Graph, Lookalike, Publishing, Quality, Training
from jobs.configuration.settings import Families
from jobs.embeddings.canaries import Questions, Vectors, check_canaries
from jobs.embeddings.canary_questions import Graphs, freeze
from jobs.embeddings.checks import check_entities, check_vectors
from jobs.embeddings.family import compared, family, newest_before
from jobs.embeddings.space import Former, Space, choose_space, drift_between
from jobs.graphs.ledgers import ERASED, ITEM, USER
from jobs.program import Input, Output, code_version, log, main, metrics, midnight
from jobs.tables import TABLES
from models.families import family_of
from models.places import positions
from models.vectors.comparison import Comparer


@dataclass(frozen=True)
class Config:
    seed: int
    graph: Graph
    families: Families
    training: Training
    publishing: Publishing
    profiles: Profiles
    lookalike: Lookalike
    quality: Quality = Quality()


@dataclass(frozen=True)
class Users:
    """Tonight's users in the order of their ids' bytes: user_id strings, ledger ids, native vectors (n, d), source and
    events in the graph of each."""

    user_id: pa.ChunkedArray
    ids: np.ndarray
    native: np.ndarray
    source: np.ndarray
    n_events: np.ndarray


def events_in_graph(dt: str, knowledge_graph: Input, relations: Input, behaviors: Iterable[str]) -> pa.Table:
    """user, events: the events behind each user's edges in the graph of D, each behaviour's in its own window."""
    ledger = relations.segments().read()
    ids = ledger.filter(pc.is_in(ledger.column("name"), value_set=pa.array(behaviors, pa.string()))).column("id")
    of_behaviors = pc.field("relation").isin(ids.combine_chunks())
    edges = knowledge_graph.table().read(dt, columns=["head", "count"], filter=of_behaviors)
    return edges.group_by("head").aggregate([("count", "sum")]).rename_columns(["user", "events"])


def without_erased(checkpoint: Checkpoint, ids: Input) -> Checkpoint:
    """A checkpoint keeps the rows of users who were erased since, which are published no more."""
    rows = np.flatnonzero(checkpoint.entity_type == checkpoint.types.index(USER))
    raw = raw_of(ids.segments(USER), checkpoint.entity_id[rows], USER)
    erased = rows[pc.starts_with(raw, ERASED).to_numpy(zero_copy_only=False)]
    source = checkpoint.source.copy()
    source[erased] = NONE
    return dataclasses.replace(checkpoint, source=source) if len(erased) else checkpoint


def users_of(checkpoint: Checkpoint, seen: pa.Table, ids: Input) -> Users:
    """Every user of the checkpoint who has a vector. seen: as `events_in_graph` gives it."""
    rows = np.flatnonzero((checkpoint.entity_type == checkpoint.types.index("user")) & (checkpoint.source != NONE))
    known, counts = (seen.column(name).to_numpy() for name in ("user", "events"))
    events = np.append(counts, 0)[positions(known, checkpoint.entity_id[rows])]  # 0 for who is not among them
    user_id = raw_of(ids.segments("user"), checkpoint.entity_id[rows], "user")
    return Users(user_id, checkpoint.entity_id[rows], checkpoint.entities[rows], checkpoint.source[rows], events)


def items_of(checkpoint: Checkpoint, ids: Input) -> Users:
    """Every item of the checkpoint that has a vector, in the same form."""
    rows = np.flatnonzero((checkpoint.entity_type == checkpoint.types.index(ITEM)) & (checkpoint.source != NONE))
    raw = raw_of(ids.segments(ITEM), checkpoint.entity_id[rows], ITEM)
    of_items, nothing = checkpoint.entity_id[rows], np.zeros(len(rows), np.int64)
    return Users(raw, of_items, checkpoint.entities[rows], checkpoint.source[rows], nothing)


def items_before(former: Former, entities: Table) -> Former:
    """The predecessor with the rows of its published items in place of its users'."""
    wanted, columns = pc.field("entity_type") == ITEM, ["raw", "embedding", "entity_type"]
    rows = entities.read(former.date.isoformat(), columns=columns, filter=wanted)
    source = pa.array(["trained"] * rows.num_rows, pa.string())
    table = pa.table({"user_id": rows.column("raw"), "embedding": rows.column("embedding"), "source": source})
    return dataclasses.replace(former, table=table)


def carried(former: Former | None, users: Users, space: Space, date: datetime.date, carry_days: int) -> pa.Table | None:
    """The predecessor's users who are not among tonight's, while the space holds and for `carry_days` after their last
    own vector."""
    if former is None or space.opened:
        return None
    computed = pc.coalesce(former.table.column("carried_from"), former.table.column("event_timestamp"))
    young = pc.greater_equal(computed, pa.scalar(midnight(date - datetime.timedelta(days=carry_days)), computed.type))
    absent = pc.invert(
        pc.is_in(former.table.column("user_id"), value_set=users.user_id.cast(pa.string()).combine_chunks())
    )
    kept = pc.and_(young, absent)
    return former.table.append_column("computed", computed).filter(kept)


def activity_of(user_ids: pa.ChunkedArray, activity: pa.Table | None) -> dict[str, pa.Array]:
    """When each user did something: columns of the feature view; null for who did nothing, and where there is no
    table."""
    names = ("first_event", "last_event", "n_days")
    if activity is None:
        fields = TABLES["user_activity"].arrow_schema()
        return {name: pa.nulls(len(user_ids), fields.field(name).type) for name in names}
    at = pc.index_in(user_ids, value_set=activity.column("user_id").combine_chunks())
    return {name: activity.column(name).take(at) for name in names}


def user_table(
    users: Users, space: Space, rest: pa.Table | None, activity: pa.Table | None, date: datetime.date,
    created: datetime.datetime,
) -> pa.Table:  # fmt: skip
    """The rows of the feature view, sorted by user id. activity: user_activity of D, where there is one."""
    rotated = space.rotate(users.native)
    n, n_carried = len(rotated), rest.num_rows if rest else 0
    matrix = rotated if not n_carried else np.concatenate([rotated, as_matrix(rest.column("embedding"))])
    user_ids = pa.chunked_array(
        [*users.user_id.cast(pa.string()).chunks, *(rest.column("user_id").chunks if rest else [])], pa.string())
    moment, by_code = pa.timestamp("us", tz="UTC"), pa.array([SOURCES.get(n) for n in range(len(SOURCES) + 1)])
    columns = {
        "user_id": user_ids,
        "embedding": vectors(matrix),
        "event_timestamp": pa.repeat(pa.scalar(midnight(date), moment), n + n_carried),
        "created_timestamp": pa.repeat(pa.scalar(created, moment), n + n_carried),
        "n_events": pa.array(
            np.concatenate([np.minimum(users.n_events, np.iinfo(np.int32).max), np.zeros(n_carried)]).astype(np.int32)
        ),
        "source": pa.chunked_array([by_code.take(pa.array(users.source)), pa.repeat("carried", n_carried)]),
        "carried_from": pa.chunked_array(
            [pa.nulls(n, moment), *(rest.column("computed").cast(moment).chunks if rest else [])], moment
        ),
        **activity_of(user_ids, activity),
    }
    schema = TABLES["user_embeddings"].arrow_schema(matrix.shape[1])
    table = pa.Table.from_arrays(list(columns.values()), names=list(columns)).cast(schema)
    return table if not n_carried else table.take(pc.sort_indices(table.column("user_id")))


def entity_table(checkpoint: Checkpoint, space: Space, ids: Input, relations: Input) -> pa.Table:
    """Every entity and relation with its rotated vector, sorted by type and raw id."""
    ledger = relations.segments().read()
    names = ledger.column("name").take(pa.array(checkpoint.relation_id)).cast(pa.large_string())
    parts = [("relation", checkpoint.relation_id, names, checkpoint.relations)]
    for number, name in enumerate(checkpoint.types):
        rows = np.flatnonzero((checkpoint.entity_type == number) & (checkpoint.source != NONE))
        parts.append(
            (
                name,
                checkpoint.entity_id[rows],
                raw_of(ids.segments(name), checkpoint.entity_id[rows], name),
                checkpoint.entities[rows],
            )
        )
    schema = TABLES["entity_embeddings"].arrow_schema(checkpoint.entities.shape[1])
    tables = [
        pa.Table.from_arrays(
            [pa.repeat(kind, len(ledger_ids)), pa.array(ledger_ids), raw, vectors(space.rotate(native))],
            names=schema.names,
        ).cast(schema)
        for kind, ledger_ids, raw, native in sorted(parts, key=lambda part: part[0])
    ]
    return pa.concat_tables(tables)


def ask_canaries(
    dt: str, tonight: Vectors, users: Users, before: tuple[Former | None, Space], tables: tuple[Output, Table, Graphs],
    fields: dict[str, Any], config: Config,
) -> list[dict[str, Any]]:  # fmt: skip
    """How tonight's vectors answer; commits the questions for the nights to come. JobError: not to be published.

    before: the predecessor and tonight's space; tables: canaries, entity_embeddings, and what answers are read from;
    fields: of the vectors' manifest."""
    (former, space), (canaries, entities, graphs) = before, tables
    model, ids = fields["family"]["model"], users.ids[users.source == TRAINED]
    table, handed_on = canaries.table(model), Questions.handed_on(canaries.table(model), former, space)
    questions, figures = check_canaries(
        handed_on, lambda: Questions(*freeze(dt, tonight.users, ids, graphs, config)),
        Vectors.before(former, entities, handed_on) if handed_on else None, tonight,
        Comparer.of(model, fields["norm"], fields.get("compared")), config)  # fmt: skip
    new = questions is not handed_on
    labels = {"user_labels": graphs.user_labels.lineage(dt)} if new and questions.facts["label"] else {}
    with table.replace(dt, keep_versions=config.publishing.keep_versions) as commit:
        commit.write_table(questions.rows, sorted_by=["user_id"])
        commit.fields |= {name: fields[name] for name in ("space_id", "config_hash", "code_version")} | {
            "questions": questions.facts, "asked": figures, "inputs": fields["inputs"] | labels,
            "predecessor": None if new else canaries.lineage(former.date.isoformat(), model)}
    return figures


def run(
    date: datetime.date, model: str, checkpoints: Input, knowledge_graph: Input, entity_ids: Input, relations: Input,
    user_activity: Input, user_labels: Input, user_embeddings: Output, entity_embeddings: Output, canaries: Output,
    config: Config, predecessor: datetime.date | None = None,
) -> None:  # fmt: skip
    """Align, check, publish."""
    dt, table = date.isoformat(), user_embeddings.table(model)
    checkpoint = without_erased(read_checkpoint(checkpoints.table(model), dt), entity_ids)
    seen = events_in_graph(dt, knowledge_graph, relations, config.graph.behaviors)
    users = users_of(checkpoint, seen, entity_ids)
    former = published_before(table, model, date, predecessor, config)
    trained_tonight = checkpoint.facts["trained_at"] == dt
    lineage = checkpoints.lineage(dt, model)
    active = user_activity.table().manifest(dt) and user_activity.table().read(dt)  # none: of nights from before it
    kind = family_of(model).aligned_by
    anchors, known = (users, former) if kind == "user" else (
        items_of(checkpoint, entity_ids), former and items_before(former, entity_embeddings.table(model)))  # fmt: skip
    space = choose_space(
        anchors.user_id, anchors.native, anchors.source, known, trained_tonight, lineage["content_hash"],
        family(model, config), config, kind)  # fmt: skip
    fields = {
        "family": family(model, config),
        "norm": family(model, config)["norm"],
        **compared(model, config),
        **space.fields(),
        "config_hash": config_hash(config),
        "code_version": code_version(),
        "trained_at": checkpoint.facts["trained_at"],
        "max_gap_days": config.training.max_gap_days,
        "inputs": {model: lineage, "knowledge_graph": knowledge_graph.lineage(dt)}
        | ({"user_activity": user_activity.lineage(dt)} if active else {}),
        "predecessor": user_embeddings.lineage(former.date.isoformat(), model) if former else None,
        "dimension": checkpoint.entities.shape[1],
        "window": knowledge_graph.table().existing_manifest(dt).fields.get("window"),
    }
    rest = carried(former, users, space, date, config.publishing.carry_days)
    contract = TABLES["user_embeddings"]
    # the last to be entered commits first: whoever sees users of D finds the items and relations of D
    with (
        table.replace(
            dt, keep_versions=config.publishing.keep_versions, schema_version=contract.schema_version) as commit,
        entity_embeddings.table(model).replace(dt, keep_versions=config.publishing.keep_versions) as entities,
    ):
        published = user_table(users, space, rest, active, date, commit.created_timestamp)
        quality = check_vectors(
            published,
            seen.num_rows,
            checkpoint.entities.shape[1],
            config.publishing,
            config.quality.page(date, "user_embeddings", model),
        )
        quality |= drift_between(published, table, date, space, former, config.lookalike.label_window_days)
        rotated = entity_table(checkpoint, space, entity_ids, relations)
        quality["checks"] += check_entities(
            rotated, checkpoint.entities.shape[1], config.quality.page(date, "entity_embeddings", model)
        )
        if config.publishing.canaries and kind == "user":  # else users are elsewhere with every event of theirs
            graphs = Graphs(knowledge_graph, entity_ids, relations, user_labels)
            quality["canaries"] = ask_canaries(
                dt, Vectors(published, rotated, space.rotation), users, (former, space),
                (canaries, entity_embeddings.table(model), graphs), fields, config)
        entities.write_table(rotated, sorted_by=["entity_type", "raw"])
        entities.fields |= fields
        commit.write_table(published, sorted_by=["user_id"])
        commit.fields |= fields | {"quality": quality}
    if "canaries" not in quality and dt in canaries.table(model).values():  # of a former run: nobody writes it again
        delete_partition(canaries.table(model), dt)
    report(published, quality, space)


def published_before(
    table: Table, model: str, date: datetime.date, predecessor: datetime.date | None, config: Config
) -> Former | None:
    """The predecessor's published vectors; None on a cold start, and where the model went on from a checkpoint of
    nights that did not publish it. PartitionMissing for one of several that is gone."""
    if predecessor is None:
        return None
    newest = newest_before(table, date, family(model, config), config.training.max_gap_days)
    if newest is None and table.manifest(predecessor.isoformat()) is None:
        log.info("%s is published for the first time: nothing of %s to align it with", model, predecessor)
        return None
    return Former.read(table, predecessor)


def report(published: pa.Table, quality: dict[str, Any], space: Space) -> None:
    """The night's figures of this stage."""
    metrics.put("rows_out", published.num_rows)
    for row in pc.value_counts(published.column("source")).to_pylist():
        metrics.put(f"users_{row['values']}", row["counts"])
    metrics.put("alignment", detail=space.report())
    metrics.put("drift", detail=quality.get("drift"))
    metrics.put("checks", detail=quality["checks"])
    metrics.put("canaries", detail=quality.get("canaries"))


if __name__ == "__main__":
    main(run)
