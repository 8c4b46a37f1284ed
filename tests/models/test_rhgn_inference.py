"""RHGN's exact inference: in chunks, with the attention that comes out of it, and what it refuses."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from models.graph import KnowledgeGraph
from models.hyperparameters import RHGNHyperparameters
from models.rhgn import RHGN, infer_rhgn
from models.rhgn_training import train_rhgn
from models.shapes import ShapeError
from tests.models.test_rhgn import FAST, TOY, TYPES, _one_thread, by_loops, random_model, toy  # noqa: F401  (a fixture)


def fitted_toy(hyper: RHGNHyperparameters, n_classes: tuple[int, ...] = (2, 3)) -> tuple[RHGN, dict[str, np.ndarray]]:
    model = random_model(toy()[0], hyper, n_classes=n_classes)
    return model, {name: values.detach().float().numpy() for name, values in model.named_parameters()}


@pytest.mark.parametrize("softmax_over", ["all", "relation"])
@pytest.mark.parametrize("typed", [False, True])
def test_inference_in_chunks_is_the_papers_equations(typed: bool, softmax_over: str) -> None:
    graph, edges, x = toy()
    hyper = dataclasses.replace(TOY, softmax_over=softmax_over, typed_projections=typed)
    model, parameters = fitted_toy(hyper)
    expected = np.array(by_loops(model, edges, x)[0])
    for chunk in (1, 3, 1000):
        in_chunks = dataclasses.replace(hyper, inference_chunk=chunk)
        vectors, attention = infer_rhgn(graph, TYPES, x.astype(np.float32), parameters, in_chunks)
        assert vectors.dtype == np.float32 and attention.nodes.size == 0
        np.testing.assert_allclose(vectors, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("softmax_over", ["all", "relation"])
def test_attention_comes_out_as_a_table_of_the_heaviest(softmax_over: str) -> None:
    graph, edges, x = toy()
    hyper = dataclasses.replace(TOY, softmax_over=softmax_over, inference_chunk=3)
    model, parameters = fitted_toy(hyper)
    weights = by_loops(model, edges, x)[1]
    features, wanted = x.astype(np.float32), np.array([4, 0, 7])
    _, table = infer_rhgn(graph, TYPES, features, parameters, hyper, attention_of=wanted)
    assert table.nodes.tolist() == sorted(table.nodes) and set(table.nodes) == {0, 4}  # node 7 hears nobody
    for node in (0, 4):
        of_node = table.nodes == node
        messages = zip(table.neighbours[of_node].tolist(), table.codes[of_node].tolist(), strict=True)
        found = dict(zip(messages, table.weights[of_node], strict=True))
        assert found == pytest.approx({message: np.mean(α) for message, α in weights[node].items()}, rel=1e-3)
        assert table.weights[of_node].sum() == pytest.approx(1, rel=1e-5)
        assert (np.diff(table.weights[of_node]) <= 0).all()
        assert table.ranks[of_node].tolist() == list(range(of_node.sum()))
    _, cut = infer_rhgn(graph, TYPES, features, parameters, hyper, attention_of=wanted, attention_rows=2)
    assert cut.nodes.tolist() == [0, 0, 4, 4]
    np.testing.assert_array_equal(cut.weights, table.weights[table.ranks < 2])
    each = np.full(8, 1)
    each[4] = 99
    _, cut = infer_rhgn(graph, TYPES, features, parameters, hyper, attention_of=wanted, attention_rows=each)
    assert cut.nodes.tolist() == [0] + [4] * (table.nodes == 4).sum()
    np.testing.assert_array_equal(cut.weights, table.weights[(table.nodes == 4) | (table.ranks == 0)])


def test_a_user_with_a_hundred_thousand_neighbours() -> None:
    """One node exceeds a chunk of messages: all items are alike, so its vector is that of a user with one neighbour."""
    n = 100_000
    heads, tails = np.concatenate([np.zeros(n, int), [1]]), np.concatenate([np.arange(2, n + 2), [2]])
    graph = KnowledgeGraph(heads, np.zeros(n + 1, int), tails, n_entities=n + 2, n_relations=1)
    types = np.repeat([0, 1], [2, n])
    features = np.ones((n + 2, 3), np.float32)
    hyper = dataclasses.replace(FAST, layers=1, epochs=1)
    result = train_rhgn(graph, types, features, np.array([0, 1]), np.array([[0], [1]]), [2], hyper, seed=0)
    given = (graph, types, features, result.parameters, hyper)
    vectors, table = infer_rhgn(*given, attention_of=np.array([0]), attention_rows=3)
    np.testing.assert_allclose(vectors[0], vectors[1], rtol=1e-4, atol=1e-5)
    assert table.neighbours.tolist() == [2, 3, 4]
    np.testing.assert_allclose(table.weights, 1e-5, rtol=1e-3)


def test_arrays_that_do_not_fit_are_refused() -> None:
    graph, _, x = toy()
    features, (_, parameters) = x.astype(np.float32), fitted_toy(TOY)
    with pytest.raises(ShapeError, match="node_types has shape"):
        infer_rhgn(graph, TYPES[1:], features, parameters, TOY)
    with pytest.raises(ShapeError, match="float64"):
        infer_rhgn(graph, TYPES, x, parameters, TOY)
    with pytest.raises(ShapeError, match="attention_of has values"):
        infer_rhgn(graph, TYPES, features, parameters, TOY, attention_of=np.array([8]))
    with pytest.raises(ShapeError, match="attention_rows has shape"):
        infer_rhgn(graph, TYPES, features, parameters, TOY, attention_rows=np.full(7, 3))
    with pytest.raises(ShapeError, match="features has numbers that are not finite; fill"):
        infer_rhgn(graph, TYPES, np.where(features > 1, np.nan, features).astype(np.float32), parameters, TOY)
    with pytest.raises(ValueError, match="layers.0.w_att.*expected shape"):
        one_less = {**parameters, "layers.0.w_att": parameters["layers.0.w_att"][1:]}
        infer_rhgn(graph, TYPES, features, one_less, TOY)
