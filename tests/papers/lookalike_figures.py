"""From scores to the figures of `make paper-lookalike`: PR-AUC at 1:3, precision, log loss, gains and their intervals.

The same draws of users hold for all rows, clients and seeds of a shop, so that a gain's interval covers all rows of a
user; the shops are drawn apart. A choice is made by the figures of validation alone.
Shapes: u eligible users, B draws.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.classifiers.lookalike import calibrate
from models.classifiers.precision_recall import precision_at
from tests.papers.gains import Scored, bootstrap, gain, interval, table

PLACES = (100, 1000)  # precision among so many first; the second is the audience's size as shipped
DRAWS = 200
LEAST = 1e-6
Figures = dict[tuple[str, str], np.ndarray]  # (row, client) → PR-AUC, seeds averaged


@dataclass(frozen=True)
class Results:
    """What was scored on one day of one shop, all seeds; probabilities stand beside each, None where there are none."""

    scored: list[Scored]
    probabilities: list[np.ndarray | None]

    def add(self, scored: Scored, probabilities: np.ndarray | None = None) -> None:
        self.scored.append(scored)
        self.probabilities.append(probabilities)

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


def by_thirds(results: Results, events: np.ndarray, rows: list[str], over: str) -> list[dict[str, Any]]:
    """Gains among a third of the users each, by how many events they have: the thin histories, the middling, the long.
    Of clients who have a buyer among them; draws in which one has none are no part of the interval.

    events: int (u,)."""
    found = []
    for users in np.array_split(np.argsort(events, kind="stable"), 3):
        there = np.isin(np.arange(len(events)), users)
        part = [dataclasses.replace(one, margins=np.where(there, one.margins, np.nan))
                for one in results.scored if one.feature_set in (*rows, over) and one.labels[there].any()]  # fmt: skip
        if not part:
            continue
        figures, draws = table(part), bootstrap(part, DRAWS, seed=0)

        def drawn(row: str, draws: Figures = draws) -> np.ndarray:
            gains = gain(draws, row, over)
            return gains[~np.isnan(gains)]

        found.append({
            "events": [int(events[users].min()), int(events[users].max())],
            "over": {row: {"gain": float(gain(figures, row, over)), "interval": interval(drawn(row))}
                     for row in rows}})  # fmt: skip
    return found


def figures_of(results: Results) -> Figures:
    return table(results.scored)


def mean_of(figures: Figures, row: str) -> float | None:
    values = [float(value) for (name, _), value in figures.items() if name == row]
    return float(np.mean(values)) if values else None


@dataclass(frozen=True)
class Few:
    """Ours against peers where little is known, by the number of buyers or seeds: figures, their bootstrap, and the
    peer that was chosen on the day before."""

    ours: str
    figures: dict[int, Figures]
    draws: dict[int, Figures]
    chosen: dict[int, str]

    def rows(self, of: str) -> list[dict[str, Any]]:
        return [self._row(of, number) for number in self.chosen]

    def _row(self, of: str, number: int) -> dict[str, Any]:
        figures, peer = self.figures[number], self.chosen[number]
        rows = dict.fromkeys(row for row, _ in figures)
        found: dict[str, Any] = {of: number, "peer": peer, "pr_auc": {row: mean_of(figures, row) for row in rows}}
        if self.ours not in rows:
            return found
        low, high = interval(gain(self.draws[number], self.ours, peer))
        return found | {"gain": float(gain(figures, self.ours, peer)), "interval": [low, high]}


def few_of(
    before: dict[int, Results], shown: dict[int, Results], ours: str, peers: Callable[[int], list[str]]
) -> Few:
    """The peer of each number is the best of the day before."""
    there = [number for number, results in before.items() if results.scored]
    chosen = {number: best(figures_of(before[number]), peers(number)) for number in there}
    figures = {number: figures_of(shown[number]) for number in there}
    return Few(ours, figures, {n: shown[n].draws([ours, peer]) for n, peer in chosen.items()}, chosen)
