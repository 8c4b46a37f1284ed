"""Partitions of several versions of a table, read side by side; and entities by the reader of users."""

from pathlib import Path

import pyarrow as pa
import pytest

from feature_store import FeatureStore
from feature_store.errors import StoreError
from feature_store.join import point_in_time
from tests.feature_store.samples import embeddings, publish

VIEW = "user_embeddings"
FORMER, NOW = "2026-01-05", "2026-01-12"


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    """Of one model, a partition from before `n_days` and one with it."""
    store = FeatureStore(str(tmp_path / "feature_store"))
    table = store.table(VIEW, "transe")
    publish(table, FORMER, embeddings(0, users=20, dt=FORMER), space_id="a")
    later = embeddings(1, users=20, dt=NOW)
    days = pa.array(range(later.num_rows), pa.int32())
    publish(table, NOW, later.append_column("n_days", days), space_id="a")
    return store


def test_a_column_that_came_later_is_null_before(store: FeatureStore) -> None:
    for columns in (None, ["n_days", "user_id"], ["n_days"]):
        read = store.read(VIEW, model="transe", dt=[FORMER, NOW], columns=columns).table
        half = read.num_rows // 2
        assert read.column("n_days").to_pylist() == [None] * half + list(range(half)) != []
        assert columns is None or read.column_names == columns
    assert "n_days" not in store.read(VIEW, model="transe", dt=FORMER).table.column_names


def test_the_join_has_it_where_the_moment_has(store: FeatureStore) -> None:
    users = store.read(VIEW, model="transe", dt=NOW, columns=["user_id"]).table.column("user_id").to_pylist()[:2]
    moments = pa.array(["2026-01-06", "2026-01-13"]).cast(pa.timestamp("us"))
    rows = pa.table({"user_id": users, "event_timestamp": moments})
    joined = point_in_time(store, rows, VIEW, model="transe", columns=["n_days"])
    assert joined.column("n_days").to_pylist() == [None, 1]


def test_a_column_that_no_partition_has_is_missed_by_name(store: FeatureStore) -> None:
    for dt in ([FORMER, NOW], FORMER):
        with pytest.raises(StoreError, match="n_nights"):
            store.read(VIEW, model="transe", dt=dt, columns=["user_id", "n_nights"])
    with pytest.raises(StoreError, match="n_days"):
        store.read(VIEW, model="transe", dt=FORMER, columns=["n_days"])


def test_entities_are_read_by_type_and_raw_id(store: FeatureStore, tmp_path: Path) -> None:
    types = ["brand", "item", "item", "relation"]
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(range(8), pa.float32()), 2)
    rows = pa.table({"entity_type": types, "id": [0, 1, 0, 0], "raw": ["a", "a", "b", "a"], "embedding": vectors})
    table = store.table("entity_embeddings", "transe")
    assert table.uri == str(tmp_path / "entity_embeddings" / "transe")
    with table.replace(NOW) as commit:
        commit.write_table(rows, sorted_by=["entity_type", "raw"])
        commit.fields["space_id"] = "a"
    items = store.read("entity_embeddings", model="transe", as_of="2026-01-14", entity_type="item")
    assert items.table.column("raw").to_pylist() == ["a", "b"] and items.manifest.fields["space_id"] == "a"
    one = store.read("entity_embeddings", model="transe", dt=NOW, entity_type="item", raw_ids=["b", "c"])
    assert one.matrix().tolist() == [[4, 5]]
    assert store.read("entity_embeddings", model="transe", dt=NOW, raw_ids=["a"]).table.num_rows == 3


def test_rows_are_not_asked_for_by_what_a_view_has_not(store: FeatureStore) -> None:
    with pytest.raises(StoreError, match="by raw_ids; .* has no column"):
        store.read(VIEW, model="transe", dt=NOW, raw_ids=["a"])
    with pytest.raises(StoreError, match="Found one text as raw_ids"):
        store.read("entity_embeddings", model="transe", dt=NOW, raw_ids="a")
