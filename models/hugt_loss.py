"""Eq. 6 of the HUGT paper: the cross entropy of the next item, over all items or over candidates that a batch shares.

Over all of them the scores are a table of (events × items), which is never made: it comes in parts, each of which gives
its share of the loss and of all gradients at once. Shape suffixes: see `models/hugt.py`, and C the candidates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from models.kernels.softmax_loss import cross_entropy
from models.messages.attention import in_parts

_PART_CELLS = 2_000_000  # of the table of scores at a time


def loss_of_all(
    h_ND: torch.Tensor, items_ID: torch.Tensor, biases_I: torch.Tensor, targets_N: torch.Tensor
) -> torch.Tensor:
    """Mean of −log softmax of Eq. 5 at the targets, over all items."""
    return _AllItems.apply(h_ND, items_ID, biases_I, targets_N)


def loss_of_candidates(
    h_ND: torch.Tensor, items_ID: torch.Tensor, biases_I: torch.Tensor, targets_N: torch.Tensor,
    candidates_C: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """The same over each target and the candidates, which need not hold it."""
    scores_NC = torch.addmm(biases_I[candidates_C], h_ND, items_ID[candidates_C].T)  # Eq. 5
    scores_NC = scores_NC.masked_fill(candidates_C[None] == targets_N[:, None], -torch.inf)
    true_N = (h_ND * items_ID[targets_N]).sum(dim=1) + biases_I[targets_N]
    return (torch.logsumexp(torch.cat([true_N[:, None], scores_NC], dim=1), dim=1) - true_N).mean()  # Eq. 6


class _AllItems(torch.autograd.Function):
    """`apply(h_ND, items_ID, biases_I, targets_N)`: the gradients are found on the way forward."""

    @staticmethod
    def forward(
        ctx: Any, h_ND: torch.Tensor, items_ID: torch.Tensor, biases_I: torch.Tensor, targets_N: torch.Tensor
    ) -> torch.Tensor:
        n, step = len(h_ND), max(1, _PART_CELLS // len(items_ID))
        of_h, of_items, of_biases = torch.empty_like(h_ND), torch.zeros_like(items_ID), torch.zeros_like(biases_I)
        total = h_ND.new_zeros(())
        for first in range(0, n, step):
            h, targets = h_ND[first : first + step], targets_N[first : first + step]
            scores = torch.addmm(biases_I, h, items_ID.T)  # Eq. 5
            total += _cross_entropy(scores, targets, 1 / n).sum()  # Eq. 6
            torch.mm(scores, items_ID, out=of_h[first : first + step])
            of_items.addmm_(scores.T, h)
            of_biases += scores.sum(dim=0)
        ctx.save_for_backward(of_h, of_items, of_biases)
        return total / n

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return *(gradient * found for found in ctx.saved_tensors), None


def _cross_entropy(scores: torch.Tensor, targets: torch.Tensor, weight: float) -> torch.Tensor:
    """(n,): −log softmax of each row at its target; the rows become its slopes, times the weight."""
    if scores.device.type == "cpu" and scores.dtype == torch.float32:  # torch's e^x takes ten times as long here
        table, losses = scores.numpy(), np.empty(len(scores), np.float32)
        cells = np.arange(len(scores) + 1) * scores.shape[1]
        given = table, targets.numpy(), np.float32(weight), losses
        in_parts(cells, lambda first, last: cross_entropy(*given, first, last))
        return torch.from_numpy(losses)
    true, highest = scores.gather(1, targets[:, None]), scores.amax(dim=1, keepdim=True)
    sums = scores.sub_(highest).exp_().sum(dim=1, keepdim=True)
    scores.mul_(weight / sums).scatter_add_(1, targets[:, None], torch.full_like(true, -weight))
    return (highest + sums.log() - true)[:, 0]
