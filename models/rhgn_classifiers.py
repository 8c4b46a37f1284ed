"""RHGN's classifiers alone: what they say of vectors that are there already. No torch: it takes seconds to load."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def class_probabilities(parameters: Mapping[str, np.ndarray], vectors: np.ndarray) -> list[np.ndarray]:
    """Z of Eq. 4 for each label: float32 (rows, classes), from vectors (rows, width) that `infer_rhgn` gave."""
    found = []
    for j in range(len(classes_of(parameters))):
        logits = vectors @ parameters[f"classifiers.{j}.weight"].T + parameters[f"classifiers.{j}.bias"]
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        found.append(exponentials / exponentials.sum(axis=1, keepdims=True))
    return found


def classes_of(parameters: Mapping[str, np.ndarray]) -> list[int]:
    """How many classes each label has."""
    biases = [name for name in parameters if name.startswith("classifiers.") and name.endswith(".bias")]
    return [len(parameters[name]) for name in sorted(biases, key=lambda name: int(name.split(".")[1]))]
