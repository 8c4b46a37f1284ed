"""RHGN's section of the page: whom two groups of users listen to, after the RHGN paper's figure 3. A heat map of
relations and item categories for each, and each relation's whole say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from jobs.report.night import Night

ANCHOR, NAME, TEMPLATE = "attention", "Attention", "rhgn_attention.html.jinja"
FEW_MESSAGES = 20  # fewer say little: shown faint, and they do not set the colours' scale
LEAST_SCALE = math.log2(1.25)  # of the strongest colour, so that noise about 1 does not look like a finding

Row = dict[str, Any]


def shown(night: Night) -> Row:
    """What the template reads: one card per label that RHGN learned."""
    stage = night["finetune_rhgn"]
    pictures = [one for one in stage.table("attention") if one.get("groups") and one.get("relations")]
    return {"stage": stage, "cards": [_card(one) for one in pictures], "few_messages": FEW_MESSAGES}


def _card(one: Row) -> Row:
    relations, groups = one["relations"], one["groups"]
    to_items = [relation for relation in relations if relation["groups"][0].get("cells")]
    said = [group for relation in relations for group in relation["groups"]]
    strongest = scale(figure for group in said for figure in (group, *group.get("cells", [])))
    maps = [_map(g, group, one["categories"], to_items, strongest) for g, group in enumerate(groups)]
    widest = max(group["share"] for group in said)
    return {
        "label": one["label"], "attribute": one["attribute"], "groups": groups, "to_items": to_items,
        "maps": maps if to_items else [], "overall": [_whole_say(r, groups, strongest, widest) for r in relations]}


def _map(g: int, group: Row, categories: list[str], to_items: list[Row], strongest: float) -> Row:
    """The heat map of the group number g: a row per category, a column per relation to items."""
    others = any(other["cells"][-1]["messages"] for relation in to_items for other in relation["groups"])
    mine = [relation["groups"][g] for relation in to_items]
    rows = [
        {"name": name, "cells": [cell(figures["cells"][i], strongest) for figures in mine]}
        for i, name in enumerate([*categories, *([None] if others else [])])]  # fmt: skip
    return {**group, "rows": rows, "all": [cell(figures, strongest) for figures in mine]}


def _whole_say(relation: Row, groups: list[Row], strongest: float, widest: float) -> Row:
    """A relation's share of each group's attention, with a bar for it."""
    said = [
        {**cell(figure, strongest), "name": group["name"], "bar": figure["share"] / widest if widest else 0}
        for group, figure in zip(groups, relation["groups"], strict=True)]
    return {**relation, "groups": said}


def scale(figures: Iterable[Mapping[str, Any]]) -> float:
    """The |log2 lift| that has the strongest colour: the largest that is not of a few messages."""
    telling = (figure["lift"] for figure in figures if figure["lift"] and figure["messages"] >= FEW_MESSAGES)
    return max([LEAST_SCALE, *(abs(math.log2(lift)) for lift in telling)])


def cell(figure: Mapping[str, Any], strongest: float) -> Row:
    """A figure with its colour: warm above an equal say, cold below."""
    lift = figure["lift"] or 0
    strength = min(abs(math.log2(lift)) / strongest, 1) if lift else 0
    few = figure["messages"] < FEW_MESSAGES
    return {
        "share": figure["share"], "lift": figure["lift"], "messages": figure["messages"], "few": few,
        "tone": "c1" if lift > 1 else "c0", "strength": strength / 3 if few else strength}
