"""Multi-head attention along messages on the CPU, as one differentiable function over compiled kernels.

No array with a row per message is made, forward or backward: memory is that of the tables that go in and out. Any
number of threads gives the same bits. `passing.py` has the same in torch's operations and in DGL's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from models.kernels.attention import attend, attend_backward_pairs, attend_backward_queries, group_by_source

_MESSAGES_EACH = 5_000  # fewer are not worth a thread
_PARTS = 4  # for each thread, so that none waits long for the last


@dataclasses.dataclass(frozen=True)
class Shift:
    """What is added to the score of each message from pair p into destination v: amounts_VC[v, column_P[p]].

    Constants, no gradient. amounts_VC: (V, C) of the queries' type. column_P: int64 (P,) in [0, C).
    """

    amounts_VC: torch.Tensor
    column_P: torch.Tensor

    def of(self, destinations_E: torch.Tensor, pairs_E: torch.Tensor) -> torch.Tensor:
        """(E,): each message's."""
        return self.amounts_VC[destinations_E, self.column_P.index_select(0, pairs_E)]


class FusedAttention(torch.autograd.Function):
    """`apply(offsets, sources, queries_VD, pairs_PY, heads, shift)`: see `Adjacency.attend`."""

    @staticmethod
    def forward(
        ctx: Any,
        offsets: torch.Tensor,
        sources: torch.Tensor,
        queries_VD: torch.Tensor,
        pairs_PY: torch.Tensor,
        heads: int,
        shift: Shift | None,
    ) -> torch.Tensor:
        into, queries, pairs = (offsets.numpy(), sources.numpy()), rows_of(queries_VD), rows_of(pairs_PY)
        shifts = _amounts_and_columns(shift, queries.dtype)
        sums, log_totals = np.empty_like(queries), np.empty((len(queries), heads), queries.dtype)
        fixed = (queries, pairs, *shifts, *_scale_and_head(queries, heads))
        in_parts(into[0], lambda first, last: attend(*into, *fixed, sums, log_totals, first, last))
        ctx.messages, ctx.heads, ctx.shifts = into, heads, shifts
        ctx.save_for_backward(*(torch.from_numpy(values) for values in (queries, pairs, sums, log_totals)))
        return torch.from_numpy(sums)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradients_VD: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        queries, pairs, sums, log_totals = (values.numpy() for values in ctx.saved_tensors)
        (offsets, sources), gradients = ctx.messages, rows_of(gradients_VD)
        means, of_queries, of_pairs = np.empty_like(log_totals), np.empty_like(queries), None
        fixed = (queries, pairs, *ctx.shifts, *_scale_and_head(queries, ctx.heads))
        own = (sums, log_totals, gradients, means, of_queries)
        in_parts(offsets, lambda first, last: attend_backward_queries(offsets, sources, *fixed, *own, first, last))
        if ctx.needs_input_grad[3]:
            by_source, destinations = np.empty(len(pairs) + 1, np.int64), np.empty_like(sources)
            group_by_source(offsets, sources, by_source, destinations)
            of_pairs = np.empty_like(pairs)
            given = (by_source, destinations, *fixed, log_totals, gradients, means, of_pairs)
            in_parts(by_source, lambda first, last: attend_backward_pairs(*given, first, last))
        found = [None if values is None else torch.from_numpy(values) for values in (of_queries, of_pairs)]
        return None, None, found[0], found[1], None, None


def rows_of(values: torch.Tensor) -> np.ndarray:
    """A table as the kernels take it."""
    return values.detach().contiguous().numpy()


def _amounts_and_columns(shift: Shift | None, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """The arrays of a shift, empty ones for none."""
    if shift is None:
        return np.empty((0, 0), dtype), np.empty(0, np.int64)
    return rows_of(shift.amounts_VC).astype(dtype, copy=False), shift.column_P.numpy()


def _scale_and_head(queries: np.ndarray, heads: int) -> tuple[np.floating, tuple[int, ...]]:
    """(1 / sqrt(d), a tuple of d numbers) for heads of d numbers."""
    d = queries.shape[1] // heads
    return queries.dtype.type(d**-0.5), (0,) * d


def in_parts(offsets: np.ndarray, work: Callable[[int, int], None]) -> None:
    """Call work(first, last) for all rows, in ranges of about as many messages each, on torch's number of threads."""
    rows, messages, threads = len(offsets) - 1, int(offsets[-1]), torch.get_num_threads()
    parts = min(_PARTS * threads, messages // _MESSAGES_EACH)
    if threads == 1 or parts < 2:
        return work(0, rows)
    cuts = np.searchsorted(offsets, np.linspace(0, messages, parts + 1)[1:-1])
    bounds = [0, *cuts.tolist(), rows]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, bounds[:-1], bounds[1:]))


def split_heads(
    offsets: torch.Tensor, sources: torch.Tensor, heads: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same messages between nodes split into one node for each head, head h of node n being n · heads + h.

    Returns their offsets (V · heads + 1,), sources (E · heads,), and the place of each message in a flat (E, heads).
    """
    counts = torch.repeat_interleave(offsets[1:] - offsets[:-1], heads)
    of_heads = torch.cat([offsets[:1], torch.cumsum(counts, 0)])
    every_row = torch.arange(counts.numel(), device=offsets.device)
    rows = torch.repeat_interleave(every_row, counts, output_size=sources.numel() * heads)
    within = torch.arange(rows.numel(), device=rows.device) - of_heads.index_select(0, rows)
    places = (offsets.index_select(0, rows // heads) + within) * heads + rows % heads
    return of_heads, sources.index_select(0, places // heads) * heads + rows % heads, places
