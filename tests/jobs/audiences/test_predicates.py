"""Predicates on items against sets of item numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jobs.audiences.predicates import PredicateError, parse

VALUES = {
    "brand": ["acme", "acme", "zeta", "zeta", None], "words": ["mug", "tea", "mug", "sign", "mug"], "size": ["1", "2", "true", "1", "1"],
    "item_id": ["a", "b", "c", "d", "e"]}  # fmt: skip


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
])  # fmt: skip
def test_a_predicate_finds_its_items(tree: dict[str, Any], wanted: set[int]) -> None:
    assert set(np.flatnonzero(parse(tree, "p", ["brand", "words", "size"]).matches(having))) == wanted


@pytest.mark.parametrize(("tree", "message"), [
    ({}, "clients.x is {}"),
    ("acme", "clients.x is 'acme'"),
    ({"brnd": "acme"}, "Unknown key 'clients.x.brnd'.*brand"),
    ({"any": {"brand": "acme"}}, "clients.x.any is"),
    ({"any": [{"not": {"brand": None}}]}, r"clients.x.any\[0\].not.brand is None"),
    ({"brand": []}, r"clients.x.brand is \[\]"),
])  # fmt: skip
def test_an_unreadable_predicate_names_the_place(tree: Any, message: str) -> None:
    with pytest.raises(PredicateError, match=message):
        parse(tree, "clients.x", ["brand"])
