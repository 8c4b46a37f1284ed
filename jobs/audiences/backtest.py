"""What the scores of D - L were worth: the buyers of [D - L, D) against them, the only figure called test."""

from __future__ import annotations

import datetime
import hashlib
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.audiences.evaluation import curve_figures, number, precision_figures
from jobs.audiences.fitted import read_models
from jobs.audiences.nights import Tables
from jobs.audiences.one_client import label
from jobs.audiences.population import JUDGED, never_trained_on, one_to, purchases_between, uniform
from jobs.audiences.train_lookalike import Config, clients_of
from jobs.program import Input, log, metrics
from models.classifiers.precision_recall import precision_at


def backtest(
    scores: pa.Table, buyers: pa.Array, scored_at: str, config: Config
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(figures, curves): one client's scores of D - L by one feature set against the buyers of [D - L, D).
    The only figure called test.

    The others at 1:3 are drawn anew: by the hash of training's draw they would be those whom the trees know for others.
    `untrained_`: the figures of the users on whom no trees ever learned.
    """
    client, feature_set = (scores.column(name)[0].as_py() for name in ("client", "feature_set"))
    raw = scores.column("user_id").cast(pa.large_string()).combine_chunks()
    labels, not_scored = label(raw, buyers)
    values, k = scores.column("score").to_numpy().astype(np.float64), config.lookalike.top_k
    order, untrained = uniform(config.seed, "backtest", client, raw), never_trained_on(raw, config.seed)
    figures = figures_of(labels, values, order, config)
    of_untrained = figures_of(labels[untrained], values[untrained], order[untrained], config)
    figures |= {f"untrained_{name}": figure for name, figure in of_untrained.items()}
    precision = precision_at(labels, values, k)
    lift = number(precision / labels.mean()) if labels.any() else None
    name = {"client": client, "feature_set": feature_set, "scored_at": scored_at}
    counts = {
        "buyers": int(labels.sum()), "not_scored_buyers": not_scored, "scored": len(labels), "k": min(k, len(labels)),
        "untrained_buyers": int(labels[untrained].sum()), "untrained": int(untrained.sum()),
        "precision_at_k": number(precision), "lift_at_k": lift}
    return name | figures | counts, name | curve_figures(labels, values, values)


def figures_of(labels: np.ndarray, scores: np.ndarray, order: np.ndarray, config: Config) -> dict[str, Any]:
    """PR-AUC of these users; at 1:3 of those who come first in the order."""
    look, everybody = config.lookalike, np.ones(len(labels), bool)
    sampled = one_to(JUDGED, labels, everybody, order)
    return precision_figures(labels, scores, sampled, look.bootstrap_draws, config.seed)


def own_buyers_at(lookalike_models: Input, start: datetime.date) -> dict[str, int]:
    """By client how many buyers its own model knew on that day; {} where clients were learnt alone."""
    trained = read_models(lookalike_models, start.isoformat())
    counted = (m for m in trained.models if "own_buyers" in m["figures"]) if trained else ()
    return {m["client"]: m["figures"]["own_buyers"] for m in counted}


def marks_of(config: Config) -> dict[str, str]:
    """What tells whether a client's predicate is still the same, by client."""
    plain = {name: json.dumps(tree, sort_keys=True, default=str) for name, tree in config.lookalike.clients.items()}
    return {name: hashlib.sha256(text.encode()).hexdigest()[:16] for name, text in plain.items()}


def report_backtest(
    tables: Tables, lookalike_scores: Input, lookalike_models: Input, start: datetime.date, date: datetime.date,
    config: Config,
) -> None:  # fmt: skip
    """Puts `backtest` and `backtest_curves`, one row per client that was scored at D - L and is still
    configured as it was then, and feature set."""
    if lookalike_scores.table().manifest(start.isoformat()) is None:
        log.warning("no backtest: nothing was scored on %s, lookalike.label_window_days before", start)
        return
    scores, manifest = lookalike_scores.table().read_version(start.isoformat())
    snapshot = tables.snapshot(date, config.graph)
    purchases = purchases_between(tables.clean_events, start, date, config.graph.purchase)
    known, found = own_buyers_at(lookalike_models, start), []
    now = marks_of(config)
    then = now | manifest.fields.get("clients", {})
    for name, predicate in clients_of(config).items():
        if now[name] != then[name]:
            log.warning("no backtest of client %s: its scores of %s are of another predicate", name, start)
            continue
        mine = scores.filter(pc.equal(scores.column("client"), name))
        buyers = purchases.buyers(snapshot.item_raw.filter(pa.array(snapshot.matching(predicate))))
        for feature_set in pc.unique(mine.column("feature_set")):
            by_it = mine.filter(pc.equal(mine.column("feature_set"), feature_set))
            figures, curves = backtest(by_it, buyers, start.isoformat(), config)
            more = {"chosen": pc.any(by_it.column("chosen")).as_py(), "own_buyers": known.get(name)}
            found.append((figures | more, curves))
    metrics.put("backtest", detail=[figures for figures, _ in found])
    metrics.put("backtest_curves", detail=[curves for _, curves in found])
