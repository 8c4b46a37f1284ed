"""Draws: right type, even, keyed by seed and epoch only; plans that hold every edge once."""

from __future__ import annotations

import numpy as np
import pytest

from models.kernels.draws import below, coin, key_of, keyed, permute
from models.learning.negatives import Planner, Pools, draw_broken_triples, known_triples, no_known_triples

N, M = 60, 4


def graph(seed: int = 0, n_edges: int = 500) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    columns = [rng.integers(*between, n_edges) for between in ((0, N // 2), (0, M), (N // 2, N))]
    edges = np.unique(np.stack(columns, 1), axis=0)
    return tuple(np.ascontiguousarray(column) for column in edges.T)


def two_types() -> Pools:
    return Pools.by_type((np.arange(N) >= N // 2).astype(int), np.zeros(M, int), np.ones(M, int))


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_below_is_even_over_its_range(limit: int) -> None:
    counts = np.bincount([below(np.uint64(keyed(key_of(5), i)), limit) for i in range(20_000)], minlength=limit)
    expected = 20_000 / limit
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert len(counts) == limit
    assert chi_square < limit + 6 * (2 * limit) ** 0.5 + 1e-9


def test_coin_is_fair_and_independent_of_below() -> None:
    keys = [np.uint64(keyed(key_of(9), i)) for i in range(20_000)]
    heads, high = np.array([coin(k) for k in keys]), np.array([below(k, 2) for k in keys])
    assert abs(heads.mean() - 0.5) < 0.02 and abs(np.corrcoef(heads, high)[0, 1]) < 0.03


def test_permute_holds_everything_once_and_moves_it() -> None:
    order = np.arange(1000)
    permute(key_of(1), order)
    assert sorted(order) == list(range(1000)) and (order == np.arange(1000)).sum() < 10


@pytest.mark.parametrize("shared_by", [1, 8])
def test_every_epoch_holds_every_edge_once_in_another_order(shared_by: int) -> None:
    edges = graph()
    planner = Planner(*edges, M, seed=3, shared_by=shared_by)
    seen = []
    for epoch in range(2):
        plan = planner.plan(epoch)
        assert sorted(plan.order) == list(range(len(plan.starts) - 1))
        spans = [np.arange(plan.starts[c], plan.starts[c + 1]) for c in plan.order]
        visited = np.concatenate(spans)
        columns = np.stack([plan.heads, plan.relations, plan.tails], 1)[visited]
        assert sorted(map(tuple, columns)) == sorted(zip(*edges, strict=True))
        seen.append(columns)
        if shared_by > 1:
            assert all(len(span) <= shared_by and len(set(plan.relations[span])) == 1 for span in spans)
    assert not np.array_equal(*seen)


def test_draws_depend_on_seed_and_epoch_and_nothing_else() -> None:
    def drawn(seed: int, epoch: int) -> np.ndarray:
        plan = Planner(*graph(), M, seed, 4).plan(epoch)
        return draw_broken_triples(plan, plan.order, 5, two_types(), no_known_triples()).entities

    np.testing.assert_array_equal(drawn(1, 0), drawn(1, 0))
    assert not np.array_equal(drawn(1, 0), drawn(2, 0)) and not np.array_equal(drawn(1, 0), drawn(1, 1))


@pytest.mark.parametrize("shared_by", [1, 8])
def test_broken_entities_have_the_type_of_the_place_and_both_ends_break(shared_by: int) -> None:
    plan = Planner(*graph(), M, 0, shared_by).plan(0)
    drawn = draw_broken_triples(plan, plan.order, 6, two_types(), no_known_triples())
    is_tail_type = drawn.entities >= N // 2
    assert (is_tail_type == drawn.broken_tail[:, None]).all()
    assert 0.3 < drawn.broken_tail.mean() < 0.7 and drawn.counts.all()
    assert len(np.unique(drawn.entities)) == N  # everyone can be drawn


def test_true_triples_do_not_count_as_broken() -> None:
    edges = graph()
    plan = Planner(*edges, M, 0, 8).plan(0)
    drawn = draw_broken_triples(plan, plan.order, 20, two_types(), known_triples(*edges, N, M))
    true = set(zip(*(column.tolist() for column in edges), strict=True))
    for b, position in enumerate(drawn.positions):
        h, r, t = int(plan.heads[position]), int(plan.relations[position]), int(plan.tails[position])
        for entity, counts in zip(drawn.entities[b].tolist(), drawn.counts[b], strict=True):
            other = (h, r, entity) if drawn.broken_tail[b] else (entity, r, t)
            assert counts == (other not in true)
    assert not drawn.counts.all()


def test_only_entities_that_are_trained_stand_in_unless_their_type_has_no_other() -> None:
    edges, types = graph(), (np.arange(N) >= N // 2).astype(int)
    trained = np.arange(N) % 3 > 0
    plan = Planner(*edges, M, 0, 8).plan(0)
    known = known_triples(*edges, N, M)
    true = set(zip(*(column.tolist() for column in edges), strict=True))
    users_alone = trained & (types == 0)
    for who, expected in ((trained, trained), (users_alone, users_alone | (types == 1))):
        pools = Pools.by_type(types, np.zeros(M, int), np.ones(M, int), who)
        drawn = draw_broken_triples(plan, plan.order, 20, pools, known)
        heads, tails = (set(drawn.entities[drawn.broken_tail == tail].ravel().tolist()) for tail in (False, True))
        assert heads == set(np.flatnonzero(expected & (types == 0)))
        assert tails == set(np.flatnonzero(expected & (types == 1)))
        for b, position in enumerate(drawn.positions):  # which triples are true does not hang on who is in the pools
            h, r, t = int(plan.heads[position]), int(plan.relations[position]), int(plan.tails[position])
            others = [(h, r, e) if drawn.broken_tail[b] else (e, r, t) for e in drawn.entities[b].tolist()]
            assert drawn.counts[b].tolist() == [other not in true for other in others]


def test_a_relation_to_a_type_without_entities_is_refused() -> None:
    with pytest.raises(ValueError, match="relation 1 has tail type 2"):
        Pools.by_type(np.array([0, 1]), np.array([0, 0]), np.array([1, 2]))


def test_a_graph_too_large_for_its_hash_keys_is_refused() -> None:
    with pytest.raises(ValueError, match="63 bits"):
        known_triples(*graph(), 2**31, 4)
