"""Ranks against a slow count over all candidates, ties in the middle, and figures with known answers."""

from __future__ import annotations

import numpy as np
import pytest

from models.learning.negatives import Pools
from models.vectors.ranking import filtered_ranks, hits_at, known_answers, mean_reciprocal_rank, rank_targets


def slow_rank(query: np.ndarray, table: np.ndarray, target: int, candidates: set[int], norm: str) -> float:
    """Sort the candidates by distance and take the mean of the first and the last place the target could have."""
    distances = {c: np.linalg.norm(query - table[c], 1 if norm == "l1" else 2) for c in candidates | {target}}
    before = sum(d < distances[target] for d in distances.values())
    equal = sum(d == distances[target] for d in distances.values())
    return (1 + before + before + equal) / 2


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("typed", [False, True])
def test_filtered_ranks_equal_a_slow_count(norm: str, typed: bool) -> None:
    rng = np.random.default_rng(0)
    n, m, d = 40, 3, 21
    entities = rng.integers(-2, 3, (n, d)).astype(np.float32)  # integers: exact sums, hence exact ties
    entities[7] = entities[3]
    relations = rng.integers(-1, 2, (m, d)).astype(np.float32)
    types = np.arange(n) % 2
    pools = Pools.by_type(types, np.zeros(m, int), np.ones(m, int)) if typed else None
    drawn = rng.integers(0, [[20], [m], [20]], (3, 90)).tolist()
    edges = {(head * 2, relation, tail * 2 + 1) for head, relation, tail in zip(*drawn, strict=True)}
    heads, rels, tails = known = tuple(np.array(sorted(edges)).T)
    ranks = filtered_ranks(entities, relations, known, known, norm, pools=pools)
    for i, (h, r, t) in enumerate(zip(heads, rels, tails, strict=True)):
        heads_pool = {c for c in range(n) if not (typed and types[c] != 0) and (c, r, t) not in edges}
        tails_pool = {c for c in range(n) if not (typed and types[c] != 1) and (h, r, c) not in edges}
        assert ranks[0, i] == slow_rank(entities[t] - relations[r], entities, h, heads_pool, norm)
        assert ranks[1, i] == slow_rank(entities[h] + relations[r], entities, t, tails_pool, norm)


def test_a_constant_model_is_ranked_in_the_middle() -> None:
    table = np.ones((101, 8), np.float32)
    ranks = rank_targets(np.zeros((3, 8), np.float32), table, np.array([0, 50, 100]), "l2")
    np.testing.assert_array_equal(ranks, 51.0)


def test_the_nearest_is_first_and_the_farthest_last() -> None:
    table = np.arange(10, dtype=np.float32)[:, None] * np.ones((1, 20), np.float32)
    ranks = rank_targets(np.zeros((2, 20), np.float32), table, np.array([0, 9]), "l1")
    np.testing.assert_array_equal(ranks, [1.0, 10.0])


def test_a_diverged_model_has_no_rank() -> None:
    table = np.full((4, 2), np.nan, np.float32)
    with pytest.raises(ValueError, match="not finite"):
        rank_targets(np.zeros((1, 2), np.float32), table, np.array([0]), "l1")


def test_known_answers_lists_exactly_the_tails_of_each_query() -> None:
    known = (np.array([0, 0, 1, 0]), np.array([1, 0, 1, 1]), np.array([5, 6, 7, 4]))
    answers, offsets = known_answers(np.array([0, 1, 2]), np.array([1, 1, 0]), known)
    assert [list(answers[a:b]) for a, b in zip(offsets[:-1], offsets[1:], strict=True)] == [[4, 5], [7], []]


def test_figures_of_known_ranks() -> None:
    ranks = np.array([1.0, 2.0, 4.0, 10.5])
    assert mean_reciprocal_rank(ranks) == pytest.approx((1 + 0.5 + 0.25 + 1 / 10.5) / 4)
    assert hits_at(ranks, 3) == 0.5 and hits_at(ranks, 10) == 0.75
    assert np.isnan(mean_reciprocal_rank(np.array([])))
