"""The content hash: the same for the same rows, another for any other rows, and what a plain loop computes."""

import datetime
import hashlib
import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store import content_hash
from feature_store.content import PROVENANCE_KEY
from feature_store.errors import StoreError


def _random_table(seed: int, rows: int = 60) -> pa.Table:
    random = np.random.default_rng(seed)

    def some_null(values: list) -> list:
        return [None if random.random() < 0.2 else value for value in values]

    start = datetime.datetime(2026, 1, 5, tzinfo=datetime.UTC)
    words = ["", "a", "ä", "用户", "\U0001f600", "x" * 50, "\n"]
    vectors = [
        None if random.random() < 0.1 else random.standard_normal(3).astype(np.float32).tolist() for _ in range(rows)
    ]
    times = [start + datetime.timedelta(seconds=int(n)) for n in random.integers(0, 9999, rows)]
    prices = [Decimal(int(n)) / 100 for n in random.integers(0, 9999, rows)]
    lists = [[None if n == 1 else "y" * n for n in range(random.integers(0, 4))] for _ in range(rows)]
    structs = [{"p": int(n), "q": "z" * int(n)} for n in random.integers(0, 4, rows)]
    return pa.table(
        {
            "i": pa.array(some_null(random.integers(-99, 99, rows).tolist()), pa.int64()),
            "f": pa.array(some_null(random.standard_normal(rows).tolist()), pa.float32()),
            "b": pa.array(some_null((random.random(rows) < 0.5).tolist()), pa.bool_()),
            "s": pa.array(some_null(random.choice(words, rows).tolist()), pa.string()),
            "t": pa.array(some_null(times), pa.timestamp("us", "UTC")),
            "d": pa.array(some_null(prices), pa.decimal128(12, 2)),
            "v": pa.array(vectors, pa.list_(pa.float32(), 3)),
            "l": pa.array(some_null(lists), pa.list_(pa.string())),
            "st": pa.array(some_null(structs), pa.struct([("p", pa.int32()), ("q", pa.string())])),
        }
    )


@pytest.mark.parametrize("seed", range(8))
def test_chunks_slices_and_files_do_not_matter(tmp_path: Path, seed: int) -> None:
    table = _random_table(seed)
    expected = content_hash([table])
    cuts = np.sort(np.random.default_rng(seed).integers(0, table.num_rows, 5)).tolist()
    slices = [table.slice(a, b - a) for a, b in zip([0, *cuts], [*cuts, table.num_rows], strict=True)]
    assert content_hash(slices) == expected
    assert content_hash([pa.concat_tables(slices)]) == expected
    assert content_hash(table.to_batches(max_chunksize=7)) == expected
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=11)
    assert content_hash(pq.ParquetFile(tmp_path / "x.parquet").iter_batches(13)) == expected
    padded = pa.concat_tables([table.slice(3, 9), table])
    assert content_hash([padded.slice(9)]) == expected  # arrays with an offset into their buffers


@pytest.mark.parametrize("column", ["i", "f", "b", "s", "t", "d", "v", "l", "st"])
def test_any_changed_cell_any_null_and_any_order_changes_it(column: str) -> None:
    table = _random_table(3)
    cells = table.column(column).to_pylist()
    expected = content_hash([table])
    position = table.schema.get_field_index(column)
    first, other = next(i for i, cell in enumerate(cells) if cell is not None), None
    other = next(i for i, cell in enumerate(cells) if cell is not None and cell != cells[first])
    swapped, nulled = list(cells), list(cells)
    swapped[first], swapped[other] = cells[other], cells[first]
    nulled[first] = None
    for changed in (swapped, nulled):
        values = pa.array(changed, table.schema.field(column).type)
        assert content_hash([table.set_column(position, column, values)]) != expected
    assert content_hash([table.slice(1)]) != expected and content_hash([pa.concat_tables([table, table])]) != expected
    assert content_hash([table.rename_columns([f"{n}x" if n == column else n for n in table.column_names])]) != expected


def test_null_is_neither_zero_nor_empty_and_text_has_borders() -> None:
    def digest(values: list, kind: pa.DataType) -> str:
        return content_hash([pa.table({"c": pa.array(values, kind)})])

    assert digest([None], pa.int64()) != digest([0], pa.int64())
    assert digest([None], pa.string()) != digest([""], pa.string())
    assert digest(["ab", "c"], pa.string()) != digest(["a", "bc"], pa.string())
    assert digest([None], pa.list_(pa.int8())) != digest([[]], pa.list_(pa.int8()))
    assert digest([[1], []], pa.list_(pa.int8())) != digest([[], [1]], pa.list_(pa.int8()))
    assert digest([1], pa.int64()) != digest([1], pa.int32())
    assert digest(["a"], pa.string()) == digest(["a"], pa.large_string())
    assert digest(["a"], pa.string()) == digest(["a"], pa.dictionary(pa.int32(), pa.string()))
    assert content_hash([]) == content_hash([]) != content_hash([pa.table({"c": pa.array([], pa.int64())})])


def test_what_lies_under_a_null_vector_does_not_matter() -> None:
    def vectors(under: float) -> pa.Table:
        values = pa.array([1.0, 2.0, under, under], pa.float32())
        return pa.table({"v": pa.FixedSizeListArray.from_arrays(values, 2, mask=pa.array([False, True]))})

    assert content_hash([vectors(0.0)]) == content_hash([vectors(9.0)])


def test_commit_time_and_provenance_stay_out() -> None:
    table = pa.table({"a": [1, 2], "source_file": ["x", "y"], "created_timestamp": [1, 2]})
    marked = table.replace_schema_metadata({PROVENANCE_KEY: b"source_file"})
    plain = content_hash([pa.table({"a": [1, 2]})])
    assert content_hash([marked]) == content_hash([table], provenance=["source_file"]) == plain
    assert content_hash([table]) != content_hash([marked])


def test_it_is_what_the_docstring_says_on_a_plain_loop() -> None:
    table = pa.table({"i": pa.array([7, None, 9], pa.int64()), "s": pa.array(["ab", None, ""], pa.string())})
    streams = {name: hashlib.sha256() for name in ("i data", "i nulls", "s data", "s lengths", "s nulls")}
    for row, (i, s) in enumerate(zip(table.column("i").to_pylist(), table.column("s").to_pylist(), strict=True)):
        streams["i data"].update((i or 0).to_bytes(8, "little", signed=True))
        streams["s data"].update((s or "").encode())
        streams["s lengths"].update(len((s or "").encode()).to_bytes(8, "little"))
        for name, cell in (("i", i), ("s", s)):
            if cell is None:
                streams[f"{name} nulls"].update(row.to_bytes(8, "little"))
    described = [3, {"i": "int64", "s": "string"}, {name: stream.hexdigest() for name, stream in streams.items()}]
    assert content_hash([table]) == hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def test_a_type_it_does_not_know_is_refused() -> None:
    with pytest.raises(StoreError, match="month_day_nano_interval.*Cast it"):
        content_hash([pa.table({"m": pa.array([(1, 2, 3)], pa.month_day_nano_interval())})])
