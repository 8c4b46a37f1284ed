"""What a data scientist trains instead, 64 wide, for `make paper-vectors`: each with a few settings to choose from.

ALS (`implicit`), truncated SVD, Cleora, Word2Vec over items (gensim), and what needs no training: counts by category
and five statistics of activity. All from the events that the graph was built of; Cleora, which takes any graph, from
the whole knowledge graph too.

Shapes: n users, m items, d = 64.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from gensim.models import Word2Vec
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.preprocessing import normalize

from jobs.arrays import Night
from tests.papers.lookalike_cache import Arrays
from tests.papers.lookalike_peers import PYTHON
from tests.papers.vector_logs import LogNight
from tests.papers.vector_tasks import activity, counts_of, values_of

HERE = Path(__file__).parent
WIDTH, THREADS = 64, 2
# bm25 or the counts, regularisation, alpha
ALS_SETTINGS = ((1, 0.01, 1), (1, 1.0, 1), (0, 0.01, 1), (0, 0.1, 10))
CLEORA_STEPS = (2, 3, 5, 8)
WORD2VEC = ((5, 10), (30, 10))  # window, epochs
STATISTICS = 5
CATEGORY = {"movielens_1m": "genres", "completejourney": "category", "online_retail": "words"}


@dataclass(frozen=True)
class World:
    """What peers learn from: the users whose vectors are asked, events before the night in the order of time, and the
    counts of user and item (n, m)."""

    nights: LogNight
    users: np.ndarray
    events: pd.DataFrame
    counts: sparse.csr_matrix

    @classmethod
    def of(cls, nights: LogNight, users: np.ndarray) -> World:
        events = nights.before()
        events = events[events["user_id"].isin(users)].reset_index(drop=True)
        rows, items = pd.Index(users).get_indexer(events["user_id"]), pd.factorize(events["item_id"], sort=True)
        shape = len(users), len(items[1])
        counts = sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, items[0])), shape=shape)
        counts.sum_duplicates()
        return cls(nights, users, events, counts)


def als(world: World, python: Path = PYTHON) -> Arrays:
    """Hu, Koren, Volinsky 2008."""
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "in.npz", Path(folder) / "out.npz"
        fields = ("data", "indices", "indptr", "shape")
        np.savez(given, **{f"events_{field}": np.asarray(getattr(world.counts, field)) for field in fields})
        command = [str(python), str(HERE / "als_vectors.py"), "--input", str(given), "--output", str(out)]
        command += ["--factors", str(WIDTH), "--threads", str(THREADS), "--seed", "0"]
        for setting in ALS_SETTINGS:
            command += ["--setting", *map(str, setting)]
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": str(THREADS)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(
                f"ALS failed:\n{done.stderr[-2000:]}\nIs .venv-implicit complete? `make paper-vectors` makes it.")
        with np.load(out, allow_pickle=False) as found:
            return {f"bm25={bm25} reg={reg} alpha={alpha}": found[str(number)]
                    for number, (bm25, reg, alpha) in enumerate(ALS_SETTINGS)}  # fmt: skip


def svd(world: World) -> Arrays:
    """Of who had an event with what, weighed in three ways; the rows of U Σ."""
    there = (world.counts > 0).astype(np.float32)
    weighed = {"binary": there, "log": world.counts.log1p(), "tf-idf": TfidfTransformer().fit_transform(world.counts)}
    reduced = {}
    for name, matrix in weighed.items():
        width = min(WIDTH, min(matrix.shape) - 1)
        reduced[name] = TruncatedSVD(width, random_state=0).fit_transform(matrix).astype(np.float32)
    return reduced


def cleora(world: World) -> Arrays:
    """Rychalska et al. 2021: random vectors, multiplied by the graph's transition matrix and brought to length 1, some
    times over. Of the events alone, and of the whole knowledge graph."""
    n, m = world.counts.shape
    night, found = world.nights.night, {}
    of_events = sparse.bmat([[None, world.counts], [world.counts.T, None]], format="csr")
    whole = of_graph(night)
    users = night.of_type("user")
    place = pd.Index(night.raw.take(users).to_numpy(zero_copy_only=False)).get_indexer(world.users)
    for name, adjacency, rows in (("events", of_events, np.arange(n)), ("graph", whole, users[place])):
        for steps, vectors in cleora_steps(adjacency, max(CLEORA_STEPS)):
            if steps in CLEORA_STEPS:
                found[f"{name}, {steps} steps"] = vectors[rows]
    return found


def of_graph(night: Night) -> sparse.csr_matrix:
    """(n, n), both ways: a behaviour weighs as often as it was, an attribute once."""
    shape, there = (night.n_entities, night.n_entities), (night.heads, night.tails)
    one_way = sparse.csr_matrix((night.counts.astype(np.float32), there), shape=shape)
    return (one_way + one_way.T).tocsr()


def cleora_steps(adjacency: sparse.csr_matrix, steps: int) -> Iterator[tuple[int, np.ndarray]]:
    """(how many, float32 (n, d)) after each."""
    degrees = np.maximum(np.asarray(adjacency.sum(axis=1)).ravel(), 1e-12)
    transition = sparse.diags(1 / degrees).astype(np.float32) @ adjacency
    vectors = np.random.default_rng(0).uniform(-1, 1, (adjacency.shape[0], WIDTH)).astype(np.float32)
    for step in range(1, steps + 1):
        vectors = normalize(transition @ vectors)
        yield step, vectors


def word2vec(world: World) -> Arrays:
    """Skip-gram over each user's items in the order of time; a user is the mean of his items."""
    sentences = world.events.groupby("user_id")["item_id"].apply(lambda items: [str(item) for item in items])
    items = np.unique(world.events["item_id"].astype(str))
    mean, found = normalize(world.counts, norm="l1"), {}
    for window, epochs in WORD2VEC:
        model = Word2Vec(
            list(sentences), vector_size=WIDTH, window=window, epochs=epochs, min_count=1, sg=1, negative=5,
            workers=THREADS, seed=0)  # fmt: skip
        found[f"window {window}"] = (mean @ np.stack([model.wv[item] for item in items])).astype(np.float32)
    return found


def counting(world: World) -> Arrays:
    """Counts by category (genre, word): those that most users have, as shares and as logarithms; five statistics;
    and both, 64 wide in all."""
    column = CATEGORY[world.nights.shop.config]
    counts, _ = counts_of(world.events, values_of(world.nights.items(), column), world.users)
    most = np.argsort(-(counts > 0).sum(axis=0), kind="stable")
    logs, five = np.log1p(counts), activity(world.events, world.users, world.nights.date)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    wide, rest = most[:WIDTH], most[: WIDTH - STATISTICS]
    return {
        "shares": shares[:, wide], "logs": logs[:, wide], "statistics": five,
        "shares, statistics": np.hstack([shares[:, rest], five]),
        "logs, statistics": np.hstack([logs[:, rest], five])}  # fmt: skip


PEERS: dict[str, Callable[[World], Arrays]] = {
    "als": als, "svd": svd, "cleora": cleora, "word2vec": word2vec, "counts": counting}  # fmt: skip


def timed(peer: str, world: World) -> Arrays:
    """The vectors of all settings, and the seconds that they took together."""
    started = time.perf_counter()
    found = PEERS[peer](world)
    return found | {"seconds": np.array(time.perf_counter() - started)}
