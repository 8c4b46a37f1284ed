"""Items and users of the configuration's sources, as they were known at D, and their attributes as edges to values.

A source without `valid_from` is static: its rows count at every D. With it, a row counts where valid_from < D and
valid_to is null or not before D. An entity enters the graph of D with an event in it, or by a row whose valid_from is
before D.

Values: a category is its text; a list gives one edge per member; a number becomes the bin it falls into among the
entities of D's graph, named by its ordinal: `bin_03_of_10` holds the numbers above the second and up to the third tenth
(quantiles as order statistics, so that ties stay together and some bins may be empty), or between the configured
`bounds`. Nulls, empty texts and unusable ids are no values.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobs.configuration.sections import Attribute, Graph, Source, SourceTable
from jobs.events import times
from jobs.events.epochs import readings
from jobs.events.files import Status, statuses
from jobs.events.fingerprint import fingerprints
from jobs.events.lake_tables import files_of
from jobs.events.places import SourceError, in_words
from jobs.events.read_source import quoted, read_entities, unusable_id, with_point
from jobs.events.times import Reading
from jobs.graphs.ledgers import ITEM, USER, attribute_relation, value_type
from jobs.program import midnight

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

VALIDITY = ("valid_from", "valid_to")
NUMERIC = ("tinyint", "smallint", "int", "bigint", "float", "double", "decimal")


@dataclass(frozen=True)
class Kind:
    """Items or users: where they are read from and which attributes become edges."""

    entity_type: str
    source: SourceTable | None
    attributes: dict[str, Attribute]

    @property
    def path(self) -> str:
        return f"source.{self.entity_type}s"

    def relation(self, attribute: str) -> str:
        return attribute_relation(self.entity_type, attribute)

    @property
    def numbers(self) -> dict[str, Attribute]:
        """Relation → attribute, of those that are numbers."""
        return {self.relation(name): a for name, a in self.attributes.items() if a.type == "number"}


def kinds(graph: Graph, source: Source) -> list[Kind]:
    """Items and users, as configured. SourceError: attributes without a source."""
    found = [Kind(ITEM, source.items, graph.item_attributes), Kind(USER, source.users, graph.user_attributes)]
    for kind in found:
        if kind.attributes and kind.source is None:
            raise SourceError(
                f"graph.{kind.entity_type}_attributes names {sorted(kind.attributes)}, and there is no {kind.path}. "
                "Configure it, or leave the attributes out."
            )
    return found


@dataclass(frozen=True)
class Catalogue:
    """The rows of a kind that are known at D: raw, enters (bool: in the graph without an event), values (a struct of
    the attributes, whose names are anybody's: `raw` may be one of them; no such column without attributes)."""

    kind: Kind
    frame: DataFrame
    static: bool  # without validity
    files: list[dict[str, Any]]  # what was read: name, size, sha256
    stamps: dict[str, Status]  # of the files, before they are read


def read_catalogue(spark: SparkSession, kind: Kind, date: datetime.date) -> Catalogue:
    """What is known of a kind at D. SourceError: a missing column, or one of a type that cannot be what the
    configuration says."""
    from pyspark.sql import functions as F

    key = f"{kind.entity_type}_id"
    files = files_of(kind.source, kind.path, date)
    before = statuses(files)
    frame = read_entities(spark, kind.source, key, files, (*VALIDITY, *kind.attributes))
    missing = [name for name in kind.attributes if name not in frame.columns]
    if missing:
        raise SourceError(
            f"{kind.source.path} has no column {missing[0]!r} (graph.{kind.entity_type}_attributes.{missing[0]}); "
            f"it has {in_words(frame.columns)}. "
            f"Map it: {kind.path}.columns.{missing[0]}: <their name>."
        )
    known, since = validity(frame, kind, date)
    values = [F.struct(*(F.col(quoted(name)) for name in kind.attributes)).alias("values")] if kind.attributes else []
    chosen = frame.where(unusable_id(key).isNull() & known).select(
        F.col(key).alias("raw"), since.isNotNull().alias("enters"), *values
    )
    read = fingerprints(files, kind.source.file_format, kind.source.encoding)
    return Catalogue(kind, chosen, "valid_from" not in frame.columns, read, before)


def validity(frame: DataFrame, kind: Kind, date: datetime.date) -> tuple[Column, Column]:
    """(the row is known at D, its valid_from; the entity of a row that has one enters the graph by it)."""
    from pyspark.sql import functions as F

    moment = F.lit(midnight(date))
    read_as = readings(frame, kind.source, VALIDITY, kind.path)
    since, until = (
        _time(frame, kind, name, read_as[name]) if name in read_as else F.lit(None).cast("timestamp")
        for name in VALIDITY
    )
    known = (since.isNull() | (since < moment)) & (until.isNull() | (until >= moment))
    return known, since


def _time(frame: DataFrame, kind: Kind, name: str, reading: Reading) -> Column:
    """A validity column as a time in UTC; dates and times without a zone are of the source's zone, a day is its
    beginning."""
    from pyspark.sql import functions as F

    column, found = F.col(name), frame.schema[name].dataType
    cure = f"Correct the source, or say how its times are written: {kind.path}.time_format or time_unit"
    problem = f"{kind.path} has a {name} that is no time; expected a date, a timestamp or none. {cure}."
    try:
        parsed = times.utc(column, found, kind.source.timezone, False, reading, times.start_of_day)
    except TypeError:
        raise SourceError(f"{problem} It is of type {found.simpleString()}.") from None
    return F.when(column.isNotNull() & parsed.isNull(), F.raise_error(F.lit(problem)).cast("timestamp")).otherwise(
        parsed
    )


def attribute_rows(frame: DataFrame, kind: Kind, keep: Sequence[str]) -> DataFrame:
    """One row per entity, attribute and usable value: the columns `keep`, relation, tail_type, value (null for
    numbers), number (null for categories). frame: a catalogue's, or its rows joined with others."""
    from pyspark.sql import functions as F

    lists = [_values(frame, kind, name, attribute) for name, attribute in kind.attributes.items()]
    rows = frame.select(*keep, F.explode(F.concat(*lists)).alias("one")).select(*keep, "one.*")
    text = F.col("value").isNotNull() & (F.col("value") != "") & unusable_id("value").isNull()
    number = F.col("number").isNotNull() & ~F.isnan("number") & (F.abs("number") < float("inf"))
    return rows.where(text | number).distinct()


def _values(frame: DataFrame, kind: Kind, name: str, attribute: Attribute) -> Column:
    """array<struct<relation, tail_type, value, number>> of one row's values of one attribute."""
    from pyspark.sql import functions as F

    column, found = F.col("values").getField(name), frame.schema["values"].dataType[name].dataType.simpleString()
    nothing = {"value": F.lit(None).cast("string"), "number": F.lit(None).cast("double")}

    def one(**value: Column) -> Column:
        ends = {"relation": F.lit(kind.relation(name)), "tail_type": F.lit(value_type(name, attribute))}
        return F.struct(*(c.alias(n) for n, c in (ends | nothing | value).items()))

    where = f"column {name!r} of {kind.path} ({kind.source.path})"
    if attribute.type == "number":
        return F.array(one(number=as_number(column, found, where, kind.source.decimal)))
    if found.startswith(("struct", "map", "binary", "array<array", "array<struct", "array<map")):
        raise SourceError(f"Found {found} in {where}; expected texts, lists of texts, or plain values for a category.")
    if found.startswith("array"):
        return F.coalesce(F.transform(column, lambda member: one(value=member.cast("string"))), F.array().cast(_ARRAY))
    return F.array(one(value=column.cast("string")))


_ARRAY = "array<struct<relation:string,tail_type:string,value:string,number:double>>"


def as_number(column: Column, found: str, where: str, decimal: str) -> Column:
    """float64 of a column of type `found`; text that is no number stops the job, nulls and blanks are null.
    SourceError: a type that is none."""
    from pyspark.sql import functions as F

    if found.startswith(NUMERIC):
        return column.cast("double")
    if found != "string":
        raise SourceError(
            f"Found {found} in {where}; expected numbers. Correct the source, or declare the attribute a category."
        )
    parsed = with_point(F.trim(column), decimal).try_cast("double")
    cure = "Correct the source, say how its numbers are written (decimal), or declare the attribute a category."
    problem = f"Found text that is no number in {where}; expected numbers. {cure}"
    return F.when((F.trim(column) != "") & parsed.isNull(), F.raise_error(F.lit(problem)).cast("double")).otherwise(
        parsed
    )
