"""Cross-entropy of pairs and drawn ones: the compiled pass against a loop and autograd, and what does not count."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.learning.contrast import contrast_of_products

N, D, B, K = 9, 7, 40, 3
RNG = np.random.default_rng(5)
X = torch.from_numpy(RNG.normal(size=(N, D)))
ANCHORS, PARTNERS, DRAWN = (torch.from_numpy(RNG.integers(N, size=shape)) for shape in (B, B, (B, K)))
COUNTS = torch.from_numpy(RNG.random((B, K)) < 0.6)
COUNTS[0], COUNTS[1] = False, True


def mean_and_gradient(
    dtype: torch.dtype, counts: torch.Tensor = COUNTS, drawn: torch.Tensor = DRAWN
) -> tuple[float, np.ndarray]:
    x = X.clone().to(dtype).requires_grad_()
    mean = contrast_of_products(x, ANCHORS, PARTNERS, drawn, counts)
    (3 * mean).backward()
    return float(mean.detach()), x.grad.double().numpy()


def test_the_compiled_pass_is_the_loop_and_its_gradient_is_that_of_autograd() -> None:
    y, terms = (X @ X.T).numpy(), []
    for a, p, js, counts in zip(*(part.tolist() for part in (ANCHORS, PARTNERS, DRAWN, COUNTS)), strict=True):
        negative = [np.log1p(np.exp(y[a, j])) for j, count in zip(js, counts, strict=True) if count]
        terms.append(np.log1p(np.exp(-y[a, p])) + (np.mean(negative) if negative else 0))
    fused, plain = (mean_and_gradient(dtype) for dtype in (torch.float32, torch.float64))
    assert plain[0] == pytest.approx(np.mean(terms), rel=1e-12)
    assert fused[0] == pytest.approx(np.mean(terms), rel=1e-6)
    assert np.abs(plain[1]).max() > 0.1
    np.testing.assert_allclose(fused[1], plain[1], atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_drawn_ones_that_do_not_count_change_nothing(dtype: torch.dtype) -> None:
    others = torch.where(COUNTS, DRAWN, (DRAWN + 1) % N)
    first, again = mean_and_gradient(dtype), mean_and_gradient(dtype, drawn=others)
    assert first[0] == again[0] and np.array_equal(first[1], again[1])
    assert mean_and_gradient(dtype, torch.zeros_like(COUNTS))[0] < first[0]
