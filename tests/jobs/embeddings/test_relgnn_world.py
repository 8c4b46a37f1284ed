"""What RelGNN learns from on a night: attributes out of the graph's edges, vectors of other models, rows by name."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pytest

from jobs.arrays import NONE, TRAINED, Checkpoint, Night
from jobs.configuration.sections import Attribute, Graph, Relation
from jobs.embeddings.finetune_relgnn import has_news, learned_source
from jobs.embeddings.relgnn_world import WORD_PLACES, NightWorld, place_of, shape_of
from jobs.program import JobError
from models.relgnn_hyperparameters import RelGNNHyperparameters

GRAPH = Graph(
    behaviors={"purchase": Relation()}, user_attributes={"region": Attribute()},
    item_attributes={"tags": Attribute(entity_type="tag"), "price": Attribute(type="number", bins=4)})  # fmt: skip
TYPES = ["item", "price", "region", "tag", "user"]
RAW = ["i0", "i1", "i2", "bin_1_of_4", "bin_4_of_4", "north", "new", "sale", "u0", "u1"]
KINDS = np.array([0, 0, 0, 1, 1, 2, 3, 3, 4, 4])
# i0 is cheap, i1 dear and both new and on sale, i2 has nothing; u0 is of the north; both bought i0
EDGES = [(0, 0, 3), (1, 0, 4), (0, 1, 6), (1, 1, 6), (1, 1, 7), (8, 2, 0), (9, 2, 0), (8, 3, 5)]
HEADS, RELATIONS, TAILS = np.array(EDGES).T
NIGHT = Night(
    TYPES, KINDS, 100 + np.arange(10), pa.chunked_array([RAW], pa.large_string()), np.arange(4),
    ["item_price", "item_tags", "purchase", "user_region"], np.array([0, 0, 4, 4]), np.array([1, 3, 0, 2]),
    HEADS, RELATIONS, TAILS, np.ones(8, np.int64))  # fmt: skip


def checkpoint(**facts: str) -> Checkpoint:
    vectors = np.arange(20, dtype=np.float32).reshape(10, 2)
    source = np.where(np.arange(10) == 4, NONE, TRAINED).astype(np.uint8)
    return Checkpoint.of_night(NIGHT, vectors, np.zeros((4, 2), np.float32), source, {}, facts)


def test_attributes_are_the_graphs_own_edges() -> None:
    price, tags, region = NightWorld.of(NIGHT, GRAPH, {}).world.attributes
    assert (price.name, tags.name, region.name) == ("item_price", "item_tags", "user_region")
    assert price.is_number and price.nodes.tolist() == [0, 1] and price.edges.tolist() == [0, 1]
    np.testing.assert_allclose(price.values, [-0.75 * 3**0.5, 0.75 * 3**0.5], rtol=1e-6)
    assert tags.nodes.tolist() == [0, 1, 1] and tags.values.tolist() == [0, 0, 1] and tags.n_values == 2
    assert region.node_type == 4 and region.nodes.tolist() == [8] and region.edges.tolist() == [7]
    assert NightWorld.of(NIGHT, GRAPH, {}).world.given is None


def test_numbers_of_behaviours_are_attributes_of_both_ends() -> None:
    """Both users bought item 0; a behaviour that nobody showed, and attributes, are not counted."""
    graph = dataclasses.replace(GRAPH, behaviors=GRAPH.behaviors | {"view": Relation()})
    plain, found = NightWorld.of(NIGHT, graph, {}), NightWorld.of(NIGHT, graph, {}, counts=True)
    users, items = found.world.attributes[3:]
    assert (users.node_type, users.nodes.tolist(), users.edges.tolist()) == (4, [8, 9], [5, 6]) and users.is_count
    assert (items.node_type, items.nodes.tolist(), items.edges.tolist()) == (0, [0, 0], [5, 6]) and items.is_count
    assert found.shape.attributes[3:] == [("number of purchase", "user"), ("number of purchase", "item")]
    assert has_news(plain.shape, found.shape) and not has_news(found.shape, found.shape)


def test_vectors_of_another_model_go_in_where_there_are_some() -> None:
    found = NightWorld.of(NIGHT, GRAPH, {"transe": checkpoint()})
    assert np.isnan(found.world.given[4]).all() and np.isfinite(np.delete(found.world.given, 4, axis=0)).all()
    assert found.shape.given_width == 2


def test_an_attribute_without_an_edge_tonight_is_none() -> None:
    graph = dataclasses.replace(GRAPH, user_attributes=GRAPH.user_attributes | {"age": Attribute()})
    assert [a.name for a in NightWorld.of(NIGHT, graph, {}).world.attributes] == [
        "item_price", "item_tags", "user_region"]  # fmt: skip


def test_the_next_night_reads_what_the_rows_stood_for() -> None:
    found = NightWorld.of(NIGHT, GRAPH, {})
    assert [ids.tolist() for ids in found.shape.values] == [[], [106, 107], [105]], "by ledger id"
    former = dataclasses.replace(checkpoint(**found.facts()), extra=found.extra())
    assert json.dumps(shape_of(former).attributes) == json.dumps(found.shape.attributes)
    assert [a.tolist() for a in shape_of(former).values] == [a.tolist() for a in found.shape.values]
    assert not has_news(shape_of(former), found.shape)
    some, none = np.array([1]), np.zeros(0, np.int64)
    for part, more in (("relations", "cart"), ("types", "shop"), ("attributes", ("item_brand", "item"))):
        values = [*found.shape.values, *[some] * (part == "attributes")]
        now = dataclasses.replace(found.shape, **{part: [*getattr(found.shape, part), more], "values": values})
        assert has_news(shape_of(former), now) and not has_news(now, found.shape), part
    coded = dataclasses.replace(found.shape, values=[some, none, *found.shape.values[2:]])
    assert has_news(shape_of(former), coded), "a price that is a code now, and tags that are a number"
    with pytest.raises(JobError, match="fact 'shape' is missing"):
        shape_of(checkpoint())


TEXTS = [*RAW[:6], "New soft drinks, 12x", "SALE: drinks & more", *RAW[8:]]
TITLED = dataclasses.replace(NIGHT, raw=pa.chunked_array([TEXTS], pa.large_string()))


def test_a_text_is_its_words_wherever_they_stand() -> None:
    """Item 0 has the first text, item 1 both."""
    found = NightWorld.of(TITLED, GRAPH, {}, ["item_tags"])
    _, tags, _ = found.world.attributes
    first, second = (sorted(place_of(word) for word in words) for words in (
        ("new", "soft", "drinks"), ("sale", "drinks", "more")))  # fmt: skip
    assert tags.nodes.tolist() == [0] * 3 + [1] * 6 and tags.edges.tolist() == [2] * 3 + [3] * 3 + [4] * 3
    assert tags.values.tolist() == [*first, *first, *second] and tags.n_values == WORD_PLACES
    model = found.world.model(RelGNNHyperparameters(dimension=8), 0)
    hidden = np.arange(8) == 4  # the second text of item 1
    both = model.inputs(np.array([0, 1, 2]), hidden).detach().numpy()
    price = np.arange(8) < 2
    assert not np.allclose(both[0], both[1]), "prices differ"
    np.testing.assert_allclose(*model.inputs(np.array([0, 1]), hidden | price).detach().numpy(), rtol=1e-6)
    wordless = dataclasses.replace(TITLED, raw=pa.chunked_array([[*RAW[:6], "12x", "&", *RAW[8:]]], pa.large_string()))
    assert not len(NightWorld.of(wordless, GRAPH, {}, ["item_tags"]).world.attributes[1].nodes), "missing, as none is"


def test_an_attribute_that_became_a_text_is_new() -> None:
    before, now = NightWorld.of(NIGHT, GRAPH, {}), NightWorld.of(NIGHT, GRAPH, {}, ["item_tags"])
    assert has_news(before.shape, now.shape) and has_news(now.shape, before.shape)
    former = dataclasses.replace(checkpoint(**now.facts()), extra=now.extra())
    assert not has_news(shape_of(former), now.shape)
    assert now.shape.values[1].tolist() == list(range(WORD_PLACES)), "a word's place is the same on every night"


@pytest.mark.parametrize("wrong", ["tags", "item_price"])
def test_a_text_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(JobError, match=rf"relgnn\.text_attributes\[1\] is '{wrong}'; expected .*: item_tags, user_reg"):
        NightWorld.of(NIGHT, GRAPH, {}, ["item_tags", wrong])


def test_who_teaches_nothing_is_inferred() -> None:
    taught = RELATIONS != 2
    assert np.flatnonzero(learned_source(NIGHT, taught) == TRAINED).tolist() == [0, 1, 3, 4, 5, 6, 7, 8]
