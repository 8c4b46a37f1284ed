"""What users had last, for RAM-GNN's interaction network: the mean vector of the items before a moment.

A moment is all that a user touched at one time, such as a basket. Shape suffixes: see `models/shapes.py`, and U users,
I items, P pairs.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from models.messages.adjacency import Adjacency
from models.ram_gnn_hyperparameters import InteractionHyperparameters
from models.shapes import expect


@dataclasses.dataclass(frozen=True)
class Histories:
    """Users' items in the order of time, each pair once; of one moment in the order of the items' indices.

    items, moments, starts: int64 (P,), by user and time: the item, the number of its moment among the user's from 0,
    and where that moment begins. offsets: int64 (U + 1,), where each user begins. hyper: its `recent`,
    `recent_half_life` and `recent_weight` are read.
    """

    items: torch.Tensor
    moments: torch.Tensor
    starts: torch.Tensor
    offsets: torch.Tensor
    hyper: InteractionHyperparameters

    @classmethod
    def of(
        cls, users: np.ndarray, items: np.ndarray, times: np.ndarray, n_users: int, hyper: InteractionHyperparameters
    ) -> tuple[Histories, np.ndarray]:
        """(the histories, int64 (P,): where each pair went) of int64 pairs, each once, and the time of each."""
        expect("times", times, users.shape, "int64")
        order = np.lexsort((items, times, users))
        sorted_users, sorted_times = users[order], times[order]
        of_user = np.append(True, sorted_users[1:] != sorted_users[:-1])[: len(order)]
        begins = of_user | np.append(True, sorted_times[1:] != sorted_times[:-1])[: len(order)]
        number = np.cumsum(begins) - 1
        counts = np.bincount(users, minlength=n_users)
        moments = number - np.repeat(number[of_user], counts[counts > 0])
        offsets = np.concatenate([[0], np.cumsum(counts)])
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        found = (items[order], moments, np.flatnonzero(begins)[number], offsets)
        return cls(*(torch.from_numpy(one.astype(np.int64)).to(hyper.device) for one in found), hyper), place

    def before(self, x_ID: torch.Tensor, users_B: torch.Tensor, places_B: torch.Tensor) -> torch.Tensor:
        """(B, D): the mean of what each user had before the moment of a pair, which went to this place."""
        return self._mean(x_ID, self.offsets[users_B], self.starts[places_B])

    def latest(self, x_ID: torch.Tensor) -> torch.Tensor:
        """(U, D): the mean of what each user had last; 0 of a user without items."""
        return self._mean(x_ID, self.offsets[:-1], self.offsets[1:])

    def _mean(self, x_ID: torch.Tensor, first_B: torch.Tensor, end_B: torch.Tensor) -> torch.Tensor:
        """(B, D): the weighted mean of up to `recent` items at places from first to end - 1, whose weights halve with
        every moment after them, times `recent_weight`; 0 without any."""
        counts_B = (end_B - first_B).clamp(max=self.hyper.recent)
        offsets = torch.cat([counts_B.new_zeros(1), counts_B.cumsum(0)])
        rows = torch.repeat_interleave(torch.arange(len(counts_B), device=counts_B.device), counts_B)
        newest = end_B[rows] - 1
        places = newest - (torch.arange(len(rows), device=rows.device) - offsets[rows])
        into = Adjacency(offsets, self.items[places], len(x_ID), "torch")
        age_E = (self.moments[newest] - self.moments[places]).to(x_ID.dtype)
        weights_E = torch.exp2(-age_E / self.hyper.recent_half_life)  # the newest has 1: they never sum to nothing
        return into.weighted_sum(x_ID, self.hyper.recent_weight * weights_E / into.total(weights_E)[rows])


def latest_times(
    users: np.ndarray, items: np.ndarray, times: np.ndarray, n_items: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(users, items, time of the latest) of each different pair, ordered by user and item."""
    keys, place = np.unique(users * n_items + items, return_inverse=True)
    latest = np.full(len(keys), np.iinfo(np.int64).min)
    np.maximum.at(latest, place, times)
    return keys // n_items, keys % n_items, latest
