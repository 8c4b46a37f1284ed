"""What has to hold before a night's vectors are published: measured on derived columns, never on a sample of ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from feature_store.view import as_matrix
from jobs.config import Publishing
from jobs.program import JobError
from jobs.quality import check, suites


def derived(published: pa.Table, dimension: int) -> pd.DataFrame:
    """One row per vector: user_id, length, finite, norm, n_events, source."""
    matrix = as_matrix(published.column("embedding"))
    finite = np.isfinite(matrix).all(axis=1)
    return pd.DataFrame({
        "user_id": published.column("user_id").to_pandas(), "length": np.full(len(matrix), matrix.shape[1]), "finite": finite,
        "norm": np.where(finite, np.linalg.norm(np.nan_to_num(matrix), axis=1), np.nan), "n_events": published.column("n_events").to_numpy(),
        "source": published.column("source").to_pandas()})


def check_vectors(published: pa.Table, users_with_events: int, dimension: int, publishing: Publishing) -> dict[str, Any]:
    """The quality figures for the manifest. JobError, naming every check that fails, when the vectors must not be published."""
    frame = derived(published, dimension)
    own = frame[frame["source"] != "carried"]
    coverage = len(own) / users_with_events if users_with_events else 0.0
    norm = float(own["norm"].median()) if len(own) else 0.0
    spread = float(np.std(as_matrix(published.column("embedding")), axis=0).mean()) if len(frame) else 0.0
    results = check.check(frame, suites.embeddings(dimension))
    found = [f"{r['expectation']} of {r['column']}" for r in results if not r["success"]]
    if coverage < publishing.min_coverage:
        found.append(f"{len(own)} of {users_with_events} users with events have a vector; publishing.min_coverage is {publishing.min_coverage}")
    if not publishing.min_norm <= norm <= publishing.max_norm:
        found.append(f"the median length of a vector is {norm:.4g}; publishing.min_norm and max_norm are {publishing.min_norm:g}, {publishing.max_norm:g}")
    if len(own) > 1 and spread < 1e-6 * max(norm, 1e-30):
        found.append(f"all vectors are the same (spread {spread:.3g}): the model has collapsed")
    if found:
        raise JobError(f"Not published; readers keep what they have. {'; '.join(found)}.")
    return {"coverage": coverage, "median_norm": norm, "spread": spread, "checks": results}
