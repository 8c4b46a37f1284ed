"""What `make paper-lookalike` has computed, kept in files, so that a run that broke off goes on where it was.

A file is named by a hash of what it hangs on: the shop's settings, the day, the seed, the row, and the code that makes
it. Arrays alone, no pickle.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
# What scores hang on: a change of any of these files computes them anew.
CODE = ("jobs/audiences", "models/classifiers", "models/kernels", "models/vectors", "models/hyperparameters.py")
SEPARATOR = "\t"  # between a row's name and the client's in the names of arrays
Arrays = dict[str, np.ndarray]


def code_hash(paths: Iterable[Path]) -> str:
    """Of the contents of the files, and of all below the folders."""
    found = hashlib.sha256()
    for path in paths:
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            found.update(file.read_bytes() + b"\0")
    return found.hexdigest()


def code_of(*modules: str) -> str:
    """Of what all scores hang on, and of these modules of tests/papers."""
    return code_hash([*(PROJECT / part for part in CODE), *(HERE / f"{name}.py" for name in modules)])


def hash_of(*parts: object) -> str:
    """Of how the parts are written."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def is_cached(folder: Path, key: object) -> bool:
    """Whether something was computed under the key before."""
    return (folder / f"{hash_of(key)}.npz").exists()


def cached(folder: Path, key: object, compute: Callable[[], Arrays]) -> Arrays:
    """What was computed under the key before, else computed now."""
    file = folder / f"{hash_of(key)}.npz"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".part.npz")
        np.savez(unfinished, **compute())
        unfinished.rename(file)
    with np.load(file, allow_pickle=False) as found:
        return {name: found[name] for name in found.files}
