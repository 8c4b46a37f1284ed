"""TransE's training step on the CPU with draws for each triple: gather, score, gradient and update in one pass.

Legend. E (n, w) entities and R (m, w) relations, float32, rows padded with zeros to a width w that is a multiple of 16;
`accE` (n,), `accR` (m,) the row-wise Adagrad accumulators. Threads run these kernels on disjoint triples and shared
tables, without locks (Hogwild, Niu et al. 2011): on one thread the result is a function of the arguments, on several it
varies in the last bits.

Breaking the tail and breaking the head are one computation. With the query q = e_h + e_r and target t for a broken
tail, and q = e_t - e_r and target h for a broken head, the distance of Eq. 2 is ||q - target|| in both cases, and
||q - e'|| for the broken one. The end that stays is called anchor, and q = e_anchor + sign * e_r.
"""

from __future__ import annotations

import numpy as np

from models.kernels.compiling import inlined, kernel, prefetch
from models.kernels.draws import below, coin, keyed
from models.kernels.membership import is_true

TINY = np.float32(1e-12)  # keeps an L2 direction finite at distance 0
_AHEAD = 4  # triples between asking for rows and using them: about the time a row takes from the L3 cache
_LINE = 16  # float32 numbers in a cache line


@inlined
def draw_broken(key, number, pool, pool_members, pool_offsets):
    """The number-th entity drawn under key from one pool (entities that may stand in this place)."""
    first = pool_offsets[pool]
    return np.int64(pool_members[first + below(keyed(key, number), pool_offsets[pool + 1] - first)])


@inlined
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


@inlined
def add_direction(queries, i, table, j, l1, weight, out, o):
    """out_o += weight * d||q_i - e_j|| / dq_i."""
    if l1:
        for k in range(queries.shape[1]):
            difference = queries[i, k] - table[j, k]
            out[o, k] += weight if difference > 0 else (-weight if difference < 0 else np.float32(0))
    else:
        factor = weight / max(distance(queries, i, table, j, False), TINY)
        for k in range(queries.shape[1]):
            out[o, k] += factor * (queries[i, k] - table[j, k])


@inlined
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


@inlined
def set_query(E, anchor, R, relation, sign, queries, i):
    """q_i = e_anchor + sign * e_r: Eq. 3 of the paper, reversed by the sign."""
    for k in range(E.shape[1]):
        queries[i, k] = E[anchor, k] + sign * R[relation, k]


@inlined
def clear(rows, i):
    """rows_i = 0."""
    for k in range(rows.shape[1]):
        rows[i, k] = 0


@inlined
def add_row(rows, i, other, j):
    """rows_i += other_j."""
    for k in range(rows.shape[1]):
        rows[i, k] += other[j, k]


@inlined
def copy_row(rows, i, out, o):
    """out_o = rows_i."""
    for k in range(rows.shape[1]):
        out[o, k] = rows[i, k]


@inlined
def fetch_row(table, row):
    """Ask for a row that will be needed."""
    for k in range(0, table.shape[1], _LINE):
        prefetch(table, row, k)


@inlined
def fetch_ahead(E, heads, relations, tails, i, key, pool_members, pool_offsets, pools):
    """Ask for the rows that triple i and its first draw will need."""
    triple = keyed(key, i)
    broken = draw_broken(triple, 0, pools[coin(triple), relations[i]], pool_members, pool_offsets)
    fetch_row(E, np.int64(heads[i]))
    fetch_row(E, np.int64(tails[i]))
    fetch_row(E, broken)


@kernel
def train_margin_pairs(
    E, accE, R, accR, heads, relations, tails, starts, order, first, last, key, negatives,
    pool_members, pool_offsets, pools, known, l1, margin, dimension, learning_rate, adagrad, unit_norm,
):  # fmt: skip
    """Eq. 1 with `negatives` draws of its own for each triple, over the chunks of edges order[first:last].

    heads, relations, tails: int32 (edges,). Chunk c is the edges starts[c]:starts[c + 1]. pools: (2, m) the pool of the
    heads and of the tails of each relation. known: as in `membership`. Returns (sum of the losses, broken triples
    within the margin).
    """
    width, last_edge = E.shape[1], heads.shape[0] - 1
    query, gradient = np.zeros((1, width), np.float32), np.zeros((2, width), np.float32)
    loss, violations = 0.0, 0
    for c in order[first:last]:
        for i in range(starts[c], starts[c + 1]):
            fetch_ahead(E, heads, relations, tails, min(i + _AHEAD, last_edge), key, pool_members, pool_offsets, pools)
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
                # the margin comes first: once most pairs satisfy it, nearly no triple is looked up
                if hinge <= 0 or is_true(known, broken, broken_tail, h, r, t, E.shape[0], R.shape[0]):
                    continue
                if within == 0:
                    clear(gradient, 0)
                within += 1
                loss += hinge
                clear(gradient, 1)
                add_direction(query, 0, E, broken, l1, np.float32(-1), gradient, 1)
                add_row(gradient, 0, gradient, 1)
                update_row(E, accE, broken, gradient, 1, np.float32(-1), dimension, learning_rate, adagrad, unit_norm)
            if within == 0:
                continue
            violations += within
            clear(gradient, 1)
            add_direction(query, 0, E, target, l1, np.float32(within), gradient, 1)
            add_row(gradient, 0, gradient, 1)
            update_row(E, accE, target, gradient, 1, np.float32(-1), dimension, learning_rate, adagrad, unit_norm)
            update_row(E, accE, anchor, gradient, 0, np.float32(1), dimension, learning_rate, adagrad, unit_norm)
            update_row(R, accR, r, gradient, 0, sign, dimension, learning_rate, adagrad, False)
    return loss, violations
