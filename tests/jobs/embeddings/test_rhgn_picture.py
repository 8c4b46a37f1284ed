"""The picture's aggregate against a slow loop over messages; who is drawn; which attribute stands for categories."""

from __future__ import annotations

import json
from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest

from jobs.arrays import Night
from jobs.embeddings.rhgn_picture import (
    MOST_CATEGORIES,
    USERS_OF_A_GROUP,
    Group,
    choose_attribute,
    choose_groups,
    picture,
    users_of,
)
from models.rhgn import MISSING, AttentionTable

USERS, ITEMS, GENRES, REGIONS = 40, 60, 12, 3
TYPES = ["genre", "item", "region", "user"]
RELATIONS = [
    ("buy", "user", "item"),
    ("click", "user", "item"),
    ("item_genre", "item", "genre"),
    ("maker", "item", "user"),
    ("user_region", "user", "region"),
]
FIRST = {"genre": 0, "item": GENRES, "region": GENRES + ITEMS, "user": GENRES + ITEMS + REGIONS}


def night_of(edges: list[tuple[int, int, int]], n_users: int = USERS) -> Night:
    """edges: (relation, head, tail), dense."""
    sizes = [GENRES, ITEMS, REGIONS, n_users]
    raw = [f"{kind}-{i:03d}" for kind, n in zip(TYPES, sizes, strict=True) for i in range(n)]
    relations, heads, tails = np.array(sorted(edges), np.int64).reshape(-1, 3).T
    sides = [np.array([TYPES.index(row[side]) for row in RELATIONS]) for side in (1, 2)]
    return Night(
        TYPES,
        np.repeat(np.arange(4), sizes),
        np.arange(sum(sizes)),
        pa.chunked_array([pa.array(raw, pa.large_string())]),
        np.arange(5),
        [name for name, *_ in RELATIONS],
        *sides,
        heads,
        relations,
        tails,
        np.ones(len(heads), np.int64),
    )


@pytest.fixture(scope="module", name="world")
def small_world() -> tuple[Night, AttentionTable, list[Group]]:
    return world_of_messages()


def world_of_messages() -> tuple[Night, AttentionTable, list[Group]]:
    """Items with no, one or several genres, one user without a message, two groups of all others, attention at
    random."""
    random = np.random.default_rng(0)
    user, item = (lambda i: FIRST["user"] + int(i)), (lambda i: FIRST["item"] + int(i))
    edges = {
        (r, user(u), item(i)) for r, n in ((0, 3), (1, 9)) for u in range(1, USERS) for i in random.choice(ITEMS, n)
    }
    edges |= {(2, item(i), int(g)) for i in range(3, ITEMS) for g in random.choice(GENRES, 1 + i % 3, replace=False)}
    edges |= {(3, item(i), user(1 + i % 9)) for i in range(ITEMS)} | {
        (4, user(u), FIRST["region"] + u % REGIONS) for u in range(1, USERS)
    }
    night, m = night_of(list(edges)), len(RELATIONS)
    messages = [(h, t, m + r) if r != 3 else (t, h, r) for r, h, t in sorted(edges) if r != 2]
    nodes, neighbours, codes = np.array(sorted(messages)).T
    weights = random.random(len(nodes)) ** 3
    weights = (weights / np.bincount(nodes, weights)[nodes]).astype(np.float32)
    order = np.lexsort((-weights, nodes))
    ranks = np.arange(len(nodes)) - np.searchsorted(nodes, nodes)
    table = AttentionTable(nodes[order], neighbours[order], codes[order], weights[order], ranks)
    users = FIRST["user"] + np.arange(USERS)
    return (
        night,
        table,
        [
            Group("gender", "f", users[::2]),
            Group("gender", "m", users[1::2]),
            Group("age", "young", users[:9]),
            Group("age", "old", users[20:]),
        ],
    )


def by_loops(night: Night, table: AttentionTable, group: Group) -> dict[tuple[str, bool, str | None], list[float]]:
    """(relation, reversed, category or None) → [share, messages, lift], message by message; category "" is the whole
    relation."""
    genres, m = defaultdict(list), len(night.relation_names)
    for head, relation, tail in zip(night.heads, night.relations, night.tails, strict=True):
        if night.relation_names[relation] == "item_genre":
            genres[head].append(night.raw[int(tail)].as_py())
    found = defaultdict(lambda: np.zeros(3))
    for user in group.users:
        mine = np.flatnonzero(table.nodes == user)
        for row in mine:
            of = genres[table.neighbours[row]] or [None]
            name, weight = night.relation_names[table.codes[row] % m], float(table.weights[row])
            for category in of:
                found[name, table.codes[row] < m, category] += np.array(
                    [weight / len(group.users), 1, weight * len(mine)]
                ) / len(of)
            found[name, table.codes[row] < m, ""] += [weight / len(group.users), 1, weight * len(mine)]
    return {key: [share, n, lift / n] for key, (share, n, lift) in found.items()}


def test_the_picture_is_what_a_loop_over_the_messages_finds(world: tuple) -> None:
    night, table, groups = world
    found = picture(night, table, groups, "genre")
    assert [one["label"] for one in found] == ["gender", "age"]
    for one, mine in zip(found, (groups[:2], groups[2:]), strict=True):
        assert (
            one["groups"] == [{"name": group.name, "users": len(group.users)} for group in mine]
            and len(one["categories"]) == MOST_CATEGORIES
        )
        assert {(row["relation"], row["reversed"], row["neighbour_type"]) for row in one["relations"]} == {
            ("buy", False, "item"),
            ("click", False, "item"),
            ("maker", True, "item"),
            ("user_region", False, "region"),
        }
        for g, group in enumerate(mine):
            slow = by_loops(night, table, group)
            for row in one["relations"]:
                relation, figures = (row["relation"], row["reversed"]), row["groups"][g]
                nothing = [0, 0, None]
                assert [figures["share"], figures["messages"], figures["lift"]] == pytest.approx(
                    slow.get((*relation, ""), nothing)
                )
                for category, cell in zip(one["categories"], figures.get("cells", []), strict=False):
                    share, n, lift = slow.get((*relation, category), nothing)
                    assert (
                        cell["share"] == pytest.approx(share)
                        and cell["messages"] == round(n, 1)
                        and cell["lift"] == pytest.approx(lift)
                    )
                if row["neighbour_type"] == "item":
                    assert (
                        sum(cell["share"] for cell in figures["cells"]) == pytest.approx(figures["share"])
                        and len(figures["cells"]) == MOST_CATEGORIES + 1
                    )


def test_the_categories_with_most_attention_and_the_heaviest_relations_come_first(world: tuple) -> None:
    night, table, groups = world
    (found,) = picture(night, table, groups[:2], "genre")
    slow = [by_loops(night, table, group) for group in groups[:2]]
    shares = defaultdict(float)
    for (_, _, category), (share, *_) in [pair for one in slow for pair in one.items()]:
        shares[category] += share
    ranked = sorted((name for name in shares if name), key=lambda name: -shares[name])
    assert found["categories"] == ranked[:MOST_CATEGORIES] and len(ranked) == GENRES
    assert [row["relation"] for row in found["relations"]] == ["click", "buy", "maker", "user_region"], (
        "to items first, then by attention"
    )
    total = [sum(row["groups"][g]["share"] for row in found["relations"]) for g in range(2)]
    assert total == pytest.approx([19 / 20, 1]), "one user of the first group hears nobody"


def test_equal_attention_has_a_lift_of_one_everywhere(world: tuple) -> None:
    night, table, groups = world
    equal = (1 / np.bincount(table.nodes)[table.nodes]).astype(np.float32)
    (found,) = picture(
        night, AttentionTable(table.nodes, table.neighbours, table.codes, equal, table.ranks), groups[:2], "genre"
    )
    lifts = [
        one["lift"]
        for row in found["relations"]
        for figures in row["groups"]
        for one in (figures, *figures.get("cells", []))
    ]
    assert [lift for lift in lifts if lift is not None] == pytest.approx(
        [1.0] * sum(lift is not None for lift in lifts)
    )


def test_without_an_attribute_relations_stand_alone_and_json_holds_all(world: tuple) -> None:
    night, table, groups = world
    (found,) = picture(night, table, groups[:2], None)
    assert (
        found["categories"] == []
        and found["attribute"] is None
        and not any("cells" in figures for row in found["relations"] for figures in row["groups"])
    )
    assert json.loads(json.dumps(found)) == found and json.loads(json.dumps(picture(night, table, groups, "genre")))


def test_the_two_commonest_classes_are_drawn_by_the_user_alone() -> None:
    n = 3 * USERS_OF_A_GROUP
    night, users = night_of([(1, FIRST["user"], FIRST["item"])], n), FIRST["user"] + np.arange(n)
    random = np.random.default_rng(1)
    codes = np.stack(
        [
            random.choice([MISSING, 0, 1, 2], n, p=[0.05, 0.05, 0.5, 0.4]),
            np.where(np.arange(n) < 30, np.arange(n) % 2, MISSING),
        ],
        axis=1,
    )
    classes = {"taste": ["a", "b", "c"], "gender": ["f", "m"]}
    found = choose_groups(night, users, codes, classes, "salt")
    assert [(group.label, group.name) for group in found] == [
        ("taste", "b"),
        ("taste", "c"),
        ("gender", "f"),
        ("gender", "m"),
    ]
    assert [len(group.users) for group in found] == [USERS_OF_A_GROUP, USERS_OF_A_GROUP, 15, 15] and len(
        users_of(found)
    ) == 2 * USERS_OF_A_GROUP + 30
    for group, code in zip(found[:2], (1, 2), strict=True):
        assert (codes[group.users - users[0], 0] == code).all() and (np.diff(group.users) > 0).all()
        assert np.abs(np.mean(group.users) - users.mean()) < n / 10, "not the first ones"
    half = np.flatnonzero(np.isin(users, found[0].users) | (np.arange(n) % 2 == 0))
    again, other = (
        choose_groups(night, users[half], codes[half], classes, "salt"),
        choose_groups(night, users, codes, classes, "pepper"),
    )
    assert (again[0].users == found[0].users).all() and not np.array_equal(other[0].users, found[0].users)
    assert users_of([]).dtype == np.int64


def test_categories_are_the_configured_attribute_or_the_coarsest_that_most_items_have(world: tuple) -> None:
    night, *_ = world
    assert choose_attribute(night, ["genre"], None) == "genre"
    assert choose_attribute(night, ["genre", "colour"], "colour") is None, "configured, but without an edge tonight"
    assert choose_attribute(night, [], None) is None
    few = night_of(
        [(2, FIRST["item"] + i, i % GENRES) for i in range(ITEMS // 4)] + [(1, FIRST["user"], FIRST["item"])]
    )
    assert choose_attribute(few, ["genre"], None) is None and choose_attribute(few, ["genre"], "genre") == "genre"
