"""The README's one-liners, run as they stand there; and Spark as a writer."""

import re
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas
import polars
import pyarrow as pa
import pytest

from feature_store import FeatureStore, Table, content_hash
from tests.feature_store.samples import embeddings, names_in, publish

DATE = "2026-01-05"
ROOT = Path(__file__).parents[2]


def _blocks(readme: str) -> list[str]:
    """Its Python, as it stands there."""
    return re.findall(r"```python\n(.*?)```", (ROOT / readme).read_text(encoding="utf-8"), re.DOTALL)


def _block(start: str, readme: str = "feature_store/README.md") -> str:
    (found,) = [block for block in _blocks(readme) if block.startswith(start)]
    return found


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    store = FeatureStore(str(tmp_path / "data" / "feature_store"))
    table = store.table("user_embeddings", "kqgc_mean")
    for seed in (8, 9):
        publish(table, DATE, embeddings(seed, users=50))
    with table.replace(DATE) as commit:
        for start in (0, 30):  # two files
            commit.write_table(embeddings(1, users=50).slice(start, 30 if not start else None), sorted_by=["user_id"])
    (Path(table.path(DATE)) / "part-00000-crashed.parquet").write_bytes(b"an orphan")
    return store


def _check(ids: list[str], vectors: Any, columns: list[str]) -> None:
    expected = embeddings(1, users=50)
    assert ids == expected.column("user_id").to_pylist() and columns == expected.column_names
    found = np.array([list(vector) for vector in vectors], np.float32)
    assert found.tolist() == expected.column("embedding").to_pylist()


def _run(store: FeatureStore, start: str, **names: Any) -> Any:
    scope = {"store": store, **names}
    exec(_block("files = "), scope)
    exec(_block(start), scope)
    return scope[start.split()[0]]


def test_the_projects_readme_runs_from_its_reader_to_its_other_engines(store: FeatureStore, spark: Any) -> None:
    publish(store.table("user_embeddings", "kqgc_mean"), "2026-02-16", embeddings(1, users=50, dt="2026-02-16"))
    scope: dict[str, Any] = {"pandas": pandas, "polars": polars, "duckdb": duckdb, "spark": spark}
    assert len(_blocks("README.md")) == 2
    exec(_block("from feature_store", "README.md").replace("/data/nocturne/feature_store", store.root), scope)
    assert scope["found"].manifest.partition == {"dt": "2026-02-16"}
    assert scope["found"].user_ids() == scope["found"].to_pandas()["user_id"].tolist()
    exec(_block("files = ", "README.md"), scope)
    rows = {
        "pandas": len(scope["pandas_frame"]),
        "polars": scope["polars_frame"].height,
        "duckdb": len(scope["duckdb_relation"]),
        "spark": scope["spark_frame"].count(),
    }
    assert rows == dict.fromkeys(rows, embeddings(1, users=50).num_rows)
    ours = [line for block in _blocks("feature_store/README.md")[1:] for line in block.splitlines()]
    # the lines whose rows are checked below
    assert [line for line in _block("files = ", "README.md").splitlines() if line not in ours] == []


def test_this_projects_own_reader(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(store.root).parents[1])
    scope: dict[str, Any] = {}
    exec(_block("from feature_store import"), scope)
    features = scope["features"]
    _check(features.user_ids(), features.matrix(), features.table.column_names)


def test_pandas(store: FeatureStore) -> None:
    frame = _run(store, "pandas_frame =", pandas=pandas)
    _check(frame["user_id"].tolist(), frame["embedding"], list(frame.columns))


def test_polars(store: FeatureStore) -> None:
    frame = _run(store, "polars_frame =", polars=polars)
    _check(frame["user_id"].to_list(), frame["embedding"].to_list(), frame.columns)


def test_duckdb(store: FeatureStore) -> None:
    relation = _run(store, "duckdb_relation =", duckdb=duckdb)
    rows = relation.select("user_id", "embedding").fetchall()
    _check([row[0] for row in rows], [row[1] for row in rows], relation.columns)


def test_spark_reads(store: FeatureStore, spark: Any) -> None:
    frame = _run(store, "spark_frame =", spark=spark)
    rows = sorted(frame.collect(), key=lambda row: row.user_id.encode())  # Spark promises no order
    _check([row.user_id for row in rows], [row.embedding for row in rows], frame.columns)


def test_spark_writes_into_the_commits_folder_and_is_adopted(tmp_path: Path, spark: Any) -> None:
    table = Table(str(tmp_path / "interactions"))
    for seed in (1, 2):  # a first publish, and one over files that are there
        rows = [(f"u{number}", number, float(seed)) for number in range(100)]
        with table.replace(DATE) as commit:
            frame = spark.createDataFrame(rows, "user string, item long, value_sum double")
            frame = frame.repartitionByRange(3, "item").sortWithinPartitions("item")
            frame.write.mode("append").parquet(commit.path)
            commit.adopt_new()
        read = table.read(DATE)
        assert [tuple(row.values()) for row in read.to_pylist()] == rows
        assert table.manifest(DATE).row_count == 100 and len(table.files(DATE)) == 3
        assert table.manifest(DATE).content_hash == content_hash([pa.Table.from_pylist(read.to_pylist(), read.schema)])
        assert names_in(table, DATE) - {"_retired"} == {"part", "_manifest.json", "_SUCCESS", "_lock"}
        assert table.verify(DATE) == []


def test_spark_that_fails_midway_leaves_the_old_version(tmp_path: Path, spark: Any) -> None:
    table = Table(str(tmp_path / "interactions"))
    publish(table, DATE, pa.table({"user_id": ["a"]}))
    with pytest.raises(Exception, match="DIVIDE_BY_ZERO"), table.replace(DATE) as commit:
        spark.sql("select 1 as user_id").write.mode("append").parquet(commit.path)
        spark.sql("select 1 / id as user_id from range(0, 10)").write.mode("append").parquet(commit.path)
        commit.adopt_new()
    assert table.read(DATE).to_pydict() == {"user_id": ["a"]} and table.orphans(DATE) == []
