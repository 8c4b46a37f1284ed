"""RHGN against PyTorch Geometric's HGTConv on MovieLens 1M: `python -m tests.benchmarks.bench_rhgn`.

Three ratings (liked, so-so, disliked) are three relations, each with its reverse; both models have the same width,
heads and layers, a linear map for each node type in front and a linear classifier behind, cross-entropy on the users,
AdamW. Measured are
- whole: one step, forward and backward over all messages, ours finding its pairs of source and relation anew;
- blocks: one epoch of steps on the same sampled neighbourhoods, sampling not counted; ours finds its pairs, the peer's
  edges are ready;
- inference: all users and items from full neighbourhoods, ours in chunks and with the graph's messages taken apart.
Each in a process of its own with the same number of threads, one after the other: median of the repeats after one to
warm up, and by how much the process grew at its highest. Then one inference on a random graph of 10 million edges, for
its memory.
The last line reads `ratio: <the smallest of the three speed ratios>`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from models.graph import KnowledgeGraph
from models.hyperparameters import RHGNHyperparameters
from models.messages.meta_relations import MetaRelations
from models.messages.passing import Messages
from models.rhgn import RHGN, code_types, infer_rhgn
from tests.benchmarks.stopwatch import memory_mib, timed
from tests.conftest import SHARED_DATA

ROOT = Path(__file__).resolve().parents[2]
PEER = ROOT / ".venv-pyg" / "bin" / "python"
RESULTS = Path(__file__).parent / "results" / "rhgn.json"
WHAT = ("whole", "blocks", "inference")
LARGE = 10_000_000  # edges
N_RELATIONS, CLASSES, INPUTS, REPEATS = 3, 2, 64, 5
SETTINGS = RHGNHyperparameters(width=64, heads=4, layers=2, batch_size=512, fanout=20, dropout=0)  # the peer has none


def read_ml1m(n_users: int) -> tuple[KnowledgeGraph, np.ndarray]:
    """(graph of the first `n_users` users, users before items, and everything they rated; the users' genders)."""
    folder = SHARED_DATA / "ml-1m"
    log = folder / "interactions.tsv.gz"
    users, movies, ratings = np.loadtxt(log, delimiter="\t", skiprows=1, usecols=(0, 1, 2), dtype=np.int64, unpack=True)
    kept = users <= n_users
    users, movies, ratings = users[kept], movies[kept], ratings[kept]
    names, items = np.unique(movies, return_inverse=True)
    relations = np.select([ratings >= 4, ratings == 3], [0, 1], 2)
    lines = (folder / "users.dat").read_text(encoding="latin-1").splitlines()[:n_users]
    genders = np.array([line.split("::")[1] == "F" for line in lines], np.int64)
    n = n_users + names.size
    return KnowledgeGraph(users - 1, relations, n_users + items, n_entities=n, n_relations=N_RELATIONS), genders


def prepare(folder: Path, n_users: int) -> None:
    """Write the graph and one epoch of sampled blocks for both sides."""
    graph, labels = read_ml1m(n_users)
    features = np.random.default_rng(0).normal(size=(graph.n_entities, INPUTS)).astype(np.float32)
    messages = {"offsets": graph.offsets.numpy(), "sources": graph.sources.numpy(), "codes": graph.codes.numpy()}
    np.savez(folder / "graph.npz", features=features, labels=labels, n_relations=N_RELATIONS, **messages)
    sampler, blocks = graph.sampler(SETTINGS.fanout, 0, per_relation=True), {}
    order = np.random.default_rng(1).permutation(n_users)
    batches = np.split(order, range(SETTINGS.batch_size, n_users, SETTINGS.batch_size))
    for b, users in enumerate(batches):
        sources, layers = sampler.sample(torch.from_numpy(np.sort(users)), SETTINGS.layers)
        blocks[f"{b}.nodes"] = sources.numpy()
        for number, layer in enumerate(layers):
            nodes, codes = layer.from_nodes, layer.from_relations.sources
            counts = sampler.counts(sources[: layer.n_destinations])
            parts = {"offsets": nodes.offsets, "sources": nodes.sources, "codes": codes, "counts": counts}
            blocks |= {f"{b}.{number}.{name}": values.numpy() for name, values in parts.items()}
            blocks[f"{b}.{number}.n_sources"] = np.array(nodes.n_sources)
    np.savez(folder / "blocks.npz", n_batches=len(batches), **blocks)
    n_messages = sum(values.size for name, values in blocks.items() if name.endswith("codes"))
    print(
        f"{n_users} users, {graph.n_entities - n_users} items, {2 * graph.n_edges} messages; "
        f"{len(batches)} batches of {n_messages} messages together"
    )


def run_ours(folder: Path, what: str, threads: int, profile: bool) -> None:
    """One measurement in this process; prints what `timed` gives as JSON, or with `profile` where the time went."""
    torch.set_num_threads(threads)
    stored = np.load(folder / "graph.npz")
    labels, features, n = torch.from_numpy(stored["labels"]), stored["features"], len(stored["features"])
    types = (np.arange(n) >= len(labels)).astype(np.int64)
    graph = _graph(stored, n)
    model = RHGN(INPUTS, 2, code_types(graph, types), [CLASSES], SETTINGS)
    optimiser = torch.optim.AdamW(model.parameters())

    def step(layers: list[tuple[Messages, torch.Tensor | None]], nodes: torch.Tensor, expected: torch.Tensor) -> None:
        metas = {id(layer): MetaRelations.of(layer, counts_VC=counts) for layer, counts in layers}
        optimiser.zero_grad()
        of_nodes = (torch.from_numpy(one).index_select(0, nodes) for one in (features, types))
        vectors = model([metas[id(layer)] for layer, _ in layers], *of_nodes)
        model.loss(model.logits(vectors[: len(expected)]), expected[:, None]).backward()
        optimiser.step()

    _compile_kernels()
    if what == "inference":
        parameters = {name: values.detach().numpy() for name, values in model.named_parameters()}
        work = lambda: infer_rhgn(graph, types, features, parameters, SETTINGS)  # noqa: E731
    elif what == "whole":
        whole = [(graph.into(0, n, engine="numba"), None)] * SETTINGS.layers
        work = lambda: step(whole, torch.arange(n), labels)  # noqa: E731
    else:
        batches = _batches(np.load(folder / "blocks.npz"))

        def work() -> None:
            for layers, nodes in batches:
                step(layers, nodes, labels[nodes[: layers[-1][0].n_destinations]])

    if not profile:
        return print(json.dumps(timed(work, REPEATS)))
    work()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        work()
    print(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=10, max_name_column_width=40))


def infer_large(threads: int) -> None:
    """Full inference on a random graph of 10 million edges, in this process;
    prints seconds and the peak of all the process holds."""
    torch.set_num_threads(threads)
    _compile_kernels()
    random, n_users, n = np.random.default_rng(0), 1_000_000, 1_500_000
    users = random.integers(n_users, size=LARGE)
    items = n_users + (random.random(LARGE) ** 2 * (n - n_users)).astype(np.int64)
    graph = KnowledgeGraph(users, random.integers(4, size=LARGE), items, n_entities=n, n_relations=4)
    del users, items
    types = (np.arange(n) >= n_users).astype(np.int64)
    features = random.standard_normal((n, INPUTS), dtype=np.float32)
    model = RHGN(INPUTS, 2, code_types(graph, types), [CLASSES], SETTINGS)
    parameters = {name: values.detach().numpy() for name, values in model.named_parameters()}
    started = time.perf_counter()
    heaviest = {"attention_of": np.arange(n_users), "attention_rows": 3}
    _, table = infer_rhgn(graph, types, features, parameters, SETTINGS, **heaviest)
    print(
        f"{LARGE} edges, {n} nodes: inference {time.perf_counter() - started:.1f} s with the {table.nodes.size} "
        f"heaviest messages of {n_users} users, peak {memory_mib('VmHWM'):.0f} MiB of at most 8192"
    )


def _compile_kernels() -> None:
    """So that neither their seconds nor the compiler's memory count."""
    none = KnowledgeGraph(*[np.zeros(1, np.int64)] * 3, n_entities=1, n_relations=1)
    shapes = ((1, SETTINGS.width), (2, 2 * SETTINGS.width))
    tables = [torch.zeros(shape, requires_grad=True) for shape in shapes]
    MetaRelations.of(none.into(0, 1, engine="numba")).attend(*tables, SETTINGS.heads).sum().backward()


def _graph(stored: np.lib.npyio.NpzFile, n: int) -> KnowledgeGraph:
    """The graph back from its messages."""
    destinations = np.repeat(np.arange(n), np.diff(stored["offsets"]))
    forward = stored["codes"] < N_RELATIONS
    edges = (stored["sources"][forward], stored["codes"][forward], destinations[forward])
    return KnowledgeGraph(*edges, n_entities=n, n_relations=N_RELATIONS)


def _batches(stored: np.lib.npyio.NpzFile) -> list[tuple[list[tuple[Messages, torch.Tensor]], torch.Tensor]]:
    """(layers as messages and what they are a sample of, nodes) of each batch."""
    batches = []
    for b in range(int(stored["n_batches"])):
        layers = []
        for number in range(SETTINGS.layers):
            parts = (torch.from_numpy(stored[f"{b}.{number}.{name}"]) for name in ("offsets", "sources", "codes"))
            messages = Messages.build(*parts, int(stored[f"{b}.{number}.n_sources"]), 2 * N_RELATIONS, "numba")
            layers.append((messages, torch.from_numpy(stored[f"{b}.{number}.counts"])))
        batches.append((layers, torch.from_numpy(stored[f"{b}.nodes"])))
    return batches


def run_apart(who: str, folder: Path, what: str, threads: int, profile: bool = False) -> str:
    """What one side prints of one measurement, in a process of its own."""
    if who == "nocturne":
        command = [sys.executable, "-m", "tests.benchmarks.bench_rhgn", *["--profile"] * profile]
    else:
        options = {name: getattr(SETTINGS, name) for name in ("width", "heads", "layers")}
        options |= {"classes": CLASSES, "repeats": REPEATS}
        command = [str(PEER), str(Path(__file__).with_name("pyg_hgt.py"))]
        command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command += ["--folder", str(folder), "--what", what, "--threads", str(threads)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(
            f"{who}'s run failed:\n{done.stderr[-2000:]}\n`make bench-rhgn` makes .venv-pyg, which hgtconv's runs in"
        )
    return done.stdout


def compare(n_users: int, threads: int) -> None:
    """All measurements, both sides taking turns."""
    ratios, figures = [], {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, n_users)
        for what in WHAT:
            found = {who: json.loads(run_apart(who, folder, what, threads)) for who in ("hgtconv", "nocturne")}
            figures[what] = found
            ratios.append(_print_compared(what, found))
        print(run_apart("nocturne", folder, "whole", threads, profile=True))
    if n_users == 6040:
        print(run_apart("nocturne", Path(), "large", threads), end="")
        RESULTS.parent.mkdir(exist_ok=True)
        kept = {"figures": figures, "threads": threads, "settings": asdict(SETTINGS)}
        RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    print(f"ratio: {min(ratios):.1f}")


def _print_compared(what: str, found: dict[str, dict[str, list[float]]]) -> float:
    """Both sides of one measurement, in words; returns how many times as fast ours is."""
    middle = {who: {part: float(np.median(values)) for part, values in one.items()} for who, one in found.items()}
    for who, one in middle.items():
        seconds = f"{one['seconds']:8.3f} s ({one['processor_seconds']:.3f} of the processor)"
        print(f"{what:10s} {who:9s} {seconds} {one['mib']:7.0f} MiB", flush=True)
    theirs, ours = middle["hgtconv"], middle["nocturne"]
    faster, cheaper = (theirs[part] / ours[part] for part in ("seconds", "processor_seconds"))
    memory = ours["mib"] / theirs["mib"]
    said = f"{faster:.1f} times as fast ({cheaper:.1f} by the processor's seconds), {memory:.2f} of the memory"
    print(f"{'':10s} {said}", flush=True)
    return faster


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    so_many = "so many of the 6,040 users; figures are kept for all of them only"
    parser.add_argument("--users", type=int, default=6040, help=so_many)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--what", choices=(*WHAT, "large"), help=argparse.SUPPRESS)
    parser.add_argument("--profile", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.what == "large":
        infer_large(options.threads)
    elif options.what:
        run_ours(options.folder, options.what, options.threads, options.profile)
    else:
        compare(options.users, options.threads)


if __name__ == "__main__":
    main()
