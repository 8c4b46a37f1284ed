"""Publishing to and reading from an S3 server with the store, against plain pyarrow on the same server.

`python -m tests.benchmarks.s3_store [USERS [REPEATS]]`; `make bench-store` ends with it. Both write the same Parquet
settings; the store also hashes content and files, checks the order, takes a lease and commits. Both read all rows into
one matrix. Each repeat runs all four in an order of its own.
"""

import random
import statistics
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq

from feature_store import FeatureStore
from feature_store.commit import LOOKED_UP_ROWS
from feature_store.view import as_matrix
from tests import s3_server

Seconds = dict[str, list[float]]


def measure(table: pa.Table, repeats: int) -> Seconds:
    """Seconds by the clock of each repeat."""
    with s3_server.started() as server, s3_server.in_environment(server):
        return _measure(server, table, repeats)


def _measure(server: s3_server.S3Server, table: pa.Table, repeats: int) -> Seconds:
    plain, arrow = "tests/plain.parquet", server.arrow()
    store = FeatureStore("s3://tests/feature_store", server.storage(lease_seconds=30))
    like_ours = {"compression": "zstd", "row_group_size": LOOKED_UP_ROWS, "write_statistics": ["user_id"]}

    def publish() -> None:
        with store.table("user_embeddings", "bench").replace("1970-01-01", keep_versions=0) as commit:
            commit.write_table(table, sorted_by=["user_id"])

    calls = {
        "s3 write pyarrow": lambda: pq.write_table(table, plain, filesystem=arrow, use_dictionary=False, **like_ours),
        "s3 write store": publish,
        "s3 read pyarrow": lambda: as_matrix(pq.read_table(plain, filesystem=arrow).column("embedding")),
        "s3 read store": lambda: store.read("user_embeddings", model="bench", as_of="1970-01-02").matrix(),
    }
    found: Seconds = {name: [] for name in calls}
    for repeat in range(1 + repeats):
        order = list(calls)
        if repeat:  # the first one warms up, and writes first
            random.Random(repeat).shuffle(order)
        for name in order:
            start = time.perf_counter()
            calls[name]()
            if repeat:
                found[name].append(time.perf_counter() - start)
    return found


def ratios(found: Seconds) -> tuple[float, float]:
    """Of the medians: (store ÷ pyarrow, write; the same, read)."""
    medians = {name: statistics.median(seconds) for name, seconds in found.items()}
    write, read = (medians[f"s3 {what} store"] / medians[f"s3 {what} pyarrow"] for what in ("write", "read"))
    return write, read


def main() -> None:
    from tests.benchmarks.bench_store import rows

    given = [int(argument) for argument in sys.argv[1:]]
    users, repeats = given + [1_000_000, 5][len(given) :]
    found = measure(rows(users, 100), repeats)
    for name, seconds in found.items():
        print(f"{name}: {statistics.median(seconds):.3f} s ({min(seconds):.3f} to {max(seconds):.3f})")
    write, read = ratios(found)
    print(f"s3_write: {write:.2f} s3_read: {read:.2f}")


if __name__ == "__main__":
    main()
