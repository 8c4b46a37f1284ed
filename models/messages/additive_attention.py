"""Additive attention along messages, its heads averaged (RelGNN, Eq. 4 and 5): compiled on the CPU, or in torch's
operations on any device.

A message's score is LeakyReLU(query of its destination + key of its source), one number for each head, and since all
heads weigh the same value, their mean is the message's only weight. Neither way makes an array of (messages × width);
the compiled one makes none with a row per message.

Shape suffixes: see `models/shapes.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from models.kernels.additive_attention import additive_backward_pairs, additive_backward_queries, attend_additively
from models.kernels.attention import group_by_source
from models.messages.adjacency import Adjacency
from models.messages.attention import in_parts, rows_of

SLOPE = 0.2  # of LeakyReLU, of which the paper says no more
_LONGEST_PART = 16  # numbers of a row that a kernel takes at a time


def attend(
    adjacency: Adjacency, queries_VH: torch.Tensor, keys_PH: torch.Tensor, values_PD: torch.Tensor
) -> torch.Tensor:
    """(V, D): each destination's mean of its sources' values by `weights`; 0 without messages."""
    if adjacency.engine == "numba":
        return _Fused.apply(adjacency.offsets, adjacency.sources, queries_VH, keys_PH, values_PD)
    return adjacency.weighted_sum(values_PD, weights(adjacency, queries_VH, keys_PH))


def weights(adjacency: Adjacency, queries_VH: torch.Tensor, keys_PH: torch.Tensor) -> torch.Tensor:
    """(E,): the mean over heads of the softmax over each destination's messages."""
    total_E = 0
    for queries_V, keys_P in zip(queries_VH.unbind(1), keys_PH.unbind(1), strict=True):
        z_E = queries_V.index_select(0, adjacency.destinations) + keys_P.index_select(0, adjacency.sources)
        total_E = total_E + adjacency.softmax(torch.nn.functional.leaky_relu(z_E, SLOPE))  # Eq. 4
    return total_E / queries_VH.shape[1]


class _Fused(torch.autograd.Function):
    """`apply(offsets, sources, queries_VH, keys_PH, values_PD)`: see `attend`."""

    @staticmethod
    def forward(ctx: Any, offsets: torch.Tensor, sources: torch.Tensor, *tables: torch.Tensor) -> torch.Tensor:
        into, (queries, keys, values) = (offsets.numpy(), sources.numpy()), map(rows_of, tables)
        outs, log_totals = np.empty((len(queries), values.shape[1]), values.dtype), np.empty_like(queries)
        fixed = (queries, keys, values, *_slope_and_part(values))
        in_parts(into[0], lambda first, last: attend_additively(*into, *fixed, outs, log_totals, first, last))
        ctx.messages = into
        ctx.save_for_backward(*(torch.from_numpy(table) for table in (queries, keys, values, log_totals)))
        return torch.from_numpy(outs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradients_VD: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        queries, keys, values, log_totals = (table.numpy() for table in ctx.saved_tensors)
        (offsets, sources), gradients = ctx.messages, rows_of(gradients_VD)
        fixed = (queries, keys, values, *_slope_and_part(values), log_totals, gradients)
        means, of_queries = np.empty_like(queries), np.empty_like(queries)
        own = (means, of_queries)
        in_parts(offsets, lambda first, last: additive_backward_queries(offsets, sources, *fixed, *own, first, last))
        by_source, destinations = np.empty(len(keys) + 1, np.int64), np.empty_like(sources)
        group_by_source(offsets, sources, by_source, destinations)
        found = np.empty_like(keys), np.empty_like(values)
        given = (by_source, destinations, *fixed, means, *found)
        in_parts(by_source, lambda first, last: additive_backward_pairs(*given, first, last))
        return None, None, *(torch.from_numpy(table) for table in (of_queries, *found))


def _slope_and_part(values: np.ndarray) -> tuple[np.floating, tuple[int, ...]]:
    """(the slope in the values' type, a tuple as long as the part of a row that is taken at a time)."""
    width = values.shape[1]
    part = next(d for d in range(min(width, _LONGEST_PART), 0, -1) if width % d == 0)
    return values.dtype.type(SLOPE), (0,) * part
