"""RAM-GNN: every equation of sections III-A to III-D against loops written from the paper, and its contract."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from models.hyperparameters import HyperparameterError
from models.ram_gnn import RAMGNN, as_heard, as_told, compose, infer_ram_gnn
from models.ram_gnn_hyperparameters import RAMGNNHyperparameters
from models.ram_gnn_sampler import AttributeRows, Bandit, Neighbours, nearest, random_parts
from models.ram_gnn_training import SideTrainer, pair_losses, penalty, train_ram_gnn, vectors_of
from models.shapes import ShapeError
from tests.models import reference_ram_gnn as slow
from tests.models.contract import Fitted, ModelContract, Planted
from tests.models.ram_gnn_worlds import random_rows, side_of, side_of_planted, types_of_values

D, N = 6, 12
PAIRS, TYPES = random_rows(), types_of_values()
SMALL = RAMGNNHyperparameters(dimension=D, mlp_width=3)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Two threads would wait for each other far longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def rows_of(pairs: list[tuple[int, int]] = PAIRS) -> AttributeRows:
    entities, values = np.array(pairs, np.int64).reshape(-1, 2).T
    return AttributeRows.of(entities.copy(), values.copy(), TYPES, N, 3)


def random_model(hyper: RAMGNNHyperparameters = SMALL, seed: int = 0) -> tuple[RAMGNN, dict[str, np.ndarray]]:
    """A float64 model whose every parameter is random, and the parameters by name."""
    model, rng = RAMGNN(N, 3, len(TYPES), hyper).double(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for values in model.parameters():
            values.copy_(torch.randn(values.shape, generator=rng, dtype=torch.float64))
    return model, {name: values.detach().numpy() for name, values in model.named_parameters()}


def quadruplets(neighbours: Neighbours) -> list[slow.Quadruplet]:
    rows = neighbours.rows
    hears = neighbours.into_rows.destinations
    columns = rows.entities[hears], rows.types[hears], rows.values[hears], rows.entities[neighbours.sources]
    assert torch.equal(rows.values[hears], rows.values[neighbours.sources]), "a neighbour shares the value"
    return list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize("thresholds", [(1, 1, 1), (2, 4, 3), (50, 50, 50)])
@pytest.mark.parametrize("ties", [False, True])
def test_the_kept_neighbours_are_the_nearest_of_each_value(thresholds: tuple[int, ...], ties: bool) -> None:
    z = np.random.default_rng(3).random(N).round(1 if ties else 12)
    found = nearest(rows_of(), torch.tensor(z), torch.tensor(thresholds))
    expected = slow.nearest(PAIRS, TYPES.tolist(), z.tolist(), thresholds)
    if not ties:
        assert sorted(quadruplets(found)) == sorted(expected)
    distances = [sorted(round(abs(z[i] - z[j]), 9) for i, _, _, j in q) for q in (quadruplets(found), expected)]
    assert distances[0] == distances[1] and len(set(quadruplets(found))) == len(expected)


def test_candidates_are_parts_of_a_value_and_their_nearest_are_kept() -> None:
    rows, z = rows_of(), torch.rand(N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    parts = random_parts(rows, 3, torch.Generator().manual_seed(2))
    sizes = np.unique(torch.stack([rows.values, parts]).numpy(), axis=1, return_counts=True)[1]
    assert sizes.max() <= 3 and (parts[rows.values == 0].max() == 3), "eleven have value 0: four parts"
    found, k = nearest(rows, z, torch.tensor([1, 1, 1]), parts), 0
    for row, (i, v) in enumerate(PAIRS):
        mine = [j for r, (j, u) in enumerate(PAIRS) if u == v and parts[r] == parts[row] and j != i]
        heard = rows.entities[found.sources[found.offsets[row] : found.offsets[row + 1]]].tolist()
        assert heard == ([min(mine, key=lambda j: abs(float(z[i] - z[j])))] if mine else [])
        k += len(heard)
    assert k == found.sources.numel() > 0


def test_average_neighbour_distance() -> None:
    z = np.random.default_rng(5).random(N)
    found = nearest(rows_of(), torch.tensor(z), torch.tensor([2, 3, 1]))
    totals, counts = found.average_distances(torch.tensor(z))
    for t in range(3):
        expected = slow.average_neighbour_distance(quadruplets(found), z.tolist(), t)
        assert float(totals[t] / counts[t]) == pytest.approx(expected)


@pytest.mark.parametrize("how", ["add", "mul", "corr"])
@pytest.mark.parametrize("attends", [True, False])
def test_layers_compute_the_equations(how: str, attends: bool) -> None:
    model, p = random_model(dataclasses.replace(SMALL, composition=how, attends=attends))
    p |= {f"{name}.{n}": np.zeros((D, D) if name[0] == "w" else D) for name in ("w_key", "w_qry", "b", "p")
          for n in range(2) if not attends}  # fmt: skip
    e = np.random.default_rng(2).normal(size=(N, D))
    neighbours = nearest(rows_of(), model.place(torch.tensor(e)), torch.tensor([2, 4, 3]))
    kept, expected = quadruplets(neighbours), list(e)
    for number in range(2):
        expected = slow.layer(p, number, number == 1, kept, expected, how)
    np.testing.assert_allclose(model(neighbours, torch.tensor(e)).detach().numpy(), expected, atol=1e-9)
    assert not [q for q in kept if q[0] == N - 1]
    np.testing.assert_allclose(expected[-1], slow.leaky(e[-1]), err_msg="without a neighbour: σ of its own")


@pytest.mark.parametrize("how", ["add", "mul", "corr"])
def test_composition(how: str) -> None:
    e, n = np.random.default_rng(4).normal(size=(2, 3, D))
    told = (as_told(how, torch.tensor(x)) for x in (e, n))
    found = as_heard(how, compose(how, *told, torch.ones(3, dtype=torch.float64)))
    for row in range(3):
        np.testing.assert_allclose(found[row].numpy(), slow.phi(how, e[row], n[row]), atol=1e-12)


def test_distance_and_similarity() -> None:
    model, p = random_model()
    e = torch.randn(2, 5, D, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for b, found in enumerate(model.similarity(*e).tolist()):
        assert found == pytest.approx(1 - slow.distance(p, e[0, b].numpy(), e[1, b].numpy()))


def test_similarity_loss_is_cross_entropy() -> None:
    for s in (0.0, 0.25, 1.0):
        for alike in (True, False):
            found = float(pair_losses(torch.tensor(s, dtype=torch.float64), alike))
            assert found == pytest.approx(slow.cross_entropy(s, alike))


@pytest.mark.parametrize("final", ["mlp", "dot"])
def test_the_final_loss_of_a_block(final: str) -> None:
    """Eq. 16 on the final vectors, Eq. 11 on the first, their sum with the penalty (Eq. 17)."""
    side = side_of(*np.array(PAIRS, np.int64).T.copy(), TYPES, N)
    hyper = dataclasses.replace(SMALL, final_similarity=final, validation_share=0, decay=0.01, similarity_weight=0.3)
    trainer = SideTrainer("items", side, hyper, seed=2)
    trainer.model.double()
    p = {name: values.detach().numpy() for name, values in trainer.model.named_parameters()}
    e = trainer.model.entities
    loss, n_rows, _ = trainer.losses(side.rows, e, trainer.random(1, 0))
    anchors, partners, others, counts = trainer.pairs(side.rows, trainer.random(1, 0))
    neighbours = nearest(side.rows, trainer.model.place(e), trainer.thresholds)
    final_vectors = trainer.model(neighbours, e).detach().numpy()

    def of_final(i: int, j: int, alike: bool) -> float:
        if final == "mlp":
            return slow.cross_entropy(1 - slow.distance(p, final_vectors[i], final_vectors[j]), alike)
        likely = slow.logistic(slow.dot(final_vectors[i], final_vectors[j]))
        return -math.log(likely if alike else 1 - likely)

    def of_first(i: int, j: int, alike: bool) -> float:
        return slow.cross_entropy(1 - slow.distance(p, p["entities"][i], p["entities"][j]), alike)

    drawn = [column.tolist() for column in (anchors, partners, others, counts)]
    weights = sum((a**2).sum() for name, a in p.items() if name not in ("entities", "types", "values"))
    weights += sum((p[name] ** 2).sum() / len(p[name]) for name in ("entities", "types", "values"))
    expected = slow.contrast(of_final, *drawn) + 0.3 * slow.contrast(of_first, *drawn) + 0.01 * weights
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-6) and n_rows == len(drawn[0])
    assert float(penalty(trainer.model, e).detach()) == pytest.approx(weights)
    trainer.bandit.fixed[0] = True
    still, *_ = trainer.losses(side.rows, e, trainer.random(1, 0))
    assert torch.equal(still, loss), "until all have ended"
    trainer.bandit.fixed[:] = True
    without, *_ = trainer.losses(side.rows, e, trainer.random(1, 0))
    assert float((loss - without).detach()) == pytest.approx(0.3 * slow.contrast(of_first, *drawn)), "only up to Γ"


def test_pairs_are_each_row_with_another_of_its_value_and_entities_without_it() -> None:
    side = side_of(*np.array(PAIRS, np.int64).T.copy(), TYPES, N)
    trainer = SideTrainer("items", side, dataclasses.replace(SMALL, negatives=40), seed=2)
    anchors, partners, others, counts = (c.numpy() for c in trainer.pairs(side.rows, trainer.random(9)))
    holders = {v: {i for i, u in PAIRS if u == v} for _, v in PAIRS}
    shared = [(i, v) for i, v in PAIRS if len(holders[v]) > 1]
    assert anchors.tolist() == [i for i, _ in shared]
    for (i, v), j, drawn, real in zip(shared, partners, others, counts, strict=True):
        assert j in holders[v] - {i}
        np.testing.assert_array_equal(real, [other not in holders[v] for other in drawn])
    assert len(np.unique(partners[[v == 0 for _, v in shared]])) > 3, "drawn, not always the same"


def test_inference_in_chunks_is_the_forward_pass() -> None:
    model, _ = random_model(dataclasses.replace(SMALL, inference_chunk=5))
    neighbours = nearest(rows_of(), model.place(model.entities), torch.tensor([2, 4, 3]))
    whole = model(neighbours, model.entities).detach().numpy()
    np.testing.assert_allclose(infer_ram_gnn(model, neighbours).numpy(), whole, atol=1e-12)


def test_the_bandit_moves_by_its_reward_and_is_fixed_when_rewards_cancel_out() -> None:
    bandit = Bandit.of(np.array([5, 5, 1]), step=2, most=12, bound=2)
    falling, swinging = np.linspace(1, 0, 30), np.tile([0.5, 0.6], 15)
    path = []
    for one, other in zip(falling, swinging, strict=True):
        bandit.update(np.array([one, other, np.nan]))
        path.append((*bandit.thresholds.tolist(), *bandit.fixed.tolist()))
    assert [k for k, *_ in path[:5]] == [5, 7, 9, 11, 12], "nearer neighbours: more of them, up to the most"
    assert not path[-1][3], "ten rewards of +1 add up to ten"
    assert [k for _, k, *_ in path[:5]] == [5, 3, 5, 3, 5], "farther: fewer, nearer: more"
    assert [fixed for *_, fixed, _ in path].index(True) == 11, "the first look and eleven rewards"
    assert len({k for _, k, *_ in path[11:]}) == 1, "and then it stays"
    assert path[0][2] == 1 and path[0][5], "no neighbour at all: nothing to search"
    taken = Bandit.of(np.zeros(3), 2, 12, 2)
    taken.take(bandit.arrays())
    for name, array in bandit.arrays().items():
        np.testing.assert_array_equal(array, taken.arrays()[name])


def test_rewards_of_minus_one_are_no_end_and_an_equal_distance_earns_one() -> None:
    bandit = Bandit.of(np.array([9, 5]), step=2, most=40, bound=2)
    for rising in np.linspace(0, 1, 30):
        bandit.update(np.array([rising, 0.5]))
    assert bandit.fixed.tolist() == [False, False], "ten rewards of one sign: Eq. 14 takes the absolute value"
    assert bandit.thresholds.tolist() == [1, 40], "Eq. 13 has >="


def test_thresholds_are_never_below_one() -> None:
    bandit = Bandit.of(np.array([2]), step=4, most=9, bound=0)
    for distance in (0.1, 0.2, 0.3):
        bandit.update(np.array([distance]))
    assert bandit.thresholds.tolist() == [1]


def test_wrong_rows_and_hyperparameters_are_named() -> None:
    with pytest.raises(ShapeError, match="values have values|values has values"):
        AttributeRows.of(np.zeros(1, np.int64), np.array([3]), np.zeros(3, np.int64), 2, 1)
    with pytest.raises(ShapeError, match="not ascending"):
        AttributeRows.of(np.zeros(1, np.int64), np.zeros(1, np.int64), np.array([1, 0]), 2, 2)
    with pytest.raises(HyperparameterError, match="dimension is 7; expected an even number"):
        RAMGNNHyperparameters(dimension=7)
    with pytest.raises(HyperparameterError, match="threshold is 9; expected at most max_threshold, which is 8"):
        RAMGNNHyperparameters(threshold=9, max_threshold=8)


class Contract(ModelContract):
    """The shared contract for one composition; the planted graph's heads are one side."""

    composition: str
    learned_share = 0.8

    @property
    def hyper(self) -> RAMGNNHyperparameters:
        return RAMGNNHyperparameters(dimension=16, composition=self.composition, epochs=40, validation_share=0)

    def fit(self, data: Planted, seed: int) -> Fitted:
        sides = {"all": side_of_planted(data)}
        result = train_ram_gnn(sides, self.hyper, seed=seed, deterministic=True)
        return Fitted(vectors_of(sides, result.arrays, self.hyper)["all"], result.arrays["all.types"], result.arrays)

    def gradients(self, data: Planted) -> dict[str, np.ndarray]:
        side = side_of_planted(data)
        trainer = SideTrainer("all", side, dataclasses.replace(self.hyper, final_similarity="mlp"), seed=2)
        trainer.losses(side.rows, trainer.model.entities, trainer.random(1))[0].backward()
        return {name: values.grad.numpy() for name, values in trainer.model.named_parameters()}


class TestAddition(Contract):
    composition = "add"


class TestMultiplication(Contract):
    composition = "mul"


class TestCircularCorrelation(Contract):
    composition = "corr"
    learned_share = 0.6
