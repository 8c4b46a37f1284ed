"""The tables that lookalike reads, made by pandas from a small event log: no Spark, no training."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from feature_store import Segments
from jobs.configuration.sections import Graph
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
        arrays = [pa.array(rows[f.name].to_numpy() if f.name != "event_id" else [None] * len(rows), from_pandas=True).cast(f.type) for f in schema]
        with table.replace(day) as commit:
            commit.write_table(pa.Table.from_arrays(arrays, schema=schema))


def ledger_ids(root: Path, kind: str, raw: pd.Series) -> np.ndarray:
    """Ledger ids of raw ids, given to those that have none yet."""
    segments = Segments(f"{root}/entity_ids/{kind}")
    table = segments.read()
    known = {} if table is None else dict(zip(table.column("raw").to_pylist(), table.column("id").to_pylist(), strict=True))
    new = [r for r in sorted(set(raw)) if r not in known]
    if new:
        first = len(known)
        known |= {r: first + i for i, r in enumerate(new)}
        segments.append(segments.next_number(), pa.table({"id": pa.array(range(first, first + len(new)), pa.int64()), "raw": pa.array(new, pa.string())}))
    return raw.map(known).to_numpy(np.int64)


def relation_ids(root: Path, graph: Graph) -> dict[tuple[str, str], int]:
    """(name, head type) → id; all relations of the configuration go into the first segment."""
    rows = [(name, "user", "item") for name in graph.behaviors]
    for kind, known in (("item", graph.item_attributes), ("user", graph.user_attributes)):
        rows += [(attribute_relation(kind, name), kind, value_type(name, a)) for name, a in known.items()]
    segments = Segments(f"{root}/relations")
    names, heads, tails = (list(c) for c in zip(*rows, strict=True))
    segments.append(1, pa.table({"id": pa.array(range(len(rows)), pa.int64()), "name": names, "head_type": heads, "tail_type": tails}))
    return {(name, head): i for i, (name, head, _) in enumerate(rows)}


def write_graphs(root: Path, log: Log, date: datetime.date, graph: Graph) -> None:
    """Ledgers, knowledge_graph and interactions of `date`: events before it, in the graph's window."""
    end = pd.Timestamp(date, tz="UTC")
    events = log.events[(log.events["event_time"] < end) & (log.events["event_time"] >= end - pd.Timedelta(days=graph.window_days))]
    events = events[events["behavior"].isin(list(graph.behaviors))]
    events = events.assign(user=ledger_ids(root, "user", events["user_id"]), item=ledger_ids(root, "item", events["item_id"]), value=events["value"].fillna(0) * events["quantity"])
    relations = relation_ids(root, graph)
    groups = events.groupby(["user", "item", "behavior"]).agg(count=("value", "size"), value_sum=("value", "sum"), last_time=("event_time", "max")).reset_index()
    _write(root, "interactions", date, groups.sort_values(["user", "item", "behavior"]))
    edges = [pd.DataFrame({"head": groups["user"], "relation": groups["behavior"].map(lambda b: relations[(b, "user")]), "tail": groups["item"], "count": groups["count"]})]
    for kind, id_column, configured, given in (("item", "item_id", graph.item_attributes, log.items), ("user", "user_id", graph.user_attributes, log.users)):
        known = set(events[id_column])
        for name, attribute in configured.items():
            rows = given[name][given[name]["id"].isin(known)]
            tails = ledger_ids(root, value_type(name, attribute), rows["value"])
            heads = ledger_ids(root, kind, rows["id"])
            edges.append(pd.DataFrame({"head": heads, "relation": relations[(attribute_relation(kind, name), kind)], "tail": tails, "count": 1}))
    _write(root, "knowledge_graph", date, pd.concat(edges).sort_values(["relation", "head", "tail"]))


def _write(root: Path, name: str, date: datetime.date, rows: pd.DataFrame) -> None:
    schema = TABLES[name].arrow_schema()
    arrays = [pa.array(rows[f.name].to_numpy(), from_pandas=True).cast(f.type) for f in schema]
    with table_input(root, name).table().replace(date.isoformat()) as commit:
        commit.write_table(pa.Table.from_arrays(arrays, schema=schema))


def write_vectors(
    root: Path, model: str, date: datetime.date, users: dict[str, np.ndarray], items: dict[str, np.ndarray], purchase: np.ndarray, *,
    rotation: np.ndarray | None = None, space_id: str = "space", norm: str = "l2",
) -> None:  # fmt: skip
    """Native vectors by raw id, published under R."""
    d = len(purchase)
    rotation = np.eye(d) if rotation is None else rotation
    fields = {"space_id": space_id, "rotation": rotation.tolist(), "norm": norm}
    moment = datetime.datetime.combine(date, datetime.time(), datetime.UTC)
    names = sorted(users, key=str.encode)
    table = pa.table({
        "user_id": names, "embedding": _vectors([users[n] for n in names], rotation), "event_timestamp": [moment] * len(names),
        "created_timestamp": [moment] * len(names), "n_events": pa.array([1] * len(names), pa.int32()), "source": ["trained"] * len(names),
        "carried_from": pa.nulls(len(names), pa.timestamp("us", "UTC"))})  # fmt: skip
    with table_input(root, "user_embeddings").table(model).replace(date.isoformat()) as commit:
        commit.write_table(table.cast(TABLES["user_embeddings"].arrow_schema(d)), sorted_by=["user_id"])
        commit.fields |= fields
    names = sorted(items, key=str.encode)
    entities = pa.table({
        "entity_type": ["item"] * len(names) + ["relation"], "id": np.append(ledger_ids(root, "item", pd.Series(names)), 0),
        "raw": [*names, "purchase"], "embedding": _vectors([*(items[n] for n in names), purchase], rotation)})  # fmt: skip
    with table_input(root, "entity_embeddings").table(model).replace(date.isoformat()) as commit:
        commit.write_table(entities.cast(TABLES["entity_embeddings"].arrow_schema(d)))
        commit.fields |= fields


def _vectors(native: list[np.ndarray], rotation: np.ndarray) -> pa.FixedSizeListArray:
    flat = (np.stack(native) @ rotation).astype(np.float32)
    kind = pa.list_(pa.field("element", pa.float32(), nullable=False), flat.shape[1])
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), type=kind)
