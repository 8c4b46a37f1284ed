"""The collaborative edges of histories, and how far their events lie apart along them.

Legend: see `history_attention.py`; vectors (I, R) float32 of unit length or zero, a row for each item; items (N,) rows
of it. Everything is a matter of an event and those before it, so that later events change nothing.
"""

from __future__ import annotations

import numpy as np

from models.kernels.compiling import kernel
from models.kernels.history_attention import longest_of


@kernel
def nearest_predecessors(offsets, items, vectors, neighbours, first, last):
    """neighbours (N, K) int32: the event itself, then the K - 1 before it whose items have the highest cosine to its
    own, the highest first, of equal ones the latest first; -1 where there are fewer."""
    longest, rank, most = longest_of(offsets, first, last), vectors.shape[1], neighbours.shape[1]
    turned, cosines = np.empty((rank, longest), np.float32), np.empty(longest, np.float32)
    best = np.empty(most, np.float32)
    for u in range(first, last):
        start, n = offsets[u], offsets[u + 1] - offsets[u]
        for j in range(n):
            for c in range(rank):
                turned[c, j] = vectors[items[start + j], c]
        for i in range(n):
            row = start + i
            neighbours[row] = -1
            neighbours[row, 0] = row
            for j in range(i):
                cosines[j] = 0
            for c in range(rank):
                number = turned[c, i]
                for j in range(i):
                    cosines[j] += number * turned[c, j]
            found = 1
            for j in range(i - 1, -1, -1):
                if found == most and (most == 1 or cosines[j] <= best[most - 1]):
                    continue
                at = found if found < most else most - 1
                while at > 1 and best[at - 1] < cosines[j]:
                    best[at] = best[at - 1]
                    neighbours[row, at] = neighbours[row, at - 1]
                    at -= 1
                best[at] = cosines[j]
                neighbours[row, at] = start + j
                found = min(found + 1, most)


@kernel
def path_lengths(offsets, neighbours, longest_path, code_offsets, codes, first, last):
    """codes uint8: for each event i of a history and each j <= i the length of the shortest path between them along
    edges in either direction among the events up to i, at most longest_path; that also where there is none.

    Events come in one by one: a new one's paths lead over its neighbours, and those of others may lead over it.
    """
    longest = longest_of(offsets, first, last)
    lengths = np.empty((longest, longest), np.uint8)
    most = np.uint8(longest_path)
    for u in range(first, last):
        start, n = offsets[u], offsets[u + 1] - offsets[u]
        for i in range(n):
            at = code_offsets[u] + i * (i + 1) // 2
            own = lengths[i]
            own[:i] = most
            own[i] = 0
            for e in range(1, neighbours.shape[1]):
                if neighbours[start + i, e] < 0:
                    break
                other = lengths[neighbours[start + i, e] - start]
                for j in range(i):
                    own[j] = min(own[j], np.uint8(other[j] + 1))
            for j in range(i):
                codes[at + j] = own[j]
                lengths[j, i] = own[j]
            codes[at + i] = 0
            for a in range(i):
                way = own[a]
                if way + 1 >= most:
                    continue
                others = lengths[a]
                for b in range(i):
                    others[b] = min(others[b], np.uint8(way + own[b]))
