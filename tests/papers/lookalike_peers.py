"""What a user would take instead of a classifier: popularity, ALS, item co-purchase. Each ranks users for a target, a
weight per item: the client's own items, or items of their kind.

Shapes: u eligible users, n items, t targets.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from scipy import sparse

from jobs.audiences.set_columns import Past
from models.kernels import set_history as kernel

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venv-implicit" / "bin" / "python"
SCRIPT = HERE / "item_peers.py"
FACTORS, NEIGHBOURS, THREADS = 64, 100, 2
KIN = 50  # items of a client's kind, at least: as many as the client has
PEERS = ("recency", "count", "als", "co_purchase")


def popularity(past: Past, target: np.ndarray) -> dict[str, np.ndarray]:
    """float64 (u,): recency, days since the last purchase of the target's items, the fewer the better; count, days with
    a purchase. Ties, and users without one, by the same of all items. target bool (n,)."""
    mine = past.history(past.purchase, past.eligible, target)
    large = past.at_large[past.purchase]
    far = float(past.window_days + 1)
    last, last_at_large = (np.nan_to_num(found[:, kernel.LAST].astype(np.float64), nan=far) for found in (mine, large))
    days, days_at_large = (found[:, kernel.DAYS].astype(np.float64) for found in (mine, large))
    return {"recency": -last - last_at_large / (2 * far), "count": days + days_at_large / (2 * far)}


def alike(kin: np.ndarray, of_set: np.ndarray) -> np.ndarray:
    """bool (n,): the items outside the set that are most of its kind; kin float32 (n,), as ItemSets.kin gives it."""
    outside = np.where(of_set, 0, kin)
    most = max(KIN, int(of_set.sum()))
    chosen = np.zeros(len(kin), bool)
    chosen[np.argsort(-outside, kind="stable")[:most]] = True
    return chosen & (outside > 0)


def recommenders(past: Past, targets: np.ndarray, seed: int, python: Path = PYTHON) -> dict[str, np.ndarray]:
    """float32 (t, u) by peer; targets bool (t, n). From the purchases before the day, by `implicit` in a process of its
    own."""
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "in.npz", Path(folder) / "out.npz"
        parts = {"purchases": past.bought, "targets": sparse.csr_array(targets.astype(np.float32))}
        arrays = {
            f"{name}_{field}": np.asarray(getattr(matrix, field))
            for name, matrix in parts.items() for field in ("data", "indices", "indptr", "shape")}  # fmt: skip
        np.savez(given, users=past.eligible, **arrays)
        options = {
            "input": given, "output": out, "factors": FACTORS, "neighbours": NEIGHBOURS, "threads": THREADS,
            "seed": seed}
        command = [str(python), str(SCRIPT), *(w for name, value in options.items() for w in (f"--{name}", str(value)))]
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": str(THREADS)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(
                f"The peers of implicit failed:\n{done.stderr[-2000:]}\n"
                "Is .venv-implicit complete? `make paper-lookalike` makes it.")
        with np.load(out, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}


def peers(past: Past, targets: np.ndarray, seed: int, python: Path = PYTHON) -> dict[str, np.ndarray]:
    """float (t, u) by name in PEERS."""
    by_history = [popularity(past, target) for target in targets]
    stacked = {name: np.stack([found[name] for found in by_history]) for name in ("recency", "count")}
    return stacked | recommenders(past, targets, seed, python)
