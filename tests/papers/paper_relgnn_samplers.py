"""Table 3 and figures 2 and 3 of the RelGNN paper:
`python -m tests.papers.paper_relgnn_samplers [--seeds 3] [--minutes 30] [--workers 2]`.

The paper's company graph is not to be had; this is the Alibaba e-commerce sample: ten days of who clicked, favoured,
carted and bought what, and the items' categories, brands and prices. A fifth of the pairs of user and item are hidden
with all their edges, so that it can be told which negatives are none: half of them choose the epoch, half are ranked,
heads and tails, among all entities of the type, the other true edges left out. What is hidden is the same for all
seeds, which draw first vectors, batches and negatives; what differs between runs of a seed is the sampler alone. Beside
the paper's figures stand how many of the negatives of the last epoch were hidden edges, and how far below its edge's a
negative's probability was. Then μ, with a pool of 100; then the entropy of a node's attention, mean over nodes of two
messages or more, and what it would be if all weighed the same, for one head and uniform draws as in the paper. Runs go
seed by seed, and one that results/paper_relgnn_samplers.json has for these settings is not made again.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from jobs.events.readers.alibaba_ecomm import read
from models.learning.epochs import load_parameters
from models.learning.initialisation import keyed_vectors
from models.messages.meta_relations import MetaRelations
from models.relgnn import RelGNN, vectors_of
from models.relgnn_attributes import Attribute
from models.relgnn_candidates import Candidates, Ends, Validation
from models.relgnn_hyperparameters import RelGNNHyperparameters
from models.relgnn_training import Triples, World, train_relgnn
from models.sampling_hyperparameters import SamplingHyperparameters
from tests.conftest import SHARED_DATA

RESULTS = Path(__file__).parent / "results" / "paper_relgnn_samplers.json"
BEHAVIORS = ("click", "favorite", "cart", "purchase")
HIDDEN, SEED = 0.2, 1  # HIDDEN: share of the pairs
LOOKED_AT, RANKED = 1_000, 3_000  # edges of them that choose the epoch, and that are ranked
COMMON = RelGNNHyperparameters(
    hides="pair", fanout=10, batch_size=8_192, learning_rate=0.01, epochs=16, evaluate_every=2, patience=0,
    min_gain=0.0, validation_share=0.0, weight_decay=0.1, dropout=0.3)  # fmt: skip
POOLS, MARGINS = (10, 100, 500), (0.0, 0.05, 0.1, 0.15, 0.25, 0.4)
Mask = np.ndarray


def settings() -> dict[str, RelGNNHyperparameters]:
    """Of each run by its name."""
    with_sampler = functools.partial(dataclasses.replace, COMMON)
    found = {"Random": with_sampler(sampling=SamplingHyperparameters("uniform", pool=100))}
    for kind, title in (("nscaching", "NSCaching"), ("asa", "ASA")):
        found |= {f"{title}{n}": with_sampler(sampling=SamplingHyperparameters(kind, pool=n)) for n in POOLS}
    margins = (m for m in MARGINS if m != COMMON.sampling.margin)
    found |= {f"ASA100 μ={m}": with_sampler(sampling=SamplingHyperparameters("asa", margin=m)) for m in margins}
    return found | {"one head": dataclasses.replace(found["Random"], heads=1)}


def read_world(seed: int, folder: Path = SHARED_DATA / "alibaba-ecomm") -> tuple[World, Mask, Mask]:
    """(the graph, the edges that choose the epoch, those that are ranked); SourceError where the data is not there.

    Users, then items; every node has a vector of its own that is learned, and items have attributes.
    """
    imported = read(folder)
    events = imported.events.select(["user_id", "item_id", "behavior"]).to_pandas().drop_duplicates()
    events = events.sort_values(["user_id", "item_id", "behavior"])
    (users, heads), (items, tails) = (np.unique(events[c].astype(str), return_inverse=True)
                                      for c in ("user_id", "item_id"))  # fmt: skip
    n_users, n_items = len(users), len(items)
    relations = events["behavior"].map(BEHAVIORS.index).to_numpy(np.int64)
    n = n_users + n_items
    kinds = (np.arange(n) >= n_users).astype(np.int64)
    keys = np.arange(n, dtype=np.uint64), np.arange(len(BEHAVIORS), dtype=np.uint64)
    ends = np.zeros(len(BEHAVIORS), np.int64), np.ones(len(BEHAVIORS), np.int64)
    triples = Triples(heads, relations, n_users + tails, kinds, *ends, *keys)
    catalogue = imported.items.to_pandas().assign(item_id=lambda t: t["item_id"].astype(str))
    catalogue = catalogue.set_index("item_id").reindex(items)
    own = keyed_vectors(keys[0], COMMON.dimension, seed, (3 / COMMON.dimension) ** 0.5)
    pairs, pair = np.unique(heads * n_items + tails, return_inverse=True)
    part = np.random.default_rng(SEED).permutation(len(pairs))[pair] / len(pairs)
    return World(triples, attributes_of(catalogue, n_users), own, True), part < HIDDEN / 2, (part >= HIDDEN / 2) & (
        part < HIDDEN)  # fmt: skip


def attributes_of(catalogue: pd.DataFrame, first: int) -> list[Attribute]:
    """The items' categories, brands and prices; the first item is node `first`."""
    nodes, found = first + np.arange(len(catalogue)), []
    for name in ("category", "brand"):
        codes, values = pd.factorize(catalogue[name], sort=True)
        found.append(Attribute.of(name, 1, nodes, codes.astype(np.int64), max(len(values), 1)))
    prices = np.log1p(catalogue["price"].to_numpy(float))
    prices = (prices - np.nanmean(prices)) / np.nanstd(prices)
    return [*found, Attribute.of("price", 1, nodes, prices.astype(np.float32))]


def some_of(triples: Triples, edges: Mask, most: int) -> Ends:
    """At most so many of the edges."""
    chosen = np.random.default_rng(SEED).permutation(np.flatnonzero(edges))[:most]
    return tuple(column[chosen] for column in triples.edges)


def run(hyper: RelGNNHyperparameters, seed: int) -> dict[str, Any]:
    """The figures of one training."""
    began, cpu = time.perf_counter(), time.process_time()
    world, choosing, ranked = read_world(seed)
    hidden, triples = choosing | ranked, world.triples
    everything = Candidates.of(triples, np.ones(len(triples.heads), bool))
    ends = some_of(triples, choosing, LOOKED_AT)
    drawn = everything.draw(ends[1], 1_000, np.random.default_rng(SEED))
    look = Validation(ends, drawn, everything).figures
    result = train_relgnn(world, hyper, seed=seed, held_out=hidden, look=look)
    model = world.model(hyper, seed)
    load_parameters(model, result.arrays)
    x_ND = vectors_of(model, world.graph(~hidden), hidden)
    test = Validation(some_of(triples, ranked, RANKED), np.arange(triples.n_entities), everything)
    ranks, _ = test.ranks(x_ND, model)
    last = result.history[-1]
    return {
        "mrr": float((1 / ranks).mean()), **{f"hits@{k}": float((ranks <= k).mean()) for k in (1, 10, 30)},
        "epoch": result.best_epoch, "validation_mrr": max(h.get("validation_mrr", 0) for h in result.history),
        **{name: float(last[name]) for name in ("negative_gap", "negative_above", "negative_held_out")},
        "entropy": entropies(model, world, hidden), "edges": ranks.shape[1],
        "seconds": round(time.perf_counter() - began, 1), "cpu_seconds": round(time.process_time() - cpu, 1),
    }  # fmt: skip


@torch.no_grad()
def entropies(model: RelGNN, world: World, hidden: Mask) -> list[dict[str, Any]]:
    """Of each layer, over nodes of two messages or more: the mean entropy of a node's weights, that of equal weights,
    and deciles of the share that the one has of the other."""
    model.eval()
    graph = world.graph(~hidden)
    meta, everyone = MetaRelations.of(graph.into(0, graph.n_entities, engine="numba")), np.arange(graph.n_entities)
    h_ND, found = model.inputs(everyone, hidden), []
    for number, layer in enumerate(model.layers):
        weights_E = layer.weights(meta, h_ND, h_ND, model.relations)
        entropy = meta.adjacency.total(-torch.special.xlogy(weights_E, weights_E)).numpy()
        degrees = meta.adjacency.degrees.numpy()
        some = degrees >= 2
        equal = np.log(degrees[some])
        deciles = np.quantile(entropy[some] / equal, np.arange(0, 1.01, 0.1)).round(3).tolist()
        means = {"mean": float(entropy[some].mean()), "equal weights": float(equal.mean())}
        found.append(means | {"deciles of the share": deciles})
        h_ND = model.layer(number, meta, h_ND, h_ND)
    return found


def runs(seeds: int, minutes: float, workers: int) -> dict[str, list[dict[str, Any]]]:
    """Of every run by its name the figures of the seeds, kept and made now; none begins after so many minutes."""
    former = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept: dict[str, dict[str, Any]] = {}
    for name, hyper in settings().items():
        same = former.get(name, {}).get("settings") == dataclasses.asdict(hyper)
        kept[name] = former[name] if same else {"settings": dataclasses.asdict(hyper), "runs": {}}
    wanted = ((name, seed) for seed in range(1, seeds + 1) for name in kept)
    missing = [(name, seed) for name, seed in wanted if str(seed) not in kept[name]["runs"]]
    for name, seed, found in made(missing, time.time() + 60 * minutes, workers):
        if found is not None:
            kept[name]["runs"][str(seed)] = found
            RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
            print(name, "seed", seed, {key: value for key, value in found.items() if key != "entropy"}, flush=True)
    return {name: list(one["runs"].values()) for name, one in kept.items() if one["runs"]}


def made(missing: list[tuple[str, int]], end: float, workers: int) -> Iterator[tuple[str, int, Any]]:
    """(name, seed, figures or None) as they end, each in a process with one thread."""
    one_thread = {"mp_context": get_context("spawn"), "initializer": torch.set_num_threads, "initargs": (1,)}
    with ProcessPoolExecutor(workers, **one_thread) as pool:
        wanted = settings()
        asked = {pool.submit(attempt, wanted[name], seed, end): (name, seed) for name, seed in missing}
        for done in as_completed(asked):
            yield *asked[done], done.result()


def attempt(hyper: RelGNNHyperparameters, seed: int, end: float) -> dict[str, Any] | None:
    """None after the time `end`."""
    return run(hyper, seed) if time.time() < end else None


def lines(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Of every run the mean of its seeds and, of the MRR, the standard deviation; then the entropies."""
    names = ("mrr", "hits@1", "hits@10", "hits@30", "negative_gap", "negative_above", "negative_held_out")
    said = [f"{'':16s}{'seeds':>6s}{'±':>9s}" + "".join(f"{name:>18s}" for name in names)]
    for name, made_runs in found.items():
        means = "".join(f"{np.mean([one[key] for one in made_runs]):18.4f}" for key in names)
        said.append(f"{name:16s}{len(made_runs):6d}{np.std([one['mrr'] for one in made_runs]):9.4f}{means}")
    for number, layer in enumerate(found.get("one head", [{}])[0].get("entropy", ())):
        means = f"{layer['mean']:.2f}, of equal weights {layer['equal weights']:.2f}"
        said.append(f"entropy of attention, layer {number + 1}: {means}; deciles of its share "
                    f"{layer['deciles of the share']}")  # fmt: skip
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    print("\n".join(lines(runs(options.seeds, options.minutes, options.workers))))


if __name__ == "__main__":
    main()
