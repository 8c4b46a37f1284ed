"""Programs for the tests to run as processes of their own, and to kill:
`python -m tests.feature_store.writers publish|slowly|ledger ...`."""

import sys
import time
from pathlib import Path

import pyarrow as pa

from feature_store import Segments, Table
from feature_store.storage import Storage
from tests.feature_store.samples import embeddings

DATE = "2026-01-05"
USERS = 3000


def version(number: int) -> pa.Table:
    """The rows of the n-th publish: every vector tells its version."""
    rows = embeddings(number, users=USERS)
    return rows.append_column("version", pa.array([number] * rows.num_rows, pa.int32()))


def publish_versions(uri: str, first: int, count: int, lease_seconds: float = 30.0) -> None:
    """Publishes versions one after the other, each as three files; a line on stdout when each has begun.

    On an object store: of which server, the environment says."""
    table = Table(uri, filesystem=Storage(lease_seconds=lease_seconds))
    for number in range(first, first + count):
        rows = version(number)
        with table.replace(DATE, wait_seconds=30) as commit:
            print(number, flush=True)
            for start in range(0, rows.num_rows, 1100):
                commit.write_table(rows.slice(start, 1100), sorted_by=["user_id"])


def append_ids(uri: str, start_file: str, name: str, count: int) -> None:
    """Gives ids to `count` new raw ids as the jobs do:
    read all, number above the highest, put if absent, or read again."""
    ledger = Segments(uri)
    Path(start_file + name).touch()
    while not Path(start_file).exists():
        time.sleep(0.001)
    for number in range(count):
        while True:
            known = ledger.read()
            highest = max(known.column("id").to_pylist()) if known is not None else -1
            ids = pa.array([highest + 1, highest + 2], pa.int64())
            rows = pa.table({"id": ids, "raw": [f"{name}-{number}-a", f"{name}-{number}-b"]})
            taken = 0 if known is None else len(known) // 2
            if ledger.append(taken + 1, rows):
                break


def publish_slowly(uri: str, lease_seconds: float) -> None:
    """Writes its rows, says so, and commits two seconds later. Of its server the environment tells."""
    table = Table(uri, filesystem=Storage(lease_seconds=lease_seconds))
    with table.replace(DATE) as commit:
        commit.write_table(embeddings(1), sorted_by=["user_id"])
        print("written", flush=True)
        time.sleep(2)


if __name__ == "__main__":
    if sys.argv[1] == "publish":
        publish_versions(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    elif sys.argv[1] == "slowly":
        publish_slowly(sys.argv[2], float(sys.argv[3]))
    else:
        append_ids(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
