"""One contract, three translations: Arrow, Spark and the documentation agree."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from jobs.tables import SPARK, TABLES, markdown


@pytest.mark.parametrize("name", [name for name, contract in TABLES.items() if contract.fields])
def test_arrow_and_spark_name_the_same_columns_in_the_same_order(name: str) -> None:
    contract = TABLES[name]
    spark = {f.name: f.dataType.simpleString() for f in contract.spark_schema().fields}
    assert list(spark) == contract.arrow_schema(dimension=4).names == contract.columns
    assert spark == {f.name: SPARK[f.type] for f in contract.fields}


def test_vectors_are_fixed_size_lists_of_float32_without_nulls() -> None:
    kind = TABLES["user_embeddings"].arrow_schema(dimension=8).field("embedding").type
    assert kind == pa.list_(pa.field("element", pa.float32(), nullable=False), 8)
    with pytest.raises(ValueError, match="dimension"):
        TABLES["user_embeddings"].arrow_schema()


@pytest.mark.parametrize("name", ["../x", "a/b", "", None, "UP"])
def test_no_name_leaves_its_folder(name: str | None) -> None:
    with pytest.raises(ValueError, match="expected letters"):
        TABLES["checkpoints"].location("/data/checkpoints", name)


def test_sort_columns_and_provenance_exist() -> None:
    for contract in TABLES.values():
        assert set(contract.sorted_by) | set(contract.provenance) <= set(contract.columns)


def test_the_documentation_is_the_contracts() -> None:
    assert (Path(__file__).parents[2] / "docs" / "tables.md").read_text() == markdown(), "run: python -m jobs.tables > docs/tables.md"
