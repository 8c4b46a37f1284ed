"""What is recommended: how good the lists of D - L turned out, how far tonight's reach, what a handful of users get."""

from __future__ import annotations

from typing import Any

from jobs.report.night import Night, Stage

Row = dict[str, Any]


def recommendations(night: Night) -> list[Row]:
    """One card for each model by whose vectors items are recommended."""
    cards = []
    for model, stage in night.recommending():
        figures = {name: stage.figure(name) for name in ("coverage", "novelty", "users", "items")}
        cards.append({"model": model, "stage": stage, "figures": figures, "popularity": popularity(stage),
                      "backtest": stage.table("backtest"), "examples": stage.table("examples"),
                      "relations": stage.table("relations")})  # fmt: skip
    return cards


def popularity(stage: Stage) -> Row:
    """What the order of lists is made of; tenfold: how much likelier an item is that ten times as many users know."""
    weights = stage.mapping("weights")
    return weights | {"tenfold": 10 ** weights["popularity"]} if weights else {}
