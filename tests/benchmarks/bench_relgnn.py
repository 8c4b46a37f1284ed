"""RelGNN against PyTorch Geometric's RGATConv and RGCNConv: `python -m tests.benchmarks.bench_relgnn`.

Steps over whole graphs, forward and backward with AdamW, the nodes' vectors learned as well: GATNE's Amazon graph (two
relations between products) and MovieLens 1M (three ratings, users and films); equal width, heads, layers and bases.
Ours finds its pairs of source and relation anew in each step and has Eq. 6 and 7 beside the layers. Each side runs in a
process of its own with the same number of threads, one after the other: median of the repeats after one to warm up, and
by how much the process grew at its highest.

RGATConv makes a matrix of its own for each message, 16 KiB at width 64. Where they do not fit into --peer-gib together,
it gets a share of the edges, drawn evenly; its seconds and memory grow with their number, which a run with half of the
share shows. Ours is measured on that share as well, so that one comparison is never scaled.

Then what a sampler costs: the step of ASA with a pool of 100 beside that of uniform draws from such a pool, and beside
uniform draws from a pool of one, which has nothing to score; as the nightly job trains, in sampled blocks, over the
whole graph, and of DistMult alone, without a graph.

The last line reads `ratio: <the smaller of the two graphs' speed-ups over RGATConv>`, by the share if that is less.
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
from pathlib import Path

import numpy as np
import torch

from models.graph import KnowledgeGraph
from models.messages.meta_relations import MetaRelations
from models.relgnn import RelGNN
from models.relgnn_attributes import AttributeNetworks
from models.relgnn_hyperparameters import RelGNNHyperparameters
from models.relgnn_training import World, train_relgnn
from models.sampling_hyperparameters import SamplingHyperparameters
from tests.benchmarks.bench_rhgn import read_ml1m
from tests.benchmarks.stopwatch import timed
from tests.papers.gatne import read_split

ROOT = Path(__file__).resolve().parents[2]
PEER = ROOT / ".venv-pyg" / "bin" / "python"
RESULTS = Path(__file__).parent / "results" / "relgnn.json"
GRAPHS = ("gatne-amazon", "ml-1m")
SETTINGS = RelGNNHyperparameters(dimension=64, heads=4, layers=2, bases=4, dropout=0.0)  # the peers have none
REPEATS, SAMPLER_REPEATS, STEPS = 3, 5, 8
SAMPLERS = {
    "uniform from a pool of 1": SamplingHyperparameters("uniform", pool=1),
    "uniform from a pool of 100": SamplingHyperparameters("uniform", pool=100),
    "asa": SamplingHyperparameters("asa", pool=100)}  # fmt: skip
BLOCKS = dataclasses.replace(
    SETTINGS, epochs=2, validation_share=0.0, hides="edge", max_batches_per_epoch=STEPS, patience=0)
WAYS = {"sampled blocks": BLOCKS, "whole graph": dataclasses.replace(BLOCKS, fanout=0),
        "no graph": dataclasses.replace(BLOCKS, layers=0)}  # fmt: skip
# a message's own matrix, forward in both layers, and in the backward pass the gradients of two products with it
PEER_BYTES = 4 * 4 * SETTINGS.dimension**2


def read_graph(name: str) -> KnowledgeGraph:
    """All edges that pass messages."""
    if name == "ml-1m":
        return read_ml1m(6040)[0]
    t = read_split().triples
    return KnowledgeGraph(*t.edges, n_entities=t.n_entities, n_relations=t.n_relations)


def write(graph: KnowledgeGraph, share: float, path: Path) -> None:
    """What all sides read: the nodes, and a share of the edges with the messages that they pass."""
    random, shape = np.random.default_rng(1), (graph.n_entities, SETTINGS.dimension)
    x, wanted = (random.standard_normal(shape, dtype=np.float32) for _ in range(2))
    ends = np.repeat(np.arange(graph.n_entities), np.diff(graph.offsets.numpy()))
    forward = np.flatnonzero(graph.codes.numpy() < graph.n_relations)
    forward = np.sort(random.permutation(forward)[: round(share * graph.n_edges)])
    heads, relations, tails = graph.sources.numpy()[forward], graph.codes.numpy()[forward], ends[forward]
    messages = {
        "sources": np.concatenate([heads, tails]), "destinations": np.concatenate([tails, heads]),
        "codes": np.concatenate([relations, relations + graph.n_relations])}  # fmt: skip
    np.savez(path, heads=heads, relations=relations, tails=tails, n_relations=graph.n_relations, x=x, wanted=wanted,
             n_codes=graph.n_codes, **messages)  # fmt: skip


def run_ours(path: Path, profile: bool) -> None:
    """One measurement in this process; prints what `timed` gives as JSON, or with `profile` where the time went."""
    stored = np.load(path)
    n, n_relations = len(stored["x"]), int(stored["n_relations"])
    edges = (stored[name] for name in ("heads", "relations", "tails"))
    graph = KnowledgeGraph(*edges, n_entities=n, n_relations=n_relations)
    random, nobody = torch.Generator().manual_seed(0), np.zeros(n, np.int64)
    inputs = AttributeNetworks([], nobody, 1, SETTINGS.dimension, SETTINGS.attribute_width, random, stored["x"], True)
    model = RelGNN(inputs, n_relations, SETTINGS, random)
    wanted, everyone = torch.from_numpy(stored["wanted"]), np.arange(n)
    optimiser = torch.optim.AdamW(model.parameters())

    def step(messages: KnowledgeGraph = graph) -> None:
        meta = MetaRelations.of(messages.into(0, n, engine="numba"))
        optimiser.zero_grad()
        (model([meta] * SETTINGS.layers, everyone) * wanted).mean().backward()
        optimiser.step()

    one = [np.zeros(1, np.int64)] * 3
    step(KnowledgeGraph(*one, n_entities=n, n_relations=n_relations))  # the compiler's seconds and memory do not count
    if not profile:
        return print(json.dumps(timed(step, REPEATS)))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        step()
    print(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=10, max_name_column_width=40))


def run_apart(who: str, path: Path, threads: int) -> dict[str, float]:
    """The medians of one measurement, in a process of its own."""
    if who == "nocturne":
        command = [sys.executable, "-m", "tests.benchmarks.bench_relgnn"]
    else:
        command = [str(PEER), str(Path(__file__).with_name("pyg_relational.py")), "--conv", who]
        options = {name: getattr(SETTINGS, name) for name in ("heads", "layers", "bases")} | {"repeats": REPEATS}
        command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command += ["--graph", str(path), "--threads", str(threads)]
    # threads that wait for others sleep: on a machine that others use too, their seconds would count as work
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{who}'s run failed with status {done.returncode}:\n{done.stderr[-2000:]}\n"
                         "`make bench-relgnn` makes .venv-pyg, which the peers' runs in")  # fmt: skip
    return {part: float(np.median(values)) for part, values in json.loads(done.stdout).items()}


def compare(name: str, threads: int, peer_gib: float) -> dict[str, object]:
    """All measurements of one graph; the figures under `share_…` are of a share of its edges, which `share` tells."""
    graph = read_graph(name)
    share = min(1.0, peer_gib * 2**30 / (2 * graph.n_edges * PEER_BYTES))
    figures: dict[str, object] = {"messages": 2 * graph.n_edges, "nodes": graph.n_entities, "share": share}
    figures["threads"] = threads
    plan = {"": (1.0, ["nocturne", "rgcn"]), "half_share_": (share / 2, ["rgat"])}
    plan |= {"share_": (share, ["rgat", "nocturne"])}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.npz"
        for what, (part, sides) in plan.items():
            write(graph, part, path)
            for who in sides:
                figures[what + who] = run_apart(who, path, threads)
                print(f"{name:13s} {part:6.1%} of the edges {who:9s} {said(figures[what + who])}", flush=True)
    found = figures["share_rgat"]
    figures["rgat"] = {part: value / share for part, value in found.items()}
    grown = {part: np.log2(value / figures["half_share_rgat"][part]) for part, value in found.items()}
    figures["exponents"] = {part: float(value) for part, value in grown.items()}
    print(f"{name:13s} RGATConv, scaled to all edges: {said(figures['rgat'])}; "
          f"exponents of growth {grown['seconds']:.2f} and {grown['mib']:.2f}")  # fmt: skip
    for what in ("share_", ""):
        theirs, ours = figures[f"{what}rgat"], figures[f"{what}nocturne"]
        faster, cheaper = (theirs[part] / ours[part] for part in ("seconds", "processor_seconds"))
        figures[f"{what}ratio"], figures[f"{what}memory"] = faster, ours["mib"] / theirs["mib"]
        part = "all edges" if not what else "its share"
        print(f"{name:13s} {part}: {faster:.1f} times as fast as RGATConv ({cheaper:.1f} by the processor's seconds) "
              f"with {figures[f'{what}memory']:.3f} of the memory", flush=True)  # fmt: skip
    return figures


def said(one: dict[str, float]) -> str:
    return f"{one['seconds']:8.3f} s ({one['processor_seconds']:.3f} of the processor) {one['mib']:7.0f} MiB"


def seconds_of_step(world: World, hyper: RelGNNHyperparameters, seed: int) -> float:
    """Of the processor, mean over the second of two epochs."""
    ends: list[float] = []
    nobody = np.zeros(len(world.triples.heads), bool)
    train_relgnn(world, hyper, seed=seed, held_out=nobody, progress=lambda _: ends.append(time.process_time()))
    return (ends[1] - ends[0]) / STEPS


def compare_samplers() -> dict[str, dict[str, float]]:
    """Seconds of a step, of each way to train and each sampler: the lowest of some that take turns."""
    world, found = read_split().world(SETTINGS.dimension, 1), {}
    for way, hyper in WAYS.items():
        spent: dict[str, list[float]] = {name: [] for name in SAMPLERS}
        for repeat in range(SAMPLER_REPEATS):
            for name, sampling in SAMPLERS.items():
                spent[name].append(seconds_of_step(world, dataclasses.replace(hyper, sampling=sampling), repeat))
        found[way] = {name: min(values) for name, values in spent.items()}
        asa = found[way]["asa"]
        parts = (f"{name} {seconds * 1000:.0f} ms ({asa / seconds:.2f})" for name, seconds in found[way].items())
        print(f"a step by the processor, {way}: {', '.join(parts)}; in brackets how many of it ASA takes", flush=True)
    return found


def keep(part: str, figures: object) -> None:
    """As soon as they are there, beside the other parts."""
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(kept | {"settings": dataclasses.asdict(SETTINGS), part: figures}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peer-gib", type=float, default=8.0, help="memory that RGATConv may take")
    parser.add_argument("--what", choices=("all", "graphs", "samplers"), default="all")
    parser.add_argument("--graph", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--profile", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.graph:
        return run_ours(options.graph, options.profile)
    for name in GRAPHS if options.what in ("graphs", "all") else ():
        keep(name, compare(name, options.threads, options.peer_gib))
    if options.what in ("samplers", "all"):
        keep("samplers", compare_samplers())
    found = json.loads(RESULTS.read_text())
    ratios = [found[name][what] for name in GRAPHS for what in ("ratio", "share_ratio") if name in found]
    print(f"ratio: {min(ratios):.1f}")
    return None


if __name__ == "__main__":
    main()
