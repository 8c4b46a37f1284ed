"""Counting who stands before the true answer, with distances cut short as soon as they are too large."""

from __future__ import annotations

import numpy as np

from models.kernels.compiling import kernel

_STRIDE = 16  # columns summed between two looks at the limit


@kernel
def _power_within(queries, i, table, j, l1, limit):
    """Sum of |q - e|, or of its squares; any number above `limit` once it is certain to exceed it."""
    total, width, k = np.float32(0), queries.shape[1], 0
    while k < width and not total > limit:
        part = np.float32(0)
        if l1:
            for c in range(k, min(k + _STRIDE, width)):
                part += abs(queries[i, c] - table[j, c])
        else:
            for c in range(k, min(k + _STRIDE, width)):
                part += (queries[i, c] - table[j, c]) ** 2
        total += part
        k += _STRIDE
    return total


@kernel
def count_before(
    queries, table, targets, first, last, pool_members, pool_offsets, pools, excluded, excluded_offsets, l1, before, ties
):
    """For the queries first:last, count the candidates nearer than the target (before) and at its very distance (ties).

    queries (Q, d), table (n, d) float32; targets (Q,) rows of the table; pools (Q,) each query's pool of candidates; excluded: other
    right answers, ascending, of query i in excluded[excluded_offsets[i]:excluded_offsets[i + 1]].
    """
    for i in range(first, last):
        limit, pool = np.float32(np.inf), pools[i]
        before[i], ties[i] = 0, 0
        begin = pool_offsets[pool]
        # the target goes first and through the same code as the rest, so that equal vectors get equal sums
        for c in range(begin - 1, pool_offsets[pool + 1]):
            candidate = targets[i] if c < begin else np.int64(pool_members[c])
            if c >= begin and candidate == targets[i]:
                continue
            power = _power_within(queries, i, table, candidate, l1, limit)
            if c < begin:
                limit = power
                continue
            if power > limit:
                continue
            low, high = excluded_offsets[i], excluded_offsets[i + 1]
            place = low + np.searchsorted(excluded[low:high], candidate)
            if place < high and excluded[place] == candidate:
                continue
            if power < limit:
                before[i] += 1
            else:
                ties[i] += 1
