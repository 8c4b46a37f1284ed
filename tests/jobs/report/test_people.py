"""What the page says of the sampled users: tastes told from chance, the map, neighbours, how far they moved."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path

import numpy as np
import pytest

from jobs.program import Input
from jobs.report import likeness, people
from tests.jobs.report import night


def planted(n: int, noise: float) -> people.People:
    random = np.random.default_rng(0)
    taste = np.arange(n) % 3
    vectors = 5 + np.eye(3)[taste] @ random.normal(size=(3, 8)) + noise * random.normal(size=(n, 8))
    basket = [[people.Bought(f"i{t}", 1, (("category", f"c{t}"),))] for t in taste]
    ids, favourites = [f"u{i}" for i in range(n)], people.favourites_of(basket)
    return people.People("transe", ids, vectors.astype(np.float32), basket, favourites, "category")


def test_like_minded_neighbours_tell_taste_from_chance() -> None:
    share, chance = likeness.like_minded(planted(90, 0.01))["category"]
    assert share == 1.0 and chance == pytest.approx(29 / 89)
    share, chance = likeness.like_minded(planted(900, 50.0))["category"]
    assert share == pytest.approx(chance, abs=0.03)


def test_a_favourite_is_what_was_bought_most() -> None:
    bought = [
        people.Bought("i", 1, (("tag", "b"), ("tag", "a"))), people.Bought("j", 2, (("tag", "c"),)),
        people.Bought("k", 1, (("tag", "b"), ("brand", "x")))]  # fmt: skip
    assert people.favourites_of([bought, []]) == {"brand": ["x", ""], "tag": ["b", ""]}


def test_nearest_is_by_cosine_of_centred_vectors() -> None:
    some = planted(60, 0.5)
    order, cosines = likeness.nearest(some.vectors, np.array([7]), 5)
    centred = some.vectors - some.vectors.mean(axis=0)
    directions = [vector / np.linalg.norm(vector) for vector in centred]
    others = [(float(directions[7] @ one), -i) for i, one in enumerate(directions) if i != 7]
    slow = sorted(others, reverse=True)[:5]
    assert [-i for _, i in slow] == order[0].tolist()
    assert cosines[0] == pytest.approx([c for c, _ in slow], abs=1e-5)


def test_the_map_keeps_tastes_together_and_is_the_same_each_time() -> None:
    some = planted(90, 0.05)
    chosen, points = likeness.lay_out(some, 1)
    assert chosen.tolist() == list(range(90))
    assert np.array_equal(points, likeness.lay_out(some, 1)[1])
    mapped = dataclasses.replace(some, vectors=points)
    assert likeness.like_minded(mapped)["category"][0] > 0.9


def test_drift_of_the_sample_is_the_cosine_distance(tmp_path: Path) -> None:
    embeddings = Input("user_embeddings", str(tmp_path / "data" / "feature_store" / "user_embeddings"))
    now, then = np.array([[1, 0], [0, 2], [1, 1], [3, 3]], np.float32), np.array([[2, 0], [1, 0], [-1, -1]], np.float32)
    here = people.People("transe", ["a", "b", "c", "d"], now, [[]] * 4, {})
    night.write_vectors(tmp_path, "transe", datetime.date(2026, 1, 1), ["a", "b", "c"], then)
    assert likeness.moved_since(here, "2026-01-01", embeddings) == pytest.approx([0, 1, 2], abs=1e-6)
