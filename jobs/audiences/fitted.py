"""A night's classifiers as they are kept in `lookalike_models`: an index in JSON, and XGBoost's own bytes beside it.

An entry of the index is one client's model by one feature set: its margin is the weighted sum of its parts, a part's
margin the mean of its boosters. The pooled boosters are parts of every client's entry and kept once.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from feature_store import Commit
from jobs.audiences.features import Vocabulary
from jobs.configuration.feature_names import BASELINES, BLEND, POOLED
from jobs.program import Input, JobError
from models.classifiers.forest import Forest
from models.classifiers.lookalike import Calibration, from_bytes, margins_of, to_bytes

if TYPE_CHECKING:
    from xgboost import Booster

OWN = "own"
OF_SETS = (POOLED, OWN, BLEND)  # feature sets whose columns are those of set_columns.py
Files = tuple[str, ...]  # of a part's boosters


@dataclass(frozen=True)
class Part:
    weight: float
    boosters: list[Booster]


@dataclass(frozen=True)
class Fitted:
    """One client's model by one feature set, and its figures on validation."""

    client: str
    feature_set: str
    columns: list[str]
    parts: list[Part]
    calibration: Calibration
    figures: dict[str, Any]
    curves: dict[str, Any]


def mean_margin(boosters: list[Booster], features: np.ndarray, threads: int) -> np.ndarray:
    """float32 (n,)."""
    return np.mean([margins_of(booster, features, threads) for booster in boosters], axis=0, dtype=np.float32)


def write(models: Iterable[Fitted], commit: Commit) -> list[dict[str, Any]]:
    """Puts the models' bytes, each booster once; the entries of the index."""
    files: dict[int, str] = {}

    def file_of(booster: Booster, hint: str) -> str:
        if id(booster) not in files:
            files[id(booster)] = commit.write_bytes(".ubj", to_bytes(booster), hint=hint[:64])
        return files[id(booster)]

    return [
        {"client": one.client, "feature_set": one.feature_set, "columns": one.columns,
         "calibration": dataclasses.asdict(one.calibration), "figures": one.figures,
         "parts": [{"weight": part.weight, "files": [file_of(b, one.client) for b in part.boosters]}
                   for part in one.parts]}
        for one in models]  # fmt: skip


def to_json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, sort_keys=True).encode()


def repeatable(index: dict[str, Any]) -> dict[str, Any]:
    """What two equal runs share of an index: all but the unique names of files and the seconds that fitting took."""

    def of(model: dict[str, Any]) -> dict[str, Any]:
        figures = {name: figure for name, figure in model["figures"].items() if name != "seconds"}
        parts = [{"weight": part["weight"], "boosters": len(part["files"])} for part in model["parts"]]
        return model | {"figures": figures, "parts": parts}

    return index | {"models": [of(model) for model in index["models"]]}


@dataclass(frozen=True)
class Trained:
    """The models of a date that score: the index, and the bytes of each file."""

    index: dict[str, Any]
    models: list[dict[str, Any]]  # of the chosen feature set, of those beside it and of the baselines
    content: dict[str, bytes]
    _forests: dict[Files, Forest] = field(default_factory=dict, repr=False, compare=False)

    def is_chosen(self, model: dict[str, Any]) -> bool:
        """Whether it is what scores its client."""
        return model["feature_set"] == self.index.get("chosen_of", {}).get(model["client"], self.index["chosen"])

    @property
    def vocabulary(self) -> Vocabulary | None:
        """None where no baseline was fitted."""
        found = self.index["vocabulary"]
        return None if found is None else Vocabulary(**found)

    def boosters(self, models: Iterable[dict[str, Any]]) -> dict[Files, list[Booster]]:
        """Of all parts of these models, by their files."""
        wanted = dict.fromkeys(tuple(part["files"]) for model in models for part in model["parts"])
        return {files: [from_bytes(self.content[file]) for file in files] for files in wanted}

    def forests(self, models: Iterable[dict[str, Any]]) -> dict[Files, Forest]:
        """As `boosters`, for the margins of many users; the pooled ones, which all clients share, are read once."""
        wanted = dict.fromkeys(tuple(part["files"]) for model in models for part in model["parts"])
        for files in wanted:
            if files not in self._forests:
                self._forests[files] = Forest.of([from_bytes(self.content[file]) for file in files])
        return {files: self._forests[files] for files in wanted}

    def margin(self, model: dict[str, Any], of_parts: Mapping[Files, np.ndarray]) -> np.ndarray:
        """float32 (n,): the weighted sum of the parts' margins."""
        terms = [np.float32(part["weight"]) * of_parts[tuple(part["files"])] for part in model["parts"]]
        return np.sum(terms, axis=0, dtype=np.float32)

    def calibration(self, model: dict[str, Any]) -> Calibration:
        return Calibration(**model["calibration"])


def require_same_attributes(then: list[str] | None, excluded: list[str], dt: str) -> None:
    """JobError where models by sets learned with other attributes: no name of their columns tells that. then: what the
    index says was excluded; None where it does not."""
    if then is not None and set(then) != set(excluded):
        raise JobError(
            f"The models of {dt} were learned with lookalike.exclude_attributes {sorted(then)}; found "
            f"{sorted(excluded)} now. Run train_lookalike again.")


def read_models(lookalike_models: Input, dt: str) -> Trained | None:
    """None when nothing was trained for the date."""
    table = lookalike_models.table()
    if table.manifest(dt) is None:
        return None
    content = table.blobs(dt)
    (index,) = (json.loads(blob) for name, blob in content.items() if name.endswith(".json"))
    wanted = {*BASELINES, *OF_SETS, index["chosen"]}
    scoring = sorted(
        (m for m in index["models"] if m["feature_set"] in wanted), key=lambda m: (m["client"], m["feature_set"]))
    return Trained(index, scoring, content)
