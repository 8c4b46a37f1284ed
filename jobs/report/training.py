"""How each model learned tonight: what stands on its card in the section of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobs.report import text
from jobs.report.charts import Axis, Series, line_chart
from jobs.report.night import Night, Stage
from models import families
from models.family import Family

Row = dict[str, Any]

_LOSSES = (  # keys of a history, in words, colours, and whether a look now and then made them
    ("loss", "training loss", "c0", False),
    ("behavior_loss", "second loss, of behaviours", "c3", False),
    ("validation_loss", "validation loss", "c1", True))  # fmt: skip


def training(night: Night) -> list[Row]:
    """One card per model that ran: loss, the held-out measure, how it started."""
    return [_card(model, stage, families.family_of(model)) for model, stage in night.training() if stage.ran]


def _card(model: str, stage: Stage, family: Family) -> Row:
    history, measure = stage.table("history"), family.measure
    drawn = [one for one in _LOSSES if one[0] == "loss" or any(one[0] in row for row in history)]
    losses = [
        Series(name, _epochs(history), _column(history, key), colour, dots=dots) for key, name, colour, dots in drawn]
    measured = Series(measure, _epochs(history), _column(history, measure), "c2", dots=True)
    name = text.words(measure)
    return {
        "model": model, "status": stage.status, "message": stage.message, "epochs": len(history),
        "start": "warm start" if stage.figure("warm") else "cold start", "facts": _facts(stage, family),
        "loss": line_chart(f"Loss of {model} by epoch", losses, Axis("epoch"), Axis("loss")),
        "legend": [(colour, name) for _, name, colour, _ in drawn] if len(drawn) > 1 else [],
        "measure": line_chart(f"{name} of {model} by epoch", [measured], Axis("epoch"), Axis(name))}


def _facts(stage: Stage, family: Family) -> list[str]:
    """What is known of: how good it is by the family's measure, what it learned from, which epoch was kept."""
    best = stage.figure("best_epoch")
    known = (
        (family.measured, stage.figure(family.measure)), (f"{{:,.0f}} {family.learns_from}", stage.figure("rows_in")),
        ("best after epoch {:.0f}", best + 1 if best is not None and best >= 0 else None))
    return [form.format(figure) for form, figure in known if figure is not None]


def _epochs(history: Sequence[Row]) -> list[float | None]:
    """Epochs counted from 1, as people do."""
    return [None if row.get("epoch") is None else row["epoch"] + 1 for row in history]


def _column(history: Sequence[Row], name: str) -> list[float | None]:
    return [row.get(name) for row in history]
