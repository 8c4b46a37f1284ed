"""Cross-entropy of vectors' products over pairs alike and drawn ones, losses and gradients in one pass: no array with a
row of numbers per drawn one.

Legend: N vectors x (N, D); B anchors with a partner each, K drawn against each.
One thread: the gradients of a vector that stands in many pairs would meet in several.
"""

from __future__ import annotations

import numpy as np

from models.kernels.arithmetic import sigmoid, softplus
from models.kernels.compiling import kernel
from models.kernels.pairs import product


@kernel
def contrast_products(x, anchors, partners, drawn, counts, gradients):
    """Σ over anchors a of −ln σ(x_a · x_partner) and the mean of −ln σ(−x_a · x_drawn) over those that count.

    anchors, partners: int64 (B,). drawn: int64 (B, K); counts: bool (B, K). gradients (N, D): what the sum's are added
    to.
    """
    total, width, one = 0.0, x.shape[1], np.float32(1)
    for b in range(anchors.shape[0]):
        a, p, n = anchors[b], partners[b], 0
        for k in range(drawn.shape[1]):
            n += counts[b, k]
        y = product(x, a, x, p)
        total += softplus(-y)
        share = sigmoid(-y)
        for d in range(width):
            of_anchor = x[a, d]
            gradients[a, d] -= share * x[p, d]
            gradients[p, d] -= share * of_anchor
        weight = one / np.float32(max(n, 1))
        for k in range(drawn.shape[1]):
            if not counts[b, k]:
                continue
            j = drawn[b, k]
            y = product(x, a, x, j)
            total += weight * softplus(y)
            share = weight * sigmoid(y)
            for d in range(width):
                of_anchor = x[a, d]
                gradients[a, d] += share * x[j, d]
                gradients[j, d] += share * of_anchor
    return total
