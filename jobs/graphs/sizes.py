"""What a graph holds: edges by relation, entities by type, and what the catalogues lack of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jobs.graphs.ledgers import RelationType
from jobs.program import log, metrics

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

OWN_SHARE, FEWEST_ENTITIES = 0.6, 20  # of values among the entities that have one: from here on they are warned of


@dataclass(frozen=True)
class Sizes:
    """Counts by name; of users and items those in the graph, with or without an edge to an attribute."""

    edges: dict[str, int]
    heads: dict[str, int]  # relation → different heads
    entities: dict[str, int]
    without_row: dict[str, int]  # user, item → how many the catalogue does not have; only where there is one
    unknown: int  # edges with an end that no ledger knows
    values: dict[str, int] = field(default_factory=dict)  # relation → different tails


def measure(edges: DataFrame, census: DataFrame, relations: Mapping[int, RelationType]) -> Sizes:
    """`edges`: head, relation, tail, count; `census`: type, id, has_row (null where there is no catalogue), repeats
    allowed."""
    from pyspark.sql import functions as F

    lost = F.count_if(F.col("head").isNull() | F.col("tail").isNull())
    rows = (
        edges.groupBy("relation")
        .agg(
            F.count("*").alias("edges"),
            F.countDistinct("head").alias("heads"),
            F.countDistinct("tail").alias("tails"),
            lost.alias("unknown"),
        )
        .collect()
    )
    found = {relations[row["relation"]]: row for row in rows}
    once = census.groupBy("type", "id").agg(F.max("has_row").alias("has_row"))
    counted = (
        once.groupBy("type")
        .agg(
            F.count("*").alias("n"), F.count_if(~F.col("has_row")).alias("without"), F.count("has_row").alias("judged")
        )
        .collect()
    )
    entities = {row["type"]: row["n"] for row in counted} | _values(edges, found, relations)
    return Sizes(
        {relation.name: row["edges"] for relation, row in found.items()},
        {relation.name: row["heads"] for relation, row in found.items()},
        entities,
        {row["type"]: row["without"] for row in counted if row["judged"]},
        sum(row["unknown"] for row in rows),
        {relation.name: row["tails"] for relation, row in found.items()},
    )


def _values(
    edges: DataFrame, found: Mapping[RelationType, dict], relations: Mapping[int, RelationType]
) -> dict[str, int]:
    """Value types → different values; types that several relations lead to are counted over all of them."""
    from pyspark.sql import functions as F

    by_type: dict[str, list[RelationType]] = {}
    for relation in found:
        if relation.head_type != "user" or relation.tail_type != "item":
            by_type.setdefault(relation.tail_type, []).append(relation)
    shared = {r.name: kind for kind, several in by_type.items() if len(several) > 1 for r in several}
    counts = {kind: found[several[0]]["tails"] for kind, several in by_type.items() if len(several) == 1}
    if shared:
        names = F.create_map(
            *(F.lit(x) for number, r in relations.items() if r.name in shared for x in (number, shared[r.name]))
        )
        kinds = edges.select(names[F.col("relation")].alias("type"), "tail").where("type is not null").distinct()
        counts |= {row["type"]: row["count"] for row in kinds.groupBy("type").count().collect()}
    return counts


def report(sizes: Sizes, attribute_relations: Mapping[str, str]) -> None:
    """The night's figures, and warnings about what the catalogues lack. `attribute_relations`: relation → user or
    item."""
    metrics.put("entities", detail=sizes.entities)
    metrics.put("edges", detail=sizes.edges)
    for kind, count in sizes.without_row.items():
        metrics.put(f"{kind}s_not_in_catalogue", count)
        if count:
            log.warning(
                "%s of the graph's %s %ss are not in the catalogue: they have no attributes",
                count,
                sizes.entities[kind],
                kind,
            )
    lacking = {
        relation: sizes.entities.get(kind, 0) - sizes.heads.get(relation, 0)
        for relation, kind in attribute_relations.items()
    }
    metrics.put("attributes_missing", sum(lacking.values()), detail=lacking)
    for relation, count in lacking.items():
        if count:
            log.warning("%s of the graph's %ss have no %s", count, attribute_relations[relation], relation)
    own = own_values(sizes, attribute_relations)
    metrics.put("own_values", len(own), detail=own)
    for relation, (values, heads) in own.items():
        log.warning(
            "%s has %s values among %s %ss: nearly every one has its own, which tells nothing of the others. Lists in "
            "a text want {column: …, separator: …} under source.*.columns; numbers type: number",
            relation, values, heads, attribute_relations[relation])


def own_values(sizes: Sizes, attribute_relations: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """Relation → (values, entities that have one), of attributes with nearly as many values as entities."""
    found = {name: (sizes.values.get(name, 0), sizes.heads.get(name, 0)) for name in attribute_relations}
    return {
        name: (values, heads) for name, (values, heads) in found.items()
        if heads >= FEWEST_ENTITIES and values >= OWN_SHARE * heads}
