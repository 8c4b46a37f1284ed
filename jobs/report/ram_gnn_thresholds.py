"""RAM-GNN's section of the page: by which attributes users and items are neighbours, and how many neighbours its
sampler keeps of each, epoch by epoch, after the RAM-GNN paper's figure 5."""

from __future__ import annotations

from typing import Any

from jobs.report.charts import COLOURS, Axis, Series, line_chart
from jobs.report.night import Night

ANCHOR, NAME, TEMPLATE = "thresholds", "Thresholds", "ram_gnn_thresholds.html.jinja"
MOST_SERIES = COLOURS  # in one chart

Row = dict[str, Any]


def shown(night: Night) -> Row:
    """What the template reads: a row per relation type, and the thresholds' path."""
    stage = night["pretrain_ram_gnn"]
    types, history = stage.table("thresholds"), stage.table("history")
    return {"stage": stage, "types": types, "charts": [_path(kind, types, history) for kind in _kinds(types)]}


def _kinds(types: list[Row]) -> list[str]:
    return list(dict.fromkeys(row["entity_type"] for row in types))


def _path(kind: str, types: list[Row], history: list[Row]) -> Row:
    """The chart of one side; the types with the most rows, where there are more than colours."""
    mine = sorted((row for row in types if row["entity_type"] == kind), key=lambda row: -row["rows"])[:MOST_SERIES]
    epochs = [row["epoch"] + 1 for row in history]
    series = [
        Series(row["type"], epochs, [one.get(f"threshold_{row['type']}") for one in history], f"c{number}")
        for number, row in enumerate(mine)]  # fmt: skip
    drawn = line_chart(f"Kept neighbours of {kind}s by epoch", series, Axis("epoch"), Axis("neighbours"))
    return {"legend": [(one.colour, one.name) for one in series], "drawn": drawn if history else None}
