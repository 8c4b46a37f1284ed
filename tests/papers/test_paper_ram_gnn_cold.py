"""The cold users' protocol: who is cold, what came after, which ranks and scores follow, what is known of a night."""

from __future__ import annotations

import dataclasses
import datetime

import numpy as np
import pandas as pd
import pytest

from jobs.configuration.sections import Attribute
from models.ram_gnn_hyperparameters import InteractionHyperparameters
from tests.papers import cold_users, paper_ram_gnn_cold
from tests.papers.cold_users import SHOPS, ColdNight, Shop, night_of, side_of
from tests.papers.paper_ram_gnn_cold import (
    NEAR,
    by_network,
    by_transe,
    clients_of,
    likely,
    ranks_of_next,
    settings_of,
)

SHOP = Shop("small", "alibaba_ecomm", (datetime.date(2019, 6, 16),), "category")  # a window of six days, two after


def at(day: int, hour: int = 0) -> pd.Timestamp:
    return pd.Timestamp(2019, 6, day, hour, tz="UTC")


@pytest.fixture
def night(monkeypatch: pytest.MonkeyPatch) -> ColdNight:
    """u0 is cold, and takes a known item again, one that nobody had and one that is new to him; u1 has four events, u2
    one before the window and one in it, u3 comes later; i4 is never seen before T."""
    rows = [("u0", "i0", at(15, 23)), ("u1", "i0", at(11)), ("u1", "i1", at(12)), ("u1", "i2", at(13)),
            ("u1", "i1", at(14)), ("u2", "i3", at(9)), ("u2", "i3", at(10)), ("u0", "i0", at(16)),
            ("u0", "i4", at(16, 1)), ("u0", "i2", at(16, 2)), ("u0", "i1", at(17)), ("u1", "i3", at(16)),
            ("u2", "i1", at(18)), ("u3", "i1", at(17))]  # fmt: skip
    events = pd.DataFrame(rows, columns=["user_id", "item_id", "event_time"]).assign(behavior="click")
    items = pd.DataFrame({
        "item_id": [f"i{k}" for k in range(5)], "category": ["a", "a", "b", "b", "a"],
        "brand": ["x", None, "x", "y", "y"], "price": [1.0, 2, 3, 4, 5]})  # fmt: skip
    users = pd.DataFrame({
        "user_id": ["u0", "u1", "u2"], "education": ["1", "2", None], "career": None, "income": [1.0, 2, 3],
        "stages": [["p", "q"], None, ["q"]]})  # fmt: skip
    monkeypatch.setattr(cold_users, "tables", lambda shop: (events, items, users))
    return night_of.__wrapped__(SHOP, SHOP.nights[0])


def test_a_night_knows_its_window_and_asks_about_the_two_days_after(night: ColdNight) -> None:
    assert (night.n_users, night.n_items) == (3, 4)
    assert set(zip(*map(np.ndarray.tolist, night.pairs), strict=True)) == {(0, 0), (1, 0), (1, 1), (1, 2), (2, 3)}
    assert night.cold.tolist() == [0, 2] and night.n_events.tolist() == [1, 4, 1]
    assert [part.tolist() for part in night.following] == [[0], [2]], "known before T and new to him; u2 comes too late"
    labels = {client: found.tolist() for client, found in night.labels.items()}
    assert labels == {"a": [True, False], "b": [True, False]}
    assert {client: items.tolist() for client, items in night.items_of.items()} == {"a": [0, 1], "b": [2, 3]}


def test_ranks_leave_a_users_own_items_out(night: ColdNight) -> None:
    scores = np.array([[9.0, 5, 5, 1], [0, 0, 0, 0]])
    assert ranks_of_next(night, scores).tolist() == [1.5], "i0 is his own, i1 is as likely"
    assert scores[0, 0] == 9


def test_a_client_is_as_likely_as_its_likeliest_items_in_the_users_own_spread() -> None:
    scores = np.random.default_rng(1).normal(size=(3, 20))
    items = np.array([1, 4, 7, 9, 12, 15, 18])
    for user, found in enumerate(likely(scores, items)):
        near = sorted(scores[user, items])[-NEAR:]
        assert found == pytest.approx((np.mean(near) - scores[user].mean()) / scores[user].std())
    np.testing.assert_allclose(likely(3 * scores + 5, items), likely(scores, items))


def test_attributes_are_those_of_the_configuration() -> None:
    table = pd.DataFrame({"id": ["a", "b", "d"], "tags": [["x", "y"], None, ["x"]], "size": [1.0, 2.0, 9.0]})
    attributes = {"tags": Attribute(), "size": Attribute(type="number", bins=2)}
    side = side_of(table, "id", np.array(["a", "b", "c", "d"]), attributes)
    assert side.names == ("size", "tags") and side.rows.value_types.tolist() == [0, 0, 1, 1]
    found = set(zip(side.rows.entities.tolist(), side.rows.values.tolist(), strict=True))
    assert found == {(0, 0), (1, 0), (3, 1), (0, 2), (0, 3), (3, 2)}


def two_tastes() -> ColdNight:
    """60 users and 20 items: the even ones go together, and so do the odd ones; the last 30 users, the odd ones first,
    are those who are asked about."""
    random, rows = np.random.default_rng(0), set()
    for user in range(60):
        rows |= {(user, int(item)) for item in user % 2 + 2 * random.choice(10, 6, replace=False)}
    pairs = np.array(sorted(rows)).T
    cold = np.concatenate([np.arange(31, 60, 2), np.arange(30, 60, 2)])
    nothing = np.zeros(0, np.int64)
    table = pd.DataFrame({"id": range(20), "taste": [["even", "odd"][k % 2] for k in range(20)]})
    side = side_of(table, "id", np.arange(20), {"taste": Attribute()})
    return ColdNight(60, 20, (pairs[0], pairs[1]), cold, np.full(60, 6), (nothing, nothing), {"item": side}, {}, {})


def own_taste(night: ColdNight, scores: np.ndarray) -> float:
    """The share of the five likeliest items that are of the user's own taste."""
    likeliest = np.argsort(-scores, axis=1)[:, :5]
    return float((likeliest % 2 == night.cold[:, None] % 2).mean())


def test_a_users_scores_are_his_own_and_the_settings_are_those_that_validation_prefers(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    night = two_tastes()
    better = InteractionHyperparameters(**paper_ram_gnn_cold.LOOKS | paper_ram_gnn_cold.BARE | {
        "least_batch": 16, "epochs": 30, "learning_rate": 0.05, "patience": 0})  # fmt: skip
    worse = dataclasses.replace(better, learning_rate=1e-9)
    for given, tuned in (([worse, better], True), ([better, worse], False)):
        monkeypatch.setattr(paper_ram_gnn_cold, "settings_of", lambda _, given=given: given)
        scores, told = by_network(night, "MF-BPR", 1, {})
        assert told["tuned"] == tuned and scores.shape == (30, 20) and own_taste(night, scores) > 0.9
    assert own_taste(night, by_transe(night, 1)) > 0.9


def test_both_settings_stop_early_by_the_same_looks() -> None:
    for model, layers in (("RAM-GNN", 4), ("without pretraining", 4), ("MF-BPR", 0)):
        plain, tuned = settings_of(model)
        assert plain.layers == layers and plain.epochs == tuned.epochs == 120
        assert plain.validation_share == tuned.validation_share > 0


def test_the_nights_label_windows_do_not_overlap_and_their_clients_have_buyers() -> None:
    for shop, days in zip(SHOPS, (45, 2), strict=True):
        gaps = np.diff(np.array(shop.nights, "datetime64[D]")).astype(int)
        assert (gaps >= days).all()
    if not cold_users.SHARED_DATA.exists():
        pytest.skip("the shops' data is not there")
    shop = dataclasses.replace(SHOPS[1], nights=SHOPS[1].nights[-1:])
    night = night_of(shop, shop.nights[0])
    wanted = clients_of(shop)
    assert wanted and all(night.labels[client].sum() >= 10 for client in wanted)
    assert (night.n_events[night.cold] <= 3).all() and not set(night.following[0]) - set(night.cold)
