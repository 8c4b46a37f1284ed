"""Margins of boosted trees for many rows: step by step for a block of rows at once, so that no row waits for another.

Nodes of all trees of all boosters stand one behind the other, the two children of a node side by side. A leaf is its
own child, so that all rows go as many steps as the tree is deep, and nothing branches.
Shapes: n rows, F columns, B = BLOCK.
"""

from __future__ import annotations

import numpy as np

from models.kernels.compiling import kernel

BLOCK = 32  # rows at a time, which stay in the first cache


@kernel
def margins(features, start, trees, roots, depths, split, threshold, left, value, out):
    """Write to out (n, boosters) float32: each booster's start and the value of the row's leaf of each of its trees.

    features (n, F) float32, NaN where missing. start (boosters,) float32; trees (boosters + 1,) int64: booster b has
    those from trees[b] to trees[b + 1]. roots, depths (trees,) int64. By node: split int32, twice the column, and one
    more where a missing number goes right; threshold float32; left int32, the number of the left child; value float32.
    A row goes right where its number is not below the threshold; a leaf has the threshold NaN, no missing number goes
    right, and left is itself.
    """
    n, n_columns, one, block = features.shape[0], features.shape[1], np.int32(1), np.int32(BLOCK)
    turned = np.zeros(n_columns * BLOCK, np.float32)  # a column's numbers side by side
    node, total = np.empty(BLOCK, np.int32), np.empty(BLOCK, np.float32)
    for first in range(0, n, BLOCK):
        rows = min(BLOCK, n - first)
        for i in range(rows):
            for f in range(n_columns):
                turned[f * BLOCK + i] = features[first + i, f]
        for b in range(len(start)):
            total[:] = start[b]
            for t in range(trees[b], trees[b + 1]):
                root = np.int32(roots[t])
                for i in range(BLOCK):
                    node[i] = root
                for _ in range(depths[t]):
                    for i in range(BLOCK):
                        at = node[i]
                        how = split[at]
                        x = turned[(how >> one) * block + np.int32(i)]
                        node[i] = left[at] + (np.int32(x >= threshold[at]) | (np.int32(x != x) & how & one))
                for i in range(BLOCK):
                    total[i] += value[node[i]]
            for i in range(rows):
                out[first + i, b] = total[i]
