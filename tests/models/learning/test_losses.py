"""Both losses: plain, masked, perfect, terrible, without broken triples, against loops written from the equations."""

from __future__ import annotations

import math

import pytest
import torch

from models.learning.losses import margin_loss, self_adversarial_loss

TRUE = torch.tensor([1.0, 4.0])
BROKEN = torch.tensor([[1.5, 3.0, 1.0], [2.0, 9.0, 4.5]])
ALL = torch.ones(2, 3, dtype=torch.bool)
SOME = torch.tensor([[True, False, True], [False, True, True]])
LOSSES = {
    "margin": lambda t, b, c: margin_loss(t, b, c, 1.0),
    "adversarial": lambda t, b, c: self_adversarial_loss(t, b, c, 2.0, 0.7),
}


def log_sigmoid(x: float) -> float:
    return -math.log(1 + math.exp(-x))


@pytest.mark.parametrize("counts", [ALL, SOME])
def test_margin_loss_is_equation_1(counts: torch.Tensor) -> None:
    for i, loss in enumerate(margin_loss(TRUE, BROKEN, counts, 1.0)):
        terms = [max(0.0, 1.0 + float(TRUE[i] - BROKEN[i, j])) for j in range(3) if counts[i, j]]
        assert float(loss) == pytest.approx(sum(terms))


@pytest.mark.parametrize("counts", [ALL, SOME])
def test_self_adversarial_loss_is_equation_5_of_rotate(counts: torch.Tensor) -> None:
    gamma, alpha = 2.0, 0.7
    for i, loss in enumerate(self_adversarial_loss(TRUE, BROKEN, counts, gamma, alpha)):
        counted = [float(BROKEN[i, j]) for j in range(3) if counts[i, j]]
        total = sum(math.exp(alpha * (gamma - b)) for b in counted)
        expected = -log_sigmoid(gamma - float(TRUE[i]))
        expected -= sum(math.exp(alpha * (gamma - b)) / total * log_sigmoid(b - gamma) for b in counted)
        assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_no_gradient_flows_through_the_adversarial_weights() -> None:
    broken = BROKEN.clone().requires_grad_()
    self_adversarial_loss(TRUE, broken, ALL, 2.0, 0.7).sum().backward()
    weights = torch.softmax(-0.7 * BROKEN, dim=1)
    torch.testing.assert_close(broken.grad, -weights * torch.sigmoid(2.0 - BROKEN))


@pytest.mark.parametrize("name", LOSSES)
def test_perfect_is_nothing_and_terrible_grows_with_the_error(name: str) -> None:
    near, far = torch.zeros(2), torch.full((2,), 50.0)
    perfect = LOSSES[name](near, far[:, None].expand(2, 3), ALL)
    terrible = LOSSES[name](far, near[:, None].expand(2, 3), ALL)
    assert float(perfect.max()) < 0.2 and float(terrible.min()) > 40


@pytest.mark.parametrize("name", LOSSES)
def test_without_broken_triples_it_is_finite_and_has_gradients(name: str) -> None:
    true = TRUE.clone().requires_grad_()
    for broken, counts in ((BROKEN[:, :0], ALL[:, :0]), (BROKEN, torch.zeros_like(ALL))):
        loss = LOSSES[name](true, broken, counts)
        loss.sum().backward()
        assert torch.isfinite(loss).all() and torch.isfinite(true.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_without_true_triples_it_is_empty(name: str) -> None:
    assert LOSSES[name](TRUE[:0], BROKEN[:0], ALL[:0]).shape == (0,)


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(2,\), \(3, 2\)"):
        margin_loss(TRUE, BROKEN.T, ALL, 1.0)
