"""Whether attributes pay for users with one to three events: `make paper-ram-gnn-cold`.

Complete Journey and Alibaba's sample (`cold_users.py`), nights whose label windows do not overlap, all cold users of
them together. The next new item of each, ranked among all items of the night but his own: HR@10. Who has an event with
a client in the label window, among all cold users: PR-AUC at 1:3, mean of the clients who have ten or more such users;
a user's score there is the mean of his scores of the client's five likeliest items, in units of his own spread over all
items. Items are scored by
- RAM-GNN: pretrained on attributes, then the interaction network; who has no attribute starts where the pipeline puts
  him;
- without pretraining: the same network from random vectors, without values;
- MF-BPR: no layers either; TransE: one relation for events, one for each attribute;
- popularity: users of the window who had the item; among cold users a client's likeliest are those with most events.
The networks have the settings of the shipped defaults or those that `make tune-ram-gnn` chose on MovieLens 100K,
whichever told held-out pairs of the window's own users better, and stop early by these; TransE has its defaults. Nobody
looks at what came after T. A run of a night, a seed and a model is kept below build/, by the code that makes it, and
not made again; the figures go to results/paper_ram_gnn_cold.json.

The last lines read `<shop> hr@10: …` and `<shop> pr-auc: …`, each model's mean of the seeds.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import functools
import itertools
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse

from jobs.embeddings.ram_gnn_sides import placed
from models.hyperparameters import TransEHyperparameters
from models.learning.epochs import load_parameters
from models.ram_gnn_hyperparameters import InteractionHyperparameters, RAMGNNHyperparameters
from models.ram_gnn_interactions import InteractionNetwork, Pairs, Pretrained, infer_interactions
from models.ram_gnn_interactions_training import train_interactions
from models.ram_gnn_training import train_ram_gnn, vectors_of
from models.transe import Triples
from models.transe_training import train_transe
from tests.papers.cold_users import KEPT, SHOPS, ColdNight, Shop, night_of
from tests.papers.gains import Scored, pr_auc_1to3
from tests.papers.lookalike_cache import PROJECT, Arrays, cached, code_hash, is_cached
from tests.papers.ram_gnn_runs import no_rows
from tests.papers.tune_ram_gnn import chosen

RESULTS = Path(__file__).parent / "results" / "paper_ram_gnn_cold.json"
RUNS = KEPT / "runs"
SEEDS, NEAR, LEAST_BUYERS, PLACE = 3, 5, 10, 10
LOOKS = {
    "validation_share": 0.2, "evaluate_every": 2, "patience": 6, "epochs": 120, "least_batch": 2_048,
    "recent": 0}  # fmt: skip
PRETRAINED = "pretraining"
MODELS = ("RAM-GNN", "without pretraining", "MF-BPR", "TransE", "popularity")
BARE = {"layers": 0, "transforms": False}  # matrix factorisation
Scores = np.ndarray  # (cold, items), higher is likelier


def settings_of(model: str) -> list[InteractionHyperparameters]:
    """The two that validation chooses from."""
    plain = InteractionHyperparameters(**LOOKS | (BARE if model == "MF-BPR" else {}))
    tuned = chosen()["RAM-GNN" if model == "RAM-GNN" else "MF-BPR" if model == "MF-BPR" else "LightGCN"]
    given = {name: value for name, value in tuned.settings["interactions"].items() if name not in LOOKS}
    return [plain, InteractionHyperparameters(**given | LOOKS)]


def starts_of(night: ColdNight, model: str, seed: int, length: float, pretrained: dict[str, Any]) -> list[Pretrained]:
    """What users and items start from, of so much length."""
    rng, found, d = np.random.default_rng([seed, 3]), [], RAMGNNHyperparameters().dimension
    for kind, n in (("user", night.n_users), ("item", night.n_items)):
        if model == "RAM-GNN":
            vectors, values, rows = pretrained[kind] * length, pretrained[f"{kind}.values"], night.sides[kind].rows
        else:
            vectors, values, rows = rng.normal(size=(n, d)) * length / d**0.5, np.zeros((0, d // 2)), no_rows(n)
        found.append(Pretrained(vectors.astype(np.float32), values.astype(np.float32), rows))
    return found


def pretrain(night: ColdNight, seed: int) -> dict[str, np.ndarray]:
    """By side the vectors, of length 1, by <side>.values those of its values."""
    hyper = RAMGNNHyperparameters()
    arrays = train_ram_gnn(night.sides, hyper, seed=seed).arrays
    own = {kind: np.diff(side.rows.offsets.numpy()) > 0 for kind, side in night.sides.items()}
    ones = np.ones(len(night.pairs[0]), np.float32)
    touched = sparse.csr_array((ones, night.pairs), shape=(night.n_users, night.n_items))
    found = {kind: vectors for kind, (vectors, _) in placed(
        vectors_of(night.sides, arrays, hyper), own, touched).items()}  # fmt: skip
    return found | {f"{kind}.values": arrays[f"{kind}.values"] for kind in night.sides}


def by_network(night: ColdNight, model: str, seed: int, pretrained: dict[str, Any]) -> tuple[Scores, dict[str, Any]]:
    """The scores of the better settings by the night's own held-out pairs, and which they were."""
    found = []
    for number, hyper in enumerate(settings_of(model)):
        given = starts_of(night, model, seed, hyper.initial_length, pretrained)
        result = train_interactions(*given, night.pairs, hyper, seed=seed)
        best = max(entry.get("validation_ndcg", -1.0) for entry in result.history)
        found.append((best, number, hyper, given, result))
    best, number, hyper, given, result = max(found, key=lambda one: one[0])
    network = InteractionNetwork(*given, hyper)
    load_parameters(network, result.arrays)
    users, items = infer_interactions(network, Pairs.of(*night.pairs, night.n_users, night.n_items))
    told = {"validation_ndcg": best, "tuned": bool(number), "epochs": result.best_epoch + 1}
    return users[night.cold] @ items.T, told


def by_transe(night: ColdNight, seed: int) -> Scores:
    """Less the distance of the item from where events lead from the user."""
    hyper, firsts = TransEHyperparameters(threads=1), {"user": 0, "item": night.n_users}
    n, heads, relations, tails = night.n_users + night.n_items, [night.pairs[0]], [0 * night.pairs[0]], [night.pairs[1]]
    tails[0] = tails[0] + night.n_users
    types, of_relations = [np.zeros(night.n_users, np.int64), np.ones(night.n_items, np.int64)], [(0, 1)]
    for kind, side in night.sides.items():
        rows = side.rows
        heads.append(firsts[kind] + rows.entities.numpy())
        tails.append(n + rows.values.numpy())
        relations.append(len(of_relations) + rows.types.numpy())
        types.append(2 + len(of_relations) + rows.value_types.numpy())
        of_relations += [(int(kind == "item"), 2 + len(of_relations) + t) for t in range(rows.n_types)]
        n += rows.n_values
    rng = np.random.default_rng([seed, 11])
    keys = (rng.integers(1 << 63, size=size).astype(np.uint64) for size in (n, len(of_relations)))
    ends = (np.array(column, np.int64) for column in zip(*of_relations, strict=True))
    edges = (np.concatenate(column) for column in (heads, relations, tails))
    state = train_transe(Triples(*edges, np.concatenate(types), *ends, *keys), hyper, seed=seed).state
    led = torch.from_numpy(state.entities[night.cold] + state.relations[0])
    items = torch.from_numpy(state.entities[night.n_users : night.n_users + night.n_items])
    return -torch.cdist(led, items, p=int(hyper.norm[1])).numpy()


def likely(scores: Scores, items: np.ndarray) -> np.ndarray:
    """(cold,): of a client, by each user's likeliest of its items."""
    near = np.sort(scores[:, items], axis=1)[:, -NEAR:].mean(axis=1)
    return (near - scores.mean(axis=1)) / (scores.std(axis=1) + 1e-9)


def ranks_of_next(night: ColdNight, scores: Scores) -> np.ndarray:
    """Of each cold user's next item, his own left out; of equal scores the mean rank."""
    row_of = np.full(night.n_users, -1)
    row_of[night.cold] = np.arange(len(night.cold))
    ranked, own = scores.copy(), row_of[night.pairs[0]] >= 0
    ranked[row_of[night.pairs[0][own]], night.pairs[1][own]] = -np.inf
    mine = ranked[row_of[night.following[0]]]
    wanted = mine[np.arange(len(mine)), night.following[1]][:, None]
    return 1 + (mine > wanted).sum(1) + ((mine == wanted).sum(1) - 1) / 2


def run(shop: Shop, date: datetime.date, seed: int, part: str) -> Arrays:
    """Of a model: `ranks` of next items, `margins` (clients, cold), and what was `told` of its settings, as JSON. Of
    PRETRAINED: what `pretrain` gives."""
    night, told = night_of(shop, date), {}
    if part == PRETRAINED:
        return pretrain(night, seed)
    if part == "TransE":
        scores = by_transe(night, seed)
    elif part == "popularity":
        counts = np.bincount(night.pairs[1], minlength=night.n_items).astype(np.float32)
        scores = np.tile(counts, (len(night.cold), 1))
    else:
        pretrained = kept_run(shop, date, seed, PRETRAINED) if part == "RAM-GNN" else {}
        scores, told = by_network(night, part, seed, pretrained)
    activity = night.n_events[night.cold].astype(np.float32)
    margins = [activity if part == "popularity" or client not in night.items_of
               else likely(scores, night.items_of[client]) for client in clients_of(shop)]  # fmt: skip
    return {"ranks": ranks_of_next(night, scores), "margins": np.stack(margins), "told": np.array(json.dumps(told))}


def kept_run(shop: Shop, date: datetime.date, seed: int, part: str) -> Arrays:
    """Made once."""

    def timed() -> Arrays:
        started = time.perf_counter()
        found = run(shop, date, seed, part)
        print(f"{shop.name} {date} seed {seed}, {part}: {time.perf_counter() - started:.0f} s", flush=True)
        return found

    return cached(RUNS, key_of(shop, date, seed, part), timed)


def key_of(shop: Shop, date: datetime.date, seed: int, part: str) -> tuple[object, ...]:
    """What a run hangs on."""
    mine = (PROJECT / "tests" / "papers" / name for name in ("cold_users.py", Path(__file__).name))
    of_models = (PROJECT / "models").glob("ram_gnn*.py")
    code = code_hash([*sorted(of_models), *mine, PROJECT / "models" / "transe_numba.py"])
    return dataclasses.astuple(shop), date, seed, part, code


@functools.cache
def clients_of(shop: Shop) -> list[str]:
    """Those with enough buyers among the cold users of all nights together."""
    counts: dict[str, int] = {}
    for date in shop.nights:
        for client, labels in night_of(shop, date).labels.items():
            counts[client] = counts.get(client, 0) + int(labels.sum())
    return sorted(client for client, count in counts.items() if count >= LEAST_BUYERS)


def assess(shop: Shop, seeds: Iterable[int]) -> dict[str, Any]:
    """By model HR@10, PR-AUC and the settings that were chosen, one a seed, from the runs that are kept."""
    nights, found = [night_of(shop, date) for date in shop.nights], {}
    for model in MODELS:
        one: dict[str, list[Any]] = {"hr@10": [], "pr_auc": [], "settings": []}
        for seed in seeds:
            parts = [kept_run(shop, date, seed, model) for date in shop.nights]
            ranks, margins = ([part[what] for part in parts] for what in ("ranks", "margins"))
            one["hr@10"].append(float((np.concatenate(ranks) <= PLACE).mean()))
            one["settings"].append([json.loads(str(part["told"])) for part in parts])
            aucs = [_pr_auc(client, seed, model, nights, [of_night[k] for of_night in margins])
                    for k, client in enumerate(clients_of(shop))]  # fmt: skip
            one["pr_auc"].append(float(np.mean(aucs)))
        found[model] = one
    return found


def _pr_auc(client: str, seed: int, model: str, nights: list[ColdNight], margins: list[np.ndarray]) -> float:
    labels = [night.labels.get(client, np.zeros(len(night.cold), bool)) for night in nights]
    return float(pr_auc_1to3(Scored(client, seed, model, np.concatenate(labels), np.concatenate(margins))))


def main() -> None:
    """Run what is missing, then tell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--runs", type=int, help="at most so many more, each of a night, a seed and a model")
    options = parser.parse_args()
    seeds, left = range(1, options.seeds + 1), options.runs
    torch.set_num_threads(1)
    found, lines = {}, []
    for shop in SHOPS:
        for one in itertools.product((shop,), shop.nights, seeds, (PRETRAINED, *MODELS)):
            if not is_cached(RUNS, key_of(*one)):
                if left == 0:
                    return print("more is to be run")
                left = None if left is None else left - 1
                kept_run(*one)
        nights = [night_of(shop, date) for date in shop.nights]
        found[shop.name] = {
            "nights": [date.isoformat() for date in shop.nights], "seeds": len(seeds), "clients": clients_of(shop),
            "cold": sum(len(night.cold) for night in nights), "next": sum(len(night.following[0]) for night in nights),
            "models": assess(shop, seeds)}  # fmt: skip
        for figure, shown in (("hr@10", "hr@10"), ("pr_auc", "pr-auc")):
            means = {model: np.mean(found[shop.name]["models"][model][figure]) for model in MODELS}
            lines.append(f"{shop.name} {shown}: " + ", ".join(f"{name} {mean:.4f}" for name, mean in means.items()))
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
