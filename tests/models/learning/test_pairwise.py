"""BPR of a batch: the compiled pass against autograd and a loop, and what counts against a pair."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.learning.pairwise import bpr_mean, touched
from models.messages.adjacency import Adjacency

U, N_ITEMS, D, B, K = 5, 9, 7, 40, 3
RNG = np.random.default_rng(3)
TOUCHED = RNG.random((U, N_ITEMS)) < 0.3
TOUCHED[4] = False  # has nothing
X_USERS, X_ITEMS = (torch.from_numpy(RNG.normal(size=(n, D))) for n in (U, N_ITEMS))
BATCH = tuple(torch.from_numpy(RNG.integers(n, size=shape)) for n, shape in ((U, B), (N_ITEMS, B), (N_ITEMS, (B, K))))


def known(touches: np.ndarray = TOUCHED) -> Adjacency:
    offsets = np.concatenate([[0], np.cumsum(touches.sum(1))])
    return Adjacency(*map(torch.from_numpy, (offsets, np.nonzero(touches)[1])), touches.shape[1], "torch")


def mean_and_gradients(
    dtype: torch.dtype, touches: np.ndarray = TOUCHED, hardest: bool = False
) -> tuple[float, np.ndarray, np.ndarray]:
    tables = [x.clone().to(dtype).requires_grad_() for x in (X_USERS, X_ITEMS)]
    mean = bpr_mean(*tables, known(touches), *BATCH, hardest)
    (3 * mean).backward()
    return float(mean.detach()), *(table.grad.double().numpy() for table in tables)


@pytest.mark.parametrize("hardest", [False, True])
def test_the_compiled_pass_is_the_loop_and_its_gradients_are_those_of_autograd(hardest: bool) -> None:
    users, items, drawn = (part.numpy() for part in BATCH)
    y, terms = (X_USERS @ X_ITEMS.T).numpy(), []
    for u, i, js in zip(users, items, drawn, strict=True):
        found = [np.log1p(np.exp(y[u, j] - y[u, i])) for j in js if not TOUCHED[u, j]]
        terms += [max(found)] if hardest and found else found
    assert hardest or 0.5 * B * K < len(terms) < B * K, "some drawn items were touched"
    fused, plain = (mean_and_gradients(dtype, hardest=hardest) for dtype in (torch.float32, torch.float64))
    assert fused[0] == pytest.approx(np.mean(terms), rel=1e-6)
    assert plain[0] == pytest.approx(np.mean(terms), rel=1e-12)
    for ours, theirs in zip(fused[1:], plain[1:], strict=True):
        assert np.abs(theirs).max() > 0.01
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_where_everything_was_touched_nothing_is_learned(dtype: torch.dtype) -> None:
    mean, *gradients = mean_and_gradients(dtype, np.ones((U, N_ITEMS), bool))
    assert mean == 0 and not any(gradient.any() for gradient in gradients)


def test_touched_knows_every_pair() -> None:
    users, items = torch.meshgrid(torch.arange(U), torch.arange(N_ITEMS), indexing="ij")
    np.testing.assert_array_equal(touched(known(), users, items).numpy(), TOUCHED)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pairs_may_have_vectors_of_their_own(dtype: torch.dtype) -> None:
    """Twice a user's vector for every second pair, as a table with a row for each pair, and as tables of the users."""
    users, items, drawn = BATCH
    twice = torch.arange(B) % 2 == 1
    tables = [X_USERS.clone().to(dtype).requires_grad_(), X_ITEMS.clone().to(dtype).requires_grad_()]
    rows = tables[0][users] * (1 + twice.to(dtype)).unsqueeze(1)
    bpr_mean(rows, tables[1], known(), *BATCH, False, torch.arange(B)).backward()
    expected = [table.grad.clone() for table in tables]
    for table in tables:
        table.grad = None
    both = torch.cat([tables[0], 2 * tables[0]])
    twin = np.concatenate([TOUCHED, TOUCHED])
    bpr_mean(both, tables[1], known(twin), users + U * twice, items, drawn).backward()
    for table, gradient in zip(tables, expected, strict=True):
        assert gradient.abs().max() > 0.01
        np.testing.assert_allclose(gradient.numpy(), table.grad.numpy(), atol=1e-6)
