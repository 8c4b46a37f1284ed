"""A generated log of the size of the KQGC paper's table 1, and of parts of it, with a catalogue: heavy-tailed on both
sides, every user and item with at least one purchase, each item of one of 200 categories.
"""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

USERS, ITEMS, PURCHASES = 85_402, 1_302_877, 2_360_012
D = datetime.date(2026, 3, 1)
WINDOW_DAYS = 45
CATEGORIES = 200


def counts(scale: float) -> tuple[int, int, int]:
    """(users, items, purchases) of a size."""
    users, items, purchases = (max(20, round(n * scale)) for n in (USERS, ITEMS, PURCHASES))
    return users, items, purchases


def heavy_tailed(random: np.random.Generator, n: int, draws: int, exponent: float) -> np.ndarray:
    """`draws` members of range(n), each at least once, the rest by a power law over a random order of them."""
    weights = np.cumsum(random.permutation(np.arange(1, n + 1, dtype=np.float64) ** -exponent))
    rest = np.searchsorted(weights, random.random(draws - n) * weights[-1], side="right")
    return random.permutation(np.concatenate([np.arange(n), np.minimum(rest, n - 1)]))


def generate(path: Path, scale: float, seed: int = 0) -> None:
    """The log of one size; equal arguments give equal bytes."""
    random = np.random.default_rng([seed, round(scale * 1e6)])
    users, items, purchases = counts(scale)
    buyer, bought = heavy_tailed(random, users, purchases, 0.7), heavy_tailed(random, items, purchases, 0.8)
    first = np.datetime64(D - datetime.timedelta(days=WINDOW_DAYS), "us")
    times = first + random.integers(0, WINDOW_DAYS * 86_400_000_000, purchases)
    names = [_ids(random, prefix, n) for prefix, n in (("u", users), ("i", items))]
    order = np.argsort(times, kind="stable")
    prices = np.round(random.lognormal(2, 1, purchases), 2).astype(np.float32)
    rows = pa.table(
        {
            "user_id": names[0].take(pa.array(buyer[order])),
            "item_id": names[1].take(pa.array(bought[order])),
            "event_time": pa.array(times[order], pa.timestamp("us", "UTC")),
            "quantity": pa.array(np.ones(purchases, np.float32)),
            "value": pa.array(prices),
        }
    )
    pq.write_table(rows, path, compression="zstd")


def generate_items(path: Path, log: Path, seed: int = 0) -> None:
    """The catalogue of a log: the category of each item, some far more common than others."""
    items = pc.unique(pq.read_table(log, columns=["item_id"]).column("item_id")).sort()
    shares = 1 / np.arange(1, CATEGORIES + 1)
    drawn = np.random.default_rng([seed, len(items)]).choice(CATEGORIES, len(items), p=shares / shares.sum())
    pq.write_table(pa.table({"item_id": items, "category": [f"c{number}" for number in drawn]}), path)


def _ids(random: np.random.Generator, prefix: str, n: int) -> pa.Array:
    """Names whose order says nothing."""
    return pa.array([f"{prefix}{value:010d}" for value in random.permutation(n) * 7919 % 10_000_000_019])
