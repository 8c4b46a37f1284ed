"""How well a state foretells the next item: its rank among all, HR and NDCG, also by the length of the history."""

from __future__ import annotations

import numpy as np
import torch

from models.hugt import HUGT
from models.learning.training import standard_error

PLACES = 10
LENGTHS = (1, 2, 5, 10, 20, 50, 100)  # least events of a history in each group of `by_length`
_PART_CELLS = 4_000_000  # of the table of scores at a time


@torch.no_grad()
def ranks_of(
    model: HUGT, states_ND: np.ndarray, targets_N: np.ndarray, seen: tuple[np.ndarray, np.ndarray] | None = None
) -> np.ndarray:
    """float64 (N,): the rank of each target among all items by Eq. 5, from 1; of equal scores the mean place.

    seen: rows of states, ascending, and items int64 that are no candidates; a target is one all the same.
    """
    ranks, step = np.empty(len(targets_N)), max(1, _PART_CELLS // len(model.items))
    device, dtype = model.items.device, model.items.dtype
    for first in range(0, len(targets_N), step):
        rows = slice(first, first + step)
        scores = model.scores(torch.from_numpy(states_ND[rows]).to(device, dtype))
        targets = torch.from_numpy(targets_N[rows]).to(device)[:, None]
        true = scores.gather(1, targets)
        if seen is not None:
            mine = slice(*np.searchsorted(seen[0], (first, first + step)))
            left_out = (torch.from_numpy(x).to(device) for x in (seen[0][mine] - first, seen[1][mine]))
            scores[tuple(left_out)] = -torch.inf
            scores.scatter_(1, targets, true)
        above, equal = (scores > true).sum(dim=1), (scores == true).sum(dim=1)
        ranks[rows] = (above + (equal + 1) / 2).cpu().numpy()
    return ranks


def figures(ranks: np.ndarray, places: int = PLACES) -> dict[str, float]:
    """hr: share of ranks that stand in the first places; ndcg: mean of 1 / log2(1 + rank) of those, 0 of others."""
    gains = np.where(ranks <= places, 1 / np.log2(1 + ranks), 0.0)
    return {"hr": float((ranks <= places).mean()), "ndcg": float(gains.mean()), "ndcg_error": standard_error(gains)}


def by_length(ranks: np.ndarray, lengths: np.ndarray) -> list[dict[str, float]]:
    """A row for each group of histories by their number of events: from, to (0: no end), users, hr, ndcg."""
    rows = []
    for least, beyond in zip(LENGTHS, (*LENGTHS[1:], 0), strict=True):
        mine = (lengths >= least) & ((lengths < beyond) | (beyond == 0))
        if mine.any():
            found = figures(ranks[mine])
            rows.append({"from": least, "to": beyond and beyond - 1, "users": int(mine.sum()), **found})
    return rows
