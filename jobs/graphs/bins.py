"""Exact quantiles of many groups at once, without bringing a group together in one place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


def quantile_positions(count: int, bins: int) -> list[int]:
    """Positions (from 0) in ascending order of the `bins` − 1 inner quantiles: the smallest value that at least j/bins
    of all do not exceed."""
    return [-(-j * count // bins) - 1 for j in range(1, bins)] if count else []


def bounds(values: DataFrame, bins: Mapping[str, int]) -> dict[str, list[float]]:
    """Group → upper bounds of all its bins but the last. `values`: relation, number; `bins`: group → how many.

    Sorted by Spark's own range partitioning; the driver sees one count per group and partition, then one value per
    bound.
    """
    from pyspark.sql import functions as F

    ordered = (
        values.select("relation", "number")
        .sort("relation", "number")
        .withColumn("at", F.monotonically_increasing_id())
        .persist()
    )
    try:
        parts = (
            ordered.groupBy("relation", F.shiftright("at", 33).alias("part"))
            .agg(F.count("*").alias("n"), F.min("at").alias("first"))
            .collect()
        )
        wanted = _wanted(parts, bins)
        if not wanted:
            return {}
        found = {
            row["at"]: row["number"] for row in ordered.where(F.col("at").isin([at for at, _ in wanted])).collect()
        }
    finally:
        ordered.unpersist()
    result: dict[str, list[float]] = defaultdict(list)
    for at, relation in wanted:
        result[relation].append(found[at])
    return dict(result)


def _wanted(parts: list, bins: Mapping[str, int]) -> list[tuple[int, str]]:
    """(row's `at`, relation) of every quantile; a group's rows stand next to each other in every partition."""
    groups: dict[str, list] = defaultdict(list)
    for row in sorted(parts, key=lambda r: r["part"]):
        groups[row["relation"]].append(row)
    wanted = []
    for relation, rows in groups.items():
        for position in quantile_positions(sum(r["n"] for r in rows), bins[relation]):
            for row in rows:
                if position < row["n"]:
                    wanted.append((row["first"] + position, relation))
                    break
                position -= row["n"]
    return wanted


def ordinal(number: Column, upper: list[float]) -> Column:
    """The bin, from 1: one more than the bounds below the number."""
    from pyspark.sql import functions as F

    below = F.lit(1)
    for bound in upper:
        below = below + (number > F.lit(bound)).cast("int")
    return below
