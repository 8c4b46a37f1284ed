"""PyTorch Geometric's HGTConv, timed.

Runs in a virtual environment of its own and imports nothing of this project but the stopwatch.

Reads what `bench_rhgn.py` wrote into a folder, does one of whole | blocks | inference,
and prints what `timed` gives as JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from stopwatch import timed  # the file beside this one
from torch_geometric.nn import HeteroDictLinear, HGTConv

TYPES = ("user", "item")
Vectors = dict[str, torch.Tensor]


class Model(torch.nn.Module):
    """A linear map for each node type, HGTConv layers, a linear classifier."""

    def __init__(
        self, relations: list[tuple[str, str, str]], inputs: int, width: int, heads: int, layers: int, classes: int
    ) -> None:
        super().__init__()
        self.input = HeteroDictLinear(inputs, width, types=TYPES)
        self.layers = torch.nn.ModuleList(HGTConv(width, width, (list(TYPES), relations), heads) for _ in range(layers))
        self.classifier = torch.nn.Linear(width, classes)

    def forward(self, x: Vectors, layers: list[tuple[dict, dict[str, int]]]) -> torch.Tensor:
        """Logits of the users that the last layer ends at; a layer:
        (edge_index of each relation, destinations of each type)."""
        h = self.input(x)
        for layer, (edges, destinations) in zip(self.layers, layers, strict=True):
            h = {name: values[: destinations[name]] for name, values in layer(h, edges).items()}
        return self.classifier(h["user"])


def to_types(nodes: np.ndarray, n_users: int) -> tuple[np.ndarray, np.ndarray]:
    """(0 for a user and 1 for an item, place among the nodes of the same type)."""
    kinds = (nodes >= n_users).astype(np.int64)
    return kinds, np.where(kinds == 1, np.cumsum(kinds), np.cumsum(1 - kinds)) - 1


def converted(
    offsets: np.ndarray, sources: np.ndarray, codes: np.ndarray, nodes: np.ndarray, relations: list, n_users: int
) -> tuple[dict, dict[str, int]]:
    """One layer for `Model.forward` from messages between places in `nodes`,
    the destinations being the first of them."""
    kinds, places = to_types(nodes, n_users)
    destinations = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    edges = {
        relation: torch.from_numpy(np.stack([places[sources[codes == code]], places[destinations[codes == code]]]))
        for code, relation in enumerate(relations)
    }
    return edges, {name: int((kinds[: len(offsets) - 1] == kind).sum()) for kind, name in enumerate(TYPES)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--what", choices=("whole", "blocks", "inference"), required=True)
    for name in ("width", "heads", "layers", "classes", "threads", "repeats"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    graph = np.load(options.folder / "graph.npz")
    features, labels, n_users = graph["features"], torch.from_numpy(graph["labels"]), len(graph["labels"])
    relations = [("user", f"r{r}", "item") for r in range(int(graph["n_relations"]))]
    relations += [("item", f"reversed_r{r}", "user") for r in range(int(graph["n_relations"]))]
    model = Model(relations, features.shape[1], options.width, options.heads, options.layers, options.classes)
    optimiser = torch.optim.AdamW(model.parameters())

    def inputs(nodes: np.ndarray) -> Vectors:
        return {name: torch.from_numpy(features[nodes[(nodes >= n_users) == kind]]) for kind, name in enumerate(TYPES)}

    def step(x: Vectors, layers: list, expected: torch.Tensor) -> None:
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(x, layers), expected).backward()
        optimiser.step()

    if options.what == "blocks":
        stored = np.load(options.folder / "blocks.npz")
        batches = []
        for b in range(int(stored["n_batches"])):
            nodes, layers = stored[f"{b}.nodes"], []
            for number in range(options.layers):
                offsets, sources, codes = (stored[f"{b}.{number}.{name}"] for name in ("offsets", "sources", "codes"))
                places = nodes[: int(stored[f"{b}.{number}.n_sources"])]
                layers.append(converted(offsets, sources, codes, places, relations, n_users))
            batches.append((inputs(nodes), layers, labels[stored[f"{b}.nodes"][: len(offsets) - 1]]))
        figures = timed(lambda: [step(*batch) for batch in batches], options.repeats)
    else:
        everyone = np.arange(len(features))
        whole = converted(graph["offsets"], graph["sources"], graph["codes"], everyone, relations, n_users)
        given = (inputs(everyone), [whole] * options.layers)
        if options.what == "whole":
            figures = timed(lambda: step(*given, labels), options.repeats)
        else:
            model.eval()
            with torch.no_grad():
                figures = timed(lambda: model(*given), options.repeats)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
