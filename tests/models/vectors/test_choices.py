"""Score and popularity as they tell choices: planted weights found, neither trusted without reason."""

from __future__ import annotations

import numpy as np
import pytest

from models.shapes import ShapeError
from models.vectors.choices import LEAST_CHOICES, Weights, learn_weights

P, K = 4_000, 40


def choices(score: float, popularity: float, n: int = P, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Alternatives of which one was chosen as the weights say, put first; all of them open."""
    random = np.random.default_rng(seed)
    scores, counts = 3 * random.normal(size=(n, K)), random.geometric(0.05, (n, K)) - 1
    noise = random.gumbel(size=(n, K))
    first = (score * scores + popularity * np.log1p(counts) + noise).argmax(axis=1)
    rows = np.arange(n)
    for table in (scores, counts):
        table[rows, 0], table[rows, first] = table[rows, first], table[rows, 0].copy()
    return scores, counts, np.ones((n, K), bool)


def test_planted_weights_are_found() -> None:
    found = learn_weights(*choices(0.4, 0.7))
    assert (found.score, found.popularity) == (pytest.approx(0.4, rel=0.05), pytest.approx(0.7, rel=0.05))
    assert found.choices == P


def test_popularity_that_tells_nothing_counts_nothing() -> None:
    kept = [learn_weights(*choices(0.5, 0.0, 500, seed)).popularity for seed in range(40)]
    assert np.mean([weight > 0 for weight in kept]) < 0.15 and max(kept) < 0.15
    against = learn_weights(*choices(0.5, -0.5))
    assert against == Weights(1.0, 0.0, P), "what is bought least is no reason either: the score stands as it is"


def test_a_score_that_tells_nothing_leaves_popular_lists() -> None:
    found = learn_weights(*choices(-0.2, 0.8))
    assert found.score == 0 and found.popularity > 0.5
    nothing = learn_weights(*choices(-0.2, -0.2))
    assert nothing == Weights(1.0, 0.0, P), "where neither tells anything, the lists stay as they are"


def test_what_was_not_open_teaches_nothing() -> None:
    scores, counts, is_open = choices(0.4, 0.7)
    half = np.arange(K) % 2 == 1
    wild = np.where(half, 1e3, scores), np.where(half, 10**9, counts)
    is_open[:, half] = False
    of_open = learn_weights(scores[:, ~half], counts[:, ~half], is_open[:, ~half])
    found = learn_weights(*wild, is_open)
    assert (found.score, found.popularity) == pytest.approx((of_open.score, of_open.popularity), rel=1e-3)


def test_few_choices_teach_nothing() -> None:
    assert learn_weights(*choices(0.4, 0.7, LEAST_CHOICES - 1)) == Weights()
    assert learn_weights(*choices(0.4, 0.7, LEAST_CHOICES)).choices == LEAST_CHOICES


def test_equal_scores_and_equal_counts_are_no_error() -> None:
    scores, counts, is_open = choices(0.4, 0.7)
    assert learn_weights(np.zeros_like(scores), counts, is_open).score == 0
    assert learn_weights(scores, np.ones_like(counts), is_open).popularity == 0
    assert learn_weights(np.zeros_like(scores), np.ones_like(counts), is_open) == Weights(1.0, 0.0, len(scores))


def test_utilities_are_the_scores_where_nothing_was_learned() -> None:
    scores, counts = np.array([[1.5, -2.0]]), np.array([0, 9])
    assert Weights().utilities(scores, counts) is scores
    np.testing.assert_allclose(Weights(2.0, 0.5, 100).utilities(scores, counts), [[3.0, -4 + 0.5 * np.log(10)]])


def test_tables_of_other_shapes_are_refused() -> None:
    scores, counts, is_open = choices(0.4, 0.7)
    with pytest.raises(ShapeError, match="n_users_of has shape"):
        learn_weights(scores, counts[:, 1:], is_open)
