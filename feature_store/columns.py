"""The columns of a Parquet file before it is published: are they the table's own, and can every engine read them?"""

from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.errors import StoreError

SchemaProblem = Callable[[pa.Schema], str | None]  # what keeps columns from being the table's; None: nothing does


def described(schema: pa.Schema) -> list[str]:
    """Each column as text, with all that counts: `quantity: float not null`. Metadata does not."""
    return [f"{field.name}: {field.type}{'' if field.nullable else ' not null'}" for field in schema]


def batches_of(file: pq.ParquetFile, rows: int) -> Iterator[pa.RecordBatch]:
    """All rows, at most `rows` at a time; first a batch without any: a file without rows has columns all the same."""
    yield pa.RecordBatch.from_pylist([], file.schema_arrow)
    yield from file.iter_batches(rows)


def check_columns(schema: pa.Schema, where: str, problem: SchemaProblem | None) -> None:
    """StoreError when the table has columns of its own and these are others."""
    wrong = problem(schema) if problem else None
    if wrong:
        raise StoreError(
            f"Wrong columns in {where}: {wrong}. What was published before is unchanged. Mend what writes them."
        )


def check_types(schema: pa.Schema, where: str) -> None:
    """Half floats are legal Parquet and illegal to Spark's reader."""
    for field in schema:
        if "halffloat" in str(field.type):
            raise StoreError(
                f"Column {field.name!r} for {where} is {field.type}, which Spark cannot read. Cast it to float32."
            )
