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
    softmax       -<u, v>                    1 - cos(u, u')     e^<u, v> is in proportion to the probability that v
                                                                comes next
    cosine        1 - cos(u, v)              1 - cos(u, u')

A vector of length 0 has no direction: its cosine with any other counts as 0.

Each kind is one of three measures between points that are made of the vectors once (models/kernels/nearness.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
from scipy.spatial.distance import cdist

from models.families import family_of
from models.family import Comparison
from models.kernels import nearness as kernel
from models.kernels.nearness import DOT, L1, L2
from models.shapes import expect

_MEASURES = {"l1": L1, "l2": L2}


@dataclass(frozen=True)
class Comparer:
    """One family's way to compare. norm: l1 or l2, of a translation; the other kinds look at none."""

    kind: Comparison
    norm: str = "l2"

    def __post_init__(self) -> None:
        for name, value, choices in (("kind", self.kind, get_args(Comparison)), ("norm", self.norm, tuple(_MEASURES))):
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

    @property
    def has_probabilities(self) -> bool:
        """Whether products with all items are what a softmax makes probabilities of."""
        return self.kind == "softmax"

    def to_items(self, users: np.ndarray, relation: np.ndarray | None, items: np.ndarray) -> np.ndarray:
        """(n, m): from users (n, d) along the relation (d,) to items (m, d).

        relation: None will do where none is taken. ValueError where one is taken and none given; ShapeError where it
        does not fit the users.
        """
        return self.of_items.between(self.item_queries(users, relation), self.item_points(items))

    def between_users(self, users: np.ndarray, others: np.ndarray) -> np.ndarray:
        """(n, m): from each of users (n, d) to each of others (m, d)."""
        return self.of_users.between(self.user_points(users), self.user_points(others))

    @property
    def of_items(self) -> Measure:
        """Between `item_queries` and `item_points`."""
        if self.kind == "translation":
            return Measure(_MEASURES[self.norm])
        return Measure(DOT, 1.0 if self.kind == "cosine" else 0.0)

    @property
    def of_users(self) -> Measure:
        """Between `user_points`."""
        return Measure(_MEASURES[self.norm]) if self.kind == "translation" else Measure(DOT, 1.0)

    def item_queries(self, users: np.ndarray, relation: np.ndarray | None) -> np.ndarray:
        """(n, d): where the items of users (n, d) are; errors as of `to_items`."""
        if self.takes_relation:
            if relation is None:
                raise ValueError(f"items are compared by {self.kind}, which takes the relation's vector; found none")
            expect("relation", relation, (users.shape[1],), str(users.dtype))
            if self.kind == "complex":
                (u, ui), (r, ri) = (np.split(x, 2, axis=-1) for x in (users, relation))
                return np.concatenate([u * r - ui * ri, ui * r + u * ri], axis=1)
            return users + relation if self.kind == "translation" else users * relation
        return users if self.kind in ("dot", "softmax") else _directions(users)

    def item_points(self, items: np.ndarray) -> np.ndarray:
        """(m, d)."""
        return _directions(items) if self.kind == "cosine" else items

    def user_points(self, users: np.ndarray) -> np.ndarray:
        """(n, d)."""
        return users if self.kind == "translation" else _directions(users)

    def row_by_row(self, users: np.ndarray, others: np.ndarray) -> np.ndarray:
        """(n,): from each of users (n, d) to the one of others (n, d) in the same row, as `between_users`."""
        return self.of_users.row_by_row(self.user_points(users), self.user_points(others))


@dataclass(frozen=True)
class Measure:
    """code: of models/kernels/nearness.py; offset: what a DOT is taken from. What is told of distances without a matrix
    of them is computed in float32. himself int64 (n,): as `models/places.py` has it, the other who counts nowhere; NaN
    stands where no other is left."""

    code: int
    offset: float = 0.0

    def between(self, points: np.ndarray, others: np.ndarray) -> np.ndarray:
        """(n, m): from each of points (n, d) to each of others (m, d)."""
        if self.code == DOT:
            products = points @ others.T
            return self.offset - products if self.offset else -products
        return _distances(points, others, "l1" if self.code == L1 else "l2")

    def row_by_row(self, points: np.ndarray, others: np.ndarray) -> np.ndarray:
        """(n,): from each of points (n, d) to the one of others (n, d) in the same row."""
        if self.code == DOT:
            return self.offset - (points * others).sum(1)
        differences = others - points
        return np.abs(differences).sum(1) if self.code == L1 else np.sqrt((differences**2).sum(1))

    def nearest(self, points: np.ndarray, others: np.ndarray, himself: np.ndarray, near: int) -> np.ndarray:
        """float32 (n, 4): the least distance, the mean of the `near` least, the mean of all, and that to the last of
        the others (m + 1, d), which counts in none of the former."""
        out = np.empty((len(points), 4), np.float32)
        kernel.nearest(*self._given(points, others, himself), near, out)
        return out

    def moments(self, points: np.ndarray, others: np.ndarray, himself: np.ndarray) -> np.ndarray:
        """float64 (n, 2): mean and standard deviation."""
        out = np.empty((len(points), 2))
        kernel.moments(*self._given(points, others, himself), out)
        return out

    def densities(
        self, points: np.ndarray, others: np.ndarray, himself: np.ndarray, scale: np.ndarray,
        sharpness: tuple[float, ...], farthest: float,
    ) -> np.ndarray:  # fmt: skip
        """float64 (n, len(sharpness)): log of the mean of exp(−sharpness · z), where z is the distance in scale (n, 2),
        mean and standard deviation, between ± farthest."""
        out = np.empty((len(points), len(sharpness)))
        kernel.densities(
            *self._given(points, others, himself), np.ascontiguousarray(scale, np.float64), np.array(sharpness),
            np.float64(farthest), out)  # fmt: skip
        return out

    def _given(self, points: np.ndarray, others: np.ndarray, himself: np.ndarray) -> tuple:
        """As the kernels take it."""
        width = others.shape[1]
        padded = np.zeros((len(others), -(-width // kernel.STEP) * kernel.STEP), np.float32)
        padded[:, :width] = others
        return np.ascontiguousarray(points, np.float32), padded, himself, self.code, np.float32(self.offset)


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
