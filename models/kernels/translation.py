"""TransE's training step on the CPU: gather, score, gradient and update in one pass per triple, without locks.

Legend. E (n, w) entities and R (m, w) relations, float32, rows padded with zeros to a width w that is a multiple of 16; `accE` (n,),
`accR` (m,) the row-wise Adagrad accumulators. Threads run these kernels on disjoint triples and shared tables, without locks
(Hogwild, Niu et al. 2011): on one thread the result is a function of the arguments, on several it varies in the last bits.

Breaking the tail and breaking the head are one computation. With the query q = e_h + e_r and target t for a broken tail, and
q = e_t - e_r and target h for a broken head, the distance of Eq. 2 is ||q - target|| in both cases, and ||q - e'|| for the broken one.
The end that stays is called anchor, and q = e_anchor + sign * e_r.
"""

from __future__ import annotations

import numpy as np

from models.kernels.compiling import kernel
from models.kernels.draws import below, coin, keyed

_TINY = np.float32(1e-12)  # keeps an L2 direction finite at distance 0
_ABSENT = np.uint64(0)


@kernel
def triple_key(head, relation, tail, n_entities, n_relations):
    """One uint64 per triple, never 0."""
    return np.uint64((head * n_relations + relation) * n_entities + tail + 1)


@kernel
def fill_known(heads, relations, tails, n_entities, n_relations, table):
    """Put every triple into an open-addressing hash table (uint64, zeros, length a power of two, at most half full)."""
    mask = np.uint64(table.shape[0] - 1)
    for i in range(heads.shape[0]):
        key = triple_key(np.int64(heads[i]), np.int64(relations[i]), np.int64(tails[i]), n_entities, n_relations)
        slot = keyed(key, 0) & mask
        while table[slot] != _ABSENT and table[slot] != key:
            slot = (slot + np.uint64(1)) & mask
        table[slot] = key


@kernel
def is_known(table, key):
    """Whether the triple of this key is in the table; an empty table knows nothing."""
    if table.shape[0] == 0:
        return False
    mask = np.uint64(table.shape[0] - 1)
    slot = keyed(key, 0) & mask
    while table[slot] != _ABSENT:
        if table[slot] == key:
            return True
        slot = (slot + np.uint64(1)) & mask
    return False


@kernel
def draw_broken(key, number, pool, pool_members, pool_offsets):
    """The number-th entity drawn under key from one pool (entities that may stand in this place)."""
    first = pool_offsets[pool]
    return np.int64(pool_members[first + below(keyed(key, number), pool_offsets[pool + 1] - first)])


@kernel
def distance(queries, i, table, j, l1):
    """||q_i - e_j||, Eq. 2, in L1 or L2."""
    total = np.float32(0)
    if l1:
        for k in range(queries.shape[1]):
            total += abs(queries[i, k] - table[j, k])
        return total
    for k in range(queries.shape[1]):
        difference = queries[i, k] - table[j, k]
        total += difference * difference
    return np.sqrt(total)


@kernel
def add_direction(queries, i, table, j, l1, weight, out, o):
    """out_o += weight * d||q_i - e_j|| / dq_i."""
    if l1:
        for k in range(queries.shape[1]):
            difference = queries[i, k] - table[j, k]
            out[o, k] += weight if difference > 0 else (-weight if difference < 0 else np.float32(0))
    else:
        factor = weight / max(distance(queries, i, table, j, False), _TINY)
        for k in range(queries.shape[1]):
            out[o, k] += factor * (queries[i, k] - table[j, k])


@kernel
def update_row(table, accumulators, row, gradients, g, factor, dimension, learning_rate, adagrad, unit_norm):
    """table_row -= step * factor * gradients_g, with row-wise Adagrad and projection to the unit sphere by option."""
    step = factor * learning_rate
    if adagrad:
        square = np.float32(0)
        for k in range(table.shape[1]):
            square += gradients[g, k] * gradients[g, k]
        if square == 0:
            return
        accumulators[row] += factor * factor * square / np.float32(dimension)
        step /= np.sqrt(accumulators[row])
    norm = np.float32(0)
    for k in range(table.shape[1]):
        value = table[row, k] - step * gradients[g, k]
        table[row, k] = value
        norm += value * value
    if unit_norm and norm > 0:
        scale = np.float32(1) / np.sqrt(norm)
        for k in range(table.shape[1]):
            table[row, k] *= scale


@kernel
def set_query(E, anchor, R, relation, sign, queries, i):
    """q_i = e_anchor + sign * e_r: Eq. 3 of the paper, reversed by the sign."""
    for k in range(E.shape[1]):
        queries[i, k] = E[anchor, k] + sign * R[relation, k]


@kernel
def train_margin_pairs(
    E, accE, R, accR, heads, relations, tails, starts, order, first, last, key, negatives,
    pool_members, pool_offsets, pools, known, l1, margin, dimension, learning_rate, adagrad, unit_norm,
):  # fmt: skip
    """Eq. 1 with `negatives` draws of its own for each triple, over the chunks of edges order[first:last].

    heads, relations, tails: int32 (edges,). Chunk c is the edges starts[c]:starts[c + 1]. pools: (2, m) the pool of the heads and of the tails of each
    relation. known: hash table of the true triples, or empty. Returns (sum of the losses, broken triples within the margin).
    """
    width = E.shape[1]
    query, gradient = np.zeros((1, width), np.float32), np.zeros((2, width), np.float32)
    loss, violations = 0.0, 0
    for c in order[first:last]:
        for i in range(starts[c], starts[c + 1]):
            triple = keyed(key, i)
            h, r, t = np.int64(heads[i]), np.int64(relations[i]), np.int64(tails[i])
            broken_tail = coin(triple)
            anchor, target, sign = (h, t, np.float32(1)) if broken_tail else (t, h, np.float32(-1))
            set_query(E, anchor, R, r, sign, query, 0)
            true_distance = distance(query, 0, E, target, l1)
            within = 0
            for j in range(negatives):
                broken = draw_broken(triple, j, pools[broken_tail, r], pool_members, pool_offsets)
                hinge = margin + true_distance - distance(query, 0, E, broken, l1)  # Eq. 1
                if hinge <= 0:
                    continue
                other = triple_key(h, r, broken, E.shape[0], R.shape[0]) if broken_tail else triple_key(
                    broken, r, t, E.shape[0], R.shape[0]
                )  # fmt: skip
                if is_known(known, other):
                    continue
                if within == 0:
                    gradient[0] = 0
                within += 1
                loss += hinge
                gradient[1] = 0
                add_direction(query, 0, E, broken, l1, np.float32(-1), gradient, 1)
                gradient[0] += gradient[1]
                update_row(E, accE, broken, gradient, 1, np.float32(-1), dimension, learning_rate, adagrad, unit_norm)
            if within == 0:
                continue
            violations += within
            gradient[1] = 0
            add_direction(query, 0, E, target, l1, np.float32(within), gradient, 1)
            gradient[0] += gradient[1]
            update_row(E, accE, target, gradient, 1, np.float32(-1), dimension, learning_rate, adagrad, unit_norm)
            update_row(E, accE, anchor, gradient, 0, np.float32(1), dimension, learning_rate, adagrad, unit_norm)
            update_row(R, accR, r, gradient, 0, sign, dimension, learning_rate, adagrad, False)
    return loss, violations


@kernel
def weigh_margin(distances, i, true_distance, counts, margin, weights):
    """Eq. 1 for one triple against row i of the distances: weights_i = dL/d distances_i. Returns (loss, dL/d true_distance)."""
    loss, within = np.float32(0), np.float32(0)
    for j in range(distances.shape[1]):
        hinge = margin + true_distance - distances[i, j]
        weights[i, j] = 0
        if counts[i, j] and hinge > 0:
            loss += hinge
            within += np.float32(1)
            weights[i, j] = -1
    return loss, within


@kernel
def softplus(x):
    """log(1 + e^x) without overflow."""
    return max(x, np.float32(0)) + np.log1p(np.exp(-abs(x)))


@kernel
def sigmoid(x):
    """1 / (1 + e^-x) without overflow."""
    if x >= 0:
        return np.float32(1) / (np.float32(1) + np.exp(-x))
    return np.exp(x) / (np.float32(1) + np.exp(x))


@kernel
def weigh_self_adversarial(distances, i, true_distance, counts, margin, temperature, weights):
    """Sun et al. 2019, Eq. 5, the weights p_j held constant. Fills weights_i = dL/d distances_i; (loss, dL/d true_distance)."""
    nearest = np.float32(np.inf)
    for j in range(distances.shape[1]):
        if counts[i, j]:
            nearest = min(nearest, distances[i, j])
    total = np.float32(0)
    for j in range(distances.shape[1]):
        weights[i, j] = np.exp(temperature * (nearest - distances[i, j])) if counts[i, j] else np.float32(0)
        total += weights[i, j]
    loss = softplus(true_distance - margin)
    for j in range(distances.shape[1]):
        if weights[i, j] > 0:
            share = weights[i, j] / total
            loss += share * softplus(margin - distances[i, j])
            weights[i, j] = -share * sigmoid(margin - distances[i, j])
    return loss, sigmoid(true_distance - margin)


@kernel
def train_shared(
    E, accE, R, accR, heads, relations, tails, starts, order, first, last, key, negatives,
    pool_members, pool_offsets, pools, known, l1, self_adversarial, margin, temperature,
    dimension, learning_rate, adagrad, unit_norm,
):  # fmt: skip
    """One draw of `negatives` broken entities for each chunk of triples of one relation, over the chunks order[first:last].

    Arguments as for `train_margin_pairs`; the triples of a chunk must be of one relation. A chunk's gradients are summed, then applied.
    Returns (sum of the losses, broken triples with a gradient).
    """
    width, longest = E.shape[1], 0
    for c in order[first:last]:
        longest = max(longest, starts[c + 1] - starts[c])
    queries, query_gradients = np.zeros((longest, width), np.float32), np.zeros((longest, width), np.float32)
    broken, broken_gradients = np.zeros((negatives, width), np.float32), np.zeros((negatives, width), np.float32)
    distances, weights = np.zeros((longest, negatives), np.float32), np.zeros((longest, negatives), np.float32)
    counts, rows = np.ones((longest, negatives), np.bool_), np.zeros(negatives, np.int64)
    gradient = np.zeros((2, width), np.float32)
    loss, active = 0.0, 0
    for c in order[first:last]:
        chunk = keyed(key, c)
        start, size = starts[c], starts[c + 1] - starts[c]
        broken_tail = coin(chunk)
        sign = np.float32(1) if broken_tail else np.float32(-1)
        anchors, targets = (heads, tails) if broken_tail else (tails, heads)
        r = np.int64(relations[start])
        for j in range(negatives):
            rows[j] = draw_broken(chunk, j, pools[broken_tail, r], pool_members, pool_offsets)
            for k in range(width):
                broken[j, k] = E[rows[j], k]
                broken_gradients[j, k] = 0
        for i in range(size):
            anchor, target = np.int64(anchors[start + i]), np.int64(targets[start + i])
            set_query(E, anchor, R, r, sign, queries, i)
            query_gradients[i] = 0
            true_distance = distance(queries, i, E, target, l1)
            for j in range(negatives):
                distances[i, j] = distance(queries, i, broken, j, l1)
                other = triple_key(anchor, r, rows[j], E.shape[0], R.shape[0]) if broken_tail else triple_key(
                    rows[j], r, anchor, E.shape[0], R.shape[0]
                )  # fmt: skip
                counts[i, j] = not is_known(known, other)
            if self_adversarial:
                part, slope = weigh_self_adversarial(distances, i, true_distance, counts, margin, temperature, weights)
            else:
                part, slope = weigh_margin(distances, i, true_distance, counts, margin, weights)
            loss += part
            for j in range(negatives):
                if weights[i, j] != 0:
                    active += 1
                    add_direction(queries, i, broken, j, l1, weights[i, j], query_gradients, i)
                    add_direction(queries, i, broken, j, l1, -weights[i, j], broken_gradients, j)
            if slope != 0:
                gradient[0] = 0
                add_direction(queries, i, E, target, l1, slope, gradient, 0)
                query_gradients[i] += gradient[0]
                update_row(E, accE, target, gradient, 0, np.float32(-1), dimension, learning_rate, adagrad, unit_norm)
        gradient[1] = 0
        for i in range(size):
            gradient[1] += query_gradients[i]
            anchor = np.int64(anchors[start + i])
            update_row(E, accE, anchor, query_gradients, i, np.float32(1), dimension, learning_rate, adagrad, unit_norm)
        for j in range(negatives):
            update_row(E, accE, rows[j], broken_gradients, j, np.float32(1), dimension, learning_rate, adagrad, unit_norm)
        update_row(R, accR, r, gradient, 1, sign, dimension, learning_rate, adagrad, False)
    return loss, active
