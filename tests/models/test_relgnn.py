"""RelGNN: every equation against loops written from the paper; attributes; inference; what is published."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from models.graph import KnowledgeGraph
from models.hyperparameters import HyperparameterError
from models.learning.epochs import parameters_of
from models.messages.meta_relations import MetaRelations
from models.relgnn import RelGNN, composed, infer_relgnn, vectors_of
from models.relgnn_attributes import Attribute, AttributeNetworks, check_attributes
from models.relgnn_hyperparameters import RelGNNHyperparameters
from models.shapes import ShapeError
from models.vectors.comparison import Comparer
from tests.models import reference_relgnn as reference

N, TYPES, RELATIONS, D = 8, np.array([0, 0, 0, 0, 1, 1, 2, 1]), 3, 6
TOY = RelGNNHyperparameters(dimension=D, heads=2, bases=2, dropout=0, attribute_width=4)
# users 0-3, items 4, 5 and 7, brand 6; two relations from 0 to 4; node 7 has neither edge nor attribute
EDGES = [(0, 0, 4), (0, 1, 4), (0, 0, 5), (1, 0, 4), (1, 1, 5), (2, 0, 5), (3, 1, 4), (3, 1, 5), (4, 2, 6), (5, 2, 6)]
HEADS, RELS, TAILS = np.array(EDGES).T
BRANDS = Attribute.of("brand", 1, np.array([4, 5]), np.array([1, 0]), 3, np.array([8, 9]))
TAGS = Attribute.of("tags", 1, np.array([5, 4, 5]), np.array([0, 1, 1]), 2)
AGES = Attribute.of("age", 0, np.array([0, 2, 3]), np.array([0.5, np.nan, -1.0], np.float32))


def graph(edges: slice | np.ndarray = slice(None)) -> KnowledgeGraph:
    columns = (np.ascontiguousarray(column[edges]) for column in (HEADS, RELS, TAILS))
    return KnowledgeGraph(*columns, n_entities=N, n_relations=RELATIONS)


def random_model(hyper: RelGNNHyperparameters, given: np.ndarray | None = None, learn: bool = False) -> RelGNN:
    """A float64 model whose every parameter is random."""
    random = torch.Generator().manual_seed(0)
    inputs = AttributeNetworks([BRANDS, TAGS, AGES], TYPES, 3, D, hyper.attribute_width, random, given, learn)
    model = RelGNN(inputs, RELATIONS, hyper, random).double()
    with torch.no_grad():
        for values in model.parameters():
            values.copy_(torch.randn(values.shape, generator=random, dtype=torch.float64) / 2)
    return model


def metas(hyper: RelGNNHyperparameters, engine: str = "numba") -> list[MetaRelations]:
    return [MetaRelations.of(graph().into(0, N, engine=engine))] * hyper.layers


def by_loops(model: RelGNN, h0: np.ndarray) -> np.ndarray:
    parameters, hyper, h = {k: v.detach().numpy() for k, v in model.named_parameters()}, model.hyper, h0
    for number in range(hyper.layers):
        own = {k.removeprefix(f"layers.{number}."): v for k, v in parameters.items()}
        last = number == hyper.layers - 1
        h = reference.layer(EDGES, h, own, parameters["relations"], hyper.attends, last)
    return reference.combined(h0, h, parameters["a_final"]) if hyper.combines else h


@pytest.mark.parametrize("change", [
    {}, {"layers": 3, "heads": 1}, {"bases": 0}, {"attends": False, "combines": False}, {"scoring": "complex"}])
@pytest.mark.parametrize("engine", ["numba", "torch", "dgl"])
def test_the_final_vectors_are_those_of_the_papers_equations(change: dict[str, object], engine: str) -> None:
    hyper = dataclasses.replace(TOY, **change)
    model = random_model(hyper)
    h0 = model.inputs(np.arange(N)).detach().numpy()
    found = model(metas(hyper, engine), np.arange(N)).detach().numpy()
    np.testing.assert_allclose(found, by_loops(model, h0), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("attends", [True, False])
def test_the_weights_of_a_nodes_messages_add_up(attends: bool) -> None:
    hyper = dataclasses.replace(TOY, attends=attends)
    model, meta = random_model(hyper), metas(hyper)[0]
    h = model.inputs(np.arange(N))
    sums = meta.adjacency.total(model.layers[0].weights(meta, h, h, model.relations)).detach().numpy()
    into = [[c for _, c in reference.messages_into(i, EDGES, RELATIONS)] for i in range(N)]
    np.testing.assert_allclose(sums, [min(len(c), 1) if attends else len(set(c)) for c in into], atol=1e-12)


@pytest.mark.parametrize("scoring", ["diagonal", "complex"])
@pytest.mark.parametrize("broken_tail", [True, False])
def test_a_score_is_the_product_of_a_query_with_the_other_end(scoring: str, broken_tail: bool) -> None:
    h, r, t = np.random.default_rng(1).normal(size=(3, D))
    own, other = (h, t) if broken_tail else (t, h)
    query = composed(*(torch.from_numpy(x[None]) for x in (own, r)), broken_tail, scoring)[0].numpy()
    assert query @ other == pytest.approx(reference.score(h, r, t, scoring))


def test_the_native_score_is_had_back_from_what_is_published() -> None:
    """A diagonal does not survive a rotation: the published rows give another number, and the score by R transposed."""
    rng = np.random.default_rng(2)
    users, items, r = rng.normal(size=(3, D)), rng.normal(size=(4, D)), rng.normal(size=D)
    rotation = np.linalg.qr(rng.normal(size=(D, D)))[0]
    native = np.array([[reference.score(u, r, v, "diagonal") for v in items] for u in users])
    comparer = Comparer("diagonal")
    published = [x @ rotation for x in (users, items, r)]
    back = [x @ rotation.T for x in published]
    np.testing.assert_allclose(-comparer.to_items(back[0], back[2], back[1]), native)
    assert np.abs(-comparer.to_items(published[0], published[2], published[1]) - native).max() > 0.5
    np.testing.assert_allclose(
        comparer.between_users(published[0], published[0]), comparer.between_users(users, users), atol=1e-12)


def test_attributes_become_first_vectors() -> None:
    model = random_model(TOY)
    p = {k.removeprefix("inputs."): v.detach().numpy() for k, v in model.named_parameters() if "inputs" in k}
    found, leaky = model.inputs(np.arange(N)).detach().numpy(), reference.leaky

    def of_item(brand: np.ndarray, tags: np.ndarray) -> np.ndarray:
        return p["maps.1"] @ np.concatenate([leaky(brand), leaky(tags)]) + p["biases.1"]

    brand, tag = p["tables.0"], p["tables.1"]
    np.testing.assert_allclose(found[4], of_item(brand[1], tag[1]))
    np.testing.assert_allclose(found[5], of_item(brand[0], (tag[0] + tag[1]) / 2))
    np.testing.assert_allclose(found[7], of_item(p["missing.0"], p["missing.1"]))
    age = leaky(np.array([0.5, 1.0]) @ p["tables.2"]) @ p["inner.2"]
    np.testing.assert_allclose(found[0], p["maps.0"] @ leaky(age) + p["biases.0"])
    for user in (1, 2):  # without an age, and with one that is no number
        np.testing.assert_allclose(found[user], p["maps.0"] @ leaky(p["missing.2"]) + p["biases.0"])
    np.testing.assert_allclose(found[6], p["biases.2"], err_msg="a type without attributes has a vector")


def test_a_hidden_edge_hides_its_attribute_and_no_other() -> None:
    model, hidden = random_model(TOY), np.arange(len(EDGES)) == 8
    plain, other = (model.inputs(np.arange(N), mask).detach().numpy() for mask in (None, hidden))
    changed = np.flatnonzero((plain != other).any(axis=1))
    assert changed.tolist() == [4], "the brand of item 4"
    assert np.allclose(other[4], random_model_without_brand())


def test_a_count_is_of_the_edges_that_are_not_hidden() -> None:
    """Items 4 and 5 have four edges of users each, item 7 none."""
    bought = np.array([n for n, (_, relation, _) in enumerate(EDGES) if relation < 2])[::-1]
    random = torch.Generator().manual_seed(0)
    count = Attribute.counting("bought", 1, TAILS[bought], bought)
    inputs = AttributeNetworks([count], TYPES, 3, D, 4, random).double()
    p = {name: values.detach().numpy() for name, values in inputs.named_parameters()}

    def of_count(n: int) -> np.ndarray:
        inner = reference.leaky(np.log([1.0 + n, np.e]) @ p["tables.0"]) @ p["inner.0"] if n else p["missing.0"]
        return p["maps.1"] @ reference.leaky(inner) + p["biases.1"]

    for hidden, counts in (([], (4, 4, 0)), ([0, 1], (2, 4, 0)), ([2, 4, 5, 7], (4, 0, 0))):
        mask = np.isin(np.arange(len(EDGES)), hidden)
        found = inputs(np.array([4, 5, 7]), mask).detach().numpy()
        np.testing.assert_allclose(found, [of_count(n) for n in counts], rtol=1e-9)


def random_model_without_brand() -> np.ndarray:
    model = random_model(TOY)
    one = model.inputs.attributes[0]
    kept = one.nodes != 4
    model.inputs.attributes[0] = dataclasses.replace(
        one, nodes=one.nodes[kept], values=one.values[kept], edges=one.edges[kept])
    model.inputs.offsets[0] = np.searchsorted(one.nodes[kept], np.arange(N + 1))
    return model.inputs(np.array([4])).detach().numpy()[0]


def test_given_vectors_go_in_beside_the_attributes_and_may_be_missing() -> None:
    given = np.random.default_rng(3).normal(size=(N, 5)).astype(np.float32)
    given[[2, 6]] = np.nan
    model = random_model(TOY, given)
    p = {k.removeprefix("inputs."): v.detach().numpy() for k, v in model.named_parameters() if "inputs" in k}
    found = model.inputs(np.arange(N)).detach().numpy()
    np.testing.assert_allclose(found[6], p["maps.2"] @ p["no_given"][2] + p["biases.2"])
    expected = np.concatenate([given[7], reference.leaky(p["missing.0"]), reference.leaky(p["missing.1"])])
    np.testing.assert_allclose(found[7], p["maps.1"] @ expected + p["biases.1"])
    assert "inputs.given" in parameters_of(random_model(TOY, given, learn=True)) and "given" not in p


def test_unseen_categories_and_numbers_that_are_none_are_missing() -> None:
    one = Attribute.of("brand", 1, np.array([5, 4, 7]), np.array([3, 2, -1]), 3)
    assert one.nodes.tolist() == [4] and one.values.tolist() == [2]
    assert AGES.nodes.tolist() == [0, 3]


def test_attributes_of_another_type_are_refused() -> None:
    with pytest.raises(ShapeError, match="attribute age has rows of nodes that are not of its type"):
        check_attributes([dataclasses.replace(AGES, nodes=np.array([0, 4]))], TYPES, 10)
    with pytest.raises(ShapeError, match="attribute brand names edge 9; expected less than 9"):
        check_attributes([BRANDS], TYPES, 9)


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_inference_in_chunks_is_the_whole_forward(chunk: int) -> None:
    hyper = dataclasses.replace(TOY, inference_chunk=chunk, dropout=0.5)
    model = random_model(hyper)
    model.eval()
    with torch.no_grad():
        expected = model(metas(hyper), np.arange(N))
    np.testing.assert_allclose(vectors_of(model, graph()), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(infer_relgnn(random_model(hyper), graph(), parameters_of(model)), expected, rtol=1e-9)


def test_parameters_of_another_shape_are_refused() -> None:
    parameters = parameters_of(random_model(dataclasses.replace(TOY, heads=1)))
    with pytest.raises(ValueError, match="'a_final' is of shape"):
        infer_relgnn(random_model(TOY), graph(), parameters)


@pytest.mark.parametrize(("change", "message"), [
    ({"scoring": "transe"}, "scoring is 'transe'"), ({"dimension": 7, "scoring": "complex"}, "dimension is 7"),
    ({"heads": 0}, "heads is 0"), ({"hides": "all"}, "hides is"), ({"negatives": 101}, r"sampling\.pool is 100"),
    ({"init": "kqgc"}, "init is 'kqgc'; expected one of attributes, ram_gnn, transe")])
def test_settings_out_of_range_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(HyperparameterError, match=message):
        RelGNNHyperparameters(**change)
