"""Attention of each event of a history to events before it: no array of (events × events), and no padding.

Legend: N events of U users; those of user u are offsets[u]:offsets[u + 1], in order. q, k, v, outs (N, H, W), the heads
side by side. log_totals (N, H): log of the sum of e^score. A score is q_i . k_j / sqrt(W) plus a learned number of its
kind: biases (H, L), kind L - 1 - (i - j) where `codes` is empty, else codes[code_offsets[u] + i (i + 1) / 2 + j].
neighbours (N, K) int32: the events that an event hears, as rows of N, -1 behind the last of them.
A kernel does the users first:last and writes nobody else's rows: any number of threads gives the same bits.
"""

from __future__ import annotations

import numpy as np

from models.kernels.arithmetic import exp
from models.kernels.compiling import inlined, kernel


@inlined
def longest_of(offsets, first, last):
    """Events of the longest history."""
    most = 0
    for u in range(first, last):
        most = max(most, offsets[u + 1] - offsets[u])
    return most


@inlined
def turned(x, start, n, h, scale, out):
    """out (W, n): head h of a history's rows, each number times scale, in columns."""
    for j in range(n):
        for c in range(x.shape[2]):
            out[c, j] = x[start + j, h, c] * scale


@inlined
def set_scores(q, row, kt, biases, codes, base, h, i, scores):
    """scores of event i of a history against its events 0 to i."""
    if codes.shape[0] == 0:
        shift = biases.shape[1] - 1 - i
        for j in range(i + 1):
            scores[j] = biases[h, shift + j]
    else:
        at = base + i * (i + 1) // 2
        for j in range(i + 1):
            scores[j] = biases[h, codes[at + j]]
    for c in range(q.shape[2]):
        number = q[row, h, c]
        for j in range(i + 1):
            scores[j] += number * kt[c, j]


@kernel
def attend_before(offsets, q, k, v, biases, codes, code_offsets, last_only, outs, log_totals, first, last):
    """outs_i = sum over j <= i of softmax of the scores, times v_j. last_only: q and outs have a row for each user, of
    the last event alone."""
    longest, width = longest_of(offsets, first, last), q.shape[2]
    scale, scores = np.float32(1 / np.sqrt(width)), np.empty(longest, np.float32)
    kt, vt = np.empty((width, longest), np.float32), np.empty((width, longest), np.float32)
    for u in range(first, last):
        start, n = offsets[u], offsets[u + 1] - offsets[u]
        for h in range(q.shape[1]):
            turned(k, start, n, h, scale, kt)
            turned(v, start, n, h, np.float32(1), vt)
            for i in range(n - 1 if last_only else 0, n):
                row = u if last_only else start + i
                set_scores(q, row, kt, biases, codes, code_offsets[u], h, i, scores)
                highest, total = np.float32(-np.inf), np.float32(0)
                for j in range(i + 1):
                    highest = max(highest, scores[j])
                for j in range(i + 1):
                    scores[j] = exp(scores[j] - highest)
                    total += scores[j]
                share = np.float32(1) / total
                for c in range(width):
                    mean = np.float32(0)
                    for j in range(i + 1):
                        mean += scores[j] * vt[c, j]
                    outs[row, h, c] = mean * share
                log_totals[row, h] = highest + np.log(total)


@kernel
def before_backward(
    offsets, q, k, v, biases, codes, code_offsets, outs, log_totals, gradients, of_q, of_k, of_v, of_biases,
    first, last,
):  # fmt: skip
    """The gradients of q, k, v (N, H, W) and of the biases, user by user (U, H, L). gradients: of the outs."""
    longest, width = longest_of(offsets, first, last), q.shape[2]
    scale, shares = np.float32(1 / np.sqrt(width)), np.empty(longest, np.float32)
    slopes = np.empty(longest, np.float32)
    kt, vt = np.empty((width, longest), np.float32), np.empty((width, longest), np.float32)
    of_kt, of_vt = np.empty((width, longest), np.float32), np.empty((width, longest), np.float32)
    for u in range(first, last):
        start, n = offsets[u], offsets[u + 1] - offsets[u]
        for h in range(q.shape[1]):
            turned(k, start, n, h, scale, kt)
            turned(v, start, n, h, np.float32(1), vt)
            of_kt[:, :n] = 0
            of_vt[:, :n] = 0
            of_biases[u, h] = 0
            for i in range(n):
                row = start + i
                set_scores(q, row, kt, biases, codes, code_offsets[u], h, i, shares)
                level, mean = log_totals[row, h], np.float32(0)
                for c in range(width):
                    mean += gradients[row, h, c] * outs[row, h, c]
                for j in range(i + 1):
                    shares[j] = exp(shares[j] - level)
                    slopes[j] = -mean
                for c in range(width):
                    gain = gradients[row, h, c]
                    for j in range(i + 1):
                        slopes[j] += gain * vt[c, j]
                        of_vt[c, j] += gain * shares[j]
                for j in range(i + 1):
                    slopes[j] *= shares[j]
                for c in range(width):
                    number, total = q[row, h, c], np.float32(0)
                    for j in range(i + 1):
                        total += slopes[j] * kt[c, j]
                        of_kt[c, j] += number * slopes[j]
                    of_q[row, h, c] = total
                if codes.shape[0] == 0:
                    shift = biases.shape[1] - 1 - i
                    for j in range(i + 1):
                        of_biases[u, h, shift + j] += slopes[j]
                else:
                    at = code_offsets[u] + i * (i + 1) // 2
                    for j in range(i + 1):
                        of_biases[u, h, codes[at + j]] += slopes[j]
            for j in range(n):
                for c in range(width):
                    of_k[start + j, h, c] = of_kt[c, j] * scale
                    of_v[start + j, h, c] = of_vt[c, j]


@inlined
def product(x, i, y, j, h):
    """x_i . y_j of one head."""
    total = np.float32(0)
    for c in range(x.shape[2]):
        total += x[i, h, c] * y[j, h, c]
    return total


@kernel
def attend_neighbours(offsets, neighbours, q, k, v, last_only, outs, log_totals, first, last):
    """As `attend_before`, over each event's neighbours alone and without biases."""
    most, width = neighbours.shape[1], q.shape[2]
    scale, scores = np.float32(1 / np.sqrt(width)), np.empty(most, np.float32)
    for u in range(first, last):
        for event in range(offsets[u + 1] - 1 if last_only else offsets[u], offsets[u + 1]):
            row = u if last_only else event
            for h in range(q.shape[1]):
                highest, n = np.float32(-np.inf), 0
                while n < most and neighbours[event, n] >= 0:
                    scores[n] = product(q, row, k, neighbours[event, n], h) * scale
                    highest = max(highest, scores[n])
                    n += 1
                total = np.float32(0)
                for c in range(width):
                    outs[row, h, c] = 0
                for e in range(n):
                    weight = exp(scores[e] - highest)
                    total += weight
                    for c in range(width):
                        outs[row, h, c] += weight * v[neighbours[event, e], h, c]
                for c in range(width):
                    outs[row, h, c] /= total
                log_totals[row, h] = highest + np.log(total)


@kernel
def neighbours_backward(
    offsets, neighbours, q, k, v, outs, log_totals, gradients, of_q, of_k, of_v, first, last,
):  # fmt: skip
    """The gradients of q, k and v."""
    most, width = neighbours.shape[1], q.shape[2]
    scale = np.float32(1 / np.sqrt(width))
    for u in range(first, last):
        of_q[offsets[u] : offsets[u + 1]] = 0
        of_k[offsets[u] : offsets[u + 1]] = 0
        of_v[offsets[u] : offsets[u + 1]] = 0
        for event in range(offsets[u], offsets[u + 1]):
            for h in range(q.shape[1]):
                mean = product(gradients, event, outs, event, h)
                for n in range(most):
                    other = neighbours[event, n]
                    if other < 0:
                        break
                    weight = exp(product(q, event, k, other, h) * scale - log_totals[event, h])
                    slope = weight * (product(gradients, event, v, other, h) - mean) * scale
                    for c in range(width):
                        of_q[event, h, c] += slope * k[other, h, c]
                        of_k[other, h, c] += slope * q[event, h, c]
                        of_v[other, h, c] += weight * gradients[event, h, c]
