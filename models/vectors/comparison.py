"""How far an item or another user is from a user, as the model's family declares it: `compared` in models/families.py.

Small is near, in all kinds, so that what is made of distances (affinities, neighbours, recommendations) asks for
no kind. Vectors are native: a published space is turned, and neither an L1 norm nor a relation's diagonal turns with
it.
Shapes: n users u and m items v of d numbers, float64; r is the relation's vector.

    kind          user u to item v           user u to user u'
    translation   ||u + r - v||, L1 or L2    ||u - u'||, the same norm
    diagonal      -<u * r, v>                1 - cos(u, u')
    complex       -Re <u * r, conj v>        1 - cos(u, u')     a vector's first half being real parts, the second
                                                                imaginary ones
    dot           -<u, v>                    1 - cos(u, u')
    cosine        1 - cos(u, v)              1 - cos(u, u')

A vector of length 0 has no direction: its cosine with any other counts as 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
from scipy.spatial.distance import cdist

from models.families import Comparison, family_of
from models.shapes import expect

_NORMS = ("l1", "l2")


@dataclass(frozen=True)
class Comparer:
    """One family's way to compare. norm: l1 or l2, of a translation; the other kinds look at none."""

    kind: Comparison
    norm: str = "l2"

    def __post_init__(self) -> None:
        for name, value, choices in (("kind", self.kind, get_args(Comparison)), ("norm", self.norm, _NORMS)):
            if value not in choices:
                raise ValueError(f"{name} is {value!r}; expected one of {', '.join(choices)}")

    @classmethod
    def of(cls, model: str, norm: str, compared: str | None = None) -> Comparer:
        """As the published model's family declares it, in the norm it was trained with. KeyError without a family.

        compared: what the model's manifest says, for a family that leaves it to a setting.
        """
        declared = family_of(model).compared
        return cls(str(compared) if "." in declared else declared, norm)

    @property
    def takes_relation(self) -> bool:
        """Whether the relation's vector has a part in where a user's items are."""
        return self.kind in ("translation", "diagonal", "complex")

    def to_items(self, users: np.ndarray, relation: np.ndarray | None, items: np.ndarray) -> np.ndarray:
        """(n, m): from users (n, d) along the relation (d,) to items (m, d).

        relation: None will do where none is taken. ValueError where one is taken and none given; ShapeError where it
        does not fit the users.
        """
        if self.takes_relation:
            if relation is None:
                raise ValueError(f"items are compared by {self.kind}, which takes the relation's vector; found none")
            expect("relation", relation, (users.shape[1],), "float64")
        if self.kind == "translation":
            return _distances(users + relation, items, self.norm)
        if self.kind == "diagonal":
            return -(users * relation) @ items.T
        if self.kind == "complex":
            (u, ui), (r, ri) = (np.split(x, 2, axis=-1) for x in (users, relation))
            return -np.concatenate([u * r - ui * ri, ui * r + u * ri], axis=1) @ items.T
        return -users @ items.T if self.kind == "dot" else 1 - _directions(users) @ _directions(items).T

    def between_users(self, users: np.ndarray, others: np.ndarray) -> np.ndarray:
        """(n, m): from each of users (n, d) to each of others (m, d)."""
        if self.kind == "translation":
            return _distances(users, others, self.norm)
        return 1 - _directions(users) @ _directions(others).T

    def row_by_row(self, users: np.ndarray, others: np.ndarray) -> np.ndarray:
        """(n,): from each of users (n, d) to the one of others (n, d) in the same row, as `between_users`."""
        if self.kind != "translation":
            return 1 - (_directions(users) * _directions(others)).sum(1)
        differences = others - users
        return np.abs(differences).sum(1) if self.norm == "l1" else np.sqrt((differences**2).sum(1))


def _distances(left: np.ndarray, right: np.ndarray, norm: str) -> np.ndarray:
    """(n, m) distances in L1 or L2."""
    if norm == "l1":
        return cdist(left, right, "cityblock")
    squares = (left * left).sum(1)[:, None] + (right * right).sum(1)[None] - 2 * left @ right.T
    return np.sqrt(np.maximum(squares, 0))


def _directions(vectors: np.ndarray) -> np.ndarray:
    """The rows at length 1; rows of length 0 stay zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths == 0, 1, lengths)
