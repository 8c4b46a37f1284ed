"""Classifiers of a family that the tests alone have: whoever has an even number in his id is of the first class."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs.program import Input


@dataclass(frozen=True)
class Head:
    model: str

    @classmethod
    def read(cls, model: str, date: datetime.date, checkpoints: Input, entity_ids: Input) -> Head | None:
        return cls(model) if checkpoints.table(model).manifest(date.isoformat()) else None

    def figures(
        self, label: str, user_ids: list[str], labels: np.ndarray, classes: list[str], seed: int
    ) -> dict[str, Any] | None:
        """Of the label `gender` alone."""
        if label != "gender":
            return None
        named = np.array([int(user[-1:].isdigit() and int(user[-1]) % 2) for user in user_ids])
        return {"n": len(user_ids), "accuracy": float((named == labels).mean()), "classes": classes}
