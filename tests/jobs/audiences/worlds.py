"""Small worlds for lookalike: planted (tastes decide who buys) and null (nothing known before D - L says who buys)."""

from __future__ import annotations

import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jobs.audiences import score_lookalike, train_lookalike
from jobs.configuration.sections import Attribute, Graph, Lookalike, Publishing, Relation
from jobs.program import Output, metrics
from models.hyperparameters import PooledTreeHyperparameters, TreeHyperparameters
from tests.jobs.report.tables_by_hand import Log, table_input, write_clean_events, write_graphs, write_vectors

START, DATE = datetime.date(2026, 3, 2), datetime.date(2026, 3, 9)  # D - L and D
DIMENSION, BRANDS, ITEMS = 8, 4, 80
GRAPH = Graph(
    behaviors={"view": Relation(), "purchase": Relation()}, window_days=40,
    item_attributes={"brand": Attribute(), "category": Attribute()}, user_attributes={"age": Attribute()})  # fmt: skip
STYLED = dataclasses.replace(GRAPH, item_attributes=GRAPH.item_attributes | {"style": Attribute()})
SETS = ["baseline", "strong", "strong+transe:affinity", "baseline+transe:raw"]
READS = (
    "clean_events", "knowledge_graph", "interactions", "entity_ids", "relations", "user_embeddings",
    "entity_embeddings")  # fmt: skip


FEW = {"rounds": 60, "learning_rate": 0.2, "early_stopping_rounds": 10}  # trees enough for what was planted


def config(**changes: Any) -> train_lookalike.Config:
    """A configuration with one client per brand."""
    clients = {f"brand_{b}": {"brand": f"b{b}"} for b in range(BRANDS)}
    lookalike = Lookalike(
        clients=clients, active_days=28, top_k=40, min_positives=60, feature_sets=SETS, bootstrap_draws=20,
        trees=TreeHyperparameters(threads=1, **FEW),
        pooled_trees=PooledTreeHyperparameters(threads=1, **FEW))  # fmt: skip
    return train_lookalike.Config(0, GRAPH, Publishing(models=["transe"]), dataclasses.replace(lookalike, **changes))


def day(date: datetime.date, days: float) -> pd.Timestamp:
    """So many days after 00:00 UTC of the date."""
    return (pd.Timestamp(date, tz="UTC") + pd.Timedelta(days=days)).as_unit("us")


def items(styles: int = 0) -> dict[str, pd.DataFrame]:
    """Item i is of brand i mod 4 and of category i mod 5; where there are styles, of style i mod styles."""
    names = [f"i{i}" for i in range(ITEMS)]
    more = {"style": pd.DataFrame({"id": names, "value": [f"s{i % styles}" for i in range(ITEMS)]})} if styles else {}
    return more | {
        "brand": pd.DataFrame({"id": names, "value": [f"b{i % BRANDS}" for i in range(ITEMS)]}),
        "category": pd.DataFrame({"id": names, "value": [f"c{i % 5}" for i in range(ITEMS)]})}  # fmt: skip


def events(users: np.ndarray, bought: np.ndarray, days: np.ndarray, behavior: str = "purchase") -> pd.DataFrame:
    """Events of user numbers with item numbers, so many days after D - L."""
    times = pd.Series(pd.Timestamp(START, tz="UTC") + pd.to_timedelta(days * 86_400e6, unit="us")).dt.as_unit("us")
    return pd.DataFrame({
        "user_id": [f"u{u:05d}" for u in users], "item_id": [f"i{i}" for i in bought], "behavior": behavior,
        "event_time": times, "quantity": 1.0, "value": 5.0})  # fmt: skip


def log_of(frames: list[pd.DataFrame], users: int, styles: int = 0) -> Log:
    """These events; user u is of age u mod 3."""
    ids, ages = [f"u{u:05d}" for u in range(users)], [str(u % 3) for u in range(users)]
    return Log(pd.concat(frames, ignore_index=True), items(styles), {"age": pd.DataFrame({"id": ids, "value": ages})})


def planted(root: Path, users: int = 1200, seed: int = 0, styles: int = 0, **vectors: Any) -> Log:
    """Users are near one brand in the vectors' space and buy it more often, before and after D - L;
    past purchases are few."""
    random = np.random.default_rng(seed)
    taste = random.integers(0, BRANDS, users)

    def chosen(who: np.ndarray) -> np.ndarray:
        n = len(who)
        brand = np.where(random.random(n) < 0.7, taste[who], random.integers(0, BRANDS, n))
        return brand + BRANDS * random.integers(0, ITEMS // BRANDS, n)

    before, after = random.integers(0, users, 2 * users), random.integers(0, users, users)
    views = random.integers(0, users, 3 * users)
    frames = [
        events(before, chosen(before), -30 * random.random(len(before))),
        events(after, chosen(after), 7 * random.random(len(after))),
        events(views, random.integers(0, ITEMS, len(views)), -20 * random.random(len(views)), "view")]  # fmt: skip
    log = log_of(frames, users, styles)
    centres = 3 * np.eye(BRANDS, DIMENSION)
    user_vectors = {f"u{u:05d}": centres[taste[u]] + random.normal(size=DIMENSION) for u in range(users)}
    item_vectors = {f"i{i}": centres[i % BRANDS] + 0.3 * random.normal(size=DIMENSION) for i in range(ITEMS)}
    write_clean_events(root, log)
    for date in (START, DATE):
        write_graphs(root, log, date, STYLED if styles else GRAPH)
        write_vectors(root, "transe", date, user_vectors, item_vectors, np.zeros(DIMENSION), **vectors)
    return log


def null(root: Path, users: int = 1500, idle: int = 3000, newcomers: int = 300, seed: int = 0) -> Log:
    """Who buys in [D - L, D) is drawn by lot; every leak would show.

    At D the buyers have a history with the client and they alone have vectors. At D - L a random half has vectors,
    all the same. The ledger is full of users who were active before the eligible ones, and never after; and newcomers
    buy who were not there at D - L.
    """
    random = np.random.default_rng(seed)
    before, gone = random.integers(0, users, 4 * users), np.arange(users, users + idle)
    buyers, new = random.permutation(users)[: users // 2], np.arange(users + idle, users + idle + newcomers)
    frames = [
        events(np.arange(users), random.integers(0, ITEMS, users), -1 - 20 * random.random(users), "view"),
        events(before, random.integers(0, ITEMS, len(before)), -30 * random.random(len(before))),
        events(gone, random.integers(0, ITEMS, idle), -29 - 10 * random.random(idle)),
        events(buyers, random.integers(0, ITEMS, len(buyers)), 7 * random.random(len(buyers))),
        events(new, random.integers(0, ITEMS, newcomers), 7 * random.random(newcomers))]  # fmt: skip
    log = log_of(frames, users + idle + newcomers)
    write_clean_events(root, log)
    same = np.ones(DIMENSION)
    item_vectors = {f"i{i}": random.normal(size=DIMENSION) for i in range(ITEMS)}
    for date, there in ((START, random.permutation(users)[: users // 2]), (DATE, np.concatenate([buyers, new]))):
        write_graphs(root, log, date, GRAPH)
        write_vectors(root, "transe", date, {f"u{u:05d}": same for u in there}, item_vectors, np.zeros(DIMENSION))
    return log


def reads(root: Path) -> dict[str, Any]:
    """The input tables of both jobs, by argument name."""
    return {name: table_input(root, name) for name in READS}


def reads_of_request(root: Path) -> dict[str, Any]:
    """The input tables of find_audience."""
    return reads(root) | {"lookalike_models": table_input(root, "lookalike_models")}


def train(root: Path, settings: train_lookalike.Config, date: datetime.date = DATE) -> dict[str, Any]:
    """Run the job; its figures by name (detail where there is one)."""
    metrics.rows.clear()
    models = table_input(root, "lookalike_models", Output)
    train_lookalike.run(date=date, **reads(root), lookalike_models=models, config=settings)
    return figures()


def score(root: Path, settings: train_lookalike.Config, date: datetime.date = DATE) -> dict[str, Any]:
    metrics.rows.clear()
    outputs = {name: table_input(root, name, Output) for name in ("lookalike_scores", "audiences", "audience_reasons")}
    inputs = reads(root) | {"lookalike_models": table_input(root, "lookalike_models")}
    score_lookalike.run(date=date, **inputs, **outputs, config=settings)
    return figures()


def figures() -> dict[str, Any]:
    return {name: value if detail is None else json.loads(detail) for name, value, detail in metrics.rows}
