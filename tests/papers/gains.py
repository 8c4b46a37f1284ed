"""PR-AUC at 1:3 and gains over a baseline, with one bootstrap over users for all clients.

A `Scored` is one client's test under one seed: the same users (rows) in every one of a shop, so that
a bootstrap weight per user counts in all clients at once. PR-AUC at 1:3 is the mean over fixed draws
of negatives, the same for all feature sets of a client.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jobs.audiences.population import one_to
from models.classifiers.precision_recall import average_precision, bootstrap_weights

DRAWS = 20
DRAWS_IN_BOOTSTRAP = 4  # its width is of users; more draws of negatives change it by little and take as much longer


@dataclass(frozen=True)
class Scored:
    """Labels and margins of one client, seed and feature set over the users of a shop's test (n); margins of those who
    are not ranked are NaN."""

    client: str
    seed: int
    feature_set: str
    labels: np.ndarray
    margins: np.ndarray


def draws_of(labels: np.ndarray, ranked: np.ndarray, client: str, draws: int, ratio: int = 3) -> list[np.ndarray]:
    """Row numbers of the first fixed 1:3 draws among the ranked, keyed by client and number."""
    key = [ord(c) for c in client]
    randoms = (np.random.default_rng([i, *key]).random(len(labels)) for i in range(draws))
    return [np.flatnonzero(one_to(ratio, labels, ranked, random)) for random in randoms]


def pr_auc_1to3(scored: Scored, weights: np.ndarray | None = None) -> np.ndarray | float:
    """Mean over the draws; with weights (B, n) one figure per bootstrap draw, over the first few of them."""
    draws = DRAWS if weights is None else DRAWS_IN_BOOTSTRAP
    rows_of = draws_of(scored.labels, ~np.isnan(scored.margins), scored.client, draws)
    found = []
    for rows in rows_of:
        own = None if weights is None else weights[:, rows]
        found.append(average_precision(scored.labels[rows], scored.margins[rows], own))
    return np.mean(found, axis=0)


def table(scored: list[Scored], weights: np.ndarray | None = None) -> dict[tuple[str, str], np.ndarray]:
    """(feature set, client) → PR-AUC at 1:3, seeds averaged; (B,) with weights."""
    found: dict[tuple[str, str], list] = {}
    for one in scored:
        found.setdefault((one.feature_set, one.client), []).append(pr_auc_1to3(one, weights))
    return {key: np.mean(values, axis=0) for key, values in found.items()}


def gain(figures: dict[tuple[str, str], np.ndarray], feature_set: str, over: str) -> np.ndarray:
    """Percent: mean over clients of PR-AUC ÷ that of `over` − 1."""
    clients = [client for name, client in figures if name == over]
    return 100 * np.mean([figures[feature_set, c] / figures[over, c] - 1 for c in clients], axis=0)


def gain_of_means(figures: dict[tuple[str, str], np.ndarray], feature_set: str, over: str) -> np.ndarray:
    """Percent: mean PR-AUC over clients ÷ mean of `over` − 1, as the average column of the paper's table 3."""
    clients = [client for name, client in figures if name == over]
    ours, theirs = (np.mean([figures[name, c] for c in clients], axis=0) for name in (feature_set, over))
    return 100 * (ours / theirs - 1)


def bootstrap(scored: list[Scored], draws: int, seed: int) -> dict[tuple[str, str], np.ndarray]:
    """`table` for `draws` samples of the shop's users with replacement, the same sample for every client,
    seed and feature set."""
    n = len(scored[0].labels)
    if any(len(one.labels) != n for one in scored):
        raise ValueError(
            "The tests of a shop are over different users; expected the same for all clients, seeds and feature sets."
        )
    return table(scored, bootstrap_weights(n, draws, np.random.default_rng(seed)))


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 %, by percentiles."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
