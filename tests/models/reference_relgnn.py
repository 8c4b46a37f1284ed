"""RelGNN by loops, written from the paper: one node, one head, one message at a time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Edge = tuple[int, int, int]  # head, relation, tail
SLOPE = 0.2


def leaky(z: np.ndarray | float) -> np.ndarray | float:
    return np.where(np.asarray(z) > 0, z, SLOPE * np.asarray(z))


def messages_into(node: int, edges: list[Edge], n_relations: int) -> list[tuple[int, int]]:
    """(sender, code) of every message into a node: a tail hears its head under r, a head its tail under M + r."""
    into = [(head, relation) for head, relation, tail in edges if tail == node]
    return into + [(tail, n_relations + relation) for head, relation, tail in edges if head == node]


def layer(
    edges: list[Edge], h: np.ndarray, p: Mapping[str, np.ndarray], relations: np.ndarray, attends: bool, last: bool
) -> np.ndarray:
    """Eq. 3 to 5 of every node. p: the layer's parameters by their names."""
    out, n_relations = np.zeros_like(h), len(relations)
    for i in range(len(h)):
        into = messages_into(i, edges, n_relations)
        own = p["w_self"] @ h[i]
        w = [sum(p["shares"][c, f] * p["bases"][f] for f in range(len(p["bases"]))) if "shares" in p else p["bases"][c]
             for _, c in into]  # fmt: skip
        heard = [w_r @ h[j] for w_r, (j, _) in zip(w, into, strict=True)]
        if not attends:
            counts = [sum(code == other for _, other in into) for _, code in into]
            out[i] = own + sum((x / n for x, n in zip(heard, counts, strict=True)), np.zeros_like(own))
        else:
            heads = range(len(p["attention.a_self"]))
            for head in heads:
                a = np.concatenate([p[f"attention.a_{part}"][head] for part in ("self", "relation", "message")])
                z = [a @ np.concatenate([own, relations[c % n_relations], x])
                     for x, (_, c) in zip(heard, into, strict=True)]  # fmt: skip
                weights = np.exp(leaky(np.array(z))) if z else np.zeros(0)
                weights = weights / weights.sum()  # Eq. 4
                total = sum((α * x for α, x in zip(weights, heard, strict=True)), np.zeros_like(own))
                out[i] += (total + own) / len(heads)  # Eq. 5
    return out if last else leaky(out)


def combined(h0: np.ndarray, h: np.ndarray, a_final: np.ndarray) -> np.ndarray:
    """Eq. 6 and 7, averaged over heads."""
    out = np.zeros_like(h)
    for i in range(len(h)):
        for a in a_final:
            attr, graph = np.exp(leaky(a @ h0[i])), np.exp(leaky(a @ h[i]))
            out[i] += (attr * h0[i] + graph * h[i]) / (attr + graph) / len(a_final)
    return out


def score(h: np.ndarray, r: np.ndarray, t: np.ndarray, scoring: str) -> float:
    """Eq. 9; ComplEx: the real part of Σ h r conj(t)."""
    if scoring == "diagonal":
        return float(h @ np.diag(r) @ t)
    half = len(h) // 2
    h, r, t = (x[:half] + 1j * x[half:] for x in (h, r, t))
    return float(np.real(np.sum(h * r * np.conj(t))))
