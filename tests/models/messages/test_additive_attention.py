"""Additive attention along messages: both engines against loops, values and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.messages.additive_attention import SLOPE, attend, weights
from models.messages.adjacency import Adjacency
from models.messages.passing import adjacency_of
from tests.models.messages.test_attention import S, V, random_adjacency

HEADS = 3
ENGINES = ("torch", "dgl", "numba")


def tables(width: int, kind: torch.dtype = torch.float64, scale: float = 1.0, rows: int = V) -> list[torch.Tensor]:
    """(queries, keys, values), to be learned."""
    random, shapes = torch.Generator().manual_seed(3), ((rows, HEADS), (S, HEADS), (S, width))
    return [(scale * torch.randn(shape, generator=random, dtype=kind)).requires_grad_() for shape in shapes]


def slow(adjacency: Adjacency, q: np.ndarray, k: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(sums (V, D), weights (E,)) by loops."""
    sums, found = np.zeros((len(q), x.shape[1])), np.zeros(len(adjacency.sources))
    for v in range(len(q)):
        into = range(adjacency.offsets[v], adjacency.offsets[v + 1])
        for h in range(HEADS):
            z = [q[v, h] + k[adjacency.sources[e], h] for e in into]
            scores = [one if one > 0 else SLOPE * one for one in z]
            shares = np.exp(np.array(scores) - max(scores, default=0))
            for e, share in zip(into, shares, strict=True):
                found[e] += share / shares.sum() / HEADS
        for e in into:
            sums[v] += found[e] * x[adjacency.sources[e]]
    return sums, found


@pytest.mark.parametrize("width", [1, 6, 16, 48])
@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_gives_what_loops_give(engine: str, width: int) -> None:
    adjacency, given = random_adjacency(engine), tables(width)
    expected = slow(adjacency, *(table.detach().numpy() for table in given))
    np.testing.assert_allclose(attend(adjacency, *given).detach(), expected[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(weights(adjacency, *given[:2]).detach(), expected[1], rtol=1e-9)
    assert not attend(adjacency, *given)[V - 1].any(), "the last one has no message"


@pytest.mark.parametrize("width", [1, 6, 32])
def test_the_compiled_gradients_are_those_of_torchs_operations(width: int) -> None:
    found = []
    for engine in ("torch", "numba"):
        given = tables(width)
        outs = attend(random_adjacency(engine), *given)
        found.append(torch.autograd.grad((outs * torch.linspace(-1, 2, outs.numel()).view_as(outs)).sum(), given))
    for expected, compiled in zip(*found, strict=True):
        np.testing.assert_allclose(compiled, expected, rtol=1e-8, atol=1e-10)
    assert torch.autograd.gradcheck(lambda *given: attend(random_adjacency("numba"), *given), tables(2))


def test_large_scores_do_not_overflow() -> None:
    given = tables(16, torch.float32, scale=300.0)
    outs = attend(random_adjacency("numba"), *given)
    expected = slow(random_adjacency("numba"), *(table.detach().double().numpy() for table in given))[0]
    np.testing.assert_allclose(outs.detach(), expected, rtol=1e-3, atol=1e-2)
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(outs.sum(), given))


def test_any_number_of_threads_gives_the_same_bits() -> None:
    rng, before = np.random.default_rng(1), torch.get_num_threads()
    offsets = torch.from_numpy(np.linspace(0, 60_000, 301).astype(np.int64))
    adjacency, found = adjacency_of(offsets, torch.from_numpy(rng.integers(S, size=60_000)), S, "numba"), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            given = tables(16, torch.float32, rows=300)
            outs = attend(adjacency, *given)
            found.append([outs.detach(), *torch.autograd.grad(outs.square().sum(), given)])
    finally:
        torch.set_num_threads(before)
    for more in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], more, strict=True))
