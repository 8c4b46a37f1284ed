"""Knowledge graphs as messages, neighbour sampling, and DGL's message passing: the only import of DGL in the project.

A `KnowledgeGraph` holds every edge (h, r, t) as two messages, h → t under code r and t → h under code M + r
("reversed"), sorted by destination. A `Messages` is the part of it that one layer needs: all messages into some
destination nodes. It shows the same messages as two `Adjacency` objects, one whose sources are nodes and one whose
sources are relation codes, so that a sum over queries h_source + h_relation is the sum of two fused products and no
(messages × dimension) array is ever made.

The primitives of `Adjacency` exist in three ways, and tests hold their values and gradients equal:
- "torch": built on `embedding_bag`, which is a fused gather, weighting and sum on every device. The default, since on a
  CPU it is several times faster than DGL's kernels (weighted sum of 50,000 messages, 64 numbers each: 0.15 against
  3.4 ms).
- "dgl": DGL's fused CPU kernels (its wheel has no CUDA).
- "dense": for few sources, such as the relations: products with a small matrix.
A fourth, "numba", is "torch" with multi-head attention as one compiled kernel (CPU only): 4 times as fast as DGL's
three.

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

from models.messages.adjacency import Adjacency
from models.shapes import expect_indices

os.environ.setdefault("DGLBACKEND", "pytorch")  # else the import prints and writes a file into the home folder
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import dgl

ENGINES = ("torch", "dgl", "numba")
FEW_SOURCES = 64  # up to as many, a (destinations × sources) matrix is small and one product with it is fastest


class _DGLAdjacency(Adjacency):
    """The same on DGL's fused kernels, on the CPU alone.

    `total` stays torch's: DGL's copy_e_sum demands explicit edge ids here ("Check notnull: edges"), and torch's costs
    as little.
    """

    @functools.cached_property
    def _block(self) -> dgl.DGLGraph:
        no_edge_ids = torch.empty(0, dtype=torch.int64)  # DGL: message e is the e-th of the list
        columns = ("csc", (self.offsets, self.sources, no_edge_ids))
        return dgl.create_block(columns, num_src_nodes=self.n_sources, num_dst_nodes=self.n_destinations)

    def dot(self, x_SD: torch.Tensor, y_VD: torch.Tensor) -> torch.Tensor:
        return dgl.ops.u_dot_v(self._block, x_SD, y_VD).squeeze(-1)

    def softmax(self, x_E: torch.Tensor) -> torch.Tensor:
        return dgl.ops.edge_softmax(self._block, x_E.unsqueeze(-1)).squeeze(-1)

    def weighted_sum(self, x_SD: torch.Tensor, weights_E: torch.Tensor | None = None) -> torch.Tensor:
        if weights_E is None:
            return dgl.ops.copy_u_sum(self._block, x_SD)
        return dgl.ops.u_mul_e_sum(self._block, x_SD, weights_E.unsqueeze(-1))

    def _softmax_by_head(
        self, queries_VHW: torch.Tensor, keys_SHW: torch.Tensor, shifts_E: torch.Tensor | None
    ) -> torch.Tensor:
        scores_EH = dgl.ops.u_dot_v(self._block, keys_SHW, queries_VHW).squeeze(-1)
        if shifts_E is not None:
            scores_EH = scores_EH + shifts_E.unsqueeze(-1)
        return dgl.ops.edge_softmax(self._block, scores_EH)

    def _sum_by_head(self, values_SHW: torch.Tensor, α_EH: torch.Tensor) -> torch.Tensor:
        return dgl.ops.u_mul_e_sum(self._block, values_SHW, α_EH.unsqueeze(-1)).flatten(1)


def adjacency_of(offsets: torch.Tensor, sources: torch.Tensor, n_sources: int, engine: str) -> Adjacency:
    """An `Adjacency` whose primitives run on one of ENGINES, or on "dense"."""
    kind = _DGLAdjacency if engine == "dgl" else Adjacency
    return kind(offsets, sources, n_sources, engine)


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
        cls,
        offsets: torch.Tensor,
        sources: torch.Tensor,
        codes: torch.Tensor,
        n_sources: int,
        n_codes: int,
        engine: str,
    ) -> Messages:
        """From int64 offsets (V + 1,), sources (E,) in [0, n_sources) and codes (E,) in [0, n_codes)."""
        if engine not in ENGINES:
            raise ValueError(f"engine is {engine!r}; expected one of {', '.join(ENGINES)}")
        of_codes = "dense" if n_codes <= FEW_SOURCES else engine
        return cls(adjacency_of(offsets, sources, n_sources, engine), adjacency_of(offsets, codes, n_codes, of_codes))

    def to(self, device: str | torch.device) -> Messages:
        """The same messages on another device."""
        nodes, codes = self.from_nodes, self.from_relations
        tensors = (values.to(device) for values in (nodes.offsets, nodes.sources, codes.sources))
        return Messages.build(*tensors, nodes.n_sources, codes.n_sources, nodes.engine)


class KnowledgeGraph:
    """Edges (head, relation, tail) over one dense index of entities, each passing a message in both directions.

    heads, relations, tails: int64 (edges,). Equal edges given twice pass two messages. The order of the edges decides
    the order of messages and so the random draws: give them ordered by raw id, never by ledger id (DESIGN section 2).
    Raises ShapeError for indices out of range.
    """

    def __init__(
        self, heads: np.ndarray, relations: np.ndarray, tails: np.ndarray, *, n_entities: int, n_relations: int
    ) -> None:
        for name, ends in (("heads", heads), ("tails", tails)):
            expect_indices(name, ends, n_entities, "entities")
        expect_indices("relations", relations, n_relations, "relations")
        if not heads.size == relations.size == tails.size:
            raise ValueError(
                f"{heads.size} heads, {relations.size} relations, {tails.size} tails; expected equally many"
            )
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
        """int64: positions of the edges (head, relation, tail) that exist, ordered by key.

        Pairs without an edge give none.
        """
        keys, edges = self._edges_by_key
        wanted = np.unique(self._key(heads, relation, tails))
        first, last = np.searchsorted(keys, wanted, "left"), np.searchsorted(keys, wanted, "right")
        return edges[ranges(first, last)]

    def into(self, first: int, last: int, *, device: str | torch.device = "cpu", engine: str = "torch") -> Messages:
        """All messages into the nodes first to last - 1.

        Sources are indices into the whole graph; nothing is copied on the CPU.
        """
        begin, end = int(self.offsets[first]), int(self.offsets[last])
        offsets = (self.offsets[first : last + 1] - begin).to(device)
        sources, codes = self.sources[begin:end].to(device), self.codes[begin:end].to(device)
        return Messages.build(offsets, sources, codes, self.n_entities, self.n_codes, engine)

    def into_nodes(self, nodes: np.ndarray, passing: np.ndarray) -> Messages:
        """Messages into any `nodes` (int64), on the CPU.

        From those sources alone where `passing` (bool, one per entity) is true.
        """
        begins, ends = self.offsets.numpy()[nodes], self.offsets.numpy()[nodes + 1]
        positions = ranges(begins, ends)
        destinations = np.repeat(np.arange(nodes.size), ends - begins)
        kept = passing[self.sources.numpy()[positions]]
        counts = np.bincount(destinations[kept], minlength=nodes.size)
        chosen = torch.from_numpy(positions[kept])
        sources, codes = self.sources[chosen], self.codes[chosen]
        return Messages.build(_offsets(counts), sources, codes, self.n_entities, self.n_codes, "torch")

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
    """Draws at most `fanout` messages into each node without replacement (DGL, on the CPU).

    Uniformly over all relations, or, with `per_relation`, as many of each relation and direction, so that a frequent
    relation does not crowd out a rare one.
    With several threads DGL's draws differ from run to run even when seeded, so `deterministic` samples in one thread.
    """

    def __init__(
        self,
        graph: KnowledgeGraph,
        fanout: int,
        seed: int,
        *,
        deterministic: bool = False,
        per_relation: bool = False,
        engine: str = "torch",
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
            # of (node, code): at most one for each message, where a whole table may be far more
            cells, self._count_of_cell = np.unique(cells, return_counts=True)
            self._code_of_cell = cells % graph.n_codes
            self._cell_offsets = np.searchsorted(cells, np.arange(graph.n_entities + 1) * graph.n_codes)
        columns = ("csc", (graph.offsets, graph.sources, dgl_edge_of_message))
        self._dgl_graph = dgl.graph(columns, num_nodes=graph.n_entities)
        self._position = torch.empty(graph.n_entities, dtype=torch.int64)
        self._wanted = torch.zeros(graph.n_entities, dtype=torch.bool)
        self._hidden = torch.zeros(max(graph.n_edges, 1), dtype=torch.bool)

    def counts(self, nodes: torch.Tensor) -> torch.Tensor:
        """int64 (nodes, codes): the messages there are into each node under each code, drawn or not.

        Of a sampler `per_relation`.
        """
        begins, ends = self._cell_offsets[nodes.numpy()], self._cell_offsets[nodes.numpy() + 1]
        cells, found = ranges(begins, ends), np.zeros((len(nodes), self.graph.n_codes), np.int64)
        found[np.repeat(np.arange(len(nodes)), ends - begins), self._code_of_cell[cells]] = self._count_of_cell[cells]
        return torch.from_numpy(found)

    def restart(self, seed: int | list[int]) -> None:
        """Draw from here on what a new sampler with this seed would draw."""
        self._seeds = np.random.default_rng(seed)

    def sample(
        self, nodes: torch.Tensor, n_layers: int, hidden_edges: np.ndarray | None = None
    ) -> tuple[torch.Tensor, list[Messages]]:
        """(The nodes whose vectors they start from; messages for `n_layers` layers that end at `nodes`).

        nodes: int64, ascending, unique. The destinations of each layer are the first of its sources, in order.
        hidden_edges: edges that pass no message.
        """
        hidden = torch.from_numpy(np.asarray([] if hidden_edges is None else hidden_edges, dtype=np.int64))
        self._any_hidden = hidden.numel() > 0
        self._hidden[hidden] = True
        with _one_thread() if self._deterministic else contextlib.nullcontext():
            # Within: DGL adds a thread's number to the seed, and threads are numbered as they first come. Alone, this
            # one is always the first.
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
        order = _stable_order(rows, nodes.numel())  # DGL does not promise the order of what it draws
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
        drawn = dgl.sampling.sample_etype_neighbors(
            self._dgl_graph, nodes, self._code_offsets, fanouts, copy_ndata=False
        )
        return self._message_of_edge.index_select(0, drawn.edata[dgl.EID]), drawn.edges()[1]


def _stable_order(rows: torch.Tensor, below: int) -> torch.Tensor:
    """int64: what sorts rows (int64 in [0, below)), equal ones as they come; few rows by a radix sort, which numpy has
    for numbers of 16 bits alone, in a fifth of the time."""
    if below > 1 << 16:
        return torch.argsort(rows, stable=True)
    return torch.from_numpy(np.argsort(rows.numpy().astype(np.uint16), kind="stable"))


def _offsets(counts: np.ndarray) -> torch.Tensor:
    """int64 (V + 1,): where each destination's messages begin and end, from how many it has."""
    return torch.from_numpy(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


def ranges(begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
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
