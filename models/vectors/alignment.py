"""One space, night after night: the orthogonal R between tonight's vectors and the predecessor's published ones.

See DESIGN section 6.2.
Rows are vectors, so R acts from the right: `current @ R ≈ previous`. R may be a reflection (det R = −1): it keeps every
L2 distance and every cosine just as a rotation does, and forbidding it would leave a mirrored training without a fit.
There is no shift and no scale, since those would change distances to relations and from the origin. L1 is not kept:
native scores need R undone.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from models.shapes import ShapeError

MAX_FITTED_ROWS = 200_000  # d² numbers are fitted: more rows than this add time and nothing else
MAX_RESIDUAL = 0.8
_ITERATIONS = 30
_QUERIES, _CANDIDATES = 500, 20_000  # whose neighbours are compared, among whom
_CELLS = 10_000_000  # distances held at a time
_TUKEY = 4.685  # Tukey's biweight: 95 % efficient where residuals are normal
_MAD_TO_SIGMA = 1.4826


@dataclasses.dataclass(frozen=True)
class Alignment:
    """R, and how far to trust it.

    rotation: float64 (d, d), orthogonal; None when there was too little to fit it on.
    residual: root mean square of |current R − previous| over the inliers ÷ that of |previous − its mean|: 0 is the same
    cloud up to a rotation, about 1.4 an unrelated one (less where n is not far above d). neighbour_overlap: share of a
    user's 10 nearest common users that are still among them, mean over a sample: rotation-free, so it speaks of the
    vectors and not of R.
    reason: why `ok` is false, in words for the operator; empty otherwise.
    """

    rotation: np.ndarray | None
    residual: float
    neighbour_overlap: float
    n_common: int
    n_inliers: int
    ok: bool
    reason: str

    @property
    def fittable(self) -> bool:
        """False with fewer than 2·d common users: the predecessor's R is to be used."""
        return self.rotation is not None


def fit_rotation(
    current: np.ndarray,
    previous: np.ndarray,
    *,
    seed: int = 0,
    min_overlap: float = 0.1,
) -> Alignment:
    """Orthogonal Procrustes, robust to the few that moved far.

    Rows of `current` and `previous` (n, d) are the same users in order.
    Reweighted least squares, first with the weights of least absolute distances (from which a minority cannot pull it
    away), then with Tukey's biweight, which ignores those that moved far altogether. Above 200,000 rows a seeded sample
    is fitted. `ok` needs a residual of at most 0.8 and an overlap of at least `min_overlap` (for few users:
    at least 3 times that of chance, up to 0.5).
    Raises ShapeError for shapes that differ or values that are not finite.
    """
    if current.ndim != 2 or current.shape != previous.shape:
        found = f"current has shape {current.shape}, previous {previous.shape}"
        raise ShapeError(f"{found}; expected one common shape (users, dimension)")
    if not (np.isfinite(current).all() and np.isfinite(previous).all()):
        found = "current or previous holds a value that is not finite"
        raise ShapeError(f"{found}; expected finite vectors: check the training")
    n_common, dimension = current.shape
    if n_common < 2 * dimension:
        reason = f"{n_common} users are trained in both; fitting needs at least {2 * dimension} (twice the dimension)"
        return Alignment(None, float("nan"), float("nan"), n_common, 0, False, reason)
    chosen = _sample(n_common, MAX_FITTED_ROWS, np.random.default_rng([seed, 0]))
    source, target = current[chosen].astype(np.float64), previous[chosen].astype(np.float64)
    rotation, weights = _robust_procrustes(source, target)
    inliers = weights > 0
    distances = np.linalg.norm(source[inliers] @ rotation - target[inliers], axis=1)
    spread = np.linalg.norm(target - target.mean(axis=0), axis=1)
    residual = _root_mean_square(distances) / max(_root_mean_square(spread), np.finfo(np.float64).tiny)
    overlap = neighbour_overlap(current, previous, seed=seed)
    n_inliers = round(n_common * float(inliers.mean()))
    least = max(min_overlap, min(0.5, 3 * 10 / (n_common - 1)))
    reason = "; ".join(
        text
        for broken, text in (
            (residual > MAX_RESIDUAL, f"residual {residual:.3f} is above {MAX_RESIDUAL:g}"),
            (overlap < least, f"neighbour overlap {overlap:.3f} is below {least:.3g}"),
        )
        if broken
    )
    return Alignment(rotation, residual, overlap, n_common, n_inliers, not reason, reason)


def _robust_procrustes(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(R (d, d), weights (n,)), weight 0 for rows that moved far."""
    scale = max(float(np.median(np.linalg.norm(target, axis=1))), np.finfo(np.float64).tiny)
    weights = np.ones(len(source))
    rotation = _procrustes(source, target, weights)
    for iteration in range(_ITERATIONS):
        distances = np.linalg.norm(source @ rotation - target, axis=1)
        if iteration < _ITERATIONS // 2:
            weights = 1 / np.maximum(distances, 1e-3 * scale)
        else:
            # a distance in many dimensions is never near 0 but near its median: far is far above that, not above 0
            middle = float(np.median(distances))
            sigma = _MAD_TO_SIGMA * float(np.median(np.abs(distances - middle)))
            limit = middle + _TUKEY * sigma + 1e-9 * scale  # the last term: rows that all fit exactly
            weights = np.maximum(1 - (distances / limit) ** 2, 0) ** 2
        former, rotation = rotation, _procrustes(source, target, weights)
        if iteration >= _ITERATIONS // 2 and np.abs(rotation - former).max() < 1e-12:
            break
    return rotation, weights


def _procrustes(source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The orthogonal R that minimises Σ w |source R − target|² (Schönemann 1966): U Vᵀ of sourceᵀ W target."""
    left, _, right = np.linalg.svd(source.T @ (weights[:, None] * target))
    return left @ right


def rotate(vectors: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """float32 (n, d): vectors in the published space."""
    return (vectors @ rotation.astype(vectors.dtype)).astype(np.float32, copy=False)


def neighbour_overlap(
    first: np.ndarray,
    second: np.ndarray,
    *,
    k: int = 10,
    seed: int = 0,
) -> float:
    """Mean share of the k nearest rows (L2) in `first` that are among the k nearest in `second`.

    Over a seeded sample of rows. With fewer than k + 1 rows, k is the number of others; NaN with a single row.
    """
    random = np.random.default_rng([seed, 1])
    candidates = _sample(len(first), _CANDIDATES, random)
    queries = _sample(candidates.size, _QUERIES, random)
    k = min(k, candidates.size - 1)
    if k < 1:
        return float("nan")
    nearest = [nearest_rows(vectors[candidates], queries, k) for vectors in (first, second)]
    shares = [np.isin(mine, theirs, assume_unique=True).mean() for mine, theirs in zip(*nearest, strict=True)]
    return float(np.mean(shares))


def nearest_rows(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """int (queries, k): the k nearest other rows of each query row."""
    # exact differences far from the origin
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    squares, nearest = (centred**2).sum(axis=1), np.empty((queries.size, k), np.int64)
    step = max(1, _CELLS // len(centred))
    for first in range(0, queries.size, step):
        some = queries[first : first + step]
        # |x − y|² less |y|², equal for a whole row
        distances = squares - 2 * centred[some] @ centred.T
        distances[np.arange(some.size), some] = np.inf
        nearest[first : first + step] = np.argpartition(distances, k - 1, axis=1)[:, :k]
    return nearest


@dataclasses.dataclass(frozen=True)
class Drift:
    """How far users have moved between two dates of one space: cosine distances 1 − cos.

    0 not at all, 1 unrelated, 2 opposite.
    """

    median: float
    percentile_95: float
    n_users: int


def drift(previous: np.ndarray, current: np.ndarray) -> Drift:
    """Drift of the same users (n, d) in both, in the published (rotated) space.

    A vector of length 0 counts as distance 1. Measured between D − L and D directly: small nightly errors add
    up, and no night's residual shows the sum.
    """
    if current.ndim != 2 or current.shape != previous.shape:
        found = f"previous has shape {previous.shape}, current {current.shape}"
        raise ShapeError(f"{found}; expected one common shape (users, dimension)")
    if not len(current):
        return Drift(float("nan"), float("nan"), 0)
    products = np.einsum("nd,nd->n", previous, current, dtype=np.float64)
    lengths = np.linalg.norm(previous, axis=1).astype(np.float64) * np.linalg.norm(current, axis=1)
    distances = 1 - products / np.where(lengths > 0, lengths, 1)
    return Drift(float(np.median(distances)), float(np.percentile(distances, 95)), len(current))


def _sample(n: int, at_most: int, random: np.random.Generator) -> np.ndarray:
    """int64, ascending: `at_most` of n positions, all of them where there are no more."""
    return np.arange(n) if n <= at_most else np.sort(random.choice(n, at_most, replace=False))


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2))) if values.size else float("nan")
