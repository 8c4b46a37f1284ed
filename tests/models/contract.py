"""The contract that every model keeps (DESIGN section 3, "The shape of a model"), as a class of tests to inherit.

A model's test module defines `class TestMine(ModelContract)` with the two hooks `fit` and `gradients`; every test here
then runs against it. Equations against slow loops stay in the model's own module, since every model has others.
"""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Planted:
    """A shopping graph with a known answer: users buy within their taste, and a brand belongs to one taste.

    heads, relations, tails: int64 (E,) edges over one dense index: users first, then items, then brands.
    tastes: int64 (n,) the planted taste of every entity. Relations: 0 = purchase, 1 = brand (absent when `n_relations`
    is 1).
    """

    heads: np.ndarray
    relations: np.ndarray
    tails: np.ndarray
    tastes: np.ndarray
    n_users: int
    n_items: int
    n_relations: int

    @property
    def n_entities(self) -> int:
        return self.tastes.size

    @property
    def users(self) -> np.ndarray:
        return np.arange(self.n_users)

    @property
    def items(self) -> np.ndarray:
        return np.arange(self.n_users, self.n_users + self.n_items)

    @property
    def purchases(self) -> tuple[np.ndarray, np.ndarray]:
        """(users, items) of the purchase edges, dense indices."""
        bought = self.relations == 0
        return self.heads[bought], self.tails[bought]


def planted(
    seed: int = 0, n_users: int = 60, n_items: int = 40, n_tastes: int = 4, n_relations: int = 2, n_isolated: int = 0
) -> Planted:
    """Draw a planted graph: 6 purchases per user, 90 % of them within the user's taste.

    n_isolated: entities without an edge.
    """
    rng = np.random.default_rng(seed)
    user_tastes, item_tastes = np.arange(n_users) % n_tastes, np.arange(n_items) % n_tastes
    edges: set[tuple[int, int, int]] = set()
    for user in range(n_users):
        own, others = np.flatnonzero(item_tastes == user_tastes[user]), np.arange(n_items)
        for _ in range(6):
            pool = own if own.size and rng.random() < 0.9 else others
            edges.add((user, 0, n_users + int(rng.choice(pool))))
    n_brands = 0 if n_relations == 1 else 2 * n_tastes
    for item in range(n_items if n_brands else 0):
        brand = int(item_tastes[item]) + n_tastes * int(rng.integers(2))
        edges.add((n_users + item, 1, n_users + n_items + brand))
    heads, relations, tails = np.array(sorted(edges), dtype=np.int64).T
    isolated_tastes = np.arange(n_isolated) % n_tastes
    brand_tastes = np.arange(n_brands) % n_tastes
    tastes = np.concatenate([user_tastes, item_tastes, brand_tastes, isolated_tastes]).astype(np.int64)
    return Planted(heads, relations, tails, tastes, n_users, n_items, n_relations)


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What a trained model gives: float32 (n, d) and (m, d), and whatever it learned, by name."""

    entities: np.ndarray
    relations: np.ndarray
    parameters: dict[str, np.ndarray]


def same_taste_share(vectors: np.ndarray, tastes: np.ndarray, k: int = 5) -> float:
    """Mean share of each row's k nearest other rows (L2) that have its taste."""
    distances = np.linalg.norm(vectors[:, None, :] - vectors[None, :, :], axis=2)
    np.fill_diagonal(distances, np.inf)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return float((tastes[nearest] == tastes[:, None]).mean())


class ModelContract:
    """Inherit, and define `fit` and `gradients`. `learned_share` may be raised by a model that does better."""

    learned_share = 0.6  # chance is 0.25: four tastes

    def fit(self, data: Planted, seed: int) -> Fitted:
        """Train in deterministic mode on `data`."""
        raise NotImplementedError

    def gradients(self, data: Planted) -> dict[str, np.ndarray]:
        """The gradient of the training loss at the initial parameters, one entry per parameter."""
        raise NotImplementedError

    def test_learns_the_planted_structure(self) -> None:
        data = planted()
        users = self.fit(data, seed=1).entities[data.users]
        assert same_taste_share(users, data.tastes[data.users]) > self.learned_share

    def test_learns_nothing_from_shuffled_structure(self) -> None:
        data = planted()
        shuffled = np.random.default_rng(5).permutation(data.tastes[data.users])
        users = self.fit(data, seed=1).entities[data.users]
        assert same_taste_share(users, shuffled) < 0.4

    def test_every_parameter_gets_a_gradient(self) -> None:
        gradients = self.gradients(planted())
        assert gradients
        for name, gradient in gradients.items():
            assert np.isfinite(gradient).all(), name
            assert np.abs(gradient).max() > 0, f"{name} never learns"

    def test_same_seed_gives_the_same_numbers_and_another_seed_others(self) -> None:
        data = planted()
        first, again, other = self.fit(data, seed=3), self.fit(data, seed=3), self.fit(data, seed=4)
        np.testing.assert_array_equal(first.entities, again.entities)
        np.testing.assert_array_equal(first.relations, again.relations)
        for name, values in first.parameters.items():
            np.testing.assert_array_equal(values, again.parameters[name], err_msg=name)
        assert not np.array_equal(first.entities, other.entities)

    def test_entities_without_neighbours_are_finite(self) -> None:
        data = planted(n_isolated=3)
        fitted = self.fit(data, seed=1)
        assert fitted.entities.shape[0] == data.n_entities
        assert np.isfinite(fitted.entities).all()

    def test_one_relation(self) -> None:
        data = planted(n_relations=1)
        fitted = self.fit(data, seed=1)
        assert fitted.relations.shape[0] == 1
        assert np.isfinite(fitted.relations).all() and np.isfinite(fitted.entities).all()

    def test_one_user(self) -> None:
        fitted = self.fit(planted(n_users=1), seed=1)
        assert np.isfinite(fitted.entities).all()
