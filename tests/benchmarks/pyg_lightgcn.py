"""PyTorch Geometric's LightGCN, timed epoch by epoch. Runs in a virtual environment of its own and imports nothing of
this project but the stopwatch.

Reads an npz with `users` and `items` (int64, pairs), prints what `timed` gives as JSON, of the first so many updates of
an epoch, seconds scaled to all of them. form: `edges`, the class as its documentation uses it; `sparse`, the normalised
adjacency prepared as a CSR tensor once.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import torch
from stopwatch import timed  # the file beside this one
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.nn.models import LightGCN
from torch_geometric.utils import to_torch_csr_tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", required=True)
    parser.add_argument("--form", choices=("edges", "sparse"), required=True)
    for name in ("dimension", "layers", "negatives", "batches", "updates", "threads", "repeats"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--decay", type=float, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    stored = np.load(options.pairs)
    users, items = (torch.from_numpy(stored[name]) for name in ("users", "items"))
    n_users, n_items = int(stored["n_users"]), int(stored["n_items"])
    n = n_users + n_items
    there = torch.stack([users, n_users + items])
    graph = torch.cat([there, there.flip(0)], dim=1)
    if options.form == "sparse":
        edges, weights = gcn_norm(graph, None, n, add_self_loops=False)
        graph = to_torch_csr_tensor(edges, weights, size=(n, n))
    model = LightGCN(n, options.dimension, options.layers, normalize=options.form == "edges")
    optimiser = torch.optim.Adam(model.parameters())

    def epoch() -> None:
        for chosen in torch.randperm(len(users)).tensor_split(options.batches)[: options.updates]:
            repeated = users[chosen].repeat_interleave(options.negatives)
            wanted = n_users + items[chosen].repeat_interleave(options.negatives)
            drawn = n_users + torch.randint(n_items, (len(repeated),))
            optimiser.zero_grad()
            scores = model(graph, torch.stack([repeated.repeat(2), torch.cat([wanted, drawn])]))
            loss = model.recommendation_loss(
                *scores.chunk(2), node_id=torch.cat([repeated, wanted, drawn]).unique(), lambda_reg=options.decay)
            loss.backward()
            optimiser.step()

    found = timed(epoch, options.repeats)
    for name in ("seconds", "processor_seconds"):
        found[name] = [seconds * options.batches / options.updates for seconds in found[name]]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
