"""Publishing and reading 1,000,000 × 100 float32 with the store against plain pyarrow.parquet.

`python -m tests.benchmarks.bench_store [USERS [REPEATS]]`. The store writes the same Parquet settings, and also hashes
content and file, checks the order, syncs, and commits; both sync the file here, so that the disk is not what differs.
"unchecked" reads the store's own file without its checks, "by page" with the CRC of every page checked by Arrow, as
partitions of before there were hashes of column chunks are read. Repeats, each in an order of its own; by the clock and
by the processor. What checks cost is told by the latter, which other work on the machine changes less: the lowest of
all repeats, which met the least of it, with checks ÷ without, − 1. Beside it is kept the median of the same ratio
within each repeat.

Every run is appended to tests/benchmarks/results/store.json, oldest first. The last lines read
`checks: <read> <look-up>`, the same `by page:`, and `ratio: <store ÷ pyarrow, write> read: <the same, read> s3_write: …
s3_read: …`, the latter two on an S3 server (s3_store.py), of as many repeats as write; seconds by seconds: less is
better.
"""

import contextlib
import datetime
import json
import os
import platform
import random
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from feature_store import FeatureStore
from feature_store.commit import LOOKED_UP_ROWS
from feature_store.row_groups import read_side_by_side
from feature_store.store import as_utc
from feature_store.view import as_matrix, count_after
from tests.benchmarks import s3_store

REPEATS = 15
WRITES = 5  # repeats that write too
RESULTS = Path(__file__).parent / "results" / "store.json"
Seconds = dict[str, list[tuple[float, float]]]  # (by the clock, of all threads on a processor) of each repeat


def rows(users: int, dimension: int) -> pa.Table:
    """Embeddings as a night publishes them."""
    vectors = np.random.default_rng(0).standard_normal(users * dimension, dtype=np.float32)
    midnight = pa.array(np.zeros(users, np.int64)).cast(pa.timestamp("us", "UTC"))
    ids = pa.array([f"user-{number:09d}" for number in range(users)])
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(vectors), dimension)
    return pa.table({"user_id": ids, "embedding": embedding, "event_timestamp": midnight})


def write_plain(table: pa.Table, path: Path) -> None:
    like_ours = {"compression": "zstd", "row_group_size": LOOKED_UP_ROWS, "write_statistics": ["user_id"]}
    pq.write_table(table, path, **like_ours, use_dictionary=False)
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def read_bare(store: FeatureStore, users: pa.Array | None = None, by_page: bool = False) -> None:
    """What `read store` and `look-up store` do, but for the checks of the bytes; by_page: Arrow checks pages' CRCs."""
    table = store.table("user_embeddings", "bench")
    manifest, (path,) = table.manifest("1970-01-01"), table.files("1970-01-01")
    checks = {"pre_buffer": True, "page_checksum_verification": by_page}

    @contextlib.contextmanager
    def opened() -> Iterator[pq.ParquetFile]:
        with table.disk.open(path) as bare:
            yield pq.ParquetFile(bare, **checks)

    with table.disk.open(path) as source:
        if users is None:
            rows = read_side_by_side(opened, pq.read_metadata(source), None)
        else:
            format = ds.ParquetFileFormat(default_fragment_scan_options=ds.ParquetFragmentScanOptions(**checks))
            rows = format.make_fragment(source).to_table(filter=pc.field("user_id").isin(users))
    count_after(rows.column("event_timestamp"), as_utc(manifest.partition["dt"]))
    as_matrix(rows.column("embedding"))


def seconds(call: Callable[[], object]) -> tuple[float, float]:
    """(by the clock, of all threads on a processor)."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    call()
    spent, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    return spent, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(folder: Path, users: int, dimension: int, repeats: int) -> Seconds:
    table, plain, store = rows(users, dimension), folder / "plain.parquet", FeatureStore(str(folder / "feature_store"))
    one = [f"user-{users // 2:09d}"]

    def publish() -> None:
        with store.table("user_embeddings", "bench").replace("1970-01-01", keep_versions=0) as commit:
            commit.write_table(table, sorted_by=["user_id"])

    calls = {
        "write pyarrow": lambda: write_plain(table, plain),
        "write store": publish,
        "read pyarrow": lambda: as_matrix(pq.read_table(plain, partitioning=None).column("embedding")),
        "read unchecked": lambda: read_bare(store),
        "read store": lambda: store.read("user_embeddings", model="bench", as_of="1970-01-02").matrix(),
        "read by page": lambda: read_bare(store, by_page=True),
        "look-up unchecked": lambda: read_bare(store, pa.array(one)),
        "look-up store": lambda: store.read("user_embeddings", model="bench", dt="1970-01-01", user_ids=one).matrix(),
        "look-up by page": lambda: read_bare(store, pa.array(one), by_page=True),
    }
    found: Seconds = {name: [] for name in calls}
    for repeat in range(1 + repeats):
        order = [name for name in calls if repeat < WRITES or not name.startswith("write")]
        if repeat:  # the first one warms up, and writes first; what ran before leaves traces in Arrow's memory
            random.Random(repeat).shuffle(order)
        for name in order:
            spent = seconds(calls[name])
            if repeat:
                found[name].append(spent)
        print(f"repeat {repeat} of {repeats}", end="\r", flush=True)
    return found


def cost(found: Seconds, what: str, of: str) -> tuple[float, float]:
    """Processor time of a read's checks as a share of the read without them: of the lowest, and within repeats."""
    checked, bare = ([processor for _, processor in found[name]] for name in (f"{what} {of}", f"{what} unchecked"))
    within = statistics.median(one / other for one, other in zip(checked, bare, strict=True))
    return min(checked) / min(bare) - 1, within - 1


def main() -> None:
    given = [int(argument) for argument in sys.argv[1:]]
    users, repeats = given + [1_000_000, REPEATS][len(given) :]
    folder = Path(tempfile.mkdtemp(prefix="bench_store-"))
    try:
        found = measure(folder, users, 100, repeats)
    finally:
        shutil.rmtree(folder)
    medians = {name: [statistics.median(of) for of in zip(*spent, strict=True)] for name, spent in found.items()}
    for name, (clock, processor) in medians.items():
        print(f"{name}: {clock:.3f} s, {processor:.3f} s of processors")
    checks = {of: {what: cost(found, what, of) for what in ("read", "look-up")} for of in ("store", "by page")}
    s3 = s3_store.measure(rows(users, 100), WRITES)
    for name, all_seconds in s3.items():
        print(f"{name}: {statistics.median(all_seconds):.3f} s")
    s3_write, s3_read = s3_store.ratios(s3)
    write, read = (medians[f"{what} store"][0] / medians[f"{what} pyarrow"][0] for what in ("write", "read"))
    found_on_s3 = {"s3": s3, "s3_write": s3_write, "s3_read": s3_read}
    local = {"medians": medians, "checks": checks, "write": write, "read": read}
    keep({"users": users, "repeats": repeats, "load": os.getloadavg()[2]} | local | found_on_s3)
    for of, name in (("store", "checks"), ("by page", "by page")):
        print(f"{name}: {checks[of]['read'][0]:.1%} {checks[of]['look-up'][0]:.1%}")
    print(f"ratio: {write:.2f} read: {read:.2f} s3_write: {s3_write:.2f} s3_read: {s3_read:.2f}")


def keep(run: dict[str, object]) -> None:
    runs = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes")
    runs.append({"run_at": when, "machine": f"{os.cpu_count()} cores, {platform.machine()}"} | run)
    RESULTS.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
