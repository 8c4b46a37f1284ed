"""Classifiers of labels that a model brought along, to be held beside XGBoost: they predict nothing that is handed out.

A family's record may name a module with a class `Head`:

    Head.read(model, date, checkpoints, entity_ids) -> Head | None      None where the model has no checkpoint of `date`
    Head.figures(label, user_ids, labels, classes, seed) -> dict | None

`figures` is of users who test: some of `profiling.figures` and the `classes` that the head learned; labels are int64
codes into `classes`. None where it did not learn the label, or has none of the users.
"""

from __future__ import annotations

import datetime
import importlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from jobs.program import Input
from models import families


class Head(Protocol):
    """What a family's module offers."""

    def figures(
        self, label: str, user_ids: list[str], labels: np.ndarray, classes: list[str], seed: int
    ) -> dict[str, Any] | None: ...


def read_heads(
    models: Sequence[str], date: datetime.date, checkpoints: Input, entity_ids: Input
) -> dict[str, Head]:
    """By model, of those whose family has one and that have a checkpoint of `date`."""
    heads = {}
    for model in models:
        module = families.family_of(model).head
        if module:
            heads[model] = importlib.import_module(module).Head.read(model, date, checkpoints, entity_ids)
    return {model: head for model, head in heads.items() if head}


def figures_of(
    heads: dict[str, Head], label: str, user_ids: list[str], labels: np.ndarray, classes: list[str], seed: int
) -> list[dict[str, Any]]:
    """What the heads that learned the label name of these users, each with its model and the family's title."""
    found = {model: head.figures(label, user_ids, labels, classes, seed) for model, head in heads.items()}
    titles = {model: families.family_of(model).title for model in found}
    return [{"model": model, "title": titles[model]} | figures for model, figures in found.items() if figures]
