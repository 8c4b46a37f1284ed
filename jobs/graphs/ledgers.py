"""The id ledgers: which entity types and relations a graph has, reading them, and giving ids to what is new.

Ids are dense per ledger, from 0, in the order in which segments give them; a segment numbers its raw ids in the order
of their bytes. What was read is a snapshot: of two runs that append after the same snapshot one is refused, and has to
read again.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from feature_store import Segments
from feature_store.disk import open_disk
from jobs.configuration.sections import Attribute, Graph
from jobs.program import Input, JobError
from jobs.side_by_side import each
from jobs.spark import no_rows, read
from jobs.tables import TABLES

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

USER, ITEM = "user", "item"
ERASED = "\0erased "  # before the number of an erased user, in place of his raw id: NUL is in no usable id


@dataclass(frozen=True)
class RelationType:
    """A relation's name and the entity types at its two ends."""

    name: str
    head_type: str
    tail_type: str


def attribute_relation(entity_type: str, attribute: str) -> str:
    """`item_brand`, `user_region`."""
    return f"{entity_type}_{attribute}"


def value_type(name: str, attribute: Attribute) -> str:
    """The entity type of an attribute's values."""
    return attribute.entity_type or name


def relation_types(graph: Graph) -> list[RelationType]:
    """Every relation of the configured graph: behaviours, then item and user attributes. JobError when two have one
    name."""
    found = [RelationType(name, USER, ITEM) for name in graph.behaviors]
    for kind, attributes in ((ITEM, graph.item_attributes), (USER, graph.user_attributes)):
        found += [
            RelationType(attribute_relation(kind, name), kind, value_type(name, attribute))
            for name, attribute in attributes.items()
        ]
    names = [relation.name for relation in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise JobError(
            f"Two relations of the graph are called {twice[0]!r}; expected one each. "
            "Rename the behaviour or the attribute in the configuration."
        )
    return found


def entity_types(graph: Graph) -> list[str]:
    """Every entity type of the configured graph, by name."""
    relations = relation_types(graph)
    return sorted({USER, ITEM, *(r.tail_type for r in relations)})


@dataclass(frozen=True)
class Snapshot:
    """A ledger as it was when it was read: its segments' files and how many ids they give."""

    segments: Segments
    files: list[str]
    size: int

    @classmethod
    def of(cls, segments: Segments) -> Snapshot:
        segments.check()
        files = segments.files()
        return cls(segments, files, sum(map(segments.row_count, files)))

    def append(self, raw: Iterable[pa.RecordBatch]) -> bool:
        """Give the next ids to new raw ids (one column, in the order of their bytes), as one segment. False: another
        run was first."""
        schema = TABLES["entity_ids"].arrow_schema()
        reader = pa.RecordBatchReader.from_batches(schema, _numbered(raw, self.size, schema))
        return self.segments.append(len(self.files) + 1, reader)


def _numbered(raw: Iterable[pa.RecordBatch], first: int, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for batch in raw:
        ids = pa.array(np.arange(first, first + batch.num_rows))
        first += batch.num_rows
        yield pa.RecordBatch.from_arrays([ids, batch.column(0).cast(pa.string())], schema=schema)


def snapshots(entity_ids: Input, types: Iterable[str]) -> dict[str, Snapshot]:
    """Each entity type's ledger as it is now."""
    types, (disk, _) = list(types), open_disk(entity_ids.uri)
    return dict(zip(types, each(disk, lambda name: Snapshot.of(entity_ids.segments(name)), types), strict=True))


def ledger(spark: SparkSession, snapshot: Snapshot) -> DataFrame:
    """One ledger as a frame: id, raw."""
    return read(spark, snapshot.segments.disk, snapshot.files, TABLES["entity_ids"])


def ledgers(spark: SparkSession, found: dict[str, Snapshot]) -> DataFrame:
    """Several ledgers as one frame: type, id, raw."""
    from pyspark.sql import functions as F

    frames = [
        ledger(spark, snapshot).select(F.lit(name).alias("type"), "id", "raw")
        for name, snapshot in found.items()
        if snapshot.files
    ]
    if not frames:
        return no_rows(spark, TABLES["entity_ids"]).select(F.lit("").alias("type"), "id", "raw")
    return functools.reduce(lambda a, b: a.unionAll(b), frames)


def assign_relations(relations: Input, wanted: list[RelationType]) -> int:
    """Give ids to relations that the ledger does not know (by name and types); how many were new."""
    segments, schema = relations.segments(), TABLES["relations"].arrow_schema()
    while True:
        number, known = segments.next_number(), _known_relations(relations)
        new = [relation for relation in sorted(wanted, key=lambda r: r.name.encode()) if relation not in known]
        rows = [
            {"id": len(known) + n, "name": r.name, "head_type": r.head_type, "tail_type": r.tail_type}
            for n, r in enumerate(new)
        ]
        if not new or segments.append(number, pa.Table.from_pylist(rows, schema=schema)):
            return len(new)


def relation_ids(relations: Input, wanted: list[RelationType]) -> dict[str, int]:
    """Name → ledger id. JobError when the ledger lacks one."""
    known = _known_relations(relations)
    unknown = [relation.name for relation in wanted if relation not in known]
    if unknown:
        raise JobError(
            f"Ledger {relations.uri} does not know the relations {unknown}, which the configuration names. "
            "Run jobs.graphs.assign_ids for this date first."
        )
    return {relation.name: known[relation] for relation in wanted}


def _known_relations(relations: Input) -> dict[RelationType, int]:
    table = relations.segments().read()
    rows = [] if table is None else table.to_pylist()
    return {RelationType(row["name"], row["head_type"], row["tail_type"]): row["id"] for row in rows}
