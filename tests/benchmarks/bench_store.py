"""Publishing and reading 1,000,000 × 100 float32 with the store against plain pyarrow.parquet.

`python -m tests.benchmarks.bench_store`. The store writes the same Parquet settings, and also hashes content and file,
checks the order, syncs, and commits; both sync the file here, so that the disk is not what differs. "read unchecked"
reads the store's own file without its checks (page checksums, and hashes of what they do not cover). Alternating
repeats, best of each, by the clock and by the processor: what checks cost is told by the latter, which other work on
the machine changes less. The last lines read `checks: <store ÷ unchecked − 1, read> <the same, look-up>` and
`ratio: <store ÷ pyarrow, write> read: <the same, read>`.

Nearly all that checks cost is Arrow's CRC-32 of the pages, which passes over each byte once; hashes of what it does not
cover are less than a hundredth of a read.
"""

import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store import FeatureStore
from feature_store.store import as_utc
from feature_store.view import as_matrix, count_after

REPEATS = 5


def rows(users: int, dimension: int) -> pa.Table:
    """Embeddings as a night publishes them."""
    vectors = np.random.default_rng(0).standard_normal(users * dimension, dtype=np.float32)
    midnight = pa.array(np.zeros(users, np.int64)).cast(pa.timestamp("us", "UTC"))
    ids = pa.array([f"user-{number:09d}" for number in range(users)])
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(vectors), dimension)
    return pa.table({"user_id": ids, "embedding": embedding, "event_timestamp": midnight})


def write_plain(table: pa.Table, path: Path) -> None:
    like_ours = {"compression": "zstd", "row_group_size": 131_072, "write_statistics": ["user_id"]}
    pq.write_table(table, path, **like_ours, use_dictionary=False)
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def read_unchecked(store: FeatureStore, users: pa.Array | None = None) -> None:
    """What `read store` and `look-up store` do, but for the checks of the bytes."""
    table = store.table("user_embeddings", "bench")
    manifest, (path,) = table.manifest("1970-01-01"), table.files("1970-01-01")
    if users is not None:
        rows = pq.read_table(path, filters=pc.field("user_id").isin(users), partitioning=None)
    else:
        rows = pq.ParquetFile(path, pre_buffer=True).read()
    count_after(rows.column("event_timestamp"), as_utc(manifest.partition["dt"]))
    as_matrix(rows.column("embedding"))


def seconds(call: Callable[[], object]) -> tuple[float, float]:
    """(by the clock, of all threads on a processor)."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    call()
    spent, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    return spent, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(folder: Path, users: int, dimension: int) -> dict[str, tuple[float, float]]:
    """Best seconds of each, as `seconds` gives them."""
    table, plain, store = rows(users, dimension), folder / "plain.parquet", FeatureStore(str(folder / "feature_store"))
    one = [f"user-{users // 2:09d}"]

    def publish() -> None:
        with store.table("user_embeddings", "bench").replace("1970-01-01", keep_versions=0) as commit:
            commit.write_table(table, sorted_by=["user_id"])

    calls = {
        "write pyarrow": lambda: write_plain(table, plain),
        "write store": publish,
        "read pyarrow": lambda: as_matrix(pq.read_table(plain, partitioning=None).column("embedding")),
        "read store": lambda: store.read("user_embeddings", model="bench", as_of="1970-01-02").matrix(),
        "read unchecked": lambda: read_unchecked(store),
        "look-up store": lambda: store.read("user_embeddings", model="bench", dt="1970-01-01", user_ids=one).matrix(),
        "look-up unchecked": lambda: read_unchecked(store, pa.array(one)),
    }
    best = dict.fromkeys(calls, (float("inf"), float("inf")))
    for _ in range(REPEATS):
        for name, call in calls.items():
            best[name] = tuple(map(min, best[name], seconds(call)))
    return best


def main() -> None:
    users = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    folder = Path(tempfile.mkdtemp(prefix="bench_store-"))
    try:
        best = measure(folder, users, 100)
    finally:
        shutil.rmtree(folder)
    for name, (clock, processor) in best.items():
        print(f"{name}: {clock:.3f} s, {processor:.3f} s of processors")
    whole, one = (best[f"{what} store"][1] / best[f"{what} unchecked"][1] - 1 for what in ("read", "look-up"))
    print(f"checks: {whole:.1%} {one:.1%}")
    write, read = (best[f"{what} store"][0] / best[f"{what} pyarrow"][0] for what in ("write", "read"))
    print(f"ratio: {write:.2f} read: {read:.2f}")


if __name__ == "__main__":
    main()
