"""Vectors of texts: what counts as words, what lies near what, equal bits in any process, going on from a night."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.vectors.content import MOST_CHARACTERS, are_words, continued, has_words, text_vectors, words_of

NIGHT = ["aurora lights", "northern sky", "polar night", "winter stars"]
GARDEN = ["garden rose", "spring tulip", "summer daisy", "flower bed"]
DIMENSION = 16


def sentences(n: int = 200, seed: int = 0) -> list[list[str]]:
    """Items with two values each, both of the night or both of the garden."""
    random = np.random.default_rng(seed)
    values = [random.choice(GARDEN if item % 2 else NIGHT, 2, replace=False) for item in range(n)]
    return [[word for value in of_item for word in words_of(value)] for of_item in values]


def bits() -> str:
    """A hash of some vectors, for another process to compare."""
    return hashlib.sha256(text_vectors(NIGHT + GARDEN, sentences(), DIMENSION, seed=3).tobytes()).hexdigest()


def test_values_that_items_have_together_or_that_share_letters_lie_near_each_other() -> None:
    found = text_vectors([*NIGHT, *GARDEN, "polar nights", "roses"], sentences(), DIMENSION, seed=3)
    assert found.dtype == np.float32 and np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)
    cosines = found @ found.T
    assert cosines[:4, :4].min() > 0.5 and cosines[4:8, 4:8].min() > 0.5 and cosines[:4, 4:8].max() < -0.3
    assert cosines[8, 2] > 0.9 and cosines[8, :4].min() > 0.5 > cosines[8, 4:8].max(), "never seen, made of its letters"
    assert cosines[9, 4:8].min() > 0.5 > cosines[9, :4].max()


def test_two_processes_with_other_hash_seeds_give_equal_bits() -> None:
    command = [sys.executable, "-c", "from tests.models.vectors.test_content import bits; print(bits())"]
    options = {"cwd": Path(__file__).parents[3], "capture_output": True, "text": True, "check": True}
    here = bits()
    for seed in ("1", "2"):
        found = subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": seed}, **options)
        assert found.stdout.strip() == here


def test_another_seed_is_another_training() -> None:
    first, second = (text_vectors(NIGHT + GARDEN, sentences(), DIMENSION, seed) for seed in (3, 4))
    assert np.abs(first - second).max() > 0.1


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("Robert De Niro", ["robert", "de", "niro"]),
        ("soft_drinks", ["soft", "drinks"]),
        ("Café Cafe\u0301", ["café", "café"]),
        ("ＦＵＬＬ width", ["full", "width"]),
        ("二手 车", ["二手", "车"]),
        ("SKU-0012 B00ABC1", ["sku"]),
        ("bin_03_of_10", []),
        ("1999", []),
        ("", []),
        ("\u202e<!>", []),
        ("१२", []),
    ],
)
def test_the_words_of_a_value(value: str, words: list[str]) -> None:
    assert words_of(value) == words


def test_codes_are_no_words() -> None:
    assert not any(map(has_words, ["bin_03_of_10", "bin_10_of_12", "50002833", "b00abc1", "US", "f", "", " ", "A-17"]))
    assert all(map(has_words, ["Film-Noir", "喜剧", "né", "west of here", "year 2000"]))
    assert are_words(["aurora", "b1"]) and not are_words(["aurora", "b1", "b2"]) and not are_words([])


def test_values_without_words_and_values_that_nothing_sets_apart_have_none() -> None:
    found = text_vectors(["garden rose", "1999", "", "polar night", "\u202e"], sentences(), DIMENSION, seed=3)
    assert np.isfinite(found).all(axis=1).tolist() == [True, False, False, True, False]
    assert np.isnan(text_vectors(["Rose", "rose "], sentences(), DIMENSION, seed=3)).all()
    for no_words in ([], [[], []]):
        assert np.isnan(text_vectors(NIGHT, no_words, DIMENSION, seed=3)).all()
    assert np.isnan(text_vectors(["1999"], sentences(), DIMENSION, seed=3)).all()
    assert text_vectors([], sentences(), DIMENSION, seed=3).shape == (0, DIMENSION)


def test_a_very_long_value_is_read_from_its_beginning() -> None:
    long = "polar " * (MOST_CHARACTERS // 6) + "z" * 5_000_000
    assert len(words_of(long)) == MOST_CHARACTERS // 6 + 1 and len(words_of("ü" * 5_000_000)[0]) == MOST_CHARACTERS
    found = text_vectors([*NIGHT, *GARDEN, "ü" * 5_000_000], [*sentences(), words_of(long) * 200], DIMENSION, seed=3)
    assert np.isfinite(found).all()


def turned(vectors: np.ndarray, seed: int = 0) -> np.ndarray:
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(vectors.shape[1], vectors.shape[1])))[0]
    return (vectors @ rotation).astype(np.float32)


def test_what_was_known_stays_bit_for_bit_and_the_new_is_rotated_to_it() -> None:
    vectors = np.random.default_rng(1).normal(size=(40, 8)).astype(np.float32)
    former = turned(vectors)
    former[:5] = np.nan  # new tonight
    tonight = vectors.copy()
    tonight[35:] = np.nan  # known, and nothing tonight
    found = continued(tonight, former)
    np.testing.assert_array_equal(found[5:], former[5:])
    np.testing.assert_allclose(found[:5], turned(vectors)[:5], atol=1e-5)


def test_with_fewer_known_values_than_dimensions_the_new_keep_their_angles() -> None:
    vectors = np.random.default_rng(1).normal(size=(9, 8)).astype(np.float32)
    former = turned(vectors)
    former[3:] = np.nan
    found = continued(vectors, former)
    np.testing.assert_allclose(found @ found.T, vectors @ vectors.T, atol=1e-4)


def test_with_nothing_in_common_both_stay_as_they_are() -> None:
    vectors, former = np.full((4, 8), np.nan, np.float32), np.full((4, 8), np.nan, np.float32)
    vectors[0], former[1] = 1, 2
    found = continued(vectors, former)
    assert (found[0] == 1).all() and (found[1] == 2).all() and np.isnan(found[2:]).all()
