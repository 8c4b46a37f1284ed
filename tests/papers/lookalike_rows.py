"""The rows of `make paper-lookalike`: each one's scores of all eligible users, client by client, on one day of a shop.

baseline, strong: today's classifiers, one per client, learned on the window before (as paper_kqgc.py fits them). own:
the columns of the pooled model, still one model a client. pooled, blend: the pooled model, and its mean with `own` as
the night has it, bare or with models' affinities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xgboost

from jobs.audiences.fitted import mean_margin
from jobs.audiences.learn_pool import (
    Judged,
    Pool,
    choose_share,
    client_calibration,
    fit_own,
    fit_pool,
    judge,
    own_share,
)
from jobs.audiences.one_client import Task, make_task
from jobs.audiences.population import purchases_between
from jobs.configuration.feature_names import FeatureSet
from models.classifiers.lookalike import Calibration, calibrate, fit, margins_of
from models.hyperparameters import TreeHyperparameters
from tests.papers.lookalike_frames import Frame, families_of, predicates
from tests.papers.shops import L, Nights

TREES = TreeHyperparameters(threads=2)
ALONE = ("baseline", "strong")
Variants = dict[str, tuple[list[str], int]]  # name → models whose affinities are columns, and past label windows


def variants(models: list[str]) -> Variants:
    """Bare, with each family's affinities, and with all."""
    of_families = {f"+{family}": (mine, 3) for family, mine in families_of(models).items()}
    return {"": ([], 3), **of_families, "+all": (models, 3)}


def one_window(models: list[str]) -> Variants:
    """Whether it helps to mix windows without a night, whose affinities are missing, with those that have them."""
    return {", one window": ([], 1), "+all, one window": (models, 1)}


@dataclass(frozen=True)
class Row:
    """One client's scores (u,): margins rank, probabilities float32 are calibrated without the labels that test."""

    margins: np.ndarray
    probabilities: np.ndarray


Rows = dict[tuple[str, str], Row]  # (row of the table, client) → scores


def alone(nights: Nights, frame: Frame) -> Rows:
    """One classifier per client, from features of a window before the day, calibrated on the 4 of 6:4."""
    settings, before = frame.settings, frame.date - L
    tables, look, purchase = frame.tables, settings.lookalike, settings.graph.purchase
    learned = tables.source(before, [], settings.graph, look, settings.seed)
    now = tables.source(frame.date, [], settings.graph, look, settings.seed, learned.vocabulary)
    labels_from = tables.snapshot(frame.date, settings.graph)
    bought = purchases_between(tables.clean_events, before, frame.date, purchase)
    assert now.users.raw.equals(frame.users)
    rows: Rows = {}
    for client, predicate in predicates(nights, settings).items():
        task = make_task(client, predicate, learned, labels_from, bought, look, settings.seed)
        for name in ALONE:
            booster, calibration = _fit_alone(task, name, settings.seed)
            margins = margins_of(booster, now.client(client, predicate).columns(FeatureSet.parse(name, [])).values)
            rows[name, client] = Row(margins, calibration(margins))
    return rows


def _fit_alone(task: Task, name: str, seed: int) -> tuple[xgboost.Booster, Calibration]:
    sample, columns = task.sample, task.client.columns(FeatureSet.parse(name, []))
    used = sample.training
    booster = fit(columns.values[used], sample.labels[used], sample.held_out[used], TREES, seed, columns.monotone)
    rows = np.flatnonzero(sample.validation)
    return booster, calibrate(margins_of(booster, columns.values[rows]), sample.labels[rows])


def pooled(frame: Frame, variant: str, models: list[str], windows: int) -> Rows:
    """pooled<variant>, blend<variant>, and own<variant>."""
    return pooled_part(frame.with_models(models, windows), variant)


def pooled_part(part: Frame, variant: str) -> Rows:
    """As `pooled`, from all columns that the frame has."""
    look, seed = part.settings.lookalike, part.settings.seed
    pool = fit_pool(part.lessons, look, seed)
    judged = {
        client: judge(client, fit_own(client, part.lessons, look, seed), part.lessons, pool, look)
        for client in part.clients}  # fmt: skip
    most = choose_share(list(judged.values()), [np.flatnonzero(one.allowed) for one in judged.values()])
    rows: Rows = {}
    for client, one in judged.items():
        rows |= {(f"{name}{variant}", client): row for name, row in _of_client(part, client, one, pool, most).items()}
    return rows


def _of_client(frame: Frame, client: str, judged: Judged, pool: Pool, most: float) -> dict[str, Row]:
    threads, share = frame.settings.lookalike.pooled_trees.threads, own_share(judged, most)
    features = frame.columns(frame.past, frame.sets.place(client), frame.at_large())
    of_pool = mean_margin(pool.boosters, features, threads)
    own = of_pool if judged.own is None else mean_margin(judged.own_boosters, features, threads)
    blended = (1 - share) * of_pool + share * own
    of_own = judged.pooled if judged.own is None else judged.own
    scored = {
        "pooled": (of_pool, judged.pooled), "own": (own, of_own), "blend": (blended, judged.blended(share))}
    return {
        name: Row(margins, client_calibration(judged, unseen, pool, judged.allowed)(margins))
        for name, (margins, unseen) in scored.items()}  # fmt: skip
