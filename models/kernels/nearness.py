"""Distances from one user after another to a fixed few others, and what is told of them, without a matrix of them all.

The others stand in columns, so that the distances to all of them grow together, one dimension at a time, in the
cache. Small is near in all measures.
Shapes: n queries and m others of d numbers, float32.
"""

from __future__ import annotations

import numpy as np

from models.kernels.compiling import inlined, kernel

L1, L2, DOT = range(3)  # Σ|q − o|; √Σ(q − o)²; offset − Σ q·o
TILE = 4  # queries at a time: each number of the others is read once for all of them


@inlined
def fill(queries, first, others, measure, offset, found):
    """found[t, j]: from query first + t to other j; beyond the last query it is that one again."""
    m, last = others.shape[1], queries.shape[0] - 1
    a, b, c, e = first, min(first + 1, last), min(first + 2, last), min(first + 3, last)
    found[:, :] = 0
    f0, f1, f2, f3 = found[0], found[1], found[2], found[3]
    for k in range(queries.shape[1]):
        q0, q1, q2, q3, row = queries[a, k], queries[b, k], queries[c, k], queries[e, k], others[k]
        if measure == L1:
            for j in range(m):
                f0[j] += abs(q0 - row[j])
                f1[j] += abs(q1 - row[j])
                f2[j] += abs(q2 - row[j])
                f3[j] += abs(q3 - row[j])
        elif measure == L2:
            for j in range(m):
                f0[j] += (q0 - row[j]) * (q0 - row[j])
                f1[j] += (q1 - row[j]) * (q1 - row[j])
                f2[j] += (q2 - row[j]) * (q2 - row[j])
                f3[j] += (q3 - row[j]) * (q3 - row[j])
        else:
            for j in range(m):
                f0[j] -= q0 * row[j]
                f1[j] -= q1 * row[j]
                f2[j] -= q2 * row[j]
                f3[j] -= q3 * row[j]
    for t in range(TILE):
        for j in range(m):
            found[t, j] = np.sqrt(found[t, j]) if measure == L2 else found[t, j] + offset


@kernel
def nearest(queries, others, himself, measure, offset, k, out):
    """Write to out (n, 4) float32: the least distance, the mean of the k least, the mean of all, and the distance to
    the last of the others, which is a centroid and counts in none of the former.

    queries (n, d), others (d, m + 1), C order. himself (n,) int64: the other that is the query's own user and counts
    nowhere, -1 for none. NaN where no other is left.
    """
    n, m = queries.shape[0], others.shape[1] - 1
    found, near = np.empty((TILE, m + 1), np.float32), np.empty(max(k, 1), np.float32)
    for first in range(0, n, TILE):
        fill(queries, first, others, measure, offset, found)
        for t in range(min(TILE, n - first)):
            row, i = found[t], first + t
            own = himself[i]
            if own >= 0:
                row[own] = 0
            total = np.float64(0)
            for j in range(m):
                total += row[j]
            left = m - (own >= 0)
            if own >= 0:
                row[own] = np.inf
            kept = min(k, left)
            near[:] = np.inf
            for j in range(m):
                if row[j] < near[kept - 1]:
                    place = kept - 1
                    while place > 0 and near[place - 1] > row[j]:
                        near[place] = near[place - 1]
                        place -= 1
                    near[place] = row[j]
            if left == 0:
                out[i, :] = np.nan
                continue
            sum_of_near = np.float64(0)
            for j in range(kept):
                sum_of_near += near[j]
            out[i, 0], out[i, 1], out[i, 2], out[i, 3] = near[0], sum_of_near / kept, total / left, row[m]


@kernel
def moments(queries, others, himself, measure, offset, out):
    """Write to out (n, 2) float64 the mean and the standard deviation of each query's distances; NaN where no other is
    left. As `nearest`, without a centroid: others (d, m)."""
    n, m = queries.shape[0], others.shape[1]
    found = np.empty((TILE, m), np.float32)
    for first in range(0, n, TILE):
        fill(queries, first, others, measure, offset, found)
        for t in range(min(TILE, n - first)):
            row, own, left, total, squares = found[t], himself[first + t], m, np.float64(0), np.float64(0)
            if own >= 0:
                row[own], left = 0, m - 1
            for j in range(m):
                total += row[j]
            mean = total / left
            for j in range(m):
                squares += (row[j] - mean) * (row[j] - mean)
            if own >= 0:
                squares -= mean * mean
            out[first + t, 0], out[first + t, 1] = mean, np.sqrt(max(squares, 0.0) / left)
            if left == 0:
                out[first + t, :] = np.nan


@kernel
def densities(queries, others, himself, measure, offset, scale, sharpness, farthest, out):
    """Write to out (n, S) float64, for each sharpness (S,) float64, the log of the mean over the others of
    exp(−sharpness · z), z the distance in scale (n, 2) float64, mean and standard deviation, between ± farthest. As
    `moments` otherwise."""
    n, m = queries.shape[0], others.shape[1]
    found, z = np.empty((TILE, m), np.float32), np.empty(m, np.float64)
    for first in range(0, n, TILE):
        fill(queries, first, others, measure, offset, found)
        for t in range(min(TILE, n - first)):
            i, row = first + t, found[t]
            own, mean, spread = himself[i], scale[i, 0], scale[i, 1]
            for j in range(m):
                z[j] = min(max((row[j] - mean) / spread, -farthest), farthest)
            if own >= 0:
                z[own] = np.inf
            for s in range(len(sharpness)):
                total = np.float64(0)
                for j in range(m):
                    total += np.exp(-sharpness[s] * z[j])
                left = m - (own >= 0)
                out[i, s] = np.log(total / left) if left > 0 else np.nan
