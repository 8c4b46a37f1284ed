"""RHGN's second loss: which item a user had to do with, among those of others. No label has a part in it.

Shape suffixes: see `models/shapes.py`, and B users of an update, I their items, each once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from models.graph import KnowledgeGraph, NeighbourSampler, ranges
from models.hyperparameters import RHGNHyperparameters
from models.rhgn import precision
from models.shapes import ShapeError


@dataclasses.dataclass(frozen=True)
class BehaviorBatch:
    """What one update learns from.

    users: int64 (B,), ascending. items: int64 (I,), ascending. positives: int64 (B,), the place of each user's item in
    `items`. counts: bool (B, I), the user's item, and those that he never had to do with. edges: int64, all edges
    between the users and their items, which pass no message.
    """

    users: np.ndarray
    items: np.ndarray
    positives: np.ndarray
    counts: np.ndarray
    edges: np.ndarray


class BehaviorEdges:
    """Every user with an edge of a behaviour, update by update, each with one of his edges.

    All users come once before one comes again, so that those who do much do not crowd out the others.
    """

    def __init__(self, graph: KnowledgeGraph, behaviors: Sequence[int], size: int) -> None:
        """behaviors: the relations that go from users to items. size: users of an update, at most.

        Raises ShapeError for relations that the graph does not have.
        """
        wrong = [number for number in behaviors if not 0 <= number < graph.n_relations]
        if wrong:
            raise ShapeError(f"behaviors has {wrong}; expected relations from 0 to {graph.n_relations - 1}")
        destinations = np.repeat(np.arange(graph.n_entities), graph.offsets.diff().numpy())
        # the messages that users hear from their items
        mine = np.flatnonzero(np.isin(graph.codes.numpy(), np.asarray(behaviors, np.int64) + graph.n_relations))
        users, items = destinations[mine], graph.sources.numpy()[mine]
        order = np.lexsort((items, users))
        self._n, self._items = graph.n_entities, items[order]
        self._edges = graph.edge_of_message.numpy()[mine][order]
        self._keys = users[order] * self._n + self._items  # of a pair, ascending
        self.users, self._first, self._counts = np.unique(users[order], return_index=True, return_counts=True)
        self._size = min(size, self.users.size)

    def restart(self, seed: list[int]) -> None:
        """Draw from here on what another one would draw from this seed on."""
        self._random, self._queue = np.random.default_rng(seed), np.empty(0, np.int64)

    def draw(self) -> BehaviorBatch:
        """The next update's; empty where nobody has an edge."""
        if self._queue.size < self._size:  # whoever is left of the last round comes first, once
            again = self._random.permutation(self.users.size)
            self._queue = np.concatenate([self._queue, again[~np.isin(again, self._queue)], self._queue])
        chosen, self._queue = np.sort(self._queue[: self._size]), self._queue[self._size :]
        places = self._first[chosen] + (self._random.random(chosen.size) * self._counts[chosen]).astype(np.int64)
        users, (items, positives) = self.users[chosen], np.unique(self._items[places], return_inverse=True)
        counts = ~self._have(users[:, None] * self._n + items)
        counts[np.arange(users.size), positives] = True
        keys = users * self._n + items[positives]
        begins, ends = (np.searchsorted(self._keys, keys, side) for side in ("left", "right"))
        return BehaviorBatch(users, items, positives, counts, self._edges[ranges(begins, ends)])

    def _have(self, keys: np.ndarray) -> np.ndarray:
        """bool: whether there is an edge of these pairs."""
        places = np.searchsorted(self._keys, keys)
        return self._keys[np.minimum(places, self._keys.size - 1)] == keys if self._keys.size else keys < 0


class SecondLoss:
    """The loss of one update after another: H^L of users and items from samples of their neighbourhoods, in which the
    edges between a user and his item pass no message."""

    def __init__(
        self,
        edges: BehaviorEdges,
        sampler: NeighbourSampler,
        encode: Callable[[NeighbourSampler, torch.Tensor, np.ndarray], torch.Tensor],
        hyper: RHGNHyperparameters,
    ) -> None:
        """encode: H^L (nodes, D) of nodes (int64, ascending, unique), with some edges hidden."""
        self.edges, self.sampler, self.encode, self.hyper = edges, sampler, encode, hyper
        self.losses: list[torch.Tensor] = []

    def restart(self, seed: list[int]) -> None:
        """Draw from here on what a new one would draw from this seed on."""
        self.edges.restart([*seed, 0])
        self.sampler.restart([*seed, 1])
        self.losses = []

    def mean(self) -> float:
        """Of the losses since the last `restart`."""
        return float(torch.stack(self.losses).mean())

    def __call__(self) -> torch.Tensor:
        """The next update's; 0 where nobody has an edge of a behaviour."""
        batch, device = self.edges.draw(), self.hyper.device
        if not batch.users.size:
            loss = torch.zeros((), device=device)
        else:
            nodes = np.concatenate([batch.users, batch.items])
            order = np.argsort(nodes)
            rows, positives_B, counts_BI = (
                torch.from_numpy(one).to(device) for one in (np.argsort(order), batch.positives, batch.counts))
            with precision(self.hyper):
                h_ND = self.encode(self.sampler, torch.from_numpy(nodes[order]), batch.edges).index_select(0, rows)
                x_BD, y_ID = h_ND.split([batch.users.size, batch.items.size])
                loss = behavior_loss(x_BD, y_ID, positives_B, counts_BI, self.hyper.behavior_temperature)
        self.losses.append(loss.detach())
        return loss


def behavior_loss(
    x_BD: torch.Tensor, y_ID: torch.Tensor, positives_B: torch.Tensor, counts_BI: torch.Tensor, temperature: float
) -> torch.Tensor:
    """−1/B Σ_b ln [ e^(cos(x_b, y_p(b)) / τ) / Σ_i e^(cos(x_b, y_i) / τ) ], the sum over the items that count.

    van den Oord et al., "Representation Learning with Contrastive Predictive Coding" (2018), Eq. 4, on cosines, by
    which the vectors are compared. x_BD: of users, y_ID: of items.
    """
    cosines_BI = nn.functional.normalize(x_BD, dim=1) @ nn.functional.normalize(y_ID, dim=1).T
    scores_BI = (cosines_BI.float() / temperature).masked_fill(~counts_BI, float("-inf"))
    return nn.functional.cross_entropy(scores_BI, positives_B)
