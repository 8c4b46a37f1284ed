"""PyTorch Geometric's RGATConv and RGCNConv, timed. Runs in a virtual environment of its own and imports nothing of
this project but the stopwatch.

Reads an npz with `sources`, `destinations` and `codes` (int64, of each message), `x` (float32, of each node) and
`wanted` (float32, the gradient at the end), and prints what `timed` gives as JSON, of steps over all messages, forward
and backward, the nodes' vectors learned with the layers.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import torch
from stopwatch import timed  # the file beside this one
from torch_geometric.nn import RGATConv, RGCNConv


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graph", required=True)
    parser.add_argument("--conv", choices=("rgat", "rgcn"), required=True)
    for name in ("heads", "layers", "bases", "threads", "repeats"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    stored = np.load(options.graph)
    edges = torch.from_numpy(np.stack([stored["sources"], stored["destinations"]]))
    codes, wanted = (torch.from_numpy(stored[name]) for name in ("codes", "wanted"))
    n_codes, width = int(stored["n_codes"]), stored["x"].shape[1]
    x = torch.nn.Parameter(torch.from_numpy(stored["x"]))
    bases = options.bases
    if options.conv == "rgat":  # heads side by side: not as here a message of the full width for each head
        conv = lambda: RGATConv(width, width // options.heads, n_codes, bases, heads=options.heads)  # noqa: E731
    else:
        conv = lambda: RGCNConv(width, width, n_codes, bases)  # noqa: E731
    layers = torch.nn.ModuleList(conv() for _ in range(options.layers))
    optimiser = torch.optim.AdamW([x, *layers.parameters()])

    def step() -> None:
        optimiser.zero_grad()
        h = x
        for number, layer in enumerate(layers):
            h = layer(h, edges, codes)
            h = h if number == len(layers) - 1 else torch.nn.functional.leaky_relu(h, 0.2)
        (h * wanted).mean().backward()
        optimiser.step()

    print(json.dumps(timed(step, options.repeats)))


if __name__ == "__main__":
    main()
