"""RHGN's training: the paper's loss on what is sampled, early stopping, learned rows, determinism, bad input."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from models.graph import KnowledgeGraph
from models.hyperparameters import RHGNHyperparameters
from models.rhgn import RHGN, code_types, infer_rhgn
from models.rhgn_classifiers import class_probabilities
from models.rhgn_training import RHGNResult, balanced, train_rhgn
from models.shapes import ShapeError
from tests.models import reference
from tests.models.contract import Planted, planted
from tests.models.test_rhgn import (  # noqa: F401  (a fixture)
    FAST,
    _one_thread,
    graph_of,
    random_features,
    types_of_nodes,
)

HELD = dataclasses.replace(FAST, validation_share=0.3)


def two_labels(data: Planted) -> np.ndarray:
    """The taste of two users in three, and whether it is an even one, of every other user."""
    taste = np.where(data.users % 3 < 2, data.tastes[data.users], -1)
    return np.stack([taste, np.where(data.users // 4 % 2 == 0, data.tastes[data.users] % 2, -1)], 1)


def trained(
    data: Planted,
    hyper: RHGNHyperparameters = FAST,
    seed: int = 1,
    labels: np.ndarray | None = None,
    **options: object,
) -> RHGNResult:
    labels = two_labels(data) if labels is None else labels
    features = options.pop("features", random_features(data, 7))
    graph = options.pop("graph", None) or graph_of(data)
    given = (graph, types_of_nodes(data), features, data.users, labels, [4, 2], hyper)
    return train_rhgn(*given, seed=seed, deterministic=True, **options)


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def test_training_computes_the_papers_loss_on_full_neighbourhoods() -> None:
    """One batch of all users with a fanout above every degree: the first epoch's loss is Eq. 4 at the start."""
    data = planted(n_users=8, n_items=6)
    plain = {"validation_share": 0, "dropout": 0, "class_weights": False}
    hyper = RHGNHyperparameters(width=8, heads=2, epochs=1, fanout=1000, **plain)
    labels, features, graph = two_labels(data), random_features(data, 7), graph_of(data)
    result = train_rhgn(graph, types_of_nodes(data), features, data.users, labels, [4, 2], hyper, seed=4)
    model = RHGN(12, 3, code_types(graph, types_of_nodes(data)), [4, 2], hyper, seed=4)
    p = {name: values.detach().double().numpy() for name, values in model.named_parameters()}
    types = types_of_nodes(data).tolist()
    edges = list(zip(data.heads.tolist(), data.relations.tolist(), data.tails.tolist(), strict=True))
    given = zip(features.astype(float), types, strict=True)
    h = [reference.affine(p["input.weight"][t], x, p["input.bias"][t]) for x, t in given]
    for number in range(2):
        own = {name.split(".", 2)[2]: values for name, values in p.items() if name.startswith(f"layers.{number}.")}
        h, _ = reference.rhgn_layer(edges, h, types, 2, own, hyper.heads)
    expected, seen = 0.0, (labels >= 0).any(axis=1)
    for j in range(2):
        weight, bias = p[f"classifiers.{j}.weight"], p[f"classifiers.{j}.bias"]
        logits = [reference.affine(weight, h[user], bias) for user in data.users]
        expected += reference.cross_entropy(logits, labels[:, j].tolist()) / seen.sum()
    assert result.history[0]["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("softmax_over", ["all", "relation"])
def test_a_sample_of_equal_neighbours_says_what_all_of_them_say(softmax_over: str) -> None:
    """All users click on all items and buy one in four.

    Within a type nodes are alike, so that two drawn under each relation have to stand for 40 or 10.
    """
    users, items = (side.ravel() for side in np.meshgrid(np.arange(40), np.arange(40), indexing="ij"))
    bought = (users + items) % 4 == 0
    heads, tails = np.concatenate([users, users[bought]]), 40 + np.concatenate([items, items[bought]])
    relations = np.repeat([0, 1], [users.size, bought.sum()])
    graph = KnowledgeGraph(heads, relations, tails, n_entities=80, n_relations=2)
    types, labels = np.repeat([0, 1], 40), np.arange(40)[:, None] % 2
    features = np.random.default_rng(0).normal(size=(2, 6)).astype(np.float32)[types]
    losses = []
    for fanout in (2, 40):
        hyper = dataclasses.replace(HELD, softmax_over=softmax_over, fanout=fanout, epochs=1, learning_rate=1e-30)
        given = (graph, types, features, np.arange(40), labels, [2], hyper)
        (entry,) = train_rhgn(*given, seed=4, deterministic=True).history
        losses.append([entry["loss"], entry["validation_loss"]])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_both_labels_are_learned_and_told_of_users_who_have_none() -> None:
    data = planted()
    result, graph = trained(data), graph_of(data)
    vectors, _ = infer_rhgn(graph, types_of_nodes(data), result.features, result.parameters, FAST)
    for j, truth in enumerate((data.tastes[data.users], data.tastes[data.users] % 2)):
        unseen = two_labels(data)[:, j] < 0
        found = class_probabilities(result.parameters, vectors[data.users])[j].argmax(axis=1)
        assert unseen.sum() >= 20 and (found == truth)[unseen].mean() > 0.8


def test_labels_at_random_teach_nothing_about_others() -> None:
    data = planted(n_users=200)
    labels = np.random.default_rng(0).permutation(data.tastes[data.users])[:, None]
    held = data.users % 2 == 0
    graph, types, features = graph_of(data), types_of_nodes(data), random_features(data, 7)
    given = (graph, types, features, data.users[~held], labels[~held], [4], FAST)
    result = train_rhgn(*given, seed=0, deterministic=True)
    vectors, _ = infer_rhgn(graph, types, result.features, result.parameters, FAST)
    named = class_probabilities(result.parameters, vectors[data.users])[0].argmax(axis=1)
    accuracy = (named == labels[:, 0])[held].mean()
    assert accuracy < 0.25 + 4 * np.sqrt(0.25 * 0.75 / held.sum())


def test_early_stopping_returns_the_best_epochs_parameters() -> None:
    data, learned = planted(), np.ones(planted().n_entities, bool)
    hyper = dataclasses.replace(HELD, epochs=60, learning_rate=0.05, patience=3, stop_on="loss")
    result = trained(data, hyper, learned=learned)
    losses = [entry["validation_loss"] for entry in result.history]
    assert result.best_epoch == int(np.argmin(losses)) and len(losses) == result.best_epoch + 4 < 60
    seen: list[float] = []
    options = {"learned": learned, "progress": lambda entry: seen.append(entry["loss"])}
    again = trained(data, dataclasses.replace(hyper, patience=0, evaluate_every=1), **options)
    assert len(seen) == 60 and seen[: len(losses)] == [entry["loss"] for entry in result.history]
    assert again.history[result.best_epoch]["validation_loss"] == losses[result.best_epoch]


def test_class_weights_make_every_class_weigh_the_same() -> None:
    labels = np.array([[0, -1], [0, 2], [0, 2], [1, 0]])
    one, two = balanced(labels, [2, 3])
    assert one.tolist() == pytest.approx([4 / 6, 2])
    assert two.tolist() == pytest.approx([3 / 2, 0, 3 / 4])  # no user of class 1: no weight


def test_class_weights_name_rare_classes_more_often() -> None:
    """Where vectors say little, a rare class is named by weight or not at all."""
    data = planted(n_users=200)
    rare = (np.random.default_rng(3).random(data.users.size) < 0.1).astype(np.int64)[:, None]
    graph, types, features = graph_of(data), types_of_nodes(data), random_features(data, 7)
    named = []
    for weighted in (False, True):
        hyper = dataclasses.replace(FAST, class_weights=weighted, epochs=3)
        given = (graph, types, features, data.users, rare, [2], hyper)
        result = train_rhgn(*given, seed=0, deterministic=True)
        vectors, _ = infer_rhgn(graph, types, result.features, result.parameters, hyper)
        named.append(class_probabilities(result.parameters, vectors[data.users])[0].argmax(axis=1).sum())
    assert named[0] < rare.sum() < named[1]


def test_epochs_look_at_the_same_draw_of_held_out_users() -> None:
    """With a step of nothing, every look finds the same figures."""
    result = trained(planted(), dataclasses.replace(HELD, epochs=3, learning_rate=1e-30, fanout=1))
    figures = [{name: entry[name] for name in entry if name.startswith("validation")} for entry in result.history]
    assert figures[0] == figures[1] == figures[2]
    names = ("loss", "accuracy", "macro_f1", "macro_f1_0", "accuracy_1")
    assert {f"validation_{name}" for name in names} <= set(figures[0])
    assert len({entry["loss"] for entry in result.history}) == 3  # while training draws anew


def test_what_decides_can_be_macro_f1() -> None:
    result = trained(planted(), dataclasses.replace(HELD, epochs=20, stop_on="macro_f1", patience=0))
    assert result.best_epoch == int(np.argmax([entry["validation_macro_f1"] for entry in result.history]))


def test_held_out_labels_do_not_train() -> None:
    """Changed, they change the figures and, where nothing stops early, no parameter."""
    data, labels = planted(), two_labels(planted())
    held = data.users % 5 == 0
    changed = labels.copy()
    changed[held] = np.where(labels[held] >= 0, 1 - labels[held] % 2, -1)
    hyper = dataclasses.replace(FAST, epochs=3, patience=0, stop_on="loss")
    first, second = (trained(data, hyper, labels=given, validation=held) for given in (labels, changed))
    assert [entry["loss"] for entry in first.history] == [entry["loss"] for entry in second.history]
    assert first.history[0]["validation_loss"] != second.history[0]["validation_loss"]


def test_only_learned_rows_are_learned() -> None:
    data = planted()
    learned, features = types_of_nodes(data) == 1, random_features(data, 7)
    features.setflags(write=False)
    result = trained(data, FAST, learned=learned, features=features)
    np.testing.assert_array_equal(result.features[~learned], features[~learned])
    assert (result.features[learned] != features[learned]).any(axis=1).mean() > 0.9
    assert result.history[-1]["loss"] < trained(data, FAST).history[-1]["loss"]


# --- repeats ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("softmax_over", ["all", "relation"])
def test_deterministic_training_repeats_bit_by_bit_with_several_threads_at_work(softmax_over: str) -> None:
    torch.set_num_threads(4)
    rng = np.random.default_rng(0)
    n, edges = 3000, 30_000
    heads, tails = rng.integers(1000, size=edges), rng.integers(1000, n, size=edges)
    graph = KnowledgeGraph(heads, rng.integers(2, size=edges), tails, n_entities=n, n_relations=2)
    features, users = rng.normal(size=(n, 32)).astype(np.float32), np.arange(600)
    labels = rng.integers(-1, 3, size=(600, 1))
    hyper = RHGNHyperparameters(epochs=2, batch_size=256, dropout=0.3, softmax_over=softmax_over)
    given = (graph, np.repeat([0, 1], [1000, 2000]), features, users, labels, [3], hyper)
    options = {"seed": 9, "deterministic": True, "learned": np.arange(n) >= 1000}
    results = [train_rhgn(*given, **options) for _ in range(2)]
    assert same(results[0].checkpoint(), results[1].checkpoint())
    np.testing.assert_array_equal(results[0].features, results[1].features)
    for entry in (entry for result in results for entry in result.history):
        del entry["seconds"]
    assert results[0].history == results[1].history


def test_dropout_changes_training_alone() -> None:
    data, hyper = planted(), dataclasses.replace(FAST, dropout=0.5, epochs=2)
    without = dataclasses.replace(hyper, dropout=0.0)
    before = torch.random.get_rng_state()
    result = trained(data, hyper)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert result.history[0]["loss"] != trained(data, without).history[0]["loss"]
    given = (graph_of(data), types_of_nodes(data), result.features, result.parameters)
    np.testing.assert_array_equal(infer_rhgn(*given, hyper)[0], infer_rhgn(*given, without)[0])


# --- bad input --------------------------------------------------------------------------------------------------------


def test_without_a_label_nothing_is_learned_and_inference_works() -> None:
    data = planted()
    graph, types, features = graph_of(data), types_of_nodes(data), random_features(data, 7)
    result = trained(data, labels=np.full((data.n_users, 2), -1))
    fresh = RHGN(12, 3, code_types(graph, types), [4, 2], FAST, seed=1)
    assert result.history == [] and result.best_epoch == -1
    np.testing.assert_array_equal(result.parameters["layers.0.w_att"], fresh.layers[0].w_att.detach().numpy())
    none, no_labels = np.empty(0, dtype=np.int64), np.empty((0, 2), np.int64)
    alone = train_rhgn(graph, types, features, none, no_labels, [4, 2], FAST, seed=1)
    assert same(alone.parameters, result.parameters)
    assert np.isfinite(infer_rhgn(graph, types, result.features, result.parameters, FAST)[0]).all()


@pytest.mark.parametrize("case", ["one class", "one user", "none of one label", "held-out users without one label"])
def test_labels_that_say_little_train_all_the_same(case: str) -> None:
    data, labels = planted(), two_labels(planted())
    held = data.users % 5 == 0
    if case == "one class":
        labels = np.where(labels >= 0, 1, -1)
    elif case == "one user":
        labels[1:] = -1
    elif case == "none of one label":
        labels[:, 1] = -1
    else:
        labels[held, 0] = -1
    result = trained(data, dataclasses.replace(FAST, epochs=2), labels=labels, validation=held)
    assert len(result.history) == (0 if case == "one user" else 2)  # the one user is held out
    assert all(np.isfinite(values).all() for values in result.parameters.values())


def test_a_relation_without_edges_and_a_type_without_nodes_change_nothing_for_the_rest() -> None:
    data, hyper = planted(), dataclasses.replace(FAST, epochs=2)
    more = KnowledgeGraph(data.heads, data.relations, data.tails, n_entities=data.n_entities, n_relations=5)
    result = trained(data, hyper, graph=more, n_types=6)
    assert result.parameters["layers.0.w_att"].shape[0] == 10 and len(result.parameters["input.weight"]) == 6
    assert all(np.isfinite(values).all() for values in result.parameters.values())


def test_a_graph_without_edges() -> None:
    none = np.empty(0, dtype=np.int64)
    graph = KnowledgeGraph(none, none, none, n_entities=5, n_relations=2)
    features, users, labels = np.eye(5, 12, dtype=np.float32), np.arange(5), np.array([[0], [1], [0], [1], [-1]])
    for softmax_over in ("all", "relation"):
        hyper = dataclasses.replace(FAST, softmax_over=softmax_over, epochs=2)
        result = train_rhgn(graph, np.zeros(5, int), features, users, labels, [2], hyper, seed=0)
        vectors, table = infer_rhgn(graph, np.zeros(5, int), features, result.parameters, hyper, attention_of=users)
        assert np.isfinite(vectors).all() and table.nodes.size == 0


def test_arrays_that_do_not_fit_are_refused() -> None:
    data, labels = planted(), two_labels(planted())
    with pytest.raises(ShapeError, match=r"labels has values from -1 to 4 in column 0; expected -1 \(missing\) to 3"):
        trained(data, labels=np.where(labels == 3, 4, labels))
    with pytest.raises(ShapeError, match="labels has shape"):
        trained(data, labels=labels[:, :1])
    with pytest.raises(ShapeError, match="validation has shape"):
        trained(data, validation=np.zeros(3, bool))
    with pytest.raises(ShapeError, match="users names 1 users more than once"):
        given = (graph_of(data), types_of_nodes(data), random_features(data, 7))
        train_rhgn(*given, np.array([3, 3]), labels[:2], [4, 2], FAST, seed=0)
    with pytest.raises(ShapeError, match="node_types has values from 0 to 2; expected .* from 0 to 1"):
        trained(data, n_types=2)
