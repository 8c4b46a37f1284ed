"""What users had last beside their vectors: against loops, what is left out, and that it tells what comes next."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from models.hyperparameter_checks import HyperparameterError
from models.ram_gnn_hyperparameters import InteractionHyperparameters
from models.ram_gnn_interactions import InteractionNetwork, Pairs, infer_interactions
from models.ram_gnn_interactions_training import InteractionTrainer, held_out_pairs, histories_of, train_interactions
from models.ram_gnn_recent import Histories, latest_times
from models.shapes import ShapeError
from tests.models import reference_ram_gnn as slow
from tests.models.test_ram_gnn import _one_thread  # noqa: F401  (a fixture)
from tests.models.test_ram_gnn_interactions import pretrained

N_USERS, N_ITEMS, D = 7, 9, 3
HYPER = InteractionHyperparameters(recent=3, recent_half_life=2.0, recent_weight=1.5)


def some_pairs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users 0 to 5 with up to eight items each, several at a time; user 6 and item 8 have nothing."""
    rng = np.random.default_rng(3)
    keys = np.sort(rng.permutation((N_USERS - 1) * (N_ITEMS - 1))[:30])
    return keys // (N_ITEMS - 1), keys % (N_ITEMS - 1), rng.integers(4, size=30) * 1000


def by_loop(x: np.ndarray, mine: list[tuple[int, int]], hyper: InteractionHyperparameters) -> np.ndarray:
    """The weighted mean of the (time, item) that somebody had, the last ones alone."""
    if not mine:
        return np.zeros(x.shape[1])
    moments = sorted({time for time, _ in mine}, reverse=True)
    last = sorted(mine)[-hyper.recent:]
    weights = [0.5 ** (moments.index(time) / hyper.recent_half_life) for time, _ in last]
    total = sum(w * x[item] for w, (_, item) in zip(weights, last, strict=True))
    return hyper.recent_weight * total / sum(weights)


def vectors(n: int = N_ITEMS) -> torch.Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("last", [1, 3, 20])
def test_it_is_the_mean_of_what_came_before_by_halving_weights(last: int) -> None:
    users, items, times = some_pairs()
    hyper, x = dataclasses.replace(HYPER, recent=last), vectors()
    histories, places = Histories.of(users, items, times, N_USERS, hyper)
    had = {u: [(int(t), int(i)) for v, i, t in zip(users, items, times, strict=True) if v == u]
           for u in range(N_USERS)}  # fmt: skip
    now = histories.latest(x).numpy()
    np.testing.assert_allclose(now, [by_loop(x.numpy(), had[u], hyper) for u in range(N_USERS)], atol=1e-12)
    assert not now[6].any(), "nobody had nothing"
    chosen = np.random.default_rng(1).permutation(len(users))[:20]
    found = histories.before(x, torch.from_numpy(users[chosen]), torch.from_numpy(places[chosen])).numpy()
    expected = [by_loop(x.numpy(), [one for one in had[users[p]] if one[0] < times[p]], hyper) for p in chosen]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert any(not e.any() for e in expected) and any(e.any() for e in expected), "firsts and others"


def test_the_order_of_the_pairs_is_of_no_account_and_nothing_from_the_moment_on_is_read() -> None:
    users, items, times = some_pairs()
    x, order = vectors(), np.random.default_rng(2).permutation(len(users))
    whole, places = Histories.of(users, items, times, N_USERS, HYPER)
    mixed, elsewhere = Histories.of(users[order], items[order], times[order], N_USERS, HYPER)
    assert torch.equal(whole.latest(x), mixed.latest(x))
    at = np.argsort(order)
    asked = torch.from_numpy(users)
    before = whole.before(x, asked, torch.from_numpy(places))
    assert torch.equal(before, mixed.before(x, asked, torch.from_numpy(elsewhere[at])))
    first = int(np.flatnonzero(times == 1000)[0])
    later = (users == users[first]) & (times >= 1000)
    other = np.where(later, (items + 4) % N_ITEMS, items)
    changed, there = Histories.of(users, other, times, N_USERS, HYPER)
    found = changed.before(x, asked[[first]], torch.from_numpy(there[[first]]))
    assert later.sum() > 1 and torch.equal(found, before[[first]])


def test_a_pair_that_comes_again_counts_where_it_was_last() -> None:
    users, items, times = latest_times(np.array([1, 0, 1, 1]), np.array([2, 0, 2, 1]), np.array([7, 5, 9, 8]), 3)
    assert (users.tolist(), items.tolist(), times.tolist()) == ([0, 1, 1], [0, 1, 2], [5, 8, 9])


def sides() -> tuple:
    return pretrained(N_USERS, [], [], d=4, seed=2), pretrained(N_ITEMS, [], [], d=4, seed=1)


def test_the_loss_of_a_batch_is_of_users_with_what_they_had_before() -> None:
    users, items, times = some_pairs()
    hyper = dataclasses.replace(HYPER, layers=1, decay=0, validation_share=0)
    everybody = np.ones(N_USERS, bool)
    trainer = InteractionTrainer(*sides(), (users, items), everybody, hyper, 1, None, times)
    x_u, x_i = (x.detach().double().numpy() for x in trainer.network(trainer.pairs))
    others = torch.full((len(users), 1), 8)
    terms = trainer.loss(trainer.users, trainer.items, others, trainer.places)[1]
    expected = []
    for p, (u, i) in enumerate(zip(users, items, strict=True)):
        had = [(int(t), int(j)) for v, j, t in zip(users, items, times, strict=True) if v == u and t < times[p]]
        mine = x_u[u] + by_loop(x_i, had, hyper)
        expected.append(slow.bpr(slow.dot(mine, x_i[i]), [slow.dot(mine, x_i[8])]))
    assert float(terms.detach()) == pytest.approx(np.mean(expected), rel=1e-5)


def test_what_is_published_and_what_stops_training_know_what_everybody_had_last() -> None:
    users, items, times = some_pairs()
    hyper = dataclasses.replace(HYPER, layers=1, validation_share=0.5)
    trainer = InteractionTrainer(*sides(), (users, items), np.ones(N_USERS, bool), hyper, 1, None, times)
    for u, i in zip(*trainer.held_out, strict=True):
        mine = users == u
        assert times[mine & (items == i)] == times[mine].max(), "one of the latest is held out"
    kept = ~np.isin(users * N_ITEMS + items, trainer.held_out[0] * N_ITEMS + trainer.held_out[1])
    given = users[kept], items[kept]
    histories, _ = histories_of(*given, times[kept], N_USERS, hyper)
    network, pairs = InteractionNetwork(*sides(), hyper), Pairs.of(*given, N_USERS, N_ITEMS)
    x_u, x_i = infer_interactions(network, pairs, histories)
    plain, same = infer_interactions(network, pairs)
    np.testing.assert_array_equal(x_i, same)
    had = [[(int(t), int(j)) for v, j, t in zip(*given, times[kept], strict=True) if v == u] for u in range(N_USERS)]
    np.testing.assert_allclose(x_u - plain, [by_loop(x_i, mine, hyper) for mine in had], atol=1e-6)
    ranks = []
    for u, i in zip(*trainer.held_out, strict=True):
        scores = x_i @ x_u[u]
        rivals = np.setdiff1d(np.arange(N_ITEMS), [*given[1][given[0] == u], i])
        ranks.append(1 + (scores[rivals] > scores[i]).sum())
    assert trainer.ranks().tolist() == ranks


def test_without_times_any_pair_is_held_out_and_with_them_one_of_the_latest_by_the_seed() -> None:
    users, times = np.repeat(np.arange(100), 4), np.tile([3, 9, 9, 1], 100)
    hyper = dataclasses.replace(HYPER, validation_share=0.5)
    given = users, np.tile(np.arange(4), 100), (np.arange(100, dtype=np.uint64), np.arange(4, dtype=np.uint64)), hyper
    held = [np.flatnonzero(held_out_pairs(*given, seed, times)) % 4 for seed in (1, 1, 2)]
    assert set(held[0].tolist()) == {1, 2} and (held[0] == held[1]).all() and (held[0] != held[2]).any()
    assert set((np.flatnonzero(held_out_pairs(*given, 1)) % 4).tolist()) == {0, 1, 2, 3}


def test_it_learns_what_comes_next() -> None:
    """Every user goes along a ring of items from a place of his own: who knows the last one knows the next."""
    n, length = 40, 6
    start = np.arange(n)
    users = np.repeat(start, length)
    times = np.tile(np.arange(length), n)
    items = (users + times) % n
    hyper = InteractionHyperparameters(
        layers=0, transforms=False, epochs=60, batches=4, least_batch=1, learning_rate=0.05, validation_share=0.0)
    hits = {}
    for last in (0, 1):
        mine = dataclasses.replace(hyper, recent=last, recent_weight=2.0)
        given = pretrained(n, [], [], d=16, seed=2), pretrained(n, [], [], d=16, seed=1)
        arrays = train_interactions(*given, (users, items), mine, seed=1, times=times, deterministic=True).arrays
        network = InteractionNetwork(*given, mine)
        network.load_state_dict({k: torch.from_numpy(v) for k, v in arrays.items() if k in network.state_dict()})
        histories, _ = histories_of(users, items, times, n, mine)
        x_u, x_i = infer_interactions(network, Pairs.of(users, items, n, n), histories)
        scores = x_u @ x_i.T
        scores[users, items] = -np.inf
        hits[last] = (scores.argmax(axis=1) == (start + length) % n).mean()
    assert hits[1] > 0.9 and hits[0] < 0.6, hits


def test_times_are_asked_for_and_make_another_run(tmp_path: Path) -> None:
    users, items, times = some_pairs()
    hyper = dataclasses.replace(HYPER, epochs=2, layers=1)
    with pytest.raises(ValueError, match="recent is 3, which asks for the times of the pairs"):
        train_interactions(*sides(), (users, items), hyper, seed=1)
    with pytest.raises(ShapeError, match="times has shape"):
        train_interactions(*sides(), (users, items), hyper, seed=1, times=times[1:])
    seen: list[float] = []
    for moments, expected in ((times, [0, 1]), (times, []), (times[::-1].copy(), [0, 1])):
        seen.clear()
        train_interactions(
            *sides(), (users, items), hyper, seed=1, times=moments, resume=tmp_path / "run",
            progress=lambda entry: seen.append(entry["epoch"]))  # fmt: skip
        assert seen == expected


@pytest.mark.parametrize("wrong", [{"recent": -1}, {"recent_half_life": 0}, {"recent_weight": 0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(HyperparameterError, match=next(iter(wrong))):
        dataclasses.replace(HYPER, **wrong)
