"""RAM-GNN's two networks against PyKEEN's CompGCN and PyTorch Geometric's LightGCN on MovieLens 1M:
`python -m tests.benchmarks.bench_ram_gnn`.

An epoch takes every row (entity, value), or every pair of user and item, once as a positive; both sides have the same
dimension, layers, negatives and updates to an epoch, and the same number of threads.
- pretraining: users and items with their attributes, one update an epoch; the peer has the triples (entity, attribute,
  value) as one graph, all of them in a batch.
- interactions: who rated what, as the family's defaults have it (attributes, matrices, 4 layers); the peer is LightGCN,
  without either, in its faster form: with the edges as they come, or with the normalised adjacency prepared; so many
  of its updates as UPDATES says are measured, and scaled to an epoch.
Each in a process of its own, one after the other: median of the repeats after one to warm up, and by how much the
process grew at its highest. Then ours alone: at 1/16 and 1/4 of the entities or pairs; pretraining with a value that
100,000 entities share; and an epoch of each network, with all defaults, on a log of the size of the KQGC paper's with
four attributes on either side, and of 1/16 and 1/4 of it, for the memory (UPDATES of the interaction network's are
measured, and scaled).
A measurement that results/ram_gnn.json has, by the code as it stands, is not made again; `--large` says up to which
part of the paper's size. The last line reads `ratio: <the smaller of the two speed ratios>`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.ram_gnn_hyperparameters import InteractionHyperparameters, RAMGNNHyperparameters
from models.ram_gnn_interactions import Pretrained
from models.ram_gnn_interactions_training import InteractionTrainer, batches_of
from models.ram_gnn_sampler import AttributeRows
from models.ram_gnn_training import Side
from models.ram_gnn_training import _Trainer as PretrainingTrainer
from tests.benchmarks.bench_scale import slope
from tests.benchmarks.paper_sized_log import counts, heavy_tailed
from tests.benchmarks.stopwatch import memory_mib, timed
from tests.papers.lookalike_cache import code_hash, hash_of
from tests.papers.movielens_1m import read_split

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "models"
RESULTS = Path(__file__).parent / "results" / "ram_gnn.json"
PEERS = {"compgcn": (".venv-pykeen", "pykeen_compgcn.py"), "lightgcn": (".venv-pyg", "pyg_lightgcn.py")}
SHARES, REPEATS, SHARED_BY, LIMIT_MIB = (1 / 16, 1 / 4, 1.0), 2, 100_000, 8192
UPDATES = 2  # of an epoch that takes minutes; all of them are alike
PRETRAINING = RAMGNNHyperparameters(validation_share=0.0)
SHIPPED = InteractionHyperparameters(validation_share=0.0)
INTERACTIONS = dataclasses.replace(SHIPPED, recent=0)  # LightGCN knows no order
Pairs = tuple[np.ndarray, np.ndarray]


def part_of(side: Side, share: float) -> Side:
    """The side with the first of its entities, and all values."""
    n = max(2, round(share * side.rows.n_entities))
    rows = side.rows.among(torch.arange(n))
    return dataclasses.replace(side, rows=rows, entity_keys=side.entity_keys[:n])


def side_of(n: int, value_counts: list[int], seed: int = 0) -> Side:
    """Entities with a random value of each of several types."""
    rng = np.random.default_rng(seed)
    starts = np.cumsum([0, *value_counts])
    values = np.concatenate([a + heavy_tailed(rng, k, n, 0.8) for a, k in zip(starts, value_counts, strict=False)])
    types = np.repeat(np.arange(len(value_counts)), value_counts)
    rows = AttributeRows.of(np.tile(np.arange(n), len(value_counts)), values, types, n, len(value_counts))
    keys = (rng.integers(1 << 63, size=size).astype(np.uint64) for size in (n, len(value_counts), len(types)))
    return Side(rows, *keys, tuple(f"type{t}" for t in range(len(value_counts))))


def pretraining(sides: dict[str, Side]) -> PretrainingTrainer:
    return PretrainingTrainer(sides, PRETRAINING, seed=0)


def interactions(
    sides: dict[str, Side], pairs: Pairs, hyper: InteractionHyperparameters = INTERACTIONS
) -> InteractionTrainer:
    """Every pair at a time of its own, where `hyper` asks for the order."""
    rng, given = np.random.default_rng(0), []
    for kind in ("user", "item"):
        rows, d = sides[kind].rows, PRETRAINING.dimension
        tables = (rng.normal(0, d**-0.5, (n, width)) for n, width in ((rows.n_entities, d), (rows.n_values, d // 2)))
        given.append(Pretrained(*(table.astype(np.float32) for table in tables), rows))
    everybody, times = np.ones(len(given[0].entities), bool), rng.permutation(len(pairs[0]))
    return InteractionTrainer(*given, pairs, everybody, hyper, seed=0, held_out=None, times=times)


def ours(what: str, share: float) -> dict[str, Any]:
    """Seconds an epoch and memory of one measurement, in this process, with the edges that it is of."""
    if what == "large":
        return large(share)
    if what == "shared":
        # two genders, and what fewer share: the first value has more than SHARED_BY members
        sides = {"user": side_of(round(2.5 * SHARED_BY * share), [2, 10, 100, 1000])}
        most = int(torch.bincount(sides["user"].rows.values).max())
        trainer = pretraining(sides)
        return epochs(trainer) | {"edges": sides["user"].rows.n_rows, "most_shared": most}
    split = read_split()
    if what == "pretraining":
        sides = {kind: part_of(side, share) for kind, side in split.sides.items()}
        return epochs(pretraining(sides)) | {"edges": sum(side.rows.n_rows for side in sides.values())}
    kept = np.random.default_rng(1).permutation(len(split.training[0]))[: round(share * len(split.training[0]))]
    pairs = split.training[0][kept], split.training[1][kept]
    return epochs(interactions(split.sides, pairs)) | {"edges": len(kept)}


def epochs(trainer: PretrainingTrainer | InteractionTrainer) -> dict[str, Any]:
    number = iter(range(1, 100))
    return timed(lambda: trainer.epoch(next(number)), REPEATS)


def large(share: float) -> dict[str, Any]:
    """An epoch of each network at a part of the size of bench_scale's log, with four attributes on either side; peaks
    are the process's own, from its start."""
    users, items, purchases = counts(share)
    rng, found = np.random.default_rng(2), {"edges": purchases, "users": users, "items": items}
    sides = {"user": side_of(users, [2, 8, 50, 500]), "item": side_of(items, [20, 300, 5_000, 50_000])}
    for name in ("pretraining", "interactions"):
        scale = 1.0
        if name == "pretraining":
            trainer = pretraining(sides)
        else:
            pairs = heavy_tailed(rng, users, purchases, 0.7), heavy_tailed(rng, items, purchases, 0.8)
            trainer = interactions(sides, pairs, SHIPPED)
            scale = some_updates(trainer)
        started, processor = time.perf_counter(), time.process_time()
        trainer.epoch(0)
        found[name] = scale * (time.perf_counter() - started)
        found[f"{name}_processor"] = scale * (time.process_time() - processor)
        found[f"{name}_peak_mib"] = memory_mib("VmHWM")
        del trainer
    return found


def some_updates(trainer: InteractionTrainer) -> float:
    """Leave UPDATES of an epoch's, each on as many pairs as before; by how much an epoch takes longer."""
    of_epoch = batches_of(trainer.users.numel(), trainer.hyper)
    kept = min(UPDATES, of_epoch)
    n = trainer.users.numel() * kept // of_epoch
    trainer.users, trainer.items, trainer.places = (
        one[:n] for one in (trainer.users, trainer.items, trainer.places))
    trainer.hyper = dataclasses.replace(trainer.hyper, batches=kept, least_batch=1)
    return of_epoch / kept


def prepare(folder: Path) -> None:
    """What the peers read."""
    split = read_split()
    columns, entities, relations = [], 0, 0
    for side in split.sides.values():
        rows = side.rows
        values = entities + rows.n_entities + rows.values
        columns.append(torch.stack([entities + rows.entities, relations + rows.types, values], dim=1).numpy())
        entities, relations = entities + rows.n_entities + rows.n_values, relations + rows.n_types
    triples = np.concatenate(columns)
    np.savez(folder / "triples.npz", triples=triples, n_entities=entities, n_relations=relations)
    sizes = {"n_users": split.n_users, "n_items": split.n_items}
    np.savez(folder / "pairs.npz", users=split.training[0], items=split.training[1], **sizes)
    print(f"{len(triples)} rows of attributes, {len(split.training[0])} pairs", flush=True)


def theirs(folder: Path, who: str, form: str, threads: int) -> list[str]:
    """The command of a peer's run."""
    room, program = PEERS[who]
    hyper: Any = PRETRAINING if who == "compgcn" else INTERACTIONS
    words = {"dimension": PRETRAINING.dimension, "layers": hyper.layers, "negatives": hyper.negatives,
             "threads": threads, "repeats": REPEATS}  # fmt: skip
    if who == "compgcn":
        words |= {"triples": folder / "triples.npz"}
    else:
        words |= {"pairs": folder / "pairs.npz", "batches": hyper.batches, "updates": UPDATES, "decay": hyper.decay,
                  "form": form}  # fmt: skip
    named = [word for name, value in words.items() for word in (f"--{name}", str(value))]
    return [str(ROOT / room / "bin" / "python"), str(Path(__file__).with_name(program)), *named]


def apart(command: list[str], threads: int) -> dict[str, Any]:
    """What a measurement prints, in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        said = f"{' '.join(command)} failed:\n{done.stderr[-2000:]}"
        raise SystemExit(f"{said}\n`make bench-ram-gnn` makes the environments of the peers")
    return json.loads(done.stdout.strip().splitlines()[-1])


def mine(what: str, threads: int, share: float = 1.0) -> dict[str, Any]:
    module = [sys.executable, "-m", "tests.benchmarks.bench_ram_gnn"]
    return apart([*module, "--what", what, "--share", str(share), "--threads", str(threads)], threads)


def median(found: dict[str, Any]) -> float:
    return float(np.median(found["seconds"]))


def say(name: str, found: dict[str, Any]) -> None:
    spent = float(np.median(found["processor_seconds"]))
    seconds = f"{median(found):8.3f} s an epoch ({spent:.3f} of the processor)"
    print(f"{name:28s} {seconds} {found['mib']:7.0f} MiB", flush=True)


class Kept:
    """The measurements so far, in the results' file: each is made once by the code as it stands."""

    def __init__(self, threads: int) -> None:
        settings = {"pretraining": dataclasses.asdict(PRETRAINING), "interactions": dataclasses.asdict(INTERACTIONS)}
        parts = [*sorted(MODELS.glob("ram_gnn*.py")), MODELS / "kernels", MODELS / "learning", MODELS / "messages"]
        self.made_by = hash_of(code_hash(parts), threads, settings)
        before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        self.figures: dict[str, Any] = before.get("figures", {}) if before.get("made_by") == self.made_by else {}
        self.rest = {"threads": threads, "settings": settings, "made_by": self.made_by}

    def of(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Made now, where it is not there."""
        if name not in self.figures:
            self.figures[name] = make()
            RESULTS.write_text(json.dumps({"figures": self.figures} | self.rest, indent=1) + "\n")
        return self.figures[name]


def compare(kept: Kept, threads: int) -> float:
    """Both networks beside their peers, each pair in one go, and the smaller ratio."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        beside = (("pretraining", "compgcn", ("",)), ("interactions", "lightgcn", ("edges", "sparse")))
        ratios = [kept.of(f"{what} beside {who}", lambda w=what, o=who, f=forms: {
            f"{o} {form}".strip(): apart(theirs(folder, o, form, threads), threads) for form in f
        } | {w: mine(w, threads)}) for what, who, forms in beside]  # fmt: skip
    return min(ratio(what, figures) for (what, _, _), figures in zip(beside, ratios, strict=True))


def ratio(what: str, figures: dict[str, Any]) -> float:
    """How much faster ours is than the fastest form of its peer."""
    for name, one in figures.items():
        say(name, one)
    best = min((one for name, one in figures.items() if name != what), key=median)
    faster = median(best) / median(figures[what])
    cheaper = np.median(best["processor_seconds"]) / np.median(figures[what]["processor_seconds"])
    memory = figures[what]["mib"] / best["mib"]
    told = f"{faster:.1f} times as fast ({cheaper:.1f} by the processor), {memory:.2f} of the memory"
    print(f"{what}: {told}", flush=True)
    return faster


def growth(kept: Kept, threads: int) -> None:
    """Exponents of ours in the number of edges."""
    for what in ("pretraining", "interactions", "shared"):
        found = [kept.of(f"{what} at {share:.4g}", lambda w=what, s=share: mine(w, threads, s)) for share in SHARES]
        by_clock, by_processor = (
            slope([(one["edges"], float(np.median(one[key]))) for one in found])
            for key in ("seconds", "processor_seconds"))
        edges = ", ".join(f"{one['edges']} edges {median(one):.3f} s {one['mib']:.0f} MiB" for one in found)
        more = f"; a value has {found[-1]['most_shared']} members" if what == "shared" else ""
        said = f"exponent {by_clock:.2f}, of the processor's seconds {by_processor:.2f}"
        print(f"growth of {what}: {edges}: {said}{more}", flush=True)


def paper_sized(kept: Kept, threads: int, most: float) -> None:
    """The paper's size and parts of it: seconds of an epoch and the process's peak, with their exponents."""
    shares = [share for share in SHARES if share <= most]
    found = [kept.of(f"large at {share:.4g}", lambda s=share: mine("large", threads, s)) for share in shares]
    for one in found:
        peak = max(one["pretraining_peak_mib"], one["interactions_peak_mib"])
        print(f"{one['users']} users, {one['items']} items, {one['edges']} pairs, 4 attributes each, an epoch: "
              f"pretraining {one['pretraining']:.0f} s ({one['pretraining_processor']:.0f} of the processor), "
              f"interactions {one['interactions']:.0f} s ({one['interactions_processor']:.0f}), "
              f"peak {peak:.0f} MiB of at most {LIMIT_MIB}", flush=True)  # fmt: skip
    if len(found) > 1:
        for key in ("pretraining_processor", "interactions_processor", "pretraining_peak_mib", "interactions_peak_mib"):
            print(f"exponent of {key}: {slope([(one['edges'], one[key]) for one in found]):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--large", type=float, default=1.0, help="largest part of the paper's size; 0 for none")
    parser.add_argument("--only-large", action="store_true", help="without the peers and the growth")
    parser.add_argument("--what", choices=("pretraining", "interactions", "shared", "large"), help=argparse.SUPPRESS)
    parser.add_argument("--share", type=float, default=1.0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.what:
        return print(json.dumps(ours(options.what, options.share)))
    kept = Kept(options.threads)
    if options.only_large:
        return paper_sized(kept, options.threads, options.large)
    smaller = compare(kept, options.threads)
    growth(kept, options.threads)
    paper_sized(kept, options.threads, options.large)
    print(f"ratio: {smaller:.1f}")


if __name__ == "__main__":
    main()
