"""How much of a file a look-up reads from an object store, and in how many requests."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from feature_store import FeatureStore
from tests.faulty_proxy import Proxy, proxy_before
from tests.s3_server import S3Server

USERS, DIMENSION, DATE = 1_000_000, 12, "2026-01-05"
VIEW = {"view": "user_embeddings", "model": "a", "dt": DATE}


def _rows() -> pa.Table:
    vectors = np.random.default_rng(0).standard_normal(USERS * DIMENSION, dtype=np.float32)
    return pa.table({
        "user_id": pa.array([f"u{number:07d}" for number in range(USERS)]),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors), DIMENSION),
        "n_events": pa.array(np.arange(USERS, dtype=np.int32) % 97),
    })  # fmt: skip


@pytest.fixture(scope="module")
def served(s3_server: S3Server) -> Iterator[tuple[FeatureStore, Proxy, int]]:
    """A million users; the proxy before them; bytes of their file."""
    root = "s3://tests/million/feature_store"
    table = FeatureStore(root, s3_server.storage()).table("user_embeddings", "a")
    with table.replace(DATE) as commit:
        commit.write_table(_rows(), sorted_by=["user_id"])
    with proxy_before(s3_server.endpoint) as proxy:
        size = table.manifest(DATE).size
        assert size > USERS * DIMENSION * 3
        yield FeatureStore(root, s3_server.storage(endpoint=proxy.endpoint)), proxy, size
    table.disk.delete_folder(root)


@pytest.mark.parametrize("first, count, share", [
    (500_000, 1, 0.02), (0, 1, 0.02), (999_999, 1, 0.02), (500_050, 100, 0.1), (16_350, 100, 0.1)])
def test_a_look_up_reads_a_small_share_of_the_file(
    served: tuple[FeatureStore, Proxy, int], first: int, count: int, share: float
) -> None:  # fmt: skip
    """The manifest, which every read begins with, included."""
    store, proxy, size = served
    users = [f"u{number:07d}" for number in range(first, first + count)]
    proxy.start(lambda *_: None)
    found = store.read(**VIEW, user_ids=users)
    assert found.user_ids() == users
    assert found.table.column("n_events").to_pylist() == [number % 97 for number in range(first, first + count)]
    assert 1000 < proxy.sent <= share * size, f"{proxy.sent / size:.2%} in {len(proxy.requests)} requests"
    assert len(proxy.requests) < 20


def test_users_far_apart_are_looked_up_where_they_are(served: tuple[FeatureStore, Proxy, int]) -> None:
    store, proxy, size = served
    users = [f"u{number:07d}" for start in (700_000, 100_000) for number in range(start, start + 60)]
    proxy.start(lambda *_: None)
    assert store.read(**VIEW, user_ids=users).user_ids() == sorted(users)
    assert proxy.sent < 0.3 * size, f"{proxy.sent / size:.2%}"


def test_a_whole_read_is_ranged_and_reads_every_byte_about_once(served: tuple[FeatureStore, Proxy, int]) -> None:
    store, proxy, size = served
    proxy.start(lambda *_: None)
    assert store.read(**VIEW).matrix().shape == (USERS, DIMENSION)
    assert size <= proxy.sent < 1.05 * size and len(proxy.requests) >= size // (8 << 20)
