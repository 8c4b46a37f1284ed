"""Alignment: a planted rotation is found, an unrelated cloud is flagged, and what R keeps and does not keep."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from models.shapes import ShapeError
from models.vectors.alignment import drift, fit_rotation, nearest_rows, neighbour_overlap, rotate

D = 16


def random_rotation(rng: np.random.Generator, determinant: int = 1) -> np.ndarray:
    rotation, _ = np.linalg.qr(rng.normal(size=(D, D)))
    if np.sign(np.linalg.det(rotation)) != determinant:
        rotation[:, 0] *= -1
    return rotation


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize("determinant", [1, -1])
def test_finds_a_planted_rotation_and_a_planted_reflection(rng: np.random.Generator, determinant: int) -> None:
    current, planted = unit(rng.normal(size=(400, D))), random_rotation(rng, determinant)
    found = fit_rotation(current, current.astype(np.float64) @ planted)
    np.testing.assert_allclose(found.rotation, planted, atol=1e-9)
    assert found.ok and found.residual < 1e-9 and found.neighbour_overlap == 1.0 and found.n_inliers == 400


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_is_not_pulled_by_users_that_moved_far(rng: np.random.Generator, share: float) -> None:
    current, planted = unit(rng.normal(size=(600, D))), random_rotation(rng)
    previous = current @ planted + 0.01 * rng.normal(size=current.shape)
    moved = rng.permutation(600)[: int(share * 600)]
    # all of them to one place, tens of times as far out as anybody: what pulls least squares hardest
    previous[moved] = 30 * unit(rng.normal(size=(1, D)))
    least_squares_left, _, least_squares_right = np.linalg.svd(current.T @ previous)
    found = fit_rotation(current, previous)
    assert np.abs(least_squares_left @ least_squares_right - planted).max() > 0.1
    np.testing.assert_allclose(found.rotation, planted, atol=0.01)
    assert found.n_inliers <= 600 - moved.size


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_who_moved_far_does_not_count_where_all_moved_a_little(rng: np.random.Generator, share: float) -> None:
    """Every night moves everybody some; unit vectors cannot move farther than 2, which is not many times as far."""
    current, planted = unit(rng.normal(size=(2000, 4 * D))), np.linalg.qr(rng.normal(size=(4 * D, 4 * D)))[0]
    previous = current @ planted + 0.3 / np.sqrt(4 * D) * rng.normal(size=current.shape)
    moved = rng.permutation(2000)[: int(share * 2000)]
    previous[moved] = unit(rng.normal(size=(moved.size, 4 * D)))
    found = fit_rotation(current, previous)
    assert found.n_inliers == pytest.approx(2000 - moved.size, abs=20)
    assert found.residual == pytest.approx(0.3, rel=0.1)


@pytest.mark.parametrize("seed", range(5))
def test_nearly_half_of_the_users_that_moved_alike_do_not_win(seed: int) -> None:
    """The first half of the fit has to be robust already.

    42 % of the users agree on another rotation, and are longer there: equal weights find a rotation between the two,
    from which nobody is much farther off than the others, so that the second half has nobody to leave out.
    """
    rng = np.random.default_rng(seed)
    current, planted, another = unit(rng.normal(size=(2000, D))), random_rotation(rng), random_rotation(rng)
    previous = current @ planted
    moved = rng.permutation(2000)[:840]
    previous[moved] = 2.5 * current[moved] @ another
    found = fit_rotation(current, previous + 0.1 / np.sqrt(D) * rng.normal(size=current.shape))
    np.testing.assert_allclose(found.rotation, planted, atol=0.01)
    assert found.n_inliers <= 2000 - moved.size


def test_rotation_is_orthogonal_to_float64_precision(rng: np.random.Generator) -> None:
    current = unit(rng.normal(size=(300, D)))
    rotation = fit_rotation(current, current @ random_rotation(rng) + 0.2 * rng.normal(size=current.shape)).rotation
    assert rotation.dtype == np.float64
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(D), atol=1e-14)


def test_noise_raises_the_residual_as_much_as_it_is(rng: np.random.Generator) -> None:
    current = unit(rng.normal(size=(4000, D)))
    noise = 0.1 / np.sqrt(D) * rng.normal(size=current.shape)  # 0.1 long beside vectors of 1
    previous = current @ random_rotation(rng) + noise
    assert fit_rotation(current, previous).residual == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize("n", [2 * D, 300, 3000])
def test_unrelated_clouds_are_flagged(rng: np.random.Generator, n: int) -> None:
    found = fit_rotation(unit(rng.normal(size=(n, D))), unit(rng.normal(size=(n, D))))
    assert found.fittable and not found.ok
    assert "overlap" in found.reason


def test_unrelated_clouds_with_one_far_common_mean_are_flagged(rng: np.random.Generator) -> None:
    mean = 50 * unit(rng.normal(size=(1, D)))  # a bias alone must not look like agreement
    found = fit_rotation(mean + unit(rng.normal(size=(800, D))), mean + unit(rng.normal(size=(800, D))))
    assert not found.ok and "residual" in found.reason and "overlap" in found.reason


def test_too_few_common_users_leave_the_fit_to_the_predecessor(rng: np.random.Generator) -> None:
    current = unit(rng.normal(size=(2 * D, D)))
    assert fit_rotation(current, current).ok
    found = fit_rotation(current[1:], current[1:])
    assert not found.fittable and not found.ok and found.rotation is None
    assert str(2 * D - 1) in found.reason and str(2 * D) in found.reason


def test_rotation_keeps_l2_and_cosine_but_not_l1_and_its_transpose_restores_l1(rng: np.random.Generator) -> None:
    native, rotation = unit(rng.normal(size=(50, D))), random_rotation(rng)
    published = rotate(native, rotation)
    assert published.dtype == np.float32

    def distances(vectors: np.ndarray, order: int) -> np.ndarray:
        return np.linalg.norm(vectors[:, None].astype(np.float64) - vectors[None], ord=order, axis=2)

    np.testing.assert_allclose(distances(published, 2), distances(native, 2), atol=1e-6)
    np.testing.assert_allclose(published @ published.T, native @ native.T, atol=1e-6)
    assert np.abs(distances(published, 1) - distances(native, 1)).max() > 0.1
    np.testing.assert_allclose(distances(rotate(published, rotation.T), 1), distances(native, 1), atol=1e-5)


def test_same_seed_same_alignment_above_the_sample_sizes(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.vectors.alignment.MAX_FITTED_ROWS", 100)
    current = unit(rng.normal(size=(700, D)))
    previous = current @ random_rotation(rng) + 0.1 * rng.normal(size=current.shape)
    first, again, other = (fit_rotation(current, previous, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.rotation, again.rotation)
    assert first.neighbour_overlap == again.neighbour_overlap
    assert not np.array_equal(first.rotation, other.rotation)


def test_neighbour_overlap_counts_by_hand() -> None:
    first = np.array([[0.0], [1.0], [2.5], [10.0]])
    second = np.array([[0.0], [9.0], [2.5], [10.0]])
    # nearest of each row: first 1, 0, 1, 2; second 2, 3, 0, 1
    assert neighbour_overlap(first, second, k=1) == 0.0
    # two nearest, first: {1,2} {0,2} {1,0} {2,1}; second: {2,1} {3,2} {0,1} {1,2}
    assert neighbour_overlap(first, second, k=2) == pytest.approx((2 + 1 + 2 + 2) / 8)
    assert np.isnan(neighbour_overlap(first[:1], second[:1]))


def test_nearest_rows_of_all_rows_take_no_table_of_all_pairs(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, everybody = rng.normal(size=(700, 3)), np.arange(700)
    at_once = nearest_rows(vectors, everybody, 5)
    monkeypatch.setattr("models.vectors.alignment._CELLS", 70_000)
    tracemalloc.start()
    in_parts = nearest_rows(vectors, everybody, 5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [set(row) for row in in_parts.tolist()] == [set(row) for row in at_once.tolist()]
    assert peak < 700 * 700 * 8, "of all pairs one number each"


def test_drift_is_the_cosine_distance() -> None:
    previous = np.array([[1.0, 0.0]] * 20)
    # 18 only longer, one at a right angle, one opposite
    current = np.array([[2.0, 0.0]] * 18 + [[0.0, 1.0], [-1.0, 0.0]])
    measured = drift(previous, current)
    assert measured.median == pytest.approx(0.0)
    assert measured.percentile_95 == pytest.approx(np.percentile([0.0] * 18 + [1.0, 2.0], 95))
    assert drift(previous[:1], np.zeros((1, 2))).median == 1.0
    assert drift(previous[:0], current[:0]).n_users == 0


@pytest.mark.parametrize("broken", [np.zeros((40, D + 1)), np.full((40, D), np.nan)])
def test_wrong_input_is_refused(broken: np.ndarray) -> None:
    with pytest.raises(ShapeError):
        fit_rotation(np.zeros((40, D)), broken)
