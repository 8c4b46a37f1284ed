"""The papers' equations as slow loops over plain Python: what every fast path is tested against.

No torch, no DGL, no vectorising.
Vectors are lists of floats or rows of float64 arrays; a graph is a list of (head, relation, tail).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Vector = np.ndarray
Edge = tuple[int, int, int]


def incoming(edges: Sequence[Edge], node: int) -> list[tuple[int, int, int]]:
    """(source, relation, sign) of every message into `node`: +1 along an edge, −1 against it (KQGC section 3.2)."""
    messages = []
    for head, relation, tail in edges:
        if tail == node:
            messages.append((head, relation, +1))
        if head == node:
            messages.append((tail, relation, -1))
    return messages


def query(h: Sequence[Vector], r: Sequence[Vector], message: tuple[int, int, int]) -> Vector:
    """KQGC Eq. 4, with the reversed relation as −1 times the relation."""
    source, relation, sign = message
    return np.array([h[source][i] + sign * r[relation][i] for i in range(len(h[source]))])


def dot(x: Vector, y: Vector) -> float:
    return math.fsum(float(a) * float(b) for a, b in zip(x, y, strict=True))


def kqgc_affinity(aggregator: str, q: Vector, h_v: Vector, a: Vector | None, slope: float) -> float:
    """KQGC Eq. 8 (attention1) and Eq. 9 (attention2)."""
    if aggregator == "attention1":
        return dot(q, h_v)
    inner = dot(a, np.concatenate([q, h_v]))
    return inner if inner > 0 else slope * inner


def kqgc_message(
    edges: Sequence[Edge],
    h: Sequence[Vector],
    r: Sequence[Vector],
    node: int,
    aggregator: str,
    normalisation: str = "softmax",
    a: Vector | None = None,
    slope: float = 0.2,
) -> Vector:
    """KQGC Eq. 5, or Eq. 6 and 7; zeros for a node without neighbours."""
    queries = [query(h, r, message) for message in incoming(edges, node)]
    if not queries:
        return np.zeros(len(h[node]))
    if aggregator == "mean":
        weights = [1 / len(queries)] * len(queries)  # Eq. 5
    else:
        e = [kqgc_affinity(aggregator, q, h[node], a, slope) for q in queries]
        shares = [math.exp(x) for x in e] if normalisation == "softmax" else e
        weights = [share / math.fsum(shares) for share in shares]  # Eq. 7
    weighed = [w * q for w, q in zip(weights, queries, strict=True)]
    return np.array([math.fsum(q[i] for q in weighed) for i in range(len(h[node]))])  # Eq. 6


def affine(weight: np.ndarray, x: Vector, bias: Vector | None) -> Vector:
    return np.array([dot(row, x) + (0.0 if bias is None else bias[i]) for i, row in enumerate(weight)])


def kqgc_layer(
    edges: Sequence[Edge],
    h: Sequence[Vector],
    r: Sequence[Vector],
    weight: np.ndarray,
    bias: Vector | None,
    aggregator: str,
    normalisation: str = "softmax",
    a: Vector | None = None,
) -> tuple[list[Vector], list[Vector]]:
    """KQGC Eq. 10 and 11 for all nodes and relations."""
    messages = [kqgc_message(edges, h, r, node, aggregator, normalisation, a) for node in range(len(h))]
    new_h = [affine(weight, h[node] + messages[node], bias) for node in range(len(h))]  # Eq. 10
    new_r = [affine(weight, relation, bias) for relation in r]  # Eq. 11
    return new_h, new_r


def distance(x: Vector, order: str) -> float:
    """‖x‖ of Eq. 2 and 13."""
    if order == "l1":
        return math.fsum(abs(float(value)) for value in x)
    return math.sqrt(math.fsum(float(value) ** 2 for value in x))


def kqgc_losses(
    h: Sequence[Vector],
    purchase: Vector,
    pairs: Sequence[tuple[int, int]],
    negatives: Sequence[Sequence[int]],
    margin: float,
    norm: str,
) -> list[list[float]]:
    """The terms of KQGC Eq. 12 with Eq. 13: one row per pair, one column per negative item."""
    rows = []
    for (user, item), others in zip(pairs, negatives, strict=True):
        positive = distance(h[user] + purchase - h[item], norm)  # Eq. 13
        farther = [distance(h[user] + purchase - h[other], norm) for other in others]
        rows.append([max(0.0, margin + positive - negative) for negative in farther])  # Eq. 12
    return rows


def inductive_start(
    edges: Sequence[Edge], h: Sequence[Vector], r: Sequence[Vector], known: Sequence[bool], node: int
) -> Vector:
    """h⁰ of a node that was not trained: unit-normed mean of its known neighbours' queries (issue 2, section 5)."""
    queries = [query(h, r, message) for message in incoming(edges, node) if known[message[0]]]
    mean = np.array([math.fsum(q[i] for q in queries) / len(queries) for i in range(len(r[0]))])
    return mean / distance(mean, "l2")


def rhgn_layer(
    edges: Sequence[Edge],
    h: Sequence[Vector],
    types: Sequence[int],
    n_relations: int,
    p: dict[str, np.ndarray],
    heads: int,
    softmax_over: str = "all",
) -> tuple[list[Vector], list[dict[tuple[int, int], list[float]]]]:
    """RHGN Eq. 1 to 3 for all nodes, and for each node its messages' weights, {(source, code): one for each head}.

    p: key, query, message, map as .weight (types or 1, D, D) and .bias (types or 1, D), w_att and w_msg (codes, heads,
    W, W). A relation against its direction is code relation + n_relations. No edge may be given twice.
    """
    width = len(h[0]) // heads

    def linear(name: str, x: Vector, node: int) -> Vector:
        which = types[node] if len(p[f"{name}.weight"]) > 1 else 0
        return affine(p[f"{name}.weight"][which], x, p[f"{name}.bias"][which] if f"{name}.bias" in p else None)

    def of_head(x: Vector, i: int) -> Vector:
        return x[i * width : (i + 1) * width]

    def times(x: Vector, w: np.ndarray) -> Vector:
        return np.array([math.fsum(x[j] * w[j][k] for j in range(width)) for k in range(width)])

    new_h, weights = [], []
    for t in range(len(h)):
        messages = [(s, r if sign > 0 else r + n_relations) for s, r, sign in incoming(edges, t)]
        groups = [messages]
        if softmax_over == "relation":
            groups = [[m for m in messages if m[1] == code] for code in sorted({c for _, c in messages})]
        alpha: dict[tuple[int, int], list[float]] = {message: [] for message in messages}
        summed = np.zeros(len(h[t]))
        for i in range(heads):
            query_of_head = of_head(linear("query", h[t], t), i)
            keys = {(s, c): times(of_head(linear("key", h[s], s), i), p["w_att"][c][i]) for s, c in messages}
            score = {message: dot(key, query_of_head) / math.sqrt(width) for message, key in keys.items()}
            for group in groups:
                total = math.fsum(math.exp(score[m]) for m in group)
                for m in group:
                    alpha[m].append(math.exp(score[m]) / total / len(groups))  # Eq. 2
            for s, c in messages:
                message = times(of_head(linear("message", h[s], s), i), p["w_msg"][c][i])  # Eq. 1
                summed[i * width : (i + 1) * width] += alpha[s, c][i] * message
        gelu = np.array([x * 0.5 * (1 + math.erf(x / math.sqrt(2))) for x in summed])
        new_h.append(linear("map", gelu, t) + h[t])  # Eq. 3
        weights.append(alpha)
    return new_h, weights


def cross_entropy(logits: Sequence[Vector], labels: Sequence[int]) -> float:
    """RHGN Eq. 4 of one label: the sum over users that have it (0 or more)."""
    seen = [(z, y) for z, y in zip(logits, labels, strict=True) if y >= 0]
    return -math.fsum(math.log(math.exp(z[y]) / math.fsum(math.exp(x) for x in z)) for z, y in seen)
