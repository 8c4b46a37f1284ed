"""The cross entropy of rows of scores, and its slopes in their place. scores (N, I) float32; targets int64 (N,)."""

from __future__ import annotations

import numpy as np

from models.kernels.arithmetic import exp
from models.kernels.compiling import kernel


@kernel
def cross_entropy(scores, targets, weight, losses, first, last):
    """losses_n = -log softmax of row n at its target; the row becomes weight · (softmax - 1 at the target)."""
    for n in range(first, last):
        row = scores[n]
        highest, total, true = np.float32(-np.inf), np.float32(0), row[targets[n]]
        for i in range(row.shape[0]):
            highest = max(highest, row[i])
        for i in range(row.shape[0]):
            row[i] = exp(row[i] - highest)
            total += row[i]
        scale = weight / total
        for i in range(row.shape[0]):
            row[i] *= scale
        row[targets[n]] -= weight
        losses[n] = highest + np.log(total) - true
