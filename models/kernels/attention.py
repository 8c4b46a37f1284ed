"""Multi-head attention along messages, softmax and weighted sum fused: no array with a row per message, either way.

Legend: V destinations, P sources, D = heads x d numbers per row, the heads side by side.
offsets (V + 1,), sources (E,) int64: destination v receives the messages offsets[v]:offsets[v + 1].
pairs (P, 2 D): a source's key, then its value. queries, sums (V, D).
log_totals (V, heads): log of the sum of e^score, from which the backward passes recompute each weight.
head: any tuple of d numbers, see `vectors.py`.
shifts (V, C), columns (P,): shifts[v, columns[p]] is added to the score of a message from p into v; C = 0 adds nothing.
A kernel does the rows first:last and writes no others: threads need no locks, and any number of them gives the same
bits.
"""

from __future__ import annotations

import numpy as np

from models.kernels.compiling import inlined, kernel, prefetch
from models.kernels.vectors import add_scaled, dot

_AHEAD = 4  # messages between asking for a row and using it
_BLOCK = 256  # messages summed in float32, before float64 takes over: a node may have a million
_LINE = 16  # float32 numbers in a cache line


@inlined
def fetch(table, row):
    """Ask for a whole row."""
    for k in range(0, table.shape[1], _LINE):
        prefetch(table, row, k)


@inlined
def shift_of(shifts, columns, v, p):
    """What is added to the score of a message."""
    return shifts[v, columns[p]] if shifts.shape[1] else np.float32(0)


@kernel
def attend(offsets, sources, queries, pairs, shifts, columns, scale, head, sums, log_totals, first, last):
    """sums_v = mean of the values under softmax of scale * query . key + shift, head by head; zero without messages."""
    heads, d, end = log_totals.shape[1], len(head), offsets[last] - 1
    width = heads * d
    weights, highest = np.empty(heads, queries.dtype), np.empty(heads, queries.dtype)
    totals, whole = np.empty(heads, np.float64), np.empty(width, np.float64)
    for v in range(first, last):
        highest[:] = -np.inf
        totals[:] = 0
        whole[:] = 0
        for begin in range(offsets[v], offsets[v + 1], _BLOCK):
            sums[v] = 0
            for e in range(begin, min(begin + _BLOCK, offsets[v + 1])):
                p = sources[e]
                fetch(pairs, sources[min(e + _AHEAD, end)])
                shift = shift_of(shifts, columns, v, p)
                for h in range(heads):
                    weights[h] = scale * dot(queries, v, h * d, pairs, p, h * d, head) + shift
                    if weights[h] > highest[h]:  # what was summed so far is a multiple of e^-highest
                        shrink = np.exp(highest[h] - weights[h])
                        totals[h] *= shrink
                        for k in range(h * d, h * d + d):
                            sums[v, k] *= shrink
                            whole[k] *= shrink
                        highest[h] = weights[h]
                for h in range(heads):
                    weights[h] = np.exp(weights[h] - highest[h])
                    totals[h] += weights[h]
                    add_scaled(sums, v, h * d, weights[h], pairs, p, width + h * d, head)
            for k in range(width):
                whole[k] += sums[v, k]
        for h in range(heads):
            log_totals[v, h] = highest[h] + np.log(totals[h])
            for k in range(h * d, h * d + d):
                sums[v, k] = whole[k] / max(totals[h], 1)  # at least 1 where there is a message


@kernel
def attend_backward_queries(
    offsets, sources, queries, pairs, shifts, columns, scale, head,
    sums, log_totals, gradients, means, of_queries, first, last,
):  # fmt: skip
    """The queries' gradient. gradients (V, D): the sums'. means (V, heads) gets gradient . sum, head by head."""
    heads, d, end = log_totals.shape[1], len(head), offsets[last] - 1
    width = heads * d
    for v in range(first, last):
        of_queries[v] = 0
        for h in range(heads):
            means[v, h] = dot(gradients, v, h * d, sums, v, h * d, head)
        for e in range(offsets[v], offsets[v + 1]):
            p = sources[e]
            fetch(pairs, sources[min(e + _AHEAD, end)])
            shift = shift_of(shifts, columns, v, p)
            for h in range(heads):
                weight = np.exp(scale * dot(queries, v, h * d, pairs, p, h * d, head) + shift - log_totals[v, h])
                slope = scale * weight * (dot(gradients, v, h * d, pairs, p, width + h * d, head) - means[v, h])
                add_scaled(of_queries, v, h * d, slope, pairs, p, h * d, head)


@kernel
def attend_backward_pairs(
    offsets, destinations, queries, pairs, shifts, columns, scale, head,
    log_totals, gradients, means, of_pairs, first, last,
):  # fmt: skip
    """The pairs' gradient, with the means of `attend_backward_queries`.

    offsets (P + 1,), destinations (E,): the messages by source.
    """
    heads, d, end = log_totals.shape[1], len(head), offsets[last] - 1
    width = heads * d
    for p in range(first, last):
        of_pairs[p] = 0
        for e in range(offsets[p], offsets[p + 1]):
            v = destinations[e]
            fetch(queries, destinations[min(e + _AHEAD, end)])
            fetch(gradients, destinations[min(e + _AHEAD, end)])
            shift = shift_of(shifts, columns, v, p)
            for h in range(heads):
                weight = np.exp(scale * dot(queries, v, h * d, pairs, p, h * d, head) + shift - log_totals[v, h])
                slope = scale * weight * (dot(gradients, v, h * d, pairs, p, width + h * d, head) - means[v, h])
                add_scaled(of_pairs, p, h * d, slope, queries, v, h * d, head)
                add_scaled(of_pairs, p, width + h * d, weight, gradients, v, h * d, head)


@kernel
def group_by_source(offsets, sources, by_source, destinations):
    """by_source (P + 1,) gets the offsets of each source's messages, destinations (E,) where they go, ascending."""
    by_source[:] = 0
    for e in range(sources.shape[0]):
        by_source[sources[e] + 1] += 1
    for p in range(by_source.shape[0] - 1):
        by_source[p + 1] += by_source[p]
    place = by_source[:-1].copy()
    for v in range(offsets.shape[0] - 1):
        for e in range(offsets[v], offsets[v + 1]):
            destinations[place[sources[e]]] = v
            place[sources[e]] += 1
