"""TransE: the contract of every model for both engines, starts warm and cold, held-out edges, resuming, engines that agree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.hyperparameters import HyperparameterError, TransEHyperparameters
from models.learning import initialisation
from models.learning.initialisation import WarmStart
from models.learning.negatives import Plan, Pools, draw_broken_triples, no_known_triples
from models.learning.training import from_bytes, to_bytes
from models.transe import TransE, TransEState, Triples, distance, held_out_edges, initialise, train_transe
from models.transe_torch import TorchEngine
from models.vectors.ranking import filtered_ranks, mean_reciprocal_rank
from tests.models.contract import Fitted, ModelContract, Planted, planted

SMALL = TransEHyperparameters(
    dimension=16, epochs=30, negatives=16, negatives_shared_by=8, batch_size=64, validation_share=0.05, evaluate_every=10, patience=0
)


def triples_of(data: Planted, seed: int = 0) -> Triples:
    """Users are type 0, items 1, brands 2; keys are random numbers."""
    rng = np.random.default_rng(seed)
    places = np.arange(data.n_entities)
    types = (places >= data.n_users).astype(int) + (places >= data.n_users + data.n_items)
    head_types, tail_types = np.array([0, 1])[: data.n_relations], np.array([1, 2])[: data.n_relations]
    keys = rng.integers(0, 2**63, data.n_entities).astype(np.uint64), rng.integers(0, 2**63, data.n_relations).astype(np.uint64)
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

    hyper = replace(SMALL, loss="margin", norm="l1", margin=2.0, negatives=4, negatives_shared_by=1)


class TestTorchEngine(TestSelfAdversarialL2):
    hyper = replace(SMALL, engine="torch", epochs=15)


def test_distance_is_equation_2() -> None:
    rng = np.random.default_rng(0)
    h, r, t = rng.standard_normal((3, 5, 7))
    for norm, power in (("l1", 1), ("l2", 2)):
        slow = [sum(abs(h[i, k] + r[i, k] - t[i, k]) ** power for k in range(7)) ** (1 / power) for i in range(5)]
        np.testing.assert_allclose(distance(h, r, t, norm), slow)


@pytest.mark.parametrize(
    "hyper", [SMALL, replace(SMALL, loss="margin", norm="l1", margin=2.0, negatives=4, negatives_shared_by=1)], ids=["adversarial", "margin"]
)
def test_engines_reach_the_same_quality(hyper: TransEHyperparameters) -> None:
    """MRR on the training edges: the difference of the engines' means lies within the spread of the seeds."""
    triples = triples_of(planted())
    pools = Pools.by_type(triples.entity_type, triples.relation_head_type, triples.relation_tail_type)
    figures = {}
    for engine, batch_size in (("numba", 1), ("torch", 32)):
        states = [
            train_transe(triples, replace(hyper, engine=engine, batch_size=batch_size, validation_share=0), seed=s, deterministic=True).state
            for s in range(2)
        ]
        figures[engine] = [
            mean_reciprocal_rank(filtered_ranks(s.entities, s.relations, triples.edges, triples.edges, hyper.norm, pools=pools))
            for s in states
        ]
    spread = np.ptp(figures["numba"]) + np.ptp(figures["torch"])
    assert abs(np.mean(figures["numba"]) - np.mean(figures["torch"])) < max(spread, 0.03), figures
    assert min(figures["numba"]) > 0.2


def test_threads_reach_the_quality_of_one() -> None:
    data = planted(n_users=300, n_items=60)
    losses = [
        train_transe(triples_of(data), replace(SMALL, threads=threads), seed=1).history[-1]["loss"] for threads in (1, 2)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_the_torch_engine_repeats_bit_by_bit_with_several_threads_at_work() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        triples = triples_of(planted(n_users=600, n_items=200))
        hyper = replace(SMALL, engine="torch", dimension=32, negatives=64, batch_size=1024, epochs=2)  # gradients large enough to be shared out
        first, again = (train_transe(triples, hyper, seed=1, deterministic=True).state for _ in range(2))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(first.entities, again.entities)


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
    start = WarmStart(
        former.entities, former.relations, known, np.ones(data.n_relations, bool), former.entity_accumulators, former.relation_accumulators
    )
    state = initialise(triples, SMALL, 2, start)
    np.testing.assert_array_equal(state.entities[known], former.entities[known])
    np.testing.assert_array_equal(state.entity_accumulators[known], np.float32(0.5) * former.entity_accumulators[known])
    np.testing.assert_array_equal(state.entity_accumulators[newcomers], 0)
    for newcomer in newcomers[:2]:
        told = [former.entities[h] + former.relations[r] for h, r, t in zip(*triples.edges, strict=True) if t == newcomer and known[h]]
        told += [former.entities[t] - former.relations[r] for h, r, t in zip(*triples.edges, strict=True) if h == newcomer and known[t]]
        mean = np.mean(told, axis=0)
        np.testing.assert_allclose(state.entities[newcomer], mean / np.linalg.norm(mean), atol=1e-5)
    np.testing.assert_array_equal(state.entities[newcomers[2]], initialise(triples, SMALL, 2).entities[newcomers[2]])


def test_the_mean_of_the_neighbours_queries_does_not_hang_on_how_many_edges_are_summed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_warm_start_begins_where_the_predecessor_ended() -> None:
    triples = triples_of(planted())
    cold = train_transe(triples, SMALL, seed=1, deterministic=True)
    state = cold.state
    start = WarmStart(
        state.entities, state.relations, np.ones(triples.n_entities, bool), np.ones(triples.n_relations, bool), state.entity_accumulators, state.relation_accumulators
    )
    warm = train_transe(triples, SMALL, seed=2, deterministic=True, initial=start)
    assert warm.history[0]["loss"] < cold.history[3]["loss"] < cold.history[0]["loss"]


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


def test_held_out_edges_are_not_trained_on_and_early_stopping_returns_the_best() -> None:
    data = planted(n_users=100)
    hyper = replace(SMALL, validation_share=0.1, evaluate_every=1, patience=2, epochs=200)
    result = train_transe(triples_of(data), hyper, seed=1, deterministic=True)
    figures = [record["validation_mrr"] for record in result.history]
    assert len(figures) < 200 and np.argmax(figures) == result.best_epoch == len(figures) - 3
    assert result.history[0]["edges"] == len(data.heads) - held_out_edges(triples_of(data), hyper, 1).sum()
    stopped_there = train_transe(triples_of(data), replace(hyper, epochs=result.best_epoch + 1, patience=0), seed=1, deterministic=True)
    np.testing.assert_array_equal(stopped_there.state.entities, result.state.entities)


class Killed(Exception):
    pass


@pytest.mark.parametrize("killed_at", [2, 10, 25])
def test_a_killed_training_goes_on_to_the_same_end(tmp_path, killed_at: int) -> None:
    hyper = replace(SMALL, evaluate_every=5, patience=3)
    triples = triples_of(planted())
    whole = train_transe(triples, hyper, seed=1, deterministic=True)

    def kill(record: dict[str, float]) -> None:
        if record["epoch"] == killed_at:
            raise Killed

    seen: list[float] = []
    if killed_at < len(whole.history):
        with pytest.raises(Killed):
            train_transe(triples, hyper, seed=1, deterministic=True, resume=tmp_path / "resume", progress=kill)
    again = train_transe(
        triples, hyper, seed=1, deterministic=True, resume=tmp_path / "resume", progress=lambda record: seen.append(record["epoch"])
    )
    assert seen[0] == killed_at // 5 * 5 if killed_at < len(whole.history) else True
    for name, array in whole.state.to_arrays().items():
        np.testing.assert_array_equal(again.state.to_arrays()[name], array)
    assert again.best_epoch == whole.best_epoch and len(again.history) == len(whole.history)
    # asked again after it was done, it has nothing left to do
    train_transe(triples, hyper, seed=1, deterministic=True, resume=tmp_path / "resume", progress=lambda _: pytest.fail("trained again"))


def test_another_seed_does_not_take_up_a_snapshot(tmp_path) -> None:
    triples, hyper = triples_of(planted()), replace(SMALL, epochs=5, evaluate_every=5)
    train_transe(triples, hyper, seed=1, resume=tmp_path / "resume")
    seen: list[float] = []
    train_transe(triples, hyper, seed=2, resume=tmp_path / "resume", progress=lambda record: seen.append(record["epoch"]))
    assert seen == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("engine", ["numba", "torch"])
def test_entities_without_an_edge_are_not_trained_as_stand_ins(engine: str) -> None:
    data = planted(n_isolated=3)
    triples, hyper = triples_of(data), replace(SMALL, epochs=3, engine=engine)
    before, after = initialise(triples, hyper, 1).entities, train_transe(triples, hyper, seed=1, deterministic=True).state.entities
    still = np.flatnonzero((before == after).all(axis=1))
    np.testing.assert_array_equal(still, np.arange(data.n_entities - 3, data.n_entities))


def test_a_single_edge_trains() -> None:
    zero, one = np.array([0]), np.array([1])
    triples = Triples(zero, zero, one, np.array([0, 0]), zero, zero, np.array([1, 2], np.uint64), np.array([3], np.uint64))
    for engine in ("numba", "torch"):
        state = train_transe(triples, replace(SMALL, engine=engine, epochs=5), seed=0, deterministic=True).state
        assert np.isfinite(state.entities).all() and np.isfinite(state.relations).all()


def test_the_state_survives_a_checkpoint() -> None:
    state = train_transe(triples_of(planted()), replace(SMALL, epochs=2), seed=0, deterministic=True).state
    again = TransEState.from_arrays(from_bytes(to_bytes(state.to_arrays()))[0])
    for name, array in state.to_arrays().items():
        np.testing.assert_array_equal(getattr(again, name), array)


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
    [("dimension", 0), ("norm", "l3"), ("loss", "bpr"), ("margin", 0.0), ("learning_rate", float("nan")), ("validation_share", 0.9), ("device", "cuda"), ("engine", "jax")],
)
def test_hyperparameters_out_of_range_are_named(field: str, value: object) -> None:
    with pytest.raises(HyperparameterError, match=field):
        TransEHyperparameters(**{field: value})  # type: ignore[arg-type]


def test_a_model_without_held_out_edges_has_no_validation_figure() -> None:
    triples, hyper = triples_of(planted()), replace(SMALL, validation_share=0, epochs=3)
    model = TransE(triples, hyper, seed=0, state=initialise(triples, hyper, 0))
    assert np.isnan(model.validation_mrr())
    result = train_transe(triples, replace(hyper, patience=1, evaluate_every=1), seed=0, deterministic=True)
    assert len(result.history) == 3 and result.best_epoch == 2


def test_the_step_shrinks_linearly_to_its_share_in_the_last_epoch() -> None:
    hyper = replace(SMALL, epochs=5, learning_rate=0.4, final_rate_share=0.5)
    np.testing.assert_allclose([hyper.rate_of(epoch) for epoch in range(5)], [0.4, 0.35, 0.3, 0.25, 0.2])
    assert replace(hyper, epochs=1).rate_of(0) == 0.4
    assert replace(hyper, final_rate_share=1.0).rate_of(4) == 0.4


@pytest.mark.parametrize("engine", ["numba", "torch"])
def test_a_smaller_step_moves_less(engine: str) -> None:
    triples, hyper = triples_of(planted()), replace(SMALL, epochs=1, engine=engine, unit_norm=False, validation_share=0)
    start = initialise(triples, hyper, 0).entities
    moves = [
        np.abs(train_transe(triples, replace(hyper, learning_rate=rate), seed=0, deterministic=True).state.entities - start).max()
        for rate in (0.001, 0.1)
    ]
    assert 0 < moves[0] < moves[1] / 5
