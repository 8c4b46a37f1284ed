"""Great Expectations finds planted faults, on pandas, Arrow and Spark alike, and tells no value of a row."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from jobs.quality import check as check_module
from jobs.quality import suites
from jobs.quality.check import QualityError, check, require
from jobs.tables import TABLES

DAY = datetime.datetime(2026, 1, 3, 12, tzinfo=datetime.UTC)
UNTIL = datetime.date(2026, 1, 4)
SECRET = "someone@example.org"


def events(**changes: object) -> pa.Table:
    """Four good events, or with one column changed."""
    columns = {
        "user_id": [SECRET, "b", "c", "d"],
        "item_id": ["1", "2", "3", "4"],
        "behavior": ["view"] * 4,
        "event_time": [DAY] * 4,
        "quantity": [1.0] * 4,
        "value": [None, 2.0, 3.0, 4.0],
        "event_id": [None] * 4,
        "ingested_at": [None] * 4,
    }
    fields = [pa.field(f.name, f.type) for f in TABLES["clean_events"].arrow_schema()]
    return pa.table(columns | changes, schema=pa.schema(fields))


def edges(tails: list[int]) -> pa.Table:
    n = len(tails)
    return pa.table({"head": list(range(n)), "relation": [0] * n, "tail": tails, "count": [1] * n})


def vectors(matrix: np.ndarray, source: str = "trained") -> pa.Table:
    n, dimension = matrix.shape
    values = pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel(), pa.float32()), dimension)
    times = pa.array([DAY] * n, pa.timestamp("us", tz="UTC"))
    return pa.table(
        {
            "user_id": [f"u{i}" for i in range(n)],
            "embedding": values,
            "event_timestamp": times,
            "created_timestamp": times,
            "n_events": pa.array([1] * n, pa.int32()),
            "source": [source] * n,
            "carried_from": pa.nulls(n, pa.timestamp("us", tz="UTC")),
            "first_event": times,
            "last_event": times,
            "n_days": pa.array([1] * n, pa.int32()),
        }
    )


def failed(results: list[dict]) -> set[tuple[str, str | None]]:
    return {(r["expectation"], r["column"]) for r in results if not r["success"]}


EVENTS = suites.clean_events(["view", "cart"], datetime.date(2026, 1, 1), UNTIL)
FAULTS = [
    ({}, set()),
    ({"behavior": ["view", "sneeze", "cart", "view"]}, {("expect_column_values_to_be_in_set", "behavior")}),
    (
        {"event_time": [DAY, DAY, DAY, datetime.datetime(2026, 1, 4, tzinfo=datetime.UTC)]},
        {("expect_column_values_to_be_between", "event_time")},
    ),
    ({"value": [1.0, 2.0, float("inf"), 4.0]}, {("expect_column_values_to_be_between", "value")}),
    ({"user_id": [SECRET, None, "c", "d"]}, {("expect_column_values_to_not_be_null", "user_id")}),
]


@pytest.mark.parametrize(("changes", "expected"), FAULTS)
def test_each_fault_of_events_is_found_on_arrow(changes: dict, expected: set) -> None:
    assert failed(check(events(**changes), EVENTS)) == expected


def test_spark_finds_what_pandas_finds(spark) -> None:
    broken = events(
        behavior=["view", "sneeze", "cart", "view"],
        value=[1.0, 2.0, float("inf"), 4.0],
        user_id=[SECRET, None, "c", "d"],
    )
    on_pandas, on_spark = check(broken.to_pandas(), EVENTS), check(spark.createDataFrame(broken), EVENTS)
    key = lambda r: (r["expectation"], r["column"] or "", r["unexpected"] or 0)  # noqa: E731
    assert sorted(map(key, on_spark)) == sorted(map(key, on_pandas))
    assert len(failed(on_spark)) == 3


def test_counts_and_no_values() -> None:
    results = check(events(user_id=[SECRET, None, "c", "d"], behavior=["view", SECRET, "cart", "view"]), EVENTS)
    behaviour = next(r for r in results if r["expectation"].endswith("in_set"))
    assert (behaviour["rows"], behaviour["unexpected"], behaviour["unexpected_share"]) == (4, 1, 0.25)
    with pytest.raises(QualityError, match=r"failed 2 of .*behavior \(1 of 4 rows\)") as error:
        require(results)
    assert SECRET not in json.dumps(results) + str(error.value)


def test_a_check_that_holds_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    check(pa.table({"head": [1], "relation": [2], "tail": [3], "count": [4]}), suites.knowledge_graph())
    assert not caplog.records


def test_the_page_tells_no_value_and_asks_no_server_for_a_picture(tmp_path: Path) -> None:
    page = tmp_path / "docs/2026-01-04/clean_events.html"
    check(events(user_id=[SECRET, None, "c", "d"], behavior=["view", SECRET, "cart", "view"]), EVENTS, str(page))
    text = page.read_text()
    assert "values must never be null" in text and "behavior" in text and "Failed" in text
    assert SECRET not in text and "<img" not in text


def test_an_edge_twice_is_found() -> None:
    assert failed(check(edges([5, 6]), suites.knowledge_graph())) == set()
    doubled = pa.concat_tables([edges([5, 6]), edges([5])])
    assert failed(check(doubled, suites.knowledge_graph())) == {
        ("expect_compound_columns_to_be_unique", "relation, head, tail")
    }
    assert ("expect_column_values_to_be_between", "tail") in failed(check(edges([5, -1]), suites.knowledge_graph()))


def test_no_rows_fail() -> None:
    none = edges([]).cast(pa.schema([(name, pa.int64()) for name in ("head", "relation", "tail", "count")]))
    assert ("expect_table_row_count_to_be_between", None) in failed(check(none, suites.knowledge_graph()))


@pytest.mark.parametrize("engine", ["arrow", "pandas", "spark"])
def test_broken_vectors_are_found(engine: str, request: pytest.FixtureRequest) -> None:
    matrix = np.eye(4, dtype=np.float32)
    suite = suites.user_embeddings(4, min_norm=0.5, max_norm=2.0)
    shapes = {
        "arrow": lambda t: t,
        "pandas": lambda t: t.to_pandas(),
        "spark": lambda t: request.getfixturevalue("spark").createDataFrame(t.to_pandas()),
    }
    as_frame = shapes[engine]
    assert failed(check(as_frame(vectors(matrix)), suite)) == set()
    matrix[1, 1] = np.nan
    matrix[2] = 0
    found = failed(check(as_frame(vectors(matrix)), suite))
    assert found == {
        ("expect_column_values_to_be_in_set", "embedding_finite"),
        ("expect_column_values_to_not_be_null", "embedding_norm"),
        ("expect_column_values_to_be_between", "embedding_norm"),
    }
    assert failed(check(as_frame(vectors(np.eye(5, dtype=np.float32)[:4])), suite)) == {
        ("expect_column_values_to_be_between", "embedding_length")
    }


def test_vectors_are_the_same_a_piece_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = np.random.default_rng(0).normal(size=(11, 4)).astype(np.float32)
    matrix[4, 2] = np.inf
    column = pa.chunked_array(
        [vectors(matrix).column("embedding").combine_chunks().slice(start, 6) for start in (0, 6)]
    )
    monkeypatch.setattr(check_module, "ROWS_AT_ONCE", 4)
    found = check_module._derived("v", column)
    assert found["v_length"].to_pylist() == [4] * 11 and found["v_finite"].to_pylist() == [i != 4 for i in range(11)]
    expected = [None if i == 4 else pytest.approx(np.linalg.norm(row)) for i, row in enumerate(matrix)]
    assert found["v_norm"].to_pylist() == expected


def test_pandas_frames_need_their_columns() -> None:
    frame = pd.DataFrame({"head": [1], "relation": [0], "count": [1]})
    with pytest.raises(QualityError, match="could not be evaluated"):
        check(frame, suites.knowledge_graph())


def test_the_background_imports_no_pyspark_that_the_caller_may_be_importing() -> None:
    """Of two threads that import packages that import each other, one may find the other's half."""
    told = """
import sys, threading
from jobs.quality import check
there = set()
threading.Thread.start = lambda thread: there.update(sys.modules)
check.prepare()
check.library()
print(sorted(m for m in set(sys.modules) - there if m.startswith("pyspark") and ".connect" not in m))
"""
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("[]", "['pyspark.logger.worker_io']"), done.stdout
