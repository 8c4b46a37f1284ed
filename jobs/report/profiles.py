"""How good profile predictions are: per label the confusion matrix, the reliability curve and the class balance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.report.charts import Axis, Series, as_percent, line_chart
from jobs.report.night import Night
from models import families

Row = dict[str, Any]


def profiles(night: Night) -> list[Row]:
    """One card per label, in the order of their names; a label without a model tells its reason."""
    return [_card(facts) for facts in night["train_profiles"].table("profiles")]


def heads_of(night: Night) -> list[str]:
    """Titles of the published families that have classifiers of their own."""
    return [family.title for family in families.FAMILIES if family.head and set(family.models) & set(night.models)]


def _card(facts: Row) -> Row:
    test = facts.get("test") or {}
    classes = [str(c) for c in facts.get("classes") or []]
    majority = facts.get("majority")
    commonest = classes[majority] if isinstance(majority, int) and majority < len(classes) else ""
    heads = [head | {"lacks": [c for c in classes if c not in head["classes"]]} for head in facts.get("heads") or []]
    return facts | {
        "test": test, "heads": heads, "majority": commonest, "balance": balance(facts),
        "confusion": confusion(classes, test.get("confusion") or []),
        "reliability": reliability(str(facts.get("label")), test)}


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
    known, predicted = facts.get("balance") or {}, facts.get("predicted") or {}
    rare, labelled, users = set(facts.get("rare") or []), facts.get("labelled"), facts.get("users")

    def row(name: str, folds: list[int]) -> Row:
        named = predicted.get(name)
        return {
            "name": name, "folds": folds, "rare": name in rare,
            "labelled": sum(folds), "labelled_share": sum(folds) / labelled if labelled else None,
            "predicted": named, "predicted_share": named / users if users and named is not None else None}

    return [row(name, folds) for name, folds in known.items()]


def reliability(label: str, test: Mapping[str, Any]) -> Any:
    """Share of right predictions over the probability that was said of them; None where nothing was tested."""
    groups = [g for g in test.get("reliability") or [] if isinstance(g, Mapping)]
    x, y = ([group.get(name) for group in groups] for name in ("predicted", "observed"))
    line = Series(label, x, y, "c0", dots=True)
    said, right = (Axis(name, 0.0, 1.0, as_percent) for name in ("probability of the class named", "named rightly"))
    summary = f"Share of users whose {label} was named rightly over the probability said"
    return line_chart(summary, [line], said, right, True)
