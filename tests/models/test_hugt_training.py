"""HUGT's training: planted order is learned, pieces, batches, who is held out, kills, warm starts, ranks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from models.hugt import infer_hugt, states_of
from models.hugt_graph import Histories, events_within, item_vectors, nearest_known
from models.hugt_hyperparameters import HUGTHyperparameters
from models.hugt_ranking import by_length, figures, ranks_of
from models.hugt_training import World, _Trainer, held_out_users, pieces_of, train_hugt
from models.hugt_warm_start import brought_forward
from models.learning.determinism import deterministic_kernels
from models.learning.epochs import parameters_of
from models.learning.training import CheckpointError
from tests.models.contract import Fitted, ModelContract, Planted

USERS, ITEMS, LONGEST = 150, 40, 10
FAST = HUGTHyperparameters(
    width=16, epochs=6, batch_size=32, learning_rate=0.02, neighbours=4, svd_rank=8, dropout=0.1, patience=0)


def planted(users: int = USERS) -> Histories:
    """Everybody goes round a circle of items in steps of his own: the next item hangs on the last two."""
    random, items, lengths = np.random.default_rng(1), [], []
    for user in range(users):
        first, lengths = random.integers(ITEMS), [*lengths, int(random.integers(1, 25))]
        items += [(first + (1 + user % 3) * n) % ITEMS for n in range(lengths[-1])]
    return Histories(np.array(items), np.concatenate([[0], np.cumsum(lengths)]))


def world(users: int = USERS) -> World:
    histories = planted(users)
    return World(histories, ITEMS, LONGEST, item_vectors(histories, ITEMS, 8, 0))


def held_out() -> np.ndarray:
    return held_out_users(np.arange(USERS, dtype=np.uint64) * 7919, planted().lengths, 0.3, 0)


class TestHUGT(ModelContract):
    hyper = dataclasses.replace(FAST, epochs=12, batch_size=8, dropout=0.0)

    def world(self, data: Planted) -> World:
        """Each user's purchases in an order drawn once; items that nobody buys stand in no history."""
        users, items = data.purchases
        order = np.lexsort((np.random.default_rng(2).random(len(users)), users))
        histories = Histories.of(users[order], items[order] - data.n_users, data.n_users)
        return World(histories, data.n_items, LONGEST, item_vectors(histories, data.n_items, 8, 0))

    def fit(self, data: Planted, seed: int) -> Fitted:
        world = self.world(data)
        arrays = train_hugt(world, self.hyper, seed=seed, deterministic=True).arrays
        with deterministic_kernels(True):
            users, items = infer_hugt(world.model(self.hyper, seed), world.histories, world.vectors, arrays)
        entities = np.zeros((data.n_entities, self.hyper.dimension), np.float32)
        entities[data.users], entities[data.items] = users, items
        return Fitted(entities, np.zeros((data.n_relations, self.hyper.dimension), np.float32), arrays)

    def gradients(self, data: Planted) -> dict[str, np.ndarray]:
        hyper, nobody = dataclasses.replace(self.hyper, variant="se"), np.zeros(data.n_users, bool)
        world = self.world(data)
        trainer = _Trainer(world, world.model(hyper, 1), ~nobody, nobody, 1)
        inputs, targets = (world.histories.pieces(trainer.starts + a, trainer.ends - 1 + a) for a in (0, 1))
        trainer.loss(inputs, targets.items, np.random.default_rng(0)).backward()
        return {name: values.grad.numpy() for name, values in trainer.model.named_parameters()}


@pytest.mark.parametrize("change", [
    {}, {"variant": "se"}, {"sequence_heads": 4}, {"candidates": 20}, {"arrangement": "graph_first"}])
def test_planted_order_is_learned(change: dict[str, object]) -> None:
    hyper = dataclasses.replace(FAST, **change, epochs=10)
    result = train_hugt(world(), hyper, seed=1, held_out=held_out(), deterministic=True)
    assert result.history[-1]["loss"] < 0.6 * result.history[0]["loss"]
    best = result.history[result.best_epoch]
    assert best["validation_ndcg"] > 0.7 and best["validation_ndcg_error"] < 0.1
    assert figures(result.ranks)["ndcg"] == pytest.approx(best["validation_ndcg"]), "the best epoch's parameters"
    assert sum(row["users"] for row in by_length(result.ranks, result.lengths)) == held_out().sum()


def test_events_within_a_span_are_those_of_the_same_user_that_follow() -> None:
    times, offsets = np.array([5, 6, 9, 9, 30, 6, 9, 1, 0, 0]), np.array([0, 5, 5, 7, 8, 10])
    for span in (1, 3, 4, 100):
        expected = [
            sum(times[k] <= times[i] + span for k in range(i + 1, offsets[u + 1]))
            for u in range(5) for i in range(offsets[u], offsets[u + 1])]  # fmt: skip
        assert events_within(times, offsets, span).tolist() == expected
    assert events_within(times[:0], np.array([0, 0]), 1).shape == (0,)


def test_what_a_state_foretells_lies_ahead_of_it_and_all_of_it_comes_up() -> None:
    """Of as many events after it as are asked for, none beyond the piece's own history or what is held out; the next
    one where nothing else lies so near."""
    items, offsets = np.arange(12), np.array([0, 7, 12])
    ahead = np.array([3, 2, 9, 9, 9, 9, 0, 0, 0, 2, 9, 0])
    given = World(Histories(items, offsets), 12, 3, None, ahead)
    trainer = _Trainer(given, given.model(FAST, 1), np.ones(2, bool), np.array([True, False]), 1)
    random, seen = np.random.default_rng(0), {event: set() for event in range(12)}
    starts, ends = np.array([0, 2, 7]), np.array([3, 6, 12])
    for _ in range(200):
        for event, target in zip([0, 1, 2, 3, 4, 7, 8, 9, 10], trainer.foretold(starts, ends, random), strict=True):
            seen[event].add(int(target))
    assert [seen[k] for k in range(5)] == [{1, 2, 3}, {2, 3}, {3, 4, 5}, {4, 5}, {5}]
    assert [seen[k] for k in range(7, 11)] == [{8}, {9}, {10, 11}, {11}]


def test_a_horizon_of_one_event_learns_as_without() -> None:
    given = world()
    after = np.zeros(len(given.histories.items), np.int64)
    one, other = (train_hugt(what, dataclasses.replace(FAST, epochs=1), seed=1, deterministic=True).history[0]["loss"]
                  for what in (given, dataclasses.replace(given, ahead=after)))  # fmt: skip
    assert one == other


def test_what_is_held_out_teaches_nothing() -> None:
    """Another last event of those users changes no parameter, but what it was changes the figures."""
    given, out = world(), held_out()
    items = given.histories.items.copy()
    items[given.histories.offsets[1:][out] - 1] = 0
    other = dataclasses.replace(given, histories=Histories(items, given.histories.offsets))
    runs = [train_hugt(one, dataclasses.replace(FAST, epochs=2, validation_share=0.1), seed=1, held_out=out,
                       look=lambda _: {"validation_ndcg": 0.0, "validation_ndcg_error": 0.0}, deterministic=True)
            for one in (given, other)]  # fmt: skip
    for name, array in runs[0].arrays.items():
        np.testing.assert_array_equal(array, runs[1].arrays[name], err_msg=name)
    assert not np.array_equal(runs[0].ranks, runs[1].ranks)


def test_a_last_event_is_asked_of_the_state_before_it() -> None:
    given, out = world(), held_out()
    trainer = _Trainer(given, given.model(FAST, 1), np.ones(USERS, bool), out, 1)
    items, offsets = given.histories.items, given.histories.offsets
    lists = [items[offsets[user] : offsets[user + 1]] for user in np.flatnonzero(out)]
    known = np.array([len(one) - 1 for one in lists])
    users = np.repeat(np.arange(len(lists)), known)
    before = Histories.of(users, np.concatenate([one[:-1] for one in lists]), len(lists))
    states = states_of(trainer.model, before, given.vectors)
    ranks, lengths = trainer.ranks()
    np.testing.assert_array_equal(ranks, ranks_of(trainer.model, states, np.array([one[-1] for one in lists])))
    np.testing.assert_array_equal(lengths, known)


def test_a_user_who_is_not_taught_teaches_nothing() -> None:
    taught = np.arange(USERS) % 3 > 0
    given = world()
    kept = np.flatnonzero(taught)
    fewer = given.histories.pieces(given.histories.offsets[kept], given.histories.offsets[kept + 1])
    runs = [train_hugt(one, dataclasses.replace(FAST, epochs=1), seed=1, taught=who, deterministic=True)
            for one, who in ((given, taught), (dataclasses.replace(given, histories=fewer), None))]  # fmt: skip
    for name, array in runs[0].arrays.items():
        np.testing.assert_array_equal(array, runs[1].arrays[name], err_msg=name)


def test_equal_seeds_give_equal_bits_and_others_do_not() -> None:
    hyper = dataclasses.replace(FAST, epochs=1)
    runs = [train_hugt(world(), hyper, seed=seed, deterministic=True) for seed in (1, 1, 2)]
    assert all(np.array_equal(array, runs[1].arrays[name]) for name, array in runs[0].arrays.items())
    assert not np.array_equal(runs[0].arrays["items"], runs[2].arrays["items"])


def test_a_killed_training_goes_on_and_another_ones_state_is_ignored(tmp_path: Path) -> None:
    def killed(entry: dict[str, float]) -> None:
        if entry["epoch"] == 3:
            raise KeyboardInterrupt

    hyper, path = dataclasses.replace(FAST, epochs=5), tmp_path / "state.safetensors"
    given = {"seed": 1, "held_out": held_out(), "deterministic": True}
    whole = train_hugt(world(), hyper, **given)
    with pytest.raises(KeyboardInterrupt):
        train_hugt(world(), hyper, **given, resume=path, progress=killed)
    seen: list[float] = []
    again = train_hugt(world(), hyper, **given, resume=path, progress=lambda entry: seen.append(entry["epoch"]))
    assert seen == [3, 4]
    assert all(np.array_equal(array, again.arrays[name]) for name, array in whole.arrays.items())
    train_hugt(world(), hyper, **given | {"seed": 2}, resume=path, progress=lambda entry: seen.append(entry["epoch"]))
    assert seen[2:] == [0, 1, 2, 3, 4]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="state.safetensors"):
        train_hugt(world(), hyper, **given | {"seed": 2}, resume=path)


def test_a_snapshot_of_another_training_is_no_start(tmp_path: Path) -> None:
    """Each differs from the one before in one part alone."""
    given, hyper, said = world(), dataclasses.replace(FAST, epochs=1), {"seed": 1, "deterministic": True}
    path, taught = tmp_path / "state.safetensors", np.arange(USERS) % 3 > 0
    initial = train_hugt(given, hyper, seed=1).arrays
    other = dataclasses.replace(given, vectors=-given.vectors)
    for change in ({}, {"held_out": held_out()}, {"taught": taught}, {"seed": 2}, {"initial": initial},
                   {"deterministic": False}, {"hyper": dataclasses.replace(hyper, dropout=0.0)}, {"world": other}):
        said |= change
        seen: list[float] = []
        for _ in range(2):
            train_hugt(**{"world": given, "hyper": hyper} | said, resume=path,
                       progress=lambda entry: seen.append(entry["epoch"]))  # noqa: B023
        assert seen == [0], f"it begins anew with other {[*change]}, and once"


def test_users_of_one_event_or_none_teach_nothing() -> None:
    lonely = Histories(np.array([3, 5]), np.array([0, 1, 1, 2]))
    result = train_hugt(World(lonely, ITEMS, LONGEST, item_vectors(lonely, ITEMS, 4, 0)), FAST, seed=1)
    assert result.history == [] and result.best_epoch == -1 and len(result.ranks) == 0
    assert not held_out_users(np.arange(3, dtype=np.uint64), np.array([1, 0, 2]), 0.5, 0).any()
    everyone = held_out_users(np.arange(4, dtype=np.uint64), np.array([1, 0, 2, 3]), 1.0, 0)
    assert everyone.tolist() == [False, False, False, True], "who is held out has two events left to learn from"


@pytest.mark.parametrize("longest", [1, 4, 30])
def test_pieces_learn_every_event_after_the_first_once(longest: int) -> None:
    starts, ends = np.array([0, 7, 9]), np.array([7, 9, 60])
    for seed in range(5):
        pieces = pieces_of(starts, ends, longest, np.random.default_rng(seed))
        learned = sorted(place for a, b in zip(*pieces, strict=True) for place in range(a + 1, b))
        assert learned == [place for a, b in zip(starts, ends, strict=True) for place in range(a + 1, b)]
        assert max(b - a for a, b in zip(*pieces, strict=True)) <= longest + 1
    cuts = {tuple(pieces_of(starts, ends, 20, np.random.default_rng(seed))[0].tolist()) for seed in range(9)}
    assert len(cuts) > 3, "where a long history is cut is drawn"


def test_who_is_held_out_hangs_on_the_user_alone() -> None:
    keys, lengths = np.random.default_rng(0).integers(1 << 62, size=500).astype(np.uint64), np.full(500, 5)
    chosen = held_out_users(keys, lengths, 0.2, 3)
    assert 60 < chosen.sum() < 140
    order = np.random.default_rng(1).permutation(500)
    np.testing.assert_array_equal(held_out_users(keys[order], lengths, 0.2, 3), chosen[order])


def test_ranks_are_those_of_a_sorted_list() -> None:
    model = world().model(FAST, 3)
    model.biases.data[:5] = 1.0
    states, targets = np.zeros((3, FAST.width), np.float32), np.array([7, 2, 0])
    assert ranks_of(model, states, targets).tolist() == [5 + 18, 3, 3]  # among equal ones the middle
    seen = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 2, 39])  # his own target is a candidate all the same
    assert ranks_of(model, states, targets, seen).tolist() == [3 + 18, 2.5, 3]
    found = figures(np.array([1.0, 3.0, 11.0, 10.0]))
    assert found["hr"] == 0.75 and found["ndcg"] == pytest.approx((1 + 0.5 + 1 / np.log2(11)) / 4)


def test_figures_by_length_name_their_users() -> None:
    rows = by_length(np.array([1.0, 20.0, 1.0]), np.array([1, 4, 250]))
    assert [(row["from"], row["to"], row["users"], row["hr"]) for row in rows] == [
        (1, 1, 1, 1.0), (2, 4, 1, 0.0), (100, 0, 1, 1.0)]


def test_item_vectors_are_the_svds() -> None:
    histories = planted()
    touched = np.zeros((USERS, ITEMS))
    touched[np.repeat(np.arange(USERS), histories.lengths), histories.items] = 1
    exact = np.linalg.svd(touched, full_matrices=False)[2][:8].T
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    found = item_vectors(histories, ITEMS + 1, 8, 0)
    np.testing.assert_allclose((found @ found.T)[:ITEMS, :ITEMS], exact @ exact.T, atol=0.05)
    assert not found[ITEMS].any(), "nobody touched it"
    assert item_vectors(histories.pieces(np.array([0]), np.array([2])), ITEMS, 8, 0).shape == (ITEMS, 8)
    assert not item_vectors(Histories(np.zeros(0, np.int64), np.zeros(3, np.int64)), ITEMS, 8, 0).any()


def test_a_new_item_begins_with_the_mean_of_its_nearest() -> None:
    given = world()
    former = train_hugt(given, dataclasses.replace(FAST, epochs=1), seed=1).arrays
    vectors = np.zeros((ITEMS + 2, 8), np.float32)
    vectors[: ITEMS + 1] = np.random.default_rng(0).normal(size=(ITEMS + 1, 8))
    places = np.append(np.arange(ITEMS)[::-1], [-1, -1])  # the last is near to nobody
    longer = dataclasses.replace(given, n_items=ITEMS + 2, max_length=LONGEST + 5)
    fresh = parameters_of(longer.model(FAST, 2))
    found = brought_forward(former, fresh, places, vectors)
    np.testing.assert_array_equal(found["items"][:ITEMS], former["items"][::-1])
    near = nearest_known(vectors, places >= 0, np.array([ITEMS]), 10)[0]
    assert np.all(np.diff(vectors[near] @ vectors[ITEMS]) <= 0)
    for name in ("items", "biases"):
        np.testing.assert_allclose(found[name][ITEMS], found[name][near].mean(axis=0), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(found[name][-1], former[name].mean(axis=0), rtol=1e-4, atol=1e-6)
    assert not found["optimiser.items.exp_avg"][ITEMS:].any() and found["optimiser.items.step"] > 0
    psi = found["blocks.0.psi"]
    assert psi.shape == (2, LONGEST + 5) and (psi[:, LONGEST:] == psi[:, LONGEST - 1 : LONGEST]).all()
    in_place = brought_forward(former, fresh, np.append(np.arange(ITEMS), [-1, -1]), vectors)
    cold, warm = (train_hugt(longer, dataclasses.replace(FAST, epochs=1), seed=2, initial=initial)
                  for initial in (None, in_place))  # fmt: skip
    assert warm.history[0]["loss"] < cold.history[0]["loss"] - 0.1
    shorter = brought_forward(former, parameters_of(dataclasses.replace(given, max_length=4).model(FAST, 2)),
                              np.arange(ITEMS), vectors[:ITEMS])  # fmt: skip
    np.testing.assert_array_equal(shorter["blocks.1.psi"], former["blocks.1.psi"][:, :4])
    with pytest.raises(ValueError, match="of no parameter"):
        brought_forward(former, parameters_of(longer.model(dataclasses.replace(FAST, layers=1), 1)), places, vectors)


def test_a_warm_start_learns_at_its_share_of_the_rate_and_decay_has_a_part() -> None:
    given, once = world(), dataclasses.replace(FAST, epochs=1)
    former = train_hugt(given, once, seed=1).arrays
    runs = (
        train_hugt(given, dataclasses.replace(once, **change), seed=2, initial=former, deterministic=True)
        for change in ({"warm_rate_share": 0.5}, {"warm_rate_share": 1, "learning_rate": FAST.learning_rate / 2},
                       {"warm_rate_share": 1}, {"warm_rate_share": 1, "weight_decay": 0.5}))  # fmt: skip
    half, slow, whole, decayed = (run.arrays["items"] for run in runs)
    np.testing.assert_array_equal(half, slow)
    assert not np.array_equal(half, whole) and np.linalg.norm(decayed) < 0.99 * np.linalg.norm(whole)


@pytest.mark.parametrize(("warm", "best"), [(False, 3), (True, 1)])
def test_it_stops_by_its_own_settings(warm: bool, best: int) -> None:
    """A look that gains less than min_gain is none; on a warm start the last that gained is kept."""
    shown = iter([0.5, 0.8, 0.801, 0.802, 0.803])
    hyper = dataclasses.replace(FAST, epochs=5, patience=2, min_gain=0.1, evaluate_users=5)
    initial = train_hugt(world(), dataclasses.replace(FAST, epochs=1), seed=1).arrays if warm else None
    found = train_hugt(world(), hyper, seed=1, held_out=held_out(), initial=initial, look=lambda _: {
        "validation_ndcg": next(shown), "validation_ndcg_error": 0.0})  # fmt: skip
    assert len(found.history) == 4 and found.best_epoch == best and len(found.ranks) == 5


def test_every_epoch_has_batches_of_its_own() -> None:
    held = np.zeros(USERS, bool)
    trainer = _Trainer(world(), world().model(FAST, 1), ~held, held, 1)
    seen, loss = [], trainer.loss
    trainer.loss = lambda inputs, *rest: seen.append(inputs.items.tolist()) or loss(inputs, *rest)
    ends = [trainer.epoch(number) and len(seen) for number in (0, 1, 0)]
    first, second, again = seen[: ends[0]], seen[ends[0] : ends[1]], seen[ends[1] :]
    assert first == again and first != second


def test_the_padded_engine_learns_as_the_compiled_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    hyper = dataclasses.replace(FAST, epochs=1, dropout=0.0, variant="se")
    losses = [train_hugt(world(), hyper, seed=1).history[0]["loss"]]
    monkeypatch.setattr("models.hugt.engine_of", lambda _: "torch")
    losses.append(train_hugt(world(), hyper, seed=1).history[0]["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
