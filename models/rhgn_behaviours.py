"""RHGN's second loss, which is not the paper's: of the items that a user had some are told from items drawn at random.

The labels alone teach the vectors what tells the classes apart and nothing else. Here every user of a batch is held
against `POSITIVES` of his items, drawn with replacement, and all of them against the same `CANDIDATES` drawn items:

    L_B = −1/P Σ_p log( exp s(u_p, i_p) / (exp s(u_p, i_p) + Σ_c exp s(u_p, c)) ),  s(u, i) = cos(H^L[u], H⁰[i]) / T

over the P places of users and items (Oord et al. 2018, with T = `TEMPERATURE`); a candidate that the user had is left
out. H⁰ of an item is its given vector under the model's own linear map, so that no messages into items are needed, and
the loss has no parameters of its own. Users without an item add nothing. Shape suffixes: see `models/shapes.py`;
P places, C candidates.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import nn

from models.shapes import expect_indices

POSITIVES, CANDIDATES, TEMPERATURE = 8, 512, 0.1


@dataclasses.dataclass(frozen=True)
class Drawn:
    """rows int64 (P,): of the users asked for, each place's; items int64 (P,) and candidates int64 (C,): nodes; had
    bool (P, C): which candidates are items of that user."""

    rows: np.ndarray
    items: np.ndarray
    candidates: np.ndarray
    had: np.ndarray


@dataclasses.dataclass(frozen=True)
class Behaviours:
    """Who had which items: `items` (nodes, int64) of node n are those from offsets[n] to offsets[n + 1], ascending."""

    offsets: np.ndarray
    items: np.ndarray

    @classmethod
    def of(cls, users: np.ndarray, items: np.ndarray, n_nodes: int) -> Behaviours:
        """users, items: int64 (edges,), nodes; an edge that stands twice counts once. ShapeError for what is no
        node."""
        expect_indices("behaviours' users", users, n_nodes, "entities")
        expect_indices("behaviours' items", items, n_nodes, "entities")
        cells = np.unique(users * n_nodes + items)
        counts = np.bincount(cells // n_nodes, minlength=n_nodes)
        return cls(np.concatenate([[0], np.cumsum(counts)]), cells % n_nodes)

    @property
    def pool(self) -> np.ndarray:
        """int64: items that somebody had."""
        return np.unique(self.items)

    def draw(self, users: np.ndarray, pool: np.ndarray, random: np.random.Generator) -> Drawn:
        """users: int64 (B,), nodes. Items in proportion to nothing: each of a user's is as likely as the others, and
        so is each of the pool."""
        counts = np.diff(self.offsets)[users]
        rows = np.repeat(np.flatnonzero(counts), POSITIVES)
        places = (random.random(len(rows)) * counts[rows]).astype(np.int64)
        items = self.items[self.offsets[users[rows]] + places]
        candidates = np.sort(random.choice(pool, min(CANDIDATES, len(pool)), replace=False))
        had = np.zeros((len(users), len(candidates)), bool)
        n = np.repeat(np.arange(len(users)), counts)
        mine = self.items[np.repeat(self.offsets[users] - np.cumsum(counts) + counts, counts) + np.arange(len(n))]
        found = np.minimum(np.searchsorted(candidates, mine), len(candidates) - 1)
        same = candidates[found] == mine
        had[n[same], found[same]] = True
        return Drawn(rows, items, candidates, had[rows])


def behaviour_loss(
    h_BD: torch.Tensor, items_PD: torch.Tensor, candidates_CD: torch.Tensor, drawn: Drawn
) -> torch.Tensor:
    """L_B; 0 where no user has an item. h_BD: H^L of the users that were asked for; items_PD, candidates_CD: H⁰."""
    if not len(drawn.rows):
        return h_BD.sum() * 0
    users_BD, items_PD, candidates_CD = (nn.functional.normalize(x, dim=1) for x in (h_BD, items_PD, candidates_CD))
    rows = torch.from_numpy(drawn.rows).to(h_BD.device)
    true_P = (users_BD.index_select(0, rows) * items_PD).sum(dim=1) / TEMPERATURE
    others_PC = (users_BD @ candidates_CD.T).index_select(0, rows) / TEMPERATURE
    others_PC = others_PC.masked_fill(torch.from_numpy(drawn.had).to(h_BD.device), -torch.inf)
    return (torch.logaddexp(true_P, torch.logsumexp(others_PC, dim=1)) - true_P).mean()
