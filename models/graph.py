"""Knowledge graphs as messages, and neighbour sampling.

A `KnowledgeGraph` holds every edge (h, r, t) as two messages, h → t under code r and t → h under code M + r
("reversed"), sorted by destination. A `Messages` (`messages/passing.py`) is the part of it that one layer needs: all
messages into some destination nodes.

Shape suffixes: see `models/shapes.py`.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from models.messages.passing import Messages, dgl
from models.shapes import expect_indices


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
