"""Recommenders of `implicit`: ALS and item co-purchase. Runs in a virtual environment of its own and imports nothing of
this project.

Reads an npz: purchases (csr users × items: data, indices, indptr, shape), targets (csr sets × items: which items, and
how much each counts), users (row numbers). Writes an npz with a float32 (sets, users) for each recommender: the sum of
a user's scores of the set's items, by the items' weights.
"""

from __future__ import annotations

import argparse

import numpy as np
from implicit.als import AlternatingLeastSquares
from implicit.nearest_neighbours import CosineRecommender
from scipy import sparse


def read(given: np.lib.npyio.NpzFile, name: str) -> sparse.csr_matrix:
    parts = (given[f"{name}_{part}"] for part in ("data", "indices", "indptr"))
    return sparse.csr_matrix(tuple(parts), shape=tuple(given[f"{name}_shape"]))


def als(purchases: sparse.csr_matrix, targets: sparse.csr_matrix, users: np.ndarray, options) -> np.ndarray:
    """Hu, Koren, Volinsky 2008, with the library's defaults but for the number of factors."""
    model = AlternatingLeastSquares(factors=options.factors, num_threads=options.threads, random_state=options.seed)
    model.fit(purchases, show_progress=False)
    return (targets @ model.item_factors) @ model.user_factors[users].T


def co_purchase(purchases: sparse.csr_matrix, targets: sparse.csr_matrix, users: np.ndarray, options) -> np.ndarray:
    """Items alike by the cosine of who bought them, each item's `neighbours` nearest."""
    model = CosineRecommender(K=options.neighbours, num_threads=options.threads)
    model.fit(purchases, show_progress=False)
    return (targets @ model.similarity.T @ purchases[users].T).toarray()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", required=True)
    parser.add_argument("--output", required=True)
    for name in ("factors", "neighbours", "threads", "seed"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    with np.load(options.input, allow_pickle=False) as given:
        purchases, targets, users = read(given, "purchases"), read(given, "targets"), given["users"]
    found = {peer.__name__: peer(purchases, targets, users, options) for peer in (als, co_purchase)}
    np.savez(options.output, **{name: np.asarray(scores, np.float32) for name, scores in found.items()})


if __name__ == "__main__":
    main()
