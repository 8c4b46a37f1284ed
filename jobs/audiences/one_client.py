"""A client learnt alone, by the feature sets of features.py: the paper's baseline, the strong one, and with vectors.

Where the pooled classifier (learn_pool.py) serves, the baselines stand beside it for comparison.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.audiences.feature_sets import ClientSource, Source
from jobs.audiences.fitted import Fitted, Part
from jobs.audiences.population import Purchases, Sample, draw_sample
from jobs.audiences.snapshot import Snapshot
from jobs.audiences.validation import Validated
from jobs.configuration.feature_names import FeatureSet
from jobs.configuration.predicates import Predicate
from jobs.configuration.sections import Lookalike
from jobs.program import log
from models.classifiers.lookalike import OneClassError, fit, margins_of


@dataclass(frozen=True)
class Task:
    """One client's prediction task: whose labels are known, who may be used, and who was a
    buyer without being eligible."""

    client: ClientSource
    sample: Sample
    eligible: int
    not_eligible_buyers: int


def label(eligible: pa.Array, buyers: pa.Array) -> tuple[np.ndarray, int]:
    """(bool per eligible user: is a buyer, how many buyers are not eligible)."""
    labels = pc.is_in(eligible, value_set=buyers).to_numpy(zero_copy_only=False)
    return labels, len(buyers) - int(labels.sum())


def make_task(
    name: str, predicate: Predicate, source: Source, labels_from: Snapshot, purchases: Purchases, look: Lookalike,
    seed: int,
) -> Task:  # fmt: skip
    """Labels by the items that are the client's in the graph of D, everything else by the snapshot of the features."""
    client = source.client(name, predicate)
    bought = labels_from.item_raw.filter(pa.array(labels_from.matching(predicate)))
    labels, not_eligible = label(source.users.raw, purchases.buyers(bought))
    allowed = ~client.bought_before if look.exclude_past_buyers else np.ones(len(labels), bool)
    sample = draw_sample(source.users.raw, labels, allowed, look.negatives_per_positive, seed, name)
    return Task(client, sample, int(allowed.sum()), not_eligible)


def fit_one(task: Task, feature_set: FeatureSet, look: Lookalike, seed: int) -> Fitted:
    """Train on the sampled 6, stop early on a tenth of them, calibrate and validate on the 4 as they are."""
    started = time.perf_counter()
    sample, columns = task.sample, task.client.columns(feature_set)
    chosen = sample.training
    learned = columns.values[chosen], sample.labels[chosen], sample.held_out[chosen]
    booster = fit(*learned, look.trees, seed, columns.monotone)
    margins = margins_of(booster, columns.values, look.trees.threads)
    seen = Validated(task.client.name, feature_set.name, task.client.source.users.raw, sample, margins)
    more = {
        "eligible": task.eligible, "not_eligible_buyers": task.not_eligible_buyers,
        "trees": booster.num_boosted_rounds(), "seconds": round(time.perf_counter() - started, 3)}  # fmt: skip
    parts = [Part(1.0, [booster])]
    return seen.fitted(columns.names, parts, *seen.calibrated(seed), more, look, seed)


def fit_all(
    tasks: list[Task], sets: list[FeatureSet], look: Lookalike, seed: int, beside_pool: bool
) -> tuple[list[Fitted], list[str]]:
    """(Every client with enough buyers, on every feature set; why each of the others has no model). Beside the pooled
    classifier, which serves them all, that is no warning."""
    fitted, left_out = [], []
    for task in tasks:
        reason = too_few(task, look.min_positives)
        try:
            fitted += [] if reason else [fit_one(task, feature_set, look, seed) for feature_set in sets]
        except OneClassError as error:
            reason = str(error)
        if reason:
            left_out.append(f"client {task.client.name}: no model tonight: {reason}")
            if beside_pool:
                log.info("client %s: no baselines to compare with: %s", task.client.name, reason)
            else:
                log.warning("%s", left_out[-1])
    return fitted, left_out


def too_few(task: Task, wanted: int) -> str:
    """"" where the client has buyers enough."""
    if task.sample.positives >= wanted:
        return ""
    found = f"{task.sample.positives} buyers among {task.eligible} eligible users"
    return f"{found}, and lookalike.min_positives is {wanted}"
