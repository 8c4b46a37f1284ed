"""What a client's classifier is worth on the users of the 4, on whom nothing learned: figures, curves, calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.audiences.evaluation import curve_figures, precision_figures
from jobs.audiences.fitted import Fitted, Part
from jobs.audiences.population import Sample, uniform
from jobs.configuration.sections import Lookalike
from models.classifiers.lookalike import Calibration, calibrate


@dataclass(frozen=True)
class Validated:
    """Margins of all eligible users (n,), and which of them count: the sample's validation."""

    client: str
    feature_set: str
    raw: pa.Array
    sample: Sample
    margins: np.ndarray

    def fitted(
        self, columns: list[str], parts: list[Part], calibration: Calibration, probabilities: np.ndarray,
        more: dict[str, Any], look: Lookalike, seed: int,
    ) -> Fitted:  # fmt: skip
        """The model with its figures. probabilities (n,): for the calibration curve."""
        rows = np.flatnonzero(self.sample.validation)
        labels, margins = self.sample.labels[rows], self.margins[rows]
        at_ratio = self.sample.validation_sampled[rows]
        name = {"client": self.client, "feature_set": self.feature_set}
        counts = {"positives": self.sample.positives, "validation_positives": int(labels.sum())}
        figures = precision_figures(labels, margins, at_ratio, look.bootstrap_draws, seed)
        return Fitted(
            **name, columns=columns, parts=parts, calibration=calibration, figures=name | figures | counts | more,
            curves=name | curve_figures(labels, margins, probabilities[rows]))

    def calibrated(self, seed: int) -> tuple[Calibration, np.ndarray]:
        """(Calibration on validation; probabilities (n,) of its users, each half of them by the other half's)."""
        rows = np.flatnonzero(self.sample.validation)
        half = uniform(seed, "calibration half", self.client, self.raw.take(pa.array(rows))) < 0.5
        out = np.full(len(self.margins), np.nan, np.float32)
        for side in (rows[half], rows[~half]):
            other = np.setdiff1d(rows, side)
            out[side] = calibrate(self.margins[other], self.sample.labels[other])(self.margins[side])
        return calibrate(self.margins[rows], self.sample.labels[rows]), out
