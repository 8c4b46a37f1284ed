"""KQGC: graph convolution over the knowledge queries of a frozen TransE.

Model and exact inference; training: `kqgc_training.py`.
Shape suffixes: see `models/shapes.py`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from models.graph import KnowledgeGraph
from models.hyperparameters import KQGCHyperparameters
from models.learning.epochs import load_parameters
from models.messages.passing import Messages
from models.shapes import expect

LEAKY_SLOPE = 0.2  # Eq. 9 names none; GAT, which it follows, has 0.2
_VANISHING = 1e-6  # Σ e below this share of Σ |e| counts as nothing (Eq. 7 as printed)


class KQGC(nn.Module):
    """Knowledge Query-based Graph Convolution.

    Kikuta et al., "KQGC: Knowledge Graph Embedding with Smoothing Effects of Graph Convolutions for Recommendation",
    CIKM 2022, section 3.2. A message from u to v under relation r is the query that TransE would ask from u:

        Q(u,r,v) = h_u + h_r                                            Eq. 3, 4    (reversed relation: −h_r)
        m_v      = mean of Q(u,r,v) over all (u, r) with an edge to v   Eq. 5
        m_v      = Σ α(u,r,v) Q(u,r,v)                                  Eq. 6
        α(u,r,v) = softmax of e(u,r,v) over v's messages                Eq. 7 by default
        α(u,r,v) = e(u,r,v) / Σ e(k,r,v)                                Eq. 7 as printed, "ratio"
        e(u,r,v) = Q(u,r,v)ᵀ h_v                                        Eq. 8, attention1
        e(u,r,v) = LeakyReLU(aᵀ [Q(u,r,v) ‖ h_v])                       Eq. 9, attention2
        h_v'     = W (h_v + m_v) + b                                    Eq. 10
        r'       = W r + b                                              Eq. 11
        loss     = mean of [γ + f(U,I) − f(U,I')]₊                      Eq. 12
        f(U,I)   = ‖h_U + h_purchase − h_I‖, L1 or L2                   Eq. 13

    | symbol | name           | shape                                              |
    |--------|----------------|----------------------------------------------------|
    | h_u    | `h_SD`         | (sources, D), input of the layer                   |
    | h_v    | `h_VD`         | (destinations, D), input of the layer              |
    | h_r, r | `r_MD`, `r_CD` | (relations, D); (codes, D): r, then −r             |
    | m      | `m_VD`         | (destinations, D)                                  |
    | e, α   | `e_E`, `α_E`   | (messages,)                                        |
    | W      | `weights[l]`   | (D, D)                                             |
    | b      | `biases[l]`    | (D,); absent without `bias`                        |
    | a      | `attentions[l]`| (2D,); attention2 only                             |

    Departs from the paper
    - (7) is a softmax by default: the printed ratio has negative weights where a query points away from v, and a sum
      near 0 makes them huge. With "ratio", where the sum is nothing against its terms' sizes, the weights are those of
      the mean.
    - (6, 7) sum over the neighbours; between two nodes with several relations each relation is one message, as in (5).
    - The reversed relation is −r of the current layer; applying (11) to −r would give −Wr + b, which no longer undoes
      Wr + b.
    - b does not cancel in (13), since h_U + h_purchase − h_I holds it once; `bias=False` leaves it out.
    - (12) is a mean over pairs and negatives, so that the learning rate does not depend on the batch.
    - A node without neighbours has m = 0, of which the paper does not speak.
    - By default nothing is learned (W = 1, a = b = 0, so that attention2 is the mean), m is scaled by a power of its
      number of messages, and an edge that came more often passes more of them (`Night.graph`): what W learns from
      pairs costs other tasks more than smoothing gives them (docs/results.md). `learned=True` is the paper's.
    """

    def __init__(self, dimension: int, hyper: KQGCHyperparameters, seed: int = 0) -> None:
        """Xavier initialisation of W and a (section 4.2), b = 0, drawn from `seed` alone; with `learned` off W = 1."""
        super().__init__()
        self.hyper, self.dimension = hyper, dimension
        random = torch.Generator().manual_seed(seed)
        attended = hyper.aggregator == "attention2"
        self.weights = nn.ParameterList(nn.Parameter(torch.empty(dimension, dimension)) for _ in range(hyper.layers))
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(dimension)) for _ in range(hyper.layers * hyper.bias))
        attentions = (nn.Parameter(torch.empty(2 * dimension)) for _ in range(hyper.layers * attended))
        self.attentions = nn.ParameterList(attentions)
        if not hyper.learned:
            for values in (*self.weights, *self.attentions):
                nn.init.eye_(values) if values.dim() == 2 else nn.init.zeros_(values)
            return
        for weight in self.weights:
            nn.init.xavier_uniform_(weight, generator=random)
        for attention in self.attentions:
            nn.init.xavier_uniform_(attention.data.unsqueeze(0), generator=random)

    def forward(
        self, layers: list[Messages], h_SD: torch.Tensor, r_MD: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """All layers: (h of the last layer's destinations, r).

        Each layer's destinations are the first rows of its sources.
        """
        for number, messages in enumerate(layers):
            h_VD = h_SD[: messages.n_destinations]
            h_SD, r_MD = self.layer(number, messages, h_SD, h_VD, r_MD)
        return h_SD, r_MD

    def layer(
        self, number: int, messages: Messages, h_SD: torch.Tensor, h_VD: torch.Tensor, r_MD: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One layer: (h' of the destinations, r')."""
        weight, bias = self.weights[number], self.biases[number] if self.hyper.bias else None
        m_VD = self.message(number, messages, h_SD, h_VD, r_MD)
        if self.hyper.share:
            m_VD = m_VD * messages.degrees.to(m_VD.dtype).pow(self.hyper.share).unsqueeze(-1)
        h_VD = nn.functional.linear(h_VD + m_VD, weight, bias)  # Eq. 10
        return h_VD, nn.functional.linear(r_MD, weight, bias)  # Eq. 11

    def message(
        self, number: int, messages: Messages, h_SD: torch.Tensor, h_VD: torch.Tensor, r_MD: torch.Tensor
    ) -> torch.Tensor:
        """m (destinations, D) of one layer: the weighted sum of queries, without ever forming a query."""
        r_CD = torch.cat([r_MD, -r_MD])  # the reversed relation, section 3.2
        if self.hyper.aggregator == "mean":
            degrees_V = messages.degrees.clamp(min=1).to(h_SD.dtype)
            sums_VD = messages.from_nodes.weighted_sum(h_SD) + messages.from_relations.weighted_sum(r_CD)
            return sums_VD / degrees_V.unsqueeze(-1)  # Eq. 5
        α_E = self.attention(messages, self.affinity(number, messages, h_SD, h_VD, r_CD))
        return messages.from_nodes.weighted_sum(h_SD, α_E) + messages.from_relations.weighted_sum(r_CD, α_E)  # Eq. 6

    def affinity(
        self, number: int, messages: Messages, h_SD: torch.Tensor, h_VD: torch.Tensor, r_CD: torch.Tensor
    ) -> torch.Tensor:
        """e (messages,): Q · h_v, or LeakyReLU(a · [Q ‖ h_v])."""
        if self.hyper.aggregator == "attention1":
            return messages.from_nodes.dot(h_SD, h_VD) + messages.from_relations.dot(r_CD, h_VD)  # Eq. 8
        of_query, of_destination = self.attentions[number].split(self.dimension)
        of_query_VD = of_query.expand(h_VD.shape).contiguous()
        query_E = messages.from_nodes.dot(h_SD, of_query_VD) + messages.from_relations.dot(r_CD, of_query_VD)
        own_E = (h_VD @ of_destination).index_select(0, messages.from_nodes.destinations)
        return nn.functional.leaky_relu(query_E + own_E, LEAKY_SLOPE)  # Eq. 9

    def attention(self, messages: Messages, e_E: torch.Tensor) -> torch.Tensor:
        """α (messages,) from e (Eq. 7)."""
        into = messages.from_nodes
        if self.hyper.attention_normalisation == "softmax":
            return into.softmax(e_E)
        total_V = into.total(e_E)
        vanishes_V = total_V.abs() <= _VANISHING * into.total(e_E.abs())
        safe_V = torch.where(vanishes_V, torch.ones_like(total_V), total_V)
        ratio_E = e_E / safe_V.index_select(0, into.destinations)  # Eq. 7
        mean_V = 1 / messages.degrees.clamp(min=1).to(e_E.dtype)
        vanishes_E = vanishes_V.index_select(0, into.destinations)
        return torch.where(vanishes_E, mean_V.index_select(0, into.destinations), ratio_E)

    def score(self, h_UD: torch.Tensor, purchase_D: torch.Tensor, h_ID: torch.Tensor) -> torch.Tensor:
        """f(U, I) over the last axis: a distance, smaller is closer."""
        difference = h_UD + purchase_D - h_ID
        if self.hyper.norm == "l2":
            return torch.linalg.vector_norm(difference, dim=-1)  # Eq. 13
        return difference.abs().sum(dim=-1)  # Eq. 13; torch's vector_norm takes ten times as long for order 1

    def losses(self, positive_B: torch.Tensor, negative_BK: torch.Tensor) -> torch.Tensor:
        """(B, K): the terms of Eq. 12, from scores of pairs and of their negatives."""
        return torch.relu(self.hyper.margin + positive_B.unsqueeze(-1) - negative_BK)  # Eq. 12


@torch.no_grad()
def infer_kqgc(
    graph: KnowledgeGraph,
    entities: np.ndarray,
    relations: np.ndarray,
    parameters: dict[str, np.ndarray],
    hyper: KQGCHyperparameters,
    *,
    known: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of all entities and relations from full neighbourhoods: float32 (n, d) and (m, d).

    Layer by layer in chunks of destination nodes, so that memory is that of two tables of vectors. known: bool (n,),
    False where TransE has no vector (that row of `entities` is not read): such a node starts from `inductive_entities`,
    which is of a unit-normed TransE's kind.
    """
    check_vectors(graph, entities, relations)
    if known is not None:
        entities, _ = inductive_entities(graph, entities, relations, known)
    model = KQGC(entities.shape[1], hyper).to(hyper.device)
    if hyper.learned:  # else a predecessor's may have come, from when it was
        load_parameters(model, parameters)
    h_ND, r_MD = (torch.tensor(values, device=hyper.device) for values in (entities, relations))
    for number in range(hyper.layers):
        out_ND, r_next_MD = torch.empty_like(h_ND), r_MD
        for first, last in graph.chunks(hyper.inference_chunk):
            messages = graph.into(first, last, device=hyper.device)
            out_ND[first:last], r_next_MD = model.layer(number, messages, h_ND, h_ND[first:last], r_MD)
        h_ND, r_MD = out_ND, r_next_MD
    return h_ND.cpu().numpy(), r_MD.cpu().numpy()


def inductive_entities(
    graph: KnowledgeGraph, entities: np.ndarray, relations: np.ndarray, known: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """h⁰ for nodes that TransE was not trained on: the unit-normed mean of their known neighbours' queries.

    For a new user who bought i that is i − r: where TransE would have put the user. Nodes with unknown neighbours only
    are filled from those, once these have a vector. Returns (entities with the rows of unknown nodes filled, bool (n,):
    has a vector); a node that no known one reaches gets zeros.
    """
    expect("known", known, (graph.n_entities,), "bool")
    h_ND = torch.from_numpy(np.where(known[:, None], entities, np.float32(0)))
    r_CD = torch.from_numpy(np.concatenate([relations, -relations]))
    resolved = known.copy()
    waiting = np.flatnonzero(~resolved)
    while waiting.size:
        messages = graph.into_nodes(waiting, resolved)
        sums_VD = messages.from_nodes.weighted_sum(h_ND) + messages.from_relations.weighted_sum(r_CD)
        lengths_V = torch.linalg.vector_norm(sums_VD, dim=1)  # of the sum: the mean has the same direction
        reached = (lengths_V > 0).numpy()
        if not reached.any():
            break
        h_ND[torch.from_numpy(waiting[reached])] = nn.functional.normalize(sums_VD[torch.from_numpy(reached)])
        resolved[waiting[reached]] = True
        waiting = waiting[~reached]
    return h_ND.numpy(), resolved


def check_vectors(graph: KnowledgeGraph, entities: np.ndarray, relations: np.ndarray) -> None:
    """Raise ShapeError unless every entity and relation has a vector, all of one length."""
    expect("entities", entities, (graph.n_entities, None), "float32")
    expect("relations", relations, (graph.n_relations, entities.shape[1]), "float32")
