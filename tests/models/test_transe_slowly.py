"""Every combination of TransE's settings: an epoch of the compiled engine, and of torch's, against a slow loop."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from models.hyperparameters import TransEHyperparameters
from models.learning.negatives import Known, Plan, Planner, Pools, draw_broken_triples, known_triples, no_known_triples
from models.transe_numba import NumbaEngine
from models.transe_torch import TorchEngine
from tests.models.reference_transe import Lesson, SlowTransE

D, USERS, ITEMS, BRANDS = 5, 12, 20, 8
N, TYPES = USERS + ITEMS + BRANDS, np.repeat([0, 1, 2], [USERS, ITEMS, BRANDS])
HEAD_TYPES, TAIL_TYPES = np.array([0, 0, 1]), np.array([1, 1, 2])
CHOICES = {
    "norm": ("l1", "l2"),
    "loss": ("margin", "self_adversarial"),
    "negatives_shared_by": (1, 2, 5),
    "negatives": (1, 6),
    "type_constrained": (True, False),
    "filtered": (True, False),
    "unit_norm": (True, False),
    "optimizer": ("adagrad", "sgd"),
}
ALL = [dict(zip(CHOICES, values, strict=True)) for values in itertools.product(*CHOICES.values())]


def edges() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """41 of three relations, no multiple of any chunk."""
    random = np.random.default_rng(0)
    relations = np.sort(random.integers(3, size=41))
    starts, sizes = np.array([0, USERS, USERS + ITEMS]), np.array([USERS, ITEMS, BRANDS])
    ends = (HEAD_TYPES[relations], TAIL_TYPES[relations])
    heads, tails = (starts[kinds] + random.integers(sizes[kinds]) for kinds in ends)
    heads, relations, tails = np.unique(np.stack([heads, relations, tails]), axis=1)
    return heads, relations, tails


def tables(unit_norm: bool) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    entities = random.normal(size=(N, D))
    entities /= np.linalg.norm(entities, axis=1, keepdims=True) if unit_norm else 1.5
    relations = 0.4 * random.normal(size=(3, D))
    values = (entities, relations, np.full(N, 0.1), np.full(3, 0.1))
    names = ("entities", "relations", "entity_accumulators", "relation_accumulators")
    return {name: value.astype(np.float32) for name, value in zip(names, values, strict=True)}


def world(hyper: TransEHyperparameters) -> tuple[Plan, Pools, Known]:
    heads, relations, tails = edges()
    pools = Pools.by_type(TYPES, HEAD_TYPES, TAIL_TYPES) if hyper.type_constrained else Pools.any_entity(N, 3)
    known = known_triples(heads, relations, tails, N, 3) if hyper.filtered else no_known_triples()
    return Planner(heads, relations, tails, 3, 7, hyper.negatives_shared_by).plan(2), pools, known


def lessons(plan: Plan, hyper: TransEHyperparameters, pools: Pools, known: Known) -> Iterator[list[Lesson]]:
    """Chunk by chunk where edges share draws, else edge by edge, in the plan's order."""
    for chunk in plan.order:
        drawn = draw_broken_triples(plan, np.array([chunk]), hyper.negatives, pools, known)
        edges = (column[drawn.positions].tolist() for column in (plan.heads, plan.relations, plan.tails))
        broken = (column.tolist() for column in (drawn.broken_tail, drawn.entities, drawn.counts))
        found = [Lesson(*lesson) for lesson in zip(*edges, *broken, strict=True)]
        yield from [found] if plan.shared else [[one] for one in found]


def slowly(hyper: TransEHyperparameters) -> tuple[float, dict[str, np.ndarray]]:
    """(sum of the losses, tables) after one epoch."""
    start = {name: array.astype(np.float64) for name, array in tables(hyper.unit_norm).items()}
    slow, (plan, pools, known) = SlowTransE(*start.values(), hyper), world(hyper)
    total = 0.0
    for chunk in lessons(plan, hyper, pools, known):
        alone = hyper.loss == "margin" and not plan.shared
        total += slow.learn_alone(chunk[0]) if alone else slow.learn_together(chunk)
    return total, start


def hyper_of(choice: dict) -> TransEHyperparameters:
    """Sizes and rates that keep forty steps within float32's reach of the slow loop's."""
    return TransEHyperparameters(dimension=D, learning_rate=0.05, margin=1.5, adversarial_temperature=1.2, **choice)


@pytest.mark.parametrize(("norm", "loss", "shared_by"), itertools.product(*list(CHOICES.values())[:3]))
def test_an_epoch_of_the_compiled_engine_is_the_slow_loops(norm: str, loss: str, shared_by: int) -> None:
    """With all that this choice can be combined with."""
    chosen = {"norm": norm, "loss": loss, "negatives_shared_by": shared_by}
    for choice in (choice for choice in ALL if chosen.items() <= choice.items()):
        hyper = hyper_of(choice)
        (total, expected), (plan, pools, known) = slowly(hyper), world(hyper)
        engine = NumbaEngine(tables(hyper.unit_norm), hyper, pools, known, threads=1)
        loss_found, n_edges = engine.train_epoch(plan, hyper.learning_rate)
        assert n_edges == len(plan.heads) and loss_found == pytest.approx(total, rel=1e-4), choice
        for name, array in engine.arrays().items():
            np.testing.assert_allclose(array, expected[name], atol=3e-4, err_msg=f"{name} {choice}")


@pytest.mark.parametrize(("norm", "loss", "shared_by"), itertools.product(*list(CHOICES.values())[:3]))
def test_both_engines_learn_from_every_edge_with_its_own_relation(norm: str, loss: str, shared_by: int) -> None:
    """At a rate that moves nothing the sum of an epoch's losses is the slow loop's, in both."""
    chosen = {"norm": norm, "loss": loss, "negatives_shared_by": shared_by, "unit_norm": False, "optimizer": "sgd"}
    for choice in (choice for choice in ALL if chosen.items() <= choice.items()):
        hyper = replace(hyper_of(choice), learning_rate=1e-12)
        (total, _), (plan, pools, known) = slowly(hyper), world(hyper)
        torchs = TorchEngine(tables(False), hyper, pools, known)
        for engine in (torchs, NumbaEngine(tables(False), hyper, pools, known, threads=1)):
            assert engine.train_epoch(plan, hyper.learning_rate)[0] == pytest.approx(total, rel=1e-4), choice


def test_torchs_batch_is_so_many_edges_also_where_each_has_draws_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    hyper = hyper_of({"negatives_shared_by": 1, "negatives": 2})
    hyper = replace(hyper, batch_size=7, engine="torch")
    sizes, train = [], TorchEngine._train_batch

    def watched(self: TorchEngine, plan: Plan, drawn, rate: float) -> float:  # noqa: ANN001
        sizes.append(len(drawn.positions))
        return train(self, plan, drawn, rate)

    monkeypatch.setattr(TorchEngine, "_train_batch", watched)
    plan, pools, known = world(hyper)
    TorchEngine(tables(True), hyper, pools, known).train_epoch(plan, 0.1)
    assert sizes == [7] * (len(plan.heads) // 7) + [len(plan.heads) % 7] * (len(plan.heads) % 7 > 0)
