"""Additive attention along messages, its heads averaged: no array with a row per message, either way.

Legend: V destinations, P sources, D numbers per row. offsets (V + 1,), sources (E,) int64: destination v receives the
messages offsets[v]:offsets[v + 1]. queries (V, heads), keys (P, heads): a message's score is LeakyReLU(query + key),
head by head. values (P, D); outs (V, D). log_totals (V, heads): log of the sum of e^score.
part: any tuple of d numbers, d a divisor of D, see `vectors.py`: rows are gone through in parts of so many numbers.
A kernel does the rows first:last and writes no others: any number of threads gives the same bits.
"""

from __future__ import annotations

import numpy as np

from models.kernels.attention import fetch
from models.kernels.compiling import inlined, kernel
from models.kernels.vectors import add_scaled, dot

_AHEAD = 4  # messages between asking for a row and using it


@inlined
def leaky(z, slope):
    """LeakyReLU."""
    return z if z > 0 else slope * z


@inlined
def weight_of(queries, keys, log_totals, v, p, slope):
    """The mean over heads of a message's weight."""
    heads = queries.shape[1]
    total = queries[v, 0] * 0
    for h in range(heads):
        total += np.exp(leaky(queries[v, h] + keys[p, h], slope) - log_totals[v, h])
    return total / heads


@inlined
def dot_rows(x, i, y, j, part):
    """x_i . y_j"""
    d = len(part)
    total = x[i, 0] * 0
    for k in range(0, x.shape[1], d):
        total += dot(x, i, k, y, j, k, part)
    return total


@inlined
def add_rows(y, j, weight, x, i, part):
    """y_j += weight * x_i"""
    d = len(part)
    for k in range(0, y.shape[1], d):
        add_scaled(y, j, k, weight, x, i, k, part)


@kernel
def attend_additively(offsets, sources, queries, keys, values, slope, part, outs, log_totals, first, last):
    """outs_v = sum of the values, weighted by the mean over heads of softmax of the scores; zero without messages."""
    heads, end = queries.shape[1], sources.shape[0] - 1
    highest, totals = np.empty(heads, queries.dtype), np.empty(heads, np.float64)
    for v in range(first, last):
        highest[:] = -np.inf
        totals[:] = 0
        for e in range(offsets[v], offsets[v + 1]):
            for h in range(heads):
                highest[h] = max(highest[h], keys[sources[e], h])
        for h in range(heads):  # scores rise with keys
            highest[h] = leaky(queries[v, h] + highest[h], slope)
        for e in range(offsets[v], offsets[v + 1]):
            for h in range(heads):
                totals[h] += np.exp(leaky(queries[v, h] + keys[sources[e], h], slope) - highest[h])
        for h in range(heads):
            log_totals[v, h] = highest[h] + np.log(totals[h])
        outs[v] = 0
        for e in range(offsets[v], offsets[v + 1]):
            fetch(values, sources[min(e + _AHEAD, end)])
            weight = weight_of(queries, keys, log_totals, v, sources[e], slope)
            add_rows(outs, v, weight, values, sources[e], part)


@kernel
def additive_backward_queries(
    offsets, sources, queries, keys, values, slope, part, log_totals, gradients, means, of_queries, first, last,
):  # fmt: skip
    """The queries' gradient. gradients (V, D): of the outs. means (V, heads) gets, head by head, the mean of gradient .
    value under the head's weights."""
    heads, end = queries.shape[1], sources.shape[0] - 1
    weighted, slopes = np.empty(heads, queries.dtype), np.empty(heads, queries.dtype)
    for v in range(first, last):
        means[v] = 0
        weighted[:] = 0  # sums over messages of weight . slope . (gradient . value)
        slopes[:] = 0  # and of weight . slope
        for e in range(offsets[v], offsets[v + 1]):
            p = sources[e]
            fetch(values, sources[min(e + _AHEAD, end)])
            gain = dot_rows(gradients, v, values, p, part)
            for h in range(heads):
                z = queries[v, h] + keys[p, h]
                weight = np.exp(leaky(z, slope) - log_totals[v, h])
                means[v, h] += weight * gain
                tilt = weight if z > 0 else slope * weight
                weighted[h] += tilt * gain
                slopes[h] += tilt
        for h in range(heads):
            of_queries[v, h] = (weighted[h] - means[v, h] * slopes[h]) / heads


@kernel
def additive_backward_pairs(
    offsets, destinations, queries, keys, values, slope, part, log_totals, gradients, means, of_keys, of_values,
    first, last,
):  # fmt: skip
    """The gradients of keys and values, with the means of `additive_backward_queries`.

    offsets (P + 1,), destinations (E,): the messages by source.
    """
    heads, end = queries.shape[1], destinations.shape[0] - 1
    for p in range(first, last):
        of_keys[p] = 0
        of_values[p] = 0
        for e in range(offsets[p], offsets[p + 1]):
            v = destinations[e]
            fetch(gradients, destinations[min(e + _AHEAD, end)])
            gain = dot_rows(gradients, v, values, p, part)
            total = queries[v, 0] * 0
            for h in range(heads):
                z = queries[v, h] + keys[p, h]
                weight = np.exp(leaky(z, slope) - log_totals[v, h])
                total += weight
                tilt = weight if z > 0 else slope * weight
                of_keys[p, h] += tilt * (gain - means[v, h]) / heads
            add_rows(of_values, p, total / heads, gradients, v, part)
