"""The interaction network: Eq. 18 to 23 against loops written from the paper, its contract, training and ranks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from models.learning.epochs import load_parameters, parameters_of
from models.learning.pairwise import bpr_losses
from models.ram_gnn_hyperparameters import InteractionHyperparameters
from models.ram_gnn_interactions import InteractionNetwork, Pairs, Pretrained, infer_interactions
from models.ram_gnn_interactions_training import (
    InteractionResult,
    InteractionTrainer,
    held_out_pairs,
    held_out_ranks,
    train_interactions,
)
from models.ram_gnn_sampler import AttributeRows
from models.ram_gnn_warm_start import Places, interactions_brought_forward
from models.shapes import ShapeError
from tests.models import reference_ram_gnn as slow
from tests.models.contract import Fitted, ModelContract, Planted, planted
from tests.models.reference import affine
from tests.models.test_ram_gnn import _one_thread  # noqa: F401  (a fixture)

D, U, N_ITEMS = 4, 6, 5
TOUCHED = [(0, 0), (0, 1), (1, 1), (1, 2), (2, 2), (2, 3), (3, 0), (3, 3), (4, 1)]  # user 5 and item 4 have nothing
PLAIN = InteractionHyperparameters(layers=2, recent=0)


def pretrained(n: int, pairs: list[tuple[int, int]], value_types: list[int], d: int = D, seed: int = 0) -> Pretrained:
    rng = np.random.default_rng(seed)
    entities, values = np.array(pairs, np.int64).reshape(-1, 2).T
    types = np.array(value_types, np.int64)
    rows = AttributeRows.of(entities.copy(), values.copy(), types, n, int(types.max(initial=-1)) + 1)
    tables = (rng.normal(size=(size, width)).astype(np.float32) for size, width in ((n, d), (len(types), d // 2)))
    return Pretrained(*tables, rows)


ITEMS = pretrained(N_ITEMS, [(0, 0), (0, 1), (1, 1), (2, 2), (3, 0), (3, 2)], [0, 0, 1], seed=1)
USERS = pretrained(U, [], [], seed=2)


def both(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    users, items = np.array(pairs, np.int64).T
    return users.copy(), items.copy()


def random_network(hyper: InteractionHyperparameters) -> tuple[InteractionNetwork, dict[str, np.ndarray]]:
    network, rng = InteractionNetwork(USERS, ITEMS, hyper).double(), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for values in network.parameters():
            values.copy_(torch.randn(values.shape, generator=rng, dtype=torch.float64))
    return network, {name: values.detach().numpy() for name, values in network.named_parameters()}


def first_vectors(p: dict[str, np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Eq. 18 and 20 by loops."""
    items = []
    for i in range(N_ITEMS):
        parts = [p["items.entities"][i]]
        for t in range(2):
            mine = [v for e, v in zip(ITEMS.rows.entities.tolist(), ITEMS.rows.values.tolist(), strict=True)
                    if e == i and ITEMS.rows.value_types[v] == t]  # fmt: skip
            table = p["items.values"]
            parts.append(sum(table[v] for v in mine) / len(mine) if mine else np.zeros(D // 2))
        items.append(affine(p["items.w3"], np.concatenate(parts), None))
    users = p["users.entities"]
    return [affine(p["users.w3"], e, None) if "users.w3" in p else e for e in users], items


def pairs_of(double: bool = False) -> Pairs:
    pairs = Pairs.of(*both([*TOUCHED, TOUCHED[0]]), U, N_ITEMS)
    weights = {name: getattr(pairs, name).double() for name in ("user_weights", "item_weights")}
    return dataclasses.replace(pairs, **weights) if double else pairs


@pytest.mark.parametrize("activation", ["none", "leaky_relu"])
@pytest.mark.parametrize("transforms", [True, False])
@pytest.mark.parametrize(("readout", "adds_own"), [("last", True), ("mean", True), ("mean", False)])
def test_layers_compute_the_equations(activation: str, transforms: bool, readout: str, adds_own: bool) -> None:
    hyper = dataclasses.replace(
        PLAIN, activation=activation, transforms=transforms, readout=readout, adds_own=adds_own)
    network, p = random_network(hyper)
    weights = [p[f"w4.{n}"] if transforms else None for n in range(2)]
    layers = slow.propagate(TOUCHED, *first_vectors(p), weights, activation, adds_own)
    expected = layers[-1] if readout == "last" else [np.mean(side, axis=0) for side in zip(*layers, strict=True)]
    for found, side in zip(network(pairs_of(double=True)), expected, strict=True):
        np.testing.assert_allclose(found.detach().numpy(), side, atol=1e-6)


def test_without_layers_and_transforms_it_is_matrix_factorisation() -> None:
    bare = pretrained(N_ITEMS, [], [], seed=1)
    hyper = InteractionHyperparameters(layers=0, transforms=False, recent=0)
    users, items = infer_interactions(InteractionNetwork(USERS, bare, hyper), pairs_of())
    np.testing.assert_array_equal(users, USERS.entities)
    np.testing.assert_array_equal(items, bare.entities)
    names = {name for name, _ in InteractionNetwork(USERS, bare, hyper).named_parameters()}
    assert names == {"users.entities", "items.entities"}


def test_the_gradient_of_a_sum_is_the_sum_of_the_other_direction() -> None:
    network, _ = random_network(PLAIN)
    weight = torch.randn(U, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    before = network.items.entities.detach().clone()
    (network(pairs_of(double=True))[0] * weight).sum().backward()
    step = torch.zeros_like(before)
    step[1, 2] = 1e-6
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            network.items.entities.copy_(before + sign * step)
            ends.append(float((network(pairs_of(double=True))[0] * weight).sum()))
    assert float(network.items.entities.grad[1, 2]) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4)


def test_the_loss_of_a_batch_is_bpr_and_a_penalty() -> None:
    hyper = dataclasses.replace(PLAIN, decay=0.3, validation_share=0)
    trainer = InteractionTrainer(USERS, ITEMS, both(TOUCHED), np.ones(U, bool), hyper, 1, None)
    users, items, others = torch.tensor([0, 4]), torch.tensor([1, 1]), torch.tensor([[0, 2], [3, 4]])
    loss, terms = trainer.loss(users, items, others)
    x_u, x_i = (x.detach().double().numpy() for x in trainer.network(trainer.pairs))
    found = []
    for u, i, drawn in zip(users.tolist(), items.tolist(), others.tolist(), strict=True):
        untouched = [j for j in drawn if (u, j) not in TOUCHED]
        found += [slow.bpr(slow.dot(x_u[u], x_i[i]), [slow.dot(x_u[u], x_i[j])]) for j in untouched]
    assert len(found) == 3, "user 0 touched item 0: not against it"
    assert float(terms.detach()) == pytest.approx(np.mean(found), rel=1e-5)
    e_u, e_i = USERS.entities.astype(float), ITEMS.entities.astype(float)
    squares = sum((e[rows] ** 2).sum(-1).mean() for e, rows in ((e_u, users), (e_i, items), (e_i, others)))
    assert float((loss - terms).detach()) == pytest.approx(0.3 * squares, rel=1e-5)
    found = bpr_losses(torch.tensor([1.0]), torch.tensor([[0.5, 2.0]]))
    assert float(found.mean()) == pytest.approx(slow.bpr(1.0, [0.5, 2.0]), rel=1e-6)


def test_of_the_drawn_items_the_hardest_alone_may_count() -> None:
    hyper = dataclasses.replace(PLAIN, hardest=True, validation_share=0)
    trainer = InteractionTrainer(USERS, ITEMS, both(TOUCHED), np.ones(U, bool), hyper, 1, None)
    users, items, others = torch.tensor([4]), torch.tensor([1]), torch.tensor([[0, 2, 3]])
    x_u, x_i = (x.detach().double().numpy() for x in trainer.network(trainer.pairs))
    y = {j: slow.dot(x_u[4], x_i[j]) for j in (0, 1, 2, 3)}
    expected = slow.bpr(y[1], [max(y[j] for j in (0, 2, 3))])
    assert float(trainer.loss(users, items, others)[1].detach()) == pytest.approx(expected, rel=1e-5)


def test_what_moves_everybody_learns_at_its_share_of_the_rate() -> None:
    """Adam's first step is the rate, whatever the gradient."""
    hyper = dataclasses.replace(
        PLAIN, learning_rate=0.01, shared_rate_share=0.25, batches=1, validation_share=0, decay=0)
    trainer = InteractionTrainer(USERS, ITEMS, both(TOUCHED), np.ones(U, bool), hyper, 1, None)
    before = parameters_of(trainer.network)
    trainer.epoch(0)
    moved = {name: np.abs(array - before[name]).max() for name, array in parameters_of(trainer.network).items()}
    own = {name: moved.pop(name) for name in ("users.entities", "items.entities")}
    assert own == pytest.approx(dict.fromkeys(own, 0.01), rel=1e-3)
    assert set(moved) == {"users.w3", "items.w3", "items.values", "w4.0", "w4.1"}
    del moved["items.values"]  # W_3 does not read them at first: no gradient yet
    assert moved == pytest.approx(dict.fromkeys(moved, 0.0025), rel=1e-3)


def test_it_starts_at_the_pretrained_vectors() -> None:
    network = InteractionNetwork(USERS, ITEMS, dataclasses.replace(PLAIN, layers=1, readout="last"))
    users, items = infer_interactions(network, Pairs.of(*both([(0, 0)]), U, N_ITEMS))
    np.testing.assert_allclose(users[1:], USERS.entities[1:], rtol=1e-5)
    np.testing.assert_allclose(items[0], ITEMS.entities[0] + USERS.entities[0], rtol=1e-5, atol=1e-6)


def test_ranks_leave_known_items_out_and_share_ties() -> None:
    x_users, x_items = torch.eye(2), torch.tensor([[5.0, 1], [4, 1], [3, 1], [4, 1], [9, 1]])
    known = Pairs.of(np.array([0, 1]), np.array([4, 0]), 2, 5).into_users
    ranks = held_out_ranks(x_users, x_items, torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 2, 2]), known)
    assert ranks.tolist() == [1, 2.5, 4, 2.5], "without item 4 for user 0 and item 0 for user 1"


def test_held_out_pairs_are_one_of_a_user_who_has_three() -> None:
    users = np.repeat(np.arange(40), np.arange(40) % 5)
    hyper = dataclasses.replace(PLAIN, validation_share=0.5)
    keys = np.arange(40, dtype=np.uint64), np.arange(4, dtype=np.uint64)
    items = np.concatenate([np.arange(n % 5) for n in range(40)])
    held = held_out_pairs(users, items, keys, hyper, seed=1)
    assert held.sum() == 8 and np.bincount(users[held]).max() == 1
    assert (np.bincount(users)[users[held]] >= 3).all()


def planted_pair(data: Planted, d: int = 16) -> tuple[Pretrained, Pretrained, tuple[np.ndarray, np.ndarray]]:
    """Users without attributes, and everything else as items (with brands), at vectors that say nothing."""
    branded = data.relations == 1
    pairs = list(zip(data.heads[branded] - data.n_users, data.tails[branded] - data.n_users, strict=True))
    n_rest = data.n_entities - data.n_users
    brands = np.unique([v for _, v in pairs]).tolist()
    rows = [(int(i), brands.index(v)) for i, v in pairs]
    users, tails = data.purchases
    sides = pretrained(data.n_users, [], [], d, 3), pretrained(n_rest, rows, [0] * len(brands), d, 4)
    sides = [dataclasses.replace(s, entities=s.entities * np.float32(0.1)) for s in sides]
    return *sides, (users, tails - data.n_users)


LEARNS = InteractionHyperparameters(
    layers=2, batches=4, least_batch=1, epochs=25, validation_share=0, learning_rate=0.02, recent=0
)


def trained(data: Planted, hyper: InteractionHyperparameters = LEARNS, seed: int = 1, **more) -> InteractionResult:
    users, items, pairs = planted_pair(data)
    return train_interactions(users, items, pairs, hyper, seed=seed, deterministic=True, **more)


def vectors(data: Planted, arrays: dict[str, np.ndarray], hyper: InteractionHyperparameters = LEARNS) -> np.ndarray:
    users, items, pairs = planted_pair(data)
    network = InteractionNetwork(users, items, hyper)
    load_parameters(network, arrays)
    return np.concatenate(infer_interactions(network, Pairs.of(*pairs, len(users.entities), len(items.entities))))


class TestInteractions(ModelContract):
    """The shared contract. Relations have no vector: the layers' matrices stand in for them."""

    learned_share = 0.9

    def fit(self, data: Planted, seed: int) -> Fitted:
        arrays = trained(data, seed=seed).arrays
        return Fitted(vectors(data, arrays), np.stack([arrays["w4.0"]]), arrays)

    def gradients(self, data: Planted) -> dict[str, np.ndarray]:
        users, items, pairs = planted_pair(data)
        trainer = InteractionTrainer(users, items, pairs, np.ones(data.n_users, bool), LEARNS, 1, None)
        with torch.no_grad():
            trainer.network.items.w3.add_(0.1)
        others = torch.from_numpy(np.roll(pairs[1], 7)).unsqueeze(1)
        trainer.loss(*map(torch.from_numpy, pairs), others)[0].backward()
        return {name: values.grad.numpy() for name, values in trainer.network.named_parameters()}


def test_a_killed_training_goes_on_to_the_same_end(tmp_path: Path) -> None:
    hyper = dataclasses.replace(LEARNS, epochs=6, evaluate_every=2, validation_share=0.5, patience=0)
    whole = trained(planted(), hyper)

    def stop(entry: dict[str, float]) -> None:
        if entry["epoch"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(planted(), hyper, resume=tmp_path / "run", progress=stop)
    seen: list[float] = []
    again = trained(planted(), hyper, resume=tmp_path / "run", progress=lambda entry: seen.append(entry["epoch"]))
    assert seen == [2, 3, 4, 5] and whole.best_epoch == again.best_epoch
    for name, array in whole.arrays.items():
        np.testing.assert_array_equal(array, again.arrays[name], err_msg=name)


def test_a_state_of_other_pairs_or_types_is_not_gone_on_from(tmp_path: Path) -> None:
    hyper = dataclasses.replace(LEARNS, epochs=2)
    other = pretrained(N_ITEMS, [(0, 0), (0, 1), (1, 1), (2, 2), (3, 0), (3, 2)], [0, 1, 1], seed=1)
    seen: list[float] = []
    for items, pairs in ((ITEMS, TOUCHED), (ITEMS, [*TOUCHED[:-1], (4, 2)]), (other, TOUCHED)):
        seen.clear()
        for _ in range(2):
            train_interactions(
                USERS, items, both(pairs), hyper, seed=1, resume=tmp_path / "run",
                progress=lambda entry: seen.append(entry["epoch"]))  # fmt: skip
        assert seen == [0, 1], "from the beginning, and the second call had nothing left to do"


def test_an_epoch_takes_each_pair_once_and_held_out_ones_neither_teach_nor_pass_messages(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    hyper, (users, items, pairs) = dataclasses.replace(LEARNS, validation_share=0.5), planted_pair(planted())
    trainer = InteractionTrainer(users, items, pairs, np.ones(len(users.entities), bool), hyper, 1, None)
    held, known = set(zip(*(c.tolist() for c in trainer.held_out), strict=True)), trainer.pairs.into_users
    left = sorted(set(zip(*(c.tolist() for c in pairs), strict=True)) - held)
    assert len(held) > 10
    assert list(zip(known.destinations.tolist(), known.sources.tolist(), strict=True)) == left
    x_u, x_i = infer_interactions(trainer.network, trainer.pairs)
    ranks = []
    for u, i in held:
        scores = x_i @ x_u[u]
        ranks.append(1 + sum(scores[j] > scores[i] for j in range(len(x_i)) if (u, j) not in left))
    found = trainer.evaluate()
    assert found["validation_hr"] == pytest.approx(np.mean([r <= 10 for r in ranks]))
    assert found["validation_ndcg"] == pytest.approx(np.mean([(r <= 10) / np.log2(1 + r) for r in ranks]))
    taken, whole = [], trainer.loss
    monkeypatch.setattr(trainer, "loss", lambda u, i, *rest: (taken.append(torch.stack([u, i])), whole(u, i, *rest))[1])
    trainer.epoch(0)
    assert sorted(zip(*torch.cat(taken, dim=1).tolist(), strict=True)) == left


def test_users_who_are_not_taught_are_placed_and_change_nothing_that_is_drawn() -> None:
    data = planted()
    taught = data.users % 4 != 0
    arrays = trained(data, taught=taught).arrays
    placed = vectors(data, arrays)[data.users]
    assert np.isfinite(placed).all() and not np.array_equal(arrays["users.entities"], trained(data).arrays[
        "users.entities"])
    none = trained(data, taught=np.zeros(data.n_users, bool))
    assert none.history == [] and none.best_epoch == -1


def test_a_warm_start_goes_on() -> None:
    first = trained(planted())
    second = trained(planted(), dataclasses.replace(LEARNS, epochs=1), initial=first.arrays)
    assert second.history[0]["loss"] < 1.2 * first.history[-1]["loss"] < 0.7 * first.history[0]["loss"]


def test_a_warm_start_learns_at_its_share_of_the_rate() -> None:
    hyper, first = dataclasses.replace(LEARNS, epochs=2), trained(planted()).arrays
    slow, plain, fast = (
        trained(planted(), dataclasses.replace(hyper, learning_rate=rate, warm_rate_share=share), initial=first).arrays
        for rate, share in ((0.5**6, 0.25), (0.5**8, 1.0), (0.5**6, 1.0)))
    assert all(np.array_equal(slow[name], plain[name]) for name in slow)
    assert not np.array_equal(slow["users.entities"], fast["users.entities"])


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match="items' entities has shape"):
        InteractionNetwork(USERS, pretrained(3, [], [], d=6), PLAIN)
    with pytest.raises(ShapeError, match="values has shape"):
        Pretrained(ITEMS.entities, ITEMS.values[:1], ITEMS.rows)
    deeper = dataclasses.replace(LEARNS, layers=3)
    with pytest.raises(ValueError, match=r"'w4\.2' is missing"):
        trained(planted(), deeper, initial=trained(planted()).arrays)


def test_a_warm_start_joins_entities_values_and_the_columns_of_types() -> None:
    """Item 0 goes and one comes; the second type becomes the first, and another is new; a value stays."""
    hyper = dataclasses.replace(LEARNS, epochs=2)
    first = train_interactions(USERS, ITEMS, both(TOUCHED), hyper, seed=1, deterministic=True).arrays
    tonight = pretrained(N_ITEMS, [(0, 0), (1, 1), (2, 1)], [0, 1], seed=8)
    fresh = parameters_of(InteractionNetwork(USERS, tonight, hyper))
    users = Places(np.arange(U), np.zeros(0, np.int64), np.zeros(0, np.int64))
    items = Places(np.array([1, 2, 3, 4, -1]), np.array([1, -1]), np.array([2, -1]))
    names = {"user": "users", "item": "items"}
    found = interactions_brought_forward(first, fresh, {"user": users, "item": items}, names)
    np.testing.assert_array_equal(found["items.entities"][:4], first["items.entities"][1:])
    np.testing.assert_array_equal(found["items.entities"][4], tonight.entities[4])
    np.testing.assert_array_equal(found["items.values"], np.stack([first["items.values"][2], tonight.values[1]]))
    half = D // 2
    w3, before = found["items.w3"], first["items.w3"]
    np.testing.assert_array_equal(w3[:, :D], before[:, :D])
    np.testing.assert_array_equal(w3[:, D : D + half], before[:, D + half :], err_msg="the second type's columns")
    np.testing.assert_array_equal(w3[:, D + half :], 0, err_msg="a new type says nothing yet")
    moment = found["optimiser.items.entities.exp_avg"]
    assert (moment[4] == 0).all() and np.array_equal(moment[:4], first["optimiser.items.entities.exp_avg"][1:])
    np.testing.assert_array_equal(found["w4.0"], first["w4.0"])
    more = train_interactions(USERS, tonight, both(TOUCHED), hyper, seed=1, initial=found)
    assert all(np.isfinite(array).all() for array in more.arrays.values())
