"""Affinities against a slow loop over users, and their limits."""

from __future__ import annotations

import numpy as np
import pytest

from models.vectors import affinities as module
from models.vectors.affinities import NAMES, NEAR_ITEMS, NEAR_REFERENCES, Client, affinities, scales


def world(seed: int = 0, n: int = 30, d: int = 8):
    random = np.random.default_rng(seed)
    users = random.normal(size=(n, d)).astype(np.float32)
    users[4] = np.nan
    ids = np.arange(100, 100 + n)
    references = np.array([0, 3, 7, 9, 11, 12, 13, 20, 21, 22, 25, 28])
    client = Client(random.normal(size=(7, d)), users[references].astype(np.float64), ids[references])
    return users, ids, random.normal(size=d), client, random.normal(size=(12, d)), random.normal(size=(15, d))


def slow(user: np.ndarray, me: int, purchase: np.ndarray, client: Client, some_items: np.ndarray, some_users: np.ndarray, norm: str) -> list[float]:
    def far(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.abs(a - b).sum() if norm == "l1" else np.sqrt(((a - b) ** 2).sum()))

    query = user + purchase  # the knowledge query of Eq. 3, from the user along purchase
    to_items = sorted(far(query, item) for item in client.items)
    others = [r for r, i in zip(client.references, client.reference_ids, strict=True) if i != me]
    to_users = sorted(far(user, r) for r in others)
    item_scale, user_scale = [far(query, i) for i in some_items], [far(user, u) for u in some_users]
    items = [to_items[0], np.mean(to_items[:NEAR_ITEMS]), np.mean(to_items), far(query, client.items.mean(0))]
    users = [to_users[0], np.mean(to_users[:NEAR_REFERENCES]), np.mean(to_users), far(user, np.mean(others, 0))]
    return [(v - np.mean(item_scale)) / np.std(item_scale) for v in items] + [(v - np.mean(user_scale)) / np.std(user_scale) for v in users]


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("cells", [40, 4_000_000])
def test_a_slow_loop_finds_the_same(norm: str, cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK_CELLS", cells)
    users, ids, purchase, client, some_items, some_users = world()
    found = affinities(users, ids, purchase, client, scales(users, purchase, some_items, some_users, norm), norm)
    assert found.shape == (30, len(NAMES))
    for row in range(30):
        if row == 4:
            assert np.isnan(found[row]).all()
            continue
        wanted = slow(users[row].astype(np.float64), ids[row], purchase, client, some_items, some_users, norm)
        np.testing.assert_allclose(found[row], wanted, rtol=1e-4, atol=1e-4)


def test_a_reference_user_is_not_compared_with_himself() -> None:
    users, ids, purchase, client, some_items, some_users = world()
    scale = scales(users, purchase, some_items, some_users, "l2")
    alone = Client(client.items, client.references[:1], client.reference_ids[:1])
    found = affinities(users, ids, purchase, alone, scale, "l2")
    assert np.isnan(found[0, 4:]).all() and np.isfinite(found[1, 4:]).all()


def test_orthogonal_maps_leave_l2_affinities_and_change_l1() -> None:
    users, ids, purchase, client, some_items, some_users = world(1)
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(8, 8)))
    turned_client = Client(client.items @ turn, client.references @ turn, client.reference_ids)
    turned = users.astype(np.float64) @ turn
    for norm, same in (("l2", True), ("l1", False)):
        here = affinities(users, ids, purchase, client, scales(users, purchase, some_items, some_users, norm), norm)
        there = affinities(turned, ids, purchase @ turn, turned_client, scales(turned, purchase @ turn, some_items @ turn, some_users @ turn, norm), norm)
        assert np.allclose(here, there, atol=1e-3, equal_nan=True) == same


def test_a_client_without_items_or_reference_users_has_no_distances() -> None:
    users, ids, purchase, client, some_items, some_users = world()
    scale = scales(users, purchase, some_items, some_users, "l1")
    nothing = np.zeros((0, 8))
    found = affinities(users, ids, purchase, Client(nothing, nothing, np.zeros(0, np.int64)), scale, "l1")
    assert np.isnan(found).all()
