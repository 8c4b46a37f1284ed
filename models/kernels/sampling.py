"""Compiled helpers around the draws of broken triples."""

from __future__ import annotations

import numpy as np

from models.kernels.compiling import kernel
from models.kernels.draws import coin, keyed, mix
from models.kernels.membership import is_true, mark_false
from models.kernels.translation import draw_broken


@kernel
def group_by_relation(relations, order, n_relations, largest):
    """(order sorted stably by relation, starts of chunks of at most `largest` edges of one relation).

    The starts are closed by the total.
    """
    counts = np.zeros(n_relations + 1, np.int64)
    for edge in order:
        counts[relations[edge] + 1] += 1
    n_chunks = 0
    for r in range(n_relations):
        n_chunks += (counts[r + 1] + largest - 1) // largest
        counts[r + 1] += counts[r]
    starts, c = np.empty(n_chunks + 1, np.int64), 0
    for r in range(n_relations):
        for start in range(counts[r], counts[r + 1], largest):
            starts[c] = start
            c += 1
    starts[n_chunks] = order.shape[0]
    grouped = np.empty_like(order)
    for edge in order:
        grouped[counts[relations[edge]]] = edge
        counts[relations[edge]] += 1
    return grouped, starts


@kernel
def draw_into(
    heads, relations, tails, positions, numbers, key, pool_members, pool_offsets, pools, known,
    n_entities, n_relations, broken_tail, entities, counts,
):  # fmt: skip
    """Fill broken_tail (B,), entities (B, K) and counts (B, K) with what `translation` draws for these edges."""
    for b in range(positions.shape[0]):
        drawn = keyed(key, numbers[b])
        h, r, t = np.int64(heads[positions[b]]), np.int64(relations[positions[b]]), np.int64(tails[positions[b]])
        side = coin(drawn)
        broken_tail[b] = side == 1
        for j in range(entities.shape[1]):
            entity = draw_broken(drawn, j, pools[side, r], pool_members, pool_offsets)
            entities[b, j] = entity
            counts[b, j] = not is_true(known, entity, side, h, r, t, n_entities, n_relations)


@kernel
def key_edges(heads, relations, tails, key, out):
    """out_i = a hash of the three keys of edge i."""
    for i in range(out.shape[0]):
        out[i] = mix(mix(mix(key ^ heads[i]) ^ relations[i]) ^ tails[i])


@kernel
def mark_candidates(heads, relations, tails, broken_tail, candidates, known, n_entities, n_relations, counts):
    """counts[b, k] = whether a candidate in place of triple b's tail, or else of its head, makes one that is not known.

    candidates: int64 (B, K), or (1, K) for the same of every triple. counts: bool (B, K).
    """
    for b in range(heads.shape[0]):
        row, h, r, t = min(b, candidates.shape[0] - 1), np.int64(heads[b]), np.int64(relations[b]), np.int64(tails[b])
        mark_false(known, candidates[row], broken_tail, h, r, t, n_entities, n_relations, counts[b])
