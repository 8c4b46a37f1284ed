"""HUGT by loops, written from the paper: one user, one event, one head at a time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Parameters = Mapping[str, np.ndarray]


def nearest(items: list[int], vectors: np.ndarray, k: int) -> list[list[int]]:
    """Of every event itself and its k - 1 nearest predecessors by cosine, of equal ones the latest first."""
    found = []
    for i, item in enumerate(items):
        order = sorted(range(i), key=lambda j: (-float(vectors[item] @ vectors[items[j]]), -j))
        found.append([i, *order[: k - 1]])
    return found


def shortest(neighbours: list[list[int]], upto: int, a: int, b: int, limit: int) -> int:
    """Edges between events a and b, in either direction, among the events 0 to `upto`: breadth first."""
    edges = {(i, j) for i in range(upto + 1) for j in neighbours[i]}
    edges |= {(j, i) for i, j in edges}
    reached, steps = {a}, 0
    while b not in reached and steps < limit:
        reached |= {j for i, j in edges if i in reached}
        steps += 1
    return steps if b in reached else limit


def normed(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * weight + bias


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def attention(
    x: np.ndarray, p: Parameters, heads: int, sequence_heads: int, neighbours: list[list[int]], limit: int
) -> np.ndarray:
    """Eq. 1 of every event and head, side by side. p: the block's parameters by their names."""
    n, width = len(x), len(p["w_qkv"]) // (3 * heads)
    wq, wk, wv = p["w_qkv"].reshape(3, heads, width, -1)
    out = np.zeros((n, heads, width))
    for i in range(n):
        for head in range(heads):
            by_path = head >= sequence_heads and "phi" in p
            heard = neighbours[i] if head >= sequence_heads and not by_path else list(range(i + 1))
            scores = []
            for j in heard:
                π = (wq[head] @ x[i]) @ (wk[head] @ x[j]) / np.sqrt(width)
                if head < sequence_heads:
                    π += p["psi"][head, i - j]
                elif by_path:
                    π += p["phi"][head - sequence_heads, shortest(neighbours, i, i, j, limit)]
                scores.append(π)
            out[i, head] = sum(a * (wv[head] @ x[j]) for a, j in zip(softmax(np.array(scores)), heard, strict=True))
    return out.reshape(n, -1)


def states(
    items: list[int], p: Parameters, heads: int, sequence_heads: list[int], neighbours: list[list[int]], limit: int
) -> np.ndarray:
    """The state after every event of one history. sequence_heads: of each block."""
    h = p["items"][items] * np.sqrt(p["items"].shape[1])
    for number, split in enumerate(sequence_heads):
        block = f"blocks.{number}."
        own = {name.removeprefix(block): x for name, x in p.items() if name.startswith(block)}
        before = np.array([normed(x, own["norm_attention.weight"], own["norm_attention.bias"]) for x in h])
        h = h + attention(before, own, heads, split, neighbours, limit) @ own["w_o"].T  # Eq. 4
        before = np.array([normed(x, own["norm_mlp.weight"], own["norm_mlp.bias"]) for x in h])
        h = h + np.array([own["w2"] @ np.maximum(own["w1"] @ x + own["b1"], 0) + own["b2"] for x in before])  # Eq. 2, 3
    return np.array([normed(x, p["norm.weight"], p["norm.bias"]) for x in h])


def loss(h: np.ndarray, p: Parameters, targets: list[int], candidates: list[int]) -> float:
    """Eq. 5 and 6: mean over events, a target among the candidates and itself."""
    total = 0.0
    for x, target in zip(h, targets, strict=True):
        among = sorted({*candidates, target})
        scores = np.array([p["items"][i] @ x + p["biases"][i] for i in among])  # Eq. 5
        total -= np.log(softmax(scores)[among.index(target)])  # Eq. 6
    return total / len(targets)
