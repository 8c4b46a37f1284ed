"""Lists of the best items against a sort of everything, ties, and their figures by hand."""

from __future__ import annotations

import numpy as np
import pytest

from models.vectors import recommendation
from models.vectors.recommendation import Lists, best_items, list_figures, novelty


def keys(n: int, start: int = 1) -> np.ndarray:
    return np.arange(start, start + n, dtype=np.uint64)


@pytest.mark.parametrize("cells", [4_000_000, 45])
def test_lists_are_the_best_of_all_items_but_those_left_out(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recommendation, "CHUNK_CELLS", cells)
    rng = np.random.default_rng(1)
    distances, allowed = rng.normal(size=(11, 15)), rng.random(15) < 0.8
    left_out = rng.integers(11, size=40), rng.integers(15, size=40)
    lists = best_items(lambda rows: distances[rows], keys(11), keys(15), allowed, left_out, 4)
    for user in range(11):
        touched = set(left_out[1][left_out[0] == user].tolist())
        there = [i for i in np.argsort(distances[user]) if allowed[i] and i not in touched][:4]
        mine = lists.users == user
        assert lists.items[mine].tolist() == there and lists.ranks[mine].tolist() == list(range(1, len(there) + 1))
        np.testing.assert_allclose(lists.scores[mine], -distances[user][there], rtol=1e-6)


def test_ties_are_shared_out_over_users_and_come_out_the_same_again() -> None:
    def constant(rows: np.ndarray) -> np.ndarray:
        return np.concatenate([np.zeros((len(rows), 1)), np.ones((len(rows), 9))], axis=1)

    nothing = np.zeros(0, np.int64), np.zeros(0, np.int64)
    lists = best_items(constant, keys(600), keys(10), np.ones(10, bool), nothing, 4)
    assert (lists.items[lists.ranks == 1] == 0).all()
    counts = np.bincount(lists.items[lists.ranks > 1], minlength=10)[1:]
    assert counts.min() > 150 and counts.max() < 250, "three of nine places each: 200 of 600 users"
    backwards = best_items(constant, keys(600)[::-1], keys(10), np.ones(10, bool), nothing, 4)
    of_first = [sorted(one.items[one.users == user].tolist()) for one, user in ((lists, 0), (backwards, 599))]
    assert of_first[0] == of_first[1], "by who they are, not by where they stand"


def test_a_user_who_touched_everything_and_an_empty_catalogue() -> None:
    everything = np.zeros(3, np.int64), np.arange(3)
    lists = best_items(lambda rows: np.zeros((len(rows), 3)), keys(2), keys(3), np.ones(3, bool), everything, 2)
    assert set(lists.users.tolist()) == {1} and len(lists.items) == 2
    none = best_items(lambda rows: np.zeros((len(rows), 3)), keys(2), keys(3), np.zeros(3, bool), everything, 2)
    assert len(none.items) == 0 and none.items.dtype == np.int64


def test_figures_by_hand() -> None:
    lists = Lists(
        np.repeat([0, 1, 2], 3), np.array([5, 6, 7, 5, 8, 9, 0, 1, 2]), np.zeros(9, np.float32),
        np.tile([1, 2, 3], 3).astype(np.int32))  # fmt: skip
    happened = np.array([0, 0, 1, 3]), np.array([6, 7, 4, 5])
    found = list_figures(lists, happened, 20, at=3)
    assert found["users"] == 2, "user 2 did nothing, user 3 has no list"
    assert found["hr"] == 0.5 and found["mrr"] == pytest.approx(0.25) and found["coverage"] == 8 / 20
    ideal = 1 + 1 / np.log2(3)
    assert found["ndcg"] == pytest.approx((1 / np.log2(3) + 1 / np.log2(4)) / ideal / 2)
    assert list_figures(lists, happened, 20, at=1)["hr"] == 0
    assert np.isnan(list_figures(lists, (np.array([9]), np.array([5])), 20, at=3)["hr"])


def test_novelty_is_the_rarity_of_what_is_listed() -> None:
    assert novelty(np.array([0, 1]), np.array([8, 1, 0]), 8) == pytest.approx(1.5)
    assert novelty(np.array([2]), np.array([8, 1, 0]), 8) == pytest.approx(3), "an item nobody had counts as one"
    assert np.isnan(novelty(np.zeros(0, np.int64), np.array([1]), 8))
