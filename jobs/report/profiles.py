"""How good profile predictions are: per label the confusion matrix, the reliability curve and the class balance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.report.charts import Axis, Series, as_percent, line_chart
from jobs.report.night import Night

Row = dict[str, Any]


def profiles(night: Night) -> list[Row]:
    """One card per label, in the order of their names; a label without a model tells its reason."""
    return [_card(facts) for facts in night["train_profiles"].table("profiles")]


def _card(facts: Row) -> Row:
    test = facts.get("test") or {}
    classes = [str(c) for c in facts.get("classes") or []]
    majority = facts.get("majority")
    lacks = [name for name in classes if name not in (facts.get("head") or {}).get("classes", classes)]
    return {
        **facts, "test": test, "head_lacks": lacks, "majority": classes[majority] if isinstance(majority, int) and majority < len(classes) else "",
        "confusion": confusion(classes, test.get("confusion") or []), "balance": balance(facts), "reliability": reliability(str(facts.get("label")), test)}  # fmt: skip


def confusion(classes: list[str], counts: list[list[int]]) -> list[Row]:
    """A row per true class: its users by predicted class, each with its share of the row."""
    rows = []
    for name, row in zip(classes, counts, strict=False):
        total = sum(row)
        cells = [{"count": n, "share": n / total if total else 0, "right": i == len(rows)} for i, n in enumerate(row)]
        rows.append({"name": name, "total": total, "cells": cells})
    return rows


def balance(facts: Row) -> list[Row]:
    """A row per class: labelled users by fold, and the users it is predicted for, each with its share."""
    known, predicted, rare = facts.get("balance") or {}, facts.get("predicted") or {}, set(facts.get("rare") or [])
    labelled, users = facts.get("labelled") or 0, facts.get("users") or 0
    return [
        {"name": name, "folds": folds, "labelled": sum(folds), "labelled_share": sum(folds) / labelled if labelled else None, "rare": name in rare,
         "predicted": predicted.get(name), "predicted_share": predicted[name] / users if users and name in predicted else None}
        for name, folds in known.items()]  # fmt: skip


def reliability(label: str, test: Mapping[str, Any]) -> Any:
    """Share of right predictions over the probability that was said of them; None where nothing was tested."""
    groups = [g for g in test.get("reliability") or [] if isinstance(g, Mapping)]
    line = Series(label, [g.get("predicted") for g in groups], [g.get("observed") for g in groups], "c0", dots=True)
    said, right = (Axis(name, 0.0, 1.0, as_percent) for name in ("probability of the class named", "named rightly"))
    return line_chart(f"Share of users whose {label} was named rightly over the probability said", [line], said, right, True)
