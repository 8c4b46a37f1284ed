"""HUGT: every equation against loops written from the paper; causality; both engines; what is published."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from models.hugt import HUGT, batches_of, infer_hugt, states_of
from models.hugt_graph import Histories, HUGs
from models.hugt_hyperparameters import HUGTHyperparameters
from models.hugt_loss import loss_of_all, loss_of_candidates
from models.hyperparameters import HyperparameterError
from models.learning.epochs import parameters_of
from models.shapes import ShapeError
from tests.models import reference_hugt as reference

ITEMS, LONGEST = 9, 12
TOY = HUGTHyperparameters(width=8, heads=4, neighbours=3, longest_path=3, dropout=0, svd_rank=4)
# one event; one item again and again; equally near items; longer ones
HISTORIES = [[3], [2, 2, 2, 2, 2], [0, 1, 2, 3, 0, 4, 8, 1], [5, 4, 3, 7, 7, 6, 0, 1, 2, 5, 8, 3]]
KINDS = [
    {"sequence_heads": 4}, {"sequence_heads": 2}, {"sequence_heads": 0}, {"variant": "se", "sequence_heads": 1},
    {"variant": "se", "sequence_heads": 0}, {"arrangement": "graph_first"},
    {"arrangement": "sequence_first", "variant": "se"}, {"head_width": 8}]  # fmt: skip


def histories(lists: list[list[int]] = HISTORIES) -> Histories:
    users = np.repeat(np.arange(len(lists)), [len(one) for one in lists])
    return Histories.of(users, np.concatenate(lists), len(lists))


def vectors(seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(ITEMS, 4)).astype(np.float32)
    found[4] = found[3]  # equally near to everything
    found[6] = 0  # nobody touched it
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)


def random_model(hyper: HUGTHyperparameters, kind: torch.dtype = torch.float64) -> HUGT:
    random = torch.Generator().manual_seed(0)
    model = HUGT(ITEMS, LONGEST, hyper, random).to(kind)
    with torch.no_grad():
        for values in model.parameters():
            values.copy_(torch.randn(values.shape, generator=random, dtype=torch.float64) / 2)
    return model.eval()


def by_loops(model: HUGT, lists: list[list[int]], hyper: HUGTHyperparameters) -> np.ndarray:
    p = {name: x.detach().double().numpy() for name, x in model.named_parameters()}
    splits = [hyper.sequence_heads_of(layer) for layer in range(hyper.layers)]
    found = []
    for items in lists:
        near = reference.nearest(items, vectors(), hyper.neighbours)
        found.append(reference.states(items, p, hyper.heads, splits, near, hyper.longest_path))
    return np.concatenate(found)


@pytest.mark.parametrize("change", KINDS)
def test_the_states_are_those_of_the_papers_equations(change: dict[str, object]) -> None:
    hyper = dataclasses.replace(TOY, **change)
    exact, quick = random_model(hyper), random_model(hyper, torch.float32)
    hugs, expected = HUGs.of(histories(), vectors(), hyper), by_loops(exact, HISTORIES, hyper)
    np.testing.assert_allclose(exact(hugs).detach(), expected, rtol=1e-9, atol=1e-10)  # torch's attention, padded
    np.testing.assert_allclose(quick(hugs).detach(), expected, rtol=1e-4, atol=1e-4)  # the compiled one
    ends = histories().offsets[1:] - 1
    for model, tolerance in ((exact, 1e-9), (quick, 1e-4)):
        np.testing.assert_allclose(model.last_states(hugs), expected[ends], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("change", KINDS)
def test_both_engines_give_the_same_gradients(change: dict[str, object]) -> None:
    hyper = dataclasses.replace(TOY, **change)
    hugs, found = HUGs.of(histories(), vectors(), hyper), []
    weights = torch.randn((len(histories().items), hyper.width), generator=torch.Generator().manual_seed(1))
    for kind in (torch.float64, torch.float32):
        model = random_model(hyper, kind)
        (model(hugs) * weights.to(kind)).sum().backward()
        found.append({name: values.grad.double().numpy() for name, values in model.named_parameters()
                      if name != "biases"})  # fmt: skip
    for name, exact in found[0].items():
        np.testing.assert_allclose(found[1][name], exact, rtol=2e-3, atol=2e-3 * np.abs(exact).max(), err_msg=name)
        assert np.abs(exact).max() > 0, name


@pytest.mark.parametrize("change", KINDS)
@pytest.mark.parametrize("kind", [torch.float64, torch.float32])
def test_a_later_event_changes_no_earlier_state(change: dict[str, object], kind: torch.dtype) -> None:
    hyper = dataclasses.replace(TOY, **change, neighbours=2)
    model, changed = random_model(hyper, kind), False
    for place in (4, 8, 11):
        other = [*HISTORIES[3]]
        other[place] = 6 if place == 11 else 1
        before, after = (model(HUGs.of(histories([one]), vectors(), hyper)).detach() for one in (HISTORIES[3], other))
        assert torch.equal(before[:place], after[:place])
        changed = changed or not torch.equal(before[place:], after[place:])
    assert changed


@pytest.mark.parametrize("neighbours", [2, 3, 50])
def test_edges_and_paths_are_those_of_the_definition(neighbours: int) -> None:
    hyper = dataclasses.replace(TOY, variant="se", neighbours=neighbours)
    hugs = HUGs.of(histories(), vectors(), hyper)
    for user, items in enumerate(HISTORIES):
        start, near = histories().offsets[user], reference.nearest(items, vectors(), neighbours)
        rows = hugs.neighbours[start : start + len(items)]
        assert [[int(j) - start for j in row if j >= 0] for row in rows] == near
        expected = [reference.shortest(near, i, i, j, hyper.longest_path) for i in range(len(items))
                    for j in range(i + 1)]  # fmt: skip
        assert hugs.codes[hugs.code_offsets[user] : hugs.code_offsets[user + 1]].tolist() == expected


def test_long_paths_are_found_and_cut() -> None:
    """A chain, each event near the one before alone: the path back is as long as the chain, or S."""
    angles = np.arange(20) * 0.05
    chain = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    hyper = dataclasses.replace(TOY, variant="se", neighbours=2, longest_path=7)
    hugs = HUGs.of(Histories(np.arange(20), np.array([0, 20])), chain, hyper)
    assert hugs.codes[-20:].tolist() == [min(19 - j, 7) for j in range(20)]


@pytest.mark.parametrize("kind", [torch.float64, torch.float32])
def test_the_loss_over_all_items_and_its_gradients(kind: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.hugt_loss._PART_CELLS", 4 * ITEMS)
    model, targets = random_model(TOY, kind), torch.tensor([0, 3, 3, 8, 1, 0])
    h = torch.randn((6, TOY.width), dtype=kind, generator=torch.Generator().manual_seed(2), requires_grad=True)
    p = {name: x.detach().double().numpy() for name, x in model.named_parameters()}
    loss = loss_of_all(h, model.items, model.biases, targets)
    expected = reference.loss(h.detach().double().numpy(), p, targets.tolist(), list(range(ITEMS)))
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    found = torch.autograd.grad(3 * loss, (h, model.items, model.biases))
    plain = torch.nn.functional.cross_entropy(model.scores(h), targets)
    for one, other in zip(found, torch.autograd.grad(3 * plain, (h, model.items, model.biases)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_loss_over_candidates_counts_a_target_once() -> None:
    model, targets, candidates = random_model(TOY), [0, 3, 8], [3, 5, 7]
    h = torch.randn((3, TOY.width), dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    p = {name: x.detach().numpy() for name, x in model.named_parameters()}
    loss = loss_of_candidates(h, model.items, model.biases, torch.tensor(targets), torch.tensor(candidates))
    assert loss.item() == pytest.approx(reference.loss(h.numpy(), p, targets, candidates), rel=1e-9)
    everything = loss_of_candidates(h, model.items, model.biases, torch.tensor(targets), torch.arange(ITEMS))
    assert everything.item() == pytest.approx(loss_of_all(h, model.items, model.biases, torch.tensor(targets)).item())


@pytest.mark.parametrize("chunk", [1, 10, 1000])
def test_inference_in_chunks_knows_the_last_events_alone(chunk: int) -> None:
    hyper = dataclasses.replace(TOY, inference_chunk=chunk)
    model = random_model(hyper)
    long = [0, 5, 7, *HISTORIES[3]]
    found = states_of(model, histories([[], *HISTORIES, long]), vectors())
    ends = histories().offsets[1:] - 1
    expected = by_loops(model, HISTORIES, hyper)[ends]
    np.testing.assert_allclose(found, [0 * expected[0], *expected, expected[3]], rtol=1e-5, atol=1e-6)


def test_a_product_of_what_is_published_is_a_score() -> None:
    model, twin = random_model(TOY, torch.float32), HUGT(ITEMS, LONGEST, TOY, torch.Generator().manual_seed(7))
    users, items = infer_hugt(twin, histories([*HISTORIES, []]), vectors(), parameters_of(model))
    assert users.shape == (5, TOY.dimension) and users.dtype == items.dtype == np.float32
    states = torch.from_numpy(states_of(model, histories([*HISTORIES, []]), vectors()))
    np.testing.assert_allclose(users @ items.T, model.scores(states).detach(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose((users @ items.T)[-1], model.biases.detach(), err_msg="without an event: the biases")


def test_batches_hold_so_many_events_or_one_history() -> None:
    lengths = np.array([1, 2, 3, 50, 4, 4])
    assert [(s.start, s.stop) for s in batches_of(lengths, 8)] == [(0, 3), (3, 4), (4, 6)]


def test_parameters_and_items_of_another_shape_are_refused() -> None:
    model = random_model(TOY, torch.float32)
    with pytest.raises(ValueError, match=r"'blocks.0.psi' is of shape"):
        infer_hugt(random_model(dataclasses.replace(TOY, sequence_heads=3), torch.float32), histories(), vectors(),
                   parameters_of(model))  # fmt: skip
    with pytest.raises(ShapeError, match="items has values from 0 to 9; expected dense indices of items, from 0 to 8"):
        model(HUGs.of(histories([[0, 9]]), np.concatenate([vectors(), vectors()]), TOY))
    with pytest.raises(ShapeError, match="offsets run from 0 to 3"):
        Histories(np.zeros(4, np.int64), np.array([0, 3]))
    with pytest.raises(ShapeError, match="graph heads need the items' vectors"):
        HUGs.of(histories(), None, TOY)


@pytest.mark.parametrize(("change", "message"), [
    ({"variant": "gat"}, "variant is 'gat'"), ({"sequence_heads": 5}, "sequence_heads is 5"),
    ({"width": 10}, "heads is 4; expected a divisor of width, which is 10"), ({"neighbours": 0}, "neighbours is 0"),
    ({"arrangement": "graph_first", "layers": 1}, "layers is 1"), ({"longest_path": 101}, "longest_path is 101"),
    ({"horizon_days": 36_501}, "horizon_days is 36501"), ({"horizon_days": -1}, "horizon_days is -1"),
    ({"dropout": 1.0}, "dropout is 1.0"), ({"device": "tpu"}, "device is 'tpu'")])  # fmt: skip
def test_settings_out_of_range_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(HyperparameterError, match=message):
        HUGTHyperparameters(**change)
