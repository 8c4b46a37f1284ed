"""The table of the heaviest messages against a sort by hand."""

from __future__ import annotations

import numpy as np

from models.messages.attention_table import AttentionTable, heaviest
from tests.models.test_graph import random_graph

Row = tuple[int, int, int, float, int]


def rows_of(table: AttentionTable) -> list[Row]:
    columns = (table.nodes, table.neighbours, table.codes, table.weights, table.ranks)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_the_heaviest_come_first_and_no_more_than_asked_for() -> None:
    """Weights of few sizes, so that many are equal; the messages come in any order."""
    graph, random = random_graph(n_edges=200), np.random.default_rng(1)
    first, last = 3, 9
    messages = graph.into(first, last)
    n = messages.from_nodes.sources.numel()
    message, weights = random.permutation(n), random.integers(3, size=n).astype(np.float64)
    wanted, most = random.random(graph.n_entities) < 0.8, random.integers(1, 5, size=graph.n_entities)
    sources, codes = messages.from_nodes.sources.tolist(), messages.from_relations.sources.tolist()
    destinations = messages.from_nodes.destinations.tolist()
    expected: list[Row] = []
    for node in (node for node in range(first, last) if wanted[node]):
        heard = [
            (-weights[place], sources[one], codes[one])
            for place, one in enumerate(message)
            if destinations[one] == node - first
        ]
        kept = sorted(heard)[: most[node]]
        expected += [(node, source, code, -weight, rank) for rank, (weight, source, code) in enumerate(kept)]
    found = heaviest(messages, message, weights, first, wanted, most)
    assert rows_of(found) == expected and len(expected) > 10
    assert found.weights.dtype == np.float32


def test_tables_are_joined_row_after_row_and_none_give_an_empty_one() -> None:
    kinds = (np.int64, np.int64, np.int64, np.float32, np.int64)
    one = AttentionTable(*(np.array([5, 2], kind) for kind in kinds))
    joined, empty = AttentionTable.joined([one, one]), AttentionTable.joined([])
    assert rows_of(joined) == 2 * rows_of(one) and rows_of(empty) == []
    for table in (joined, empty):
        columns = (table.nodes, table.neighbours, table.codes, table.weights, table.ranks)
        assert [column.dtype for column in columns] == list(kinds)
