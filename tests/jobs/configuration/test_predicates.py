"""Predicates on items against sets of item numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jobs.configuration.predicates import PredicateError, parse
from jobs.configuration.sections import Attribute

VALUES = {
    "brand": ["acme", "acme", "zeta", "zeta", None],
    "words": ["mug", "tea", "mug", "sign", "mug"],
    "size": ["1", "2", "true", "1", "1"],
    "price": ["bin_1_of_3", "bin_2_of_3", "bin_3_of_3", "bin_2_of_3", None],
    "item_id": ["a", "b", "c", "d", "e"],
}


ATTRIBUTES = {name: Attribute() for name in ("brand", "words", "size")} | {
    "price": Attribute("number", bounds=[10.0, 20.0]),
    "weight": Attribute("number", bins=4),
}


def having(attribute: str, values: tuple[str, ...]) -> np.ndarray:
    return np.array([v in values for v in VALUES[attribute]])


@pytest.mark.parametrize(("tree", "wanted"), [
    ({"brand": "acme"}, {0, 1}),
    ({"brand": ["acme", "zeta"]}, {0, 1, 2, 3}),
    ({"brand": "acme", "words": "mug"}, {0}),
    ({"any": [{"brand": "acme"}, {"words": "sign"}]}, {0, 1, 3}),
    ({"all": [{"brand": "zeta"}, {"not": {"words": "sign"}}]}, {2}),
    ({"not": {"brand": "acme"}}, {2, 3, 4}),
    ({"words": "mug", "not": {"any": [{"brand": "acme"}, {"item_id": "e"}]}}, {2}),
    ({"item_id": ["a", "d", "unknown"]}, {0, 3}),
    ({"size": 1}, {0, 3, 4}),
    ({"size": True}, {2}),
    ({"price": {"above": 10, "up_to": 20}}, {1, 3}),
    ({"price": {"above": 10}}, {1, 2, 3}),
    ({"price": {"up_to": 10.0}}, {0}),
    ({"price": "bin_3_of_3"}, {2}),
    ({"not": {"price": {"up_to": 20}}, "brand": "zeta"}, {2}),
])  # fmt: skip
def test_a_predicate_finds_its_items(tree: dict[str, Any], wanted: set[int]) -> None:
    assert set(np.flatnonzero(parse(tree, "p", ATTRIBUTES).matches(having))) == wanted


@pytest.mark.parametrize(("tree", "message"), [
    ({}, "clients.x is {}"),
    ("acme", "clients.x is 'acme'"),
    ({"brnd": "acme"}, "Unknown key 'clients.x.brnd'.*brand"),
    ({"any": {"brand": "acme"}}, "clients.x.any is"),
    ({"any": [{"not": {"brand": None}}]}, r"clients.x.any\[0\].not.brand is None"),
    ({"price": 10}, "clients.x.price is 10; price is a number.*bin_1_of_3.*above: 10"),
    ({"price": {"above": 12}}, r"clients.x.price is {'above': 12}; expected a range.*its bounds \[10.0, 20.0\]"),
    ({"price": {"min": 10}}, "clients.x.price is {'min': 10}; expected a range such as {above: 10, up_to: 20}"),
    ({"price": {"above": 20, "up_to": 10}}, "no number is in it"),
    ({"weight": {"above": 10}}, "it has none: add graph.item_attributes.weight.bounds"),
    ({"brand": {"above": 10}}, "clients.x.brand is .*expected a value"),
    ({"brand": []}, r"clients.x.brand is \[\]"),
])  # fmt: skip
def test_an_unreadable_predicate_names_the_place(tree: Any, message: str) -> None:
    with pytest.raises(PredicateError, match=message):
        parse(tree, "clients.x", ATTRIBUTES)
