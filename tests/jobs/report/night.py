"""A small night written by hand: tables as the jobs leave them, with planted tastes, for the report's tests.

`python -m tests.jobs.report.night FOLDER [USERS]` writes one to look at.
"""

from __future__ import annotations

import datetime
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from feature_store import Segments, Table
from jobs.program import Metrics, midnight
from jobs.tables import TABLES

DATE = datetime.date(2026, 3, 2)
BEFORE = datetime.date(2026, 2, 23)
CATEGORIES = ("tea", "records", "garden", "bicycles", "toys", "lamps")
MODELS = ("transe", "kqgc_mean")
SETS = ("baseline", "strong", "strong+transe:affinity", "strong+kqgc_mean:affinity")
CLIENTS = ("luna", "sol", "terra")
CONFIG = """
data_root: {root}
source: {{events: {{path: none}}, items: {{path: none}}}}
events: {{behaviors: [view, purchase]}}
graph:
  behaviors: {{view: {{}}, purchase: {{}}}}
  item_attributes: {{category: {{}}, brand: {{}}}}
publishing: {{models: [transe, kqgc_mean]}}
lookalike: {{clients: {{luna: {{brand: luna}}, sol: {{brand: sol}}, terra: {{brand: terra}}}}}}
"""


def write_config(root: Path) -> Path:
    path = root / "night.yaml"
    path.write_text(CONFIG.format(root=root / "data"), encoding="utf-8")
    return path


def put(
    root: Path, stage: str, status: int = 0, message: str | None = None, date: datetime.date = DATE, **figures: Any
) -> None:
    """A stage's figures; a number is a value, anything else a detail."""
    metrics = Metrics()
    for name, figure in figures.items():
        plain = isinstance(figure, (int, float))
        metrics.put(name, figure if plain else None, None if plain else figure)
    metrics.put("status", status, message)
    metrics.put("seconds", figures.get("seconds", 2.0 + len(stage) / 3))
    metrics.put("peak_memory_mib", 180.0 + 31 * len(stage))
    metrics.commit(str(root / "data"), stage, date)


def commit(
    root: Path, name: str, rows: dict[str, Any], model: str | None = None, dimension: int | None = None,
    value: str = DATE.isoformat(),
) -> None:  # fmt: skip
    contract = TABLES[name]
    schema = contract.arrow_schema(dimension)
    table = pa.Table.from_arrays([pa.array(rows[f.name], f.type) for f in schema], schema=schema)
    location = contract.location(str(root / "data" / contract.folder), model)
    with Table(location, key=contract.key).replace(value) as partition:
        partition.write_table(table)


def write_people(
    root: Path, n_users: int = 120, n_items: int = 48, users: list[str] | None = None, items: list[str] | None = None
) -> None:
    """Ledgers, graph, interactions and vectors: user u likes category u mod 6, and the vectors know it."""
    random = np.random.default_rng(3)
    users = (users or []) + [f"user-{u:05d}" for u in range(len(users or []), n_users)]
    items = (items or []) + [f"item-{i:04d}" for i in range(len(items or []), n_items)]
    ledgers = {"user": users, "item": items, "category": list(CATEGORIES), "brand": list(CLIENTS)}
    for name, raw in ledgers.items():
        rows = pa.table({"id": pa.array(range(len(raw)), pa.int64()), "raw": raw})
        Segments(str(root / "data" / "entity_ids" / name)).append(1, rows)
    relations = [("purchase", "user", "item"), ("category", "item", "category"), ("brand", "item", "brand")]
    names, heads, tails = zip(*relations, strict=True)
    rows = pa.table({"id": pa.array([0, 1, 2], pa.int64()), "name": names, "head_type": heads, "tail_type": tails})
    Segments(str(root / "data" / "relations")).append(1, rows)
    tastes = np.array([u % len(CATEGORIES) for u in range(len(users))])
    kinds = np.array([i % len(CATEGORIES) for i in range(len(items))])
    pairs = sorted({(u, int(i)) for u in range(len(users)) for i in _picks(random, tastes[u], kinds)})
    _write_graph(root, pairs, kinds)
    centres = random.normal(size=(len(CATEGORIES), 16))
    order = sorted(range(len(users)), key=lambda u: users[u].encode())
    for model, noise in zip(MODELS, (1.0, 0.6), strict=True):
        vectors = (centres[tastes] + noise * random.normal(size=(len(users), 16))).astype(np.float32)[order]
        former = vectors + 0.2 * random.normal(size=vectors.shape).astype(np.float32)
        for date, values in ((DATE, vectors), (BEFORE, former)):
            write_vectors(root, model, date, [users[u] for u in order], values)


def _write_graph(root: Path, pairs: list[tuple[int, int]], kinds: np.ndarray) -> None:
    """pairs: who bought what; kinds: each item's category."""
    edges = [(u, 0, i) for u, i in pairs] + [(i, 1, int(kind)) for i, kind in enumerate(kinds)]
    edges += [(i, 2, i % 3) for i in range(len(kinds))]
    heads, relations, tails = (list(column) for column in zip(*edges, strict=True))
    graph = {"head": heads, "relation": relations, "tail": tails, "count": [1] * len(edges)}
    commit(root, "knowledge_graph", graph)
    users, items = (list(column) for column in zip(*pairs, strict=True))
    n, counts = len(pairs), [1 + (u * i) % 3 for u, i in pairs]
    commit(root, "interactions", {
        "user": users, "item": items, "behavior": ["purchase"] * n, "count": counts, "value_sum": [9.5] * n,
        "last_time": [midnight(DATE)] * n})  # fmt: skip


def write_vectors(root: Path, model: str, date: datetime.date, users: list[str], vectors: np.ndarray) -> None:
    n, dimension = vectors.shape
    kind = TABLES["user_embeddings"].arrow_schema(dimension).field("embedding").type
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dimension).cast(kind)
    times = [midnight(date)] * n
    rows = {
        "user_id": users,
        "embedding": embedding,
        "event_timestamp": times,
        "created_timestamp": times,
        "n_events": [4] * n,
        "source": ["trained"] * n,
        "carried_from": [None] * n,
        "first_event": times,
        "last_event": times,
        "n_days": [2] * n,
    }
    commit(root, "user_embeddings", rows, model, dimension, date.isoformat())


def _picks(random: np.random.Generator, taste: int, kinds: np.ndarray) -> np.ndarray:
    chances = np.where(kinds == taste, 8.0, 1.0)
    return random.choice(kinds.size, 5, replace=False, p=chances / chances.sum())


def write_days(root: Path, days: int = 20) -> None:
    """Clean events of the days before DATE, and of the very day, which no page of DATE may know of."""
    contract = TABLES["clean_events"]
    for back in range(days + 1):
        day = DATE - datetime.timedelta(days=back)
        n = 20 + (back * 7) % 11
        rows = {
            "user_id": [f"user-{k:05d}" for k in range(n)],
            "item_id": ["item-0001"] * n,
            "behavior": ["view"] * n,
            "event_time": [midnight(day)] * n,
            "quantity": [1.0] * n,
            "value": [None] * n,
            "event_id": [None] * n,
            "ingested_at": [None] * n,
        }
        commit(root, "clean_events", rows, value=day.isoformat())
    assert contract.key == "day"


def write_figures(root: Path, date: datetime.date = DATE) -> None:
    """run_metrics of a night on which everything went well."""
    put(
        root,
        "validate_events",
        rows_in=100_312,
        rows_rejected=421,
        rejected_by_reason={"unknown behavior": 212, "user_id is null": 120, "event_time cannot be parsed": 89},
        rows_repeated=120,
        rows_late=33,
        rows_out=99_771,
        rows_returned=1_717,
        date=date,
        checks=[
            {
                "expectation": "expect_column_values_to_not_be_null",
                "column": "user_id",
                "success": True,
                "rows": 99_771,
                "unexpected": 0,
                "unexpected_share": 0.0,
            },
            {
                "expectation": "expect_column_values_to_be_in_set",
                "column": "behavior",
                "success": True,
                "rows": 99_771,
                "unexpected": 0,
                "unexpected_share": 0.0,
            },
        ],
    )
    put(root, "assign_ids", rows_out=3120, date=date)
    put(
        root,
        "build_knowledge_graph",
        entities={"user": 1987, "item": 1000, "category": 12, "brand": 40, "age_band": 6, "region": 9},
        date=date,
        edges={
            "view": 41_200, "cart": 12_100, "purchase": 9_800, "category": 1000, "brand": 1000, "age_band": 1800,
            "region": 1900,
        },
        rows_out=68_800,
        own_values={"item_cats": [7_245, 10_000]},
    )
    put(root, "build_interactions", rows_out=63_100, date=date)
    put(root, "build_user_activity", rows_out=1987, date=date)
    put(root, "resolve_predecessor", predecessors=dict.fromkeys(MODELS, BEFORE.isoformat()), date=date)
    _write_training_figures(root, date)
    _write_publish_figures(root, date)
    write_lookalike_figures(root, date)


def _write_training_figures(root: Path, date: datetime.date) -> None:
    for stage, start, key, measured in (
        ("pretrain_transe", 0.9, "validation_mrr", 0.338), ("smooth_kqgc_kqgc_mean", 1.4, "validation_accuracy", 0.872),
    ):  # fmt: skip
        history = [{"epoch": e, "loss": start * np.exp(-e / 7) + 0.1, "seconds": 0.4} for e in range(25)]
        for row in history[::3]:
            row[key] = 0.35 - 0.3 * np.exp(-row["epoch"] / 5)
        put(root, stage, history=history, warm=1, rows_in=68_000, date=date, **{key: measured})


def _write_publish_figures(root: Path, date: datetime.date) -> None:
    for i, model in enumerate(MODELS):
        alignment = {
            "residual": 0.21 + i / 10, "neighbour_overlap": 0.71, "n_common": 1822, "n_inliers": 1700,
            "space_id": f"{model}-7d2c91", "opened": False, "reason": ""}
        moved = {"date": BEFORE.isoformat(), "median": 0.043 + i / 100, "percentile_95": 0.19, "n_users": 1822}
        put(
            root, f"publish_users_{model}", users_trained=1890, users_inductive=85, users_carried=12, rows_out=1987,
            date=date, alignment=alignment, drift={"since_predecessor": moved})  # fmt: skip


def write_lookalike_figures(root: Path, date: datetime.date, run: str = "") -> None:
    """run: what the audiences' files have in their names."""
    pairs = [(c, client, s, name) for c, client in enumerate(CLIENTS) for s, name in enumerate(SETS)]
    rows = [_validation(client, name, 0.42 + 0.03 * c + 0.025 * s) for c, client, s, name in pairs]
    curves = [_curves(client, name, s) for _, client, s, name in pairs]
    rare = {"client": "rare", "positives": 31, "eligible": 1615, "not_eligible_buyers": 2, "modelled": False}
    chosen = dict.fromkeys(CLIENTS, SETS[3])
    put(root, "train_lookalike", clients=[rare], pr_auc=rows, curves=curves, chosen=chosen, date=date)
    audiences = [
        {"client": client, "feature_set": SETS[3], "eligible": 1612, "k": 200,
         "file": f"audiences/dt={DATE}/part-00001-{client}{run}.csv"} for client in CLIENTS]  # fmt: skip
    backtest = [
        _backtest(i, client, name, at) for i, client in enumerate(CLIENTS)
        for name, at in ((SETS[0], 0.4), (SETS[1], 0.45 if i else 0.5), (SETS[3], 0.5))]  # fmt: skip
    drawn = [curve for curve in curves if curve["feature_set"] == SETS[3]]
    put(root, "score_lookalike", date=date, audiences=audiences, backtest=backtest, backtest_curves=drawn)


def _validation(client: str, feature_set: str, at: float) -> dict[str, Any]:
    return {
        "client": client, "feature_set": feature_set, "pr_auc_1to3": at, "pr_auc_1to3_low": at - 0.05,
        "pr_auc_1to3_high": at + 0.05, "pr_auc_population": at / 2, "pr_auc_population_low": at / 2 - 0.03,
        "pr_auc_population_high": at / 2 + 0.03, "prevalence": 0.081, "positives": 131 + CLIENTS.index(client),
        "eligible": 1615, "not_eligible_buyers": 7}


def _curves(client: str, feature_set: str, s: int) -> dict[str, Any]:
    x = np.linspace(0, 1, 60)
    said = (0.02, 0.06, 0.12, 0.2, 0.31)
    return {
        "client": client, "feature_set": feature_set, "recall": list(x),
        "precision": list(0.9 * (1 - x) ** (1.5 - s / 4) + 0.08), "share_contacted": list(x),
        "share_reached": list(x ** (0.5 - s / 20)),
        "calibration": [{"predicted": p, "observed": p * (0.9 + s / 20), "n": 100} for p in said]}


def _backtest(i: int, client: str, feature_set: str, at: float) -> dict[str, Any]:
    return {
        "client": client, "feature_set": feature_set, "chosen": feature_set == SETS[3], "scored_at": "2026-02-23",
        "pr_auc_population": 0.24 + i / 50, "pr_auc_population_low": 0.2, "pr_auc_population_high": 0.31,
        "pr_auc_1to3": at, "prevalence": 0.08, "buyers": 118, "precision_at_k": 0.27, "lift_at_k": 3.3 + i / 5}


def write_audiences(root: Path) -> None:
    """Twenty each, of whom some were not there the night before, and others were."""
    names = ("client", "rank", "user_id", "score", "group")
    for date, first in ((BEFORE, 6), (DATE, 0)):
        rows = [
            (client, r + 1, f"user-{first + r:05d}", 0.5 / (r + 1), "control" if r % 5 == 4 else "mailing")
            for client in CLIENTS for r in range(20)]  # fmt: skip
        commit(root, "audiences", dict(zip(names, zip(*rows, strict=True), strict=True)), value=date.isoformat())


def write_night(root: Path, n_users: int = 120) -> Path:
    """Everything; the path of the configuration."""
    root.mkdir(parents=True, exist_ok=True)
    write_figures(root)
    write_people(root, n_users)
    write_days(root)
    write_audiences(root)
    return write_config(root)


if __name__ == "__main__":
    print(write_night(Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 120))
