"""Give ledger ids to every user, item, attribute value and relation of a night that has none yet.

Reads: clean_events of the window, and of the days that histories cover where they are read; items and users of the
sources. Writes: entity_ids, relations (segments, append-only). Guarantees: an id once given never changes; ids are
dense per type; of two runs at once each raw id gets one id. New raw ids are numbered in the order of their bytes, so
that a fresh root gives the same ids every time. Spark finds and sorts what is new and writes it aside; the segment is
streamed from there, so that nothing grows on the driver.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.disk import Disk
from jobs import spark as engine
from jobs.configuration.histories import Sequences, days_before
from jobs.configuration.sections import Events, Graph, Publishing, Source, Spark
from jobs.configuration.settings import Families
from jobs.events.fingerprint import require_unchanged
from jobs.graphs.catalogue import Catalogue, attribute_rows, kinds, read_catalogue
from jobs.graphs.ledgers import (
    ITEM,
    USER,
    assign_relations,
    entity_types,
    ledgers,
    relation_types,
    snapshots,
    value_type,
)
from jobs.graphs.scratch import scratch_folder
from jobs.graphs.window import open_window, read_events
from jobs.program import Input, Output, main, metrics

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

BATCH_ROWS = 131_072
SORTED = pa.schema({"type": pa.string(), "raw": pa.string()})


@dataclass(frozen=True)
class Config:
    graph: Graph
    source: Source
    events: Events
    families: Families
    publishing: Publishing
    sequences: Sequences
    spark: Spark


def raw_ids(spark: SparkSession, events: DataFrame, catalogues: Sequence[Catalogue]) -> DataFrame:
    """type, raw: everything that the night's tables name, with repeats; also values too rare for the graph
    (`min_entities`), which cost an id."""
    from pyspark.sql import functions as F

    ends = F.array(
        F.struct(F.lit(USER).alias("type"), F.col("user_id").alias("raw")),
        F.struct(F.lit(ITEM).alias("type"), F.col("item_id").alias("raw")),
    )
    found = events.select(F.explode(ends).alias("one")).select("one.*").distinct().persist()
    result = found
    for catalogue in catalogues:
        result = result.unionAll(_from_catalogue(spark, catalogue, found))
    return result


def _from_catalogue(spark: SparkSession, catalogue: Catalogue, found: DataFrame) -> DataFrame:
    """type, raw of the entities that enter by validity, and of the values of all that are in the night's tables."""
    from pyspark.sql import functions as F

    kind = catalogue.kind
    present = found.where(F.col("type") == kind.entity_type).select("raw", F.lit(True).alias("has_event"))
    rows = catalogue.frame.join(present, "raw", "left").where(F.col("has_event") | F.col("enters"))
    result = rows.where("enters").select(F.lit(kind.entity_type).alias("type"), "raw")
    if kind.attributes:
        values = attribute_rows(rows, kind, []).where(F.col("value").isNotNull())
        result = result.unionAll(values.select(F.col("tail_type").alias("type"), F.col("value").alias("raw")))
    names = [
        F.struct(F.lit(value_type(name, attribute)).alias("type"), F.lit(bin_name).alias("raw"))
        for name, attribute in kind.attributes.items() if attribute.type == "number" for bin_name in attribute.bin_names
    ]  # fmt: skip
    if names:
        result = result.unionAll(spark.range(1).select(F.explode(F.array(*names)).alias("one")).select("one.*"))
    return result


def assign(
    spark: SparkSession, raw: DataFrame, entity_ids: Output, types: list[str], catalogues: Sequence[Catalogue]
) -> tuple[Counter[str], dict[str, int]]:
    """Append what the ledgers lack, until no other run has come in between: (new ids by type, ids in all by type)."""
    added: Counter[str] = Counter()
    disk = entity_ids.segments(USER).disk
    while True:
        known = snapshots(entity_ids, types)
        with scratch_folder(disk, entity_ids.uri) as folder:
            new = raw.join(ledgers(spark, known), ["type", "raw"], "left_anti").distinct()
            files = engine.write_aside(new.sort("type", "raw"), disk, folder, SORTED)
            for catalogue in catalogues:
                require_unchanged(catalogue.stamps)
            counts = _counts(disk, files)
            given = {name: n for name, n in counts.items() if known[name].append(_raw_of(disk, files, name))}
        added.update(given)
        if given.keys() == counts.keys():
            return added, {name: known[name].size + given.get(name, 0) for name in types}


def _raw_of(disk: Disk, files: Sequence[str], name: str) -> Iterator[pa.RecordBatch]:
    """One type's raw ids, in order."""
    for file in files:
        for batch in _batches(disk, file, SORTED.names):
            found = batch.filter(pc.equal(batch.column("type"), name)).select(["raw"])
            if found.num_rows:
                yield found


def _counts(disk: Disk, files: Sequence[str]) -> Counter[str]:
    """How many raw ids each type has."""
    counts: Counter[str] = Counter()
    for file in files:
        for batch in _batches(disk, file, ["type"]):
            counts.update({one["values"]: one["counts"] for one in batch.column("type").value_counts().to_pylist()})
    return counts


def _batches(disk: Disk, file: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
    with disk.open(file) as source:
        yield from pq.ParquetFile(source, pre_buffer=True).iter_batches(BATCH_ROWS, columns=columns)


def run(date: datetime.date, clean_events: Input, entity_ids: Output, relations: Output, config: Config) -> None:
    """Bring the ledgers up to the night of `date`."""
    window = open_window(clean_events, date, days_before(config, date, config.graph.window_days))
    metrics.put("rows_in", window.rows)
    with engine.session(config.spark, "assign_ids") as spark:
        there = [kind for kind in kinds(config.graph, config.source) if kind.source is not None]
        catalogues = [read_catalogue(spark, kind, date) for kind in there]
        events = read_events(spark, window, clean_events, config.events.returns)
        raw = raw_ids(spark, events, catalogues).persist()
        added, ids = assign(spark, raw, entity_ids, entity_types(config.graph), catalogues)
        spark.catalog.clearCache()
    metrics.put("new_relations", assign_relations(relations, relation_types(config.graph)))
    metrics.put("rows_out", added.total())
    metrics.put("new_ids", detail=dict(added))
    metrics.put("ids", detail=ids)


if __name__ == "__main__":
    main(run)
