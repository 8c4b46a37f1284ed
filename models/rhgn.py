"""RHGN: attention per meta relation over a heterogeneous graph, for user profiles.

Model and exact inference; training: `rhgn_training.py`.
Shape suffixes: see `models/shapes.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from models.graph import KnowledgeGraph
from models.hyperparameters import RHGNHyperparameters
from models.learning.epochs import load_parameters
from models.learning.initialisation import keyed_vectors
from models.messages.attention_table import AttentionTable, heaviest
from models.messages.meta_relations import MetaRelations
from models.rhgn_classifiers import classes_of
from models.shapes import ShapeError, expect, expect_indices

MISSING = -1  # the label of a user who has none
_CHUNK_MESSAGES = 1 << 19  # of inference: each may need a key and a message of its own, 2 · width numbers


class TypedLinear(nn.Module):
    """x Wᵀ + b with a W and a b for each node type, or one for all (`n_types` 1).

    weight (T, outputs, inputs), bias (T, outputs).
    """

    def __init__(self, n_types: int, inputs: int, outputs: int, random: torch.Generator, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(_xavier((n_types, outputs, inputs), random))
        self.bias = nn.Parameter(torch.zeros(n_types, outputs)) if bias else None

    def forward(self, x_SD: torch.Tensor, types_S: torch.Tensor) -> torch.Tensor:
        biases = [None] * len(self.weight) if self.bias is None else list(self.bias)
        if len(biases) == 1:
            return nn.functional.linear(x_SD, self.weight[0], biases[0])
        order_S = torch.argsort(types_S, stable=True)
        parts = x_SD.index_select(0, order_S).split(torch.bincount(types_S, minlength=len(biases)).tolist())
        y_SD = torch.cat([nn.functional.linear(*part) for part in zip(parts, self.weight, biases, strict=True)])
        rows_S = torch.arange(len(order_S), device=order_S.device)
        return y_SD.index_select(0, torch.empty_like(order_S).index_copy(0, order_S, rows_S))


class RHGNLayer(nn.Module):
    """One layer: Eq. 1 to 3."""

    def __init__(self, n_types: int, n_codes: int, hyper: RHGNHyperparameters, random: torch.Generator) -> None:
        super().__init__()
        self.heads, self.dropout, width = hyper.heads, hyper.dropout, hyper.width
        types = n_types if hyper.typed_projections else 1
        # within one relation the key's bias cancels
        self.key = TypedLinear(types, width, width, random, bias=hyper.softmax_over == "all")
        self.query, self.message, self.map = (TypedLinear(types, width, width, random) for _ in range(3))
        square = (n_codes, hyper.heads, width // hyper.heads, width // hyper.heads)
        self.w_att, self.w_msg = nn.Parameter(_xavier(square, random)), nn.Parameter(_xavier(square, random))

    def forward(
        self,
        meta: MetaRelations,
        h_SD: torch.Tensor,
        h_VD: torch.Tensor,
        types_V: torch.Tensor,
        code_types_C: torch.Tensor,
    ) -> torch.Tensor:
        """H of the next layer for the destinations."""
        queries_VD = self.query(h_VD, types_V).to(h_VD.dtype)
        sums_VD = meta.attend(queries_VD, self.keys_and_messages(meta, h_SD, code_types_C), self.heads)
        mapped_VD = self.map(nn.functional.gelu(sums_VD), types_V).to(h_VD.dtype)
        return nn.functional.dropout(mapped_VD, self.dropout, self.training) + h_VD  # Eq. 3

    def keys_and_messages(self, meta: MetaRelations, h_SD: torch.Tensor, code_types_C: torch.Tensor) -> torch.Tensor:
        """(P, 2 D): K W_ATT and M W_MSG of every pair of a source and a meta relation, by one product for each code."""
        maps = ((self.key, self.w_att), (self.message, self.w_msg))  # Eq. 2, Eq. 1
        folded = [self._folded(linear, w_CHWX, code_types_C) for linear, w_CHWX in maps]
        weights_CDY, biases_CY = (torch.cat(halves, dim=-1) for halves in zip(*folded, strict=True))
        of_codes = h_SD.index_select(0, meta.sources).split(meta.counts)
        parts = [torch.addmm(*of_code) for of_code in zip(biases_CY, of_codes, weights_CDY, strict=True)]
        return torch.cat(parts).to(h_SD.dtype)

    def _folded(
        self, linear: TypedLinear, w_CHWX: torch.Tensor, code_types_C: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(x F) W_φ of all heads as one map for each code: (C, D, D) and (C, D)."""
        n_codes, heads, width, _ = w_CHWX.shape
        types = code_types_C if len(linear.weight) > 1 else torch.zeros_like(code_types_C)
        f_CHWD = linear.weight.index_select(0, types).view(n_codes, heads, width, -1)
        if linear.bias is None:
            b_CHW = linear.weight.new_zeros(n_codes, heads, width)
        else:
            b_CHW = linear.bias.index_select(0, types).view(n_codes, heads, width)
        weight_CDHX = torch.einsum("chwd,chwx->cdhx", f_CHWD, w_CHWX)
        return weight_CDHX.flatten(2), torch.einsum("chw,chwx->chx", b_CHW, w_CHWX).flatten(1)

    def attention(
        self,
        meta: MetaRelations,
        h_SD: torch.Tensor,
        h_VD: torch.Tensor,
        types_V: torch.Tensor,
        code_types_C: torch.Tensor,
    ) -> torch.Tensor:
        """α (E, heads) of each message, in the order of `meta.message`."""
        keys_PD = self.keys_and_messages(meta, h_SD, code_types_C)[:, : h_SD.shape[1]].contiguous()
        return meta.attention(self.query(h_VD, types_V).to(h_VD.dtype), keys_PD, self.heads)


class RHGN(nn.Module):
    """Relation-aware Heterogeneous Graph Network.

    Yan et al., "Relation-aware Heterogeneous Graph for User Profiling", CIKM 2021, section 2. A message goes from s to
    t over an edge e; φ(e) stands for the meta relation ⟨τ(s), φ(e), τ(t)⟩; i is one of h heads.

        M(s,e,t)  = ‖_i F_M^i(H[s]) W_MSG_φ(e)                                     Eq. 1
        α(s,e,t)  = softmax over all s ∈ N(t) of ‖_i K^i(s) W_ATT_φ(e) Q^i(t)ᵀ/√d   Eq. 2
        K^i(s)    = F_K^i(H[s]),  Q^i(t) = F_Q^i(H[t])
        H'[t]     = F_map(σ(Ĥ[t])) + H[t],  Ĥ[t] = Σ_s α(s,e,t) · M(s,e,t)         Eq. 3
        L         = −Σ_t Σ_p Y_tp log Z_tp,  Z = softmax(F_out(H^L[t]))            Eq. 4

    | symbol        | name                              | shape                                    |
    |---------------|-----------------------------------|------------------------------------------|
    | H[s], H[t]    | `h_SD`, `h_VD`                    | (sources, D), (destinations, D)          |
    | F_K, F_M      | `layers[l].key`, `.message`       | (D, D), all heads side by side; (D,) bias |
    | F_Q, F_map    | `layers[l].query`, `.map`         | the same                                 |
    | W_ATT, W_MSG  | `layers[l].w_att`, `.w_msg`       | (codes, heads, W, W)                     |
    | d             | W, the width of a head            |                                          |
    | K W_ATT, M    | halves of `keys_and_messages`     | (pairs, 2 D)                             |
    | F_out         | `classifiers[j]`, one per label   | (classes of j, D)                        |

    How the paper is read, and where this departs from it
    - A relation and its reverse are two meta relations (codes), each with its own W; each head has its own W too.
    - d is a head's width, since it smooths a product of two heads; the softmax is taken head by head.
    - (2) runs over all neighbours of all relations together. `softmax_over="relation"`, as the authors' code does it,
      takes a softmax in each relation and the mean over the relations that a node has, so that its weights sum to 1 as
      well; F_K then has no bias.
    - The F are not typed in the paper's formulas, and need not be: W_ATT and W_MSG hold the types. `typed_projections`
      gives each node type its own F_K, F_Q, F_M and F_map, as in HGT. The F have biases.
    - H⁰ is a linear map per node type of the given vectors (`project_inputs`), whose kinds (TransE, FastText, random)
      share no space.
    - (4) is divided by the number of users in the batch, so that the learning rate does not depend on it. Several
      labels add up; a label that a user lacks adds nothing. `class_weights` lets every class weigh the same, for rare
      ones that should be named too.
    - Beside (4) training can take a second loss, of the behaviours (`behavior_weight`, off; `rhgn_behaviors.py`).
    - A node without neighbours has Ĥ = 0, of which the paper does not speak.
    - Training drops numbers of F_map's output in (3), a share of 0.2 by default (`dropout`); the paper speaks of none.
    - Between two nodes with several relations each relation is one message.
    """

    def __init__(
        self,
        inputs: int,
        n_types: int,
        code_types: Sequence[int] | np.ndarray,
        n_classes: Sequence[int],
        hyper: RHGNHyperparameters,
        seed: int = 0,
    ) -> None:
        """Xavier initialisation, biases 0, drawn from `seed` alone.

        inputs: length of the given vectors. code_types: int (codes,), the node type of each code's sources. n_classes:
        of each label.
        """
        super().__init__()
        if not hyper.project_inputs and inputs != hyper.width:
            found = f"the given vectors are {inputs} long, width is {hyper.width}"
            raise ShapeError(f"{found}; expected equal numbers, or project_inputs: true")
        self.hyper, self.n_classes, random = hyper, list(n_classes), torch.Generator().manual_seed(seed)
        self.register_buffer("code_types", torch.as_tensor(np.asarray(code_types, np.int64)), persistent=False)
        self.input = TypedLinear(n_types, inputs, hyper.width, random) if hyper.project_inputs else None
        self.layers = nn.ModuleList(RHGNLayer(n_types, len(code_types), hyper, random) for _ in range(hyper.layers))
        self.classifiers = nn.ModuleList(nn.Linear(hyper.width, classes, device="meta") for classes in n_classes)
        for classifier in self.classifiers:
            classifier.weight = nn.Parameter(_xavier(tuple(classifier.weight.shape), random))
            classifier.bias = nn.Parameter(torch.zeros(classifier.bias.shape))

    def project(self, x_SD: torch.Tensor, types_S: torch.Tensor) -> torch.Tensor:
        """H⁰ of some nodes."""
        return x_SD if self.input is None else self.input(x_SD, types_S).to(x_SD.dtype)

    def forward(self, layers: list[MetaRelations], x_SD: torch.Tensor, types_S: torch.Tensor) -> torch.Tensor:
        """H^L of the last layer's destinations. Each layer's destinations are the first rows of its sources."""
        h_SD = self.project(x_SD, types_S)
        for layer, meta in zip(self.layers, layers, strict=True):
            n = meta.n_destinations
            h_SD = layer(meta, h_SD, h_SD[:n], types_S[:n], self.code_types)
        return h_SD

    def logits(self, h_BD: torch.Tensor) -> list[torch.Tensor]:
        """F_out(H^L) for each label: (users, classes)."""
        return [classifier(h_BD).to(h_BD.dtype) for classifier in self.classifiers]

    def loss(
        self, logits: list[torch.Tensor], labels_BJ: torch.Tensor, weights: Sequence[torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Eq. 4, summed over labels and divided by the number of users.

        weights: of each label's classes, (classes,); None: 1 each.
        """
        of_labels = zip(logits, labels_BJ.unbind(1), weights or [None] * len(logits), strict=True)
        terms = [
            nn.functional.cross_entropy(logits_BP, labels_B, weight, ignore_index=MISSING, reduction="sum")
            for logits_BP, labels_B, weight in of_labels
        ]
        return torch.stack(terms).sum() / len(labels_BJ)  # Eq. 4


def _xavier(shape: tuple[int, ...], random: torch.Generator) -> torch.Tensor:
    """Uniform with the variance 2 / (inputs + outputs) of Glorot and Bengio, for matrices in the last two axes."""
    return torch.empty(shape).uniform_(-1, 1, generator=random) * (6 / (shape[-1] + shape[-2])) ** 0.5


def infer_rhgn(
    graph: KnowledgeGraph,
    node_types: np.ndarray,
    features: np.ndarray,
    parameters: Mapping[str, np.ndarray],
    hyper: RHGNHyperparameters,
    *,
    attention_of: np.ndarray | None = None,
    attention_rows: int | np.ndarray = 20,
) -> tuple[np.ndarray, AttentionTable]:
    """(H^L of all nodes from full neighbourhoods, float32 (n, width); who the nodes `attention_of` listen to).

    Layer by layer in chunks of destination nodes, so that memory is that of two tables of vectors and one chunk.
    node_types, features, parameters: as `train_rhgn` takes and gives them. attention_of: int64 nodes. attention_rows:
    at most, for all of them, or int64 (n,) for each node.
    Raises ShapeError for arrays that do not fit each other, ValueError for parameters of another shape of model.
    """
    n_types, is_typed = types_of(parameters), hyper.project_inputs or hyper.typed_projections
    check_nodes(graph, node_types, features, n_types if is_typed else None)
    wanted = np.zeros(graph.n_entities, bool)
    if attention_of is not None:
        expect_indices("attention_of", attention_of, graph.n_entities, "entities")
        wanted[attention_of] = True
    if isinstance(attention_rows, np.ndarray):
        expect("attention_rows", attention_rows, (graph.n_entities,), "int64")
    most = np.broadcast_to(attention_rows, graph.n_entities)
    shape = (features.shape[1], n_types, code_types(graph, node_types), classes_of(parameters))
    model = RHGN(*shape, hyper).to(hyper.device)
    load_parameters(model, parameters)
    model.eval()
    tables: list[AttentionTable] = []
    with torch.no_grad(), precision(hyper):
        types = torch.tensor(node_types, device=hyper.device)
        h_ND = torch.empty(graph.n_entities, hyper.width, device=hyper.device)
        for first in range(0, graph.n_entities, hyper.inference_chunk):
            chunk = slice(first, first + hyper.inference_chunk)
            h_ND[chunk] = model.project(torch.tensor(features[chunk], device=hyper.device), types[chunk])
        for layer in model.layers:
            out_ND, is_last = torch.empty_like(h_ND), layer is model.layers[-1]
            for first, last in graph.chunks(hyper.inference_chunk, _CHUNK_MESSAGES):
                messages = graph.into(first, last, device=hyper.device, engine=engine_of(hyper.device))
                meta = MetaRelations.of(messages, hyper.softmax_over == "relation")
                given = (meta, h_ND, h_ND[first:last], types[first:last], model.code_types)
                out_ND[first:last] = layer(*given)
                if is_last and wanted[first:last].any():
                    α_E = layer.attention(*given).mean(dim=1).cpu().numpy()
                    tables.append(heaviest(messages, meta.message.cpu().numpy(), α_E, first, wanted, most))
            h_ND = out_ND
    return h_ND.cpu().numpy(), AttentionTable.joined(tables)


def filled_features(features: np.ndarray, keys: np.ndarray, seed: int) -> np.ndarray:
    """A copy with random vectors, of length 1 on average, in the rows that hold a NaN.

    keys: uint64 (n,), from type and raw id of a node.
    """
    none = np.isnan(features).any(axis=1)
    filled = features.copy()
    filled[none] = keyed_vectors(keys[none], features.shape[1], seed, (3 / features.shape[1]) ** 0.5)
    return filled


def code_types(graph: KnowledgeGraph, node_types: np.ndarray) -> np.ndarray:
    """int64 (codes,): the node type of each code's sources; 0 where a code has no message, and none asks."""
    types = np.zeros(graph.n_codes, np.int64)
    types[graph.codes.numpy()] = node_types[graph.sources.numpy()]
    return types


def types_of(parameters: Mapping[str, np.ndarray]) -> int:
    """How many node types a model knows apart."""
    return len(parameters["input.weight"] if "input.weight" in parameters else parameters["layers.0.query.weight"])


def engine_of(device: str) -> str:
    """What runs the attention on a device, see `models/messages/passing.py`."""
    return "numba" if torch.device(device).type == "cpu" else "torch"


def precision(hyper: RHGNHyperparameters) -> contextlib.AbstractContextManager[object]:
    """Within, matrix products are in bfloat16 where the device is a GPU and `mixed_precision` is on."""
    device = torch.device(hyper.device).type
    return torch.autocast(device, torch.bfloat16, enabled=hyper.mixed_precision and device == "cuda")


def check_nodes(
    graph: KnowledgeGraph, node_types: np.ndarray, features: np.ndarray, n_types: int | None = None
) -> None:
    """Raise ShapeError unless every node has a type, below `n_types`, and a finite vector."""
    expect("node_types", node_types, (graph.n_entities,), "int64")
    expect_indices("node_types", node_types, n_types or np.iinfo(np.int64).max, "node types")
    expect("features", features, (graph.n_entities, None), "float32")
    if not np.isfinite(features).all():
        expected = "fill the rows without a vector by `filled_features`"
        raise ShapeError(f"features has numbers that are not finite; {expected}")
