"""KQGC's training: the paper's loss, masks, early stopping, warm starts, determinism."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from models import kqgc_training
from models.graph import KnowledgeGraph
from models.hyperparameters import KQGCHyperparameters
from models.kqgc import KQGC
from models.kqgc_training import train_kqgc
from models.shapes import ShapeError
from tests.models import reference
from tests.models.contract import planted
from tests.models.test_kqgc import FAST, D, _one_thread, graph_of, trained, vectors_of  # noqa: F401  (a fixture)


def test_training_computes_the_papers_loss_on_full_neighbourhoods() -> None:
    """One batch of all pairs with a fanout above every degree: the first epoch's loss is Eq. 12 at the start."""
    data = planted(n_users=8, n_items=6)
    entities, relations = vectors_of(data, dimension=D)
    users, items = data.purchases
    once = {"epochs": 1, "batch_size": 10_000, "fanout": 1000, "validation_share": 0}
    hyper = KQGCHyperparameters(learned=True, aggregator="attention2", negatives=2, **once)
    # one candidate: the negatives are known without knowing the draw
    result = train_kqgc(graph_of(data), entities, relations, (users, items), 0, data.items[:1], hyper, seed=4)
    model = KQGC(D, hyper, seed=4)
    edges = list(zip(data.heads.tolist(), data.relations.tolist(), data.tails.tolist(), strict=True))
    weight, a = model.weights[0].detach().numpy(), model.attentions[0].detach().numpy()
    h, r = reference.kqgc_layer(edges, entities.astype(float), relations.astype(float), weight, None, "attention2", a=a)
    pairs = list(zip(users.tolist(), items.tolist(), strict=True))
    negatives = [[int(data.items[0])] * 2] * len(pairs)
    expected = reference.kqgc_losses(h, r[0], pairs, negatives, hyper.margin, hyper.norm)
    assert result.history[0]["loss"] == pytest.approx(np.mean(expected), rel=1e-5)


def test_a_warm_start_goes_on_and_takes_every_parameter_and_the_optimiser() -> None:
    data = planted()
    hyper = dataclasses.replace(FAST, aggregator="attention2", layers=2, validation_share=0, epochs=3)
    first = trained(data, hyper)
    before = {name: values.copy() for name, values in first.checkpoint().items()}
    names = {"weights.0", "weights.1", "biases.0", "biases.1", "attentions.0", "attentions.1"}
    assert set(first.parameters) == names
    assert {name.rsplit(".", 1)[0].removeprefix("optimiser.") for name in set(first.checkpoint()) - names} == names
    still = trained(data, dataclasses.replace(hyper, epochs=1, learning_rate=1e-30), initial=first.checkpoint())
    for name in names:
        np.testing.assert_array_equal(still.parameters[name], first.parameters[name])
        assert still.optimiser[f"{name}.step"] == 4 / 3 * first.optimiser[f"{name}.step"]
    second = trained(data, hyper, initial=first.checkpoint())
    assert second.history[0]["loss"] < first.history[0]["loss"] - 0.02
    for name, values in first.checkpoint().items():
        np.testing.assert_array_equal(values, before[name], err_msg=f"training wrote into the caller's {name}")


@pytest.mark.parametrize("change", [{"aggregator": "mean"}, {"layers": 2}, {"bias": True}])
def test_a_checkpoint_of_another_shape_is_used_only_where_it_fits(change: dict[str, object]) -> None:
    data = planted(n_users=4, n_items=6)
    hyper = dataclasses.replace(FAST, aggregator="attention2", bias=False, epochs=1)
    checkpoint = trained(data, hyper).checkpoint()
    other = dataclasses.replace(hyper, **change)
    if other.aggregator == "mean":  # needs no more than is there
        assert trained(data, other, initial=checkpoint).history
    else:
        with pytest.raises(ValueError, match="is missing in the checkpoint; expected shape"):
            trained(data, other, initial=checkpoint)


def test_early_stopping_returns_the_best_epochs_parameters() -> None:
    data = planted(n_users=100)
    hyper = dataclasses.replace(FAST, epochs=60, learning_rate=0.05, patience=3)
    result = trained(data, hyper)
    losses = [entry["validation_loss"] for entry in result.history]
    assert result.best_epoch == int(np.argmin(losses)) and len(losses) == result.best_epoch + 4 < 60
    until_best = trained(data, dataclasses.replace(hyper, epochs=result.best_epoch + 1))
    for name, values in result.parameters.items():
        np.testing.assert_array_equal(values, until_best.parameters[name])


def test_held_out_pairs_are_looked_at_batch_by_batch_and_no_more_than_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is that of a batch, however many pairs there are; each look draws the same."""
    data, sizes, draw = planted(), [], kqgc_training._Trainer.batch

    def watched(self: object, users: np.ndarray, items: np.ndarray) -> object:
        sizes.append(users.size)
        return draw(self, users, items)

    monkeypatch.setattr(kqgc_training._Trainer, "batch", watched)
    hyper = dataclasses.replace(FAST, batch_size=16, epochs=2, validation_share=0.3, evaluate_pairs=40, patience=0)
    result = trained(data, hyper)
    pairs = len(data.purchases[0]) - 40
    epoch = [16] * (pairs // 16) + [pairs % 16] * (pairs % 16 > 0)
    assert sizes == [*epoch, 16, 16, 8] * 2
    still = trained(data, dataclasses.replace(hyper, learning_rate=1e-30, epochs=3))
    assert len({entry["validation_loss"] for entry in still.history}) == 1
    assert result.history[0]["validation_loss"] != result.history[1]["validation_loss"]


def test_gains_within_the_looks_noise_stop_the_training() -> None:
    """The error is that of pairs, and no gain below it, or below its share of the loss, counts."""
    data = planted(n_users=200)
    hyper = dataclasses.replace(FAST, epochs=40, learning_rate=0.003, patience=2, min_gain=0.0)
    history = trained(data, hyper).history
    reached, since = np.inf, 0
    for entry in history:
        assert 0 < entry["validation_loss_error"] < 0.2 and 0 < entry["validation_accuracy_error"] < 0.1
        gained = entry["validation_loss"] < reached - entry["validation_loss_error"]
        reached, since = (entry["validation_loss"], 0) if gained else (reached, since + 1)
    assert since == 2 and len(history) < 40
    losses = [entry["validation_loss"] for entry in history]
    assert min(losses[-3:]) < max(losses[-3:]), "it rose and fell within the noise"
    asked = trained(data, dataclasses.replace(hyper, min_gain=0.9)).history
    assert len(asked) == 3, "nothing gains 90 % twice"


def test_a_warm_start_keeps_the_look_that_gained_last() -> None:
    """Nothing gains 100 % on the first look: its parameters are kept, though later ones are a little better."""
    data = planted(n_users=200)
    first = trained(data, dataclasses.replace(FAST, epochs=2)).checkpoint()
    hyper = dataclasses.replace(FAST, epochs=6, patience=0, min_gain=1.0, learning_rate=0.003)
    warm, cold = trained(data, hyper, initial=first), trained(data, hyper)
    losses = [entry["validation_loss"] for entry in warm.history]
    assert warm.best_epoch == 0 and min(losses) < losses[0]
    assert cold.best_epoch == int(np.argmin([entry["validation_loss"] for entry in cold.history])) > 0


def test_a_masked_own_edge_carries_no_message() -> None:
    """One pair, one edge: masked, the two nodes have no neighbours, so the loss is that of bare vectors."""
    graph = KnowledgeGraph(np.array([0]), np.array([0]), np.array([1]), n_entities=3, n_relations=1)
    entities = np.random.default_rng(0).normal(size=(3, D)).astype(np.float32)
    relations = np.ones((1, D), dtype=np.float32)
    pair, losses = (np.array([0]), np.array([1])), {}
    for masked in (True, False):
        hyper = KQGCHyperparameters(learned=True, mask_own_edge=masked, epochs=1, validation_share=0, margin=50)
        result = train_kqgc(graph, entities, relations, pair, 0, np.array([2]), hyper, seed=0)
        losses[masked] = result.history[0]["loss"]
    weight = KQGC(D, hyper, seed=0).weights[0].detach().numpy()
    h0, r0 = entities.astype(float), relations.astype(float)
    for masked, edges in ((True, []), (False, [(0, 0, 1)])):
        h, r = reference.kqgc_layer(edges, h0, r0, weight, None, "mean")
        expected = np.mean(reference.kqgc_losses(h, r[0], [(0, 1)], [[2]], 50, "l1"))
        assert losses[masked] == pytest.approx(expected, rel=1e-5)


def test_deterministic_training_repeats_bit_by_bit_with_several_threads_at_work() -> None:
    torch.set_num_threads(4)
    rng = np.random.default_rng(0)
    n, edges = 3000, 30_000
    heads, tails = rng.integers(1000, size=edges), rng.integers(1000, n, size=edges)
    graph = KnowledgeGraph(heads, rng.integers(2, size=edges), tails, n_entities=n, n_relations=2)
    entities, relations = (rng.normal(size=(rows, 32)).astype(np.float32) for rows in (n, 2))
    ratio = {"aggregator": "attention2", "attention_normalisation": "ratio"}
    hyper = KQGCHyperparameters(learned=True, layers=2, epochs=2, batch_size=4096, **ratio)
    given = (graph, entities, relations, (heads, tails), 0, np.unique(tails), hyper)
    results = [train_kqgc(*given, seed=9, deterministic=True) for _ in range(2)]
    for name, values in results[0].checkpoint().items():
        np.testing.assert_array_equal(values, results[1].checkpoint()[name], err_msg=name)
    for entry in (entry for result in results for entry in result.history):
        del entry["seconds"]
    assert results[0].history == results[1].history


def test_a_capped_epoch_sees_so_many_batches() -> None:
    """A step of Adam per batch: its own count tells."""
    data = planted()
    hyper = dataclasses.replace(FAST, batch_size=10, epochs=2, max_batches_per_epoch=3, validation_share=0.0)
    result = trained(data, hyper)
    assert int(result.optimiser["weights.0.step"]) == 6


def test_without_pairs_nothing_is_learned_and_inference_works() -> None:
    data, none = planted(), np.empty(0, dtype=np.int64)
    result = train_kqgc(graph_of(data), *vectors_of(data), (none, none), 0, data.items, FAST, seed=1)
    assert result.history == [] and result.best_epoch == -1
    np.testing.assert_array_equal(result.parameters["weights.0"], KQGC(16, FAST, seed=1).weights[0].detach().numpy())


def test_arrays_that_do_not_fit_are_refused() -> None:
    data = planted()
    (entities, relations), graph = vectors_of(data), graph_of(data)
    with pytest.raises(ShapeError, match="entities has shape"):
        train_kqgc(graph, entities[1:], relations, data.purchases, 0, data.items, FAST, seed=0)
    with pytest.raises(ShapeError, match="item_candidates has values"):
        train_kqgc(graph, entities, relations, data.purchases, 0, data.items + 1000, FAST, seed=0)
