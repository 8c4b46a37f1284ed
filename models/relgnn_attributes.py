"""RelGNN's attribute networks: a node's first vector from its attributes, with missing ones as the normal case.

Shape suffixes: see `models/shapes.py`, and A the width of one attribute's network, T node types, R rows of an
attribute.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from models.graph import ranges
from models.shapes import ShapeError, expect, expect_indices

NO_EDGE = -1  # the edge of a row that stands for none
_SLOPE = 0.2


@dataclasses.dataclass(frozen=True)
class Attribute:
    """One attribute of one node type: its rows, sorted by node, none, one or several of a node.

    nodes: int64 (R,). values: int64 (R,) in [0, n_values) of a category; float32 (R,) of a number (n_values 0), which
    should be of about unit size. edges: int64 (R,), the edge of the graph that says the same, or NO_EDGE: where it is
    hidden, so is the row. is_count: the number is how many rows a node has, log(1 + n), and values mean nothing.
    """

    name: str
    node_type: int
    nodes: np.ndarray
    values: np.ndarray
    edges: np.ndarray
    n_values: int
    is_count: bool = False

    @property
    def is_number(self) -> bool:
        return self.n_values == 0

    @classmethod
    def of(
        cls, name: str, node_type: int, nodes: np.ndarray, values: np.ndarray, n_values: int = 0,
        edges: np.ndarray | None = None,
    ) -> Attribute:  # fmt: skip
        """From rows in any order. A category that is unseen, below 0 or not below n_values, and a number that is not
        finite are missing."""
        expect("nodes", nodes, (None,), "int64")
        expect("values", values, nodes.shape, "int64" if n_values else "float32")
        edges = np.full(len(nodes), NO_EDGE) if edges is None else edges
        there = (values >= 0) & (values < n_values) if n_values else np.isfinite(values)
        order = np.flatnonzero(there)[np.argsort(nodes[there], kind="stable")]
        return cls(name, node_type, nodes[order], values[order], edges[order], n_values)

    @classmethod
    def counting(cls, name: str, node_type: int, nodes: np.ndarray, edges: np.ndarray) -> Attribute:
        """How many edges each node is an end of: nodes and edges int64 (R,), in any order. A hidden edge does not count
        (else a node would tell of the edge that it is asked for)."""
        found = cls.of(name, node_type, nodes, np.zeros(len(nodes), np.float32), edges=edges)
        return dataclasses.replace(found, is_count=True)


class AttributeNetworks(nn.Module):
    """h⁰ of every node: of each of its type's attributes a short vector, side by side, then one map for the type.

    A category is the first layer of an MLP on its one-hot code, so a row of a table (of several values the mean); a
    number has an MLP on itself and on whether it is there. Where an attribute is missing, a learned vector stands in.
    Given vectors (TransE's, RAM-GNN's, or of the nodes' own, which are learned) go in as one more attribute. A type
    without anything has one learned vector.
    """

    def __init__(
        self, attributes: Sequence[Attribute], node_types: np.ndarray, n_types: int, dimension: int, width: int,
        random: torch.Generator, given: np.ndarray | None = None, learn_given: bool = False,
    ) -> None:  # fmt: skip
        """node_types: int64 (n,). given: float32 (n, any), rows of NaN for nodes without one; None: none at all."""
        super().__init__()
        expect_indices("node_types", node_types, n_types, "node types")
        self.attributes, self.dimension = list(attributes), dimension
        self.node_types, n_nodes = node_types, len(node_types)
        self.offsets = [np.searchsorted(a.nodes, np.arange(n_nodes + 1)) for a in self.attributes]
        self.tables = nn.ParameterList(_normal((max(a.n_values, 2), width), random, 1.0) for a in self.attributes)
        self.inner = nn.ParameterDict({
            str(number): _normal((width, width), random, width**-0.5)
            for number, a in enumerate(self.attributes) if a.is_number})
        self.missing = nn.ParameterList(nn.Parameter(torch.zeros(width)) for _ in self.attributes)
        self.given = self.no_given = None
        given_width = 0
        if given is not None:
            expect("given", given, (n_nodes, None), "float32")
            given_width = given.shape[1]
            there = torch.from_numpy(np.isfinite(given).all(axis=1))
            self.register_buffer("has_given", there, persistent=False)
            filled = torch.from_numpy(np.where(there.numpy()[:, None], given, np.float32(0)))
            if learn_given:
                self.given = nn.Parameter(filled)
            else:
                self.register_buffer("fixed", filled, persistent=False)
            self.no_given = nn.Parameter(torch.zeros(n_types, given_width))
        widths = [given_width + width * sum(a.node_type == kind for a in self.attributes) for kind in range(n_types)]
        # vectors of the nodes' own and nothing beside them need no map
        plain = learn_given and not self.attributes and given_width == dimension
        self.maps = nn.ParameterList() if plain else nn.ParameterList(
            _normal((dimension, w), random, (2 / (w + dimension)) ** 0.5) for w in widths)  # fmt: skip
        self.biases = nn.ParameterList(
            nn.Parameter(torch.zeros(dimension) if w else torch.randn(dimension, generator=random) * dimension**-0.5)
            for w in widths * (not plain))

    def forward(self, nodes: np.ndarray, hidden: np.ndarray | None = None) -> torch.Tensor:
        """h⁰ (nodes, D). nodes: int64. hidden: bool, of every edge of the graph whether it is."""
        given = self._given(nodes)
        if not len(self.maps):
            return given
        kinds = self.node_types[nodes]
        out = self.biases[0].new_empty(len(nodes), self.dimension)
        for kind, (weight, bias) in enumerate(zip(self.maps, self.biases, strict=True)):
            rows = np.flatnonzero(kinds == kind)
            if not len(rows):
                continue
            places = torch.from_numpy(rows).to(out.device)
            parts = [] if given is None else [given.index_select(0, places)]
            of_kind = (n for n, a in enumerate(self.attributes) if a.node_type == kind)
            parts += [self._one(number, nodes[rows], hidden) for number in of_kind]
            h_SD = nn.functional.linear(torch.cat(parts, dim=1), weight, bias) if parts else bias.expand(len(rows), -1)
            out = out.index_copy(0, places, h_SD)
        return out

    def _given(self, nodes: np.ndarray) -> torch.Tensor | None:
        if self.no_given is None:
            return None
        places = torch.from_numpy(nodes).to(self.no_given.device)
        found = (self.fixed if self.given is None else self.given).index_select(0, places)
        of_types = self.no_given.index_select(0, torch.from_numpy(self.node_types[nodes]).to(places.device))
        return torch.where(self.has_given.index_select(0, places).unsqueeze(1), found, of_types)

    def _one(self, number: int, nodes: np.ndarray, hidden: np.ndarray | None) -> torch.Tensor:
        """(nodes, A) of one attribute."""
        attribute, offsets, device = self.attributes[number], self.offsets[number], self.missing[number].device
        begins, ends = offsets[nodes], offsets[nodes + 1]
        rows, owners = ranges(begins, ends), np.repeat(np.arange(len(nodes)), ends - begins)
        if hidden is not None and len(rows):
            edges = attribute.edges[rows]
            shown = (edges == NO_EDGE) | ~hidden[np.maximum(edges, 0)]
            rows, owners = rows[shown], owners[shown]
        counts = torch.from_numpy(np.bincount(owners, minlength=len(nodes))).to(device)
        starts = torch.cumsum(counts, 0) - counts
        values = torch.from_numpy(attribute.values[rows]).to(device)
        if attribute.is_number:
            zeros, owners_R = self.missing[number].new_zeros(len(nodes)), torch.from_numpy(owners).to(device)
            means = zeros.index_add(0, owners_R, values.to(zeros.dtype)) / counts.clamp(min=1)
            numbers = torch.log1p(counts.to(zeros.dtype)) if attribute.is_count else means
            x = torch.stack([numbers, torch.ones_like(numbers)], dim=1) @ self.tables[number]
            found = nn.functional.leaky_relu(x, _SLOPE) @ self.inner[str(number)]
        else:
            found = nn.functional.embedding_bag(values, self.tables[number], starts, mode="mean")
        found = torch.where((counts > 0).unsqueeze(1), found, self.missing[number])
        return nn.functional.leaky_relu(found, _SLOPE)


def check_attributes(attributes: Sequence[Attribute], node_types: np.ndarray, n_edges: int) -> None:
    """ShapeError unless every attribute's rows are of nodes of its type, and of edges that there are."""
    for one in attributes:
        expect_indices(f"nodes of attribute {one.name}", one.nodes, len(node_types), "nodes")
        if (node_types[one.nodes] != one.node_type).any():
            raise ShapeError(f"attribute {one.name} has rows of nodes that are not of its type, {one.node_type}")
        if len(one.edges) and one.edges.max() >= n_edges:
            raise ShapeError(f"attribute {one.name} names edge {one.edges.max()}; expected less than {n_edges}")


def _normal(shape: tuple[int, ...], random: torch.Generator, deviation: float) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, generator=random) * deviation)
