"""Set down which item and which user has which value of which attribute.

Reads: knowledge_graph of D, relations. Writes: attributes of D. Guarantees: every attribute of the graph of D, numbers
in the bands that the graph cut them into, several values of an entity in several rows; one row per entity, attribute
and value. A graph without attributes skips it, and leaves of an earlier run's rows none.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobs import spark as engine
from jobs.configuration.load import config_hash
from jobs.configuration.sections import Graph, Quality, Spark
from jobs.graphs.checked import write_checked
from jobs.graphs.ledgers import RelationType, relation_ids, relation_types
from jobs.program import Input, Output, Skip, code_version, main, metrics
from jobs.quality import suites
from jobs.quality.check import prepare

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


@dataclass(frozen=True)
class Config:
    graph: Graph
    spark: Spark
    quality: Quality = Quality()


def attribute_relations(graph: Graph) -> list[RelationType]:
    """The relations of the configured graph that lead from an item or a user to a value."""
    return [relation for relation in relation_types(graph) if relation.name not in graph.behaviors]


def attribute_rows(
    spark: SparkSession, edges: DataFrame, relations: list[RelationType], numbers: dict[str, int]
) -> DataFrame:
    """entity_type, entity, type, value. numbers: the ledger id of each relation by its name."""
    from pyspark.sql import functions as F

    known = [(numbers[relation.name], relation.head_type, relation.name) for relation in relations]
    names = spark.createDataFrame(known, "relation long, entity_type string, type string")
    joined = edges.join(F.broadcast(names), "relation")
    return joined.select("entity_type", F.col("head").alias("entity"), "type", F.col("tail").alias("value"))


def made_from(config: Config, knowledge_graph: Input, dt: str) -> dict[str, Any]:
    """Fields of the manifest."""
    return {"inputs": {"knowledge_graph": knowledge_graph.lineage(dt)}, "config_hash": config_hash(config.graph),
            "code_version": code_version()}  # fmt: skip


def run(
    date: datetime.date, knowledge_graph: Input, relations: Input, attributes: Output, config: Config
) -> None:
    """Commit the attributes of D."""
    wanted, dt = attribute_relations(config.graph), date.isoformat()
    graph, names = knowledge_graph.table(), [relation.name for relation in wanted]
    numbers = relation_ids(relations, wanted)
    prepare()
    with engine.session(config.spark, "build_attributes") as spark:
        edges = engine.read(spark, graph.disk, graph.files(dt), knowledge_graph.contract)
        rows = attribute_rows(spark, edges, wanted, numbers).persist()
        if rows.isEmpty():
            if attributes.table().manifest(dt) is not None:  # of an earlier run, whose graph had some
                with attributes.table().replace(dt) as commit:
                    empty = attributes.contract.arrow_schema().empty_table()
                    commit.write_table(empty, sorted_by=list(attributes.contract.sorted_by))
                    commit.fields |= made_from(config, knowledge_graph, dt)
            raise Skip(f"No item and no user of the graph of {date} has an attribute; the configuration names "
                       f"{names or 'none'}. Name some under graph.item_attributes or graph.user_attributes.")
        with attributes.table().replace(dt) as commit:
            suite = suites.attributes(names)
            page = config.quality.page(date, "attributes")
            write_checked(spark, rows, commit, attributes.contract, suite, page)
            commit.fields |= made_from(config, knowledge_graph, dt)
        metrics.put("attributes", detail={row["type"]: row["count"] for row in rows.groupBy("type").count().collect()})
        rows.unpersist()
    metrics.put("rows_in", graph.existing_manifest(dt).row_count)
    metrics.put("rows_out", attributes.table().existing_manifest(dt).row_count)


if __name__ == "__main__":
    main(run)
