"""R-GCN and HGT of PyTorch Geometric on one split.

Runs in a virtual environment of its own and imports nothing of this project.

`python -m tests.papers.pyg_peers JSON`: settings, and the folder that `profiling_runs.neighbourhoods` wrote. The recipe
around the layers is RHGN's: a linear map for each node type, two layers, a linear head for each label, AdamW, one cycle
of the rate, the epoch that did best on the users who choose, and at the end everybody from full neighbourhoods. Prints
{"named": what each user is called, "best_epoch"} as JSON.
"""

from __future__ import annotations

import copy
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from torch_geometric.nn import HeteroDictLinear, HGTConv, RGCNConv
from torch_geometric.utils import softmax

MISSING = -1


class Graph:
    """Node types and relation codes.

    A layer of messages is (offsets into destinations, sources, codes, shifts), in places of some nodes, destinations
    first. shifts: what HGT adds to each message's score, log of how many messages of its relation it stands for; None
    where all are there.
    """

    def __init__(self, stored: dict) -> None:
        own = ("types", "labels", "n_classes")
        self.types, self.labels, self.n_classes = (torch.from_numpy(stored[name]) for name in own)
        self.names, self.n_codes = [f"t{number}" for number in range(int(stored["n_types"]))], int(stored["n_codes"])
        ends = enumerate(stored["code_ends"])
        self.relations = [(f"t{source}", f"r{code}", f"t{end}") for code, (source, end) in ends]
        self.whole = (*(torch.from_numpy(stored[name]).long() for name in ("offsets", "sources", "codes")), None)
        self.counts = self.by_code(self.whole[0], self.whole[2])

    def by_code(self, offsets: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """(destinations, codes): messages of each."""
        cells = torch.repeat_interleave(torch.arange(len(offsets) - 1), offsets.diff()) * self.n_codes + codes
        return torch.bincount(cells, minlength=(len(offsets) - 1) * self.n_codes).view(-1, self.n_codes)

    def sampled(self, nodes: torch.Tensor, offsets: torch.Tensor, sources: torch.Tensor, codes: torch.Tensor) -> tuple:
        """A layer of drawn messages."""
        n = len(offsets) - 1
        shifts = torch.log(self.counts[nodes[:n]].clamp(min=1) / self.by_code(offsets, codes).clamp(min=1))
        return offsets, sources, codes, shifts[torch.repeat_interleave(torch.arange(n), offsets.diff()), codes]


class Attention(HGTConv):
    """HGTConv whose messages stand for as many as were there, as RHGN's do in training:
    both take one softmax over all relations."""

    shifts: torch.Tensor | None = None  # of the next call's messages, relation by relation

    # PyTorch Geometric reads the names of the arguments, and takes annotations for more than they are.
    def message(self, k_j, q_i, v_j, edge_attr, index, ptr, size_i):
        scores = (q_i * k_j).sum(dim=-1) * edge_attr / math.sqrt(q_i.size(-1))
        weights = softmax(scores if self.shifts is None else scores + self.shifts[:, None], index, ptr, size_i)
        return (v_j * weights.view(-1, self.heads, 1)).view(-1, self.out_channels)


class HGT(torch.nn.Module):
    """HGT's layers with their own residual."""

    def __init__(self, graph: Graph, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.graph, self.dropout = graph, dropout
        kinds = (graph.names, graph.relations)
        self.layers = torch.nn.ModuleList(Attention(width, width, kinds, heads) for _ in range(2))

    def forward(self, x_SD: torch.Tensor, types_S: torch.Tensor, layers: list[tuple]) -> torch.Tensor:
        for layer, (offsets, sources, codes, shifts) in zip(self.layers, layers, strict=True):
            layer.shifts = None if shifts is None else shifts[torch.argsort(codes, stable=True)]
            n, types = len(offsets) - 1, types_S[: len(x_SD)]
            of_type = {
                name: torch.nonzero(types == kind).squeeze(1) for kind, name in enumerate(self.graph.names)
            }
            places = torch.empty_like(types)
            for rows in of_type.values():
                places[rows] = torch.arange(len(rows))
            destinations = torch.repeat_interleave(torch.arange(n), offsets.diff())
            ends = torch.stack([places[sources], places[destinations]])
            edges = {relation: ends[:, codes == code] for code, relation in enumerate(self.graph.relations)}
            given = {name: x_SD[rows] for name, rows in of_type.items() if len(rows)}
            h = layer(given, {relation: pairs for relation, pairs in edges.items() if pairs.shape[1]})
            out = x_SD.clone()
            for name, rows in of_type.items():
                if h.get(name) is not None:
                    out = out.index_copy(0, rows, h[name])
            x_SD = F.dropout(out[:n], self.dropout, self.training)
        return x_SD


class RGCN(torch.nn.Module):
    """A mean and a matrix for each relation, and a matrix for the node itself."""

    def __init__(self, graph: Graph, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.layers = torch.nn.ModuleList(RGCNConv(width, width, graph.n_codes) for _ in range(2))

    def forward(self, x_SD: torch.Tensor, types_S: torch.Tensor, layers: list[tuple]) -> torch.Tensor:
        for layer, (offsets, sources, codes, _) in zip(self.layers, layers, strict=True):
            n = len(offsets) - 1
            ends = torch.stack([sources, torch.repeat_interleave(torch.arange(n), offsets.diff())])
            x_SD = F.dropout(F.gelu(layer((x_SD, x_SD[:n]), ends, codes)), self.dropout, self.training)
        return x_SD


class Model(torch.nn.Module):
    """Given or learned vectors → a linear map for each type → layers → a head for each label."""

    def __init__(self, graph: Graph, features: torch.Tensor, asked: dict) -> None:
        super().__init__()
        self.graph = graph
        self.table = torch.nn.Parameter(features, requires_grad=asked["init"] == "random")
        self.input = HeteroDictLinear(features.shape[1], asked["width"], types=graph.names)
        layers = {"hgt": HGT, "rgcn": RGCN}[asked["model"]]
        self.layers = layers(graph, asked["width"], asked["heads"], asked["dropout"])
        self.heads = torch.nn.ModuleList(torch.nn.Linear(asked["width"], classes) for classes in graph.n_classes)

    def forward(self, nodes: torch.Tensor, layers: list[tuple]) -> list[torch.Tensor]:
        types, given = self.graph.types[nodes], self.table[nodes]
        x_SD = torch.zeros(len(nodes), self.input.out_channels)
        rows = {name: torch.nonzero(types == kind).squeeze(1) for kind, name in enumerate(self.graph.names)}
        for name, mapped in self.input({name: given[mine] for name, mine in rows.items()}).items():
            x_SD = x_SD.index_copy(0, rows[name], mapped)
        h = self.layers(x_SD, types, layers)
        return [head(h) for head in self.heads]


def loss_of(logits: list[torch.Tensor], labels: torch.Tensor, weights: list[torch.Tensor | None]) -> torch.Tensor:
    """Cross-entropy summed over labels, divided by the number of users; a missing label adds nothing."""
    summed = {"ignore_index": MISSING, "reduction": "sum"}
    terms = [F.cross_entropy(one, labels[:, j], weights[j], **summed) for j, one in enumerate(logits)]
    return torch.stack(terms).sum() / len(labels)


def batches(file: Path, graph: Graph) -> list[tuple[torch.Tensor, list[tuple]]]:
    """(nodes, layers) of each batch; the users are the first nodes, as many as the last layer has destinations."""
    with np.load(file) as stored:
        found = []
        for b in range(int(stored["n_batches"])):
            nodes, layers = torch.from_numpy(stored[f"{b}.nodes"]).long(), []
            for layer in range(2):
                names = (f"{b}.{layer}.{part}" for part in ("offsets", "sources", "codes"))
                layers.append(graph.sampled(nodes, *(torch.from_numpy(stored[name]).long() for name in names)))
            found.append((nodes, layers))
    return found


def macro_f1(labels: torch.Tensor, named: torch.Tensor) -> float:
    """The mean over classes that are true or named."""
    known = labels != MISSING
    labels, named = labels[known], named[known]
    f1 = []
    for k in torch.unique(torch.cat([labels, named])):
        true, called = labels == k, named == k
        f1.append(2 * (true & called).sum() / (true.sum() + called.sum()))
    return float(torch.stack(f1).mean())


def weights_of(labels: torch.Tensor, n_classes: int) -> torch.Tensor:
    """(classes,): every class that there is weighs the same in all, one that is not there nothing."""
    counts = torch.bincount(labels[labels != MISSING], minlength=n_classes)
    return counts.sum() / (torch.count_nonzero(counts) * counts.clamp(min=1)) * (counts > 0)


def train(model: Model, graph: Graph, folder: Path, asked: dict) -> int:
    """The best epoch, whose parameters the model then has."""
    first = [nodes[: len(layers[-1][0]) - 1] for nodes, layers in batches(folder / "epoch_0.npz", graph)]
    trained = graph.labels[torch.cat(first)]
    weights: list[torch.Tensor | None] = [None] * len(graph.n_classes)
    if asked["class_weights"]:
        weights = [weights_of(column, int(n)) for column, n in zip(trained.T, graph.n_classes, strict=True)]
    decayed = [values for name, values in model.named_parameters() if name != "table"]
    groups = [{"params": decayed, "weight_decay": asked["weight_decay"]}]
    if model.table.requires_grad:
        groups.append({"params": [model.table], "weight_decay": 0.0})
    optimiser = torch.optim.AdamW(groups, lr=asked["learning_rate"])
    steps = asked["epochs"] * len(first)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, asked["learning_rate"], total_steps=steps)
    validation = batches(folder / "validation.npz", graph)
    expected = torch.cat([graph.labels[nodes[: len(layers[-1][0]) - 1]] for nodes, layers in validation])
    best, best_epoch, state = -np.inf, -1, {}
    for epoch in range(asked["epochs"]):
        model.train()
        for nodes, layers in batches(folder / f"epoch_{epoch}.npz", graph):
            optimiser.zero_grad()
            loss_of(model(nodes, layers), graph.labels[nodes[: len(layers[-1][0]) - 1]], weights).backward()
            optimiser.step()
            schedule.step()
        model.eval()
        with torch.no_grad():
            by_batch = (model(nodes, layers) for nodes, layers in validation)
            logits = [torch.cat(one) for one in zip(*by_batch, strict=True)]
        figure = np.mean([macro_f1(expected[:, j], one.argmax(1)) for j, one in enumerate(logits)])
        figure = -float(loss_of(logits, expected, weights)) if asked["stop_on"] == "loss" else figure
        if figure > best:
            best, best_epoch, state = figure, epoch, copy.deepcopy(model.state_dict())
    model.load_state_dict(state)
    return best_epoch


def main() -> None:
    asked = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    torch.manual_seed(asked["seed"])
    folder = Path(asked["folder"])
    graph = Graph(np.load(folder / "graph.npz"))
    model = Model(graph, torch.from_numpy(np.load(asked["features"])), asked)
    best_epoch = train(model, graph, folder, asked)
    model.eval()
    with torch.no_grad():
        logits = model(torch.arange(len(graph.types)), [graph.whole] * 2)
    named = torch.stack([one[: len(graph.labels)].argmax(1) for one in logits], 1)
    print(json.dumps({"named": named.tolist(), "best_epoch": best_epoch}))


if __name__ == "__main__":
    main()
