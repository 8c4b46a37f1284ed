"""Pairs of a user and a client that `score_lookalike` scores a second: `python -m tests.benchmarks.bench_score`.

A generated log: USERS users with 60 events each over ITEMS items, two models' vectors of 64, and CLIENTS clients, each
scored by two models of four boosters, as many trees as Complete Journey's have. Counted are all columns (history,
affinities) and all margins; reading tables and writing scores is not. Beside it, in the same run, the margins alone by
our trees and by XGBoost's own `inplace_predict`, both on all cores.

The last lines read `margins: <XGBoost's processor time over ours>` and `pairs: <scored a second, by the clock>`.
`--users 850000 --clients 20` is the paper's size; memory grows with the users.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import time
import types
from collections.abc import Callable

import numpy as np
import pyarrow as pa
from scipy import sparse

from jobs.audiences.event_log import Behavior, EventLog, arranged
from jobs.audiences.feature_sets import Source
from jobs.audiences.features import Eligible
from jobs.audiences.item_sets import ItemSets, rows_of
from jobs.audiences.learn_pool import columns_of
from jobs.audiences.pooled_rows import keys_of
from jobs.audiences.score_lookalike import Scored, margins_of_parts
from jobs.audiences.set_affinities import Published
from jobs.audiences.set_columns import Past
from jobs.audiences.vectors import Vectors
from models.classifiers.forest import Forest
from models.classifiers.lookalike import fit_folds
from models.classifiers.trees import xgboost
from models.hyperparameters import PooledTreeHyperparameters, TreeHyperparameters

ITEMS, WIDTH, WINDOW, TODAY = 5000, 64, 90, 20_000
MODELS = {"transe": "l1", "kqgc_mean": "l2"}
POOLED_ROUNDS, OWN_ROUNDS = 45, 65


def generated_log(users: int, random: np.random.Generator) -> EventLog:
    """20 purchases and 40 views a user, of items of which some are had far more often."""

    def behavior(events: int) -> Behavior:
        of_item = (ITEMS * random.random(events) ** 2).astype(np.int32)
        days = (TODAY - 1 - random.integers(0, WINDOW, events)).astype(np.int32)
        user, money = random.integers(0, users, events).astype(np.int32), random.random(events).astype(np.float32)
        return arranged(user, of_item, days, np.ones(events, np.float32), money, users)

    raw_users, raw_items = ([f"{kind}{n:08d}" for n in range(count)] for kind, count in (("u", users), ("i", ITEMS)))
    raw = (pa.array(ids, pa.large_string()) for ids in (raw_users, raw_items))
    return EventLog(*raw, {"purchase": behavior(20 * users), "view": behavior(40 * users)}, TODAY - WINDOW)


def generated_sets(clients: int, random: np.random.Generator) -> ItemSets:
    """Every item has one of 40 categories and one of 200 brands; a client is a brand."""
    values = np.stack([random.integers(0, 40, ITEMS), 40 + random.integers(0, 200, ITEMS)], axis=1)
    ones, rows = np.ones(values.size, np.float32), np.repeat(np.arange(ITEMS), 2)
    table = sparse.csr_array((ones, (rows, values.ravel())), shape=(ITEMS, 240))
    items = [np.flatnonzero(values[:, 1] == 40 + client) for client in range(clients)]
    return ItemSets([f"client:{client}" for client in range(clients)], rows_of(items, ITEMS), table)


def generated_vectors(log: EventLog, past: Past, random: np.random.Generator) -> Published:
    def of(model: str, norm: str) -> Vectors:
        def numbers(*shape: int) -> np.ndarray:
            return random.normal(size=shape).astype(np.float32)

        users, items = np.arange(len(log.users)), np.arange(ITEMS)
        vectors = users, numbers(len(users), WIDTH), items, numbers(ITEMS, WIDTH), numbers(WIDTH)
        return Vectors(model, "one", norm, np.eye(WIDTH), *vectors)

    snapshot = types.SimpleNamespace(items=np.arange(ITEMS), item_raw=log.items)
    ledger = types.SimpleNamespace(raw_of=lambda ids: log.users.take(pa.array(ids)))
    of_models = {model: of(model, norm) for model, norm in MODELS.items()}
    source = Source(snapshot, Eligible(past.raw, past.eligible.astype(np.int64)), ledger, None, None, of_models, 0)
    return Published(source, np.arange(ITEMS), np.arange(len(log.users)))


def boosters(features: np.ndarray, random: np.random.Generator) -> tuple[list[xgboost.Booster], list[xgboost.Booster]]:
    """The pool's and a client's own, of a label that hangs on all columns a little."""
    known = np.nan_to_num((features - np.nanmean(features, 0)) / (1e-3 + np.nanstd(features, 0)))
    odds = known @ random.normal(size=features.shape[1]) * 0.12
    labels = random.random(len(features)) < 1 / (1 + np.exp(1 + np.median(odds) - odds))
    fold = np.arange(len(features)) % 4

    def fitted(n: int, hyper: TreeHyperparameters, rounds: int) -> list[xgboost.Booster]:
        hyper = dataclasses.replace(hyper, rounds=rounds, early_stopping_rounds=rounds)
        return fit_folds(features[:n], labels[:n], fold[:n], 4, hyper, 0)

    return (fitted(len(features), PooledTreeHyperparameters(), POOLED_ROUNDS),
            fitted(3000, TreeHyperparameters(), OWN_ROUNDS))  # fmt: skip


def seconds_of(work: Callable[[], object]) -> tuple[float, float]:
    """(by the clock, of the processor)."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m tests.benchmarks.bench_score", description=__doc__.split("\n")[0])
    options.add_argument("--users", type=int, default=200_000)
    options.add_argument("--clients", type=int, default=8)
    given, random, threads = options.parse_args(), np.random.default_rng(0), os.cpu_count() or 1
    log, sets = generated_log(given.users, random), generated_sets(given.clients, random)
    past = Past(log, TODAY, WINDOW, 7, "purchase", log.active(TODAY - 28, TODAY))
    published, everybody = generated_vectors(log, past, random), np.arange(len(past.eligible))
    keys = keys_of(log.users, 0)
    columns, names = columns_of([past], None, sets, list(MODELS), None, None, keys, 0, vectors=lambda _: published)
    some = columns(past, 0, random.choice(len(everybody), min(len(everybody), 20_000), replace=False))
    pool, own = boosters(some, random)
    forests = {("pool",): Forest.of(pool), ("own",): Forest.of(own)}

    def score(client: int) -> None:
        of = Scored(names, functools.partial(columns, past, client), everybody, past.raw, past.date)
        margins_of_parts(forests, of, threads)

    score(0)  # compiles, and counts what hangs on the users alone
    clock, processor = seconds_of(lambda: [score(client) for client in range(given.clients)])
    _, ours = seconds_of(lambda: [forest.mean_margin(some) for forest in forests.values()])
    for booster in pool + own:
        booster.set_param({"nthread": threads})
    _, theirs = seconds_of(lambda: [b.inplace_predict(some, predict_type="margin") for b in pool + own])
    pairs = len(everybody) * given.clients
    print(f"{len(everybody):,} users, {given.clients} clients, {len(names)} columns, {len(pool + own)} boosters, "
          f"{threads} threads, load {os.getloadavg()[0]:.1f}: {clock:.1f} s by the clock, {processor:.1f} s of the "
          f"processor, {processor / pairs * 1e6:.2f} µs of it a pair")
    print(f"margins: {theirs / ours:.2f}")
    print(f"pairs: {pairs / clock:.0f}")


if __name__ == "__main__":
    main()
