"""Cross-entropy of pairs that are alike and of drawn ones that are not, on every device.

Shape suffixes: see `models/shapes.py`, and B anchors, K drawn against each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import softplus

from models.kernels.contrast import contrast_products

Losses = Callable[[torch.Tensor, torch.Tensor, bool], torch.Tensor]  # of pairs of vectors, and whether they are alike


def contrast(
    losses: Losses, x: torch.Tensor, anchors_B: torch.Tensor, partners_B: torch.Tensor, drawn_BK: torch.Tensor,
    counts_BK: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """The mean over anchors of their partner's loss and the mean of those drawn ones' that count."""
    positive = losses(x[anchors_B], x[partners_B], True)
    negative = losses(x[anchors_B].unsqueeze(1), x[drawn_BK], False) * counts_BK
    return (positive + negative.sum(dim=1) / counts_BK.sum(dim=1).clamp(min=1)).mean()


def product_losses(x: torch.Tensor, y: torch.Tensor, alike: bool) -> torch.Tensor:
    """−ln of the logistic function of the vectors' product, or of 1 less it."""
    found = (x * y).sum(dim=-1)
    return softplus(-found if alike else found)


def contrast_of_products(
    x_ND: torch.Tensor, anchors_B: torch.Tensor, partners_B: torch.Tensor, drawn_BK: torch.Tensor,
    counts_BK: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """`contrast` by `product_losses`. On a CPU one compiled pass, in float32."""
    if x_ND.device.type == "cpu" and x_ND.dtype == torch.float32:
        return _Fused.apply(x_ND, anchors_B, partners_B, drawn_BK, counts_BK)
    return contrast(product_losses, x_ND, anchors_B, partners_B, drawn_BK, counts_BK)


class _Fused(torch.autograd.Function):
    """The gradients come with the losses."""

    @staticmethod
    def forward(ctx: Any, x_ND: torch.Tensor, *pairs: torch.Tensor) -> torch.Tensor:
        x_ND = x_ND.contiguous()
        gradients = torch.zeros_like(x_ND)
        total = contrast_products(x_ND.detach().numpy(), *(part.numpy() for part in pairs), gradients.numpy())
        ctx.save_for_backward(gradients)
        ctx.share = 1 / max(len(pairs[0]), 1)
        return x_ND.new_tensor(total * ctx.share)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return ctx.saved_tensors[0] * (gradient * ctx.share), None, None, None, None
