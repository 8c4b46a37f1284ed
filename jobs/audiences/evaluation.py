"""Figures of one ranking of users: what train_lookalike reports of validation and score_lookalike of the backtest."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.classifiers.precision_recall import average_precision_interval, calibration_curve, curves


def precision_figures(
    labels: np.ndarray, scores: np.ndarray, sampled: np.ndarray, draws: int, seed: int
) -> dict[str, Any]:
    """PR-AUC on the population and on the `sampled` part of it (1:3), each with its interval
    from a bootstrap over users."""
    population = average_precision_interval(labels, scores, draws, seed)
    part = average_precision_interval(labels[sampled], scores[sampled], draws, seed)
    return {
        "pr_auc_1to3": number(part.value), "pr_auc_1to3_low": number(part.low), "pr_auc_1to3_high": number(part.high),
        "pr_auc_population": number(population.value), "pr_auc_population_low": number(population.low),
        "pr_auc_population_high": number(population.high),
        "prevalence": number(labels.mean() if len(labels) else np.nan)}


def curve_figures(labels: np.ndarray, scores: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """What a report draws: PR curve, cumulative gain, calibration."""
    return {**curves(labels, scores), "calibration": calibration_curve(labels, probabilities)}


def number(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return round(float(value), 6) if np.isfinite(value) else None
