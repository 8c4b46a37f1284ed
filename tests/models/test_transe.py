"""TransE: the contract of every model for both engines, starts warm and cold, which edges are held out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.hyperparameters import HyperparameterError, TransEHyperparameters
from models.learning import initialisation
from models.learning.initialisation import WarmStart
from models.learning.negatives import Plan, Pools, draw_broken_triples, no_known_triples
from models.transe import Triples, distance, held_out_edges, initialise
from models.transe_torch import TorchEngine
from models.transe_training import train_transe
from tests.models.contract import Fitted, ModelContract, Planted, planted

SMALL = TransEHyperparameters(
    dimension=16,
    epochs=30,
    negatives=16,
    negatives_shared_by=8,
    batch_size=64,
    validation_share=0.05,
    evaluate_every=10,
    patience=0,
)
MARGIN_L1 = replace(SMALL, loss="margin", norm="l1", margin=2.0, negatives=4, negatives_shared_by=1)


def triples_of(data: Planted, seed: int = 0) -> Triples:
    """Users are type 0, items 1, brands 2; keys are random numbers."""
    rng = np.random.default_rng(seed)
    places = np.arange(data.n_entities)
    types = (places >= data.n_users).astype(int) + (places >= data.n_users + data.n_items)
    head_types, tail_types = np.array([0, 1])[: data.n_relations], np.array([1, 2])[: data.n_relations]
    keys = (rng.integers(0, 2**63, size).astype(np.uint64) for size in (data.n_entities, data.n_relations))
    return Triples(data.heads, data.relations, data.tails, types, head_types, tail_types, *keys)


def fitted(data: Planted, seed: int, hyper: TransEHyperparameters) -> Fitted:
    state = train_transe(triples_of(data), hyper, seed=seed, deterministic=True).state
    return Fitted(state.entities, state.relations, state.to_arrays())


def first_gradients(data: Planted, hyper: TransEHyperparameters) -> dict[str, np.ndarray]:
    """Minus the change of each table in one step of plain gradient descent over all edges, in the torch engine."""
    triples = triples_of(data)
    state = initialise(triples, hyper, 0)
    pools = Pools.any_entity(triples.n_entities, triples.n_relations)
    engine = TorchEngine(state.to_arrays(), replace(hyper, negatives=4), pools, no_known_triples())
    columns = (column.astype(np.int32) for column in triples.edges)
    plan = Plan(*columns, np.arange(len(data.heads) + 1), np.arange(len(data.heads)), np.uint64(3), False)
    _, gradients = engine.loss_and_gradients(plan, draw_broken_triples(plan, plan.order, 4, pools, no_known_triples()))
    return {name: gradient.numpy() for name, (_, gradient) in gradients.items()}


class TestSelfAdversarialL2(ModelContract):
    hyper = SMALL

    def fit(self, data: Planted, seed: int) -> Fitted:
        return fitted(data, seed, self.hyper)

    def gradients(self, data: Planted) -> dict[str, np.ndarray]:
        return first_gradients(data, self.hyper)


class TestMarginL1(TestSelfAdversarialL2):
    """The paper's own form."""

    hyper = MARGIN_L1


class TestTorchEngine(TestSelfAdversarialL2):
    hyper = replace(SMALL, engine="torch", epochs=15)


def test_distance_is_equation_2() -> None:
    rng = np.random.default_rng(0)
    h, r, t = rng.standard_normal((3, 5, 7))
    for norm, power in (("l1", 1), ("l2", 2)):
        slow = [sum(abs(h[i, k] + r[i, k] - t[i, k]) ** power for k in range(7)) ** (1 / power) for i in range(5)]
        np.testing.assert_allclose(distance(h, r, t, norm), slow)


def test_random_vectors_belong_to_keys_not_to_places() -> None:
    triples = triples_of(planted())
    state = initialise(triples, SMALL, 7)
    order = np.random.default_rng(1).permutation(triples.n_entities)
    shuffled = replace(triples, entity_keys=triples.entity_keys[order])
    np.testing.assert_array_equal(initialise(shuffled, SMALL, 7).entities, state.entities[order])
    assert not np.array_equal(initialise(triples, SMALL, 8).entities, state.entities)
    np.testing.assert_allclose(np.linalg.norm(state.entities, axis=1), 1, atol=1e-6)


def test_a_warm_start_keeps_known_rows_and_places_newcomers_by_their_neighbours() -> None:
    data = planted(n_isolated=2)
    triples = triples_of(data)
    former = train_transe(triples, SMALL, seed=1, deterministic=True).state
    known = np.ones(data.n_entities, bool)
    newcomers = np.array([0, data.n_users + 3, data.n_entities - 1])  # a user, an item, and one without an edge
    known[newcomers] = False
    accumulators = former.entity_accumulators, former.relation_accumulators
    start = WarmStart(former.entities, former.relations, known, np.ones(data.n_relations, bool), *accumulators)
    state = initialise(triples, SMALL, 2, start)
    np.testing.assert_array_equal(state.entities[known], former.entities[known])
    np.testing.assert_array_equal(state.entity_accumulators[known], np.float32(0.5) * former.entity_accumulators[known])
    np.testing.assert_array_equal(state.entity_accumulators[newcomers], 0)
    entities, relations, edges = former.entities, former.relations, list(zip(*triples.edges, strict=True))
    for newcomer in newcomers[:2]:
        told = [entities[h] + relations[r] for h, r, t in edges if t == newcomer and known[h]]
        told += [entities[t] - relations[r] for h, r, t in edges if h == newcomer and known[t]]
        mean = np.mean(told, axis=0)
        np.testing.assert_allclose(state.entities[newcomer], mean / np.linalg.norm(mean), atol=1e-5)
    np.testing.assert_array_equal(state.entities[newcomers[2]], initialise(triples, SMALL, 2).entities[newcomers[2]])


def test_the_mean_of_the_neighbours_queries_does_not_hang_on_how_many_edges_are_summed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    triples = triples_of(planted())
    state, known = initialise(triples, SMALL, 0), np.arange(triples.n_entities) % 3 > 0
    means, found = initialisation.neighbours_queries_mean(state.entities, state.relations, known, *triples.edges)
    monkeypatch.setattr(initialisation, "_EDGES_AT_ONCE", 7)
    again, _ = initialisation.neighbours_queries_mean(state.entities, state.relations, known, *triples.edges)
    assert found.sum() > 20
    np.testing.assert_array_equal(means, again)


def test_a_warm_start_of_another_dimension_is_refused() -> None:
    triples = triples_of(planted())
    small = initialise(triples, replace(SMALL, dimension=8), 0)
    start = WarmStart(small.entities, small.relations, np.ones(len(small.entities), bool), np.ones(2, bool))
    with pytest.raises(ValueError, match="dimension"):
        initialise(triples, SMALL, 0, start)


def test_held_out_edges_follow_their_ends_and_leave_everyone_an_edge() -> None:
    data = planted(n_users=100)
    triples = triples_of(data)
    hyper = replace(SMALL, validation_share=0.2)
    held_out = held_out_edges(triples, hyper, 5)
    assert 0.1 * len(data.heads) < held_out.sum() <= 0.2 * len(data.heads)
    ends = np.concatenate([data.heads, data.tails])
    kept = np.concatenate([data.heads[~held_out], data.tails[~held_out]])
    assert set(kept) == set(ends)
    order = np.random.default_rng(0).permutation(len(data.heads))
    shuffled = replace(triples, heads=data.heads[order], relations=data.relations[order], tails=data.tails[order])
    np.testing.assert_array_equal(held_out_edges(shuffled, hyper, 5), held_out[order])
    assert not held_out_edges(triples, replace(hyper, validation_share=0), 5).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": np.array([0, 99])}, "heads reach from 0 to 99; expected dense indices 0 to 2"),
        ({"relations": np.array([0])}, "1 relations"),
        ({"entity_keys": np.array([1], np.uint64)}, "one key per entity"),
    ],
)
def test_triples_that_do_not_fit_are_refused(change: dict, message: str) -> None:
    good = dict(
        heads=np.array([0, 1]), relations=np.array([0, 0]), tails=np.array([1, 2]), entity_type=np.zeros(3, int),
        relation_head_type=np.zeros(1, int), relation_tail_type=np.zeros(1, int),
        entity_keys=np.arange(3).astype(np.uint64), relation_keys=np.zeros(1, np.uint64),
    )  # fmt: skip
    with pytest.raises(ValueError, match=message):
        Triples(**(good | change))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dimension", 0),
        ("norm", "l3"),
        ("loss", "bpr"),
        ("margin", 0.0),
        ("learning_rate", float("nan")),
        ("validation_share", 0.9),
        ("device", "cuda"),
        ("engine", "jax"),
    ],
)
def test_hyperparameters_out_of_range_are_named(field: str, value: object) -> None:
    with pytest.raises(HyperparameterError, match=field):
        TransEHyperparameters(**{field: value})  # type: ignore[arg-type]
