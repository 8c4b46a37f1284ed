"""RHGN's own classifiers: what they name of the users that XGBoost is tested on. See heads.py."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.arrays import NONE, raw_of, read_checkpoint
from jobs.program import Input
from models.classifiers.profiling import figures
from models.rhgn_classifiers import class_probabilities

SHOWN = ("n", "accuracy", "accuracy_interval", "macro_f1", "macro_f1_interval", "log_loss")


@dataclass(frozen=True)
class Head:
    """user_id: strings, everybody with a vector in the checkpoint; probabilities: by label float32 (users, classes);
    classes: names by label."""

    user_id: pa.Array
    probabilities: dict[str, np.ndarray]
    classes: dict[str, list[str]]

    @classmethod
    def read(cls, model: str, date: datetime.date, checkpoints: Input, entity_ids: Input) -> Head | None:
        """Of the checkpoint of `date`, on its own unrotated vectors; None where there is no checkpoint."""
        table = checkpoints.table(model)
        if table.manifest(date.isoformat()) is None:
            return None
        found = read_checkpoint(table, date.isoformat())
        rows = np.flatnonzero((found.entity_type == found.types.index("user")) & (found.source != NONE))
        classes = json.loads(found.fact("classes"))
        raw = raw_of(entity_ids.segments("user"), found.entity_id[rows], "user")
        probabilities = class_probabilities(found.parameters("rhgn"), found.entities[rows])
        return cls(raw.cast(pa.string()).combine_chunks(), dict(zip(classes, probabilities, strict=True)), classes)

    def figures(
        self, label: str, user_ids: list[str], labels: np.ndarray, classes: list[str], seed: int
    ) -> dict[str, Any] | None:
        """Some of `profiling.figures` for users who test; labels int64, codes into `classes`, which need not be the
        head's: classes meet by name.

        Users without a vector in the checkpoint (their published one is carried) are left out: `n` says how many are
        not. The log loss is None where users are of a class that the head does not know. None where the head did not
        learn the label, or has none of the users.
        """
        at = pc.index_in(pa.array(user_ids, pa.string()), value_set=self.user_id)
        there = at.is_valid().to_numpy(zero_copy_only=False)
        if label not in self.classes or not there.any():
            return None
        everything = sorted({*classes, *self.classes[label]}, key=str.encode)
        truth = np.array([everything.index(name) for name in classes])[labels[there]]
        probabilities = np.zeros((len(truth), len(everything)), np.float32)
        known = [everything.index(name) for name in self.classes[label]]
        probabilities[:, known] = self.probabilities[label][at.drop_null().to_numpy()]
        found = figures(truth, probabilities, 0, seed)
        shown = {name: found[name] for name in SHOWN} | {"classes": self.classes[label]}
        return shown if np.isin(truth, known).all() else shown | {"log_loss": None}
