"""What the picture of the report is drawn from: how much two groups of users listen to each relation and category of
items (RHGN paper, figure 3).

Two figures of a set of messages. Their *share* is the part of a user's attention that goes to them, averaged over the
group: what is frequent has much. Their *lift* is the mean of weight × number of the user's messages: 1 is an equal say
with everything else that the user did, so that a relation that is rare (purchases) can be compared with one that is
frequent (clicks).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.arrays import Night
from jobs.graphs.categories import coarsest_of
from jobs.graphs.ledgers import ITEM, attribute_relation
from models.classifiers.folds import uniform
from models.rhgn import MISSING, AttentionTable

USERS_OF_A_GROUP = 500
MOST_CATEGORIES = 8


@dataclass(frozen=True)
class Group:
    """Users of one class of a label: int64 dense indices, ascending."""

    label: str
    name: str
    users: np.ndarray


@dataclass(frozen=True)
class Heard:
    """A group's messages in parts: one for each of the neighbour's categories. float64 and int64, all of equal length.

    part: share of the message, so that a message's parts add up to 1; lift: weight × number of the user's messages.
    """

    n_users: int
    code: np.ndarray
    category: np.ndarray  # dense index of the value, -1 where the neighbour has none or is no item
    part: np.ndarray
    weight: np.ndarray
    lift: np.ndarray

    def figures(self, chosen: np.ndarray) -> dict[str, float | None]:
        """share, messages and lift of the chosen parts."""
        part = self.part[chosen]
        said = float(part.sum())
        lift = float((part * self.lift[chosen]).sum() / said) if said else None
        return {
            "share": float((part * self.weight[chosen]).sum() / self.n_users),
            "messages": round(said, 1),
            "lift": lift,
        }


def choose_groups(
    night: Night, users: np.ndarray, codes: np.ndarray, classes: Mapping[str, Sequence[str]], salt: str
) -> list[Group]:
    """Of each label its two commonest classes, at most USERS_OF_A_GROUP users each, drawn by a hash of the user alone.

    users: int64 (u,), codes: int64 (u, labels), classes: names by label, as a `Lesson` has them: fold A alone.
    """
    found = []
    for label, names, column in zip(classes, classes.values(), codes.T, strict=True):
        counts = np.bincount(column[column != MISSING], minlength=len(names))
        for one in np.argsort(-counts, kind="stable")[:2]:
            mine = users[column == one]
            drawn = uniform(salt, f"picture of {label}", night.raw.take(pa.array(mine)).to_pylist())
            found.append(Group(label, names[one], np.sort(mine[np.argsort(drawn, kind="stable")[:USERS_OF_A_GROUP]])))
    return found


def users_of(groups: Sequence[Group]) -> np.ndarray:
    """int64 dense indices of everybody in a group, repeats left in: labels share users."""
    return np.concatenate([np.zeros(0, np.int64), *(group.users for group in groups)])


def choose_attribute(night: Night, attributes: Sequence[str], configured: str | None) -> str | None:
    """The item attribute whose values are the categories, as lookalike's purchase history has it; None where no
    attribute would do."""
    relations = {name: night.relation(attribute_relation(ITEM, name)) for name in attributes}
    there = {name: night.relations == relation for name, relation in relations.items() if relation is not None}
    if configured is not None:
        return configured if configured in there else None
    sizes = {
        name: (len(np.unique(night.tails[edges])), len(np.unique(night.heads[edges]))) for name, edges in there.items()
    }
    return coarsest_of(sizes, len(night.of_type(ITEM)))


def picture(
    night: Night, attention: AttentionTable, groups: Sequence[Group], attribute: str | None
) -> list[dict[str, Any]]:
    """For each label what its groups listen to. attention: with all messages of the groups' users.

    categories: the values with the most attention, at most MOST_CATEGORIES; relations: the heaviest first, those to
    items before all others, each with figures for each group, and with `cells` for each category and, last, for all
    other items. An item with several values counts in equal parts in each.
    """
    found = []
    for label in dict.fromkeys(group.label for group in groups):
        mine = [group for group in groups if group.label == label]
        heard = [heard_by(night, attention, group.users, attribute) for group in mine]
        categories = heaviest_categories(heard)
        rows = [_row(night, heard, code, categories) for code in np.unique(np.concatenate([one.code for one in heard]))]
        rows.sort(
            key=lambda row: (
                row["neighbour_type"] != ITEM,
                -sum(g["share"] for g in row["groups"]),
                row["relation"],
                row["reversed"],
            )
        )
        found.append(
            {
                "label": label,
                "attribute": attribute,
                "categories": night.raw.take(pa.array(categories, pa.int64())).to_pylist(),
                "groups": [{"name": group.name, "users": len(group.users)} for group in mine],
                "relations": rows,
            }
        )
    return found


def heard_by(night: Night, attention: AttentionTable, users: np.ndarray, attribute: str | None) -> Heard:
    """The messages into some users, cut into parts by the neighbours' categories."""
    rows = np.flatnonzero(np.isin(attention.nodes, users))
    nodes, neighbours = attention.nodes[rows], attention.neighbours[rows]
    lift = attention.weights[rows] * np.bincount(nodes, minlength=night.n_entities)[nodes]
    edges = (
        np.flatnonzero(night.relations == night.relation(attribute_relation(ITEM, attribute)))
        if attribute
        else np.zeros(0, np.int64)
    )
    items, values = night.heads[edges], night.tails[edges]  # sorted by item, as a night's edges are
    first, after = (np.searchsorted(items, neighbours, side=side) for side in ("left", "right"))
    n_parts = np.maximum(after - first, 1)
    message = np.repeat(np.arange(len(rows)), n_parts)
    nth = np.arange(len(message)) - np.repeat(np.cumsum(n_parts) - n_parts, n_parts)
    category = np.append(values, -1)[np.where((after > first)[message], first[message] + nth, -1)]
    return Heard(
        len(users),
        attention.codes[rows][message],
        category,
        1 / n_parts[message],
        attention.weights[rows].astype(np.float64)[message],
        lift[message],
    )


def heaviest_categories(heard: Sequence[Heard]) -> np.ndarray:
    """int64: dense indices of the values with the most attention, each group weighing the same; equal ones in the order
    of their bytes."""
    values, shares = (
        np.concatenate(parts)
        for parts in zip(*((one.category, one.part * one.weight / one.n_users) for one in heard), strict=True)
    )
    known, code = np.unique(values[values >= 0], return_inverse=True)
    return known[np.argsort(-np.bincount(code, shares[values >= 0], len(known)), kind="stable")[:MOST_CATEGORIES]]


def _row(night: Night, heard: Sequence[Heard], code: int, categories: np.ndarray) -> dict[str, Any]:
    m = len(night.relation_names)
    relation, is_reversed = int(code % m), bool(code < m)  # a head hears its tails under the codes from m on
    neighbour = night.types[(night.relation_head_type if is_reversed else night.relation_tail_type)[relation]]
    figures = []
    for one in heard:
        mine = one.code == code
        cells = [
            *(one.figures(mine & (one.category == value)) for value in categories),
            one.figures(mine & ~np.isin(one.category, categories)),
        ]
        figures.append(one.figures(mine) | ({"cells": cells} if neighbour == ITEM and len(categories) else {}))
    return {
        "relation": night.relation_names[relation],
        "reversed": is_reversed,
        "neighbour_type": neighbour,
        "groups": figures,
    }
