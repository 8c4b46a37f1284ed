"""One contract, three translations: Arrow, Spark and the documentation agree."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store import Table
from feature_store.columns import described
from feature_store.errors import StoreError
from jobs.contracts import ARROW, SPARK, Contract, Field
from jobs.program import Output
from jobs.tables import TABLES, markdown

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

WITH_COLUMNS = [name for name, contract in TABLES.items() if contract.fields]
EVERY_TYPE = Contract(
    "every_type",
    "dt",
    tuple(
        Field(f"{kind}_{'or_null' if nullable else 'always'}", kind, "", nullable)
        for kind in ARROW
        for nullable in (True, False)
    ),
    "",
)


@pytest.mark.parametrize("name", WITH_COLUMNS)
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
    assert (Path(__file__).parents[2] / "docs" / "tables.md").read_text() == markdown(), (
        "run: python -m jobs.tables > docs/tables.md"
    )


@pytest.mark.parametrize("name", WITH_COLUMNS)
def test_a_tables_own_columns_are_right_also_when_read_back(name: str, tmp_path: Path) -> None:
    contract, table = TABLES[name], Table(str(tmp_path / "t"))
    schema = contract.arrow_schema(dimension=7)
    assert contract.schema_problem(schema) is None and contract.schema_problem(schema.with_metadata({"a": "b"})) is None
    with table.replace("2026-01-05") as commit:
        commit.write_table(schema.empty_table())
    assert contract.schema_problem(table.schema("2026-01-05")) is None


@pytest.mark.parametrize("name", WITH_COLUMNS)
def test_every_other_nullability_type_name_and_order_is_a_problem(name: str) -> None:
    contract = TABLES[name]
    schema = contract.arrow_schema(dimension=7)
    others = [
        schema.remove(len(schema) - 1),
        schema.append(pa.field("more", pa.int8())),
        pa.schema([*list(schema)[1:], schema[0]]),
    ]
    for position, field in enumerate(schema):
        other_type = pa.timestamp("ms", "UTC") if field.type == ARROW["timestamp"] else pa.large_string()
        for other in (
            field.with_nullable(not field.nullable),
            field.with_type(other_type),
            field.with_name(field.name + "_"),
        ):
            others.append(schema.set(position, other))
            expected = described(pa.schema([field]))[0].replace("[7]", "[any]")
            assert f"expected {expected}, as" in contract.schema_problem(others[-1]), "the column that is meant"
    assert all(contract.schema_problem(other) for other in others)


def test_a_vectors_elements_are_floats_without_nulls_by_their_name() -> None:
    contract, element = TABLES["user_embeddings"], pa.field("element", pa.float32(), nullable=False)
    others = (element.with_nullable(True), element.with_name("item"), element.with_type(pa.float64()))
    for kind in (*(pa.list_(other, 8) for other in others), pa.list_(element)):
        schema = contract.arrow_schema(dimension=8)
        assert contract.schema_problem(schema.set(1, schema[1].with_type(kind))), kind
    assert contract.schema_problem(contract.arrow_schema(dimension=3)) is None


def test_a_table_without_columns_takes_no_rows() -> None:
    assert (
        TABLES["reports"].schema_problem(pa.schema([pa.field("x", pa.int8())]))
        == "found x: int8; expected none, as jobs/tables.py has it for reports"
    )


def test_a_job_cannot_commit_other_columns(tmp_path: Path) -> None:
    """Nullability is the one difference that neither the rows nor their content hash show."""
    audiences = Output("audiences", str(tmp_path / "audiences"))
    schema = audiences.contract.arrow_schema()
    right = pa.Table.from_pylist([{"client": "c", "rank": 1, "user_id": "u", "score": 0.5}], schema)
    wrong = right.cast(schema.set(3, schema.field("score").with_nullable(True)))
    with audiences.table().replace("2026-01-05") as commit:
        commit.write_table(right)
    before = audiences.table().existing_manifest("2026-01-05")
    with (
        pytest.raises(StoreError, match="found score: float; expected score: float not null"),
        audiences.table().replace("2026-01-05") as commit,
    ):
        commit.write_table(wrong)
    assert audiences.table().existing_manifest("2026-01-05") == before and audiences.table().verify("2026-01-05") == []


def test_a_job_cannot_append_other_columns_to_a_ledger(tmp_path: Path) -> None:
    ledger = Output("entity_ids", str(tmp_path / "entity_ids")).segments("user")
    with pytest.raises(
        StoreError, match="found id: int64, raw: string; expected id: int64 not null, raw: string not null"
    ):
        ledger.append(1, pa.table({"id": pa.array([0]), "raw": ["u"]}))
    assert ledger.read() is None


def frames(spark: SparkSession) -> dict[str, DataFrame]:
    """Plans of which Spark knows that no column holds a null, that every one may, and that there is no row."""
    from pyspark.sql import functions as F

    values = {"string": "x", "timestamp": datetime.datetime(2026, 1, 5, tzinfo=datetime.UTC), "bool": True}
    sure = spark.range(3).select(
        *(F.lit(values.get(f.type, 1)).cast(SPARK[f.type]).alias(f.name) for f in EVERY_TYPE.fields)
    )
    unsure = sure.select(*(F.when(F.rand() >= 0, F.col(name)).alias(name) for name in EVERY_TYPE.columns))
    return {"sure": sure, "unsure": unsure, "empty": sure.where("false")}


@pytest.mark.parametrize("kind", ["sure", "unsure", "empty"])
def test_spark_writes_the_contracts_nullability_whatever_it_knows(
    spark: SparkSession, tmp_path: Path, kind: str
) -> None:
    frames(spark)[kind].selectExpr(*EVERY_TYPE.spark_select()).write.parquet(str(tmp_path / "t"))
    files = list((tmp_path / "t").glob("*.parquet"))
    assert files and [EVERY_TYPE.schema_problem(pq.read_schema(file)) for file in files] == [None] * len(files)
    rows = pq.read_table(tmp_path / "t")
    assert rows.num_rows == (0 if kind == "empty" else 3) and not any(column.null_count for column in rows.columns)


def test_spark_keeps_nulls_where_they_may_be_and_stops_at_others(spark: SparkSession, tmp_path: Path) -> None:
    from pyspark.sql import functions as F

    unsure = frames(spark)["unsure"]
    for n, field in enumerate(EVERY_TYPE.fields):
        path, holed = str(tmp_path / str(n)), unsure.withColumn(field.name, F.when(F.rand() < 0, F.col(field.name)))
        write = holed.selectExpr(*EVERY_TYPE.spark_select()).write
        if field.nullable:
            write.parquet(path)
            assert pq.read_table(path).column(field.name).null_count == 3
        else:
            with pytest.raises(Exception, match=f"Found a null in {field.name} of every_type; expected a value"):
                write.parquet(path)
