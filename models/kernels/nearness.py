"""Distances from one user after another to a fixed few others, and what is told of them, without a matrix of them all.

A block of users stands in columns, so that each step is taken for all of them at once: their distances to one other
grow together, and the nearest of each are put in order without a branch. Small is near in all measures.
Shapes: n queries of d numbers and m others of D, float32, where D is d made a multiple of STEP by zeros, which change
no distance; B = BLOCK.
"""

from __future__ import annotations

import numpy as np

from models.kernels.compiling import inlined, kernel

L1, L2, DOT = range(3)  # Σ|q − o|; √Σ(q − o)²; offset − Σ q·o
BLOCK = 64
STEP = 4  # dimensions at a time: sums are read and written once for them


@inlined
def fill(queries, first, others, measure, offset, turned, found):
    """found (m, B): from the queries first to first + B to each other; beyond the last query any numbers. turned (D, B)
    holds the queries, zeros where there was no query before."""
    for j in range(min(BLOCK, queries.shape[0] - first)):
        for k in range(queries.shape[1]):
            turned[k, j] = queries[first + j, k]
    for other in range(others.shape[0]):
        row, point = found[other], others[other]
        row[:] = offset
        for k in range(0, others.shape[1], STEP):
            q0, q1, q2, q3 = turned[k], turned[k + 1], turned[k + 2], turned[k + 3]
            p0, p1, p2, p3 = point[k], point[k + 1], point[k + 2], point[k + 3]
            if measure == L1:
                for j in range(BLOCK):
                    row[j] += (abs(q0[j] - p0) + abs(q1[j] - p1)) + (abs(q2[j] - p2) + abs(q3[j] - p3))
            elif measure == L2:
                for j in range(BLOCK):
                    row[j] += ((q0[j] - p0) ** 2 + (q1[j] - p1) ** 2) + ((q2[j] - p2) ** 2 + (q3[j] - p3) ** 2)
            else:
                for j in range(BLOCK):
                    row[j] -= (q0[j] * p0 + q1[j] * p1) + (q2[j] * p2 + q3[j] * p3)
        if measure == L2:
            for j in range(BLOCK):
                row[j] = np.sqrt(row[j])


@inlined
def drop_himself(found, himself, first, queries, instead):
    """Each query's distance to himself, if he is among the others, makes place for `instead`."""
    for j in range(min(BLOCK, queries - first)):
        if himself[first + j] >= 0:
            found[himself[first + j], j] = instead


@kernel
def nearest(queries, others, himself, measure, offset, k, out):
    """Write to out (n, 4) float32: the least distance, the mean of the k least, the mean of all, and the distance to
    the last of the others, which is a centroid and counts in none of the former.

    queries (n, d), others (m + 1, D). himself (n,) int64: the other that is the query's own user and counts nowhere, -1
    for none. NaN where no other is left.
    """
    n, m = queries.shape[0], others.shape[0] - 1
    turned, found = np.zeros((others.shape[1], BLOCK), np.float32), np.empty((m + 1, BLOCK), np.float32)
    near, total, beyond = np.empty((k, BLOCK), np.float32), np.empty(BLOCK, np.float64), np.empty(BLOCK, np.float32)
    for first in range(0, n, BLOCK):
        fill(queries, first, others, measure, offset, turned, found)
        drop_himself(found, himself, first, n, np.float32(0))
        total[:] = 0
        for other in range(m):
            row = found[other]
            for j in range(BLOCK):
                total[j] += row[j]
        drop_himself(found, himself, first, n, np.float32(np.inf))
        near[:, :] = np.inf
        for other in range(m):
            beyond[:] = found[other]
            for place in range(min(k, other + 1)):  # the lower of two stays, the higher goes on
                kept = near[place]
                for j in range(BLOCK):
                    x, y = kept[j], beyond[j]
                    kept[j], beyond[j] = (x, y) if x < y else (y, x)
        for j in range(min(BLOCK, n - first)):
            left = m - (himself[first + j] >= 0)
            counted, sum_of_near = min(k, left), np.float64(0)
            for place in range(counted):
                sum_of_near += near[place, j]
            row = out[first + j]
            row[0], row[1], row[2], row[3] = near[0, j], sum_of_near / counted, total[j] / left, found[m, j]
            if left == 0:
                row[:] = np.nan


@kernel
def moments(queries, others, himself, measure, offset, out):
    """Write to out (n, 2) float64 the mean and the standard deviation of each query's distances; NaN where no other is
    left. As `nearest`, without a centroid: others (m, D)."""
    n, m = queries.shape[0], others.shape[0]
    turned, found = np.zeros((others.shape[1], BLOCK), np.float32), np.empty((m, BLOCK), np.float32)
    mean, squares = np.empty(BLOCK, np.float64), np.empty(BLOCK, np.float64)
    for first in range(0, n, BLOCK):
        fill(queries, first, others, measure, offset, turned, found)
        drop_himself(found, himself, first, n, np.float32(0))
        mean[:], squares[:] = 0, 0
        for other in range(m):
            row = found[other]
            for j in range(BLOCK):
                mean[j] += row[j]
        for j in range(min(BLOCK, n - first)):
            mean[j] /= m - (himself[first + j] >= 0)
        for other in range(m):
            row = found[other]
            for j in range(BLOCK):
                squares[j] += (row[j] - mean[j]) * (row[j] - mean[j])
        for j in range(min(BLOCK, n - first)):
            own = himself[first + j] >= 0
            of_others = squares[j] - mean[j] * mean[j] if own else squares[j]
            out[first + j, 0], out[first + j, 1] = mean[j], np.sqrt(max(of_others, 0.0) / (m - own))
            if m == own:
                out[first + j, :] = np.nan


@kernel
def densities(queries, others, himself, measure, offset, scale, sharpness, farthest, out):
    """Write to out (n, S) float64, for each sharpness (S,) float64, the log of the mean over the others of
    exp(−sharpness · z), z the distance in scale (n, 2) float64, mean and standard deviation, between ± farthest. As
    `moments` otherwise."""
    n, m = queries.shape[0], others.shape[0]
    turned, found = np.zeros((others.shape[1], BLOCK), np.float32), np.empty((m, BLOCK), np.float32)
    z = np.empty(m, np.float64)
    for first in range(0, n, BLOCK):
        fill(queries, first, others, measure, offset, turned, found)
        for j in range(min(BLOCK, n - first)):
            i = first + j
            own, mean, spread = himself[i], scale[i, 0], scale[i, 1]
            for other in range(m):
                z[other] = min(max((found[other, j] - mean) / spread, -farthest), farthest)
            if own >= 0:
                z[own] = np.inf
            left = m - (own >= 0)
            for s in range(len(sharpness)):
                total = np.float64(0)
                for other in range(m):
                    total += np.exp(-sharpness[s] * z[other])
                out[i, s] = np.log(total / left) if left > 0 else np.nan
