"""TransE's training step on the CPU where a chunk's triples share draws: a small dense product, not many gathers.

A chunk's C triples are of one relation and break the same end, so the K drawn entities can stand against all of them.
Their rows are gathered once, C x K distances and gradients are computed on rows that stay in the cache, and each row is
updated once.
The legend is that of `translation.py`; further queries (C, w), broken (K', w) with K' = K rounded up to a multiple of
4, distances and weights (C, K'), the weights being dL / d distances and zero in the columns that are only there for
the rounding.
"""

from __future__ import annotations

import numpy as np

from models.kernels.arithmetic import exp, sigmoid, softplus
from models.kernels.compiling import inlined, kernel
from models.kernels.draws import coin, keyed
from models.kernels.membership import mark_false
from models.kernels.translation import (
    TINY,
    add_direction,
    add_row,
    clear,
    copy_row,
    distance,
    draw_broken,
    fetch_row,
    set_query,
    update_row,
)

_ABREAST = 4  # rows that are summed in one pass, so that a running sum is loaded and stored once for all of them


@inlined
def weigh_margin(distances, i, true_distance, counts, margin, weights):
    """Eq. 1 for one triple: weights_i = dL / d distances_i. Returns (loss, dL / d true_distance)."""
    loss, within = np.float32(0), np.float32(0)
    for j in range(distances.shape[1]):
        hinge = margin + true_distance - distances[i, j]
        inside = counts[j] if hinge > 0 else np.float32(0)
        loss += inside * hinge
        within += inside
        weights[i, j] = -inside
    return loss, within


@inlined
def weigh_self_adversarial(distances, i, true_distance, counts, margin, temperature, weights):
    """Sun et al. 2019, Eq. 5, their p_j held constant: weights_i = dL / d distances_i.

    Returns (loss, dL / d true_distance).
    """
    nearest = np.float32(np.inf)
    for j in range(distances.shape[1]):
        nearest = min(nearest, distances[i, j] if counts[j] > 0 else np.float32(np.inf))
    total = np.float32(0)
    for j in range(distances.shape[1]):
        weights[i, j] = counts[j] * exp(temperature * (nearest - distances[i, j]))
        total += weights[i, j]
    scale = np.float32(1) / total if total > 0 else np.float32(0)
    loss = np.float32(0)
    for j in range(distances.shape[1]):
        share = weights[i, j] * scale
        loss += share * softplus(margin - distances[i, j])
        weights[i, j] = -share * sigmoid(margin - distances[i, j])
    return loss + softplus(true_distance - margin), sigmoid(true_distance - margin)


@inlined
def set_distances(queries, i, table, first, l1, distances):
    """distances_i of the four rows of the table from `first` on."""
    a, b, c, d = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    if l1:
        for k in range(queries.shape[1]):
            q = queries[i, k]
            a += abs(q - table[first, k])
            b += abs(q - table[first + 1, k])
            c += abs(q - table[first + 2, k])
            d += abs(q - table[first + 3, k])
    else:
        for k in range(queries.shape[1]):
            q = queries[i, k]
            a += (q - table[first, k]) ** 2
            b += (q - table[first + 1, k]) ** 2
            c += (q - table[first + 2, k]) ** 2
            d += (q - table[first + 3, k]) ** 2
        a, b, c, d = np.sqrt(a), np.sqrt(b), np.sqrt(c), np.sqrt(d)
    distances[i, first], distances[i, first + 1], distances[i, first + 2], distances[i, first + 3] = a, b, c, d


@inlined
def _signed(weight, difference):
    """weight * sign(difference)."""
    return weight if difference > 0 else (-weight if difference < 0 else np.float32(0))


@inlined
def add_directions(queries, i, table, first, l1, weights, w, out):
    """out_i += the sum over the four rows j from `first` on of weights[w, j] * d||q_i - e_j|| / dq_i.

    In L2, times the distance.
    """
    a, b, c, d = weights[w, first], weights[w, first + 1], weights[w, first + 2], weights[w, first + 3]
    if l1:
        for k in range(queries.shape[1]):
            q = queries[i, k]
            out[i, k] += (
                _signed(a, q - table[first, k]) + _signed(b, q - table[first + 1, k])
                + _signed(c, q - table[first + 2, k]) + _signed(d, q - table[first + 3, k])
            )  # fmt: skip
    else:
        total = a + b + c + d
        for k in range(queries.shape[1]):
            out[i, k] += total * queries[i, k] - (
                a * table[first, k] + b * table[first + 1, k] + c * table[first + 2, k] + d * table[first + 3, k]
            )


@inlined
def backward(queries, size, broken, l1, distances, weights, weights_T, query_gradients, broken_gradients):
    """Add every pair's gradient to its query and its broken row.

    In L2, weights become weights per unit of difference.
    """
    for i in range(size):
        for j in range(weights.shape[1]):
            if not l1:
                weights[i, j] /= max(distances[i, j], TINY)
            weights_T[j, i] = weights[i, j]
        for j in range(0, weights.shape[1], _ABREAST):
            if weights[i, j] != 0 or weights[i, j + 1] != 0 or weights[i, j + 2] != 0 or weights[i, j + 3] != 0:
                add_directions(queries, i, broken, j, l1, weights, i, query_gradients)
    for i in range(size, weights_T.shape[1]):
        for j in range(weights.shape[1]):
            weights_T[j, i] = 0
    for j in range(weights.shape[1]):
        for i in range(0, size, _ABREAST):
            if weights_T[j, i] != 0 or weights_T[j, i + 1] != 0 or weights_T[j, i + 2] != 0 or weights_T[j, i + 3] != 0:
                # d||q - e|| / de = d||e - q|| / de: the same sum with the places changed
                add_directions(broken, j, queries, i, l1, weights_T, j, broken_gradients)


@kernel
def train_shared(
    E, accE, R, accR, heads, relations, tails, starts, order, first, last, key, negatives,
    pool_members, pool_offsets, pools, known, l1, self_adversarial, margin, temperature,
    dimension, learning_rate, adagrad, unit_norm,
):  # fmt: skip
    """One draw of `negatives` broken entities for each chunk of one relation's triples, over order[first:last].

    Arguments as for `translation.train_margin_pairs`; a chunk's gradients are summed, then applied. Returns the sum of
    the losses.
    """
    width, longest = E.shape[1], 0
    for c in order[first:last]:
        longest = max(longest, starts[c + 1] - starts[c])
    longest, columns = -(-longest // _ABREAST) * _ABREAST, -(-negatives // _ABREAST) * _ABREAST
    queries, query_gradients = np.zeros((longest, width), np.float32), np.zeros((longest, width), np.float32)
    broken, broken_gradients = np.zeros((columns, width), np.float32), np.zeros((columns, width), np.float32)
    distances, weights = np.zeros((longest, columns), np.float32), np.zeros((longest, columns), np.float32)
    weights_T, rows = np.zeros((columns, longest), np.float32), np.zeros(negatives, np.int64)
    counts, gradient = np.zeros(columns, np.float32), np.zeros((2, width), np.float32)
    loss = 0.0
    for c in order[first:last]:
        chunk, start, size = keyed(key, c), starts[c], starts[c + 1] - starts[c]
        broken_tail = coin(chunk)
        sign = np.float32(1) if broken_tail else np.float32(-1)
        anchors, targets = (heads, tails) if broken_tail else (tails, heads)
        r = np.int64(relations[start])
        for j in range(negatives):
            rows[j] = draw_broken(chunk, j, pools[broken_tail, r], pool_members, pool_offsets)
            fetch_row(E, rows[j])
        for i in range(start, starts[c + 1]):
            fetch_row(E, np.int64(heads[i]))
            fetch_row(E, np.int64(tails[i]))
        for j in range(negatives):
            copy_row(E, rows[j], broken, j)
            clear(broken_gradients, j)
        for i in range(size):
            h, t, target = np.int64(heads[start + i]), np.int64(tails[start + i]), np.int64(targets[start + i])
            set_query(E, np.int64(anchors[start + i]), R, r, sign, queries, i)
            clear(query_gradients, i)
            true_distance = distance(queries, i, E, target, l1)
            for j in range(0, columns, _ABREAST):
                set_distances(queries, i, broken, j, l1, distances)
            mark_false(known, rows, broken_tail, h, r, t, E.shape[0], R.shape[0], counts)
            if self_adversarial:
                part, slope = weigh_self_adversarial(distances, i, true_distance, counts, margin, temperature, weights)
            else:
                part, slope = weigh_margin(distances, i, true_distance, counts, margin, weights)
            loss += part
            if slope != 0:
                clear(gradient, 0)
                add_direction(queries, i, E, target, l1, slope, gradient, 0)
                add_row(query_gradients, i, gradient, 0)
                update_row(E, accE, target, gradient, 0, np.float32(-1), dimension, learning_rate, adagrad, unit_norm)
        backward(queries, size, broken, l1, distances, weights, weights_T, query_gradients, broken_gradients)
        clear(gradient, 1)
        for i in range(size):
            add_row(gradient, 1, query_gradients, i)
            anchor = np.int64(anchors[start + i])
            update_row(E, accE, anchor, query_gradients, i, np.float32(1), dimension, learning_rate, adagrad, unit_norm)
        for j in range(negatives):
            row = rows[j]
            update_row(E, accE, row, broken_gradients, j, np.float32(1), dimension, learning_rate, adagrad, unit_norm)
        update_row(R, accR, r, gradient, 1, sign, dimension, learning_rate, adagrad, False)
    return loss
