"""RAM-GNN's equations as slow loops over plain Python, beside `reference.py`.

An attribute row is (entity, value); `type_of` gives the relation type of a value. Vectors are rows of float64 arrays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tests.models.reference import Vector, affine, dot

Row = tuple[int, int]
Quadruplet = tuple[int, int, int, int]  # i, t, v, j
LEAKY_SLOPE, LEAST_LIKELY = 0.2, 1e-4


def leaky(x: Vector) -> Vector:
    return np.array([value if value > 0 else LEAKY_SLOPE * value for value in x])


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def phi(how: str, e: Vector, n: Vector) -> Vector:
    """Eq. 5."""
    d = len(e)
    if how == "add":
        return np.array([e[k] + n[k] for k in range(d)])
    if how == "mul":
        return np.array([e[k] * n[k] for k in range(d)])
    return np.array([math.fsum(e[i] * n[(k + i) % d] for i in range(d)) for k in range(d)])


def mlp(p: dict[str, np.ndarray], e: Vector) -> float:
    hidden = leaky(affine(p["mlp.0.weight"], e, p["mlp.0.bias"]))
    return dot(p["mlp.2.weight"][0], hidden) + float(p["mlp.2.bias"][0])


def distance(p: dict[str, np.ndarray], e: Vector, other: Vector) -> float:
    """Eq. 9."""
    return abs(logistic(mlp(p, e)) - logistic(mlp(p, other)))


def nearest(
    rows: Sequence[Row], type_of: Sequence[int], z: Sequence[float], thresholds: Sequence[int]
) -> list[Quadruplet]:
    """The kept quadruplets: of each row the k_t members of its value with the nearest z; of ties those that come before
    the row in the order of z and entity."""
    kept = []
    for i, v in rows:
        members = sorted((z[j], j) for j, value in rows if value == v)
        own = members.index((z[i], i))
        others = [n for n in range(len(members)) if n != own]
        others.sort(key=lambda n: (abs(members[n][0] - z[i]), n > own, -n if n < own else n))
        kept += [(i, type_of[v], v, members[n][1]) for n in others[: thresholds[type_of[v]]]]
    return kept


def average_neighbour_distance(kept: Sequence[Quadruplet], z: Sequence[float], kind: int) -> float:
    """Eq. 12 of each entity, and its mean over the entities with a neighbour by this type."""
    by_entity: dict[int, list[float]] = {}
    for i, t, _, j in kept:
        if t == kind:
            by_entity.setdefault(i, []).append(abs(z[i] - z[j]))
    means = [math.fsum(found) / len(found) for found in by_entity.values()]
    return math.fsum(means) / len(means) if means else math.nan


def layer(
    p: dict[str, np.ndarray], number: int, last: bool, kept: Sequence[Quadruplet], e: Sequence[Vector], how: str
) -> list[Vector]:
    """Eq. 4, 6, 7, 8 and 15 for all entities."""
    new = []
    for i in range(len(e)):
        mine = [(j, np.concatenate([p["types"][t], p["values"][v]])) for k, t, v, j in kept if k == i]  # Eq. 4
        a = []
        for j, n in mine:
            inner = affine(p[f"w_key.{number}"], e[j], None) + affine(p[f"w_qry.{number}"], n, p[f"b.{number}"])
            a.append(dot(p[f"p.{number}"], leaky(inner)))  # Eq. 6
        total = math.fsum(math.exp(x) for x in a)
        heard = np.zeros(len(e[i]))
        for x, (j, n) in zip(a, mine, strict=True):
            weight = math.exp(x) / total  # Eq. 7
            heard += weight * affine(p[f"w_val.{number}"], phi(how, e[j], n), None)  # Eq. 8
        new.append(heard + e[i] if last else leaky(heard + e[i]))  # Eq. 15
    return new


def cross_entropy(similarity: float, alike: bool) -> float:
    """Eq. 11 as it is meant."""
    return -math.log(max(similarity if alike else 1 - similarity, LEAST_LIKELY))


def contrast(
    loss, anchors: Sequence[int], partners: Sequence[int], others: Sequence[Sequence[int]],
    counts: Sequence[Sequence[bool]],
) -> float:  # fmt: skip
    """The mean over rows of a positive's loss and the mean of its negatives'; loss: of (i, j, alike)."""
    found = []
    for i, j, drawn, real in zip(anchors, partners, others, counts, strict=True):
        negatives = [loss(i, other, False) for other, counted in zip(drawn, real, strict=True) if counted]
        found.append(loss(i, j, True) + (math.fsum(negatives) / len(negatives) if negatives else 0.0))
    return math.fsum(found) / len(found)


def propagate(
    pairs: Sequence[tuple[int, int]], users: Sequence[Vector], items: Sequence[Vector],
    weights: Sequence[np.ndarray | None], activation: str, adds_own: bool = True,
) -> list[tuple[list[Vector], list[Vector]]]:  # fmt: skip
    """Eq. 19 and 21: the vectors of users and items after each layer; both from the layer before."""
    layers = [(list(users), list(items))]
    n_items = [sum(u == user for u, _ in pairs) for user in range(len(users))]
    n_users = [sum(i == item for _, i in pairs) for item in range(len(items))]
    for weight in weights:
        x_u, x_i = layers[-1]
        sums_u, sums_i = ([x.copy() if adds_own else np.zeros_like(x) for x in side] for side in (x_u, x_i))
        for user, item in pairs:
            share = 1 / math.sqrt(n_items[user] * n_users[item])
            sums_u[user] = sums_u[user] + share * x_i[item]
            sums_i[item] = sums_i[item] + share * x_u[user]
        turned = [[x if weight is None else affine(weight, x, None) for x in side] for side in (sums_u, sums_i)]
        layers.append(tuple([leaky(x) if activation == "leaky_relu" else x for x in side] for side in turned))
    return layers


def bpr(positive: float, negatives: Sequence[float]) -> float:
    """Eq. 23 without its penalty, as BPR has it: the mean over negatives of −ln σ(ŷ_ui − ŷ_uj)."""
    return math.fsum(-math.log(logistic(positive - other)) for other in negatives) / len(negatives)
