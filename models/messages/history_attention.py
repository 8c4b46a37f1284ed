"""Generalised self-attention within histories (HUGT, Eq. 1): compiled on the CPU, or by torch's fused attention.

The compiled one knows no padding and makes no array of (events × events); torch's, for every other device, pads the
batch to its longest history and takes the heads' numbers as a bias.

Shape suffixes: see `models/hugt.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention

from models.hugt_graph import HUGs
from models.kernels.history_attention import (
    attend_before,
    attend_neighbours,
    before_backward,
    neighbours_backward,
)
from models.messages.attention import in_parts, rows_of

NO_CODES = np.zeros(0, np.uint8)


def hear_all(
    hugs: HUGs, engine: str, qkv: tuple[torch.Tensor, ...], biases_HL: torch.Tensor, *, paths: bool, last_only: bool
) -> torch.Tensor:
    """(N, H, W): each event hears itself and all before it. biases: by how long ago, 0 first, or with `paths` by the
    length of the path. qkv: (N, H, W) each; q of the last events alone, (U, H, W), where they are all that is asked."""
    codes = hugs.codes if paths else NO_CODES
    if engine == "numba":
        turned_HL = biases_HL if paths else biases_HL.flip(1)
        return _Before.apply(hugs, codes, last_only, turned_HL.contiguous(), *qkv)
    bias = _by_path(hugs, biases_HL) if paths else _by_position(hugs, biases_HL)
    return _padded_attention(hugs, qkv, bias, last_only)


def hear_neighbours(hugs: HUGs, engine: str, qkv: tuple[torch.Tensor, ...], *, last_only: bool) -> torch.Tensor:
    """(N, H, W): each event hears its neighbours along collaborative edges, which it is one of."""
    if engine == "numba":
        return _Neighbours.apply(hugs, last_only, *qkv)
    users, places = hugs.places
    bias = qkv[0].new_full((len(hugs.histories.lengths), 1, hugs.longest, hugs.longest), -torch.inf)
    neighbours = torch.from_numpy(hugs.neighbours).long()
    rows, columns = torch.nonzero(neighbours >= 0, as_tuple=True)
    heard = places[neighbours[rows, columns]]
    bias[users[rows], 0, places[rows], heard] = 0
    return _padded_attention(hugs, qkv, bias, last_only)


def _by_position(hugs: HUGs, biases_HL: torch.Tensor) -> torch.Tensor:
    """(1, H, T, T): the same for all users."""
    i, j = torch.tril_indices(hugs.longest, hugs.longest, device=biases_HL.device)
    bias = biases_HL.new_full((len(biases_HL), hugs.longest, hugs.longest), -torch.inf)
    bias[:, i, j] = biases_HL[:, i - j]
    return bias[None]


def _by_path(hugs: HUGs, biases_HL: torch.Tensor) -> torch.Tensor:
    """(U, H, T, T): each pair's bias, -inf of pairs that are none."""
    lengths, longest = hugs.histories.lengths, hugs.longest
    bias = biases_HL.new_full((len(lengths), len(biases_HL), longest, longest), -torch.inf)
    users = np.repeat(np.arange(len(lengths)), np.diff(hugs.code_offsets))
    i, j = (np.concatenate(side) for side in zip(*(np.tril_indices(n) for n in lengths), strict=True))
    places = (torch.from_numpy(x).to(bias.device) for x in (users, i, j))
    users, i, j = places
    bias[users, :, i, j] = biases_HL[:, torch.from_numpy(hugs.codes).to(bias.device).long()].T
    return bias


def _padded_attention(
    hugs: HUGs, qkv: tuple[torch.Tensor, ...], bias: torch.Tensor, last_only: bool
) -> torch.Tensor:
    device, lengths = bias.device, hugs.histories.lengths
    users, places = (x.to(device) for x in hugs.places)
    if bias.shape[0] > 1:  # a row of padding hears itself, or its softmax would be of nothing
        padding = torch.from_numpy(lengths).to(device)[:, None] <= torch.arange(hugs.longest, device=device)
        rows, at = torch.nonzero(padding, as_tuple=True)
        bias[rows, :, at, at] = 0
    q, k, v = (_padded(x, users, places, hugs, last_only and number == 0) for number, x in enumerate(qkv))
    if last_only:
        last = torch.from_numpy(lengths - 1).to(device)
        bias = bias.expand(len(lengths), -1, -1, -1)
        bias = bias.gather(2, last[:, None, None, None].expand(-1, bias.shape[1], 1, bias.shape[3]))
    out = scaled_dot_product_attention(q, k, v, attn_mask=bias)  # Eq. 1
    return out[:, :, 0] if last_only else out[users, :, places]


def _padded(x: torch.Tensor, users: torch.Tensor, places: torch.Tensor, hugs: HUGs, last: bool) -> torch.Tensor:
    """(U, H, T, W) of rows by event, or (U, H, 1, W) of rows by user."""
    if last:
        return x[:, :, None]
    out = x.new_zeros((len(hugs.histories.lengths), hugs.longest, *x.shape[1:]))
    return out.index_put((users, places), x).transpose(1, 2)


class _Before(torch.autograd.Function):
    """`apply(hugs, codes, last_only, biases, q, k, v)`; biases (H, L), of positions with the longest ago first."""

    @staticmethod
    def forward(ctx: Any, hugs: HUGs, codes: np.ndarray, last_only: bool, *tables: torch.Tensor) -> torch.Tensor:
        biases, q, k, v = map(rows_of, tables)
        offsets = hugs.histories.offsets
        given = offsets, q, k, v, biases, codes, hugs.code_offsets
        outs, log_totals = np.empty_like(q), np.empty(q.shape[:2], q.dtype)
        in_parts(hugs.code_offsets, lambda a, b: attend_before(*given, last_only, outs, log_totals, a, b))
        ctx.given, ctx.outs, ctx.code_offsets = given, (outs, log_totals), hugs.code_offsets
        return torch.from_numpy(outs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        _, q, k, v, biases = ctx.given[:5]
        found = np.empty_like(q), np.empty_like(k), np.empty_like(v)
        of_biases = np.empty((len(ctx.code_offsets) - 1, *biases.shape), biases.dtype)
        fixed = (*ctx.given, *ctx.outs, rows_of(gradients), *found, of_biases)
        in_parts(ctx.code_offsets, lambda a, b: before_backward(*fixed, a, b))
        return None, None, None, *map(torch.from_numpy, (of_biases.sum(axis=0), *found))


class _Neighbours(torch.autograd.Function):
    """`apply(hugs, last_only, q, k, v)`."""

    @staticmethod
    def forward(ctx: Any, hugs: HUGs, last_only: bool, *tables: torch.Tensor) -> torch.Tensor:
        q, k, v = map(rows_of, tables)
        given = hugs.histories.offsets, hugs.neighbours, q, k, v
        outs, log_totals = np.empty_like(q), np.empty(q.shape[:2], q.dtype)
        in_parts(given[0], lambda a, b: attend_neighbours(*given, last_only, outs, log_totals, a, b))
        ctx.given, ctx.outs = given, (outs, log_totals)
        return torch.from_numpy(outs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        found = tuple(np.empty_like(x) for x in ctx.given[2:])
        fixed = (*ctx.given, *ctx.outs, rows_of(gradients), *found)
        in_parts(ctx.given[0], lambda a, b: neighbours_backward(*fixed, a, b))
        return None, None, *map(torch.from_numpy, found)
