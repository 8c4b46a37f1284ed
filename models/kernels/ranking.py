"""Counting who stands before the true answer."""

from __future__ import annotations

import numpy as np

from models.kernels.compiling import inlined, kernel


@inlined
def _power(queries, i, table, j, l1):
    """Sum of |q - e|, or of its squares."""
    total = np.float32(0)
    if l1:
        for k in range(queries.shape[1]):
            total += abs(queries[i, k] - table[j, k])
    else:
        for k in range(queries.shape[1]):
            total += (queries[i, k] - table[j, k]) ** 2
    return total


@kernel
def count_before(
    queries, table, targets, first, last, pool_members, pool_offsets, pools,
    excluded, excluded_offsets, l1, before, ties,
):  # fmt: skip
    """For the queries first:last, count the candidates nearer than the target (before) and at its very distance (ties).

    queries (Q, d), table (n, d) float32; targets (Q,) rows of the table; pools (Q,) each query's pool of candidates;
    excluded: other right answers, ascending, of query i in excluded[excluded_offsets[i]:excluded_offsets[i + 1]].
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
            power = _power(queries, i, table, candidate, l1)
            if c < begin:
                limit = power
                continue
            if power > limit:  # nearly always: the other right answers are looked up for the few that come before
                continue
            low, high = excluded_offsets[i], excluded_offsets[i + 1]
            place = low + np.searchsorted(excluded[low:high], candidate)
            if place < high and excluded[place] == candidate:
                continue
            if power < limit:
                before[i] += 1
            else:
                ties[i] += 1
