"""What goes into RHGN: content where there are words, keyed random vectors where there are none, and two nights in one
space."""

from __future__ import annotations

import dataclasses
import datetime
import json
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from feature_store import Table
from jobs.arrays import NONE, read_checkpoint, read_night
from jobs.embeddings import resolve_predecessor, rhgn_inputs
from jobs.embeddings.rhgn_inputs import Inputs, Nodes, Sentences, node_features, read_inputs
from jobs.program import Input, execute
from models.rhgn import filled_features
from tests.jobs.embeddings.planted import write_graph, write_ledgers
from tests.jobs.embeddings.rhgn_night import DATES, RHGN, USERS, checkpoint, config_of, night, publish, write_world

TYPES = ["brand", "empty", "item", "price", "user", "word"]
NIGHT, GARDEN = (
    ["aurora lights", "northern sky", "polar night", "winter stars"],
    ["garden rose", "spring tulip", "summer daisy", "flower bed"],
)
BINS, BRANDS, ITEMS, PEOPLE = (
    ["bin_1_of_2", "bin_2_of_2"],
    ["b1", "b22", "acme"],
    [f"i{n}" for n in range(100)],
    ["u1", "u2"],
)
RAW = [*BRANDS, *ITEMS, *BINS, *PEOPLE, *NIGHT, *GARDEN, "", "1999"]
KINDS = np.repeat([0, 2, 3, 4, 5], [len(BRANDS), len(ITEMS), len(BINS), len(PEOPLE), 10])
NODES, WORDS = Nodes(KINDS, TYPES, RAW), np.flatnonzero(KINDS == 5)
DIMENSION = 12


def edges() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Relation 0: a user buys an item; 1, 2, 3: an item's brand, price, and its two words, both of the night or both of
    the garden."""
    random, first = np.random.default_rng(0), len(BRANDS)
    rows = [(RAW.index(user), 0, first + n) for user in PEOPLE for n in range(0, 100, 7)]
    for n in range(100):
        words = random.choice(4, 2, replace=False) + 4 * (n % 2)
        rows += [
            (first + n, 1, n % 3),
            (first + n, 2, RAW.index(BINS[n % 2])),
            *((first + n, 3, WORDS[word]) for word in words),
        ]
    heads, relations, tails = np.array(rows).T
    return heads.copy(), relations.copy(), tails.copy()


def transe() -> np.ndarray:
    vectors = np.random.default_rng(1).normal(size=(len(RAW), DIMENSION)).astype(np.float32)
    vectors[RAW.index("u2")] = np.nan
    return vectors


def features(
    init: str = "transe", attributes: str = "content", former: np.ndarray | None = None, seed: int = 0
) -> Inputs:
    return node_features(NODES, edges(), transe(), init, attributes, seed, former)


def at_random(seed: int = 0) -> np.ndarray:
    return filled_features(np.full((len(RAW), DIMENSION), np.nan, np.float32), NODES.keys(), seed)


def test_words_have_vectors_of_their_content_codes_random_ones_and_the_rest_transes() -> None:
    found = features()
    assert found.of_content.tolist() == WORDS[:8].tolist()
    cosines = found.vectors[WORDS[:8]] @ found.vectors[WORDS[:8]].T
    assert cosines[:4, :4].min() > 0.5 and cosines[4:, 4:].min() > 0.5 and cosines[:4, 4:].max() < 0
    codes = np.isin(KINDS, [0, 3]) | np.isin(np.arange(len(RAW)), WORDS[8:])
    np.testing.assert_array_equal(found.vectors[codes], at_random()[codes])
    given = np.isin(KINDS, [2, 4]) & np.isfinite(transe()).all(axis=1)
    np.testing.assert_array_equal(found.vectors[given], transe()[given])
    np.testing.assert_array_equal(found.vectors[RAW.index("u2")], at_random()[RAW.index("u2")])


def test_each_choice_is_of_its_own_types() -> None:
    own = np.isin(KINDS, [2, 4])
    random_users = features("random", "content")
    np.testing.assert_array_equal(random_users.vectors[own], at_random()[own])
    np.testing.assert_array_equal(random_users.vectors[~own], features().vectors[~own])
    plain = features("random", "transe")
    np.testing.assert_array_equal(plain.vectors[~own], transe()[~own])
    assert not len(plain.of_content) and plain.extra() == {}
    np.testing.assert_array_equal(features("random", "random").vectors, at_random())


def test_random_vectors_that_were_asked_for_are_learned_and_no_others() -> None:
    """Codes among the values that are read too; who lacks a pretrained vector keeps the random one given instead."""
    own, read = np.isin(KINDS, [2, 4]), np.isin(np.arange(len(RAW)), WORDS[:8])
    for init, attributes, expected in (
        ("transe", "transe", np.zeros(len(RAW), bool)), ("transe", "content", ~own & ~read),
        ("random", "content", ~read), ("transe", "random", ~own), ("random", "random", np.ones(len(RAW), bool)),
    ):  # fmt: skip
        np.testing.assert_array_equal(features(init, attributes).learned, expected)


def test_learned_vectors_start_where_the_predecessors_ended_and_newcomers_at_random() -> None:
    before = np.full((len(RAW), DIMENSION), np.nan, np.float32)
    before[::2] = 7
    found = node_features(NODES, edges(), transe(), "random", "transe", 0, None, before)
    known, own = np.arange(len(RAW)) % 2 == 0, np.isin(KINDS, [2, 4])
    assert (found.vectors[known & own] == 7).all()
    np.testing.assert_array_equal(found.vectors[~known & own], at_random()[~known & own])
    np.testing.assert_array_equal(found.vectors[~own], transe()[~own])
    extra = found.where_learning_ended()
    np.testing.assert_array_equal(extra["learned_rows"], np.flatnonzero(own))
    np.testing.assert_array_equal(extra["learned"], found.vectors[own])


def test_random_vectors_are_the_nodes_own_whoever_else_there_is() -> None:
    """Half of the nodes gone, the types numbered otherwise: the rest have the same vectors."""
    kept = np.arange(0, len(RAW), 2)
    fewer = Nodes(
        np.array([3, 0, 1, 4, 2, 5])[KINDS[kept]], [TYPES[t] for t in (1, 2, 4, 0, 3, 5)], np.array(RAW, object)[kept]
    )
    none = np.zeros(0, np.int64)
    found = node_features(fewer, (none, none, none), transe()[kept], "random", "random", 0)
    np.testing.assert_array_equal(found.vectors, at_random()[kept])
    assert (found.vectors != at_random(seed=1)[kept]).any(axis=1).all()


def test_without_an_edge_to_a_word_all_values_are_random() -> None:
    heads, relations, tails = edges()
    found = node_features(
        NODES, tuple(part[relations != 3] for part in (heads, relations, tails)), transe(), "transe", "content", 0
    )
    np.testing.assert_array_equal(found.vectors[WORDS], at_random()[WORDS])
    assert not len(found.of_content)


def test_a_sentence_is_the_words_of_one_items_values_in_the_order_of_relations() -> None:
    brand_of_words = Nodes(np.array([0, 2, 2, 5, 5, 4]), TYPES, ["Big Brand", "i0", "i1", "polar night", "rose", "u1"])
    text = brand_of_words.with_text()
    assert text.tolist() == [True, False, False, True, True, False]
    heads, relations, tails = np.array([(2, 3, 4), (1, 3, 4), (1, 3, 3), (1, 1, 0), (5, 0, 1), (5, 4, 4)]).T
    found = Sentences.of(brand_of_words, text, (heads, relations, tails))
    assert list(found) == list(found) == [["big", "brand", "polar", "night", "rose"], ["rose"]]


def test_of_too_many_items_those_with_the_lowest_keys_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(Sentences.of(NODES, NODES.with_text(), edges()))
    monkeypatch.setattr(rhgn_inputs, "MOST_ITEMS", 10)
    items = np.flatnonzero(KINDS == 2)
    lowest = np.sort(np.argsort(NODES.keys()[items])[:10])
    assert (
        list(Sentences.of(NODES, NODES.with_text(), edges())) == [whole[item] for item in lowest] and len(whole) == 100
    )


def test_known_values_keep_their_vectors_and_new_ones_come_into_their_space() -> None:
    first = features()
    former = np.full(transe().shape, np.nan, np.float32)
    former[WORDS[1:8]] = first.vectors[WORDS[1:8]]  # the first word is new the second night, which draws otherwise
    second = features(former=former, seed=5)
    np.testing.assert_array_equal(second.vectors[WORDS[1:8]], former[WORDS[1:8]])
    apart = features(seed=5)
    space, alone = (found.vectors[WORDS[1:4]].mean(axis=0) for found in (second, apart))
    assert second.vectors[WORDS[0]] @ space > 0.5, "among the words of the night, in the first night's space"
    assert apart.vectors[WORDS[0]] @ alone > 0.5 > apart.vectors[WORDS[0]] @ space
    known = np.where(np.isin(np.arange(len(RAW)), first.of_content)[:, None], first.vectors, np.float32(np.nan))
    np.testing.assert_array_equal(features(former=known, seed=5).vectors[WORDS[:8]], first.vectors[WORDS[:8]])


def test_a_night_without_a_new_value_trains_no_text_model(monkeypatch: pytest.MonkeyPatch) -> None:
    first = features()
    former = np.where(np.isin(np.arange(len(RAW)), first.of_content)[:, None], first.vectors, np.float32(np.nan))
    monkeypatch.setattr(rhgn_inputs, "text_vectors", None)
    np.testing.assert_array_equal(features(former=former).vectors, first.vectors)


def test_whoever_transe_has_no_vector_of_has_a_random_one(root: Path) -> None:
    assert night(root, DATES[0]) == 0
    reads = [Input(name, str(root / "data" / name)) for name in ("knowledge_graph", "entity_ids", "relations")]
    found, transe = (
        read_night(str(DATES[0]), *reads),
        read_checkpoint(Table(str(root / "data/checkpoints/transe")), str(DATES[0])),
    )
    source = transe.source.copy()
    source[50:] = NONE  # whose rows are zeros then
    got = read_inputs(found, dataclasses.replace(transe, source=source), None, "transe", "transe", 3).vectors
    np.testing.assert_array_equal(got[:50], transe.entities[:50])
    np.testing.assert_array_equal(got[50:], filled_features(np.full_like(got, np.nan), found.entity_keys(), 3)[50:])


# --- in the night
# ---------------------------------------------------------------------------------------------------------------------

CONTENT = {"rhgn": RHGN | {"init_attributes": "content"}}
SHOPS = ["aurora lights", "garden rose", "polar night", "spring tulip"]


@pytest.fixture
def root(tmp_path: Path, spark: SparkSession) -> Path:
    write_world(tmp_path)
    return tmp_path


def sell(root: Path, date: datetime.date, brands: list[str]) -> None:
    write_ledgers(root / "data", USERS, brands=brands)
    write_graph(root / "data", date, USERS, brands=brands)


def content_by_id(root: Path, date: datetime.date) -> dict[tuple[str, int], np.ndarray]:
    """(type, ledger id) → the vector of its content."""
    found = checkpoint(root, date)
    return {
        (found.types[found.entity_type[row]], int(found.entity_id[row])): v
        for row, v in zip(found.extra["content_rows"], found.extra["content"], strict=True)
    }


def test_two_nights_with_content_go_on_in_one_space_with_a_value_that_is_new(root: Path) -> None:
    sell(root, DATES[0], SHOPS)
    sell(root, DATES[1], [*SHOPS, "winter stars"])
    assert night(root, DATES[0], **CONTENT) == publish(root, DATES[0], **CONTENT) == 0
    assert night(root, DATES[1], DATES[0], **CONTENT) == publish(root, DATES[1], DATES[0], **CONTENT) == 0
    first, second = (content_by_id(root, date) for date in DATES)
    assert {kind for kind, _ in first} == {"brand", "region"} and len(second) == len(first) + 1
    for name, vector in first.items():
        np.testing.assert_array_equal(second[name], vector)
    spaces = [
        Table(str(root / "data/feature_store/user_embeddings/model=rhgn")).manifest(str(date)).fields["space_id"]
        for date in DATES
    ]
    assert spaces[0] == spaces[1]


def test_a_night_with_content_repeats_and_differs_from_one_without(root: Path) -> None:
    sell(root, DATES[0], SHOPS)
    found = []
    for settings in (CONTENT, CONTENT, {}, {"rhgn": RHGN | {"init": "random"}}):
        assert night(root, DATES[0], **settings) == 0
        found.append(checkpoint(root, DATES[0]).entities)
    np.testing.assert_array_equal(found[0], found[1])
    assert all((found[0] != other).any() for other in found[2:]) and (found[2] != found[3]).any()


def test_what_later_nights_put_into_the_ledgers_changes_no_vector(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    sell(root, DATES[0], SHOPS)
    assert night(root, DATES[0], **CONTENT) == 0
    other = tmp_path_factory.mktemp("other")
    write_ledgers(other / "data", ["u999", *USERS[30:]], order_seed=5, brands=["summer daisy", *SHOPS[::-1]])
    write_world(other)
    sell(other, DATES[0], SHOPS)
    assert night(other, DATES[0], **CONTENT) == 0
    first, second = (checkpoint(folder, DATES[0]) for folder in (root, other))
    assert (first.entity_id != second.entity_id).any() and len(first.extra["content"]) > 0
    np.testing.assert_array_equal(first.entities, second.entities)
    np.testing.assert_array_equal(first.extra["content"], second.extra["content"])


def test_brands_that_are_codes_leave_the_night_as_it_is_with_random_values(root: Path) -> None:
    """b0 to b3 are codes; of the regions north and south no sentence says anything, since they are the users' and no
    item has words."""
    assert night(root, DATES[0], **CONTENT) == 0
    assert "content" not in checkpoint(root, DATES[0]).extra
    by_content = checkpoint(root, DATES[0]).entities
    assert night(root, DATES[0], rhgn=RHGN | {"init_attributes": "random"}) == 0
    np.testing.assert_array_equal(checkpoint(root, DATES[0]).entities, by_content)


def test_a_model_that_other_vectors_went_into_is_no_predecessor(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert night(root, DATES[0]) == publish(root, DATES[0]) == 0
    found = []
    for settings in ({}, CONTENT, {"rhgn": RHGN | {"init": "random"}}):
        assert (
            execute(resolve_predecessor.run, ["--date", str(DATES[1]), "--config", str(config_of(root, **settings))])
            == 0
        )
        found.append(json.loads(capsys.readouterr().out.splitlines()[-1])["rhgn"])
    assert found == [str(DATES[0]), None, None]
