"""From scores to the figures of `make paper-lookalike`: PR-AUC at 1:3, precision, log loss, gains and their intervals.

The same draws of users hold for all rows, clients and seeds of a shop, so that a gain's interval covers all rows of a
user; the shops are drawn apart. A choice is made by the figures of validation alone.
Shapes: u eligible users, B draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.classifiers.lookalike import calibrate
from models.classifiers.precision_recall import precision_at
from tests.papers.gains import Scored, bootstrap, gain, table

PLACES = (100, 1000)  # precision among so many first; the second is the audience's size as shipped
DRAWS = 200
LEAST = 1e-6
Figures = dict[tuple[str, str], np.ndarray]  # (row, client) → PR-AUC, seeds averaged


@dataclass(frozen=True)
class Results:
    """What was scored on one day of one shop, all seeds; probabilities stand beside each, None where there are none."""

    scored: list[Scored]
    probabilities: list[np.ndarray | None]

    @property
    def rows(self) -> list[str]:
        return list(dict.fromkeys(one.feature_set for one in self.scored))

    def of(self, row: str) -> list[tuple[Scored, np.ndarray | None]]:
        return [(s, p) for s, p in zip(self.scored, self.probabilities, strict=True) if s.feature_set == row]

    def draws(self, rows: list[str]) -> Figures:
        """(B,) by row and client."""
        return bootstrap([one for one in self.scored if one.feature_set in rows], DRAWS, seed=0)


def best(figures: Figures, among: list[str]) -> str:
    """The row with the best mean over clients; the first of equals."""
    return max(among, key=lambda row: np.mean([value for (name, _), value in figures.items() if name == row]))


def mean_gain(parts: list[tuple[Figures, str, str]]) -> np.ndarray:
    """Percent: the mean of the gains of (figures, row, over), one of a shop or of a shop and number of buyers."""
    return np.mean([gain(figures, row, over) for figures, row, over in parts], axis=0)


def precision(results: Results, row: str, place: int) -> float:
    """Mean over clients and seeds of the share of buyers among the first so many."""
    return float(np.mean([precision_at(one.labels, one.margins, place) for one, _ in results.of(row)]))


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    p = np.clip(probabilities.astype(np.float64), LEAST, 1 - LEAST)
    return float(-np.mean(np.where(labels, np.log(p), np.log(1 - p))))


def mean_log_loss(results: Results, row: str, before: Results | None) -> float | None:
    """Mean over clients and seeds. A row without probabilities is calibrated on the window before; None without one."""
    found, known = [], {} if before is None else {(s.client, s.seed): s for s, _ in before.of(row)}
    for one, probabilities in results.of(row):
        earlier = known.get((one.client, one.seed))
        if probabilities is None and earlier is not None:
            probabilities = _calibrated(earlier, one.margins)
        found.append(None if probabilities is None else log_loss(one.labels, probabilities))
    return None if None in found else float(np.mean(found))


def _calibrated(earlier: Scored, margins: np.ndarray) -> np.ndarray:
    """Scores of any scale: in units of their spread on the window before."""
    centre, spread = earlier.margins.mean(), earlier.margins.std() + 1e-12
    return calibrate((earlier.margins - centre) / spread, earlier.labels)((margins - centre) / spread)


def figures_of(results: Results) -> Figures:
    return table(results.scored)
