"""RHGN: every equation against loops written from the paper, and the contract."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from models.graph import KnowledgeGraph
from models.hyperparameters import HyperparameterError, RHGNHyperparameters
from models.messages.meta_relations import MetaRelations
from models.rhgn import RHGN, code_types, filled_features, infer_rhgn
from models.rhgn_classifiers import class_probabilities
from models.rhgn_training import train_rhgn
from models.shapes import ShapeError
from tests.models import reference
from tests.models.contract import Fitted, ModelContract, Planted

N, TYPES, RELATIONS, D = 8, np.array([0, 0, 0, 0, 1, 1, 2, 1]), 4, 6
TOY = RHGNHyperparameters(width=D, heads=2, layers=3, dropout=0)


def toy(seed: int = 0) -> tuple[KnowledgeGraph, list[reference.Edge], np.ndarray]:
    """Users 0-3, items 4, 5 and 7, attribute 6.

    Two relations from 0 to 4; relation 3 without an edge; node 7 without neighbours.
    """
    edges = [(0, 0, 4), (0, 1, 4), (0, 0, 5), (1, 0, 4), (1, 1, 5), (2, 0, 5), (3, 1, 4), (3, 1, 5)]
    edges += [(4, 2, 6), (5, 2, 6)]
    heads, relations, tails = np.array(edges).T
    graph = KnowledgeGraph(heads.copy(), relations.copy(), tails.copy(), n_entities=N, n_relations=RELATIONS)
    return graph, edges, np.random.default_rng(seed).normal(size=(N, D))


def random_model(
    graph: KnowledgeGraph, hyper: RHGNHyperparameters, inputs: int = D, n_classes: tuple[int, ...] = (2, 3)
) -> RHGN:
    """A float64 model whose every parameter, also each bias, is random."""
    model, rng = RHGN(inputs, 3, code_types(graph, TYPES), n_classes, hyper).double(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for values in model.parameters():
            values.copy_(torch.randn(values.shape, generator=rng, dtype=torch.float64) / 2)
    return model


def meta_relations(graph: KnowledgeGraph, hyper: RHGNHyperparameters, engine: str = "numba") -> list[MetaRelations]:
    messages = graph.into(0, graph.n_entities, engine=engine)
    return [MetaRelations.of(messages, hyper.softmax_over == "relation")] * hyper.layers


def by_loops(
    model: RHGN, edges: list[reference.Edge], x: np.ndarray
) -> tuple[list[np.ndarray], list[dict[tuple[int, int], list[float]]]]:
    """(H^L, weights of the last layer) by the loops of `reference.py`."""
    hyper, parameters = model.hyper, {name: values.detach().numpy() for name, values in model.named_parameters()}
    h = list(x)
    if hyper.project_inputs:
        weights, biases = parameters["input.weight"], parameters["input.bias"]
        h = [reference.affine(weights[t], v, biases[t]) for v, t in zip(x, TYPES, strict=True)]
    for number in range(hyper.layers):
        prefix = f"layers.{number}."
        own = {name.removeprefix(prefix): values for name, values in parameters.items() if name.startswith(prefix)}
        h, weights = reference.rhgn_layer(edges, h, TYPES.tolist(), RELATIONS, own, hyper.heads, hyper.softmax_over)
    return h, weights


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """One thread for tiny graphs: on a busy machine two would wait for each other far longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


FAST = RHGNHyperparameters(
    width=16,
    heads=4,
    batch_size=16,
    epochs=30,
    learning_rate=0.01,
    validation_share=0,
    fanout=5,
    dropout=0,
    class_weights=False,
)


def types_of_nodes(data: Planted) -> np.ndarray:
    """Users, items, brands."""
    return np.repeat(np.arange(3), [data.n_users, data.n_items, data.n_entities - data.n_users - data.n_items])


def graph_of(data: Planted) -> KnowledgeGraph:
    sizes = {"n_entities": data.n_entities, "n_relations": data.n_relations}
    return KnowledgeGraph(data.heads, data.relations, data.tails, **sizes)


def random_features(data: Planted, seed: int, inputs: int = 12) -> np.ndarray:
    none, keys = np.full((data.n_entities, inputs), np.nan, np.float32), np.arange(data.n_entities, dtype=np.uint64)
    return filled_features(none, keys, seed)


class Contract(ModelContract):
    """Trained on half the users' tastes, from random vectors: what it says of the rest comes through the graph."""

    softmax_over: str
    learned_share = 0.8

    @property
    def hyper(self) -> RHGNHyperparameters:
        return dataclasses.replace(FAST, softmax_over=self.softmax_over)

    def fit(self, data: Planted, seed: int) -> Fitted:
        graph, types, features = graph_of(data), types_of_nodes(data), random_features(data, seed)
        users = data.users[data.users // 4 % 2 == 0]
        labels = data.tastes[users][:, None]
        result = train_rhgn(graph, types, features, users, labels, [4], self.hyper, seed=seed, deterministic=True)
        vectors, _ = infer_rhgn(graph, types, result.features, result.parameters, self.hyper)
        return Fitted(vectors, result.parameters["layers.0.w_msg"][: data.n_relations], result.checkpoint())

    def gradients(self, data: Planted) -> dict[str, np.ndarray]:
        """Items are labelled too: a user hears one relation only, within which the bias of F_K cancels."""
        graph, types = graph_of(data), types_of_nodes(data)
        model = RHGN(12, 3, code_types(graph, types), [4, 4], self.hyper, seed=2)
        features = torch.from_numpy(random_features(data, 0))
        h_ND = model(meta_relations(graph, self.hyper), features, torch.from_numpy(types))
        tastes = torch.from_numpy(data.tastes)
        model.loss(model.logits(h_ND), torch.stack([tastes, 3 - tastes], 1)).backward()
        return {name: values.grad.numpy() for name, values in model.named_parameters()}


class TestSoftmaxOverAll(Contract):
    softmax_over = "all"


class TestSoftmaxPerRelation(Contract):
    softmax_over = "relation"


@pytest.mark.parametrize("engine", ["numba", "dgl", "torch"])
@pytest.mark.parametrize("typed", [False, True])
@pytest.mark.parametrize("softmax_over", ["all", "relation"])
def test_three_layers_agree_with_the_papers_equations(softmax_over: str, typed: bool, engine: str) -> None:
    graph, edges, x = toy()
    hyper = dataclasses.replace(TOY, softmax_over=softmax_over, typed_projections=typed)
    model = random_model(graph, hyper)
    with torch.no_grad():
        found = model(meta_relations(graph, hyper, engine), torch.from_numpy(x), torch.from_numpy(TYPES))
    np.testing.assert_allclose(found.numpy(), np.array(by_loops(model, edges, x)[0]), rtol=1e-9, atol=1e-11)


def test_vectors_of_the_right_length_can_go_in_as_they_are() -> None:
    graph, edges, x = toy()
    hyper = dataclasses.replace(TOY, project_inputs=False, layers=1)
    model = random_model(graph, hyper)
    found = model(meta_relations(graph, hyper), torch.from_numpy(x), torch.from_numpy(TYPES))
    np.testing.assert_allclose(found.detach().numpy(), np.array(by_loops(model, edges, x)[0]), rtol=1e-9, atol=1e-11)
    with pytest.raises(ShapeError, match="the given vectors are 5 long, width is 6"):
        random_model(graph, hyper, inputs=5)


@pytest.mark.parametrize("engine", ["numba", "dgl", "torch"])
@pytest.mark.parametrize("softmax_over", ["all", "relation"])
def test_gradients_of_the_loss_agree_with_finite_differences(softmax_over: str, engine: str) -> None:
    """Of every number of every parameter, and of the given vectors."""
    graph, _, x = toy()
    hyper = dataclasses.replace(TOY, layers=2, softmax_over=softmax_over, typed_projections=True)
    model = random_model(graph, hyper)
    names = [name for name, _ in model.named_parameters()]
    metas, types = meta_relations(graph, hyper, engine), torch.from_numpy(TYPES)
    labels = torch.tensor([[0, 2], [1, -1], [-1, 0], [1, 1]])

    def loss(x_SD: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        h_ND = torch.func.functional_call(model, dict(zip(names, parameters, strict=True)), (metas, x_SD, types))
        heads = dict(zip(names, parameters, strict=True))
        logits = [h_ND[:4] @ heads[f"classifiers.{j}.weight"].T + heads[f"classifiers.{j}.bias"] for j in range(2)]
        return model.loss(logits, labels)

    given = [torch.from_numpy(x), *(values.detach() for values in model.parameters())]
    leaves = [values.clone().requires_grad_() for values in given]
    assert torch.autograd.gradcheck(loss, leaves, fast_mode=engine != "numba")


def test_loss_agrees_with_loops_and_a_missing_label_adds_nothing() -> None:
    graph, _, _ = toy()
    model, h = random_model(graph, TOY), np.random.default_rng(4).normal(size=(5, D))
    labels = np.array([[0, 2], [1, -1], [-1, 0], [1, 1], [-1, -1]])
    logits = model.logits(torch.from_numpy(h))
    parameters = {name: values.detach().numpy() for name, values in model.named_parameters()}
    heads = [(parameters[f"classifiers.{j}.weight"], parameters[f"classifiers.{j}.bias"]) for j in range(2)]
    z = [[reference.affine(weight, v, bias) for v in h] for weight, bias in heads]
    expected = sum(reference.cross_entropy(z[j], labels[:, j].tolist()) for j in range(2)) / 5
    assert model.loss(logits, torch.from_numpy(labels)).item() == pytest.approx(expected, rel=1e-12)
    nobody = model.loss(logits, torch.full((5, 2), -1))
    nobody.backward()
    assert nobody.item() == 0 and not any(values.grad.any() for values in model.classifiers.parameters())
    probabilities = class_probabilities(parameters, h)
    assert [one.shape for one in probabilities] == [(5, 2), (5, 3)]
    np.testing.assert_allclose(probabilities[1][2], np.exp(z[1][2]) / np.exp(z[1][2]).sum(), rtol=1e-12)


def test_a_relation_and_its_reverse_have_matrices_of_their_own() -> None:
    graph, _, x = toy()
    hyper = dataclasses.replace(TOY, layers=1)
    model = random_model(graph, hyper)
    given = (meta_relations(graph, hyper), torch.from_numpy(x), torch.from_numpy(TYPES))
    before = model(*given).detach()
    with torch.no_grad():
        model.layers[0].w_msg[2] += 1  # item → attribute
    changed = (model(*given) - before).abs().amax(dim=1) > 0
    assert changed.nonzero().flatten().tolist() == [6]
    with torch.no_grad():
        model.layers[0].w_msg[2] -= 1
        model.layers[0].w_att[RELATIONS + 2] += 1  # attribute → item
    changed = (model(*given) - before).abs().amax(dim=1) > 1e-9
    assert changed.nonzero().flatten().tolist() == [4, 5]


def test_a_node_without_neighbours_is_mapped_from_zero() -> None:
    graph, _, x = toy()
    hyper = dataclasses.replace(TOY, layers=1, project_inputs=False)
    model = random_model(graph, hyper)
    found = model(meta_relations(graph, hyper), torch.from_numpy(x), torch.from_numpy(TYPES))
    torch.testing.assert_close(found[7], torch.from_numpy(x[7]) + model.layers[0].map.bias[0])


def test_xavier_initialisation_has_its_variance() -> None:
    model = RHGN(200, 2, np.zeros(50, int), [7], RHGNHyperparameters(width=128, heads=4))
    maps = ((model.input.weight, 200, 128), (model.layers[0].key.weight, 128, 128), (model.layers[1].w_att, 32, 32))
    for values, inputs, outputs in maps:
        assert values.var().item() == pytest.approx(2 / (inputs + outputs), rel=0.05)
    assert model.classifiers[0].weight.var().item() == pytest.approx(2 / (128 + 7), rel=0.2)


def test_products_in_bfloat16_stay_close_and_the_vectors_float32() -> None:
    """What a GPU does, on the CPU's autocast."""
    graph, _, x = toy()
    model = random_model(graph, TOY).float()
    given = (meta_relations(graph, TOY), torch.from_numpy(x).float(), torch.from_numpy(TYPES))
    exact = model(*given)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(*given)
        loss = model.loss(model.logits(found[:4]), torch.tensor([[0, 2], [1, -1], [-1, 0], [1, 1]]))
    loss.backward()
    assert found.dtype == torch.float32 and all(torch.isfinite(values.grad).all() for values in model.parameters())
    assert 0 < (found - exact).abs().max() < 0.03 * exact.abs().max()


def test_vectors_are_drawn_for_rows_without_one_by_their_keys_alone() -> None:
    features = np.random.default_rng(0).normal(size=(500, 40)).astype(np.float32)
    features[100:] = np.nan
    keys = np.arange(500, dtype=np.uint64)
    filled = filled_features(features, keys, seed=1)
    np.testing.assert_array_equal(filled[:100], features[:100])
    assert np.linalg.norm(filled[100:], axis=1).mean() == pytest.approx(1, abs=0.02)
    np.testing.assert_array_equal(filled_features(features[::-1], keys[::-1], seed=1)[::-1], filled)
    assert not np.array_equal(filled_features(features, keys, seed=2)[100:], filled[100:])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("softmax_over", "some"),
        ("stop_on", "luck"),
        *itertools.product(("width", "layers", "fanout", "learning_rate"), (0,)),
        ("heads", 3),
        ("validation_share", 0.9),
        ("dropout", 1.0),
        ("init", "content"),
        ("init_attributes", "fasttext"),
    ],
)
def test_wrong_hyperparameters_are_named(field: str, value: object) -> None:
    with pytest.raises(HyperparameterError, match=field):
        RHGNHyperparameters(**{field: value})
