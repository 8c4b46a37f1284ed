"""Build the night's knowledge graph: user –behaviour→ item, item –attribute→ value, user –attribute→ value.

Reads: clean_events of the window, entity_ids, relations; items and users of the sources. Writes: knowledge_graph of D.
Guarantees: only events in [D − window, D), each behaviour in its own window; an item or user is in the graph with such
an event, or from its valid_from; the bins of number attributes are cut, and rare values counted, over these entities
only. Items without a row in the catalogue and entities without a value are counted, and stay in the graph by their
events.
"""

from __future__ import annotations

import datetime
import functools
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs import spark as engine
from jobs.configuration.load import config_hash
from jobs.configuration.sections import Events, Graph, Quality, Source, Spark
from jobs.events.fingerprint import require_unchanged
from jobs.graphs import bins
from jobs.graphs.build_interactions import require_known, with_ids
from jobs.graphs.catalogue import Catalogue, Kind, attribute_rows, kinds, read_catalogue
from jobs.graphs.checked import write_checked
from jobs.graphs.ledgers import (
    ITEM,
    USER,
    RelationType,
    entity_types,
    ledger,
    ledgers,
    relation_ids,
    relation_types,
    snapshots,
)
from jobs.graphs.sizes import Sizes, measure, report
from jobs.graphs.window import Window, known_at, open_window, read_events
from jobs.program import Input, JobError, Output, code_version, main, metrics
from jobs.quality import suites
from jobs.quality.check import prepare

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession


@dataclass(frozen=True)
class Config:
    graph: Graph
    source: Source
    events: Events
    spark: Spark
    quality: Quality = Quality()


def event_edges(events: DataFrame, users: DataFrame, items: DataFrame) -> DataFrame:
    """name, head, tail, count: one edge per user, behaviour and item."""
    from pyspark.sql import functions as F

    counted = events.groupBy("user_id", "item_id", "behavior").agg(F.count("*").alias("count"))
    return with_ids(counted, users, items).select(
        F.col("behavior").alias("name"), F.col("user").alias("head"), F.col("item").alias("tail"), "count"
    )


def in_graph(catalogue: Catalogue, ids: DataFrame, present: DataFrame) -> DataFrame:
    """The catalogue's rows of entities in the graph of D, with their ledger id as `head`; `present` holds the ids with
    an event."""
    from pyspark.sql import functions as F

    known = catalogue.frame.join(ids.select(F.col("id").alias("head"), "raw"), "raw")
    marked = known.join(present.select(F.col("id").alias("head"), F.lit(True).alias("has_event")), "head", "left")
    return marked.where(F.col("has_event") | F.col("enters"))


def attributes(rows: DataFrame, kind: Kind, value_ids: DataFrame) -> tuple[DataFrame, dict[str, list[float]]]:
    """(name, head, tail, count of a kind's attributes; relation → bounds of its bins). `rows` as `in_graph` gives
    them."""
    from pyspark.sql import functions as F

    values = frequent(attribute_rows(rows, kind, ["head"]), kind)
    bounds = {relation: attribute.bounds for relation, attribute in kind.numbers.items() if attribute.bounds}
    counts = {relation: attribute.bins for relation, attribute in kind.numbers.items() if not attribute.bounds}
    if counts:
        bounds |= bins.bounds(values.where(F.col("number").isNotNull() & F.col("relation").isin(list(counts))), counts)
    named = values.withColumn("raw", F.coalesce("value", _bin_names(bounds, kind)))
    joined = named.join(value_ids.withColumnsRenamed({"type": "tail_type", "id": "tail"}), ["tail_type", "raw"], "left")
    edges = joined.select(F.col("relation").alias("name"), "head", "tail", F.lit(1).cast("bigint").alias("count"))
    return edges.distinct(), bounds


def frequent(values: DataFrame, kind: Kind) -> DataFrame:
    """Without the values that fewer entities have than their attribute's `min_entities`; `values`: head, relation,
    value, …, each once."""
    from pyspark.sql import functions as F

    least = {
        kind.relation(name): attribute.min_entities
        for name, attribute in kind.attributes.items()
        if attribute.min_entities > 1
    }
    if not least:
        return values
    enough = functools.reduce(
        operator.or_, ((F.col("relation") == relation) & (F.col("n") >= n) for relation, n in least.items())
    )
    judged = F.col("relation").isin(list(least)) & F.col("value").isNotNull()
    kept = (
        values.where(judged)
        .groupBy("relation", "value")
        .agg(F.count("*").alias("n"))
        .where(enough)
        .select("relation", "value")
    )
    return values.where(~judged).unionByName(
        values.where(judged).join(kept, ["relation", "value"], "left_semi").select(*values.columns)
    )


def _bin_names(bounds: dict[str, list[float]], kind: Kind) -> Column:
    from pyspark.sql import functions as F

    result = F.lit(None).cast("string")
    for relation, upper in bounds.items():
        names = F.array(*(F.lit(name) for name in kind.numbers[relation].bin_names))
        result = F.when(
            F.col("relation") == relation, F.element_at(names, bins.ordinal(F.col("number"), upper))
        ).otherwise(result)
    return result


def with_relation_ids(edges: DataFrame, ids: dict[str, int]) -> DataFrame:
    """head, relation, tail, count."""
    from pyspark.sql import functions as F

    relation = functools.reduce(
        lambda rest, one: F.when(F.col("name") == one[0], F.lit(one[1])).otherwise(rest), ids.items(), F.lit(None)
    )
    return edges.select("head", relation.cast("bigint").alias("relation"), "tail", "count")


@dataclass(frozen=True)
class Built:
    """A graph that is not committed yet; its frames are persisted."""

    edges: DataFrame  # head, relation, tail, count
    relations: dict[int, RelationType]
    census: DataFrame  # type, id, has_row: see sizes.measure
    catalogues: list[Catalogue]
    bounds: dict[str, list[float]]  # relation → upper bounds of its bins

    def fields(self) -> dict:
        """What the manifest says of it."""
        static = [c.kind.relation(name) for c in self.catalogues if c.static for name in c.kind.attributes]
        return {
            "relations": {r.name: number for number, r in self.relations.items()},
            "static_attributes": sorted(static),
            "bin_bounds": self.bounds,
            "sources": {c.kind.path: c.files for c in self.catalogues},
        }

    def attribute_relations(self) -> dict[str, str]:
        return {c.kind.relation(name): c.kind.entity_type for c in self.catalogues for name in c.kind.attributes}


def build(
    spark: SparkSession, events: DataFrame, date: datetime.date, entity_ids: Input, relations: Input, config: Config
) -> Built:
    """The graph of D from the events that it may see."""
    from pyspark.sql import functions as F

    wanted = relation_types(config.graph)
    numbers = relation_ids(relations, wanted)
    found = snapshots(entity_ids, entity_types(config.graph))
    ids = {kind: ledger(spark, found[kind]) for kind in (USER, ITEM)}
    values = ledgers(spark, {name: snapshot for name, snapshot in found.items() if name not in ids})
    edges = by_event = event_edges(events, ids[USER], ids[ITEM]).persist()
    catalogues, census, bounds = [], [], {}
    for kind, column in zip(kinds(config.graph, config.source), ("tail", "head"), strict=True):
        present = by_event.select(F.col(column).alias("id")).where("id is not null").distinct()
        census.append(
            present.select(
                F.lit(kind.entity_type).alias("type"),
                "id",
                F.lit(None if kind.source is None else False).cast("boolean").alias("has_row"),
            )
        )
        if kind.source is None:
            continue
        catalogues.append(read_catalogue(spark, kind, date))
        rows = in_graph(catalogues[-1], ids[kind.entity_type], present).persist()
        census.append(
            rows.select(F.lit(kind.entity_type).alias("type"), F.col("head").alias("id"), F.lit(True).alias("has_row"))
        )
        if kind.attributes:
            of_kind, cut = attributes(rows, kind, values)
            edges, bounds = edges.unionByName(of_kind), bounds | cut
    edges = with_relation_ids(edges, numbers).persist()
    by_number = {numbers[relation.name]: relation for relation in wanted}
    return Built(edges, by_number, functools.reduce(lambda a, b: a.unionAll(b), census), catalogues, bounds)


def run(
    date: datetime.date,
    clean_events: Input,
    entity_ids: Input,
    relations: Input,
    knowledge_graph: Output,
    config: Config,
) -> None:
    """Commit the knowledge graph of D."""
    prepare()
    graph, dt = config.graph, date.isoformat()
    window = open_window(clean_events, date, graph.window_days)
    metrics.put("rows_in", window.rows)
    with engine.session(config.spark, "build_knowledge_graph") as spark:
        events = known_at(read_events(spark, window, clean_events, config.events.returns), date, graph.windows)
        built = build(spark, events, date, entity_ids, relations, config)
        sizes = measure(built.edges, built.census, built.relations)
        require_known(sizes.unknown, entity_ids, date)
        require_events(sizes, graph, window)
        with knowledge_graph.table().replace(dt) as commit:
            write_checked(
                spark,
                built.edges,
                commit,
                knowledge_graph.contract,
                suites.knowledge_graph(),
                config.quality.page(date, "knowledge_graph"),
            )
            for catalogue in built.catalogues:
                require_unchanged(catalogue.stamps)
            commit.fields |= built.fields() | {
                "window": window.fields | {"behaviors": graph.windows}, "inputs": {"clean_events": window.inputs},
                "returns": config.events.returns,
                "config_hash": config_hash(graph), "code_version": code_version()}  # fmt: skip
        spark.catalog.clearCache()
    report(sizes, built.attribute_relations())
    metrics.put("rows_out", sum(sizes.edges.values()))


def require_events(sizes: Sizes, graph: Graph, window: Window) -> None:
    """JobError when no behaviour has an edge."""
    if not any(sizes.edges.get(name) for name in graph.behaviors):
        raise JobError(
            f"None of the {window.rows} events from {window.days[0]} until before {window.date} is of "
            f"{sorted(graph.behaviors)} within its window; "
            "expected at least one. Check graph.behaviors and the windows."
        )


if __name__ == "__main__":
    main(run)
