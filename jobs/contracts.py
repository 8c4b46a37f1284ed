"""What a table's contract is: a list of fields in this file's few types, which `arrow_schema()` and `spark_schema()`
translate. The tables themselves stand in tables.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from feature_store.columns import described

if TYPE_CHECKING:
    from pyspark.sql.types import StructType

NAME = re.compile(r"[a-z0-9_]+")
LENGTH = re.compile(r"(?<=>)\[\d+\]")  # of a fixed-size list, as Arrow writes it

ARROW = {
    "string": pa.string(),
    "int64": pa.int64(),
    "int32": pa.int32(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}
SPARK = {
    "string": "string",
    "int64": "bigint",
    "int32": "int",
    "float32": "float",
    "float64": "double",
    "bool": "boolean",
    "timestamp": "timestamp",
    "vector": "array<float>",
}


@dataclass(frozen=True)
class Field:
    """A column: name, type (a key of `ARROW`, or `vector` for a fixed-size list of float32), what it means."""

    name: str
    type: str
    doc: str
    nullable: bool = False


@dataclass(frozen=True)
class Contract:
    """One table: where it lies below the data root, what cuts it into partitions, its columns."""

    path: str
    key: str  # dt, day; "segments" for the ledgers
    fields: tuple[Field, ...]
    doc: str
    sorted_by: tuple[str, ...] = ()
    provenance: tuple[str, ...] = ()  # columns that the content hash leaves out
    schema_version: tuple[int, int] = (1, 0)  # minor: nullable columns were added; major: readers must be newer

    @property
    def columns(self) -> list[str]:
        return [f.name for f in self.fields]

    @property
    def folder(self) -> str:
        """The table's folder below the data root; for a path with braces, the folder of all its names."""
        return self.path.rpartition("/")[0] if "{" in self.path else self.path

    def location(self, folder: str, name: str | None = None) -> str:
        """The folder that holds the partitions; `name` fills the braces of the path,
        `folder` is where `self.folder` lies."""
        if "{" not in self.path:
            return folder
        if name is None or not NAME.fullmatch(name):
            raise ValueError(
                f"Found the name {name!r} for table {self.path}; expected letters a-z, digits and underscores."
            )
        return f"{folder}/{re.sub(r'{.*}', name, self.path.rpartition('/')[2])}"

    def arrow_schema(self, dimension: int | None = None) -> pa.Schema:
        """The columns for Arrow; `dimension` is the length of the vectors, where there are any."""
        fields = [pa.field(f.name, _arrow_type(f, dimension), f.nullable) for f in self.fields]
        metadata = {b"nocturne.provenance": ",".join(self.provenance).encode()} if self.provenance else None
        return pa.schema(fields, metadata=metadata)

    def schema_problem(self, found: pa.Schema) -> str | None:
        """What keeps a table with this Arrow schema from being this one; None when nothing does.

        Names, order, types and nullability count, to the letter; metadata does not, and vectors may have any length.
        """
        both = (described(found), described(self.arrow_schema(dimension=1)))
        theirs, ours = ([LENGTH.sub("[any]", column) for column in columns] for columns in both)
        if theirs == ours:
            return None
        strange = [column for column in theirs if column not in ours] or theirs  # none: only their order is wrong
        lacking = [column for column in ours if column not in theirs] or ours
        named = (", ".join(columns) or "none" for columns in (strange, lacking))
        return "found {}; expected {}, as jobs/tables.py has it for {}".format(*named, self.path)

    def spark_schema(self) -> StructType:
        from pyspark.sql.types import StructField, StructType

        return StructType([StructField(f.name, _spark_type(f), f.nullable) for f in self.fields])

    def spark_select(self) -> list[str]:
        """Expressions for `df.selectExpr`: each column of the contract, cast to its type, in order;
        Spark stops at a null that it forbids."""
        return [f"{_spark_value(f, self.path)} as `{f.name}`" for f in self.fields]


def _arrow_type(field: Field, dimension: int | None) -> pa.DataType:
    if field.type != "vector":
        return ARROW[field.type]
    if not dimension:
        raise ValueError(f"Column {field.name!r} holds vectors: name their dimension.")
    return pa.list_(pa.field("element", pa.float32(), nullable=False), dimension)


def _spark_value(field: Field, path: str) -> str:
    """The column as SQL. Spark writes it as nullable where the contract says so, and nowhere else.

    Spark derives that from its plan alone. A null where none may be stops the job; that `raise_error` gives no null,
    Spark believes only of an `if` with two values, neither of which is ever taken. No row has a negative partition, but
    the optimizer cannot know.
    """
    kind = SPARK[field.type]
    value = f"cast(`{field.name}` as {kind})"
    if field.type == "vector":  # Spark has no fixed-size list: the store refuses what it would write
        return value
    if field.nullable:
        return f"if(spark_partition_id() < 0, null, {value})"
    stop = f"raise_error('Found a null in {field.name} of {path}; expected a value in every row.')"
    return f"coalesce({value}, if(isnull({stop}), cast(0 as {kind}), cast(1 as {kind})))"


def _spark_type(field: Field):
    from pyspark.sql import types

    plain = {
        "string": types.StringType, "int64": types.LongType, "int32": types.IntegerType, "float32": types.FloatType,
        "float64": types.DoubleType, "bool": types.BooleanType, "timestamp": types.TimestampType}
    return types.ArrayType(types.FloatType(), False) if field.type == "vector" else plain[field.type]()
