"""RelGNN's arrays of one night brought to another's relations, types, attributes and values."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from models.learning.epochs import parameters_of
from models.relgnn import infer_relgnn
from models.relgnn_attributes import Attribute
from models.relgnn_hyperparameters import RelGNNHyperparameters
from models.relgnn_training import World, train_relgnn
from models.relgnn_warm_start import Shape, brought_forward
from models.transe import Triples

HYPER = RelGNNHyperparameters(dimension=8, heads=2, bases=2, attribute_width=4, epochs=3, fanout=0,
                              validation_share=0.0, dropout=0.0)  # fmt: skip
# brands 0-1, items 2-4, users 5-8, as the types' names sort
BEFORE = Shape(["brand", "purchase"], ["brand", "item", "user"], [("brand", "item"), ("price", "item")],
               [np.array([70, 71]), np.zeros(0, np.int64)])  # fmt: skip


def night(permuted: bool) -> tuple[World, Shape]:
    """The same graph, or tonight's: the relations and types in another order, an attribute and a value more."""
    edges = np.array([[2, 3, 4, 5, 6, 7, 8], [0, 0, 0, 1, 1, 1, 1], [0, 1, 0, 2, 3, 4, 2]])
    kinds, ends = np.array([0, 0, 1, 1, 1, 2, 2, 2, 2]), (np.array([1, 2]), np.array([0, 1]))
    keys = np.arange(9, dtype=np.uint64)
    brand = Attribute.of("brand", 1, edges[0][:3], np.array([0, 1, 0]), 2, np.arange(3))
    price = Attribute.of("price", 1, np.array([2, 3]), np.array([0.5, -0.5], np.float32))
    attributes, shape = [brand, price], BEFORE
    if permuted:
        edges[1], kinds = 1 - edges[1], np.array([0, 0, 2, 2, 2, 1, 1, 1, 1])
        ends = (np.array([1, 2]), np.array([2, 0]))
        region = Attribute.of("region", 1, np.array([5]), np.array([0]), 1)
        attributes = [dataclasses.replace(price, node_type=2), region,
                      dataclasses.replace(brand, node_type=2, values=brand.values + 1, n_values=3)]  # fmt: skip
        shape = Shape(["purchase", "brand"], ["brand", "user", "item"],
                      [("price", "item"), ("region", "user"), ("brand", "item")],
                      [np.zeros(0, np.int64), np.array([9]), np.array([69, 70, 71])])  # fmt: skip
    return World(Triples(*edges, kinds, *ends, keys, keys[:2]), attributes), shape


@pytest.mark.parametrize("bases", [2, 0])
def test_the_same_model_in_another_order_infers_the_same(bases: int) -> None:
    hyper = dataclasses.replace(HYPER, bases=bases)
    world, _ = night(permuted=False)
    former = train_relgnn(world, hyper, seed=1).arrays
    expected = infer_relgnn(world.model(hyper, 1), world.graph(), former)
    tonight, shape = night(permuted=True)
    # users have a region now, of which the former model knew nothing: their first vectors differ by it alone
    plain = World(tonight.triples, [a for a in tonight.attributes if a.name != "region"])
    without = Shape(shape.relations, shape.types, [shape.attributes[0], shape.attributes[2]],
                    [shape.values[0], shape.values[2]])  # fmt: skip
    found = brought_forward(former, parameters_of(plain.model(hyper, 2)), BEFORE, without)
    np.testing.assert_allclose(infer_relgnn(plain.model(hyper, 2), plain.graph(), found), expected, atol=1e-5)
    for name, values in found.items():
        if name.startswith("optimiser.relations.exp"):
            np.testing.assert_array_equal(values, former[name][::-1])


def test_what_is_new_starts_as_a_new_model_has_it() -> None:
    former = train_relgnn(night(permuted=False)[0], HYPER, seed=1).arrays
    tonight, shape = night(permuted=True)
    fresh = parameters_of(tonight.model(HYPER, 2))
    found = brought_forward(former, fresh, BEFORE, shape)
    np.testing.assert_array_equal(found["inputs.tables.1"], fresh["inputs.tables.1"])
    np.testing.assert_array_equal(found["inputs.tables.2"][0], fresh["inputs.tables.2"][0])
    np.testing.assert_array_equal(found["inputs.tables.2"][1:], former["inputs.tables.0"])
    assert (found["optimiser.inputs.tables.2.exp_avg_sq"][0] == 0).all()
    np.testing.assert_array_equal(found["inputs.maps.1"], fresh["inputs.maps.1"])
    # an item's map: price, then brand; it was brand, then price
    np.testing.assert_array_equal(found["inputs.maps.2"], former["inputs.maps.1"][:, [4, 5, 6, 7, 0, 1, 2, 3]])
    again = train_relgnn(tonight, HYPER, seed=1, initial=found)
    assert np.isfinite(infer_relgnn(tonight.model(HYPER, 1), tonight.graph(), again.arrays)).all()


def test_rows_and_columns_find_their_places_where_there_are_more_or_fewer() -> None:
    before = Shape(["brand", "purchase"], ["item", "user"], [("brand", "item")], [np.array([70])], given_width=3)
    now = Shape(["brand", "cart", "purchase"], ["user", "item", "shop"], [("brand", "item")], [np.array([70])], 2)
    former = {"layers.0.shares": np.arange(8.0).reshape(4, 2), "inputs.no_given": np.array([[1.0], [2.0]]),
              "inputs.maps.0": np.arange(12.0).reshape(3, 4), "inputs.missing.0": np.zeros(1)}  # fmt: skip
    fresh = {"layers.0.shares": np.full((6, 2), -1.0), "inputs.no_given": np.full((3, 1), -1.0),
             "inputs.maps.1": np.full((3, 3), -1.0), "inputs.missing.0": np.zeros(1)}  # fmt: skip
    found = brought_forward(former, fresh, before, now)
    expected = former["layers.0.shares"][[0, 0, 1, 2, 2, 3]]
    expected[[1, 4]] = -1
    np.testing.assert_array_equal(found["layers.0.shares"], expected, err_msg="a relation's code, then its reverse")
    assert found["inputs.no_given"].tolist() == [[2], [1], [-1]]
    np.testing.assert_array_equal(found["inputs.maps.1"], former["inputs.maps.0"][:, [0, 1, 3]])


def test_an_attribute_that_became_a_number_or_a_category_starts_anew() -> None:
    world, shape = night(permuted=False)
    former = train_relgnn(world, HYPER, seed=1).arrays
    brand, price = world.attributes
    number = Attribute.of("brand", 1, brand.nodes, brand.values.astype(np.float32))
    codes = Attribute.of("price", 1, price.nodes, np.array([2, 0]), 3)
    tonight = World(world.triples, [number, codes])
    now = dataclasses.replace(shape, values=[np.zeros(0, np.int64), np.array([90, 91, 92])])
    fresh = parameters_of(tonight.model(HYPER, 2))
    found = brought_forward(former, fresh, BEFORE, now)
    for name in ("inputs.tables.0", "inputs.tables.1", "inputs.inner.0", "inputs.missing.0", "inputs.maps.1"):
        np.testing.assert_array_equal(found[name], fresh[name], err_msg=name)
    np.testing.assert_array_equal(found["relations"], former["relations"])
    again = train_relgnn(tonight, HYPER, seed=1, initial=found)
    assert np.isfinite(infer_relgnn(tonight.model(HYPER, 1), tonight.graph(), again.arrays)).all()


def test_other_hyperparameters_are_refused() -> None:
    former = train_relgnn(night(permuted=False)[0], HYPER, seed=1).arrays
    world, shape = night(permuted=False)
    wider = dataclasses.replace(HYPER, dimension=10)
    with pytest.raises(ValueError, match=r"train without it"):
        found = brought_forward(former, parameters_of(world.model(wider, 1)), BEFORE, shape)
        train_relgnn(world, wider, seed=1, initial=found)


def test_bases_that_became_one_for_each_code_are_refused() -> None:
    world, shape = night(permuted=False)
    former = train_relgnn(world, HYPER, seed=1).arrays
    fresh = parameters_of(world.model(dataclasses.replace(HYPER, bases=0), 1))
    with pytest.raises(ValueError, match=r"^2 rows of shape \(8, 8\) in the checkpoint; expected at least 4 of"):
        brought_forward(former, fresh, BEFORE, shape)
