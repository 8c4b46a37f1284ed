"""KQGC: every equation against loops written from the paper, the contract, the inductive path and inference."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from models.graph import KnowledgeGraph
from models.hyperparameters import HyperparameterError, KQGCHyperparameters
from models.kqgc import KQGC, inductive_entities, infer_kqgc
from models.kqgc_training import KQGCResult, train_kqgc
from models.shapes import ShapeError
from tests.models import reference
from tests.models.contract import Fitted, ModelContract, Planted, planted, same_taste_share

LEARNS = functools.partial(KQGCHyperparameters, learned=True)  # as in the paper
AGGREGATORS = ("mean", "attention1", "attention2")
D = 4


def toy(seed: int = 0) -> tuple[KnowledgeGraph, list[reference.Edge], np.ndarray, np.ndarray]:
    """8 nodes and 3 relations at random, with two relations between nodes 0 and 1, and node 7 without neighbours."""
    rng = np.random.default_rng(seed)
    ends_and_relations = (rng.integers(below, size=20).tolist() for below in (7, 3, 7))
    edges = sorted(set(zip(*ends_and_relations, strict=True)))
    edges += [edge for edge in ((0, 0, 1), (0, 2, 1)) if edge not in edges]
    heads, relations, tails = np.array(edges, dtype=np.int64).T
    graph = KnowledgeGraph(heads.copy(), relations.copy(), tails.copy(), n_entities=8, n_relations=3)
    return graph, edges, rng.normal(size=(8, D)), rng.normal(size=(3, D))


def random_model(hyper: KQGCHyperparameters, dimension: int = D, seed: int = 0) -> KQGC:
    """A float64 model whose every parameter, also b, is random."""
    model = KQGC(dimension, hyper).double()
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for values in model.parameters():
            values.copy_(torch.randn(values.shape, generator=rng, dtype=torch.float64))
    return model


def vectors_of(data: Planted, dimension: int = 16, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """What a TransE trained on `data` might hold: unit vectors around a place for each taste.

    Bought items lie at user + r.
    """
    rng = np.random.default_rng(11)
    places, relations = rng.normal(size=(4, dimension)), rng.normal(size=(data.n_relations, dimension)) * 0.5
    entities = places[data.tastes] + noise * rng.normal(size=(data.n_entities, dimension))
    entities[data.items] += relations[0]
    entities /= np.linalg.norm(entities, axis=1, keepdims=True)
    return entities.astype(np.float32), (relations / np.sqrt(dimension)).astype(np.float32)


def graph_of(data: Planted) -> KnowledgeGraph:
    sizes = {"n_entities": data.n_entities, "n_relations": data.n_relations}
    return KnowledgeGraph(data.heads, data.relations, data.tails, **sizes)


def trained(data: Planted, hyper: KQGCHyperparameters, seed: int = 1, **options: object) -> KQGCResult:
    given = (graph_of(data), *vectors_of(data), data.purchases, 0, data.items, hyper)
    return train_kqgc(*given, seed=seed, deterministic=True, **options)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """One thread for tiny graphs: on a busy machine two would wait for each other far longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


FAST = LEARNS(batch_size=64, epochs=10, learning_rate=0.01, validation_share=0.1, fanout=5)


class Contract(ModelContract):
    """The shared contract for one aggregator."""

    aggregator: str
    learned_share = 0.8

    @property
    def hyper(self) -> KQGCHyperparameters:
        return dataclasses.replace(FAST, aggregator=self.aggregator, layers=2)

    def fit(self, data: Planted, seed: int) -> Fitted:
        result = trained(data, self.hyper, seed)
        entities, relations = infer_kqgc(graph_of(data), *vectors_of(data), result.parameters, self.hyper)
        return Fitted(entities, relations, result.checkpoint())

    def gradients(self, data: Planted) -> dict[str, np.ndarray]:
        model, (entities, relations) = KQGC(16, self.hyper, seed=2), vectors_of(data)
        graph, (users, items) = graph_of(data), data.purchases
        layers = [graph.into(0, graph.n_entities)] * 2
        h_ND, r_MD = model(layers, torch.from_numpy(entities), torch.from_numpy(relations))
        positive = model.score(h_ND[users], r_MD[0], h_ND[items])
        negative = model.score(h_ND[users], r_MD[0], h_ND[np.roll(items, 7)])
        model.losses(positive, negative.unsqueeze(1)).mean().backward()
        return {name: values.grad.numpy() for name, values in model.named_parameters()}


class TestMean(Contract):
    aggregator = "mean"


class TestAttention1(Contract):
    aggregator = "attention1"


class TestAttention2(Contract):
    aggregator = "attention2"


@pytest.mark.parametrize("engine", ["dgl", "torch"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("aggregator", "normalisation"),
    [("mean", "softmax"), *itertools.product(("attention1", "attention2"), ("softmax", "ratio"))],
)
def test_three_layers_agree_with_the_papers_equations(
    aggregator: str, normalisation: str, bias: bool, engine: str
) -> None:
    graph, edges, h, r = toy()
    hyper = LEARNS(aggregator=aggregator, attention_normalisation=normalisation, layers=3, bias=bias)
    model = random_model(hyper)
    with torch.no_grad():
        for weight in model.weights:
            weight /= 3  # else three layers of scores grow to where the softmax is 0 or 1
        found_h, found_r = model([graph.into(0, 8, engine=engine)] * 3, torch.from_numpy(h), torch.from_numpy(r))
    for number in range(3):
        weight = model.weights[number].detach().numpy()
        b = model.biases[number].detach().numpy() if bias else None
        a = model.attentions[number].detach().numpy() if aggregator == "attention2" else None
        h, r = reference.kqgc_layer(edges, h, r, weight, b, aggregator, normalisation, a)
    # the printed ratio loses digits near Σ e = 0
    np.testing.assert_allclose(found_h.numpy(), np.array(h), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(found_r.numpy(), np.array(r), rtol=1e-9, atol=1e-12)


def test_two_relations_between_two_nodes_are_two_messages() -> None:
    heads, tails = np.array([0, 0, 2]), np.array([1, 1, 1])
    graph = KnowledgeGraph(heads, np.array([0, 1, 0]), tails, n_entities=3, n_relations=2)
    h, r = torch.eye(3, dtype=torch.float64), torch.tensor([[10.0, 0, 0], [0, 100.0, 0]], dtype=torch.float64)
    message = KQGC(3, LEARNS()).message(0, graph.into(1, 2), h, h[1:2], r)
    torch.testing.assert_close(message, torch.tensor([[(1 + 1 + 20) / 3, 100 / 3, 1 / 3]], dtype=torch.float64))


def test_the_printed_ratio_has_negative_weights_and_they_sum_to_one() -> None:
    graph, edges, h, r = toy()
    model = random_model(LEARNS(aggregator="attention1", attention_normalisation="ratio"))
    messages, h_ND, r_MD = graph.into(0, 8), torch.from_numpy(h), torch.from_numpy(r)
    e_E = model.affinity(0, messages, h_ND, h_ND, torch.cat([r_MD, -r_MD]))
    α_E = model.attention(messages, e_E).detach()
    assert (α_E < 0).any()
    for v in range(7):
        assert α_E[messages.from_nodes.destinations == v].sum().item() == pytest.approx(1.0)


def test_ratio_weights_that_sum_to_nothing_become_those_of_the_mean() -> None:
    # node 0 with neighbours 1 and 2 whose queries have inner products +1 and −1 with it
    graph = KnowledgeGraph(np.array([1, 2]), np.array([0, 0]), np.array([0, 0]), n_entities=3, n_relations=1)
    hyper = LEARNS(aggregator="attention1", attention_normalisation="ratio")
    h = torch.tensor([[1.0, 0], [1.0, 4], [-1.0, 2]], requires_grad=True)
    model = KQGC(2, hyper)
    message = model.message(0, graph.into(0, 1), h, h[:1], torch.zeros(1, 2))
    torch.testing.assert_close(message, torch.tensor([[0.0, 3.0]]))
    message.sum().backward()
    assert torch.isfinite(h.grad).all()


def test_the_reversed_relation_is_minus_the_layers_own_and_not_transformed_apart() -> None:
    graph = KnowledgeGraph(np.array([0]), np.array([0]), np.array([1]), n_entities=2, n_relations=1)
    model = random_model(LEARNS(layers=2))
    h, r = torch.zeros(2, D, dtype=torch.float64), torch.randn(1, D, dtype=torch.float64)
    _, r_after = model.layer(0, graph.into(0, 2), h, h, r)
    into_head = model.message(1, graph.into(0, 1), h, h[:1], r_after)
    torch.testing.assert_close(into_head, -r_after)
    wrong = -r @ model.weights[0].T + model.biases[0]
    assert (into_head - wrong).abs().max() > 0.1


@pytest.mark.parametrize("engine", ["dgl", "torch"])
@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_gradients_of_the_loss_agree_with_finite_differences(aggregator: str, engine: str) -> None:
    """Of every number of every parameter, and of h⁰ and r⁰, which the layers hand on to each other."""
    graph, _, h, r = toy()
    model = random_model(LEARNS(aggregator=aggregator, layers=2, margin=3, norm="l2"))
    names = [name for name, _ in model.named_parameters()]
    layers = [graph.into(0, 8, engine=engine)] * 2

    def loss(h_ND: torch.Tensor, r_MD: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        h_ND, r_MD = torch.func.functional_call(model, dict(zip(names, parameters, strict=True)), (layers, h_ND, r_MD))
        positive = model.score(h_ND[[0, 1]], r_MD[0], h_ND[[3, 4]])
        return model.losses(positive, model.score(h_ND[[0, 1]], r_MD[0], h_ND[[5, 6]]).unsqueeze(1)).sum()

    inputs = [torch.from_numpy(h), torch.from_numpy(r), *(values.detach() / 3 for values in model.parameters())]
    assert loss(*inputs) > 0
    assert torch.autograd.gradcheck(loss, [values.clone().requires_grad_() for values in inputs])


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_loss_agrees_with_loops(norm: str) -> None:
    rng = np.random.default_rng(3)
    h, purchase = rng.normal(size=(9, D)), rng.normal(size=D)
    pairs, negatives = [(0, 4), (1, 5), (2, 6)], [[5, 6, 4], [7, 8, 4], [4, 4, 8]]
    model = KQGC(D, LEARNS(norm=norm, margin=0.7))
    h_ND, purchase_D = torch.from_numpy(h), torch.from_numpy(purchase)
    users, items = torch.tensor(pairs).T
    positive = model.score(h_ND[users], purchase_D, h_ND[items])
    negative = model.score(h_ND[users].unsqueeze(1), purchase_D, h_ND[torch.tensor(negatives)])
    expected = reference.kqgc_losses(h, purchase, pairs, negatives, 0.7, norm)
    np.testing.assert_allclose(model.losses(positive, negative).numpy(), expected, rtol=1e-12)
    assert 0 < np.count_nonzero(expected) < 9


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_chunked_inference_is_the_whole_graph_at_once(aggregator: str) -> None:
    data = planted(n_isolated=2)
    hyper = dataclasses.replace(FAST, aggregator=aggregator, layers=2)
    (entities, relations), graph = vectors_of(data), graph_of(data)
    model = KQGC(16, hyper, seed=6)
    parameters = {name: values.detach().numpy() for name, values in model.named_parameters()}
    layers = [graph.into(0, graph.n_entities)] * 2
    whole_h, whole_r = model(layers, torch.from_numpy(entities), torch.from_numpy(relations))
    for chunk in (1, 7, 1000):
        h, r = infer_kqgc(graph, entities, relations, parameters, dataclasses.replace(hyper, inference_chunk=chunk))
        assert h.dtype == np.float32 and r.dtype == np.float32
        np.testing.assert_allclose(h, whole_h.detach().numpy(), atol=1e-5)
        np.testing.assert_allclose(r, whole_r.detach().numpy(), atol=1e-6)


def test_a_node_without_neighbours_is_only_transformed() -> None:
    graph, _, h, r = toy()
    hyper = LEARNS()
    model = random_model(hyper).float()
    parameters = {name: values.detach().numpy() for name, values in model.named_parameters()}
    found, _ = infer_kqgc(graph, h.astype(np.float32), r.astype(np.float32), parameters, hyper)
    np.testing.assert_allclose(found[7], parameters["weights.0"] @ h[7] + parameters["biases.0"], rtol=1e-5)


# --- the inductive path -----------------------------------------------------------------------------------------------


def test_unknown_nodes_start_from_the_unit_mean_of_their_known_neighbours_queries() -> None:
    graph, edges, h, r = toy()
    known = np.array([True, True, False, True, True, False, True, True])
    h32, r32 = h.astype(np.float32), r.astype(np.float32)
    h32[~known] = np.nan  # never to be read
    filled, resolved = inductive_entities(graph, h32, r32, known)
    assert resolved.all()
    np.testing.assert_array_equal(filled[known], h32[known])
    for node in (2, 5):
        expected = reference.inductive_start(edges, h32, r32, known, node)
        np.testing.assert_allclose(filled[node], expected, rtol=1e-5, atol=1e-6)


def test_unknown_nodes_behind_unknown_nodes_are_reached_and_cut_off_ones_get_zeros() -> None:
    heads, tails = np.array([0, 1, 3]), np.array([1, 2, 4])  # 0 → 1 → 2, and 3 → 4 apart
    graph = KnowledgeGraph(heads, np.zeros(3, dtype=np.int64), tails, n_entities=5, n_relations=1)
    entities, relations = np.eye(5, 3, dtype=np.float32), np.array([[0, 1, 0]], dtype=np.float32)
    filled, resolved = inductive_entities(graph, entities, relations, np.array([True, False, False, False, False]))
    assert resolved.tolist() == [True, True, True, False, False]
    half = 1 / np.sqrt(2)
    np.testing.assert_allclose(filled[1], [half, half, 0], atol=1e-6)  # e₀ + r
    np.testing.assert_allclose(filled[2], np.array([half, half + 1, 0]) / np.hypot(half, half + 1), atol=1e-6)
    np.testing.assert_array_equal(filled[3:], 0)


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_hidden_users_are_inferred_into_the_neighbourhood_of_their_trained_vectors(aggregator: str) -> None:
    data = planted(n_users=80, n_items=60)
    hyper = dataclasses.replace(FAST, aggregator=aggregator)
    (entities, relations), graph = vectors_of(data, noise=0.5), graph_of(data)
    result = train_kqgc(graph, entities, relations, data.purchases, 0, data.items, hyper, seed=1, deterministic=True)
    known = np.ones(data.n_entities, dtype=bool)
    hidden = data.users[::5]
    known[hidden] = False
    full, _ = infer_kqgc(graph, entities, relations, result.parameters, hyper)
    never_read = np.where(known[:, None], entities, np.float32(np.nan))
    inferred, _ = infer_kqgc(graph, never_read, relations, result.parameters, hyper, known=known)
    not_placed = np.where(known[:, None], entities, np.float32(0))
    zeros, _ = infer_kqgc(graph, not_placed, relations, result.parameters, hyper)

    def overlap(vectors: np.ndarray, k: int = 10) -> float:
        """Share of a hidden user's k nearest trained users by `vectors` that are also those by the trained vector."""
        others, shares = data.users[known[data.users]], []
        for user in hidden:
            distances = [np.linalg.norm(full[others] - v, axis=1) for v in (full[user], vectors[user])]
            near = [others[np.argsort(distance)[:k]] for distance in distances]
            shares.append(np.isin(*near).mean())
        return float(np.mean(shares))

    chance = 10 / known[data.users].sum()
    assert overlap(inferred) > 3 * chance
    shuffled = inferred.copy()
    shuffled[hidden] = inferred[np.roll(hidden, 1)]
    assert overlap(inferred) > overlap(shuffled) + 0.2
    lengths = np.linalg.norm(full[hidden], axis=1)
    with_start, without = (
        np.mean((full[hidden] * x[hidden]).sum(axis=1) / lengths / np.linalg.norm(x[hidden], axis=1))
        for x in (inferred, zeros)
    )
    assert with_start > max(0.8, without)  # h⁰ is worth more than none
    tastes = data.tastes[data.users]
    assert same_taste_share(inferred[data.users], tastes) > 0.8


def test_vectors_of_another_type_are_refused() -> None:
    data = planted()
    entities, relations = vectors_of(data)
    with pytest.raises(ShapeError, match="float64"):
        infer_kqgc(graph_of(data), entities.astype(np.float64), relations, {}, FAST)


def test_xavier_initialisation_has_its_variance() -> None:
    model = KQGC(200, LEARNS(aggregator="attention2"))
    assert model.weights[0].var().item() == pytest.approx(2 / (200 + 200), rel=0.05)
    assert model.attentions[0].var().item() == pytest.approx(2 / (400 + 1), rel=0.25)
    assert model.biases[0].abs().max() == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("aggregator", "max"),
        ("norm", "l3"),
        ("attention_normalisation", "none"),
        *itertools.product(("layers", "fanout", "margin"), (0,)),
        ("validation_share", 1.0),
    ],
)
def test_wrong_hyperparameters_are_named(field: str, value: object) -> None:
    with pytest.raises(HyperparameterError, match=field):
        LEARNS(**{field: value})
