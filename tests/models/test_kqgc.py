"""KQGC: every equation against loops written from the paper, the contract, the inductive path, training and inference."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from models.graph import KnowledgeGraph
from models.hyperparameters import HyperparameterError, KQGCHyperparameters
from models.kqgc import KQGC, KQGCResult, inductive_entities, infer_kqgc, train_kqgc
from models.shapes import ShapeError
from tests.models import reference
from tests.models.contract import Fitted, ModelContract, Planted, planted, same_taste_share

AGGREGATORS = ("mean", "attention1", "attention2")
D = 4


def toy(seed: int = 0) -> tuple[KnowledgeGraph, list[reference.Edge], np.ndarray, np.ndarray]:
    """A random graph of 8 nodes and 3 relations, with two relations between nodes 0 and 1, and node 7 without neighbours."""
    rng = np.random.default_rng(seed)
    edges = sorted({(int(h), int(r), int(t)) for h, r, t in zip(rng.integers(7, size=20), rng.integers(3, size=20), rng.integers(7, size=20), strict=True)})
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
    """What a TransE trained on `data` might hold: unit vectors around a place for each taste, in which bought items lie at user + r."""
    rng = np.random.default_rng(11)
    places, relations = rng.normal(size=(4, dimension)), rng.normal(size=(data.n_relations, dimension)) * 0.5
    entities = places[data.tastes] + noise * rng.normal(size=(data.n_entities, dimension))
    entities[data.items] += relations[0]
    entities /= np.linalg.norm(entities, axis=1, keepdims=True)
    return entities.astype(np.float32), (relations / np.sqrt(dimension)).astype(np.float32)


def graph_of(data: Planted) -> KnowledgeGraph:
    return KnowledgeGraph(data.heads, data.relations, data.tails, n_entities=data.n_entities, n_relations=data.n_relations)


def trained(data: Planted, hyper: KQGCHyperparameters, seed: int = 1, **options: object) -> KQGCResult:
    return train_kqgc(graph_of(data), *vectors_of(data), data.purchases, 0, data.items, hyper, seed=seed, deterministic=True, **options)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """One thread for tiny graphs: on a busy machine two would wait for each other far longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


FAST = KQGCHyperparameters(batch_size=64, epochs=10, learning_rate=0.01, validation_share=0.1, fanout=5)


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
        h_ND, r_MD = model([graph.into(0, graph.n_entities)] * 2, torch.from_numpy(entities), torch.from_numpy(relations))
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
    [("mean", "softmax"), ("attention1", "softmax"), ("attention1", "ratio"), ("attention2", "softmax"), ("attention2", "ratio")],
)
def test_three_layers_agree_with_the_papers_equations(aggregator: str, normalisation: str, bias: bool, engine: str) -> None:
    graph, edges, h, r = toy()
    hyper = KQGCHyperparameters(aggregator=aggregator, attention_normalisation=normalisation, layers=3, bias=bias)
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
    np.testing.assert_allclose(found_h.numpy(), np.array(h), rtol=1e-7, atol=1e-9)  # the printed ratio loses digits near Σ e = 0
    np.testing.assert_allclose(found_r.numpy(), np.array(r), rtol=1e-9, atol=1e-12)


def test_two_relations_between_two_nodes_are_two_messages() -> None:
    heads, tails = np.array([0, 0, 2]), np.array([1, 1, 1])
    graph = KnowledgeGraph(heads, np.array([0, 1, 0]), tails, n_entities=3, n_relations=2)
    h, r = torch.eye(3, dtype=torch.float64), torch.tensor([[10.0, 0, 0], [0, 100.0, 0]], dtype=torch.float64)
    message = KQGC(3, KQGCHyperparameters()).message(0, graph.into(1, 2), h, h[1:2], r)
    torch.testing.assert_close(message, torch.tensor([[(1 + 1 + 20) / 3, 100 / 3, 1 / 3]], dtype=torch.float64))


def test_the_printed_ratio_has_negative_weights_and_they_sum_to_one() -> None:
    graph, edges, h, r = toy()
    model = random_model(KQGCHyperparameters(aggregator="attention1", attention_normalisation="ratio"))
    messages, h_ND, r_MD = graph.into(0, 8), torch.from_numpy(h), torch.from_numpy(r)
    e_E = model.affinity(0, messages, h_ND, h_ND, torch.cat([r_MD, -r_MD]))
    α_E = model.attention(messages, e_E).detach()
    assert (α_E < 0).any()
    for v in range(7):
        assert α_E[messages.from_nodes.destinations == v].sum().item() == pytest.approx(1.0)


def test_ratio_weights_that_sum_to_nothing_become_those_of_the_mean() -> None:
    # node 0 with neighbours 1 and 2 whose queries have inner products +1 and −1 with it
    graph = KnowledgeGraph(np.array([1, 2]), np.array([0, 0]), np.array([0, 0]), n_entities=3, n_relations=1)
    hyper = KQGCHyperparameters(aggregator="attention1", attention_normalisation="ratio")
    h = torch.tensor([[1.0, 0], [1.0, 4], [-1.0, 2]], requires_grad=True)
    model = KQGC(2, hyper)
    message = model.message(0, graph.into(0, 1), h, h[:1], torch.zeros(1, 2))
    torch.testing.assert_close(message, torch.tensor([[0.0, 3.0]]))
    message.sum().backward()
    assert torch.isfinite(h.grad).all()


def test_the_reversed_relation_is_minus_the_layers_own_and_not_transformed_apart() -> None:
    graph = KnowledgeGraph(np.array([0]), np.array([0]), np.array([1]), n_entities=2, n_relations=1)
    model = random_model(KQGCHyperparameters(layers=2))
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
    model = random_model(KQGCHyperparameters(aggregator=aggregator, layers=2, margin=3, norm="l2"))
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
    model = KQGC(D, KQGCHyperparameters(norm=norm, margin=0.7))
    h_ND, purchase_D = torch.from_numpy(h), torch.from_numpy(purchase)
    users, items = torch.tensor(pairs).T
    positive = model.score(h_ND[users], purchase_D, h_ND[items])
    negative = model.score(h_ND[users].unsqueeze(1), purchase_D, h_ND[torch.tensor(negatives)])
    expected = reference.kqgc_losses(h, purchase, pairs, negatives, 0.7, norm)
    np.testing.assert_allclose(model.losses(positive, negative).numpy(), expected, rtol=1e-12)
    assert 0 < np.count_nonzero(expected) < 9


def test_training_computes_the_papers_loss_on_full_neighbourhoods() -> None:
    """One batch of all pairs with a fanout above every degree: the first epoch's loss is Eq. 12 at the initial parameters."""
    data = planted(n_users=8, n_items=6)
    entities, relations = vectors_of(data, dimension=D)
    users, items = data.purchases
    hyper = KQGCHyperparameters(aggregator="attention2", epochs=1, batch_size=10_000, fanout=1000, validation_share=0, negatives=2)
    # one candidate: the negatives are known without knowing the draw
    result = train_kqgc(graph_of(data), entities, relations, (users, items), 0, data.items[:1], hyper, seed=4)
    model = KQGC(D, hyper, seed=4)
    edges = list(zip(data.heads.tolist(), data.relations.tolist(), data.tails.tolist(), strict=True))
    weight, a = model.weights[0].detach().numpy(), model.attentions[0].detach().numpy()
    h, r = reference.kqgc_layer(edges, entities.astype(float), relations.astype(float), weight, None, "attention2", a=a)
    pairs = list(zip(users.tolist(), items.tolist(), strict=True))
    expected = reference.kqgc_losses(h, r[0], pairs, [[int(data.items[0])] * 2] * len(pairs), hyper.margin, hyper.norm)
    assert result.history[0]["loss"] == pytest.approx(np.mean(expected), rel=1e-5)


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_chunked_inference_is_the_whole_graph_at_once(aggregator: str) -> None:
    data = planted(n_isolated=2)
    hyper = dataclasses.replace(FAST, aggregator=aggregator, layers=2)
    (entities, relations), graph = vectors_of(data), graph_of(data)
    model = KQGC(16, hyper, seed=6)
    parameters = {name: values.detach().numpy() for name, values in model.named_parameters()}
    whole_h, whole_r = model([graph.into(0, graph.n_entities)] * 2, torch.from_numpy(entities), torch.from_numpy(relations))
    for chunk in (1, 7, 1000):
        h, r = infer_kqgc(graph, entities, relations, parameters, dataclasses.replace(hyper, inference_chunk=chunk))
        assert h.dtype == np.float32 and r.dtype == np.float32
        np.testing.assert_allclose(h, whole_h.detach().numpy(), atol=1e-5)
        np.testing.assert_allclose(r, whole_r.detach().numpy(), atol=1e-6)


def test_a_node_without_neighbours_is_only_transformed() -> None:
    graph, _, h, r = toy()
    hyper = KQGCHyperparameters()
    model = random_model(hyper).float()
    parameters = {name: values.detach().numpy() for name, values in model.named_parameters()}
    found, _ = infer_kqgc(graph, h.astype(np.float32), r.astype(np.float32), parameters, hyper)
    np.testing.assert_allclose(found[7], parameters["weights.0"] @ h[7] + parameters["biases.0"], rtol=1e-5)


# --- the inductive path ---------------------------------------------------------------------------------------------------------------


def test_unknown_nodes_start_from_the_unit_mean_of_their_known_neighbours_queries() -> None:
    graph, edges, h, r = toy()
    known = np.array([True, True, False, True, True, False, True, True])
    h32, r32 = h.astype(np.float32), r.astype(np.float32)
    h32[~known] = np.nan  # never to be read
    filled, resolved = inductive_entities(graph, h32, r32, known)
    assert resolved.all()
    np.testing.assert_array_equal(filled[known], h32[known])
    for node in (2, 5):
        np.testing.assert_allclose(filled[node], reference.inductive_start(edges, h32, r32, known, node), rtol=1e-5, atol=1e-6)


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
    zeros, _ = infer_kqgc(graph, np.where(known[:, None], entities, np.float32(0)), relations, result.parameters, hyper)

    def overlap(vectors: np.ndarray, k: int = 10) -> float:
        """Share of a hidden user's k nearest trained users by `vectors` that are also those by the trained vector."""
        others, shares = data.users[known[data.users]], []
        for user in hidden:
            near = [others[np.argsort(np.linalg.norm(full[others] - v, axis=1))[:k]] for v in (full[user], vectors[user])]
            shares.append(np.isin(*near).mean())
        return float(np.mean(shares))

    chance = 10 / known[data.users].sum()
    assert overlap(inferred) > 3 * chance
    shuffled = inferred.copy()
    shuffled[hidden] = inferred[np.roll(hidden, 1)]
    assert overlap(inferred) > overlap(shuffled) + 0.2
    cosine = [float(full[u] @ x[u] / np.linalg.norm(full[u]) / np.linalg.norm(x[u])) for x in (inferred, zeros) for u in hidden]
    assert np.mean(cosine[: hidden.size]) > max(0.8, np.mean(cosine[hidden.size :]))  # h⁰ is worth more than none
    tastes = data.tastes[data.users]
    assert same_taste_share(inferred[data.users], tastes) > 0.8


# --- training -------------------------------------------------------------------------------------------------------------------------


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
    data = planted()
    hyper = dataclasses.replace(FAST, epochs=60, learning_rate=0.05, patience=3)
    result = trained(data, hyper)
    losses = [entry["validation_loss"] for entry in result.history]
    assert result.best_epoch == int(np.argmin(losses)) and len(losses) == result.best_epoch + 4 < 60
    until_best = trained(data, dataclasses.replace(hyper, epochs=result.best_epoch + 1))
    for name, values in result.parameters.items():
        np.testing.assert_array_equal(values, until_best.parameters[name])


def test_a_masked_own_edge_carries_no_message() -> None:
    """One pair, one edge: masked, the two nodes have no neighbours, so the loss is that of bare vectors."""
    graph = KnowledgeGraph(np.array([0]), np.array([0]), np.array([1]), n_entities=3, n_relations=1)
    entities, relations = np.random.default_rng(0).normal(size=(3, D)).astype(np.float32), np.ones((1, D), dtype=np.float32)
    pair, losses = (np.array([0]), np.array([1])), {}
    for masked in (True, False):
        hyper = KQGCHyperparameters(mask_own_edge=masked, epochs=1, validation_share=0, margin=50)
        result = train_kqgc(graph, entities, relations, pair, 0, np.array([2]), hyper, seed=0)
        losses[masked] = result.history[0]["loss"]
    model = KQGC(D, hyper, seed=0)
    for masked, edges in ((True, []), (False, [(0, 0, 1)])):
        h, r = reference.kqgc_layer(edges, entities.astype(float), relations.astype(float), model.weights[0].detach().numpy(), None, "mean")
        expected = np.mean(reference.kqgc_losses(h, r[0], [(0, 1)], [[2]], 50, "l1"))
        assert losses[masked] == pytest.approx(expected, rel=1e-5)


def test_deterministic_training_repeats_bit_by_bit_with_several_threads_at_work() -> None:
    torch.set_num_threads(4)
    rng = np.random.default_rng(0)
    n, edges = 3000, 30_000
    heads, tails = rng.integers(1000, size=edges), rng.integers(1000, n, size=edges)
    graph = KnowledgeGraph(heads, rng.integers(2, size=edges), tails, n_entities=n, n_relations=2)
    entities, relations = rng.normal(size=(n, 32)).astype(np.float32), rng.normal(size=(2, 32)).astype(np.float32)
    hyper = KQGCHyperparameters(aggregator="attention2", layers=2, epochs=2, batch_size=4096, attention_normalisation="ratio")
    results = [
        train_kqgc(graph, entities, relations, (heads, tails), 0, np.unique(tails), hyper, seed=9, deterministic=True) for _ in range(2)
    ]
    for name, values in results[0].checkpoint().items():
        np.testing.assert_array_equal(values, results[1].checkpoint()[name], err_msg=name)
    first, second = ([{k: v for k, v in entry.items() if k != "seconds"} for entry in result.history] for result in results)
    assert first == second


def test_a_capped_epoch_sees_so_many_batches() -> None:
    """A step of Adam per batch: its own count tells."""
    data = planted()
    result = trained(data, dataclasses.replace(FAST, batch_size=10, epochs=2, max_batches_per_epoch=3, validation_share=0.0))
    assert int(result.optimiser["weights.0.step"]) == 6


def test_without_pairs_nothing_is_learned_and_inference_works() -> None:
    data, none = planted(), np.empty(0, dtype=np.int64)
    result = train_kqgc(graph_of(data), *vectors_of(data), (none, none), 0, data.items, FAST, seed=1)
    assert result.history == [] and result.best_epoch == -1
    np.testing.assert_array_equal(result.parameters["weights.0"], KQGC(16, FAST, seed=1).weights[0].detach().numpy())


def test_xavier_initialisation_has_its_variance() -> None:
    model = KQGC(200, KQGCHyperparameters(aggregator="attention2"))
    assert model.weights[0].var().item() == pytest.approx(2 / (200 + 200), rel=0.05)
    assert model.attentions[0].var().item() == pytest.approx(2 / (400 + 1), rel=0.25)
    assert model.biases[0].abs().max() == 0


def test_arrays_that_do_not_fit_are_refused() -> None:
    data = planted()
    (entities, relations), graph = vectors_of(data), graph_of(data)
    with pytest.raises(ShapeError, match="entities has shape"):
        train_kqgc(graph, entities[1:], relations, data.purchases, 0, data.items, FAST, seed=0)
    with pytest.raises(ShapeError, match="item_candidates has values"):
        train_kqgc(graph, entities, relations, data.purchases, 0, data.items + 1000, FAST, seed=0)
    with pytest.raises(ShapeError, match="float64"):
        infer_kqgc(graph, entities.astype(np.float64), relations, {}, FAST)


@pytest.mark.parametrize(
    ("field", "value"),
    [("aggregator", "max"), ("norm", "l3"), ("attention_normalisation", "none"),
     *itertools.product(("layers", "fanout", "margin"), (0,)), ("validation_share", 1.0)],
)
def test_wrong_hyperparameters_are_named(field: str, value: object) -> None:
    with pytest.raises(HyperparameterError, match=field):
        KQGCHyperparameters(**{field: value})
