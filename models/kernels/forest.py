"""Margins of boosted trees for many rows: step by step for a block of rows at once, so that no row waits for another.

The upper nodes of a tree are all asked, of every row, and the answers tell the node below: no row looks up which node
it is at. Further down that would be too many questions, and each row goes its own way.
Nodes of all trees of all boosters stand one behind the other, the two children of a node side by side. A leaf is its
own child, so that all rows go as many steps as the tree is deep, and nothing branches.
Shapes: n rows, F columns, T trees.
"""

from __future__ import annotations

import numpy as np

from models.kernels.compiling import inlined, kernel

BLOCK = 64  # rows at a time, which stay in the first caches
UPPER = 3  # levels of which all nodes are asked


@inlined
def goes_right(x, threshold, missing_right):
    """1 or 0: NaN where missing_right says."""
    return np.int32(x >= threshold) | (np.int32(x != x) & missing_right)


@kernel
def margins(features, start, trees, depths, columns, thresholds, missing, below, split, threshold, left, value, out):
    """Write to out (n, boosters) float32: each booster's start and the value of the row's leaf of each of its trees.

    features (n, F) float32, NaN where missing. start (boosters,) float32; trees (boosters + 1,) int64: booster b has
    those from trees[b] to trees[b + 1]. By tree: depths (T,) int64; of the 7 upper nodes, level by level, columns
    (T, 7) int64, thresholds (T, 7) float32, missing (T, 7) int32, 1 where a missing number goes right; below (T, 8)
    int32, the nodes under them. By node: split int32, twice the column, and one more where a missing number goes right;
    threshold float32; left int32, the number of the left child; value float32. A row goes right where its number is not
    below the threshold; a leaf has the threshold NaN, no missing number goes right, and left is itself.
    """
    n, n_columns, one, block = features.shape[0], features.shape[1], np.int32(1), np.int32(BLOCK)
    turned = np.zeros((n_columns, BLOCK), np.float32)  # a column's numbers side by side
    numbers = turned.reshape(-1)
    node, total = np.empty(BLOCK, np.int32), np.empty(BLOCK, np.float32)
    for first in range(0, n, BLOCK):
        rows = min(BLOCK, n - first)
        for i in range(rows):
            for f in range(n_columns):
                turned[f, i] = features[first + i, f]
        for b in range(len(start)):
            total[:] = start[b]
            for t in range(trees[b], trees[b + 1]):
                c, h, m, under = columns[t], thresholds[t], missing[t], below[t]
                x0, x1, x2, x3 = turned[c[0]], turned[c[1]], turned[c[2]], turned[c[3]]
                x4, x5, x6 = turned[c[4]], turned[c[5]], turned[c[6]]
                h0, h1, h2, h3, h4, h5, h6 = h[0], h[1], h[2], h[3], h[4], h[5], h[6]
                m0, m1, m2, m3, m4, m5, m6 = m[0], m[1], m[2], m[3], m[4], m[5], m[6]
                for i in range(BLOCK):
                    top = goes_right(x0[i], h0, m0)
                    on_left, on_right = goes_right(x1[i], h1, m1), goes_right(x2[i], h2, m2)
                    middle = on_right if top else on_left
                    r3, r4 = goes_right(x3[i], h3, m3), goes_right(x4[i], h4, m4)
                    r5, r6 = goes_right(x5[i], h5, m5), goes_right(x6[i], h6, m6)
                    on_left, on_right = r4 if middle else r3, r6 if middle else r5
                    node[i] = 4 * top + 2 * middle + (on_right if top else on_left)
                for i in range(BLOCK):
                    node[i] = under[node[i]]
                for _ in range(depths[t] - UPPER):
                    for i in range(BLOCK):
                        at = node[i]
                        how = split[at]
                        x = numbers[(how >> one) * block + np.int32(i)]
                        node[i] = left[at] + goes_right(x, threshold[at], how & one)
                for i in range(BLOCK):
                    total[i] += value[node[i]]
            for i in range(rows):
                out[first + i, b] = total[i]
