"""Publishing and reading 1,000,000 × 100 float32 with the store against plain pyarrow.parquet.

`python -m tests.benchmarks.bench_store`

The store writes the same Parquet settings, and also hashes content and file, checks the order, syncs, and commits;
both sync the file here, so that the disk is not what differs. Alternating repeats, best of each; the last line reads
`ratio: <store ÷ pyarrow, write> read: <the same, read>`.
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store import FeatureStore
from feature_store.view import as_matrix

REPEATS = 3


def rows(users: int, dimension: int) -> pa.Table:
    """Embeddings as a night publishes them."""
    vectors = np.random.default_rng(0).standard_normal(users * dimension, dtype=np.float32)
    midnight = pa.array(np.zeros(users, np.int64)).cast(pa.timestamp("us", "UTC"))
    ids = pa.array([f"user-{number:09d}" for number in range(users)])
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(vectors), dimension)
    return pa.table({"user_id": ids, "embedding": embedding, "event_timestamp": midnight})


def write_plain(table: pa.Table, path: Path) -> None:
    settings = {"compression": "zstd", "row_group_size": 131_072, "use_dictionary": False}
    pq.write_table(table, path, write_statistics=["user_id"], **settings)
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(folder: Path, users: int, dimension: int) -> dict[str, float]:
    """Best seconds of each."""
    table, plain, store = rows(users, dimension), folder / "plain.parquet", FeatureStore(str(folder / "feature_store"))

    def publish() -> None:
        with store.table("user_embeddings", "bench").replace("1970-01-01", keep_versions=0) as commit:
            commit.write_table(table, sorted_by=["user_id"])

    def look_up() -> None:
        one = [f"user-{users // 2:09d}"]
        store.read("user_embeddings", model="bench", dt="1970-01-01", user_ids=one).matrix()

    calls = {
        "write pyarrow": lambda: write_plain(table, plain),
        "write store": publish,
        "read pyarrow": lambda: as_matrix(pq.read_table(plain, partitioning=None).column("embedding")),
        "read store": lambda: store.read("user_embeddings", model="bench", as_of="1970-01-02").matrix(),
        "look-up store": look_up,
    }
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(REPEATS):
        for name, call in calls.items():
            best[name] = min(best[name], seconds(call))
    return best


def main() -> None:
    users = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    folder = Path(tempfile.mkdtemp(prefix="bench_store-"))
    try:
        best = measure(folder, users, 100)
    finally:
        shutil.rmtree(folder)
    for name, value in best.items():
        print(f"{name}: {value:.2f} s")
    print(
        f"ratio: {best['write store'] / best['write pyarrow']:.2f} "
        f"read: {best['read store'] / best['read pyarrow']:.2f}"
    )


if __name__ == "__main__":
    main()
