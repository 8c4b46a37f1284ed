"""Who of the users with a vector has a label, in which fold, of which class."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.configuration.profiles import Profiles
from jobs.profiles.labels import Known
from models.classifiers.folds import folds

MOST_RARE_CLASSES = 10  # that the report names


@dataclass(frozen=True)
class Labelled:
    """Users with a vector and a label: their rows among those, their fold, their class as a code into `names` (sorted
    by bytes), users by class and fold."""

    rows: np.ndarray
    ids: list[str]
    fold: np.ndarray
    code: np.ndarray
    names: list[str]

    @classmethod
    def among(cls, user_id: pa.Array, known: Known, label: str, profiles: Profiles) -> Labelled:
        at = pc.index_in(user_id, value_set=known.user_id)
        rows = np.flatnonzero(at.is_valid().to_numpy(zero_copy_only=False))
        ids = user_id.take(pa.array(rows)).to_pylist()
        encoded = known.classes.take(at.drop_null()).dictionary_encode()
        order = pc.sort_indices(encoded.dictionary).to_numpy()
        code = np.argsort(order)[encoded.indices.to_numpy(zero_copy_only=False)]
        fold = folds(profiles.salt, ids, profiles.folds.a, profiles.folds.c)
        return cls(rows, ids, fold, code, encoded.dictionary.take(pa.array(order)).to_pylist())

    @functools.cached_property
    def counts(self) -> np.ndarray:
        """(classes, 3): users of each class in A, B and C."""
        return np.bincount(self.code * 3 + self.fold, minlength=3 * len(self.names)).reshape(-1, 3)

    def facts(self, kept: np.ndarray) -> dict[str, Any]:
        """Who is labelled, by class and fold; of classes too rare to be learned the commonest alone."""
        rare = sorted(np.flatnonzero(~kept), key=lambda k: -self.counts[k].sum())
        shown = [*np.flatnonzero(kept), *rare[:MOST_RARE_CLASSES]]
        return {
            "labelled": len(self.rows), "balance": {self.names[k]: self.counts[k].tolist() for k in shown},
            "rare": [self.names[k] for k in rare[:MOST_RARE_CLASSES]], "rare_classes": len(rare),
            "rare_users": int(self.counts[rare].sum())}
