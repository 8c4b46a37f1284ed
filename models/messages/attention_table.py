"""Who listens to whom, and how closely: the attention along messages as a table of the heaviest.

Shape suffixes: see `models/shapes.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from models.messages.passing import Messages

_KINDS = {"nodes": np.int64, "neighbours": np.int64, "codes": np.int64, "weights": np.float32, "ranks": np.int64}


@dataclasses.dataclass(frozen=True)
class AttentionTable:
    """Who a node listens to in the last layer, one row per message.

    The `neighbours` speak to the `nodes` under the relation `codes`. nodes, neighbours, codes, ranks: int64; weights:
    float32, the mean over heads. Sorted by node and rank, 0 being the heaviest; all weights of a node add up to 1, also
    of those that were cut off.
    """

    nodes: np.ndarray
    neighbours: np.ndarray
    codes: np.ndarray
    weights: np.ndarray
    ranks: np.ndarray

    @classmethod
    def joined(cls, tables: Iterable[AttentionTable]) -> AttentionTable:
        """The rows of several, one after the other; none of none."""
        every = [cls(*(np.empty(0, kind) for kind in _KINDS.values())), *tables]
        return cls(*(np.concatenate([getattr(table, name) for table in every]) for name in _KINDS))


def heaviest(
    messages: Messages, message: np.ndarray, α_E: np.ndarray, first: int, wanted: np.ndarray, most: np.ndarray
) -> AttentionTable:
    """The heaviest messages into each wanted node of a chunk that begins with node `first`.

    message: int64 (E,), which of `messages` each weight α_E is of. wanted: bool, most: int, of every node of the graph:
    whether it is asked for, and how many rows it may have. Equal weights come by neighbour, then code.
    """
    nodes = first + messages.from_nodes.destinations.cpu().numpy()[message]
    kept = wanted[nodes]
    neighbours = messages.from_nodes.sources.cpu().numpy()[message][kept]
    codes = messages.from_relations.sources.cpu().numpy()[message][kept]
    nodes, weights = nodes[kept], α_E[kept].astype(np.float32)
    order = np.lexsort((codes, neighbours, -weights, nodes))
    ranks = np.arange(order.size) - np.searchsorted(nodes[order], nodes[order])
    kept = ranks < most[nodes[order]]
    order, ranks = order[kept], ranks[kept]
    return AttentionTable(nodes[order], neighbours[order], codes[order], weights[order], ranks)
