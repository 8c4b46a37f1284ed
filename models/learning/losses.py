"""Losses on distances, as differentiable torch functions: the readable twin of what `kernels/translation.py` fuses.

Legend: true (B,) distances of true triples; broken (B, K) of broken ones; counts (B, K) False where a broken triple is
true after all. Each returns the loss of every true triple, (B,), so that a caller may weigh, sum or look.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus


def margin_loss(true: Tensor, broken: Tensor, counts: Tensor, margin: float) -> Tensor:
    """Eq. 1 of the KQGC paper: sum over the broken triples of [margin + f(true) - f(broken)]_+."""
    check_distances(true, broken, counts)
    return ((margin + true[:, None] - broken).clamp(min=0) * counts).sum(dim=1)


def self_adversarial_loss(true: Tensor, broken: Tensor, counts: Tensor, margin: float, temperature: float) -> Tensor:
    """Sun et al. 2019 (RotatE), Eq. 5: -log s(margin - true) - sum_j p_j log s(broken_j - margin), s being logistic.

    p_j = softmax over the counting broken triples of -temperature * distance (their Eq. 4), through which no gradient
    flows.
    """
    check_distances(true, broken, counts)
    scores = (-temperature * broken.detach()).masked_fill(~counts, float("-inf"))
    weights = torch.where(counts.any(dim=1, keepdim=True), scores.softmax(dim=1), torch.zeros_like(scores))
    return softplus(true - margin) + (weights * softplus(margin - broken)).sum(dim=1)


def check_distances(true: Tensor, broken: Tensor, counts: Tensor) -> None:
    """Raise ValueError unless the shapes are (B,), (B, K), (B, K)."""
    n_true = true.shape[0]
    if true.dim() != 1 or broken.dim() != 2 or broken.shape[0] != n_true or counts.shape != broken.shape:
        found = f"distances of shapes {tuple(true.shape)}, {tuple(broken.shape)}, counts {tuple(counts.shape)}"
        raise ValueError(f"{found}; expected (B,), (B, K), (B, K)")
