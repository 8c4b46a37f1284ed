"""Knowledge graphs as messages, neighbour sampling, and the message-passing primitives. The only import of DGL in the project.

A `KnowledgeGraph` holds every edge (h, r, t) as two messages, h → t under code r and t → h under code M + r ("reversed"), sorted by
destination. A `Messages` is the part of it that one layer needs: all messages into some destination nodes. It shows the same
messages as two `Adjacency` objects, one whose sources are nodes and one whose sources are relation codes, so that a sum over
queries h_source + h_relation is the sum of two fused products and no (messages × dimension) array is ever made.

The primitives of `Adjacency` exist in three ways, and tests hold their values and gradients equal:
- "torch": built on `embedding_bag`, which is a fused gather, weighting and sum on every device. The default, since on a CPU it is
  several times faster than DGL's kernels (50,000 messages, 64 numbers each, weighted sum: 0.15 against 3.4 ms).
- "dgl": DGL's fused CPU kernels (its wheel has no CUDA).
- "dense": for few sources, such as the relations: products with a small matrix.
A fourth, "numba", is "torch" with multi-head attention as one compiled kernel (CPU only): 4 times as fast as DGL's three.

Shape suffixes: see `models/shapes.py`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from models.messages.attention import FusedAttention, Shift, split_heads
from models.shapes import expect_indices

os.environ.setdefault("DGLBACKEND", "pytorch")  # else the import prints and writes a file into the home folder
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import dgl

ENGINES = ("torch", "dgl", "numba")
FEW_SOURCES = 64  # up to as many, a (destinations × sources) matrix is small and one product with it is fastest


@dataclasses.dataclass(frozen=True)
class Adjacency:
    """Messages into V destinations from S sources, sorted by destination.

    offsets: int64 (V + 1,), destination v receives the messages offsets[v] to offsets[v + 1].
    sources: int64 (E,) in [0, n_sources).
    """

    offsets: torch.Tensor
    sources: torch.Tensor
    n_sources: int
    engine: str

    @property
    def n_destinations(self) -> int:
        return self.offsets.numel() - 1

    @functools.cached_property
    def degrees(self) -> torch.Tensor:
        """int64 (V,): messages into each destination."""
        return self.offsets[1:] - self.offsets[:-1]

    @functools.cached_property
    def destinations(self) -> torch.Tensor:
        """int64 (E,): the destination of each message, ascending."""
        rows = torch.arange(self.n_destinations, device=self.offsets.device)
        return torch.repeat_interleave(rows, self.degrees, output_size=self.sources.numel())

    @functools.cached_property
    def _block(self) -> dgl.DGLGraph:
        no_edge_ids = torch.empty(0, dtype=torch.int64)  # DGL: message e is the e-th of the list
        columns = ("csc", (self.offsets, self.sources, no_edge_ids))
        return dgl.create_block(columns, num_src_nodes=self.n_sources, num_dst_nodes=self.n_destinations)

    @functools.cached_property
    def _cells(self) -> torch.Tensor:
        """int64 (E,): the cell of each message in a flat (V, S) matrix."""
        return self.destinations * self.n_sources + self.sources

    def dot(self, x_SD: torch.Tensor, y_VD: torch.Tensor) -> torch.Tensor:
        """(E,): the inner product of each message's source and destination vectors."""
        if self.engine == "dense":
            return (y_VD @ x_SD.T).flatten().index_select(0, self._cells)
        if self.engine == "dgl":
            return dgl.ops.u_dot_v(self._block, x_SD, y_VD).squeeze(-1)
        return _Dot.apply(self, x_SD, y_VD)

    def total(self, x_E: torch.Tensor) -> torch.Tensor:
        """(V,): the sum of a number per message over each destination's messages; 0 without messages."""
        # in any engine: DGL's copy_e_sum demands explicit edge ids here ("Check notnull: edges"), and this costs as little
        return x_E.new_zeros(self.n_destinations).index_add(0, self.destinations, x_E)

    def softmax(self, x_E: torch.Tensor) -> torch.Tensor:
        """(E,): softmax over each destination's messages."""
        if self.engine == "dgl":
            return dgl.ops.edge_softmax(self._block, x_E.unsqueeze(-1)).squeeze(-1)
        lowest = x_E.new_full((self.n_destinations,), -torch.inf)
        highest_V = lowest.scatter_reduce(0, self.destinations, x_E.detach(), "amax")  # a constant: softmax is invariant to shifts
        exponentials_E = torch.exp(x_E - highest_V.index_select(0, self.destinations))
        return exponentials_E / self.total(exponentials_E).index_select(0, self.destinations)

    def weighted_sum(self, x_SD: torch.Tensor, weights_E: torch.Tensor | None = None) -> torch.Tensor:
        """(V, D): Σ weight · source vector over each destination's messages (weight 1 when None); 0 without messages."""
        if self.engine == "dense":
            ones_or_weights_E = x_SD.new_ones(self.sources.numel()) if weights_E is None else weights_E
            cells = x_SD.new_zeros(self.n_destinations * self.n_sources).index_add(0, self._cells, ones_or_weights_E)
            return cells.view(self.n_destinations, self.n_sources) @ x_SD
        if self.engine == "dgl":
            if weights_E is None:
                return dgl.ops.copy_u_sum(self._block, x_SD)
            return dgl.ops.u_mul_e_sum(self._block, x_SD, weights_E.unsqueeze(-1))
        return nn.functional.embedding_bag(
            self.sources, x_SD, self.offsets, mode="sum", per_sample_weights=weights_E, include_last_offset=True
        )

    def attend(self, queries_VD: torch.Tensor, pairs_SY: torch.Tensor, heads: int, shift: Shift | None = None) -> torch.Tensor:
        """(V, D): each destination's mean of its sources' values, weighted by `attention`, head by head; 0 without messages.

        pairs_SY: a source's key and its value side by side, so that one gather fetches both. D is heads · width of a head.
        """
        if self.engine == "numba":
            return FusedAttention.apply(self.offsets, self.sources, queries_VD, pairs_SY, heads, shift)
        keys_SD, values_SD = (half.contiguous() for half in pairs_SY.chunk(2, dim=1))
        α_EH, values_SHW = self.attention(queries_VD, keys_SD, heads, shift), values_SD.view(self.n_sources, heads, -1)
        if self.engine == "dgl":
            return dgl.ops.u_mul_e_sum(self._block, values_SHW, α_EH.unsqueeze(-1)).flatten(1)
        by_head, order = self._by_head(heads)
        return by_head.weighted_sum(values_SHW.flatten(0, 1), α_EH.flatten().index_select(0, order)).view(self.n_destinations, -1)

    def attention(self, queries_VD: torch.Tensor, keys_SD: torch.Tensor, heads: int, shift: Shift | None = None) -> torch.Tensor:
        """(E, heads): softmax over each destination's messages of query · key / √(width of a head), plus the shift."""
        width = queries_VD.shape[1] // heads
        shifts_E = queries_VD.new_zeros(1) if shift is None else shift.of(self.destinations, self.sources)
        queries_VHW, keys_SHW = queries_VD.reshape(-1, heads, width) / width**0.5, keys_SD.reshape(-1, heads, width)
        if self.engine == "dgl":
            return dgl.ops.edge_softmax(self._block, dgl.ops.u_dot_v(self._block, keys_SHW, queries_VHW).squeeze(-1) + shifts_E.unsqueeze(-1))
        by_head, order = self._by_head(heads)
        shifts = shifts_E if shift is None else shifts_E.index_select(0, order // heads)
        α = by_head.softmax(by_head.dot(keys_SHW.flatten(0, 1), queries_VHW.flatten(0, 1)) + shifts)
        return torch.empty_like(α).index_copy(0, order, α).view(-1, heads)

    def _by_head(self, heads: int) -> tuple[Adjacency, torch.Tensor]:
        """Every node as one node for each head, and the place in a flat (E, heads) of each of the E · heads messages."""
        offsets, sources, order = split_heads(self.offsets, self.sources, heads)
        return Adjacency(offsets, sources, self.n_sources * heads, "torch"), order


class _Dot(torch.autograd.Function):
    """Inner products along messages without an (E, D) array: they are the gradient of a weighted sum with respect to its weights."""

    @staticmethod
    def forward(ctx: Any, adjacency: Adjacency, x_SD: torch.Tensor, y_VD: torch.Tensor) -> torch.Tensor:
        ctx.adjacency = adjacency
        ctx.save_for_backward(x_SD, y_VD)
        with torch.enable_grad():
            weights_E = x_SD.new_ones(adjacency.sources.numel(), requires_grad=True)
            sums_VD = adjacency.weighted_sum(x_SD.detach(), weights_E)
            return torch.autograd.grad(sums_VD, weights_E, y_VD)[0]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient_E: torch.Tensor) -> tuple[None, torch.Tensor | None, torch.Tensor | None]:
        (x_SD, y_VD), adjacency = ctx.saved_tensors, ctx.adjacency
        of_x_SD = None
        if ctx.needs_input_grad[1]:
            with torch.enable_grad():
                leaf_SD = x_SD.detach().requires_grad_()
                sums_VD = adjacency.weighted_sum(leaf_SD, gradient_E)
                of_x_SD = torch.autograd.grad(sums_VD, leaf_SD, y_VD)[0]
        return None, of_x_SD, adjacency.weighted_sum(x_SD, gradient_E) if ctx.needs_input_grad[2] else None


@dataclasses.dataclass(frozen=True)
class Messages:
    """The messages into V destination nodes, seen from their source nodes and from their relation codes."""

    from_nodes: Adjacency
    from_relations: Adjacency

    @property
    def n_destinations(self) -> int:
        return self.from_nodes.n_destinations

    @property
    def degrees(self) -> torch.Tensor:
        return self.from_nodes.degrees

    @classmethod
    def build(
        cls, offsets: torch.Tensor, sources: torch.Tensor, codes: torch.Tensor, n_sources: int, n_codes: int, engine: str
    ) -> Messages:
        """From int64 offsets (V + 1,), sources (E,) in [0, n_sources) and codes (E,) in [0, n_codes)."""
        if engine not in ENGINES:
            raise ValueError(f"engine is {engine!r}; expected one of {', '.join(ENGINES)}")
        of_codes = "dense" if n_codes <= FEW_SOURCES else engine
        return cls(Adjacency(offsets, sources, n_sources, engine), Adjacency(offsets, codes, n_codes, of_codes))

    def to(self, device: str | torch.device) -> Messages:
        """The same messages on another device."""
        nodes, codes = self.from_nodes, self.from_relations
        tensors = (values.to(device) for values in (nodes.offsets, nodes.sources, codes.sources))
        return Messages.build(*tensors, nodes.n_sources, codes.n_sources, nodes.engine)


class KnowledgeGraph:
    """Edges (head, relation, tail) over one dense index of entities, each passing a message in both directions.

    heads, relations, tails: int64 (edges,). Equal edges given twice pass two messages. The order of the edges decides the order of
    messages and so the random draws: give them ordered by raw id, never by ledger id (DESIGN section 2).
    Raises ShapeError for indices out of range.
    """

    def __init__(
        self, heads: np.ndarray, relations: np.ndarray, tails: np.ndarray, *, n_entities: int, n_relations: int
    ) -> None:
        for name, ends in (("heads", heads), ("tails", tails)):
            expect_indices(name, ends, n_entities, "entities")
        expect_indices("relations", relations, n_relations, "relations")
        if not heads.size == relations.size == tails.size:
            raise ValueError(f"{heads.size} heads, {relations.size} relations, {tails.size} tails; expected equally many")
        self.n_entities, self.n_relations, self.n_edges = n_entities, n_relations, heads.size
        destinations = np.concatenate([tails, heads])
        order = np.argsort(destinations, kind="stable")
        self.offsets = _offsets(np.bincount(destinations, minlength=n_entities))
        self.sources = torch.from_numpy(np.concatenate([heads, tails])[order])
        self.codes = torch.from_numpy(np.concatenate([relations, relations + n_relations])[order])
        self.edge_of_message = torch.from_numpy(order % max(heads.size, 1))
        self._edges = (heads, relations, tails)

    @property
    def n_codes(self) -> int:
        return 2 * self.n_relations

    @functools.cached_property
    def _edges_by_key(self) -> tuple[np.ndarray, np.ndarray]:
        """(keys ascending, the edge of each): a key is the edge (h, r, t) as one number."""
        keys = self._key(*self._edges)
        order = np.argsort(keys, kind="stable")
        return keys[order], order

    def _key(self, heads: np.ndarray, relation: np.ndarray | int, tails: np.ndarray) -> np.ndarray:
        return (heads * self.n_relations + relation) * self.n_entities + tails

    def edges_of(self, heads: np.ndarray, relation: int, tails: np.ndarray) -> np.ndarray:
        """int64: positions of the edges (head, relation, tail) that exist, ordered by key; pairs without an edge give none."""
        keys, edges = self._edges_by_key
        wanted = np.unique(self._key(heads, relation, tails))
        first, last = np.searchsorted(keys, wanted, "left"), np.searchsorted(keys, wanted, "right")
        return edges[_ranges(first, last)]

    def into(self, first: int, last: int, *, device: str | torch.device = "cpu", engine: str = "torch") -> Messages:
        """All messages into the nodes first to last - 1. Sources are indices into the whole graph; nothing is copied on the CPU."""
        begin, end = int(self.offsets[first]), int(self.offsets[last])
        offsets = (self.offsets[first : last + 1] - begin).to(device)
        sources, codes = self.sources[begin:end].to(device), self.codes[begin:end].to(device)
        return Messages.build(offsets, sources, codes, self.n_entities, self.n_codes, engine)

    def into_nodes(self, nodes: np.ndarray, passing: np.ndarray) -> Messages:
        """Messages into any `nodes` (int64), from those sources alone where `passing` (bool, one per entity) is true; on the CPU."""
        begins, ends = self.offsets.numpy()[nodes], self.offsets.numpy()[nodes + 1]
        positions = _ranges(begins, ends)
        destinations = np.repeat(np.arange(nodes.size), ends - begins)
        kept = passing[self.sources.numpy()[positions]]
        counts = np.bincount(destinations[kept], minlength=nodes.size)
        chosen = torch.from_numpy(positions[kept])
        return Messages.build(_offsets(counts), self.sources[chosen], self.codes[chosen], self.n_entities, self.n_codes, "torch")

    def chunks(self, max_nodes: int, max_messages: int = 1 << 20) -> Iterator[tuple[int, int]]:
        """Cut the nodes into ranges (first, last) of bounded size; a single node may exceed `max_messages`."""
        offsets = self.offsets.numpy()
        first = 0
        while first < self.n_entities:
            within = int(np.searchsorted(offsets, offsets[first] + max_messages, "right")) - 1
            last = min(max(within, first + 1), first + max_nodes, self.n_entities)
            yield first, last
            first = last

    def sampler(self, fanout: int, seed: int, **options: Any) -> NeighbourSampler:
        """A sampler of at most `fanout` messages into each node; `options` are those of `NeighbourSampler`."""
        return NeighbourSampler(self, fanout, seed, **options)


class NeighbourSampler:
    """Draws at most `fanout` messages into each node without replacement (DGL, on the CPU): uniformly over all relations, or, with
    `per_relation`, as many of each relation and direction, so that a frequent relation does not crowd out a rare one.

    With several threads DGL's draws differ from run to run even when seeded, so `deterministic` samples in one thread.
    """

    def __init__(
        self, graph: KnowledgeGraph, fanout: int, seed: int, *, deterministic: bool = False, per_relation: bool = False, engine: str = "torch"
    ) -> None:
        if fanout < 1:
            raise ValueError(f"fanout is {fanout}; expected at least 1 neighbour")
        self.graph, self.fanout, self._deterministic, self._engine = graph, fanout, deterministic, engine
        self.restart(seed)
        self._message_of_edge, dgl_edge_of_message = None, torch.empty(0, dtype=torch.int64)
        if per_relation:  # DGL wants its edges numbered by relation
            codes = graph.codes.numpy()
            self._message_of_edge = torch.from_numpy(np.argsort(codes, kind="stable"))
            dgl_edge_of_message = torch.empty_like(graph.codes)
            dgl_edge_of_message[self._message_of_edge] = torch.arange(codes.size)
            self._code_offsets = _offsets(np.bincount(codes, minlength=graph.n_codes)).tolist()
            cells = np.repeat(np.arange(graph.n_entities), graph.offsets.diff().numpy()) * graph.n_codes + codes
            cells, self._count_of_cell = np.unique(cells, return_counts=True)  # of (node, code): at most one for each message, where a whole table may be far more
            self._code_of_cell, self._cell_offsets = cells % graph.n_codes, np.searchsorted(cells, np.arange(graph.n_entities + 1) * graph.n_codes)
        columns = ("csc", (graph.offsets, graph.sources, dgl_edge_of_message))
        self._dgl_graph = dgl.graph(columns, num_nodes=graph.n_entities)
        self._position = torch.empty(graph.n_entities, dtype=torch.int64)
        self._wanted = torch.zeros(graph.n_entities, dtype=torch.bool)
        self._hidden = torch.zeros(max(graph.n_edges, 1), dtype=torch.bool)

    def counts(self, nodes: torch.Tensor) -> torch.Tensor:
        """int64 (nodes, codes): the messages there are into each node under each code, drawn or not; of a sampler `per_relation`."""
        begins, ends = self._cell_offsets[nodes.numpy()], self._cell_offsets[nodes.numpy() + 1]
        cells, found = _ranges(begins, ends), np.zeros((len(nodes), self.graph.n_codes), np.int64)
        found[np.repeat(np.arange(len(nodes)), ends - begins), self._code_of_cell[cells]] = self._count_of_cell[cells]
        return torch.from_numpy(found)

    def restart(self, seed: int | list[int]) -> None:
        """Draw from here on what a new sampler with this seed would draw."""
        self._seeds = np.random.default_rng(seed)

    def sample(
        self, nodes: torch.Tensor, n_layers: int, hidden_edges: np.ndarray | None = None
    ) -> tuple[torch.Tensor, list[Messages]]:
        """Messages for `n_layers` layers that end at `nodes` (int64, ascending, unique), and the nodes whose vectors they start from.

        The destinations of each layer are the first of its sources, in order. `hidden_edges`: edges that pass no message.
        """
        hidden = torch.from_numpy(np.asarray([] if hidden_edges is None else hidden_edges, dtype=np.int64))
        self._any_hidden = hidden.numel() > 0
        self._hidden[hidden] = True
        with _one_thread() if self._deterministic else contextlib.nullcontext():
            # Within: DGL adds a thread's number to the seed, and threads are numbered as they first come. Alone, this one is always the first.
            dgl.seed(int(self._seeds.integers(2**31)))
            layers: list[Messages] = []
            for _ in range(n_layers):
                nodes, messages = self._one_layer(nodes)
                layers.insert(0, messages)
        self._hidden[hidden] = False
        return nodes, layers

    def _one_layer(self, nodes: torch.Tensor) -> tuple[torch.Tensor, Messages]:
        graph = self.graph
        messages, destinations = self._draw(nodes)
        if self._any_hidden:
            passing = ~self._hidden.index_select(0, graph.edge_of_message.index_select(0, messages))
            messages, destinations = messages[passing], destinations[passing]
        sources = graph.sources.index_select(0, messages)
        self._wanted.index_fill_(0, sources, True).index_fill_(0, nodes, False)
        more = torch.nonzero(self._wanted).squeeze(-1)
        self._wanted.index_fill_(0, more, False)
        all_nodes = torch.cat([nodes, more])
        self._position[all_nodes] = torch.arange(all_nodes.numel())
        rows = self._position.index_select(0, destinations)
        order = torch.argsort(rows, stable=True)  # DGL does not promise the order of what it draws
        offsets = _offsets(np.bincount(rows.numpy(), minlength=nodes.numel()))
        local_sources = self._position.index_select(0, sources.index_select(0, order))
        codes = graph.codes.index_select(0, messages.index_select(0, order))
        return all_nodes, Messages.build(offsets, local_sources, codes, all_nodes.numel(), graph.n_codes, self._engine)

    def _draw(self, nodes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(messages drawn, their destinations), in DGL's order."""
        if self._message_of_edge is None:
            drawn = dgl.sampling.sample_neighbors(self._dgl_graph, nodes, self.fanout)
            return drawn.edata[dgl.EID], drawn.edges()[1]
        fanouts = torch.full((self.graph.n_codes,), self.fanout)
        drawn = dgl.sampling.sample_etype_neighbors(self._dgl_graph, nodes, self._code_offsets, fanouts, copy_ndata=False)
        return self._message_of_edge.index_select(0, drawn.edata[dgl.EID]), drawn.edges()[1]


def _offsets(counts: np.ndarray) -> torch.Tensor:
    """int64 (V + 1,): where each destination's messages begin and end, from how many it has."""
    return torch.from_numpy(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


def _ranges(begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """int64: begins[0] to ends[0] - 1, then begins[1] to ends[1] - 1, and so on."""
    counts = ends - begins
    return np.repeat(begins - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """One thread within: torch and DGL share one setting."""
    threads = dgl.utils.get_num_threads()
    dgl.utils.set_num_threads(1)
    try:
        yield
    finally:
        dgl.utils.set_num_threads(threads)
