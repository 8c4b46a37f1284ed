"""A data root with planted tastes, written without Spark: ledgers, knowledge graph and interactions of some dates."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml

from feature_store import Segments, Table
from jobs.program import midnight
from jobs.tables import TABLES

N_USERS, N_ITEMS, GROUPS, DIMENSION = 60, 40, 4, 8
BRANDS = [f"b{n}" for n in range(GROUPS)]
RELATIONS = [("purchase", "user", "item"), ("item_brand", "item", "brand"), ("user_region", "user", "region")]


def write_config(folder: Path, **sections: object) -> Path:
    """A configuration for this graph; `sections` replace or add top-level keys."""
    document = {
        "data_root": "data",
        "seed": 3,
        "deterministic": True,
        "source": {name: {"path": f"{name}.parquet"} for name in ("events", "items", "users")},
        "events": {"behaviors": ["purchase"]},
        "graph": {"behaviors": {"purchase": {}}, "item_attributes": {"brand": {}}, "user_attributes": {"region": {}}},
        "transe": {
            "dimension": DIMENSION,
            "epochs": 30,
            "negatives": 8,
            "negatives_shared_by": 4,
            "batch_size": 64,
            "threads": 1,
        },
        "kqgc": {"learned": True, "epochs": 3, "batch_size": 64, "fanout": 5},
        "publishing": {"models": ["transe", "kqgc_mean"], "min_neighbour_overlap": 0.0},
        **sections,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def write_ledgers(root: Path, users: list[str], order_seed: int = 0, brands: list[str] = BRANDS) -> None:
    """Ledgers whose ids come in an order of their own; calling it again with other users or brands adds a segment."""
    values = {
        "user": users,
        "item": [f"i{n:03d}" for n in range(N_ITEMS)],
        "brand": brands,
        "region": ["north", "south"],
    }
    for kind, raw in values.items():
        ledger = Segments(str(root / "entity_ids" / kind))
        known = ledger.read()
        seen = [] if known is None else known.column("raw").to_pylist()
        new = [r for r in np.random.default_rng(order_seed).permutation(raw).tolist() if r not in set(seen)]
        if new:
            ids = pa.array(range(len(seen), len(seen) + len(new)), pa.int64())
            ledger.append(
                ledger.next_number(), pa.table([ids, pa.array(new)], schema=TABLES["entity_ids"].arrow_schema())
            )
    relations = Segments(str(root / "relations"))
    if relations.read() is None:
        rows = [{"id": n, "name": r[0], "head_type": r[1], "tail_type": r[2]} for n, r in enumerate(RELATIONS)]
        relations.append(relations.next_number(), pa.Table.from_pylist(rows, TABLES["relations"].arrow_schema()))


def group_of(user: str) -> int:
    """The planted taste of a user: which brand's items are bought."""
    return int(user[1:]) % GROUPS


def write_graph(root: Path, date: datetime.date, users: list[str], seed: int = 1, brands: list[str] = BRANDS) -> None:
    """Each user buys six items, five of them of the own group's brand (where there are as many brands as groups)."""
    random = np.random.default_rng(seed)
    ids = {kind: _ids(root, kind) for kind in ("user", "item", "brand", "region")}
    edges, bought = set(), set()
    for user in sorted(users):
        own = [n for n in range(N_ITEMS) if n % GROUPS == group_of(user)]
        for item in [*random.choice(own, 5, replace=False), random.integers(N_ITEMS)]:
            bought.add((ids["user"][user], ids["item"][f"i{item:03d}"]))
        edges.add((ids["user"][user], 2, ids["region"][("north", "south")[int(user[1:]) % 2]]))
    edges |= {(user, 0, item) for user, item in bought}
    edges |= {
        (ids["item"][f"i{n:03d}"], 1, ids["brand"][brands[n % len(brands)]])
        for n in range(N_ITEMS)
        if ids["item"][f"i{n:03d}"] in {i for _, i in bought}
    }
    rows = sorted(edges, key=lambda e: (e[1], e[0], e[2]))
    graph = pa.table(
        [pa.array(c, pa.int64()) for c in (*zip(*rows, strict=True), [1] * len(rows))],
        schema=TABLES["knowledge_graph"].arrow_schema(),
    )
    _commit(root, "knowledge_graph", date, graph)
    last = midnight(date) - datetime.timedelta(hours=5)
    seen = [
        {"user": u, "item": i, "behavior": "purchase", "count": 1, "value_sum": 2.0, "last_time": last}
        for u, i in sorted(bought)
    ]
    _commit(root, "interactions", date, pa.Table.from_pylist(seen, TABLES["interactions"].arrow_schema()))


def write_day(root: Path, day: datetime.date, users: list[str]) -> None:
    """A committed day of clean_events on which every user did something."""
    moment = midnight(day) + datetime.timedelta(hours=1)
    event = {"item_id": "i000", "behavior": "purchase", "event_time": moment, "quantity": 1.0}
    rows = [event | {"user_id": user} for user in sorted(users)]
    with Table(str(root / "clean_events"), key="day").replace(day.isoformat()) as commit:
        commit.write_table(pa.Table.from_pylist(rows, TABLES["clean_events"].arrow_schema()))


def _ids(root: Path, kind: str) -> dict[str, int]:
    table = Segments(str(root / "entity_ids" / kind)).read()
    return dict(zip(table.column("raw").to_pylist(), table.column("id").to_pylist(), strict=True))


def _commit(root: Path, name: str, date: datetime.date, table: pa.Table) -> None:
    with Table(str(root / name)).replace(date.isoformat()) as commit:
        commit.write_table(table, sorted_by=list(TABLES[name].sorted_by))
        commit.fields["window"] = {"days": 45, "before": date.isoformat()}
