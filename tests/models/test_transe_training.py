"""TransE's training: engines that agree, held-out edges, warm starts, resuming after a kill."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.hyperparameters import TransEHyperparameters
from models.learning.initialisation import WarmStart
from models.learning.negatives import Pools
from models.learning.training import from_bytes, to_bytes
from models.transe import TransE, TransEState, Triples, held_out_edges, initialise
from models.transe_training import TransEResult, train_transe
from models.vectors.ranking import filtered_ranks, mean_reciprocal_rank
from tests.models.contract import planted
from tests.models.test_transe import MARGIN_L1, SMALL, triples_of


@pytest.mark.parametrize("hyper", [SMALL, MARGIN_L1], ids=["adversarial", "margin"])
def test_engines_reach_the_same_quality(hyper: TransEHyperparameters) -> None:
    """MRR on the training edges: the difference of the engines' means lies within the spread of the seeds."""
    triples = triples_of(planted())
    pools = Pools.by_type(triples.entity_type, triples.relation_head_type, triples.relation_tail_type)

    def figure(seed: int, engine: str, batch_size: int) -> float:
        own = replace(hyper, engine=engine, batch_size=batch_size, validation_share=0)
        state = train_transe(triples, own, seed=seed, deterministic=True).state
        given = (state.entities, state.relations, triples.edges, triples.edges, hyper.norm)
        return mean_reciprocal_rank(filtered_ranks(*given, pools=pools))

    batch_sizes = {"numba": 1, "torch": 32}
    figures = {engine: [figure(seed, engine, size) for seed in range(2)] for engine, size in batch_sizes.items()}
    spread = np.ptp(figures["numba"]) + np.ptp(figures["torch"])
    assert abs(np.mean(figures["numba"]) - np.mean(figures["torch"])) < max(spread, 0.03), figures
    assert min(figures["numba"]) > 0.2


def test_threads_reach_the_quality_of_one() -> None:
    triples = triples_of(planted(n_users=300, n_items=60))
    one, two = (train_transe(triples, replace(SMALL, threads=n), seed=1).history[-1]["loss"] for n in (1, 2))
    assert two == pytest.approx(one, rel=0.05)


def test_the_torch_engine_repeats_bit_by_bit_with_several_threads_at_work() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        triples = triples_of(planted(n_users=600, n_items=200))
        # gradients large enough to be shared out
        hyper = replace(SMALL, engine="torch", dimension=32, negatives=64, batch_size=1024, epochs=2)
        first, again = (train_transe(triples, hyper, seed=1, deterministic=True).state for _ in range(2))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(first.entities, again.entities)


def test_a_warm_start_begins_where_the_predecessor_ended() -> None:
    triples = triples_of(planted())
    cold = train_transe(triples, SMALL, seed=1, deterministic=True)
    state = cold.state
    known = np.ones(triples.n_entities, bool), np.ones(triples.n_relations, bool)
    accumulators = state.entity_accumulators, state.relation_accumulators
    start = WarmStart(state.entities, state.relations, *known, *accumulators)
    warm = train_transe(triples, SMALL, seed=2, deterministic=True, initial=start)
    assert warm.history[0]["loss"] < cold.history[3]["loss"] < cold.history[0]["loss"]


def test_held_out_edges_are_not_trained_on_and_early_stopping_returns_the_best() -> None:
    triples = triples_of(planted(n_users=100))
    hyper = replace(SMALL, validation_share=0.1, evaluate_every=1, patience=2, epochs=200, min_epochs=0)
    result = train_transe(triples, hyper, seed=1, deterministic=True)
    figures = [record["validation_mrr"] for record in result.history]
    assert len(figures) < 200 and np.argmax(figures) == result.best_epoch
    assert result.history[0]["edges"] == len(triples.heads) - held_out_edges(triples, hyper, 1).sum()
    until_best = replace(hyper, epochs=result.best_epoch + 1, patience=0)
    stopped_there = train_transe(triples, until_best, seed=1, deterministic=True)
    np.testing.assert_array_equal(stopped_there.state.entities, result.state.entities)


class Killed(Exception):
    pass


@pytest.mark.parametrize("killed_at", [2, 10, 25])
def test_a_killed_training_goes_on_to_the_same_end(tmp_path, killed_at: int) -> None:
    hyper = replace(SMALL, evaluate_every=5, patience=3)
    triples = triples_of(planted())
    whole = train_transe(triples, hyper, seed=1, deterministic=True)

    def resumed(progress: Callable[[dict[str, float]], object]) -> TransEResult:
        resume = tmp_path / "resume"
        return train_transe(triples, hyper, seed=1, deterministic=True, resume=resume, progress=progress)

    def kill(record: dict[str, float]) -> None:
        if record["epoch"] == killed_at:
            raise Killed

    seen: list[float] = []
    if killed_at < len(whole.history):
        with pytest.raises(Killed):
            resumed(kill)
    again = resumed(lambda record: seen.append(record["epoch"]))
    assert seen[0] == killed_at // 5 * 5 if killed_at < len(whole.history) else True
    for name, array in whole.state.to_arrays().items():
        np.testing.assert_array_equal(again.state.to_arrays()[name], array)
    assert again.best_epoch == whole.best_epoch and len(again.history) == len(whole.history)
    # asked again after it was done, it has nothing left to do
    resumed(lambda _: pytest.fail("trained again"))


def test_another_seed_does_not_take_up_a_snapshot(tmp_path) -> None:
    triples, hyper = triples_of(planted()), replace(SMALL, epochs=5, evaluate_every=5)
    resume, seen = tmp_path / "resume", []
    train_transe(triples, hyper, seed=1, resume=resume)
    train_transe(triples, hyper, seed=2, resume=resume, progress=lambda record: seen.append(record["epoch"]))
    assert seen == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("engine", ["numba", "torch"])
def test_entities_without_an_edge_are_not_trained_as_stand_ins(engine: str) -> None:
    data = planted(n_isolated=3)
    triples, hyper = triples_of(data), replace(SMALL, epochs=3, engine=engine)
    before = initialise(triples, hyper, 1).entities
    after = train_transe(triples, hyper, seed=1, deterministic=True).state.entities
    still = np.flatnonzero((before == after).all(axis=1))
    np.testing.assert_array_equal(still, np.arange(data.n_entities - 3, data.n_entities))


def test_a_single_edge_trains() -> None:
    zero, one = np.array([0]), np.array([1])
    keys = np.array([1, 2], np.uint64), np.array([3], np.uint64)
    triples = Triples(zero, zero, one, np.array([0, 0]), zero, zero, *keys)
    for engine in ("numba", "torch"):
        state = train_transe(triples, replace(SMALL, engine=engine, epochs=5), seed=0, deterministic=True).state
        assert np.isfinite(state.entities).all() and np.isfinite(state.relations).all()


def test_the_state_survives_a_checkpoint() -> None:
    state = train_transe(triples_of(planted()), replace(SMALL, epochs=2), seed=0, deterministic=True).state
    again = TransEState.from_arrays(from_bytes(to_bytes(state.to_arrays()))[0])
    for name, array in state.to_arrays().items():
        np.testing.assert_array_equal(getattr(again, name), array)


def test_a_model_without_held_out_edges_has_no_validation_figure() -> None:
    triples, hyper = triples_of(planted()), replace(SMALL, validation_share=0, epochs=3)
    model = TransE(triples, hyper, seed=0, state=initialise(triples, hyper, 0))
    assert np.isnan(model.look()[0])
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

    def move(rate: float) -> float:
        result = train_transe(triples, replace(hyper, learning_rate=rate), seed=0, deterministic=True)
        return float(np.abs(result.state.entities - start).max())

    assert 0 < move(0.001) < move(0.1) / 5
