"""RAM-GNN's training: resume, warm start, early stopping, and the limit cases of attributes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from models import ram_gnn_training
from models.learning.epochs import load_parameters
from models.learning.training import SnapshotError
from models.ram_gnn import infer_ram_gnn
from models.ram_gnn_hyperparameters import RAMGNNHyperparameters
from models.ram_gnn_sampler import AttributeRows, nearest
from models.ram_gnn_training import RAMGNNResult, Side, SideTrainer, train_ram_gnn, vectors_of
from models.ram_gnn_warm_start import Places, brought_forward
from tests.models.contract import planted, same_taste_share
from tests.models.ram_gnn_worlds import side_of, side_of_planted
from tests.models.test_ram_gnn import _one_thread  # noqa: F401  (a fixture)

FAST = RAMGNNHyperparameters(
    dimension=8, mlp_width=4, epochs=8, evaluate_every=2, patience=0, min_epochs=0, validation_share=0.1
)
Z = np.zeros(0, np.int64)


def trained(sides: dict[str, Side], hyper: RAMGNNHyperparameters = FAST, **options: object) -> RAMGNNResult:
    return train_ram_gnn(sides, hyper, seed=3, deterministic=True, **options)


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[k], second[k], equal_nan=True) for k in first)


def stays(side: Side, **places: np.ndarray) -> Places:
    """Everything is where it was, but for what is given."""
    sizes = {"entities": side.rows.n_entities, "types": side.rows.n_types, "values": side.rows.n_values}
    return Places(**({name: np.arange(n) for name, n in sizes.items()} | places))


@pytest.fixture
def sides() -> dict[str, Side]:
    return {"item": side_of_planted(planted()), "user": side_of_planted(planted(seed=4, n_users=20))}


def test_a_killed_training_goes_on_to_the_same_end(sides: dict[str, Side], tmp_path: Path) -> None:
    whole = trained(sides)

    def stop(entry: dict[str, float]) -> None:
        if entry["epoch"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(sides, resume=tmp_path / "run", progress=stop)
    seen: list[float] = []
    again = trained(sides, resume=tmp_path / "run", progress=lambda entry: seen.append(entry["epoch"]))
    assert seen == [4, 5, 6, 7], "the last look was after epoch 3"
    assert same(whole.arrays, again.arrays) and whole.best_epoch == again.best_epoch
    told = [{k: v for k, v in e.items() if k != "seconds"} for r in (whole, again) for e in r.history]
    assert told[:8] == told[8:]


def test_another_training_does_not_go_on_from_it_and_a_changed_file_is_refused(
    sides: dict[str, Side], tmp_path: Path
) -> None:
    trained(sides, resume=tmp_path / "run")
    other = trained(sides, dataclasses.replace(FAST, negatives=2), resume=tmp_path / "run")
    assert len(other.history) == FAST.epochs and not same(other.arrays, trained(sides).arrays)
    damaged = bytearray((tmp_path / "run").read_bytes())
    damaged[-9] ^= 1
    (tmp_path / "run").write_bytes(bytes(damaged))
    with pytest.raises(SnapshotError, match="Delete the file"):
        trained(sides, dataclasses.replace(FAST, negatives=2), resume=tmp_path / "run")


def test_a_state_of_other_rows_keys_or_start_is_not_gone_on_from(sides: dict[str, Side], tmp_path: Path) -> None:
    side, places = sides["item"], {name: stays(side) for name, side in sides.items()}
    fewer = dataclasses.replace(side, rows=side.rows.kept(torch.arange(side.rows.n_rows) > 0))
    turned = dataclasses.replace(side, entity_keys=side.entity_keys[::-1].copy())
    starts = [
        brought_forward(trained(sides, dataclasses.replace(FAST, epochs=n)).arrays, sides, places, FAST, seed=3)
        for n in (1, 2)]
    cases = [({}, {}), ({"item": fewer}, {}), ({"item": turned}, {})] + [({}, {"initial": start}) for start in starts]
    seen: list[float] = []
    for number, (changed, more) in enumerate(cases, 1):
        for _ in range(2):
            trained(sides | changed, resume=tmp_path / "run", progress=lambda e: seen.append(e["epoch"]), **more)
        assert len(seen) == number * FAST.epochs, "from the beginning, and the second call had nothing left to do"


def test_a_state_that_was_held_against_other_rows_is_not_gone_on_from(
    sides: dict[str, Side], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a program that chose them otherwise: it learned from some of those that are held out now."""
    seen, held_out_rows = [], ram_gnn_training.held_out_rows
    for turn in (1, 2):
        trained(sides, resume=tmp_path / "run", progress=lambda e: seen.append(e["epoch"]))
        assert len(seen) == turn * FAST.epochs
        monkeypatch.setattr(
            ram_gnn_training, "held_out_rows", lambda rows, keys, hyper: held_out_rows(rows, ~keys, hyper))


def test_it_stops_when_held_out_rows_gain_no_more(sides: dict[str, Side]) -> None:
    hyper = dataclasses.replace(FAST, epochs=60, patience=2, min_gain=0.5, validation_share=0.15)
    result = trained(sides, hyper)
    looks = [entry for entry in result.history if "validation_accuracy" in entry]
    assert len(looks) == 3 and len(result.history) == 6, "the first look is a gain, two are none"
    accuracies = [entry["validation_accuracy"] for entry in looks]
    assert result.best_epoch == looks[int(np.argmax(accuracies))]["epoch"]


def test_looks_before_the_least_epochs_do_not_count_on_a_cold_start(sides: dict[str, Side]) -> None:
    hyper = dataclasses.replace(FAST, epochs=20, patience=1, min_gain=0.5, min_epochs=9, validation_share=0.15)
    first = trained(sides, hyper)
    assert [e["epoch"] for e in first.history if "validation_accuracy" in e][-1] == 11 and first.best_epoch >= 9
    places = {name: stays(side) for name, side in sides.items()}
    again = trained(sides, hyper, initial=brought_forward(first.arrays, sides, places, hyper, seed=3))
    assert len(again.history) == 4, "a gain, and none"


def test_held_out_rows_leave_an_entity_one_row_and_a_value_two_members(sides: dict[str, Side]) -> None:
    trainer = SideTrainer("item", sides["item"], dataclasses.replace(FAST, validation_share=0.5), seed=1)
    held, rows = trainer.held_out, sides["item"].rows
    assert 10 < int(held.sum()) < 0.5 * rows.n_rows
    assert trainer.rows.n_rows == int((~held).sum()), "nothing is learned from them"
    assert not trainer.rows.hold(rows.entities[held], rows.values[held]).any()
    assert torch.equal(torch.unique(rows.entities[held]), torch.unique(rows.entities[held][torch.isin(
        rows.entities[held], rows.entities[~held])]))
    assert (torch.bincount(rows.values[~held], minlength=rows.n_values)[rows.values[held]] >= 2).all()


def test_blocks_see_every_row_once_and_thresholds_look_at_all_of_them(
    sides: dict[str, Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = SideTrainer("item", sides["item"], dataclasses.replace(FAST, block=30), seed=1)
    seen: list[tuple[int, np.ndarray]] = []
    whole = trainer.losses

    def spy(rows: AttributeRows, *rest: object) -> tuple[torch.Tensor, int, np.ndarray]:
        found = whole(rows, *rest)
        seen.append((rows.n_rows, found[2]))
        return found

    monkeypatch.setattr(trainer, "losses", spy)
    trainer.epoch(0, lambda loss: None)
    assert len(seen) > 2 and sum(n for n, _ in seen) == trainer.rows.n_rows
    sums, counts = np.sum([averages for _, averages in seen], axis=0)
    np.testing.assert_allclose(trainer.bandit.before, sums / counts)


def test_a_warm_start_goes_on_from_everything_that_was_learned(sides: dict[str, Side]) -> None:
    first = trained(sides, dataclasses.replace(FAST, epochs=30))
    initial = brought_forward(first.arrays, sides, {name: stays(side) for name, side in sides.items()}, FAST, seed=3)
    for name, array in initial.items():
        np.testing.assert_array_equal(array, first.arrays[name], err_msg=name)
    second = trained(sides, dataclasses.replace(FAST, epochs=1), initial=initial)
    assert second.history[0]["loss"] < 0.9 * first.history[0]["loss"]
    starts = {k: v for k, v in first.arrays.items() if k.endswith(".thresholds")}
    moved = {k: np.abs(second.arrays[k] - v).max() for k, v in starts.items()}
    assert all(step <= FAST.threshold_step for step in moved.values()), "one step from the predecessor's at most"
    assert any((v != FAST.threshold).any() for v in starts.values())
    assert first.arrays["sampler.item.fixed"].all(), "thirty epochs are enough"
    np.testing.assert_array_equal(second.arrays["sampler.item.thresholds"], starts["sampler.item.thresholds"])


def test_a_warm_start_learns_at_its_share_of_the_rate(sides: dict[str, Side]) -> None:
    places = {name: stays(side) for name, side in sides.items()}
    initial = brought_forward(trained(sides).arrays, sides, places, FAST, seed=3)
    slow, plain, fast = (
        trained(sides, dataclasses.replace(FAST, learning_rate=rate, warm_rate_share=share), initial=initial).arrays
        for rate, share in ((0.5**6, 0.25), (0.5**8, 1.0), (0.5**6, 1.0)))
    assert same(slow, plain) and not same(slow, fast)


def test_the_vectors_handed_out_hear_the_held_out_rows_too(sides: dict[str, Side]) -> None:
    arrays = trained(sides).arrays
    model, rows = sides["item"].model(FAST, 3), sides["item"].rows
    load_parameters(model, {name.removeprefix("item."): array for name, array in arrays.items()})
    all_rows = nearest(rows, model.place(model.entities), torch.from_numpy(arrays["sampler.item.thresholds"]))
    found = vectors_of(sides, arrays, FAST)["item"]
    np.testing.assert_allclose(found, infer_ram_gnn(model, all_rows).numpy(), rtol=1e-5, atol=1e-6)


def test_newcomers_start_among_those_they_share_an_attribute_with() -> None:
    side = side_of(np.array([0, 1, 2, 3]), np.array([0, 0, 1, 2]), np.array([0, 0, 0]), 5)
    first = trained({"item": side})
    more = side_of(np.array([0, 1, 2, 3, 4, 5]), np.array([0, 0, 1, 2, 0, 3]), np.array([0, 0, 0, 0]), 7)
    places = Places(np.array([0, 1, 2, 3, -1, -1, -1]), np.array([0]), np.array([0, 1, 2, -1]))
    found = brought_forward(first.arrays, {"item": more}, {"item": places}, FAST, seed=3)
    e, v = found["item.entities"], found["item.values"]
    np.testing.assert_allclose(e[4], e[:2].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(v[3], v[:3].mean(axis=0), rtol=1e-5, err_msg="a value the predecessor does not know")
    cold = more.model(FAST, 3).entities.detach().numpy()
    np.testing.assert_array_equal(e[5:], cold[5:], err_msg="nobody shares anything with them")
    assert (found["optimiser.item.entities.exp_avg"][4:] == 0).all()
    assert np.isfinite(trained({"item": more}, initial=found).arrays["item.entities"]).all()


def test_a_type_that_disappears_and_one_that_is_new() -> None:
    side = side_of(np.arange(6) % 3, np.arange(6) % 4, np.array([0, 0, 1, 1]), 3)
    first = trained({"item": side}, dataclasses.replace(FAST, epochs=12, validation_share=0))
    other = side_of(np.arange(6) % 3, np.arange(6) % 4, np.array([0, 0, 1, 1]), 3)
    places = stays(other, types=np.array([1, -1]), values=np.array([2, 3, -1, -1]))  # the first type is gone
    found = brought_forward(first.arrays, {"item": other}, {"item": places}, FAST, seed=3)
    np.testing.assert_array_equal(found["item.types"][0], first.arrays["item.types"][1])
    np.testing.assert_array_equal(found["item.values"][:2], first.arrays["item.values"][2:])
    kept = first.arrays["sampler.item.thresholds"][1]
    assert found["sampler.item.thresholds"].tolist() == [kept, FAST.threshold]
    assert found["sampler.item.fixed"].tolist() == [bool(first.arrays["sampler.item.fixed"][1]), False]


def test_a_side_that_is_new_starts_cold_and_one_that_goes_is_left(sides: dict[str, Side]) -> None:
    first = trained({"item": sides["item"]})
    both = {name: stays(side) for name, side in sides.items()}
    found = brought_forward(first.arrays, sides, both, FAST, seed=3)
    assert len(trained(sides, initial=found).history) == FAST.epochs
    alone = brought_forward(first.arrays, {"user": sides["user"]}, both, FAST, seed=3)
    assert {name.split(".")[0] for name in alone} == {"user", "sampler"}


def test_other_hyperparameters_are_refused(sides: dict[str, Side]) -> None:
    first = trained(sides)
    places = {name: stays(side) for name, side in sides.items()}
    with pytest.raises(ValueError, match="expected \\(16,\\)"):
        brought_forward(first.arrays, sides, places, dataclasses.replace(FAST, dimension=16), seed=3)
    deeper = dataclasses.replace(FAST, mlp_width=5)
    with pytest.raises(ValueError, match="expected shape"):
        trained(sides, deeper, initial=brought_forward(first.arrays, sides, places, deeper, seed=3))


@pytest.mark.parametrize(
    ("case", "values"),
    [
        ("no attribute", None),
        ("one value for all", np.zeros(30, np.int64)),
        ("each its own value", np.arange(30)),
        ("90 % missing", np.arange(3) % 2),
    ],
)
def test_attributes_that_say_little(case: str, values: np.ndarray | None) -> None:
    values = Z if values is None else values
    side = side_of(np.arange(len(values)), values, np.zeros(int(values.max(initial=-1)) + 1, np.int64), 30)
    result = trained({"item": side})
    vectors = vectors_of({"item": side}, result.arrays, FAST)["item"]
    assert vectors.shape == (30, FAST.dimension) and np.isfinite(vectors).all()
    assert len(result.history) == (0 if case == "no attribute" else FAST.epochs)
    assert result.best_epoch >= 0 or case == "no attribute", "what was trained is kept"
    if case == "one value for all":
        assert not any("validation_accuracy" in entry for entry in result.history), "nobody lacks it"
    if case == "each its own value":
        assert {entry["loss"] for entry in result.history} == {0.0}, "nobody has a neighbour"


def test_small_blocks_and_candidates_learn_too() -> None:
    data = planted()
    sides = {"all": side_of_planted(data)}
    whole = RAMGNNHyperparameters(dimension=16, composition="add", epochs=40, validation_share=0)
    for hyper in (dataclasses.replace(whole, block=50), dataclasses.replace(whole, candidates=4)):
        result = train_ram_gnn(sides, hyper, seed=1, deterministic=True)
        users = vectors_of(sides, result.arrays, hyper)["all"][data.users]
        assert same_taste_share(users, data.tastes[data.users]) > 0.7
        assert not same(result.arrays, train_ram_gnn(sides, whole, seed=1, deterministic=True).arrays)
