"""XGBoost's trees as arrays: the booster's margins, for a fraction of the time, and in any thread."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from models.classifiers.trees import xgboost
from models.kernels import forest as kernel
from models.shapes import expect


@dataclass(frozen=True)
class Forest:
    """Boosters of the same columns, whose trees split by numbers, as models/kernels/forest.py takes them.

    columns: how many. start: margins before the first tree; trees: of each booster; depths, upper, below: by tree;
    split, threshold, left, value: by node. upper: columns, thresholds and where missing numbers go, of the nodes that
    are all asked.
    """

    columns: int
    start: np.ndarray
    trees: np.ndarray
    depths: np.ndarray
    upper: tuple[np.ndarray, np.ndarray, np.ndarray]
    below: np.ndarray
    split: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    value: np.ndarray

    @classmethod
    def of(cls, boosters: Sequence[xgboost.Booster]) -> Forest:
        """ValueError where boosters read different columns, or a tree splits by categories or has vectors for leaves.
        """
        learners = [json.loads(booster.save_raw("json"))["learner"] for booster in boosters]
        found = [[_nodes(tree) for tree in one["gradient_booster"]["model"]["trees"]] for one in learners]
        trees, columns = [tree for mine in found for tree in mine], {booster.num_features() for booster in boosters}
        if len(columns) != 1:
            raise ValueError(f"the boosters read {sorted(columns)} columns; expected the same number for all")
        shares = [float(str(one["learner_model_param"]["base_score"]).strip("[]")) for one in learners]
        ends = np.cumsum([0, *(len(tree.left) for tree in trees)]).astype(np.int64)

        def joined(parts: Iterable[np.ndarray], kind: type) -> np.ndarray:
            return np.concatenate([np.zeros(0, kind), *parts]).astype(kind)

        left = joined((tree.left + root for tree, root in zip(trees, ends[:-1], strict=True)), np.int32)
        split = joined((tree.split for tree in trees), np.int32)
        threshold = joined((tree.threshold for tree in trees), np.float32)
        asked, below = _upper(ends[:-1].astype(np.int32), left)
        return cls(
            columns.pop(), np.array([np.log(share / (1 - share)) for share in shares], np.float32),
            np.cumsum([0, *map(len, found)]).astype(np.int64), np.array([tree.depth for tree in trees], np.int64),
            (split[asked].astype(np.int64) >> 1, threshold[asked], split[asked] & 1), below, split, threshold, left,
            joined((tree.value for tree in trees), np.float32))  # fmt: skip

    def margins(self, features: np.ndarray) -> np.ndarray:
        """float32 (n, boosters): log odds, before calibration."""
        expect("features", features, (None, self.columns), "float32")
        out = np.empty((len(features), len(self.start)), np.float32)
        by_tree = self.trees, self.depths, *self.upper, self.below
        by_node = self.split, self.threshold, self.left, self.value
        kernel.margins(np.ascontiguousarray(features), self.start, *by_tree, *by_node, out)
        return out

    def mean_margin(self, features: np.ndarray) -> np.ndarray:
        """float32 (n,): of the boosters."""
        return self.margins(features).mean(axis=1, dtype=np.float32)


def _upper(roots: np.ndarray, left: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the nodes of each tree (T, 7), level by level, that are all asked, those under them (T, 8)). A leaf stands for
    what is below it."""
    nodes, asked = roots[:, None], []
    for _ in range(kernel.UPPER):
        asked.append(nodes)
        children = left[nodes]
        nodes = np.stack([children, children + (children != nodes)], axis=2).reshape(len(roots), -1)
    return np.concatenate(asked, axis=1), np.ascontiguousarray(nodes, np.int32)


class _Tree(NamedTuple):
    """One tree's nodes, by level, so that children stand side by side."""

    depth: int
    split: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    value: np.ndarray


def _nodes(tree: dict[str, Any]) -> _Tree:
    if any(tree.get("split_type", ())) or int(tree["tree_param"].get("size_leaf_vector", "1")) > 1:
        raise ValueError("a tree splits by categories, or has vectors for leaves; expected numbers alone")
    lefts, rights = tree["left_children"], tree["right_children"]
    order, level, depth = [0], [0], 0
    while level := [child for node in level if lefts[node] >= 0 for child in (lefts[node], rights[node])]:
        order, depth = order + level, depth + 1
    place = np.zeros(len(lefts), np.int64)
    place[order] = np.arange(len(order))
    columns, conditions, missing_left = (
        np.array(tree[name])[order] for name in ("split_indices", "split_conditions", "default_left"))
    child = np.array(lefts)[order]
    leaf = child < 0
    split = np.where(leaf, 0, 2 * columns + (missing_left == 0))
    left = np.where(leaf, np.arange(len(order)), place[child])
    return _Tree(depth, split, np.where(leaf, np.nan, conditions), left, np.where(leaf, conditions, 0))
