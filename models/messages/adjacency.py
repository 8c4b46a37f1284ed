"""Messages between two sets of nodes, and the message-passing primitives on index tensors.

The primitives are built on `embedding_bag`, which is a fused gather, weighting and sum on every device. Two more
engines do some of them another way: "dense", for few sources, by products with a small matrix; and "numba", multi-head
attention in one compiled kernel. `passing.py` adds DGL's, and says which is for what.

Shape suffixes: see `models/shapes.py`.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import torch
from torch import nn

from models.messages.attention import FusedAttention, Shift, split_heads


@dataclasses.dataclass(frozen=True)
class Adjacency:
    """Messages into V destinations from S sources, sorted by destination.

    offsets: int64 (V + 1,), destination v receives the messages offsets[v] to offsets[v + 1].
    sources: int64 (E,) in [0, n_sources).
    """

    offsets: torch.Tensor
    sources: torch.Tensor
    n_sources: int
    engine: str

    @property
    def n_destinations(self) -> int:
        return self.offsets.numel() - 1

    @functools.cached_property
    def degrees(self) -> torch.Tensor:
        """int64 (V,): messages into each destination."""
        return self.offsets[1:] - self.offsets[:-1]

    @functools.cached_property
    def destinations(self) -> torch.Tensor:
        """int64 (E,): the destination of each message, ascending."""
        rows = torch.arange(self.n_destinations, device=self.offsets.device)
        return torch.repeat_interleave(rows, self.degrees, output_size=self.sources.numel())

    @functools.cached_property
    def _cells(self) -> torch.Tensor:
        """int64 (E,): the cell of each message in a flat (V, S) matrix."""
        return self.destinations * self.n_sources + self.sources

    def dot(self, x_SD: torch.Tensor, y_VD: torch.Tensor) -> torch.Tensor:
        """(E,): the inner product of each message's source and destination vectors."""
        if self.engine == "dense":
            return (y_VD @ x_SD.T).flatten().index_select(0, self._cells)
        return _Dot.apply(self, x_SD, y_VD)

    def total(self, x_E: torch.Tensor) -> torch.Tensor:
        """(V,): the sum of a number per message over each destination's messages; 0 without messages."""
        return x_E.new_zeros(self.n_destinations).index_add(0, self.destinations, x_E)

    def softmax(self, x_E: torch.Tensor) -> torch.Tensor:
        """(E,): softmax over each destination's messages."""
        lowest = x_E.new_full((self.n_destinations,), -torch.inf)
        # a constant: softmax is invariant to shifts
        highest_V = lowest.scatter_reduce(0, self.destinations, x_E.detach(), "amax")
        exponentials_E = torch.exp(x_E - highest_V.index_select(0, self.destinations))
        return exponentials_E / self.total(exponentials_E).index_select(0, self.destinations)

    def weighted_sum(self, x_SD: torch.Tensor, weights_E: torch.Tensor | None = None) -> torch.Tensor:
        """(V, D): Σ weight · source vector over each destination's messages, weight 1 when None; 0 without messages."""
        if self.engine == "dense":
            ones_or_weights_E = x_SD.new_ones(self.sources.numel()) if weights_E is None else weights_E
            cells = x_SD.new_zeros(self.n_destinations * self.n_sources).index_add(0, self._cells, ones_or_weights_E)
            return cells.view(self.n_destinations, self.n_sources) @ x_SD
        return nn.functional.embedding_bag(
            self.sources, x_SD, self.offsets, mode="sum", per_sample_weights=weights_E, include_last_offset=True
        )

    def attend(
        self, queries_VD: torch.Tensor, pairs_SY: torch.Tensor, heads: int, shift: Shift | None = None
    ) -> torch.Tensor:
        """(V, D): each destination's mean of its sources' values, weighted by `attention`, head by head.

        0 without messages. pairs_SY: a source's key and its value side by side, so that one gather fetches both.
        D is heads · width of a head.
        """
        if self.engine == "numba":
            return FusedAttention.apply(self.offsets, self.sources, queries_VD, pairs_SY, heads, shift)
        keys_SD, values_SD = (half.contiguous() for half in pairs_SY.chunk(2, dim=1))
        α_EH = self.attention(queries_VD, keys_SD, heads, shift)
        return self._sum_by_head(values_SD.view(self.n_sources, heads, values_SD.shape[1] // heads), α_EH)

    def attention(
        self, queries_VD: torch.Tensor, keys_SD: torch.Tensor, heads: int, shift: Shift | None = None
    ) -> torch.Tensor:
        """(E, heads): softmax over each destination's messages of query · key / √(width of a head), plus the shift."""
        width = queries_VD.shape[1] // heads
        queries_VHW, keys_SHW = queries_VD.reshape(-1, heads, width) / width**0.5, keys_SD.reshape(-1, heads, width)
        shifts_E = None if shift is None else shift.of(self.destinations, self.sources)
        return self._softmax_by_head(queries_VHW, keys_SHW, shifts_E)

    def _softmax_by_head(
        self, queries_VHW: torch.Tensor, keys_SHW: torch.Tensor, shifts_E: torch.Tensor | None
    ) -> torch.Tensor:
        """(E, heads): softmax over each destination's messages of query · key + shift, head by head."""
        heads = queries_VHW.shape[1]
        by_head, order = self._by_head(heads)
        scores = by_head.dot(keys_SHW.flatten(0, 1), queries_VHW.flatten(0, 1))
        if shifts_E is not None:
            scores = scores + shifts_E.index_select(0, order // heads)
        α = by_head.softmax(scores)
        return torch.empty_like(α).index_copy(0, order, α).view(-1, heads)

    def _sum_by_head(self, values_SHW: torch.Tensor, α_EH: torch.Tensor) -> torch.Tensor:
        """(V, D): Σ α · value over each destination's messages, head by head."""
        by_head, order = self._by_head(α_EH.shape[1])
        sums = by_head.weighted_sum(values_SHW.flatten(0, 1), α_EH.flatten().index_select(0, order))
        return sums.view(self.n_destinations, values_SHW.shape[1] * values_SHW.shape[2])

    def _by_head(self, heads: int) -> tuple[Adjacency, torch.Tensor]:
        """Every node as one for each head, and the place in a flat (E, heads) of each of the E · heads messages."""
        offsets, sources, order = split_heads(self.offsets, self.sources, heads)
        return Adjacency(offsets, sources, self.n_sources * heads, "torch"), order


class _Dot(torch.autograd.Function):
    """Inner products along messages without an (E, D) array.

    They are the gradient of a weighted sum with respect to its weights.
    """

    @staticmethod
    def forward(ctx: Any, adjacency: Adjacency, x_SD: torch.Tensor, y_VD: torch.Tensor) -> torch.Tensor:
        ctx.adjacency = adjacency
        ctx.save_for_backward(x_SD, y_VD)
        with torch.enable_grad():
            weights_E = x_SD.new_ones(adjacency.sources.numel(), requires_grad=True)
            sums_VD = adjacency.weighted_sum(x_SD.detach(), weights_E)
            # not grad(sums_VD, weights_E, y_VD): for its check of shapes torch imports a whole algebra system
            return torch.autograd.grad((sums_VD * y_VD).sum(), weights_E)[0]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient_E: torch.Tensor) -> tuple[None, torch.Tensor | None, torch.Tensor | None]:
        (x_SD, y_VD), adjacency = ctx.saved_tensors, ctx.adjacency
        of_x_SD = None
        if ctx.needs_input_grad[1]:
            with torch.enable_grad():
                leaf_SD = x_SD.detach().requires_grad_()
                sums_VD = adjacency.weighted_sum(leaf_SD, gradient_E)
                of_x_SD = torch.autograd.grad(sums_VD, leaf_SD, y_VD)[0]
        return None, of_x_SD, adjacency.weighted_sum(x_SD, gradient_E) if ctx.needs_input_grad[2] else None
