"""Bayesian personalised ranking (Rendle et al., UAI 2009) of a batch of pairs, on every device.

Shape suffixes: see `models/shapes.py`, and U users, I items, K drawn against each pair.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import softplus

from models.kernels.pairs import rank_pairs
from models.messages.adjacency import Adjacency


def bpr_losses(positive_B: torch.Tensor, negative_BK: torch.Tensor) -> torch.Tensor:
    """(B, K): −ln σ(ŷ_ui − ŷ_uj), from ŷ of pairs and of their negatives."""
    return softplus(negative_BK - positive_B.unsqueeze(-1))


def bpr_mean(
    x_UD: torch.Tensor, x_ID: torch.Tensor, known: Adjacency, users_B: torch.Tensor, items_B: torch.Tensor,
    drawn_BK: torch.Tensor, hardest: bool = False, rows_B: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """The mean of `bpr_losses` over the drawn items that the user of the pair did not touch; 0 without any.

    rows_B: the rows of x_UD that the pairs have, which may be a table with a vector for each pair; None: the users'.
    known: the items into each user, ascending. hardest: of a pair's drawn items only the one with the highest score
    counts (Zhang et al., "Optimizing Top-N Collaborative Filtering via Dynamic Negative Item Sampling", SIGIR 2013).
    On a CPU one compiled pass, in float32.
    """
    rows_B = users_B if rows_B is None else rows_B
    if x_UD.device.type == "cpu" and x_UD.dtype == torch.float32:
        return _Fused.apply(x_UD, x_ID, known, rows_B, users_B, items_B, drawn_BK, hardest)
    mine_BD = x_UD[rows_B]
    positive_B = (mine_BD * x_ID[items_B]).sum(-1)
    negative_BK = (mine_BD.unsqueeze(1) * x_ID[drawn_BK]).sum(-1)
    counts_BK = ~touched(known, users_B.unsqueeze(1), drawn_BK)
    if hardest:
        highest_B = negative_BK.detach().masked_fill(~counts_BK, -torch.inf).argmax(dim=1, keepdim=True)
        negative_BK, counts_BK = (one.gather(1, highest_B) for one in (negative_BK, counts_BK))
    return (bpr_losses(positive_B, negative_BK) * counts_BK).sum() / counts_BK.sum().clamp(min=1)


def touched(known: Adjacency, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    """bool: whether the user has a pair with the item. known: the items into each user, ascending."""
    keys = known.destinations * known.n_sources + known.sources
    wanted = users * known.n_sources + items
    return keys[torch.searchsorted(keys, wanted).clamp(max=keys.numel() - 1)] == wanted


class _Fused(torch.autograd.Function):
    """The gradients come with the losses."""

    @staticmethod
    def forward(
        ctx: Any, x_UD: torch.Tensor, x_ID: torch.Tensor, known: Adjacency, rows_B: torch.Tensor,
        users_B: torch.Tensor, items_B: torch.Tensor, drawn_BK: torch.Tensor, hardest: bool,
    ) -> torch.Tensor:  # fmt: skip
        x_UD, x_ID = x_UD.contiguous(), x_ID.contiguous()
        of_users, of_items = torch.zeros_like(x_UD), torch.zeros_like(x_ID)
        given = (known.offsets, known.sources, x_UD, x_ID, rows_B, users_B, items_B, drawn_BK)
        gradients = of_users.numpy(), of_items.numpy()
        total, n = rank_pairs(*(one.detach().numpy() for one in given), hardest, *gradients)
        ctx.save_for_backward(of_users, of_items)
        ctx.share = 1 / max(n, 1)
        return x_UD.new_tensor(total * ctx.share)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        of_users, of_items = ctx.saved_tensors
        return of_users * (gradient * ctx.share), of_items * (gradient * ctx.share), *(None,) * 6
