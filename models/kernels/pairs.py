"""Bayesian personalised ranking of a batch in one pass: losses and gradients, no array with a row per drawn item.

Legend: U users, I items, D numbers a vector; B pairs, K items drawn against each.
offsets (U + 1,), known (pairs,) int64: user u touched the items known[offsets[u]:offsets[u + 1]], ascending.
x_users (U, D), x_items (I, D). users, items (B,), drawn (B, K) int64.
One thread: the gradients of an item that many users touched would meet in several.
"""

from __future__ import annotations

import numpy as np

from models.kernels.arithmetic import sigmoid, softplus
from models.kernels.compiling import inlined, kernel


@inlined
def touched(known, first, last, item):
    """Whether the item is among known[first:last]."""
    end = last
    while first < last:
        middle = (first + last) // 2
        if known[middle] < item:
            first = middle + 1
        else:
            last = middle
    return first < end and known[first] == item


@kernel
def rank_pairs(offsets, known, x_users, x_items, users, items, drawn, of_users, of_items):
    """(Σ −ln σ(y_ui − y_uj) over the drawn j that u did not touch, how many those are).

    of_users (U, D), of_items (I, D): what the sum's gradients are added to.
    """
    total, n, width = 0.0, 0, x_users.shape[1]
    for b in range(users.shape[0]):
        u, i = users[b], items[b]
        ours, x_u, x_i, g_u, g_i = np.float32(0), x_users[u], x_items[i], of_users[u], of_items[i]
        for d in range(width):
            ours += x_u[d] * x_i[d]
        weight = np.float32(0)
        for k in range(drawn.shape[1]):
            j = drawn[b, k]
            if touched(known, offsets[u], offsets[u + 1], j):
                continue
            x_j, g_j, theirs = x_items[j], of_items[j], np.float32(0)
            for d in range(width):
                theirs += x_u[d] * x_j[d]
            total += softplus(theirs - ours)
            n += 1
            share = sigmoid(theirs - ours)
            weight += share
            for d in range(width):
                g_u[d] += share * (x_j[d] - x_i[d])
            for d in range(width):
                g_j[d] += share * x_u[d]
        for d in range(width):
            g_i[d] -= weight * x_u[d]
    return total, n
