"""HUGT: a user's history as a sequence and a graph at once. Model and exact inference.

User graphs: `hugt_graph.py`; attention: `messages/history_attention.py`; training: `hugt_training.py`.
Shape suffixes: see `models/shapes.py`, and here

    U  users (histories) of a batch      N  their events, one after the other
    T  events of the longest history     I  items
    H  heads, each W wide                L  kinds of a learned bias
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn.functional import dropout

from models.hugt_graph import Histories, HUGs
from models.hugt_hyperparameters import HUGTHyperparameters
from models.learning.epochs import load_parameters
from models.messages.history_attention import hear_all, hear_neighbours
from models.relgnn import engine_of
from models.shapes import expect_indices


class SelfAttentionBlock(nn.Module):
    """Eq. 3: generalised self-attention of both kinds of heads (Eq. 1 and 4), then the layer of Eq. 2."""

    def __init__(self, hyper: HUGTHyperparameters, layer: int, max_length: int, random: torch.Generator) -> None:
        super().__init__()
        self.hyper, self.sequence_heads = hyper, hyper.sequence_heads_of(layer)
        d, of_heads = hyper.width, hyper.heads * hyper.numbers_of_head
        graph_heads = hyper.heads - self.sequence_heads
        self.w_qkv, self.w_o = _xavier((3 * of_heads, d), random), _xavier((d, of_heads), random)
        self.w1, self.w2 = _xavier((d, d), random), _xavier((d, d), random)
        self.b1, self.b2 = nn.Parameter(torch.zeros(d)), nn.Parameter(torch.zeros(d))
        self.norm_attention, self.norm_mlp = nn.LayerNorm(d), nn.LayerNorm(d)
        # by how long ago, 0 being the event itself, and by the length of the path
        self.psi = nn.Parameter(torch.zeros(self.sequence_heads, max_length)) if self.sequence_heads else None
        has_paths = graph_heads and hyper.variant == "se"
        self.phi = nn.Parameter(torch.zeros(graph_heads, hyper.longest_path + 1)) if has_paths else None

    def forward(self, x_ND: torch.Tensor, hugs: HUGs, engine: str, last_only: bool = False) -> torch.Tensor:
        """(N, D); last_only: (U, D), of each user's last event alone."""
        heard_NO = self.attention(self.norm_attention(x_ND), hugs, engine, last_only) @ self.w_o.T  # Eq. 4
        own_ND = x_ND[_last_rows(hugs, x_ND.device)] if last_only else x_ND
        x_ND = own_ND + self._dropped(heard_NO)
        inner_ND = torch.relu(torch.addmm(self.b1, self.norm_mlp(x_ND), self.w1.T))
        return x_ND + self._dropped(torch.addmm(self.b2, inner_ND, self.w2.T))  # Eq. 2

    def attention(self, x_ND: torch.Tensor, hugs: HUGs, engine: str, last_only: bool = False) -> torch.Tensor:
        """(N, H · W): what each head hears (Eq. 1), side by side."""
        shape = (3, self.hyper.heads, self.hyper.numbers_of_head)
        q_NHW, *kv = (x_ND @ self.w_qkv.T).unflatten(1, shape).unbind(1)
        if last_only:
            q_NHW = q_NHW[_last_rows(hugs, x_ND.device)]
        heads, split = [], self.sequence_heads
        if split:
            of_sequence = tuple(x[:, :split] for x in (q_NHW, *kv))
            heads.append(hear_all(hugs, engine, of_sequence, self.psi, paths=False, last_only=last_only))
        if split < self.hyper.heads:
            of_graph = tuple(x[:, split:] for x in (q_NHW, *kv))
            if self.phi is None:
                heads.append(hear_neighbours(hugs, engine, of_graph, last_only=last_only))
            else:
                heads.append(hear_all(hugs, engine, of_graph, self.phi, paths=True, last_only=last_only))
        return torch.cat(heads, dim=1).flatten(1)

    def _dropped(self, x: torch.Tensor) -> torch.Tensor:
        return dropout(x, self.hyper.dropout, self.training) if self.training and self.hyper.dropout else x


class HUGT(nn.Module):
    """Heterogeneous User Graph Transformer.

    "Heterogeneous User Graph Transformers: users as sequences and graphs" (`papers/hugt.txt`), sections 3 and 4. A user
    is the graph of his events: sequential edges keep their order, collaborative edges lead from an event to its k
    nearest predecessors by the cosine of their items' vectors, a truncated SVD of who touched what.

        GSA(h_i) = Σ_{j ∈ N(i)} softmax_j(π_ij) v_j,   π_ij = q_iᵀ k_j / √d                  Eq. 1
        MLP(h_i) = W₂ ReLU(W₁ h_i + b₁) + b₂                                                Eq. 2
        h_i^(l+1) = MLP(GSA(h_i^(l)))                                                       Eq. 3
        sequence heads: N(i) all up to i, π_ij + ψ(i, j);   HUGT-MP: N(i) the collaborative edges of i;
        HUGT-SE: N(i) all up to i, π_ij + ϕ(s_ij), s_ij the shortest path, at most S         section 4.3, 4.4
        h = W_o Concat(h¹, …, h^m)                                                          Eq. 4
        ŷ_ui = w_iᵀ h_u + b_i                                                               Eq. 5
        L = −Σ log softmax of ŷ over the candidates                                         Eq. 6: `hugt_loss.py`

    | symbol        | name                                          | shape                          |
    |---------------|-----------------------------------------------|--------------------------------|
    | E, w_i        | `items`, one table (tied)                     | (I, D)                         |
    | b_i           | `biases`                                      | (I,)                           |
    | W_q, W_k, W_v | `blocks[l].w_qkv`, one below the other        | (3 · H · W, D)                 |
    | W_o           | `blocks[l].w_o`                               | (D, H · W)                     |
    | W₁, b₁, W₂, b₂ | `blocks[l].w1`, `.b1`, `.w2`, `.b2`          | (D, D), (D,)                   |
    | ψ, ϕ          | `blocks[l].psi`, `.phi`                       | (heads, max_length), (heads, S + 1) |
    | N(i) ∩ E_sim  | `HUGs.neighbours`                             | (N, k)                         |
    | s_ij          | `HUGs.codes`                                  | a byte for each pair (i, j ≤ i) |
    | h_u           | `last_states`                                 | (U, D)                         |

    How the paper is read, and where this departs from it
    - N(i) of sequence heads holds i itself: the next item is asked for, not this one. "Predecessors t_j ≤ t_i" hold i
      too, so that an event is its own nearest, whatever its cosine; equally near ones: the latest first.
    - ψ of two positions is a learned number of their difference, a head's own in each block, and so is ϕ of a length.
    - d of 1/√d is a head's width. Heads are width / m wide, so that W_o is square; `head_width` = width is Eq. 4's.
    - Layer normalisation stands before each part, residual connections around it, one more normalisation at the end;
      the input is √width · e_i, of unit size. Training drops numbers of both (`dropout`).
    - Paths lead along collaborative edges in either direction, among the events up to i alone: later ones would give
      away what comes. `arrangement`: the blocks of table 3's G–S and S–G together are as many as those of the others.
    - A user without an event has the state 0: his scores are the biases.

    What is published: (h_u, 1) for users, (w_i, b_i) for items, so that a product is a score (Eq. 5).
    """

    def __init__(
        self, n_items: int, max_length: int, hyper: HUGTHyperparameters, random: torch.Generator
    ) -> None:
        """Drawn from `random` alone."""
        super().__init__()
        self.hyper, self.max_length = hyper, max_length
        self.items = nn.Parameter(torch.randn((n_items, hyper.width), generator=random) * hyper.width**-0.5)
        self.biases = nn.Parameter(torch.zeros(n_items))
        self.blocks = nn.ModuleList(
            SelfAttentionBlock(hyper, layer, max_length, random) for layer in range(hyper.layers))
        self.norm = nn.LayerNorm(hyper.width)

    def forward(self, hugs: HUGs) -> torch.Tensor:
        """(N, D): the state after each event."""
        return self._states(hugs, last_only=False)

    def last_states(self, hugs: HUGs) -> torch.Tensor:
        """(U, D): h_u, the state after each user's last event. Every user needs an event; gradients do not go here."""
        with torch.no_grad():
            return self._states(hugs, last_only=True)

    def _states(self, hugs: HUGs, last_only: bool) -> torch.Tensor:
        expect_indices("items", hugs.histories.items, len(self.items), "items")
        rows_N = torch.from_numpy(hugs.histories.items).to(self.items.device)
        x_ND = self.items.index_select(0, rows_N) * self.hyper.width**0.5
        x_ND = dropout(x_ND, self.hyper.dropout, self.training) if self.training and self.hyper.dropout else x_ND
        engine = engine_of(self.hyper.device) if x_ND.dtype == torch.float32 else "torch"
        for number, block in enumerate(self.blocks):
            x_ND = block(x_ND, hugs, engine, last_only and number == len(self.blocks) - 1)
        return self.norm(x_ND)

    def scores(self, h_ND: torch.Tensor) -> torch.Tensor:
        """(N, I): Eq. 5 of every item."""
        return torch.addmm(self.biases, h_ND, self.items.T)  # Eq. 5


def _last_rows(hugs: HUGs, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(hugs.histories.offsets[1:] - 1).to(device)


def _xavier(shape: tuple[int, int], random: torch.Generator) -> nn.Parameter:
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(shape), generator=random))


def infer_hugt(
    model: HUGT, histories: Histories, vectors: np.ndarray | None, parameters: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """(users (U, D + 1), items (I, D + 1)), float32: what is published, also of users whom no training saw.

    vectors: of `item_vectors`. ValueError for parameters of another shape of model.
    """
    load_parameters(model, parameters)
    users = np.concatenate([states_of(model, histories, vectors), np.ones((len(histories.lengths), 1))], axis=1)
    parts = (part.detach().cpu().numpy() for part in (model.items, model.biases[:, None]))
    return users.astype(np.float32), np.concatenate(list(parts), axis=1)


@torch.no_grad()
def states_of(model: HUGT, histories: Histories, vectors: np.ndarray | None) -> np.ndarray:
    """float32 (U, D): the state after the last `max_length` events of every user; 0 for a user without one."""
    model.eval()
    recent = histories.last(model.max_length)
    lengths, out = recent.lengths, np.zeros((len(recent.lengths), model.hyper.width), np.float32)
    order = np.argsort(lengths, kind="stable")  # of about one length in a batch: little padding
    order = order[lengths[order] > 0]
    for chunk in batches_of(lengths[order], model.hyper.inference_chunk):
        users = order[chunk]
        batch = recent.pieces(recent.offsets[users], recent.offsets[users + 1])
        out[users] = model.last_states(HUGs.of(batch, vectors, model.hyper)).cpu().numpy()
    return out


def batches_of(lengths: np.ndarray, most_events: int) -> list[slice]:
    """Ranges of histories of so many events together, at most, or of one history."""
    ends, found, first = np.cumsum(lengths), [], 0
    while first < len(lengths):
        before = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + most_events, side="right")))
        found.append(slice(first, last))
        first = last
    return found
