"""The tables that lookalike reads, made by pandas from a small event log: no Spark, no training."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from feature_store import Segments
from jobs.configuration.sections import Attribute, Graph
from jobs.graphs.ledgers import attribute_relation, value_type
from jobs.program import Input, Output
from jobs.tables import TABLES


@dataclasses.dataclass(frozen=True)
class Log:
    """events: user_id, item_id, behavior, event_time (UTC), quantity, value. items, users:
    attribute → (id, value) rows."""

    events: pd.DataFrame
    items: dict[str, pd.DataFrame]
    users: dict[str, pd.DataFrame] = dataclasses.field(default_factory=dict)


def table_input(root: Path, name: str, kind: type = Input) -> Input | Output:
    """The argument that a job gets for a table below `root`."""
    return kind(name, f"{root}/{TABLES[name].folder}")


def write_clean_events(root: Path, log: Log) -> None:
    """One partition per UTC day."""
    contract, table = TABLES["clean_events"], table_input(root, "clean_events").table()
    schema = contract.arrow_schema()
    for day, rows in log.events.groupby(log.events["event_time"].dt.strftime("%Y-%m-%d")):
        rows = rows.assign(event_id=None, ingested_at=pd.NaT).sort_values(list(contract.sorted_by))
        columns = {f.name: rows[f.name].to_numpy() for f in schema if f.name != "event_id"}
        columns["event_id"] = [None] * len(rows)
        arrays = [pa.array(columns[f.name], from_pandas=True).cast(f.type) for f in schema]
        with table.replace(day) as commit:
            commit.write_table(pa.Table.from_arrays(arrays, schema=schema))


def ledger_ids(root: Path, kind: str, raw: pd.Series) -> np.ndarray:
    """Ledger ids of raw ids, given to those that have none yet."""
    segments = Segments(f"{root}/entity_ids/{kind}")
    table = segments.read()
    known: dict[str, int] = {}
    if table is not None:
        known = dict(zip(table.column("raw").to_pylist(), table.column("id").to_pylist(), strict=True))
    new = [r for r in sorted(set(raw)) if r not in known]
    if new:
        first = len(known)
        added = range(first, first + len(new))
        known |= dict(zip(new, added, strict=True))
        rows = pa.table({"id": pa.array(added, pa.int64()), "raw": pa.array(new, pa.string())})
        segments.append(segments.next_number(), rows)
    return raw.map(known).to_numpy(np.int64)


def relation_ids(root: Path, graph: Graph) -> dict[tuple[str, str], int]:
    """(name, head type) → id; all relations of the configuration go into the first segment."""
    rows = [(name, "user", "item") for name in graph.behaviors]
    for kind, known in (("item", graph.item_attributes), ("user", graph.user_attributes)):
        rows += [(attribute_relation(kind, name), kind, value_type(name, a)) for name, a in known.items()]
    names, heads, tails = (list(c) for c in zip(*rows, strict=True))
    ids = pa.array(range(len(rows)), pa.int64())
    segment = pa.table({"id": ids, "name": names, "head_type": heads, "tail_type": tails})
    Segments(f"{root}/relations").append(1, segment)
    return {(name, head): i for i, (name, head, _) in enumerate(rows)}


def write_graphs(root: Path, log: Log, date: datetime.date, graph: Graph) -> None:
    """Ledgers, knowledge_graph and interactions of `date`: events before it, in the graph's window."""
    end = pd.Timestamp(date, tz="UTC")
    inside = (log.events["event_time"] < end) & (log.events["event_time"] >= end - pd.Timedelta(days=graph.window_days))
    events = log.events[inside & log.events["behavior"].isin(list(graph.behaviors))]
    events = events.assign(
        user=ledger_ids(root, "user", events["user_id"]), item=ledger_ids(root, "item", events["item_id"]),
        value=events["value"].fillna(0) * events["quantity"])  # fmt: skip
    relations = relation_ids(root, graph)
    by = ["user", "item", "behavior"]
    sums = {"count": ("value", "size"), "value_sum": ("value", "sum"), "last_time": ("event_time", "max")}
    groups = events.groupby(by).agg(**sums).reset_index().sort_values(by)
    _write(root, "interactions", date, groups)
    kinds = groups["behavior"].map(lambda behavior: relations[(behavior, "user")])
    edges = [pd.DataFrame(
        {"head": groups["user"], "relation": kinds, "tail": groups["item"], "count": groups["count"]})]  # fmt: skip
    edges += _attributes(root, "item", set(events["item_id"]), graph.item_attributes, log.items, relations)
    edges += _attributes(root, "user", set(events["user_id"]), graph.user_attributes, log.users, relations)
    rows = pd.concat(edges).sort_values(["relation", "head", "tail"])
    _write(root, "knowledge_graph", date, rows, relations={name: number for (name, _), number in relations.items()})


def _attributes(
    root: Path, kind: str, known: set[str], configured: dict[str, Attribute], given: dict[str, pd.DataFrame],
    relations: dict[tuple[str, str], int],
) -> list[pd.DataFrame]:  # fmt: skip
    """Edges entity –attribute→ value of the entities that have an event."""
    edges = []
    for name, attribute in configured.items():
        rows, relation = given[name][given[name]["id"].isin(known)], relations[(attribute_relation(kind, name), kind)]
        tails = ledger_ids(root, value_type(name, attribute), rows["value"])
        heads = ledger_ids(root, kind, rows["id"])
        edges.append(pd.DataFrame({"head": heads, "relation": relation, "tail": tails, "count": 1}))
    return edges


def _write(root: Path, name: str, date: datetime.date, rows: pd.DataFrame, **fields: Any) -> None:
    schema = TABLES[name].arrow_schema()
    arrays = [pa.array(rows[f.name].to_numpy(), from_pandas=True).cast(f.type) for f in schema]
    with table_input(root, name).table().replace(date.isoformat()) as commit:
        commit.write_table(pa.Table.from_arrays(arrays, schema=schema))
        commit.fields |= fields


def write_vectors(
    root: Path, model: str, date: datetime.date, users: dict[str, np.ndarray], items: dict[str, np.ndarray],
    purchase: np.ndarray | None, *, rotation: np.ndarray | None = None, space_id: str = "space", norm: str = "l2",
) -> None:  # fmt: skip
    """Native vectors by raw id, published under R; without a vector of the purchase there is no relation."""
    d = len(next(iter(users.values())))
    rotation = np.eye(d) if rotation is None else rotation
    fields = {"space_id": space_id, "rotation": rotation.tolist(), "norm": norm}
    moment = datetime.datetime.combine(date, datetime.time(), datetime.UTC)
    names = sorted(users, key=str.encode)
    n = len(names)
    table = pa.table({
        "user_id": names, "embedding": _vectors([users[n] for n in names], rotation), "event_timestamp": [moment] * n,
        "created_timestamp": [moment] * n, "n_events": pa.array([1] * n, pa.int32()), "source": ["trained"] * n,
        "carried_from": pa.nulls(n, pa.timestamp("us", "UTC")), "first_event": [moment] * n,
        "last_event": [moment] * n, "n_days": pa.array([1] * n, pa.int32())})  # fmt: skip
    with table_input(root, "user_embeddings").table(model).replace(date.isoformat()) as commit:
        commit.write_table(table.cast(TABLES["user_embeddings"].arrow_schema(d)), sorted_by=["user_id"])
        commit.fields |= fields
    names, relations = sorted(items, key=str.encode), [] if purchase is None else ["purchase"]
    vectors = [*(items[name] for name in names), *(purchase for _ in relations)]
    entities = pa.table({
        "entity_type": ["item"] * len(names) + ["relation"] * len(relations), "raw": names + relations,
        "id": np.append(ledger_ids(root, "item", pd.Series(names)), np.zeros(len(relations), np.int64)),
        "embedding": _vectors(vectors, rotation)})  # fmt: skip
    schema = TABLES["entity_embeddings"].arrow_schema(d)
    with table_input(root, "entity_embeddings").table(model).replace(date.isoformat()) as commit:
        commit.write_table(entities.select(schema.names).cast(schema))
        commit.fields |= fields


def _vectors(native: list[np.ndarray], rotation: np.ndarray) -> pa.FixedSizeListArray:
    flat = (np.stack(native) @ rotation).astype(np.float32)
    kind = pa.list_(pa.field("element", pa.float32(), nullable=False), flat.shape[1])
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), type=kind)
