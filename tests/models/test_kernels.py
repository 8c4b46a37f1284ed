"""The compiled kernels against autograd, triple by triple: same loss, same gradient, to 1e-5."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from models.hyperparameters import TransEHyperparameters
from models.kernels.padding import padded
from models.learning.negatives import Known, Plan, Pools, known_triples, no_known_triples
from models.transe_numba import NumbaEngine
from models.transe_torch import TorchEngine

N, M, D = 400, 3, 21  # more entities than draws, so that a row is rarely met twice; a width that is no multiple of 16


def tables(seed: int, accumulators: float = 0.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    entities = rng.standard_normal((N, D)).astype(np.float32)
    return {
        "entities": entities / np.linalg.norm(entities, axis=1, keepdims=True),
        "relations": 0.3 * rng.standard_normal((M, D)).astype(np.float32),
        "entity_accumulators": np.full(N, accumulators, np.float32),
        "relation_accumulators": np.full(M, accumulators, np.float32),
    }


def plan_of(heads: list[int], relation: int, tails: list[int], key: int, shared: bool) -> Plan:
    columns = (np.array(column, np.int32) for column in (heads, [relation] * len(heads), tails))
    return Plan(*columns, np.array([0, len(heads)]), np.array([0]), np.uint64(key), shared)


def steps(
    plan: Plan, hyper: TransEHyperparameters, known: Known, start: dict[str, np.ndarray]
) -> list[tuple[float, dict]]:
    """(loss, tables after one epoch) of both engines: torch in float64, numba in float32."""
    pools = Pools.any_entity(N, M)
    results = []
    for engine in (
        TorchEngine({name: array.astype(np.float64) for name, array in start.items()}, hyper, pools, known),
        NumbaEngine(start, hyper, pools, known, threads=1),
    ):
        loss, _ = engine.train_epoch(plan, hyper.learning_rate)
        results.append((loss, engine.arrays()))
    return results


VARIANTS = [
    TransEHyperparameters(
        norm=norm, loss=loss, margin=margin, negatives=negatives, negatives_shared_by=shared, dimension=D,
        optimizer="sgd", learning_rate=1.0, unit_norm=False, adversarial_temperature=1.5, batch_size=1000,
    )
    for norm, (loss, margin), negatives, shared in itertools.product(
        ("l1", "l2"), (("margin", 0.5), ("margin", 6.0), ("self_adversarial", 2.0)), (1, 7), (1, 4)
    )
]  # fmt: skip


def name_of(h: TransEHyperparameters) -> str:
    return f"{h.norm}-{h.loss}-{h.margin}-{h.negatives}-{h.negatives_shared_by}"


@pytest.mark.parametrize("hyper", VARIANTS, ids=name_of)
def test_one_step_of_gradient_descent_is_autograds(hyper: TransEHyperparameters) -> None:
    """With plain gradient descent at rate 1 the change of a table is minus its gradient."""
    moved = 0.0
    for key in range(6):
        shared = hyper.negatives_shared_by > 1
        heads, tails = ([1, 2, 3, 4], [5, 6, 7, 8]) if shared else ([key], [key + 10])
        plan, start = plan_of(heads, key % M, tails, key, shared), tables(key)
        known = no_known_triples()
        if key % 2:  # a table of true triples that makes some draws not count
            known = known_triples(np.arange(N), np.full(N, key % M), np.full(N, tails[0]), N, M)
        (loss, expected), (own_loss, own) = steps(plan, hyper, known, start)
        assert own_loss == pytest.approx(loss, abs=1e-5, rel=1e-5)
        for name in ("entities", "relations"):
            np.testing.assert_allclose(own[name] - start[name], expected[name] - start[name], atol=1e-5)
        moved += np.abs(own["relations"] - start["relations"]).max()
    assert moved > 0


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("shared_by", [1, 2])
def test_adagrad_and_the_unit_sphere_are_the_reference_s(norm: str, shared_by: int) -> None:
    hyper = replace(VARIANTS[0], norm=norm, margin=6.0, negatives=3, negatives_shared_by=shared_by)
    hyper = replace(hyper, optimizer="adagrad", learning_rate=0.1, unit_norm=True)
    for key in range(4):
        plan, start = plan_of([1], 0, [2], key, shared_by > 1), tables(key, accumulators=0.5)
        (_, expected), (_, own) = steps(plan, hyper, no_known_triples(), start)
        for name in start:
            np.testing.assert_allclose(own[name], expected[name], atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(own["entities"], axis=1), 1, atol=1e-5)
        assert own["relation_accumulators"][0] > 0.5


def test_a_satisfied_margin_moves_nothing() -> None:
    hyper = replace(VARIANTS[0], margin=1e-6, negatives=5)
    start = tables(0)
    start["entities"][2] = start["entities"][1] + start["relations"][0]
    (_, _), (loss, own) = steps(plan_of([1], 0, [2], 4, False), hyper, no_known_triples(), start)
    assert loss == 0
    np.testing.assert_array_equal(own["entities"], start["entities"])


def test_a_loop_at_distance_zero_is_finite() -> None:
    for hyper in VARIANTS:
        start = tables(0)
        start["relations"][:] = 0
        own = steps(plan_of([1], 0, [1], 0, hyper.negatives_shared_by > 1), hyper, no_known_triples(), start)[1][1]
        assert np.isfinite(own["entities"]).all()


def test_padding_keeps_values_and_aligns_rows() -> None:
    table = np.random.default_rng(0).standard_normal((5, D)).astype(np.float32)
    wide = padded(table)
    np.testing.assert_array_equal(wide[:, :D], table)
    assert wide.shape == (5, 32) and not wide[:, D:].any() and wide.ctypes.data % 64 == 0
