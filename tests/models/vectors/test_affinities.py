"""Affinities against a slow loop over users, and their limits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp

from models.vectors import affinities as module
from models.vectors.affinities import (
    EVERY_NAME,
    NAMES,
    NEAR_ITEMS,
    NEAR_REFERENCES,
    Client,
    Scales,
    affinities,
    log_totals,
    names_of,
    scales,
)
from models.vectors.comparison import Comparer
from tests.models.vectors.test_comparison import COMPARERS, far_item, far_user

L1, L2 = Comparer("translation", "l1"), Comparer("translation", "l2")
World = tuple[np.ndarray, np.ndarray, np.ndarray, Client, np.ndarray, np.ndarray]
SOME = np.array([103, 108, *range(900, 912), 127])  # users at large: three of the world's own, and strangers


def world(seed: int = 0, n: int = 30, d: int = 8) -> World:
    """(users, their ids, purchase, client, items at large, users at large, who are SOME); user 4 has no vector."""
    random = np.random.default_rng(seed)
    users = random.normal(size=(n, d)).astype(np.float32)
    users[4] = np.nan
    ids = np.arange(100, 100 + n)
    references = np.array([0, 3, 7, 9, 11, 12, 13, 20, 21, 22, 25, 28])
    client = Client(random.normal(size=(7, d)), users[references].astype(np.float64), ids[references])
    purchase, some_items, some_users = random.normal(size=d), random.normal(size=(12, d)), random.normal(size=(15, d))
    own = np.isin(SOME, ids)
    some_users[own] = users[SOME[own] - 100]
    return users, ids, purchase, client, some_items, some_users


def found_in(data: World, comparer: Comparer) -> np.ndarray:
    """The distances of everything in a world."""
    users, ids, purchase, client, some_items, some_users = data
    scale = scales(users, ids, purchase, some_items, some_users, SOME, comparer)
    return affinities(users, ids, purchase, client, scale, comparer)[:, : len(NAMES)]


def slow(row: int, data: World, comparer: Comparer) -> list[float]:
    """The columns of one user, distance by distance."""
    users, ids, purchase, client, some_items, some_users = data
    user = users[row].astype(np.float64)

    def to_item(item: np.ndarray) -> float:
        return far_item(user, purchase, item, comparer)

    def to_user(other: np.ndarray) -> float:
        return far_user(user, other, comparer)

    to_items = sorted(map(to_item, client.items))
    others = [r for r, i in zip(client.references, client.reference_ids, strict=True) if i != ids[row]]
    to_users = sorted(map(to_user, others))
    item_scale = list(map(to_item, some_items))
    user_scale = [to_user(other) for other, i in zip(some_users, SOME, strict=True) if i != ids[row]]
    items = [to_items[0], np.mean(to_items[:NEAR_ITEMS]), np.mean(to_items), to_item(client.items.mean(0))]
    users = [to_users[0], np.mean(to_users[:NEAR_REFERENCES]), np.mean(to_users), to_user(np.mean(others, 0))]
    parts = ((items, item_scale), (users, user_scale))
    return [(value - np.mean(scale)) / np.std(scale) for part, scale in parts for value in part]


@pytest.mark.parametrize("comparer", COMPARERS, ids=str)
@pytest.mark.parametrize("rows", [7, 32_768])
def test_a_slow_loop_finds_the_same(comparer: Comparer, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK_ROWS", rows)
    data = world()
    found = found_in(data, comparer)
    assert found.shape == (30, len(NAMES))
    for row in range(30):
        if row == 4:
            assert np.isnan(found[row]).all()
            continue
        np.testing.assert_allclose(found[row], slow(row, data, comparer), rtol=1e-4, atol=1e-4)


def former(data: World, norm: str) -> np.ndarray:
    """Affinities as they were computed when a translation was all there was."""
    users, ids, purchase, client, some_items, some_users = data
    there = np.flatnonzero(~np.isnan(users[:, 0]))
    vectors, out = users[there].astype(np.float64), np.full((len(users), len(NAMES)), np.nan, np.float32)
    far = Comparer("translation", norm).between_users  # held to its former bits by its own tests

    def nearest(found: np.ndarray, k: int) -> np.ndarray:
        lowest = np.partition(found, min(k, found.shape[1]) - 1, axis=1)[:, :k]
        return np.where(np.isfinite(lowest), lowest, 0).sum(1) / np.isfinite(lowest).sum(1)

    def standard(columns: list[np.ndarray], at_large: np.ndarray) -> np.ndarray:
        return (np.stack(columns, 1) - at_large.mean(1)[:, None]) / (at_large.std(1) + 1e-6)[:, None]

    queries = vectors + purchase
    found, centroid = far(queries, client.items), far(queries, client.items.mean(0, keepdims=True))[:, 0]
    columns = [found.min(1), nearest(found, NEAR_ITEMS), found.mean(1), centroid]
    out[there, :4] = standard(columns, far(queries, some_items))
    himself = ids[there][:, None] == client.reference_ids[None]
    left = len(client.reference_ids) - himself.sum(1)
    found = np.where(himself, np.inf, far(vectors, client.references))
    to_centroid = (client.references.sum(0) - himself @ client.references) / left[:, None] - vectors
    centroid = np.abs(to_centroid).sum(1) if norm == "l1" else np.sqrt((to_centroid**2).sum(1))
    columns = [found.min(1), nearest(found, NEAR_REFERENCES), np.where(himself, 0, found).sum(1) / left, centroid]
    out[there, 4:] = standard(columns, far(vectors, some_users))
    return out  # but for users at large, whose distances to themselves counted


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_a_translation_gives_the_former_numbers_to_float32(norm: str) -> None:
    for seed in range(3):
        data = world(seed, n=200, d=33)
        others, found = ~np.isin(data[1], SOME), found_in(data, Comparer("translation", norm))
        np.testing.assert_allclose(found[others], former(data, norm)[others], rtol=2e-5, atol=2e-5)
        assert (found[~others, 4:] != former(data, norm)[~others, 4:]).all()


@pytest.mark.parametrize("comparer", COMPARERS, ids=str)
def test_of_two_reference_users_each_has_the_other(comparer: Comparer) -> None:
    users, ids, purchase, client, some_items, some_users = world()
    two = Client(client.items, client.references[:2], client.reference_ids[:2])
    data = users, ids, purchase, two, some_items, some_users
    found = found_in(data, comparer)
    for row in (0, 3):
        np.testing.assert_allclose(found[row], slow(row, data, comparer), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("comparer", COMPARERS, ids=str)
def test_a_reference_user_is_not_compared_with_himself(comparer: Comparer) -> None:
    users, ids, purchase, client, some_items, some_users = world()
    alone = Client(client.items, client.references[:1], client.reference_ids[:1])
    found = found_in((users, ids, purchase, alone, some_items, some_users), comparer)
    assert np.isnan(found[0, 4:]).all() and np.isfinite(found[1, 4:]).all()


def test_orthogonal_maps_leave_l2_affinities_and_change_l1() -> None:
    users, ids, purchase, client, some_items, some_users = data = world(1)
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(8, 8)))
    turned_client = Client(client.items @ turn, client.references @ turn, client.reference_ids)
    turned = users.astype(np.float64) @ turn, ids, purchase @ turn, turned_client, some_items @ turn, some_users @ turn
    for comparer, same in ((L2, True), (L1, False)):
        assert np.allclose(found_in(data, comparer), found_in(turned, comparer), atol=1e-3, equal_nan=True) == same


@pytest.mark.parametrize("comparer", COMPARERS, ids=str)
def test_a_users_distance_to_himself_is_no_part_of_his_scale(comparer: Comparer) -> None:
    """As if he had not been drawn; alone at large, he has no scale. Another user at the same place does count."""
    users, ids, purchase, _, some_items, some_users = world()
    with_him = scales(users, ids, purchase, some_items, some_users, SOME, comparer)
    without = scales(users, ids, purchase, some_items, some_users[1:], SOME[1:], comparer)
    for name in ("user_mean", "user_spread"):
        assert getattr(with_him, name)[3] == pytest.approx(getattr(without, name)[3], rel=1e-12)
        assert getattr(with_him, name)[0] != getattr(without, name)[0]
    alone = scales(users, ids, purchase, some_items, users[3:4].astype(np.float64), ids[3:4], comparer)
    assert np.isnan([alone.user_mean[3], alone.user_spread[3]]).all() and np.isfinite(alone.user_mean[5])
    other = scales(users, ids, purchase, some_items, users[3:4].astype(np.float64), np.array([999]), comparer)
    assert other.user_mean[3] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("comparer", COMPARERS, ids=str)
def test_a_client_without_items_or_reference_users_has_no_distances(comparer: Comparer) -> None:
    users, ids, purchase, _, some_items, some_users = world()
    nothing = np.zeros((0, 8))
    nobody = Client(nothing, nothing, np.zeros(0, np.int64))
    assert np.isnan(found_in((users, ids, purchase, nobody, some_items, some_users), comparer)).all()


@pytest.mark.parametrize("comparer", COMPARERS, ids=str)
def test_without_items_at_large_only_users_are_compared(comparer: Comparer) -> None:
    """A family that has vectors of users alone."""
    users, ids, purchase, client, _, some_users = world()
    nothing = np.zeros((0, 8))
    own = Client(nothing, client.references, client.reference_ids)
    found = found_in((users, ids, purchase, own, nothing, some_users), comparer)
    assert np.isnan(found[:, :4]).all() and np.isfinite(np.delete(found, 4, 0)[:, 4:]).all()
    scale = scales(users, ids, purchase, nothing, nothing, np.zeros(0, np.int64), comparer)
    assert np.isnan([scale.item_mean, scale.item_spread, scale.user_mean, scale.user_spread]).all()


@pytest.mark.parametrize("kind", ["dot", "diagonal", "cosine"])
def test_a_user_at_the_origin_is_near_nobody(kind: str) -> None:
    """As far from the client's items and reference users as from all others: 0, not missing, and not infinite."""
    users, ids, purchase, client, some_items, some_users = world()
    users[1] = 0
    found = found_in((users, ids, purchase, client, some_items, some_users), Comparer(kind))  # type: ignore[arg-type]
    np.testing.assert_array_equal(found[1], np.zeros(len(NAMES)))


@pytest.mark.parametrize("kind", ["dot", "cosine"])
def test_a_family_without_a_vector_of_the_relation_needs_none(kind: str) -> None:
    users, ids, purchase, client, some_items, some_users = data = world()
    none = found_in((users, ids, None, client, some_items, some_users), Comparer(kind))  # type: ignore[arg-type]
    np.testing.assert_array_equal(none, found_in(data, Comparer(kind)))  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [0.1, 1.0, 40.0])
def test_totals_are_those_of_scipy_and_no_product_is_too_large(scale: float) -> None:
    random = np.random.default_rng(0)
    users, items = (scale * random.normal(size=(n, 8)).astype(np.float32) for n in (50, 300))
    expected = logsumexp(users.astype(np.float64) @ items.T.astype(np.float64), axis=1)
    np.testing.assert_allclose(log_totals(users, items), expected, rtol=1e-5)
    np.testing.assert_allclose(log_totals(users, items, 600), expected + np.log(2), rtol=1e-5)


def test_the_probability_of_a_clients_items_is_that_of_a_softmax(monkeypatch: pytest.MonkeyPatch) -> None:
    """Minus its log stands in a column of its own, of families that have probabilities alone."""
    monkeypatch.setattr(module, "_CHUNK_CELLS", 100)
    users, ids, _, client, some_items, _ = world()
    every = np.concatenate([client.items, some_items])
    total = log_totals(users, every)
    scale = Scales(*np.ones((4, len(users))), total)
    found = affinities(users, ids, None, client, scale, Comparer("softmax"))
    assert found.shape == (30, 9) and len(EVERY_NAME) == 9 and np.isnan(found[4]).all()
    for row in (0, 7, 29):
        e = np.exp(users[row].astype(np.float64) @ every.T)
        assert found[row, 8] == pytest.approx(-np.log(e[:7].sum() / e.sum()), rel=1e-4)
    twice = Client(client.items, client.references, client.reference_ids, 14)  # the seven stand for fourteen
    of_twice = affinities(users, ids, None, twice, scale, Comparer("softmax"))
    np.testing.assert_allclose(of_twice[:, 8], found[:, 8] - np.log(2), rtol=1e-5)
    some = Client(client.items[:2], client.references, client.reference_ids, 7, client.items)  # distances to two alone
    of_some = affinities(users, ids, None, some, scale, Comparer("softmax"))
    np.testing.assert_array_equal(of_some[:, 8], found[:, 8])
    assert not np.allclose(of_some[:, 2], found[:, 2], equal_nan=True)
    assert affinities(users, ids, None, client, scale, Comparer("dot")).shape == (30, 8)
    assert np.isnan(log_totals(users, np.zeros((0, 8)))).all()
    assert names_of("hugt") == EVERY_NAME and names_of("transe") == names_of("nobody") == NAMES
