"""RelGNN's section of the page: how hard the negatives are that its sampler chose, and what share of them were true
edges after all, held out of training: epoch by epoch, after the RelGNN paper's section 3.2."""

from __future__ import annotations

from typing import Any

from jobs.report.charts import Axis, Series, as_percent, line_chart
from jobs.report.night import Night

ANCHOR, NAME, TEMPLATE = "negatives", "Negatives", "relgnn_negatives.html.jinja"
LINES = {"gap": ("negative_gap", "probability of the true edge less the negative's"),
         "above": ("negative_above", "negatives that score above their true edge"),
         "held_out": ("negative_held_out", "negatives that are held-out edges")}  # fmt: skip

Row = dict[str, Any]


def shown(night: Night) -> Row:
    """What the template reads: the sampler, the last epoch's figures, and a chart of each by epoch."""
    stage = night["finetune_relgnn"]
    history = [row for row in stage.table("history") if LINES["gap"][0] in row]
    charts = {name: _chart(key, words, history, name != "gap") for name, (key, words) in LINES.items()}
    last = {name: history[-1][key] for name, (key, _) in LINES.items()} if history else {}
    return {"stage": stage, "sampler": stage.details.get("sampler"), "last": last, "charts": charts}


def _chart(key: str, words: str, history: list[Row], is_share: bool) -> Any:
    epochs, values = [row["epoch"] + 1 for row in history], [row[key] for row in history]
    y = Axis("share", 0.0, tick=as_percent) if is_share else Axis("probability")
    return line_chart(f"By epoch: {words}", [Series(words, epochs, values, "c0")], Axis("epoch"), y)
