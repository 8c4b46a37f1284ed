"""Which items belong to a client: a predicate over the values that an item has in the knowledge graph.

    {brand: acme}                     items with this value            {category: [tea, coffee]}    with one of these
    {brand: acme, category: tea}      all conditions hold              {item_id: ["85123A"]}        these very items
    {price: {above: 10, up_to: 20}}   numbers: 10 < price ≤ 20; either end may be left out, each is one of the
    attribute's bounds {any: [{…}, {…}]}  {all: [{…}, {…}]}  {not: {…}}                   one holds, all hold, it does
    not hold

Values are compared as text with the graph's value entities, byte by byte; numbers are there as the bins that they fall
into. Standard library only: the configuration checks predicates here.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobs.configuration.messages import joined, listed, shown

if TYPE_CHECKING:
    import numpy as np

    from jobs.configuration.sections import Attribute

ITEM_ID = "item_id"
ABOVE, UP_TO = "above", "up_to"
RANGE = f"such as {{{ABOVE}: 10, {UP_TO}: 20}}"
Having = Callable[[str, tuple[str, ...]], "np.ndarray"]  # (attribute, values) → bool per item: has one of the values


class PredicateError(ValueError):
    """The predicate cannot be read: where, what was found, what would do."""


@dataclass(frozen=True)
class OneOf:
    """The attribute has one of the values."""

    attribute: str
    values: tuple[str, ...]

    def matches(self, having: Having) -> np.ndarray:
        return having(self.attribute, self.values)


@dataclass(frozen=True)
class Every:
    """All parts hold."""

    parts: tuple[Predicate, ...]

    def matches(self, having: Having) -> np.ndarray:
        return functools.reduce(operator.and_, (p.matches(having) for p in self.parts))


@dataclass(frozen=True)
class Some:
    """At least one part holds."""

    parts: tuple[Predicate, ...]

    def matches(self, having: Having) -> np.ndarray:
        return functools.reduce(operator.or_, (p.matches(having) for p in self.parts))


@dataclass(frozen=True)
class Negation:
    """The part does not hold."""

    part: Predicate

    def matches(self, having: Having) -> np.ndarray:
        return ~self.part.matches(having)


Predicate = OneOf | Every | Some | Negation


def parse(tree: Any, path: str, attributes: Mapping[str, Attribute]) -> Predicate:
    """The predicate that `tree`, as YAML gave it, describes; `path` is its dotted path for messages, `attributes` those
    of items. PredicateError."""
    if not isinstance(tree, dict) or not tree:
        raise PredicateError(f"{path} is {shown(tree)}; expected conditions such as {{brand: acme}}, or any, all, not.")
    parts = tuple(_condition(key, value, joined(path, key), attributes) for key, value in tree.items())
    return parts[0] if len(parts) == 1 else Every(parts)


def mentioned(predicate: Predicate) -> frozenset[tuple[str, str]]:
    """(attribute, value) of every condition in it."""
    if isinstance(predicate, OneOf):
        return frozenset((predicate.attribute, value) for value in predicate.values)
    parts = (predicate.part,) if isinstance(predicate, Negation) else predicate.parts
    return frozenset().union(*(mentioned(part) for part in parts))


def _condition(key: str, value: Any, path: str, attributes: Mapping[str, Attribute]) -> Predicate:
    if key in ("any", "all"):
        if not isinstance(value, list) or not value:
            raise PredicateError(f"{path} is {shown(value)}; expected a list of predicates.")
        parts = tuple(parse(v, f"{path}[{i}]", attributes) for i, v in enumerate(value))
        return Some(parts) if key == "any" else Every(parts)
    if key == "not":
        return Negation(parse(value, path, attributes))
    if key != ITEM_ID and key not in attributes:
        known = listed([*sorted(attributes), ITEM_ID, "any", "all", "not"])
        raise PredicateError(f"Unknown key '{path}': no item attribute of the graph is called so. Known here: {known}.")
    is_number = key in attributes and attributes[key].type == "number"
    if is_number and isinstance(value, dict):
        return OneOf(key, _bins_within(value, path, key, attributes[key]))
    values = value if isinstance(value, list) else [value]
    if not values or any(isinstance(v, (dict, list)) or v is None for v in values):
        raise PredicateError(f"{path} is {shown(value)}; expected a value or a list of values.")
    if is_number and not set(values) <= set(attributes[key].bin_names):
        names = listed(attributes[key].bin_names)
        raise PredicateError(
            f"{path} is {shown(value)}; {key} is a number, of which the graph knows bins: expected some of {names}, "
            f"or a range {RANGE}."
        )
    return OneOf(key, tuple(_text(v) for v in values))


def _bins_within(span: dict[str, Any], path: str, key: str, attribute: Attribute) -> tuple[str, ...]:
    """The bins of a range. Only between bounds of the configuration: quantiles differ from night to night, and cut
    where they cut."""
    bounds = attribute.bounds
    if not span or not set(span) <= {ABOVE, UP_TO} or not bounds or any(end not in bounds for end in span.values()):
        there = (
            f"among its bounds {shown(bounds)}"
            if bounds
            else f"among its bounds, and it has none: add graph.item_attributes.{key}.bounds"
        )
        raise PredicateError(f"{path} is {shown(span)}; expected a range {RANGE} with ends {there}.")
    first = bounds.index(span[ABOVE]) + 1 if ABOVE in span else 0
    last = bounds.index(span[UP_TO]) if UP_TO in span else len(bounds)
    if first > last:
        raise PredicateError(f"{path} is {shown(span)}: no number is in it; expected {ABOVE} to be less than {UP_TO}.")
    return tuple(attribute.bin_names[first : last + 1])


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
