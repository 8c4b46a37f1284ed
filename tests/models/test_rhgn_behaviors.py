"""RHGN's second loss: the equation by loops, who is drawn, what is hidden, the gradient, weight 0, bad input."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from models.graph import KnowledgeGraph
from models.hyperparameters import RHGNHyperparameters
from models.learning.training import from_bytes, to_bytes
from models.rhgn import RHGN, MetaRelations, code_types, infer_rhgn
from models.rhgn_behaviors import BehaviorEdges, behavior_loss
from models.shapes import ShapeError
from tests.models.contract import planted, same_taste_share
from tests.models.reference import dot
from tests.models.test_rhgn import (  # noqa: F401  (a fixture)
    FAST,
    _one_thread,
    graph_of,
    random_features,
    types_of_nodes,
)
from tests.models.test_rhgn_training import same, trained, two_labels

BOTH = dataclasses.replace(FAST, behavior_weight=0.5, behavior_users=32)
PURCHASES = {"behaviors": [0]}


def toy() -> KnowledgeGraph:
    """Users 0 to 2, items 3 to 6, brand 7; user 0 viewed (0) and bought (1) item 3; user 2 has nothing."""
    edges = np.array([[0, 0, 3], [0, 0, 4], [0, 1, 3], [1, 0, 4], [1, 1, 5], [3, 2, 7], [6, 2, 7]])
    heads, relations, tails = (column.copy() for column in edges.T)
    return KnowledgeGraph(heads, relations, tails, n_entities=8, n_relations=3)


def by_loops(x: np.ndarray, y: np.ndarray, positives: list[int], counts: np.ndarray, temperature: float) -> float:
    total = 0.0
    for b, own in enumerate(positives):
        scores = [
            dot(x[b], y[i]) / math.sqrt(dot(x[b], x[b]) * dot(y[i], y[i])) / temperature for i in range(len(y))]
        shares = [math.exp(score) for score in scores]
        total -= math.log(shares[own] / sum(share for share, counted in zip(shares, counts[b], strict=True) if counted))
    return total / len(positives)


def test_the_loss_agrees_with_loops() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(5, 6)), random.normal(size=(4, 6))
    positives, counts = [0, 3, 1, 1, 2], random.random((5, 4)) < 0.6
    counts[np.arange(5), positives] = True
    given = (torch.from_numpy(one) for one in (x, y, np.array(positives), counts))
    assert float(behavior_loss(*given, 0.2)) == pytest.approx(by_loops(x, y, positives, counts, 0.2), rel=1e-6)


def test_perfect_vectors_lose_nothing_and_the_worst_lose_twice_the_range_of_the_cosine() -> None:
    x, everyone = torch.eye(3), torch.ones(3, 3, dtype=torch.bool)
    own = torch.arange(3)
    assert float(behavior_loss(x, 5 * x, own, everyone, 0.01)) == pytest.approx(0, abs=1e-6)
    two = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert float(behavior_loss(two, -two, own[:2], everyone[:2, :2], 0.5)) == pytest.approx(4, abs=0.02)
    assert float(behavior_loss(x[:1], x[1:2], own[:1], everyone[:1, :1], 0.1)) == 0  # nothing to tell it from


def test_a_draw_holds_a_users_item_and_those_that_he_never_had() -> None:
    edges = BehaviorEdges(toy(), [0, 1], 2)
    edges.restart([0])
    seen = set()
    for _ in range(40):
        batch = edges.draw()
        assert batch.users.tolist() == [0, 1]  # user 2 has no edge
        had = {0: {3, 4}, 1: {4, 5}}
        items = batch.items.tolist()
        for b, user in enumerate((0, 1)):
            own = items[batch.positives[b]]
            assert own in had[user]
            assert batch.counts[b].tolist() == [item == own or item not in had[user] for item in items]
            seen.add((user, own))
    assert seen == {(0, 3), (0, 4), (1, 4), (1, 5)}


def test_all_edges_between_a_user_and_the_drawn_item_are_hidden() -> None:
    """Also those of another behaviour; edges with other items are not."""
    graph, edges = toy(), BehaviorEdges(toy(), [0, 1], 2)
    edges.restart([0])
    of_pair = {(0, 3): [0, 2], (0, 4): [1], (1, 4): [3], (1, 5): [4]}
    for _ in range(20):
        batch = edges.draw()
        pairs = zip(batch.users.tolist(), batch.items[batch.positives].tolist(), strict=True)
        assert sorted(batch.edges.tolist()) == sorted(edge for pair in pairs for edge in of_pair[pair])
        sampler = graph.sampler(5, 0, deterministic=True, per_relation=True)
        nodes = torch.from_numpy(np.concatenate([batch.users, batch.items]))
        sources, layers = sampler.sample(nodes, 1, batch.edges)
        heard = layers[0].from_nodes
        for b, own in enumerate(batch.items[batch.positives]):
            mine = heard.sources[heard.destinations == b]
            assert own not in sources[mine].tolist()


def test_every_user_comes_once_before_one_comes_again() -> None:
    data = planted()
    edges = BehaviorEdges(graph_of(data), [0], 25)
    edges.restart([3])
    drawn = [edges.draw().users for _ in range(12)]
    assert all(len(set(one.tolist())) == 25 for one in drawn)
    times = np.bincount(np.concatenate(drawn), minlength=data.n_users)
    assert times.min() == times.max() == 5
    assert BehaviorEdges(graph_of(data), [0], 1000)._size == data.n_users


def test_the_gradient_reaches_users_items_and_every_parameter_but_the_classifiers() -> None:
    data = planted(n_relations=1)
    graph, types = graph_of(data), types_of_nodes(data)
    model = RHGN(12, 3, code_types(graph, types), [4], FAST, seed=2)
    features = torch.from_numpy(random_features(data, 0)).requires_grad_()
    meta = MetaRelations.of(graph.into(0, graph.n_entities, engine="numba"))
    h_ND = model([meta, meta], features, torch.from_numpy(types))
    edges = BehaviorEdges(graph, [0], 60)
    edges.restart([0])
    batch = edges.draw()
    given = (torch.from_numpy(one) for one in (batch.positives, batch.counts))
    behavior_loss(h_ND[batch.users], h_ND[batch.items], *given, 0.1).backward()
    assert (features.grad[data.users].abs().sum(dim=1) > 0).all()
    assert (features.grad[batch.items].abs().sum(dim=1) > 0).all()
    for name, values in model.named_parameters():
        if name.startswith("classifiers."):
            assert values.grad is None
        elif name != "input.weight":  # brands are alone here
            assert values.grad.abs().sum() > 0 or name == "input.bias", name


def test_weight_0_is_training_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit, and nothing of the second loss is made or drawn."""
    data, hyper = planted(), dataclasses.replace(FAST, epochs=3, dropout=0.3, validation_share=0.3)
    other = dataclasses.replace(hyper, behavior_users=7, behavior_fanout=1, behavior_temperature=3.0)
    plain = trained(data, hyper)
    assert not same(plain.parameters, trained(data, dataclasses.replace(BOTH, epochs=3), **PURCHASES).parameters)
    monkeypatch.setattr("models.rhgn_training.BehaviorEdges", None)
    monkeypatch.setattr("models.rhgn_training.SecondLoss", None)
    for found in (trained(data, other), trained(data, hyper, **PURCHASES)):
        assert same(found.checkpoint(), plain.checkpoint())
        without = [{name: one[name] for name in one if name != "seconds"} for one in found.history]
        assert without == [{name: one[name] for name in one if name != "seconds"} for one in plain.history]
    assert all("behavior_loss" not in entry for entry in plain.history)


def test_the_first_epochs_eq_4_knows_nothing_of_the_second_loss() -> None:
    """One batch: its loss is worked out before a step was made, on neighbours of its own."""
    data = planted()
    hyper = dataclasses.replace(BOTH, epochs=1, batch_size=1000, fanout=2)
    plain = trained(data, dataclasses.replace(hyper, behavior_weight=0.0))
    assert trained(data, hyper, **PURCHASES).history[0]["loss"] == plain.history[0]["loss"]


def test_it_learns_taste_without_a_label_that_tells_it() -> None:
    """Labels at random; a user's neighbours among users share his taste by the second loss alone."""
    data = planted()
    labels = np.random.default_rng(0).integers(0, 2, size=(data.n_users, 2))
    shares, losses = [], []
    for weight in (0.0, 1.0):
        hyper = dataclasses.replace(BOTH, behavior_weight=weight, epochs=20)
        result = trained(data, hyper, labels=labels, **PURCHASES)
        found = infer_rhgn(graph_of(data), types_of_nodes(data), result.features, result.parameters, hyper)[0]
        unit = found / np.linalg.norm(found, axis=1, keepdims=True)
        shares.append(same_taste_share(unit[data.users], data.tastes[data.users]))
        losses.append([entry.get("behavior_loss") for entry in result.history])
    assert shares[1] > shares[0] + 0.15
    assert losses[0][0] is None and losses[1][-1] < losses[1][0] - 0.3


def test_it_repeats_bit_by_bit_and_a_warm_start_goes_on_from_a_model_without_it() -> None:
    data = planted()
    short = dataclasses.replace(BOTH, epochs=4, dropout=0.3)
    first = trained(data, short, **PURCHASES)
    assert same(first.checkpoint(), trained(data, short, **PURCHASES).checkpoint())
    stored, _ = from_bytes(to_bytes(trained(data, FAST).checkpoint()))
    assert stored.keys() == first.checkpoint().keys()
    warm = trained(data, short, initial=stored, **PURCHASES)
    assert warm.history[0]["loss"] < first.history[0]["loss"] / 2
    back = trained(data, dataclasses.replace(FAST, epochs=1), initial=warm.checkpoint())
    assert back.history[0]["loss"] < first.history[0]["loss"] / 2


def test_learned_rows_get_both_gradients() -> None:
    data = planted()
    learned, labels = types_of_nodes(data) == 0, two_labels(data)
    labels[1:] = -1  # one user trains by Eq. 4
    options = {"learned": learned, "labels": labels, "validation": np.zeros(data.n_users, bool)}
    hyper = dataclasses.replace(BOTH, epochs=2)
    moved = [
        (result.features != random_features(data, 7)).any(axis=1)[data.users].mean()
        for result in (trained(data, FAST, **options), trained(data, hyper, **options, **PURCHASES))]
    assert moved[0] < 1 and moved[1] == 1


@pytest.mark.parametrize("behaviors", [[], [0]])
def test_a_graph_without_an_edge_of_a_behaviour_learns_by_labels_alone(behaviors: list[int]) -> None:
    none = np.empty(0, dtype=np.int64)
    graph = KnowledgeGraph(none, none, none, n_entities=planted().n_entities, n_relations=2)
    data, hyper = planted(), dataclasses.replace(BOTH, epochs=2)
    plain = trained(data, dataclasses.replace(hyper, behavior_weight=0.0), graph=graph)
    found = trained(data, hyper, graph=graph, behaviors=behaviors)
    assert same(found.parameters, plain.parameters) and found.history[0]["behavior_loss"] == 0


def test_a_weight_without_behaviors_and_relations_that_are_none_are_refused() -> None:
    with pytest.raises(ShapeError, match="behavior_weight is 0.5 and behaviors None; expected the numbers of the rel"):
        trained(planted(), BOTH)
    with pytest.raises(ShapeError, match=r"behaviors has \[2\]; expected relations from 0 to 1"):
        trained(planted(), BOTH, behaviors=[0, 2])


@pytest.mark.parametrize(
    ("field", "value"),
    [("behavior_weight", -0.1), ("behavior_weight", float("nan")), ("behavior_weight", float("inf")),
     ("behavior_users", 1), ("behavior_fanout", 0), ("behavior_temperature", 0.0)],
)  # fmt: skip
def test_wrong_settings_are_named(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        RHGNHyperparameters(**{field: value})
