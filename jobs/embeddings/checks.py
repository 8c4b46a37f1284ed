"""What has to hold before a night's vectors are published."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.view import as_matrix
from jobs.configuration.sections import Publishing
from jobs.program import JobError
from jobs.quality import check, suites


def check_vectors(
    published: pa.Table, users_with_events: int, dimension: int, publishing: Publishing, page: str | None = None
) -> dict[str, Any]:
    """The quality figures for the manifest. JobError, naming every check that fails, when the vectors must not be
    published."""
    matrix = as_matrix(published.column("embedding"))
    own = pc.not_equal(published.column("source"), "carried").to_numpy(zero_copy_only=False)
    n_own = int(own.sum())
    coverage = n_own / users_with_events if users_with_events else 0.0
    lengths = np.linalg.norm(matrix[own], axis=1)
    norm = float(np.median(lengths)) if n_own else 0.0
    unsound = int((~((lengths >= publishing.min_norm) & (lengths <= publishing.max_norm))).sum())
    spread = float(matrix[own].std(axis=0, dtype=np.float64).mean()) if n_own else 0.0
    results = check.check(published, suites.user_embeddings(dimension), page)
    found = [
        f"{r['expectation']} of {r['column']} ({r['unexpected']} of {r['rows']} rows)"
        for r in results
        if not r["success"]
    ]
    if coverage < publishing.min_coverage:
        found.append(
            f"{n_own} of {users_with_events} users with events have a vector; "
            f"publishing.min_coverage is {publishing.min_coverage}"
        )
    if not n_own or unsound > (1 - publishing.min_coverage) * n_own:
        found.append(
            f"{unsound} of {n_own} vectors have collapsed or exploded (median length {norm:.4g}); a vector of sound "
            f"length lies between publishing.min_norm {publishing.min_norm:g} and max_norm {publishing.max_norm:g}, "
            f"and a share of {publishing.min_coverage:g} has to"
        )
    if n_own > 1 and spread < 1e-6 * max(norm, 1e-30):
        found.append(f"all vectors are the same (spread {spread:.3g}): the model has collapsed")
    if found:
        raise JobError(f"Not published; readers keep what they have. {'; '.join(found)}.")
    return {"coverage": coverage, "median_norm": norm, "unsound_norms": unsound, "spread": spread, "checks": results}


def check_entities(rotated: pa.Table, dimension: int, page: str | None = None) -> list[dict[str, Any]]:
    """The checks' results on entity_embeddings, which classifiers take items and relations from. QualityError: not to
    be published."""
    results = check.check(rotated, suites.entity_embeddings(dimension), page)
    check.require(results)
    return results
