"""Parquet files as one Spark frame, where their columns may be of different, but kindred, types.

Spark reads all files by one schema. Here those of one schema are read together, and what comes of them is put below
each other, each column in the type that holds all of it: whole numbers in the widest, texts whatever their encoding,
and nulls of no type as nulls.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from jobs.configuration.ranges import is_far
from jobs.events.damage import check_parquet
from jobs.events.far_parquet import read_far
from jobs.events.files import at_once
from jobs.events.folders import folder_column, folder_columns
from jobs.events.places import SourceError
from jobs.spark import PLAIN

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

LISTS = (pa.ListType, pa.LargeListType, pa.FixedSizeListType, pa.ListViewType, pa.LargeListViewType)
FILE, ROW = "_nocturne_file", "_nocturne_row"  # path and row, as Spark has them in its own hidden column


def parquet_schema(file: str) -> pa.Schema:
    """SourceError when the file is no whole Parquet."""
    return check_parquet(file).schema.to_arrow_schema()


def kindred(types: Iterable[pa.DataType]) -> bool:
    """Whether columns of these types can be one."""
    found = {_family(kind) for kind in types} - {"null"}
    return len(found) <= 1


def require_kindred(files: Mapping[str, pa.Schema], names: Iterable[str], alike: Callable[[str], bool]) -> None:
    """SourceError where a column is of types in two files that cannot be one. alike: of a name, whether all numbers
    will do."""
    for name in names:
        first: tuple[str, pa.DataType] | None = None
        for file, schema in files.items():
            if name not in schema.names:
                continue
            kind = schema.field(name).type
            if first is None or pa.types.is_null(first[1]):
                first = (file, kind)
            fits = kindred([first[1], kind]) or (alike(name) and _is_number(first[1]) and _is_number(kind))
            if not fits:
                raise SourceError(f"{file}: column {name!r} is of type {kind}, in {first[0]} of type {first[1]}; "
                                  "expected one type. Write the files alike.")


def load(
    spark: SparkSession, files: Sequence[str], all_columns: bool = False, wanted: Collection[str] | None = None
) -> DataFrame:
    """The columns of the files, those of their folders, `FILE` and `ROW`.

    Of files with different columns those of the first, or of all (null where a file lacks one). wanted: the columns
    that the caller reads, None: all; on an object store no other is there. SourceError: types that cannot be one.
    """
    from pyspark.sql import functions as F

    spark.conf.set("spark.sql.legacy.parquet.nanosAsLong", "true")
    at_once(check_parquet, files)
    schemas = {file: parquet_schema(file) for file in files}
    groups: dict[frozenset, list[str]] = {}
    for file, schema in schemas.items():
        groups.setdefault(frozenset((field.name, str(field.type)) for field in schema), []).append(file)
    chosen = list(schemas.values()) if all_columns else [next(iter(schemas.values()))]
    names = list(dict.fromkeys(name for schema in chosen for name in schema.names))
    if wanted is not None:
        names = [name for name in names if name in wanted]
    if all_columns:
        require_kindred(schemas, names, lambda name: False)
    read = [_read(spark, group, wanted) for group in groups.values()]
    types = {name: _common([frame.schema[name].dataType for frame in read if name in frame.columns]) for name in names}
    whole = functools.reduce(lambda a, b: a.unionByName(b), (_in_types(frame, types) for frame in read))
    more = [name for name in folder_columns(files) if name not in names]
    return whole.withColumns({name: folder_column(F.col(FILE), name, files) for name in more}) if more else whole


def _read(spark: SparkSession, files: Sequence[str], wanted: Collection[str] | None) -> DataFrame:
    """Files that are alike; those of an object store with `FILE` and `ROW`."""
    if is_far(files[0]):
        return read_far(spark, files, FILE, ROW, wanted)
    return spark.read.options(**PLAIN).parquet(*files)


def file_path() -> Column:
    """Of Spark's own hidden column, as plain text."""
    from pyspark.sql import functions as F

    path = F.url_decode(F.replace(F.col("_metadata.file_path"), F.lit("+"), F.lit("%2B")))
    return F.regexp_replace(path, "^file:/+", "/")


def _in_types(frame: DataFrame, types: Mapping[str, object]) -> DataFrame:
    from pyspark.sql import functions as F

    columns = []
    for name, kind in types.items():
        column = F.col("`" + name.replace("`", "``") + "`") if name in frame.columns else F.lit(None)
        same = name in frame.columns and frame.schema[name].dataType == kind
        columns.append((column if same else column.cast(kind)).alias(name))
    if FILE in frame.columns:
        return frame.select(*columns, FILE, ROW)
    return frame.select(*columns, file_path().alias(FILE), (F.col("_metadata.row_index") + 1).alias(ROW))


def _common(kinds: Sequence[object]) -> object:
    """Spark's type that holds columns of all of these, which are kindred, or all numbers."""
    from pyspark.sql import types as T

    found = [kind for kind in dict.fromkeys(kinds) if not isinstance(kind, T.NullType)]
    if len(found) <= 1:
        return found[0] if found else T.StringType()
    if all(isinstance(kind, T.IntegralType) for kind in found):
        return T.LongType()
    decimals = [kind for kind in found if isinstance(kind, T.DecimalType)]
    if decimals and all(isinstance(kind, (T.DecimalType, T.IntegralType)) for kind in found):
        scale = max(kind.scale for kind in decimals)
        return T.DecimalType(min(38, max(20, *(kind.precision - kind.scale for kind in decimals)) + scale), scale)
    if all(isinstance(kind, T.NumericType) for kind in found):
        return T.DoubleType()
    if all(isinstance(kind, T.ArrayType) for kind in found):
        return T.ArrayType(_common([kind.elementType for kind in found]))
    return found[0]


def _family(kind: pa.DataType) -> str:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_null(kind):
        return "null"
    if is_text(kind):
        return "text"
    if pa.types.is_integer(kind):
        return "whole number"
    if pa.types.is_floating(kind):
        return "floating"
    if pa.types.is_decimal(kind):
        return "whole number" if kind.scale == 0 else "decimal"
    if pa.types.is_timestamp(kind):  # which of them, parquet_times.py looks at
        return "timestamp"
    if pa.types.is_date(kind):
        return "date"
    if is_list(kind):
        return f"list of {_family(kind.value_type)}"
    return str(kind)


def is_text(kind: pa.DataType) -> bool:
    """Of any of Arrow's encodings."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def is_list(kind: pa.DataType) -> bool:
    return isinstance(kind, LISTS)


def _is_number(kind: pa.DataType) -> bool:
    is_whole = pa.types.is_integer(kind) or pa.types.is_null(kind)
    return is_whole or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
