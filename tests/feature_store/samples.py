"""Small tables for the store's tests, and a publish of one."""

import datetime

import numpy as np
import pyarrow as pa

from feature_store import Table

HOSTILE_IDS = [
    "",
    " ",
    "../../etc/passwd",
    "a/b",
    "=1+1",
    "'; DROP TABLE x;--",
    "<script>alert(1)</script>",
    "line\nend",
    "\u202eright-to-left",
    "naïve",
    "用户",
    "\U0001f600",
]


def embeddings(seed: int, users: int = 20, dimension: int = 4, dt: str = "2026-01-05") -> pa.Table:
    """Rows of `user_embeddings` that differ by seed, sorted by the ids' bytes."""
    random = np.random.default_rng(seed)
    ids = sorted({*HOSTILE_IDS, *(f"u{number:05d}" for number in range(users))}, key=lambda text: text.encode())
    moment = datetime.datetime.fromisoformat(dt).replace(tzinfo=datetime.UTC)
    vectors = pa.array(random.standard_normal(len(ids) * dimension).astype(np.float32))
    return pa.table(
        {
            "user_id": pa.array(ids, pa.string()),
            "embedding": pa.FixedSizeListArray.from_arrays(vectors, dimension),
            "event_timestamp": pa.array([moment] * len(ids), pa.timestamp("us", "UTC")),
            "n_events": pa.array(random.integers(0, 99, len(ids)), pa.int32()),
        }
    )


def publish(table: Table, value: str, rows: pa.Table, **fields: object) -> None:
    with table.replace(value, wait_seconds=2) as commit:
        commit.fields.update(fields)
        commit.write_table(rows, sorted_by=["user_id"])


def names_in(table: Table, value: str) -> set[str]:
    """What lies in the partition's folder, data files as `part`."""
    return {"part" if entry.name.startswith("part-") else entry.name for entry in table.disk.list(table.path(value))}
