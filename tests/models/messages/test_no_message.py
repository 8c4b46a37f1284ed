"""Where nobody, or nothing at all, has a message: zero messages in every engine, forward and backward."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from models.graph import KnowledgeGraph
from models.hyperparameters import KQGCHyperparameters, RHGNHyperparameters
from models.kqgc import KQGC
from models.messages.meta_relations import MetaRelations
from models.messages.passing import ENGINES, Messages, adjacency_of
from models.rhgn import RHGN

D, HEADS = 8, 4
NONE = torch.empty(0, dtype=torch.int64)


def leaf(*shape: int) -> torch.Tensor:
    return torch.ones(shape, requires_grad=True)


@pytest.mark.parametrize(
    ("engine", "destinations", "sources"), itertools.product((*ENGINES, "dense"), (0, 3), (0, 5))
)
def test_every_primitive_gives_zeros_and_gradients_of_zero(engine: str, destinations: int, sources: int) -> None:
    into = adjacency_of(torch.zeros(destinations + 1, dtype=torch.int64), NONE, sources, engine)
    x_SD, y_VD, w_E, pairs_SY = leaf(sources, D), leaf(destinations, D), leaf(0), leaf(sources, 2 * D)
    per_destination = {
        "weighted_sum": into.weighted_sum(x_SD, w_E), "sum": into.weighted_sum(x_SD),
        "attend": into.attend(y_VD, pairs_SY, HEADS),
    }  # fmt: skip
    for name, found in per_destination.items():
        assert torch.equal(found, torch.zeros(destinations, D)), name
    assert torch.equal(into.total(w_E), torch.zeros(destinations))
    per_message = {"dot": into.dot(x_SD, y_VD), "softmax": into.softmax(w_E)}
    assert all(found.shape == (0,) for found in per_message.values())
    attention = into.attention(y_VD, x_SD, HEADS)
    assert attention.shape == (0, HEADS)
    sum(found.sum() for found in (*per_destination.values(), *per_message.values(), attention)).backward()
    for values in (x_SD, y_VD, w_E, pairs_SY):
        assert values.grad is None or not values.grad.any()


def nobodys(engine: str, n_codes: int = 4) -> Messages:
    """Three nodes who hear nothing, of four relation codes."""
    return Messages.build(torch.zeros(4, dtype=torch.int64), NONE, NONE, 3, n_codes, engine)


@pytest.mark.parametrize(("engine", "softmax_over"), itertools.product(ENGINES, ("all", "relation")))
def test_a_batch_in_which_nobody_has_a_message_goes_through_rhgn(engine: str, softmax_over: str) -> None:
    hyper = RHGNHyperparameters(width=D, heads=HEADS, dropout=0, softmax_over=softmax_over, layers=2)
    model, types = RHGN(D, 2, [0, 0, 1, 1], [3], hyper), torch.tensor([0, 1, 1])
    counts = torch.zeros(3, 4, dtype=torch.int64)
    meta = MetaRelations.of(nobodys(engine), softmax_over == "relation", counts)
    x_SD = torch.randn(3, D, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = model([meta, meta], x_SD, types)
    expected = model.project(x_SD, types)
    for layer in model.layers:
        expected = layer.map(torch.zeros(3, D), types) + expected  # GELU(0) = 0
    torch.testing.assert_close(found, expected)
    model.loss(model.logits(found), torch.tensor([[0], [1], [2]])).backward()
    assert torch.isfinite(x_SD.grad).all() and x_SD.grad.any()
    assert meta.attention(x_SD.detach(), torch.empty(0, D), HEADS).shape == (0, HEADS)


@pytest.mark.parametrize(
    ("engine", "aggregator", "n_codes"),
    itertools.product(ENGINES, ("mean", "attention1", "attention2"), (4, 100)),
)
def test_a_batch_in_which_nobody_has_a_message_goes_through_kqgc(engine: str, aggregator: str, n_codes: int) -> None:
    """Also with so many relations that they are no small matrix, and with the printed ratio."""
    for normalisation in ("softmax", "ratio"):
        hyper = KQGCHyperparameters(
            learned=True, aggregator=aggregator, attention_normalisation=normalisation, bias=False
        )
        model = KQGC(D, hyper)
        h_SD, r_MD = leaf(3, D), leaf(n_codes // 2, D)
        found, _ = model([nobodys(engine, n_codes)], h_SD, r_MD)
        torch.testing.assert_close(found, h_SD @ model.weights[0].T)
        found.sum().backward()
        assert torch.isfinite(h_SD.grad).all()


@pytest.mark.parametrize(("engine", "per_relation"), itertools.product(ENGINES, (False, True)))
def test_a_sample_of_nodes_without_neighbours_goes_through(engine: str, per_relation: bool) -> None:
    """Node 2 has none; an edge that is hidden leaves the others none either."""
    graph = KnowledgeGraph(np.array([0]), np.array([0]), np.array([1]), n_entities=3, n_relations=1)
    sampler = graph.sampler(5, 0, per_relation=per_relation, engine=engine)
    for nodes, hidden in ((torch.tensor([2]), None), (torch.tensor([0, 1, 2]), np.array([0]))):
        sources, layers = sampler.sample(nodes, 2, hidden)
        assert torch.equal(sources, nodes) and all(not messages.degrees.any() for messages in layers)
        counts = torch.zeros(len(nodes), graph.n_codes, dtype=torch.int64)
        meta = MetaRelations.of(layers[0], False, counts)
        assert torch.equal(meta.attend(leaf(len(nodes), D), leaf(0, 2 * D), HEADS), torch.zeros(len(nodes), D))
