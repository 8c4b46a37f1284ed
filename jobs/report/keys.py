"""The strip on top of the page: the night in six figures, four of a night without clients."""

from __future__ import annotations

from typing import Any

import numpy as np

from jobs.report import text
from jobs.report.night import Night


def figures_of(night: Night, shown: dict[str, Any]) -> list[dict[str, str]]:
    """shown: what the page's sections show, of which `arrival`, `graph`, `space`, `quality` and `backtest` are told."""
    of_clients = [_gain(shown["quality"]), _backtest(shown["backtest"])] if night.prospects else []
    space = shown["space"]
    return [_events(shown["arrival"]), _users(space), _graph(shown["graph"]), *of_clients, _drift(space)]


def _key(name: str, value: str, more: str) -> dict[str, str]:
    return {"name": name, "value": value, "more": more}


def _events(arrival: dict | None) -> dict[str, str]:
    known = arrival and arrival["share"] is not None
    more = f"{text.percent(arrival['share'], 2)} rejected" if known else "not recorded"
    return _key("Events in", text.count(arrival and arrival["rows_in"]), more)


def _users(space: list[dict]) -> dict[str, str]:
    known = [row for row in space if row["users"] is not None]
    if not known:
        return _key("Users published", text.MISSING, "no model published tonight")
    counts = {row["users"] for row in known}
    names = ", ".join(row["model"] for row in known)
    if len(counts) > 1:
        more = ", ".join(f"{row['model']} {text.count(row['users'])}" for row in known)
    else:
        more = f"by each of {names}" if len(known) > 1 else names
    return _key("Users published", text.count(max(counts)), more)


def _graph(graph: dict | None) -> dict[str, str]:
    if not graph:
        return _key("Edges in the graph", text.MISSING, "not built tonight")
    entities = text.count(graph["entities_total"])
    return _key("Edges in the graph", text.count(graph["edges_total"]), f"between {entities} entities")


def _gain(quality: dict | None) -> dict[str, str]:
    if not quality or not quality["best"]:
        return _key("Best PR-AUC gain", text.MISSING, _no_gain(quality))
    (name, gain), baseline = quality["best"], quality["baseline"]
    others = [
        f"{text.signed_percent(gains[name])} over {base}"
        for base, gains in quality["gains"].items() if base != baseline and name in gains]  # fmt: skip
    more = "; ".join([f"{name} over {baseline}, validation", *others])
    return _key("Best PR-AUC gain", text.signed_percent(gain), more)


def _no_gain(quality: dict | None) -> str:
    if not quality:
        return "no classifier trained tonight"
    if quality["baseline"] is None:
        return "classifiers trained, but no baseline to hold them against"
    return f"no figure of other features to hold against {quality['baseline']}"


def _backtest(backtest: dict) -> dict[str, str]:
    everybody = [row for row in backtest["chosen"] if row["everybody"]]
    telling = [row for row in backtest["chosen"] if not row["everybody"]]
    lifts = _numbers(telling or everybody, "lift_at_k")
    if not lifts:
        return _key("Backtest", text.MISSING, "no earlier scores to hold against what happened")
    auc = _numbers(backtest["chosen"], "pr_auc_population")
    more = f"lift at k, mean of {len(lifts)} client{'s' if len(lifts) > 1 else ''}"
    more += f"; PR-AUC {text.figure(float(np.mean(auc)) if auc else None)}"
    more += "".join(f", {text.signed_percent(gain)} over {base}" for base, gain in backtest["gains"])
    if everybody and not telling:
        more = f"{backtest['everybody']}; {more}"
    return _key("Backtest, out of time", f"{np.mean(lifts):.1f}×", more)


def _numbers(rows: list[dict], name: str) -> list[float]:
    return [row[name] for row in rows if isinstance(row.get(name), (int, float))]


def _drift(space: list[dict]) -> dict[str, str]:
    found = {row["model"]: row["before"].get("median") for row in space}
    medians = {model: median for model, median in found.items() if isinstance(median, (int, float))}
    if not medians:
        return _key("Drift", text.MISSING, "no night before in this space")
    worst = max(medians, key=lambda model: medians[model])
    more = f"cosine distance to the night before, {worst}"
    return _key("Drift, median", text.figure(medians[worst], 3), more)
