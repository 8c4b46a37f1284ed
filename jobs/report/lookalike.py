"""How good the audiences are: validation figures per client and feature set, and the backtest."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc

from jobs.configuration.feature_names import BASELINES
from jobs.program import Input
from jobs.report import text
from jobs.report.charts import Axis, Series, as_percent, line_chart
from jobs.report.night import Night

Row = dict[str, Any]
OWN_BUYERS = (0, 1, 20, 100, 1000)  # least of each class of clients by the buyers that their own models knew
EXAMPLES = 5  # users of each audience whose reasons are shown


def base_of(sets: Collection[str]) -> str | None:
    """The feature set that a row's gain is over: the first baseline among them; None without one, and so no gain."""
    return next((name for name in BASELINES if name in sets), None)


def quality(night: Night) -> Row | None:
    """The PR-AUC table, figures per client, and the mean gain of each feature set over the baselines."""
    stage = night["train_lookalike"]
    rows = stage.table("pr_auc")
    if not rows:
        return None
    sets = list(dict.fromkeys(str(r.get("feature_set")) for r in rows))
    colours = {name: f"c{i % 8}" for i, name in enumerate(sets)}
    chosen = stage.mapping("chosen")
    curves = {_of(curve): curve for curve in stage.table("curves")}
    scale = _scale(rows, "pr_auc_1to3_low", "pr_auc_1to3", "pr_auc_1to3_high")
    base, over_base, clients = base_of(sets), gains_over(rows, base_of(sets)), []
    for client in dict.fromkeys(str(r.get("client")) for r in rows):
        mine = [r for r in rows if str(r.get("client")) == client]
        table = [_table_row(r, colours, str(chosen.get(client)), over_base.get(_of(r)), scale) for r in mine]
        lines = [(name, colours[name], curves[client, name]) for name in sets if (client, name) in curves]
        drawn = curve_charts(client, lines, mine[0].get("prevalence"), {base, str(chosen.get(client))})
        legend = [(colour, name) for name, colour, _ in lines]
        clients.append({"client": client, "rows": table, "facts": mine[0], "curves": drawn, "legend": legend})
    gains = {name: mean_gains(rows, sets, name) for name in BASELINES if name in sets}
    first = gains[base] if base else {}
    listed = [{"name": n, "colour": colours[n], "gains": [of.get(n) for of in gains.values()]} for n in sets]
    return {
        "clients": clients, "bases": list(gains), "sets": listed, "baseline": base, "gains": gains,
        "chosen": sorted(set(map(str, chosen.values()))),
        "best": max(first.items(), key=lambda pair: pair[1]) if first else None}


def _table_row(
    row: Row, colours: Mapping[str, str], chosen: str, gain: float | None, scale: tuple[float, float]
) -> Row:
    name = str(row.get("feature_set"))
    whisker = _whisker(scale, row.get("pr_auc_1to3_low"), row.get("pr_auc_1to3"), row.get("pr_auc_1to3_high"))
    return {**row, "colour": colours[name], "chosen": chosen == name, "gain": gain, **whisker}


def _of(row: Row) -> tuple[str, str]:
    """The client and the feature set that a row is of."""
    return str(row.get("client")), str(row.get("feature_set"))


def gains_over(rows: Sequence[Row], base: str | None) -> dict[tuple[str, str], float | None]:
    """By client and feature set, PR-AUC at 1:3 ÷ that of `base` for the same client − 1; None of `base` itself, and of
    a client without it."""
    found: dict[tuple[str, str], float | None] = {_of(row): row.get("pr_auc_1to3") for row in rows}
    return {
        (client, name): None if name == base else _gain(value, found.get((client, str(base))))
        for (client, name), value in found.items()}  # fmt: skip


def mean_gains(rows: Sequence[Row], sets: Sequence[str], base: str) -> dict[str, float]:
    """Per other feature set, mean of `gains_over` over the clients that have both."""
    found, means = gains_over(rows, base), {}
    for name in sets:
        known = [gain for (_, of), gain in found.items() if of == name and gain is not None]
        if known:
            means[name] = float(np.mean(known))
    return means


def _gain(value: float | None, base: float | None) -> float | None:
    return value / base - 1 if value is not None and base else None


def _scale(rows: Sequence[Row], *names: str) -> tuple[float, float]:
    """From the least to the largest of these figures, a little room at both ends: one scale for a whole table."""
    values = [r[name] for r in rows for name in names if isinstance(r.get(name), (int, float))]
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = 0.05 * (high - low) or 0.05
    return low - room, high + room


def _whisker(scale: tuple[float, float], low: float | None, at: float | None, high: float | None) -> Row:
    """Positions of a figure and its interval on the scale, as shares of its length; {} without a figure."""
    if at is None:
        return {}
    ends = (at if low is None else low, at, at if high is None else high)
    return dict(zip(("low_at", "at", "high_at"), ((v - scale[0]) / (scale[1] - scale[0]) for v in ends), strict=True))


def curve_charts(
    client: str, lines: Sequence[tuple[str, str, Row]], prevalence: float | None,
    calibrated: Collection[str] | None = None, who: str = "buyers",
) -> list[Any]:  # fmt: skip
    """PR curve, cumulative gain and calibration, one line each; calibration of those in `calibrated` alone,
    since they lie upon each other."""
    if not lines:
        return []
    pr = [Series(n, c.get("recall") or [], c.get("precision") or [], colour) for n, colour, c in lines]
    if prevalence:
        pr.append(Series("prevalence", [0, 1], [prevalence, prevalence], "muted", dashed=True))
    gain = [Series(n, c.get("share_contacted") or [], c.get("share_reached") or [], colour) for n, colour, c in lines]
    calibration = [_calibration(n, colour, c) for n, colour, c in lines if not calibrated or n in calibrated]
    highest = max((v for s in calibration for v in (*s.x, *s.y) if v is not None), default=1.0) * 1.05 or 1.0

    def unit(label: str, high: float = 1.0) -> Axis:
        return Axis(label, 0.0, high, as_percent)

    precision = f"Precision over recall for {client}"
    reached = f"Share of {who} reached over share of users contacted for {client}"
    observed = f"Observed over predicted share of {who} for {client}"
    contacted, share = unit("users contacted, best first"), unit(f"{who} reached")
    drawn = (
        ("Precision and recall", line_chart(precision, pr, unit("recall"), unit("precision"))),
        ("Cumulative gain", line_chart(reached, gain, contacted, share, True)),
        ("Calibration", line_chart(observed, calibration, unit("predicted", highest), unit("observed", highest), True)))
    return [{"title": title, "svg": svg} for title, svg in drawn if svg]


def _calibration(name: str, colour: str, curve: Row) -> Series:
    bins = [b for b in curve.get("calibration") or [] if isinstance(b, Mapping)]
    return Series(name, [b.get("predicted") for b in bins], [b.get("observed") for b in bins], colour, dots=True)


def too_few(night: Night) -> list[Row]:
    """Clients without a model tonight, with their counts."""
    return [c for c in night["train_lookalike"].table("clients") if not c.get("modelled")]


def backtest(night: Night) -> Row:
    """Scores of D − L held against what happened since: the only figures called test. Per client, the chosen
    features beside the baselines."""
    stage = night["score_lookalike"]
    rows = stage.table("backtest")
    sets = list(dict.fromkeys(str(r.get("feature_set")) for r in rows))
    colours = {client: f"c{i % 8}" for i, client in enumerate(dict.fromkeys(str(r.get("client")) for r in rows))}
    drawn = _backtest_rows(rows, colours, gains_over(rows, base_of(sets)))
    chosen, everybody = ([r for r in drawn if r[name]] for name in ("chosen", "everybody"))
    curves = {_of(curve): curve for curve in stage.table("backtest_curves")}
    lines = [(_of(r)[0], r["colour"], curves[_of(r)]) for r in chosen if curves.get(_of(r))]
    gains = [(base, _mean_gain(rows, base, chosen)) for base in BASELINES if base in sets]
    return {
        "baseline": base_of(sets), "rows": drawn,
        "clients": [[r for r in drawn if str(r["client"]) == client] for client in colours],
        "chosen": chosen, "everybody": says_nothing(everybody) if everybody else "",
        "gains": [(base, gain) for base, gain in gains if gain is not None],
        "by_own_buyers": by_own_buyers(rows, sets), "sets": sets,
        "curves": curve_charts("each client, out of time", lines, None),
        "legend": [(colour, name) for name, colour, _ in lines]}


def by_own_buyers(rows: Sequence[Row], sets: Sequence[str]) -> list[Row]:
    """Clients by how many buyers of their own were known: how many clients, and the mean PR-AUC at 1:3 of each feature
    set over those that it scored."""
    found = []
    for least, next_one in zip(OWN_BUYERS, (*OWN_BUYERS[1:], None), strict=True):
        mine = [r for r in rows if r.get("own_buyers") is not None and least <= r["own_buyers"]]
        mine = [r for r in mine if next_one is None or r["own_buyers"] < next_one]
        values = {s: [r["pr_auc_1to3"] for r in mine if r["feature_set"] == s and r.get("pr_auc_1to3")] for s in sets}
        means = [float(np.mean(values[s])) if values[s] else None for s in sets]
        last, clients = None if next_one is None else next_one - 1, {_of(r)[0] for r in mine}
        if clients:
            found.append({"least": least, "last": last, "clients": len(clients), "means": means})
    return found


def _backtest_rows(
    rows: Sequence[Row], colours: Mapping[str, str], gains: Mapping[tuple[str, str], float | None]
) -> list[Row]:
    """Each with its client's colour, its gain, and its interval and the prevalence on one scale."""
    names = ("pr_auc_population_low", "pr_auc_population", "pr_auc_population_high")
    scale = _scale(rows, *names, "prevalence")
    drawn = []
    for row in rows:
        chance = _whisker(scale, None, row.get("prevalence"), None).get("at")
        drawn.append({
            **row, "colour": colours[_of(row)[0]], "chosen": row.get("chosen", True), "gain": gains.get(_of(row)),
            "everybody": _took_in_everybody(row), "chance_at": chance,
            **_whisker(scale, *(row.get(name) for name in names))})
    return drawn


def _took_in_everybody(row: Row) -> bool:
    """Whether the audience had no fewer users than were scored: then precision at k is the prevalence, and the lift 1,
    whatever the scores."""
    k, scored = row.get("k"), row.get("scored")
    return bool(scored) and k is not None and k >= scored


def says_nothing(everybody: Sequence[Row]) -> str:
    """Why a lift of rows that took in everybody is 1."""
    least, most = min(row["scored"] for row in everybody), max(row["scored"] for row in everybody)
    users = text.count(least) if least == most else f"{text.count(least)} to {text.count(most)}"
    return f"lookalike.top_k took in all {users} users who were scored, so that the lift is 1; set it lower"


def _mean_gain(rows: Sequence[Row], base: str, chosen: Sequence[Row]) -> float | None:
    """Mean over the clients of what the features that scored gained over a baseline; None where that one scored."""
    found = gains_over(rows, base)
    known = [gain for row in chosen if (gain := found.get(_of(row))) is not None]
    return float(np.mean(known)) if known else None


def gain_by_group(night: Night) -> list[Row]:
    """What the pooled trees learned from: each group of columns with its share of their gain, the largest first."""
    gain = night["train_lookalike"].mapping("pool").get("gain") or {}
    return [{"group": group, "share": share} for group, share in sorted(gain.items(), key=lambda pair: -pair[1])]


def pool(night: Night) -> Row:
    """What the pooled classifier learned from; {"reason": …} where each client was learnt alone."""
    return night["train_lookalike"].mapping("pool")


def why(dt: str, audience_reasons: Input) -> list[Row]:
    """Per client the first users with their reasons."""
    if audience_reasons.table().manifest(dt) is None:
        return []
    found: dict[str, dict[str, Row]] = {}
    columns = ["client", "user_id", "rank", "text"]
    for row in audience_reasons.table().read(dt, columns, pc.field("rank") <= EXAMPLES).to_pylist():
        user = found.setdefault(row["client"], {}).setdefault(row["user_id"], {**row, "texts": []})
        user["texts"].append(row["text"])
    return [{"client": client, "users": list(users.values())} for client, users in found.items()]


def suppression(night: Night) -> list[Row]:
    """The suppression lists, with how many ids each holds and how many of them are known."""
    return night["score_lookalike"].table("suppression")


def audiences(night: Night, expected_buyers: Mapping[str, float], sizes: Mapping[str, int]) -> list[Row]:
    """Prospects per client; expected_buyers: the sum of calibrated scores over an audience, sizes: its
    length, both from the table."""
    rows = night["score_lookalike"].table("audiences")
    known = {str(r.get("client")) for r in rows}
    found = []
    for row in rows + [{"client": c} for c in sizes if c not in known]:
        client = str(row.get("client"))
        found.append({**row, "size": sizes.get(client, row.get("k")), "expected": expected_buyers.get(client)})
    return found
