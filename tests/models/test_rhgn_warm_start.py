"""RHGN's warm starts: from the same shape of model, from other relations and types, and from what does not fit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from models.graph import KnowledgeGraph
from models.learning.epochs import parameters_of
from models.learning.training import from_bytes, to_bytes
from models.rhgn import RHGN, code_types, infer_rhgn
from models.rhgn_training import rearranged, train_rhgn
from tests.models.contract import planted
from tests.models.test_rhgn import FAST, _one_thread, graph_of, types_of_nodes  # noqa: F401  (a fixture)
from tests.models.test_rhgn_training import same, trained, two_labels


def test_a_warm_start_goes_on_and_takes_every_parameter_and_the_optimiser() -> None:
    data = planted()
    first = trained(data, dataclasses.replace(FAST, epochs=10))
    stored, _ = from_bytes(to_bytes(first.checkpoint()))
    still = trained(data, dataclasses.replace(FAST, epochs=1, learning_rate=1e-30), initial=stored)
    assert same(still.parameters, first.parameters)
    for name in first.parameters:
        assert still.optimiser[f"{name}.step"] == 1.1 * first.optimiser[f"{name}.step"]
    second = trained(data, dataclasses.replace(FAST, epochs=10), initial=stored)
    assert second.history[0]["loss"] < first.history[0]["loss"] / 2
    assert same(stored, first.checkpoint())


def test_learned_rows_go_on_with_what_their_optimiser_remembers() -> None:
    data = planted()
    learned = types_of_nodes(data) == 1
    first = trained(data, dataclasses.replace(FAST, epochs=10), learned=learned)
    moments = [f"optimiser.learned_rows.{name}" for name in ("exp_avg", "exp_avg_sq", "step")]
    stored, _ = from_bytes(to_bytes(first.checkpoint()))
    assert all(stored[name].any() for name in moments) and stored[moments[0]].shape == (learned.sum(), 12)
    hyper = dataclasses.replace(FAST, epochs=1, learning_rate=1e-12)
    again = trained(data, hyper, learned=learned, initial=stored, features=first.features)
    np.testing.assert_allclose(again.features, first.features, atol=1e-6)
    assert again.checkpoint()[moments[2]] == 1.1 * stored[moments[2]]
    anew = {name: values for name, values in stored.items() if name not in moments}
    fast = dataclasses.replace(FAST, epochs=1)
    found = [trained(data, fast, learned=learned, initial=one, features=first.features) for one in (stored, anew)]
    assert (found[0].features != found[1].features).any()
    fewer = learned & (np.arange(len(learned)) % 2 == 0)
    with pytest.raises(ValueError, match="learned_rows.exp_avg.*a row for each node that is learned"):
        trained(data, fast, learned=fewer, initial=stored)


def test_a_warm_start_goes_on_at_its_share_of_the_rate_and_a_cold_one_at_the_whole() -> None:
    data = planted()
    stored = trained(data, FAST).checkpoint()
    share = dataclasses.replace(FAST, epochs=2, warm_rate_share=0.25)
    whole = dataclasses.replace(share, learning_rate=FAST.learning_rate * 0.25, warm_rate_share=1.0)
    assert same(trained(data, share, initial=stored).checkpoint(), trained(data, whole, initial=stored).checkpoint())
    assert not same(trained(data, share).checkpoint(), trained(data, whole).checkpoint())


def test_a_checkpoint_is_rearranged_for_other_relations_and_types() -> None:
    """The same graph with relations and types numbered otherwise, and one of each more: the vectors are the same."""
    data = planted()
    hyper = dataclasses.replace(FAST, typed_projections=True)
    result, types, order = trained(data, hyper), types_of_nodes(data), np.array([2, 0])
    expected, _ = infer_rhgn(graph_of(data), types, result.features, result.parameters, hyper)
    graph = KnowledgeGraph(data.heads, order[data.relations], data.tails, n_entities=data.n_entities, n_relations=3)
    types = np.array([3, 0, 1])[types]
    fresh = parameters_of(RHGN(12, 4, np.zeros(6, int), [4, 2], hyper, seed=5))
    relations, own_types = np.array([1, -1, 0]), np.array([1, 2, -1, 0])
    checkpoint = rearranged(result.checkpoint(), fresh, relations, own_types)
    found, _ = infer_rhgn(graph, types, result.features, checkpoint, hyper)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(checkpoint["layers.1.w_msg"][[1, 4]], fresh["layers.1.w_msg"][[1, 4]])
    np.testing.assert_array_equal(checkpoint["input.bias"][2], fresh["input.bias"][2])
    remembered = checkpoint["optimiser.layers.1.w_msg.exp_avg"]
    assert not remembered[[1, 4]].any() and remembered[[3, 5]].any()
    given = (graph, types, result.features, data.users, two_labels(data), [4, 2], hyper)
    again = train_rhgn(*given, seed=0, n_types=4, initial=checkpoint, deterministic=True)
    assert again.history[0]["loss"] < result.history[0]["loss"] / 2


def test_maps_that_all_types_share_are_kept_when_there_is_one_type() -> None:
    graph, none = graph_of(planted(n_relations=1)), np.zeros(1, int)
    codes = code_types(graph, np.zeros(graph.n_entities, int))
    before, fresh = (parameters_of(RHGN(12, 1, codes, [2], FAST, seed)) for seed in (1, 2))
    assert same(rearranged(before, fresh, none, none), before)
    other = rearranged(before, fresh, none, none - 1)
    np.testing.assert_array_equal(other["input.weight"], fresh["input.weight"])
    np.testing.assert_array_equal(other["layers.0.key.weight"], before["layers.0.key.weight"])


@pytest.mark.parametrize("change", [{"layers": 3}, {"heads": 2}, {"width": 32}, {"typed_projections": True}])
def test_a_checkpoint_of_another_shape_is_refused(change: dict[str, object]) -> None:
    data, hyper = planted(n_users=4, n_items=6), dataclasses.replace(FAST, epochs=1)
    checkpoint = trained(data, hyper).checkpoint()
    with pytest.raises(ValueError, match="RHGN parameter .* in the checkpoint; expected shape"):
        trained(data, dataclasses.replace(hyper, **change), initial=checkpoint)
