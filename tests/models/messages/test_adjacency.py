"""The primitives of messages, in every engine against loops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from models.messages.adjacency import Adjacency
from models.messages.passing import adjacency_of, dgl
from tests.models.test_graph import random_graph

ENGINES = ("dgl", "torch", "dense")

Primitive = Callable[[Adjacency, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
PRIMITIVES: dict[str, Primitive] = {
    "dot": lambda into, x_SD, y_VD, w_E: into.dot(x_SD, y_VD),
    "softmax": lambda into, x_SD, y_VD, w_E: into.softmax(w_E),
    "total": lambda into, x_SD, y_VD, w_E: into.total(w_E),
    "sum": lambda into, x_SD, y_VD, w_E: into.weighted_sum(x_SD),
    "weighted_sum": lambda into, x_SD, y_VD, w_E: into.weighted_sum(x_SD, w_E),
    "attention": lambda into, x_SD, y_VD, w_E: into.weighted_sum(x_SD, into.softmax(w_E * into.dot(x_SD, y_VD))),
}


def random_leaf(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=random, dtype=torch.float64, requires_grad=True)


def slow(name: str, messages: Adjacency, x_SD: np.ndarray, y_VD: np.ndarray, w_E: np.ndarray) -> np.ndarray:
    """A primitive by loops over destinations."""
    offsets, sources = messages.offsets.tolist(), messages.sources.tolist()
    per_message: list[float] = []
    per_destination: list[np.ndarray] = []
    for v in range(len(offsets) - 1):
        into = range(offsets[v], offsets[v + 1])
        dots = [float(x_SD[sources[e]] @ y_VD[v]) for e in into]
        scores = [w_E[e] * dots[i] for i, e in enumerate(into)] if name == "attention" else [w_E[e] for e in into]
        exponentials = [np.exp(score) for score in scores]
        softmax = [value / sum(exponentials) for value in exponentials]
        per_message += dots if name == "dot" else softmax
        weights = {"sum": [1.0] * len(into), "attention": softmax}.get(name, [w_E[e] for e in into])
        zero = np.zeros(()) if name == "total" else np.zeros(x_SD.shape[1])
        terms = [w if name == "total" else w * x_SD[sources[e]] for w, e in zip(weights, into, strict=True)]
        per_destination.append(sum(terms, zero))
    return np.array(per_message if name in ("dot", "softmax") else per_destination)


@pytest.mark.parametrize("side", ["from_nodes", "from_relations"])
@pytest.mark.parametrize("name", PRIMITIVES)
def test_primitives_agree_with_loops_and_their_gradients_with_each_other(name: str, side: str) -> None:
    graph = random_graph(n_edges=50)
    results = {}
    whole = getattr(graph.into(0, graph.n_entities), side)
    for engine in ENGINES:
        into = adjacency_of(whole.offsets, whole.sources, whole.n_sources, engine)
        shapes = ((into.n_sources, 5), (graph.n_entities, 5), (into.sources.numel(),))
        inputs = [random_leaf(shape, seed) for seed, shape in enumerate(shapes)]
        output = PRIMITIVES[name](into, *inputs)
        (output * random_leaf(output.shape, 9).detach()).sum().backward()
        results[engine] = (output.detach(), [values.grad for values in inputs])
        expected = slow(name, into, *(values.detach().numpy() for values in inputs))
        np.testing.assert_allclose(output.detach().numpy(), expected, atol=1e-12)
    for of_dgl, *others in zip(*(results[engine][1] for engine in ENGINES), strict=True):
        for other in others:
            assert (of_dgl is None) == (other is None)
            if of_dgl is not None:
                torch.testing.assert_close(of_dgl, other, rtol=1e-10, atol=1e-12)


def test_torch_gradients_agree_with_finite_differences() -> None:
    graph = random_graph(n_entities=6, n_edges=10)
    into = graph.into(0, 6, engine="torch").from_nodes
    shapes = ((6, 3), (6, 3), (into.sources.numel(),))
    inputs = tuple(random_leaf(shape, seed) for seed, shape in enumerate(shapes))
    assert torch.autograd.gradcheck(lambda x, y, w: PRIMITIVES["attention"](into, x, y, w), inputs)


@pytest.mark.parametrize("engine", ENGINES)
def test_dgls_engine_and_no_other_runs_dgls_kernels(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setattr(dgl.ops, "copy_u_sum", lambda block, x_SD: called.append(block.num_edges()) or x_SD)
    into = random_graph(n_edges=50).into(0, 12).from_nodes
    adjacency_of(into.offsets, into.sources, into.n_sources, engine).weighted_sum(torch.ones(12, 2))
    assert called == ([100] if engine == "dgl" else [])


def test_no_message_gives_zeros_in_every_engine() -> None:
    offsets, sources = torch.zeros(4, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
    for engine in ENGINES:
        into = adjacency_of(offsets, sources, 3, engine)
        assert torch.equal(into.weighted_sum(torch.ones(3, 2)), torch.zeros(3, 2))
        assert into.softmax(torch.empty(0)).numel() == 0
