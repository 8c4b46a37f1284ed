"""Times of Parquet files as Spark columns: with a zone an instant, without one a local time, in any unit.

Spark knows microseconds alone: nanoseconds come as whole numbers (`nanosAsLong`), INT96 always as an instant. What a
column is stands in the file: INT64 says whether it is adjusted to UTC; INT96 does not, and is an instant, as Spark and
Hive write it, unless the Arrow schema that pandas and pyarrow keep beside it has no zone for it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from jobs.events.damage import check_parquet
from jobs.events.places import SourceError

if TYPE_CHECKING:
    from pyspark.sql import Column

NANOSECONDS, INT96, MICROSECONDS = "nanoseconds", "INT96", "microseconds"
ARROW = b"ARROW:schema"


@dataclass(frozen=True)
class TimeKind:
    """How a file holds a column of times."""

    unit: str  # milliseconds count as microseconds: Spark reads both alike
    local: bool  # without a zone

    def __str__(self) -> str:
        return f"{'local times without a zone' if self.local else 'instants'} in {self.unit}"


def time_columns(files: Sequence[str]) -> dict[str, Column]:
    """Name → what stands for it, of the columns of times that Spark reads as something else. SourceError: files that
    hold one of them in several ways, which Spark would read as one."""
    from pyspark.sql import functions as F

    found: dict[str, Column] = {}
    for name, kind in time_kinds(files).items():
        plain = "`" + name.replace("`", "``") + "`"
        instant = F.col(plain)
        if kind.unit == NANOSECONDS:  # whole numbers: as a float they would be off by a microsecond
            instant = F.expr(f"timestamp_micros(({plain} - pmod({plain}, 1000)) div 1000)")
        if kind.unit != MICROSECONDS and (kind.local or kind.unit == NANOSECONDS):
            found[name] = instant.cast("timestamp_ntz") if kind.local else instant
    return found


def time_kinds(files: Sequence[str]) -> dict[str, TimeKind]:
    """Name → kind of every column of times, of all files. SourceError: one column of two kinds."""
    found: dict[str, tuple[TimeKind, str]] = {}
    for file in files:
        for name, kind in kinds_of(file).items():
            first, where = found.setdefault(name, (kind, file))
            if kind != first:
                raise SourceError(f"{file}: column {name!r} holds {kind}; in {where} it holds {first}. "
                                  "Expected one kind. Write the files alike.")
    return {name: kind for name, (kind, _) in found.items()}


def kinds_of(file: str) -> dict[str, TimeKind]:
    """Name → kind of one file's columns of times; those within lists and structs are left as they are."""
    described = check_parquet(file)
    kept, found = _arrow_schema(described.metadata or {}), {}
    for i in range(described.num_columns):
        column = described.schema.column(i)
        if column.max_repetition_level or column.path != column.name:
            continue
        if column.physical_type == INT96:
            found[column.name] = TimeKind(INT96, _has_no_zone(kept, column.name))
        elif column.logical_type.type == "TIMESTAMP":
            said = json.loads(column.logical_type.to_json())
            unit = NANOSECONDS if said["timeUnit"] == NANOSECONDS else MICROSECONDS
            found[column.name] = TimeKind(unit, not said["isAdjustedToUTC"])
    return found


def _arrow_schema(metadata: dict[bytes, bytes]) -> pa.Schema | None:
    """What pyarrow kept of the table that it wrote; none where nothing readable is there."""
    if ARROW not in metadata:
        return None
    try:
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(metadata[ARROW])))
    except (pa.ArrowException, ValueError, OSError):
        return None


def _has_no_zone(schema: pa.Schema | None, name: str) -> bool:
    at = -1 if schema is None else schema.get_field_index(name)
    return at >= 0 and pa.types.is_timestamp(schema.field(at).type) and schema.field(at).type.tz is None
