"""What must hold of each table, as plain specifications built from jobs/tables.py; check.py has Great Expectations
evaluate them.

Vectors are checked through derived columns: `<column>_length`, `<column>_finite`, `<column>_norm`.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from jobs.tables import TABLES

MAX_ID_CHARACTERS = 1024  # 1,024 bytes hold no more characters
INFINITY_FREE = 3.4028235e38  # the largest float32: NaN and infinity lie outside ±this


@dataclass(frozen=True)
class Expectation:
    """One claim: the class of great_expectations.expectations that evaluates it, with its arguments."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def column(self) -> str | None:
        """The column or columns that the claim is about; None for the table as a whole."""
        columns = self.arguments.get("column_list")
        return ", ".join(columns) if columns else self.arguments.get("column")


@dataclass(frozen=True)
class Suite:
    """The claims about one table; `vectors` are the columns to derive length, finite and norm from."""

    table: str
    expectations: tuple[Expectation, ...]
    vectors: tuple[str, ...] = ()


def clean_events(behaviors: Collection[str], earliest: datetime.date, until: datetime.date) -> Suite:
    """Events of [earliest, until), of known behaviours."""
    first, last = (datetime.datetime.combine(day, datetime.time(), datetime.UTC) for day in (earliest, until))
    return Suite("clean_events", (
        *contract("clean_events"),
        _lengths("user_id", 0, MAX_ID_CHARACTERS),
        _lengths("item_id", 0, MAX_ID_CHARACTERS),
        _among("behavior", behaviors),
        _between("event_time", first, last, strict_max=True),
        _between("quantity", -INFINITY_FREE, INFINITY_FREE),
        _between("value", -INFINITY_FREE, INFINITY_FREE),
    ))


def knowledge_graph() -> Suite:
    """Ids as the ledgers give them, one row per edge."""
    return Suite("knowledge_graph", (
        *contract("knowledge_graph"),
        *(_between(name, 0) for name in ("head", "relation", "tail")),
        _between("count", 1),
        _unique("relation", "head", "tail"),
    ))


def interactions(behaviors: Collection[str]) -> Suite:
    """One row per user, item and behaviour."""
    return Suite("interactions", (
        *contract("interactions"),
        _between("user", 0),
        _between("item", 0),
        _among("behavior", behaviors),
        _between("count", 1),
        _unique("user", "item", "behavior"),
    ))


def user_activity() -> Suite:
    """One row per user, with events in order."""
    return Suite("user_activity", (*contract("user_activity"), _between("n_days", 1), _unique("user_id")))


def attributes(types: Collection[str]) -> Suite:
    """One row per entity, attribute and value, of the configured attributes."""
    return Suite("attributes", (
        *contract("attributes"),
        _among("entity_type", ("item", "user")),
        _among("type", types),
        _between("entity", 0),
        _between("value", 0),
        _unique("type", "value", "entity"),
    ))


def sequences(behaviors: Collection[str], max_length: int) -> Suite:
    """One row per place of a user's history, which has so many at most."""
    return Suite("sequences", (
        *contract("sequences"),
        _between("user", 0),
        _between("item", 0),
        _between("position", 0, max_length - 1),
        _among("behavior", behaviors),
        _unique("user", "position"),
    ))


def entity_embeddings(dimension: int) -> Suite:
    """Finite vectors of one length, one per entity."""
    return Suite(
        "entity_embeddings",
        (*contract("entity_embeddings"), *_vector("embedding", dimension), _unique("entity_type", "id")),
        ("embedding",),
    )


def user_embeddings(dimension: int, min_norm: float = 0.0, max_norm: float = INFINITY_FREE) -> Suite:
    """Finite vectors of one length within [min_norm, max_norm], one per user."""
    return Suite("user_embeddings", (
        *contract("user_embeddings"),
        *_vector("embedding", dimension, min_norm, max_norm),
        _unique("user_id"),
        _among("source", ("trained", "inductive", "carried")),
        _between("n_events", 0),
    ), ("embedding",))


def contract(table: str) -> tuple[Expectation, ...]:
    """The columns of jobs/tables.py, all there, nothing besides, no nulls where none may be; and at least one row."""
    fields = TABLES[table].fields
    vectors = [f.name for f in fields if f.type == "vector"]
    derived = [f"{name}_{part}" for name in vectors for part in ("length", "finite", "norm")]
    names = [f.name for f in fields if f.name not in vectors] + derived
    return (
        Expectation("ExpectTableRowCountToBeBetween", {"min_value": 1}),
        Expectation("ExpectTableColumnsToMatchSet", {"column_set": names, "exact_match": True}),
        *(
            Expectation("ExpectColumnValuesToNotBeNull", {"column": f.name})
            for f in fields
            if not f.nullable and f.type != "vector"
        ),
    )


def _vector(
    column: str, dimension: int, min_norm: float = 0.0, max_norm: float = INFINITY_FREE
) -> tuple[Expectation, ...]:
    return (
        _between(f"{column}_length", dimension, dimension),
        _among(f"{column}_finite", [True]),
        Expectation("ExpectColumnValuesToNotBeNull", {"column": f"{column}_norm"}),
        _between(f"{column}_norm", min_norm, max_norm),
    )


def _between(column: str, low: Any, high: Any = None, *, strict_max: bool = False) -> Expectation:
    limits = {"min_value": low, "max_value": high, "strict_max": strict_max}
    return Expectation(
        "ExpectColumnValuesToBeBetween", {"column": column} | {k: v for k, v in limits.items() if v is not None}
    )


def _among(column: str, values: Collection[Any]) -> Expectation:
    return Expectation("ExpectColumnValuesToBeInSet", {"column": column, "value_set": list(values)})


def _lengths(column: str, low: int, high: int) -> Expectation:
    return Expectation("ExpectColumnValueLengthsToBeBetween", {"column": column, "min_value": low, "max_value": high})


def _unique(*columns: str) -> Expectation:
    if len(columns) == 1:
        return Expectation("ExpectColumnValuesToBeUnique", {"column": columns[0]})
    return Expectation("ExpectCompoundColumnsToBeUnique", {"column_list": list(columns)})
