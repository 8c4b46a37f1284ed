"""Messages as the meta relations of RHGN: what depends on a source and a relation is worked out once for all hearers.

A node's key and message under a relation code are the same towards every destination. So the unique (code, source)
pairs of some messages become the sources of an `Adjacency`, one table of keys and values is computed for them, code by
code, and attention runs over the edges with no array of (messages x dimension).

Shape suffixes: see `models/shapes.py`.
"""

from __future__ import annotations

import dataclasses

import torch

from models.messages.adjacency import Adjacency
from models.messages.attention import Shift
from models.messages.passing import Messages, adjacency_of

_CELLS_EACH = 8  # cells of a table for each message up to which a table beats a sort


@dataclasses.dataclass(frozen=True)
class MetaRelations:
    """The messages into V destinations, from P pairs.

    sources: int64 (P,), each pair's source node; pairs are sorted by code. counts: pairs of each code, (codes,).
    adjacency: from pairs into destinations, or, per relation, into groups: a destination's messages of one code.
    groups: from groups into destinations, None unless per relation. message: int64 (E,), what each message of
    `adjacency` is in the `Messages` it was made of. stands_for: None, or of a sample how much is added to a message's
    score, see `of`.
    """

    sources: torch.Tensor
    counts: list[int]
    adjacency: Adjacency
    groups: Adjacency | None
    message: torch.Tensor
    stands_for: Shift | None = None

    @property
    def n_pairs(self) -> torch.Tensor:
        """int64 (codes,): `counts` on the pairs' device."""
        return torch.tensor(self.counts, device=self.sources.device)

    @property
    def n_destinations(self) -> int:
        return (self.adjacency if self.groups is None else self.groups).n_destinations

    @classmethod
    def of(cls, messages: Messages, per_relation: bool = False, counts_VC: torch.Tensor | None = None) -> MetaRelations:
        """Find the pairs, and with `per_relation` the groups.

        counts_VC: (V, codes), for messages that are a sample per relation, how many there are of each. Where k of n
        were drawn, each stands for n / k: log(n / k) is added to its score, so that a softmax over all relations gives
        each its share of the whole neighbourhood, as exact inference does. Within one relation it would cancel.
        """
        nodes, codes = messages.from_nodes, messages.from_relations.sources
        n_codes, n_nodes = messages.from_relations.n_sources, nodes.n_sources
        keys, pair_of_message = _unique(codes * n_nodes + nodes.sources, n_codes * n_nodes)
        counts = torch.bincount(torch.div(keys, n_nodes, rounding_mode="floor"), minlength=n_codes).tolist()
        message = torch.arange(codes.numel(), device=codes.device)
        offsets, groups = nodes.offsets, None
        if per_relation:
            ordered, message = torch.sort(nodes.destinations * n_codes + codes, stable=True)
            group_keys, sizes = torch.unique_consecutive(ordered, return_counts=True)
            offsets = torch.cat([offsets[:1], torch.cumsum(sizes, 0)])
            of_destination = torch.div(group_keys, n_codes, rounding_mode="floor")
            starts = torch.searchsorted(of_destination, torch.arange(nodes.n_destinations + 1, device=codes.device))
            everyone = torch.arange(group_keys.numel(), device=codes.device)
            groups = adjacency_of(starts, everyone, group_keys.numel(), nodes.engine)
            pair_of_message = pair_of_message.index_select(0, message)
        shift = None
        if counts_VC is not None and not per_relation:
            shift = _stands_for(messages, counts_VC, torch.tensor(counts, device=keys.device))
        into = adjacency_of(offsets, pair_of_message, keys.numel(), nodes.engine)
        return cls(keys % n_nodes, counts, into, groups, message, shift)

    def attend(self, queries_VD: torch.Tensor, pairs_PY: torch.Tensor, heads: int) -> torch.Tensor:
        """(V, D): the attention-weighted mean of the pairs' values.

        Per relation, the mean over a destination's relations of those.
        """
        if self.groups is None:
            return self.adjacency.attend(queries_VD, pairs_PY, heads, self.stands_for)
        queries_GD = queries_VD.index_select(0, self.groups.destinations)
        sums_VD = self.groups.weighted_sum(self.adjacency.attend(queries_GD, pairs_PY, heads))
        return sums_VD / self.groups.degrees.clamp(min=1).unsqueeze(-1)

    def attention(self, queries_VD: torch.Tensor, keys_PD: torch.Tensor, heads: int) -> torch.Tensor:
        """(E, heads): the weight of each message, which sum to 1 over a destination's; in the order of `message`."""
        if self.groups is None:
            return self.adjacency.attention(queries_VD, keys_PD, heads, self.stands_for)
        of_group = self.groups.destinations
        α_EH = self.adjacency.attention(queries_VD.index_select(0, of_group), keys_PD, heads)
        shares_G = 1 / self.groups.degrees.index_select(0, of_group).to(α_EH.dtype)
        return α_EH * shares_G.index_select(0, self.adjacency.destinations).unsqueeze(-1)


def _stands_for(messages: Messages, counts_VC: torch.Tensor, pairs_of_code_C: torch.Tensor) -> Shift:
    nodes, codes = messages.from_nodes, messages.from_relations
    n_cells = nodes.n_destinations * codes.n_sources
    cell_of_message = nodes.destinations * codes.n_sources + codes.sources
    drawn_VC = torch.bincount(cell_of_message, minlength=n_cells).view(-1, codes.n_sources)
    return Shift(torch.log(counts_VC.clamp(min=1) / drawn_VC.clamp(min=1)), torch.repeat_interleave(pairs_of_code_C))


def _unique(keys: torch.Tensor, below: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(the distinct keys in [0, below), ascending; the place of each key among them)."""
    if below > _CELLS_EACH * keys.numel():
        return torch.unique(keys, return_inverse=True)
    # a sort takes twice to four times as long
    seen = torch.zeros(below, dtype=torch.bool, device=keys.device).index_fill_(0, keys, True)
    distinct = torch.nonzero(seen).squeeze(-1)
    places = torch.empty(below, dtype=torch.int64, device=keys.device)
    places[distinct] = torch.arange(distinct.numel(), device=keys.device)
    return distinct, places.index_select(0, keys)
