"""A night's sides by hand: several attributes of one entity, values that two attributes share, and who has nothing."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from jobs.arrays import INDUCTIVE, NONE, TRAINED, Night
from jobs.embeddings.ram_gnn_sides import TIMED, NightSide, pair_times, sides_of, user_item_pairs, vectors_of_night
from jobs.program import JobError
from jobs.tables import TABLES

TYPES = ["item", "tag", "user"]
NAMES = ["item_mood", "item_tag", "purchase"]
# item 10 is red by both attributes, item 11 red by its mood and blue by its tag, item 12 has nothing and no event
ROWS = [(10, "item_mood", 7), (11, "item_mood", 7), (10, "item_tag", 7), (11, "item_tag", 8)]


def night_of(pairs: list[tuple[int, int]]) -> Night:
    """Items 10 to 12, tags 7 and 8, users 20 and 21; pairs: (user, item) in the night's indices of all."""
    heads, tails = np.array(pairs, np.int64).reshape(-1, 2).T
    types, ids = np.array([0, 0, 0, 1, 1, 2, 2]), np.array([10, 11, 12, 7, 8, 20, 21])
    return Night(
        TYPES, types, ids, pa.chunked_array([[f"e{i}" for i in ids]]), np.array([4, 5, 6]), NAMES,
        np.array([0, 0, 2]), np.array([1, 1, 0]), heads, np.full(len(heads), 2), tails, np.ones(len(heads), np.int64))


NIGHT = night_of([(5, 0), (5, 1)])  # user 20 bought items 10 and 11, user 21 nothing


def attributes(rows: list[tuple[int, str, int]]) -> pa.Table:
    found = [{"entity_type": "item", "entity": e, "type": t, "value": v} for e, t, v in rows]
    return pa.Table.from_pylist(found, TABLES["attributes"].arrow_schema())


def test_every_attribute_is_a_type_and_a_value_is_one_of_an_attribute() -> None:
    side = NightSide.of(NIGHT, "item", attributes(ROWS))
    rows = side.side.rows
    types, value_types, value_ids = side.ids(NIGHT)
    assert side.side.names == ("item_mood", "item_tag") and types.tolist() == [4, 5]
    assert list(zip(value_types.tolist(), value_ids.tolist(), strict=True)) == [(4, 7), (5, 7), (5, 8)]
    assert list(zip(rows.entities.tolist(), rows.values.tolist(), strict=True)) == [(0, 0), (0, 1), (1, 0), (1, 2)]
    assert rows.n_entities == 3 and len(set(side.side.value_keys.tolist())) == 3, "red of one is not red of the other"


def test_rows_of_another_graph_are_refused() -> None:
    for row, said in (((13, "item_tag", 7), "entity of type 'item'"), ((10, "item_tag", 9), "entity of type 'tag'"),
                      ((10, "item_maker", 7), "'item_maker', of which the graph has no edge")):  # fmt: skip
        with pytest.raises(JobError, match=said):
            NightSide.of(NIGHT, "item", attributes([row]))


def test_who_has_neither_an_attribute_nor_an_event_takes_the_mean_of_the_side() -> None:
    vectors = np.array([[2, 0], [0, 3], [9, 9]], np.float32)
    found, source = vectors_of_night(NIGHT, sides_of(NIGHT, attributes(ROWS)), {"item": vectors})
    middle = np.sqrt([0.5, 0.5])
    expected = [[1, 0], [0, 1], middle, [0, 0], [0, 0], middle, middle]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert source.tolist() == [TRAINED, TRAINED, INDUCTIVE, NONE, NONE, INDUCTIVE, INDUCTIVE]


def timed(rows: list[tuple[int, int, int]]) -> pa.Table:
    """Interactions of (user, item) by ledger id, at so many microseconds."""
    schema = pa.schema([TABLES["interactions"].arrow_schema().field(name) for name in TIMED])
    return pa.Table.from_pylist([dict(zip(TIMED, row, strict=True)) for row in rows], schema)


def test_a_pair_was_when_any_of_its_behaviours_was_last() -> None:
    """Of users and items that the graph does not have nothing is asked."""
    night = night_of([(6, 1), (5, 0), (5, 1)])
    rows = [(20, 10, 7), (20, 11, 3), (20, 10, 9), (20, 10, 8), (21, 11, 4), (99, 10, 50), (20, 99, 60)]
    assert pair_times(night, user_item_pairs(night), timed(rows)).tolist() == [4, 9, 3]


def test_interactions_of_another_graph_are_refused() -> None:
    with pytest.raises(JobError, match="1 of 2 pairs of the graph are not in the night's interactions.*build_interac"):
        pair_times(NIGHT, user_item_pairs(NIGHT), timed([(20, 10, 7), (21, 11, 3)]))
