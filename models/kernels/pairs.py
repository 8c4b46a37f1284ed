"""Bayesian personalised ranking of a batch in one pass: losses and gradients, no array with a row per drawn item.

Legend: U users, I items, D numbers a vector; B pairs, K items drawn against each.
offsets (U + 1,), known (pairs,) int64: user u touched the items known[offsets[u]:offsets[u + 1]], ascending.
x_users (R, D), x_items (I, D). users, items, rows (B,), drawn (B, K) int64: pair b has the row rows[b] of x_users.
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


@inlined
def product(x, i, y, j):
    """x_i . y_j"""
    total = np.float32(0)
    for d in range(x.shape[1]):
        total += x[i, d] * y[j, d]
    return total


@kernel
def rank_pairs(offsets, known, x_users, x_items, rows, users, items, drawn, hardest, of_users, of_items):
    """(Σ −ln σ(y_ui − y_uj) over the drawn j that u did not touch, how many those are).

    hardest: of a pair's drawn only the one with the highest y_uj, the first of equals. of_users (R, D), of_items
    (I, D): what the sum's gradients are added to.
    """
    total, n, width, n_drawn = 0.0, 0, x_users.shape[1], drawn.shape[1]
    theirs, counts = np.empty(n_drawn, np.float32), np.empty(n_drawn, np.bool_)
    for b in range(users.shape[0]):
        u, r, i = users[b], rows[b], items[b]
        ours, weight, highest = product(x_users, r, x_items, i), np.float32(0), -1
        for k in range(n_drawn):
            counts[k] = not touched(known, offsets[u], offsets[u + 1], drawn[b, k])
            if counts[k]:
                theirs[k] = product(x_users, r, x_items, drawn[b, k])
                if highest < 0 or theirs[k] > theirs[highest]:
                    highest = k
        for k in range(n_drawn):
            if not counts[k] or (hardest and k != highest):
                continue
            j, y = drawn[b, k], theirs[k] - ours
            total += softplus(y)
            n += 1
            share = sigmoid(y)
            weight += share
            for d in range(width):
                of_users[r, d] += share * (x_items[j, d] - x_items[i, d])
            for d in range(width):
                of_items[j, d] += share * x_users[r, d]
        for d in range(width):
            of_items[i, d] -= weight * x_users[r, d]
    return total, n
