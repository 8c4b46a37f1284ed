"""Whom two groups of users listen to, after the RHGN paper's figure 3: a heat map of relations and item categories for each, and each relation's whole say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from jobs.report.night import Night

Row = dict[str, Any]
FEW_MESSAGES = 20  # fewer say little: shown faint, and they do not set the colours' scale
LEAST_SCALE = math.log2(1.25)  # of the strongest colour, so that noise about 1 does not look like a finding


def attention(night: Night) -> list[Row]:
    """One card per label that RHGN learned."""
    return [_card(one) for one in night["finetune_rhgn"].table("attention") if one.get("groups") and one.get("relations")]


def _card(one: Row) -> Row:
    relations, groups = one["relations"], one["groups"]
    to_items = [relation for relation in relations if relation["groups"][0].get("cells")]
    strongest = scale(figure for relation in relations for group in relation["groups"] for figure in (group, *group.get("cells", [])))
    others = any(group["cells"][-1]["messages"] for relation in to_items for group in relation["groups"])
    names = [*one["categories"], *([None] if others else [])]
    maps = [
        {**group, "rows": [{"name": name, "cells": [cell(r["groups"][g]["cells"][i], strongest) for r in to_items]} for i, name in enumerate(names)],
         "all": [cell(r["groups"][g], strongest) for r in to_items]}
        for g, group in enumerate(groups)]  # fmt: skip
    widest = max(group["share"] for relation in relations for group in relation["groups"])
    overall = [
        {**relation, "groups": [{**cell(figure, strongest), "name": group["name"], "bar": figure["share"] / widest if widest else 0}
                                for group, figure in zip(groups, relation["groups"], strict=True)]}
        for relation in relations]  # fmt: skip
    return {"label": one["label"], "attribute": one["attribute"], "groups": groups, "to_items": to_items, "maps": maps if to_items else [], "overall": overall}


def scale(figures: Iterable[Mapping[str, Any]]) -> float:
    """The |log2 lift| that has the strongest colour: the largest that is not of a few messages."""
    return max([LEAST_SCALE, *(abs(math.log2(f["lift"])) for f in figures if f["lift"] and f["messages"] >= FEW_MESSAGES)])


def cell(figure: Mapping[str, Any], strongest: float) -> Row:
    """A figure with its colour: warm above an equal say, cold below."""
    lift = figure["lift"] or 0
    strength = min(abs(math.log2(lift)) / strongest, 1) if lift else 0
    few = figure["messages"] < FEW_MESSAGES
    return {"share": figure["share"], "lift": figure["lift"], "messages": figure["messages"], "few": few, "tone": "c1" if lift > 1 else "c0",
            "strength": strength / 3 if few else strength}  # fmt: skip
