"""RelGNN: attention that knows the relation, attributes beside the graph, DistMult scores. Model and exact inference.

Attribute networks: `relgnn_attributes.py`; training: `relgnn_training.py`; negatives: `learning/samplers.py`.
Shape suffixes: see `models/shapes.py`, and F the bases.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from models.graph import KnowledgeGraph
from models.learning.epochs import load_parameters
from models.messages import additive_attention
from models.messages.additive_attention import SLOPE
from models.messages.meta_relations import MetaRelations
from models.relgnn_attributes import AttributeNetworks
from models.relgnn_hyperparameters import RelGNNHyperparameters

_CHUNK_MESSAGES = 1 << 19  # of inference: each may need a message of its own, D numbers


class RelGNNLayer(nn.Module):
    """One layer: Eq. 3 to 5, without the outer σ."""

    def __init__(self, n_codes: int, hyper: RelGNNHyperparameters, random: torch.Generator) -> None:
        super().__init__()
        d, bases = hyper.dimension, hyper.bases or n_codes
        self.attends = hyper.attends
        self.w_self, self.bases = _xavier((d, d), random), _xavier((bases, d, d), random)
        self.shares = _xavier((n_codes, bases), random) if hyper.bases else None
        names = ("a_self", "a_relation", "a_message") if hyper.attends else ()
        self.attention = nn.ParameterDict({name: _xavier((hyper.heads, d), random) for name in names})

    def forward(self, meta: MetaRelations, h_SD: torch.Tensor, h_VD: torch.Tensor, r_MD: torch.Tensor) -> torch.Tensor:
        """(V, D): what the destinations, whose vectors are h_VD, become. r_MD: the relations' states h_r."""
        own_VD, values_PD = h_VD @ self.w_self.T, self.messages(meta, h_SD)
        if not self.attends:
            return meta.adjacency.weighted_sum(values_PD, of_each_relation(meta, values_PD.dtype)) + own_VD
        queries_VH, keys_PH = self.scores(meta, own_VD, values_PD, r_MD)
        return additive_attention.attend(meta.adjacency, queries_VH, keys_PH, values_PD) + own_VD  # Eq. 5

    def weights(self, meta: MetaRelations, h_SD: torch.Tensor, h_VD: torch.Tensor, r_MD: torch.Tensor) -> torch.Tensor:
        """(E,): how much each message counts, mean of the heads."""
        if not self.attends:
            return of_each_relation(meta, h_SD.dtype)
        scores = self.scores(meta, h_VD @ self.w_self.T, self.messages(meta, h_SD), r_MD)
        return additive_attention.weights(meta.adjacency, *scores)

    def messages(self, meta: MetaRelations, h_SD: torch.Tensor) -> torch.Tensor:
        """W_r h_j (P, D) of every pair of a source and a code."""
        w_CDD = self.bases if self.shares is None else torch.einsum("cf,fde->cde", self.shares, self.bases)
        of_codes = h_SD.index_select(0, meta.sources).split(meta.counts)
        return torch.cat([h_XD @ w_DD.T for h_XD, w_DD in zip(of_codes, w_CDD, strict=True)])

    def scores(
        self, meta: MetaRelations, own_VD: torch.Tensor, values_PD: torch.Tensor, r_MD: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """a_e · [W_self h_i ‖ h_r ‖ W_r h_j] of Eq. 4 in two parts: the destination's (V, heads), the pair's (P,
        heads)."""
        a = self.attention
        of_codes = torch.repeat_interleave(torch.cat([r_MD, r_MD]) @ a["a_relation"].T, meta.n_pairs, dim=0)
        return own_VD @ a["a_self"].T, of_codes + values_PD @ a["a_message"].T


class RelGNN(nn.Module):
    """Relation-aware graph neural network for relationship prediction.

    Qin et al., "Relation-aware Graph Attention Model With Adaptive Self-adversarial Training", AAAI 2021, section 3.
    A message goes from j to i over an edge of relation r.

        h_i'      = σ(Σ_r Σ_j α(i,j) W_r h_j + W_self h_i)                          Eq. 3
        α(i,j)    = softmax over all j of all r of σ(a_e · [W_self h_i ‖ h_r ‖ W_r h_j])   Eq. 4
        h_i'      = σ(1/L Σ_l (Σ_r Σ_j α^l(i,j) W_r h_j + W_self h_i))              Eq. 5
        h_final   = α_attr h⁰ + α_graph h_last                                      Eq. 6
        α_attr    = softmax of σ(a_s · h⁰) against σ(a_s · h_last)                  Eq. 7
        d_r(i,j)  = h_iᵀ M_r h_j                                                    Eq. 9
        L         = Σ ℓ(+1, d_r(i,j)) + ℓ(−1, d_r(m,n))                             Eq. 8: `relgnn_training.py`

    | symbol      | name                                        | shape                              |
    |-------------|---------------------------------------------|------------------------------------|
    | h⁰          | `inputs(nodes)`                             | (nodes, D)                         |
    | h_j, h_i    | `h_SD`, `h_VD`                              | (sources, D), (destinations, D)    |
    | W_r         | Σ_f `layers[l].shares[r, f] bases[f]`       | (codes, D, D)                      |
    | W_self      | `layers[l].w_self`                          | (D, D)                             |
    | a_e^l       | `attention["a_self"]`, `["a_relation"]`, …  | (heads, D) each                    |
    | h_r, M_r    | `relations`, the diagonal                   | (relations, D)                     |
    | a_s         | `a_final`                                   | (heads, D)                         |

    How the paper is read, and where this departs from it
    - A relation and its reverse are two codes, each with its own W_r; both have the state h_r, of which there is one.
    - W_r carries no head in (5), so that all heads weigh one message: it is taken once, with the mean of their weights.
    - σ is LeakyReLU in (4) and (7), as the paper says of its experiments, and in (5) between layers; the last layer has
      none, or half of the numbers of a score would be next to nothing.
    - The softmax of (9) is over what is not said: the logistic function, as cross entropy (8) of ±1 has it. μ of (11)
      is in those probabilities.
    - h_r starts at ones, so that a score starts as a product. ComplEx (`scoring`) takes the first half of a vector as
      real parts, the second as imaginary ones, in M_r too.
    - Training drops numbers of a layer's input (`dropout`), of which the paper speaks not; without attention
      (`attends`) a message weighs 1 / the number of its relation's, and with `combines` off h_last is all: R-GCN.
    - A node without messages has W_self h_i alone.
    - Attribute networks know categories, of one value or several, and numbers. A text is its words, as a category of
      several values is, where the paper has a recurrent language model: titles and names have no grammar to speak of.
    - How many edges of a kind a node has may be an attribute too (`counts`): a mean over messages cannot tell it.

    What is published, and the native score. (9) is a product with a diagonal in the model's own axes, which a rotation
    R does not keep: (h_i R)ᵀ diag(m R) (h_j R) is another number. Published are the rows h R and m R, all under one R;
    R is orthogonal and stands in the manifest, so that (h R) Rᵀ is h again and (m R) Rᵀ is m, and whoever wants a score
    takes them back first (`models/vectors/comparison.py`, "diagonal"). Cosines and distances hold as published.
    """

    def __init__(
        self, inputs: AttributeNetworks, n_relations: int, hyper: RelGNNHyperparameters, random: torch.Generator
    ) -> None:
        """Xavier initialisation, drawn from `random` alone."""
        super().__init__()
        self.hyper, self.inputs = hyper, inputs
        self.layers = nn.ModuleList(RelGNNLayer(2 * n_relations, hyper, random) for _ in range(hyper.layers))
        self.relations = nn.Parameter(torch.ones(n_relations, hyper.dimension))
        if hyper.scoring == "complex":
            self.relations.data[:, hyper.dimension // 2 :] = torch.randn(
                n_relations, hyper.dimension // 2, generator=random) * 0.1  # fmt: skip
        self.a_final = _xavier((hyper.heads, hyper.dimension), random) if hyper.layers and hyper.combines else None

    def forward(
        self, layers: list[MetaRelations], nodes: np.ndarray, hidden: np.ndarray | None = None
    ) -> torch.Tensor:
        """h_final of the last layer's destinations, which are the first of `nodes`, the sources of the first layer.

        hidden: bool, of every edge of the graph whether its attribute is hidden.
        """
        h0_SD = h_SD = self.inputs(nodes, hidden)
        for number, meta in enumerate(layers):
            h_SD = self.layer(number, meta, h_SD, h_SD[: meta.n_destinations])
        return self.combined(h0_SD[: len(h_SD)], h_SD)

    def layer(self, number: int, meta: MetaRelations, h_SD: torch.Tensor, h_VD: torch.Tensor) -> torch.Tensor:
        """One layer's vectors (V, D)."""
        kept_SD = nn.functional.dropout(h_SD, self.hyper.dropout, self.training)
        own_VD = kept_SD[: len(h_VD)] if self.training else h_VD
        x_VD = self.layers[number](meta, kept_SD, own_VD, self.relations)
        return x_VD if number == len(self.layers) - 1 else nn.functional.leaky_relu(x_VD, SLOPE)

    def combined(self, h0_VD: torch.Tensor, h_VD: torch.Tensor) -> torch.Tensor:
        """h_final (V, D)."""
        if self.a_final is None:
            return h_VD
        attr_VH, graph_VH = (nn.functional.leaky_relu(x_VD @ self.a_final.T, SLOPE) for x_VD in (h0_VD, h_VD))
        share_V = torch.sigmoid(attr_VH - graph_VH).mean(dim=1, keepdim=True)  # Eq. 7, of two a softmax is this
        return share_V * h0_VD + (1 - share_V) * h_VD  # Eq. 6

    def queries(self, h_BD: torch.Tensor, relations_B: torch.Tensor, broken_tail: bool) -> torch.Tensor:
        """(B, D): what a score is the product of with the other end's vector; h_BD: of heads, where a tail is asked."""
        r_BD = self.relations.index_select(0, relations_B)
        return composed(h_BD, r_BD, broken_tail, self.hyper.scoring)


def composed(h_BD: torch.Tensor, r_BD: torch.Tensor, broken_tail: bool, scoring: str) -> torch.Tensor:
    """(B, D): q with d_r = q · the other end (Eq. 9)."""
    if scoring == "diagonal":
        return h_BD * r_BD  # Eq. 9
    (re, im), (r_re, r_im) = h_BD.chunk(2, dim=-1), r_BD.chunk(2, dim=-1)
    sign = 1 if broken_tail else -1  # a tail stands conjugated
    return torch.cat([re * r_re - sign * im * r_im, im * r_re + sign * re * r_im], dim=-1)


def of_each_relation(meta: MetaRelations, kind: torch.dtype) -> torch.Tensor:
    """(E,): 1 / the number of a destination's messages of the same code."""
    n_codes = len(meta.counts)
    code_of_pair = torch.repeat_interleave(meta.n_pairs)
    cells_E = meta.adjacency.destinations * n_codes + code_of_pair.index_select(0, meta.adjacency.sources)
    counts = torch.bincount(cells_E, minlength=meta.n_destinations * n_codes)
    return 1 / counts.index_select(0, cells_E).to(kind)


def engine_of(device: str) -> str:
    """What runs the attention on a device, see `models/messages/passing.py`."""
    return "numba" if torch.device(device).type == "cpu" else "torch"


def infer_relgnn(model: RelGNN, graph: KnowledgeGraph, parameters: Mapping[str, np.ndarray]) -> np.ndarray:
    """h_final (n, D) of all nodes, from all their messages, also of nodes that no training saw.

    ValueError for parameters of another shape of model.
    """
    load_parameters(model, parameters)
    return vectors_of(model, graph).cpu().numpy()


@torch.no_grad()
def vectors_of(model: RelGNN, graph: KnowledgeGraph, hidden: np.ndarray | None = None) -> torch.Tensor:
    """(n, D): the same of a model as it stands; hidden as `RelGNN.forward` takes it.

    Layer by layer in chunks of destination nodes: memory is that of a few tables of vectors and one chunk.
    """
    model.eval()
    device, chunk = model.relations.device, model.hyper.inference_chunk
    everyone = np.arange(graph.n_entities)
    h_ND = h0_ND = torch.cat([model.inputs(everyone[first : first + chunk], hidden) for first in everyone[::chunk]])
    for number in range(len(model.layers)):
        next_ND = torch.empty_like(h_ND)
        for first, last in graph.chunks(chunk, _CHUNK_MESSAGES):
            meta = MetaRelations.of(graph.into(first, last, device=device, engine=engine_of(str(device))))
            next_ND[first:last] = model.layer(number, meta, h_ND, h_ND[first:last])
        h_ND = next_ND
    return model.combined(h0_ND, h_ND)


def _xavier(shape: tuple[int, ...], random: torch.Generator) -> nn.Parameter:
    """Uniform with the variance 2 / (inputs + outputs) of Glorot and Bengio, for matrices in the last two axes."""
    return nn.Parameter(torch.empty(shape).uniform_(-1, 1, generator=random) * (6 / (shape[-1] + shape[-2])) ** 0.5)
