"""Vectors of attributes' values from their text: FastText (Bojanowski et al. 2017) on what values items have together.

gensim is imported here alone. A vector is a direction in a space of the training's own: two trainings agree up to a
rotation, so a night goes on from the former one's by `continued`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.linalg import orthogonal_procrustes

from models.learning.initialisation import unit_rows
from models.vectors.alignment import rotate

MOST_CHARACTERS = 1024  # of a value that are read; no id of the ledgers is longer
TRAINED_WORDS = 1_000_000  # about as many words are gone through, in 2 to 50 epochs: ten seconds to half a minute
BUCKETS = 50_000  # of character n-grams, a vector each; gensim's two million would take half a gigabyte
WINDOW = 10  # words; an item's values have no order that means much
_TOKEN, _BIN = re.compile(r"[^\W_]+"), re.compile(r"bin_\d+_of_\d+")
_NOTHING = 1e-5  # a vector so short is the rounding of zero


def words_of(value: str) -> list[str]:
    """The words of a value in small letters: runs of letters.

    None of a run that has a digit in it, nor of the name of a bin: those are codes.
    """
    if _BIN.fullmatch(value):
        return []
    text = unicodedata.normalize("NFKC", value[:MOST_CHARACTERS]).casefold()
    return [token for token in _TOKEN.findall(text) if not any(map(str.isdecimal, token))]


def has_words(value: str) -> bool:
    """Whether one of its words has three letters or more, or letters beyond ASCII.

    Chinese words are short, while US, XL and f are codes.
    """
    return any(len(word) > 2 or not word.isascii() for word in words_of(value))


def are_words(values: Sequence[str]) -> bool:
    """Whether the values of one entity type count as text: at least half of them have words."""
    return 2 * sum(map(has_words, values)) >= max(len(values), 1)


def text_vectors(values: Sequence[str], sentences: Iterable[Sequence[str]], dimension: int, seed: int) -> np.ndarray:
    """float32 (n, dimension), of length 1; NaN where a value has no words, or nothing sets it apart from all others.

    NaN everywhere without a sentence.
    sentences: the words of each item's values, by `words_of`; gone through several times. A value is the mean of its
    words' directions, less the mean of all values, which all lie close to. Words that no sentence has are made of their
    n-grams. Skip-gram, in one thread: equal arguments give equal bits.
    """
    from gensim.models import FastText  # half a second that jobs without content save

    found = np.full((len(values), dimension), np.nan, np.float32)
    plain = {"sg": 1, "window": WINDOW, "min_count": 1, "sample": 0, "bucket": BUCKETS}
    model = FastText(vector_size=dimension, seed=seed, workers=1, **plain)
    model.build_vocab(sentences)
    if not model.corpus_total_words:
        return found
    epochs = int(np.clip(TRAINED_WORDS // model.corpus_total_words, 2, 50))
    model.train(sentences, total_examples=model.corpus_count, epochs=epochs)
    words = [words_of(value) for value in values]
    wanted = [word for of_value in words for word in of_value]
    rows = np.repeat(np.arange(len(values)), [len(of_value) for of_value in words])
    if not wanted:
        return found
    unique, which = np.unique(wanted, return_inverse=True)
    directions = unit_rows(np.stack([model.wv[word] for word in unique.tolist()]))
    sums = np.zeros((len(values), dimension))
    np.add.at(sums, rows, directions[which])
    some = np.unique(rows)
    means = sums[some] / np.bincount(rows)[some, None]
    means -= means.mean(axis=0)
    found[some] = np.where(np.linalg.norm(means, axis=1, keepdims=True) > _NOTHING, unit_rows(means), np.nan)
    return found


def continued(vectors: np.ndarray, former: np.ndarray) -> np.ndarray:
    """Tonight's vectors in the former night's space, both (n, d) with NaN where there is none.

    What was known stays as it was, bit for bit, and the rest is rotated by the orthogonal map between the values that
    both have (where those span less than the space, by any such map).
    """
    known, new = np.isfinite(former).all(axis=1), np.isfinite(vectors).all(axis=1)
    both = known & new
    if not both.any():
        return np.where(known[:, None], former, vectors)
    rotation, _ = orthogonal_procrustes(vectors[both].astype(np.float64), former[both].astype(np.float64))
    return np.where(known[:, None], former, rotate(vectors, rotation))
