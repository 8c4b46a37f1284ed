"""Nights of the planted graph: the embedding stages as programs, and how well vectors show the planted tastes."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np

from jobs.embeddings import pretrain_transe, publish_users, smooth_kqgc
from jobs.program import execute
from tests.jobs.embeddings.planted import N_USERS, group_of

DATES = [datetime.date(2026, 1, 5), datetime.date(2026, 1, 6), datetime.date(2026, 1, 7)]
USERS = [f"u{n:03d}" for n in range(N_USERS)]


def night(
    config: Path, date: datetime.date, predecessor: datetime.date | None = None, models: tuple[str, ...] = ("transe",)
) -> None:
    """One night of the embedding stages, started as programs."""
    base = ["--date", str(date), "--config", str(config), "--predecessor", str(predecessor)]
    assert execute(pretrain_transe.run, base) == 0
    for model in models:
        if model != "transe":
            assert execute(smooth_kqgc.run, [*base, "--model", model]) == 0
        assert execute(publish_users.run, [*base, "--model", model]) == 0


def same_group_share(features, of: np.ndarray | None = None) -> float:  # noqa: ANN001
    """Share of each user's 5 nearest users with the same planted taste; with `of` (bool), of these users among the
    others."""
    matrix, ids = features.matrix(), features.user_ids()
    groups = np.array([group_of(u) for u in ids])
    distances = np.linalg.norm(matrix[:, None] - matrix[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    if of is not None:
        distances[:, of] = np.inf
    same = groups[np.argsort(distances, axis=1)[:, :5]] == groups[:, None]
    return float((same if of is None else same[of]).mean())
