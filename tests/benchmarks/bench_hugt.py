"""HUGT and our SASRec against RecBole's SASRec on MovieLens 1M: `python -m tests.benchmarks.bench_hugt`.

Equal width, layers, heads, length (200), dropout and loss (all items), the same histories in batches of the same size,
the same threads, each model in a process of its own, one after the other. Training: targets learnt per second.
RecBole's rows are prefixes, padded to the length, of which each learns the event behind it; ours learn every event of
a history at once, so histories per second are told beside. Inference: users per second, from histories to the scores
of all items.
Medians of the repeats after one to warm up; by the processor's seconds beside, for a busy machine.
The last line reads `ratio: <the smaller of training and inference, our SASRec ÷ RecBole's>`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.hugt import states_of
from models.hugt_graph import Histories, HUGs, item_vectors
from models.hugt_hyperparameters import HUGTHyperparameters
from models.hugt_loss import loss_of_all
from models.hugt_training import World
from tests.benchmarks.stopwatch import timed
from tests.papers.hugt_tasks import Task, movielens

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).parent / "results" / "hugt.json"
PEER = ".venv-recbole"
BATCH, UPDATES, REPEATS, LENGTH = 128, 4, 3, 200
COMMON = {"width": 64, "layers": 2, "heads": 4, "dropout": 0.2}
MODELS = {"SASRec": {"sequence_heads": 4}, "HUGT-MP": {"variant": "mp"}, "HUGT-SE": {"variant": "se"}}


def drawn(task: Task) -> Histories:
    """So many histories as are measured, of the users' last LENGTH + 1 events of those for learning."""
    recent = task.training.last(LENGTH + 1)
    users = np.random.default_rng(0).permutation(len(recent.lengths))[: BATCH * UPDATES]
    return recent.pieces(recent.offsets[users], recent.offsets[users + 1])


def ours(model: str) -> dict[str, Any]:
    """What one of our models takes, in this process."""
    task, hyper = movielens(), HUGTHyperparameters(**COMMON, **MODELS[model], batch_size=BATCH)
    histories = drawn(task)
    vectors = item_vectors(task.training, task.n_items, hyper.svd_rank, 0) if hyper.has_graph else None
    net = World(histories, task.n_items, LENGTH, vectors).model(hyper, 0)
    optimiser = torch.optim.AdamW(net.parameters(), lr=0.001)
    starts, ends = histories.offsets[:-1], histories.offsets[1:]
    batches = [slice(first, first + BATCH) for first in range(0, len(starts), BATCH)]

    def train() -> None:
        net.train()
        for rows in batches:
            inputs = histories.pieces(starts[rows], ends[rows] - 1)
            targets = torch.from_numpy(histories.pieces(starts[rows] + 1, ends[rows]).items)
            loss = loss_of_all(net(HUGs.of(inputs, vectors, hyper)), net.items, net.biases, targets)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()

    @torch.no_grad()
    def infer() -> None:
        states = torch.from_numpy(states_of(net, histories, vectors))
        for rows in batches:
            net.scores(states[rows])

    targets = int((histories.lengths - 1).sum())
    return {"training": timed(train, REPEATS), "inference": timed(infer, REPEATS), "targets": targets}


def theirs(folder: Path, threads: int) -> dict[str, Any]:
    """What RecBole's takes: the same histories, without their last event, which is the target."""
    task = movielens()
    histories = drawn(task)
    rows = np.zeros((len(histories.lengths), LENGTH), np.int64)
    for row, (start, end) in enumerate(zip(histories.offsets[:-1], histories.offsets[1:], strict=True)):
        rows[row, : end - start - 1] = histories.items[start : end - 1] + 1
    np.savez(folder / "histories.npz", items=rows, lengths=histories.lengths - 1,
             targets=histories.items[histories.offsets[1:] - 1] + 1)  # fmt: skip
    words = {"histories": folder / "histories.npz", "items": task.n_items, "length": LENGTH, "batch": BATCH,
             "updates": UPDATES, "threads": threads, "repeats": REPEATS, **COMMON}  # fmt: skip
    named = [word for name, value in words.items() for word in (f"--{name}", str(value))]
    program = str(Path(__file__).with_name("recbole_sasrec.py"))
    return apart([str(ROOT / PEER / "bin" / "python"), program, *named], threads) | {"targets": len(rows)}


def apart(command: list[str], threads: int) -> dict[str, Any]:
    """What a measurement prints, in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        said = f"{' '.join(command)} failed:\n{done.stderr[-2000:]}"
        raise SystemExit(f"{said}\n`make bench-hugt` makes the environment of the peer")
    return json.loads(done.stdout.strip().splitlines()[-1])


def rates(found: dict[str, Any], key: str = "seconds") -> dict[str, float]:
    """targets and histories learnt, and users inferred, per second."""
    training, inference = (float(np.median(found[part][key])) for part in ("training", "inference"))
    users = BATCH * UPDATES
    return {"targets": found["targets"] / training, "histories": users / training, "users": users / inference}


def say(name: str, found: dict[str, Any]) -> None:
    by_clock, by_processor = rates(found), rates(found, "processor_seconds")
    said = ", ".join(f"{rate:,.0f} {what}/s ({by_processor[what]:,.0f} by the processor)"
                     for what, rate in by_clock.items())  # fmt: skip
    print(f"{name:18s} {said}, {found['training']['mib']:.0f} MiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", choices=tuple(MODELS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.model:
        return print(json.dumps(ours(options.model)))
    with tempfile.TemporaryDirectory() as folder:
        figures = {"RecBole's SASRec": theirs(Path(folder), options.threads)}
    say("RecBole's SASRec", figures["RecBole's SASRec"])
    for model in MODELS:
        command = [sys.executable, "-m", "tests.benchmarks.bench_hugt", "--model", model]
        figures[model] = apart([*command, "--threads", str(options.threads)], options.threads)
        say(model, figures[model])
    RESULTS.write_text(json.dumps({"figures": figures, "threads": options.threads, **COMMON}, indent=1) + "\n")
    for key, words in (("processor_seconds", "by the processor's seconds"), ("seconds", "by the clock")):
        of = {name: rates(found, key) for name, found in figures.items()}
        base, peer = of["SASRec"], of["RecBole's SASRec"]
        ratios = {what: base[what] / peer[what] for what in base}
        shares = {name: [of[name][what] / base[what] for what in ("targets", "users")] for name in MODELS}
        parts = ", ".join(f"{name} {a:.2f} and {b:.2f}" for name, (a, b) in shares.items() if name != "SASRec")
        print(f"{words}: our SASRec ÷ RecBole's: targets {ratios['targets']:.1f}, histories {ratios['histories']:.2f}, "
              f"users {ratios['users']:.2f}; of our SASRec's training and inference: {parts}")  # fmt: skip
    print(f"ratio: {min(ratios['targets'], ratios['users']):.2f}")


if __name__ == "__main__":
    main()
