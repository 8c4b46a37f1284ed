"""Train the classifiers of target prospecting: who buys from a client in the next L days
(after the paper on Knowledge Query-based Graph Convolution, sections 3.3 and 4).

Reads: clean_events of the days before D; knowledge_graph, interactions, entity_ids, relations, user_embeddings,
entity_embeddings of D - L (features) and the graph's item attributes of D (labels). Writes: lookalike_models of D.
Guarantees: features know nothing from D - L on, labels are of [D - L, D), buyers and others are
drawn from the same eligible users.
Skips, with what to rerun, where D - L was not run or is in another space; and, with each client's count, where no
client has buyers enough.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store import Commit
from jobs.audiences.evaluation import curve_figures, number, precision_figures
from jobs.audiences.feature_sets import ClientSource, Source
from jobs.audiences.nights import Tables, skip_unless_comparable
from jobs.audiences.population import Purchases, Sample, draw_sample, purchases_between, uniform
from jobs.audiences.snapshot import Snapshot
from jobs.configuration.feature_names import FeatureSet, default_names, models_of
from jobs.configuration.load import config_hash
from jobs.configuration.predicates import Predicate, parse
from jobs.configuration.sections import Graph, Lookalike, Publishing
from jobs.program import Input, Output, Skip, code_version, log, main, metrics
from models.classifiers.lookalike import Calibration, OneClassError, calibrate, fit, margins_of, to_bytes

if TYPE_CHECKING:
    import xgboost

SAID_CLIENTS = 5  # of those without a model, in the reason of a skip


@dataclass(frozen=True)
class Config:
    seed: int
    graph: Graph
    publishing: Publishing
    lookalike: Lookalike


@dataclass(frozen=True)
class Fitted:
    """One client's model on one feature set, and its figures on validation."""

    client: str
    feature_set: str
    columns: list[str]
    booster: xgboost.Booster
    calibration: Calibration
    figures: dict[str, Any]
    curves: dict[str, Any]


@dataclass(frozen=True)
class Task:
    """One client's prediction task: whose labels are known, who may be used, and who was a
    buyer without being eligible."""

    client: ClientSource
    sample: Sample
    eligible: int
    not_eligible_buyers: int

    @property
    def positives(self) -> int:
        return int((self.sample.labels & (self.sample.training | self.sample.validation)).sum())


def feature_sets_of(config: Config) -> list[FeatureSet]:
    """What a night fits, in the order of the configuration."""
    models = config.publishing.models
    names = config.lookalike.feature_sets or default_names(models)
    if config.lookalike.score_with and config.lookalike.score_with not in names:
        names = [*names, config.lookalike.score_with]
    return [FeatureSet.parse(name, models) for name in names]


def clients_of(config: Config) -> dict[str, Predicate]:
    """The configured clients' predicates by name. Skip when there is none."""
    if not config.lookalike.clients:
        raise Skip("No client is configured under lookalike.clients: nothing to prospect for.")
    known = config.graph.item_attributes
    return {name: parse(tree, f"lookalike.clients.{name}", known) for name, tree in config.lookalike.clients.items()}


def label(eligible: pa.Array, buyers: pa.Array) -> tuple[np.ndarray, int]:
    """(bool per eligible user: is a buyer, how many buyers are not eligible)."""
    labels = pc.is_in(eligible, value_set=buyers).to_numpy(zero_copy_only=False)
    return labels, len(buyers) - int(labels.sum())


def make_task(
    name: str, predicate: Predicate, source: Source, labels_from: Snapshot, purchases: Purchases, config: Config
) -> Task:
    """Labels by the items that are the client's in the graph of D, everything else by the snapshot of the features."""
    client = source.client(name, predicate)
    bought = labels_from.item_raw.filter(pa.array(labels_from.matching(predicate)))
    labels, not_eligible = label(source.users.raw, purchases.buyers(bought))
    allowed = ~client.bought_before if config.lookalike.exclude_past_buyers else np.ones(len(labels), bool)
    sample = draw_sample(source.users.raw, labels, allowed, config.lookalike.negatives_per_positive, config.seed, name)
    return Task(client, sample, int(allowed.sum()), not_eligible)


def fit_one(task: Task, feature_set: FeatureSet, config: Config) -> Fitted:
    """Train on the sampled 6, stop early on a tenth of them, calibrate and validate on the 4 as they are."""
    started, look = time.perf_counter(), config.lookalike
    sample, columns = task.sample, task.client.columns(feature_set)
    chosen = sample.training
    learned = columns.values[chosen], sample.labels[chosen], sample.held_out[chosen]
    booster = fit(*learned, look.trees, config.seed, columns.monotone)
    rows = np.flatnonzero(sample.validation)
    labels, margins = sample.labels[rows], margins_of(booster, columns.values[rows], look.trees.threads)
    at_ratio = sample.validation_sampled[rows]
    figures = precision_figures(labels, margins, at_ratio, look.bootstrap_draws, config.seed)
    probabilities = cross_calibrated(margins, labels, task, rows, config.seed)
    name = {"client": task.client.name, "feature_set": feature_set.name}
    counts = {
        "positives": task.positives, "eligible": task.eligible, "not_eligible_buyers": task.not_eligible_buyers,
        "validation_positives": int(labels.sum()), "trees": booster.num_boosted_rounds(),
        "seconds": round(time.perf_counter() - started, 3)}  # fmt: skip
    return Fitted(
        **name, columns=columns.names, booster=booster, calibration=calibrate(margins, labels),
        figures=name | figures | counts, curves=name | curve_figures(labels, margins, probabilities))


def cross_calibrated(margins: np.ndarray, labels: np.ndarray, task: Task, rows: np.ndarray, seed: int) -> np.ndarray:
    """Probabilities for the calibration curve: each half of validation by the calibration of the other half."""
    raw = task.client.source.users.raw.take(pa.array(rows))
    half = uniform(seed, "calibration half", task.client.name, raw) < 0.5
    out = np.empty(len(rows), np.float32)
    for side in (half, ~half):
        out[side] = calibrate(margins[~side], labels[~side])(margins[side])
    return out


def fit_all(tasks: list[Task], sets: list[FeatureSet], config: Config) -> tuple[list[Fitted], list[str]]:
    """(Every client with enough buyers, on every feature set; why each of the others has no model)."""
    fitted, left_out = [], []
    for task in tasks:
        reason = too_few(task, config.lookalike.min_positives)
        try:
            fitted += [] if reason else [fit_one(task, feature_set, config) for feature_set in sets]
        except OneClassError as error:
            reason = str(error)
        if reason:
            left_out.append(f"client {task.client.name}: no model tonight: {reason}")
            log.warning("%s", left_out[-1])
    return fitted, left_out


def too_few(task: Task, wanted: int) -> str:
    """"" where the client has buyers enough."""
    if task.positives >= wanted:
        return ""
    return f"{task.positives} buyers among {task.eligible} eligible users, and lookalike.min_positives is {wanted}"


def skip_without_models(fitted: list[Fitted], left_out: list[str], label_window_days: int) -> None:
    """Skip where no client has a model: a stage that made nothing is not done."""
    if fitted:
        return
    more = f"; and {len(left_out) - SAID_CLIENTS} more" if len(left_out) > SAID_CLIENTS else ""
    advice = "Let a client's predicate take in more items, lower lookalike.min_positives, or lengthen"
    raise Skip(
        f"None of {len(left_out)} clients has buyers enough to learn from: {'; '.join(left_out[:SAID_CLIENTS])}{more}. "
        f"{advice} lookalike.label_window_days ({label_window_days}).")


def choose(fitted: list[Fitted], sets: list[FeatureSet], score_with: str | None) -> str:
    """The feature set that scores: the configured one, else the best mean PR-AUC at 1:3 on
    validation; the first of equals."""
    if score_with:
        return score_with

    def mean(name: str) -> float:
        return np.nanmean([f.figures["pr_auc_1to3"] or np.nan for f in fitted if f.feature_set == name])

    return max((s.name for s in sets), key=mean)


def report(tasks: list[Task], fitted: list[Fitted], chosen: str | None, spaces: dict[str, str | None]) -> None:
    """The night's figures of this stage. `pr_auc`, `curves`: one row per client and feature
    set; `clients`: one per client."""
    metrics.put("rows_in", len(tasks[0].sample.labels))
    metrics.put("rows_out", len(fitted))
    metrics.put("spaces", detail=spaces)
    modelled = {f.client for f in fitted}
    metrics.put("clients", detail=[
        {"client": t.client.name, "eligible": t.eligible, "positives": t.positives,
         "not_eligible_buyers": t.not_eligible_buyers, "items": int(t.client.items.sum()),
         "prevalence": number(t.positives / max(1, t.eligible)), "modelled": t.client.name in modelled}
        for t in tasks])  # fmt: skip
    metrics.put("pr_auc", detail=[f.figures for f in fitted])
    metrics.put("curves", detail=[f.curves for f in fitted])
    metrics.put("chosen", detail={f.client: chosen for f in fitted})


def run(
    date: datetime.date, clean_events: Input, knowledge_graph: Input, interactions: Input, entity_ids: Input,
    relations: Input, user_embeddings: Input, entity_embeddings: Input, lookalike_models: Output, config: Config,
) -> None:  # fmt: skip
    """Label, fit, choose, commit."""
    graph, dt = (knowledge_graph, interactions, entity_ids, relations), date.isoformat()
    tables = Tables(clean_events, *graph, user_embeddings, entity_embeddings)
    start = date - datetime.timedelta(days=config.lookalike.label_window_days)
    sets, clients = feature_sets_of(config), clients_of(config)
    models = models_of(sets)
    skip_unless_comparable(tables, start, date, sets)
    source = tables.source(start, models, config.graph, config.lookalike, config.seed)
    labels_from = tables.snapshot(date, config.graph)
    purchases = purchases_between(clean_events, start, date, config.graph.purchase)
    tasks = [make_task(name, predicate, source, labels_from, purchases, config) for name, predicate in clients.items()]
    (fitted, left_out), spaces = fit_all(tasks, sets, config), tables.spaces(models, start)
    chosen = choose(fitted, sets, config.lookalike.score_with) if fitted else None
    report(tasks, fitted, chosen, spaces)
    vocabulary = dataclasses.asdict(source.vocabulary)
    index = {"label_start": start.isoformat(), "chosen": chosen, "vocabulary": vocabulary, "spaces": spaces}
    with lookalike_models.table().replace(dt, keep_versions=config.publishing.keep_versions) as commit:
        index["models"] = [_write(one, commit) for one in fitted]
        commit.write_bytes(".json", _json(index), hint="index", hashed=_json(repeatable(index)))
        inputs = [*tables.lineage([start], models), knowledge_graph.lineage(dt)]
        commit.fields |= {
            "label_window": [start.isoformat(), dt], "spaces": spaces, "chosen": chosen,
            "config_hash": config_hash(config), "code_version": code_version(), "inputs": inputs}
    # after the commit: nobody is to score by the models of an earlier run
    skip_without_models(fitted, left_out, config.lookalike.label_window_days)


def _write(fitted: Fitted, commit: Commit) -> dict[str, Any]:
    """Puts the model's bytes beside the index; its entry there."""
    return {
        "client": fitted.client, "feature_set": fitted.feature_set, "columns": fitted.columns,
        "calibration": dataclasses.asdict(fitted.calibration), "figures": fitted.figures,
        "file": commit.write_bytes(".ubj", to_bytes(fitted.booster), hint=fitted.client[:64])}


def repeatable(index: dict[str, Any]) -> dict[str, Any]:
    """What two equal runs share of an index: all but the unique names of files and the seconds that fitting took."""

    def of(model: dict[str, Any]) -> dict[str, Any]:
        figures = {name: figure for name, figure in model["figures"].items() if name != "seconds"}
        return {key: value for key, value in model.items() if key != "file"} | {"figures": figures}

    return index | {"models": [of(model) for model in index["models"]]}


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, sort_keys=True).encode()


if __name__ == "__main__":
    main(run)
