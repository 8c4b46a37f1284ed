"""The messages of one layer, and DGL's message passing: the only import of DGL in the project.

`Messages` shows the same messages as from nodes and as from relation codes, so that a sum over queries
h_source + h_relation is the sum of two fused products and no (messages × dimension) array is ever made.

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

import dataclasses
import functools
import os
import warnings

import torch

from models.messages.adjacency import Adjacency

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
