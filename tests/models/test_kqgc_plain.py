"""KQGC without a learned map: what it hands out are the vectors that it starts from and their messages."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from models.hyperparameters import _OF_KQGC_TRAINING, DEGREE_SHARE, HyperparameterError, KQGCHyperparameters
from models.kqgc import infer_kqgc
from tests.models import reference
from tests.models.contract import planted
from tests.models.test_kqgc import FAST, D, toy, trained


@pytest.mark.parametrize("aggregator", ["mean", "attention1"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_without_learning_vectors_are_their_own_and_the_messages_by_the_degrees_share(
    aggregator: str, share: float
) -> None:
    graph, edges, h, r = toy()
    hyper = KQGCHyperparameters(aggregator=aggregator, learned=False, degree_share=share)
    former = {name: np.full((D, D), 9.0, np.float32) for name in ("weights.0", "biases.0")}  # from when it learned
    found, relations = infer_kqgc(graph, h.astype(np.float32), r.astype(np.float32), former, hyper)
    messages = [reference.kqgc_message(edges, h, r, node, aggregator, "softmax", None) for node in range(8)]
    degrees = np.array([sum((head == node) + (tail == node) for head, _, tail in edges) for node in range(8)])
    np.testing.assert_allclose(found, h + np.array(messages) * degrees[:, None] ** share, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(relations, r, rtol=1e-6)


def test_attention2_without_learning_is_the_mean() -> None:
    graph, _, h, r = toy()
    found = [
        infer_kqgc(graph, h.astype(np.float32), r.astype(np.float32), {}, KQGCHyperparameters(
            aggregator=aggregator, degree_share=0))[0] for aggregator in ("mean", "attention2")]  # fmt: skip
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-6)


def test_without_learning_training_costs_nothing_and_leaves_the_identity() -> None:
    data = planted()
    former = trained(data, dataclasses.replace(FAST, epochs=1)).checkpoint()
    result = trained(data, dataclasses.replace(FAST, learned=False), initial=former)
    assert result.history == [] and result.best_epoch == -1
    np.testing.assert_array_equal(result.parameters["weights.0"], np.eye(16, dtype=np.float32))
    assert not result.parameters["biases.0"].any()


def test_a_degrees_share_with_learning_is_refused() -> None:
    with pytest.raises(HyperparameterError, match="degree_share"):
        KQGCHyperparameters(learned=True, degree_share=0.5)


def test_nothing_is_learned_by_default_and_the_degree_has_a_share_then_alone() -> None:
    plain, learned = KQGCHyperparameters(), KQGCHyperparameters(learned=True)
    assert (plain.learned, plain.share) == (False, DEGREE_SHARE) and DEGREE_SHARE > 0
    assert learned.share == 0 and KQGCHyperparameters(degree_share=0).share == 0
    assert plain.repeated and not learned.repeated and not KQGCHyperparameters(repeats=False).repeated
    graph, _, h, r = toy()
    found = [
        infer_kqgc(graph, h.astype(np.float32), r.astype(np.float32), {}, hyper)[0]
        for hyper in (plain, KQGCHyperparameters(degree_share=DEGREE_SHARE))]  # fmt: skip
    np.testing.assert_array_equal(*found)


def test_what_changes_nothing_without_learning_is_named() -> None:
    given = KQGCHyperparameters(epochs=3, fanout=5, layers=2, norm="l2", negatives=3, degree_share=0.0)
    (told,) = given.idle(["kqgc_mean"])
    assert told.startswith("Without effect: kqgc.fanout, kqgc.epochs. ") and "kqgc.learned: true" in told
    assert dataclasses.replace(given, learned=True).idle(["kqgc_mean", "kqgc_attention2"]) == []
    assert KQGCHyperparameters().idle(["kqgc_mean", "kqgc_attention1"]) == []
    (equal,) = KQGCHyperparameters().idle(["kqgc_attention2", "kqgc_mean"])
    assert equal.startswith("kqgc_attention2 is equal to kqgc_mean")


def test_every_setting_either_changes_the_vectors_or_is_named() -> None:
    """One that comes later must be put on one of the sides."""
    of_vectors = {
        "init", "aggregator", "attention_normalisation", "layers", "learned", "degree_share", "repeats", "norm",
        "device", "inference_chunk"}  # fmt: skip
    assert {field.name for field in dataclasses.fields(KQGCHyperparameters)} - of_vectors == set(_OF_KQGC_TRAINING)
