"""Users' vectors of `implicit`'s ALS. Runs in a virtual environment of its own and imports nothing of this project.

Reads an npz: events (csr users × items: data, indices, indptr, shape). Writes an npz with a float32 (users, factors)
by number of the setting: bm25 (0: the counts as they are), regularisation and alpha, as --setting tells them.
"""

from __future__ import annotations

import argparse

import numpy as np
from implicit.als import AlternatingLeastSquares
from implicit.nearest_neighbours import bm25_weight
from scipy import sparse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--setting", nargs=3, type=float, action="append", required=True)
    for name in ("factors", "threads", "seed"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options, found = parser.parse_args(), {}
    with np.load(options.input, allow_pickle=False) as given:
        parts = tuple(given[f"events_{part}"] for part in ("data", "indices", "indptr"))
        events = sparse.csr_matrix(parts, shape=tuple(given["events_shape"]))
    for number, (bm25, regularization, alpha) in enumerate(options.setting):
        weighted = bm25_weight(events, K1=100, B=0.8).tocsr() if bm25 else events
        model = AlternatingLeastSquares(
            factors=options.factors, regularization=regularization, alpha=alpha, num_threads=options.threads,
            random_state=options.seed)
        model.fit(weighted, show_progress=False)
        found[str(number)] = np.asarray(model.user_factors, np.float32)
    np.savez(options.output, **found)


if __name__ == "__main__":
    main()
