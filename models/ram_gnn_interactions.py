"""RAM-GNN's interaction network: from pretrained vectors and who touched what to what is recommended (section III-E).

Training: `ram_gnn_interactions_training.py`. Shape suffixes: see `models/shapes.py`, and U users, I items, Z values.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import embedding_bag, leaky_relu

from models.messages.adjacency import Adjacency
from models.ram_gnn import LEAKY_SLOPE
from models.ram_gnn_hyperparameters import InteractionHyperparameters
from models.ram_gnn_recent import Histories
from models.ram_gnn_sampler import AttributeRows
from models.shapes import expect, expect_indices


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """What pretraining gives of one side: float32 vectors of entities (n, D) and of values (Z, D / 2), and the rows.

    A side without attributes has no row, no type and no value. keys: uint64 (n,), who the entities are, by which
    training chooses what it holds out; None: their numbers, where no other night has others.
    """

    entities: np.ndarray
    values: np.ndarray
    rows: AttributeRows
    keys: np.ndarray | None = None

    def __post_init__(self) -> None:
        n, d = self.entities.shape
        expect("keys", self.entity_keys, (n,), "uint64")
        expect("entities", self.entities, (self.rows.n_entities, None), "float32")
        expect("values", self.values, (self.rows.n_values, d // 2), "float32")

    @property
    def entity_keys(self) -> np.ndarray:
        """uint64 (n,)."""
        return np.arange(len(self.entities), dtype=np.uint64) if self.keys is None else self.keys


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Who touched what, each pair once: the messages into users (from items) and into items (from users).

    weights: float32 (pairs,), 1 / √(items of the user · users of the item), in the order of each side's messages.
    """

    into_users: Adjacency
    into_items: Adjacency
    user_weights: torch.Tensor
    item_weights: torch.Tensor

    @classmethod
    def of(
        cls, users: np.ndarray, items: np.ndarray, n_users: int, n_items: int, device: str | torch.device = "cpu"
    ) -> Pairs:
        """From int64 pairs in any order, repeats counting once."""
        expect_indices("users", users, n_users, "users")
        expect_indices("items", items, n_items, "items")
        users, items = np.unique(np.stack([users, items]), axis=1)
        n_of_user, n_of_item = np.bincount(users, minlength=n_users), np.bincount(items, minlength=n_items)
        weights = (1 / np.sqrt(n_of_user[users] * n_of_item[items])).astype(np.float32)
        order = np.argsort(items, kind="stable")
        sides = [
            (n_of_user, items, n_items, weights), (n_of_item, users[order], n_users, weights[order])]  # fmt: skip
        found = []
        for counts, sources, n_sources, of_side in sides:
            offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(counts)])).to(device)
            adjacency = Adjacency(offsets, torch.from_numpy(sources.copy()).to(device), n_sources, "torch")
            found.append((adjacency, torch.from_numpy(of_side).to(device)))
        (into_users, user_weights), (into_items, item_weights) = found
        return cls(into_users, into_items, user_weights, item_weights)

    def heard(self, x_SD: torch.Tensor, into_users: bool) -> torch.Tensor:
        """(V, D): the weighted sum over those whom each user, or each item, has a pair with."""
        if into_users:
            return self.into_users.weighted_sum(x_SD, self.user_weights)
        return self.into_items.weighted_sum(x_SD, self.item_weights)


class _Heard(torch.autograd.Function):
    """Aggr of Eq. 19 (into users) or 21. What one direction sums forwards, the other sums backwards: both are the fast
    kind of sum, where the gradient of a sum scatters."""

    @staticmethod
    def forward(ctx: Any, x_SD: torch.Tensor, pairs: Pairs, into_users: bool) -> torch.Tensor:
        ctx.pairs, ctx.into_users = pairs, into_users
        return pairs.heard(x_SD, into_users)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient_VD: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return ctx.pairs.heard(gradient_VD.contiguous(), not ctx.into_users), None, None


class Features(nn.Module):
    """x⁰ of one side (Eq. 18, 20): its entities' vectors, and the mean vector of their values for each type."""

    def __init__(self, n_entities: int, dimension: int, rows: AttributeRows, transforms: bool) -> None:
        """W_3 starts as e alone; the values' share grows from nothing. transforms: there is one without values too."""
        super().__init__()
        d, n_types = dimension, rows.n_types
        self.entities = nn.Parameter(torch.zeros(n_entities, d))
        self.values = nn.Parameter(torch.zeros(rows.n_values, d // 2)) if rows.n_values else None
        width = d + (n_types * (d // 2) if rows.n_values else 0)
        start = torch.cat([torch.eye(d), torch.zeros(d, width - d)], dim=1)
        self.w3 = nn.Parameter(start) if transforms or rows.n_values else None
        cells = rows.entities * n_types + rows.types
        bounds = torch.arange(n_entities * n_types + 1, device=cells.device)
        self.register_buffer("offsets", torch.searchsorted(cells, bounds), persistent=False)
        self.register_buffer("of_rows", rows.values, persistent=False)

    def forward(self) -> torch.Tensor:
        """x⁰ (n, D)."""
        parts_nF = self.entities
        if self.values is not None:
            means = embedding_bag(self.of_rows, self.values, self.offsets, mode="mean", include_last_offset=True)
            parts_nF = torch.cat([self.entities, means.view(len(self.entities), -1)], dim=1)
        return parts_nF if self.w3 is None else parts_nF @ self.w3.T  # Eq. 18, 20


class InteractionNetwork(nn.Module):
    """The recommendation network of RAM-GNN (citation: `ram_gnn.py`), section III-E.

        x_i⁰  = W_3 (e_i ‖ e_v)                              Eq. 18
        x_u^l = σ(W_4 (Aggr_{i ∈ N(u)} x_i^{l−1} ⊕ x_u^{l−1}))  Eq. 19
        x_u⁰  = W_3 (e_u ‖ e_v)                              Eq. 20
        x_i^l = σ(W_4 (Aggr_{u ∈ N(i)} x_u^{l−1} ⊕ x_i^{l−1}))  Eq. 21
        ŷ_ui  = x_iᵀ x_u                                     Eq. 22
        loss  = −ln σ(ŷ_ui − ŷ_uj) + λ_2 ‖Θ_2‖²              Eq. 23

    | symbol       | name                              | shape                                        |
    |--------------|-----------------------------------|----------------------------------------------|
    | e_u, e_i     | `users.entities`, `items.entities`| (U, D), (I, D): start pretrained, are learned |
    | e_v          | `users.values`, `items.values`    | (Z, D / 2), the same                         |
    | W_3          | `users.w3`, `items.w3`            | (D, D + types · D / 2)                       |
    | W_4          | `w4[l]`                           | (D, D)                                       |
    | x_u, x_i     | `x_UD`, `x_ID`                    | (U, D), (I, D)                               |
    | N(u), N(i)   | `pairs`                           |                                              |

    Departs from the paper
    - Each side has a W_3 of its own: it has other attribute types. Of several values of a type the mean stands in the
      concatenation, or an item's place in it would depend on how many it has; of none, zeros.
    - Aggr is the sum with weights 1 / √(|N(u)| |N(i)|) of LightGCN, and ⊕ a sum: W_4 is D × D.
    - e_u and e_i start in the pretrained vectors' directions, at a length that is a setting.
    - W_4 and W_3 start at the identity, so that the first epoch works with what was pretrained.
    - σ, W_4 and ⊕ are options, and so is the mean over all layers that LightGCN reads out.
    - With `recent` the x_u of (22) and (23) has the mean x of the items that u had last added to it: as a pair was
      learned, those before its moment. As in FPMC (Rendle et al., "Factorizing Personalized Markov Chains for
      Next-Basket Recommendation", WWW 2010) over several baskets, with one vector for an item in both parts.
    - (23) as printed is no BPR: −ln σ(ŷ_ui − ŷ_uj) is meant, here of several drawn j that u did not touch. Its penalty
      is on the vectors of a batch, as LightGCN has it.
    """

    def __init__(self, users: Pretrained, items: Pretrained, hyper: InteractionHyperparameters) -> None:
        """Both sides' vectors are of the same length."""
        super().__init__()
        d = users.entities.shape[1]
        expect("items' entities", items.entities, (None, d), "float32")
        self.hyper = hyper
        self.users, self.items = (
            Features(len(side.entities), d, side.rows, hyper.transforms) for side in (users, items))
        with torch.no_grad():
            for features, side in ((self.users, users), (self.items, items)):
                features.entities.copy_(torch.from_numpy(side.entities))
                if features.values is not None:
                    features.values.copy_(torch.from_numpy(side.values))
        self.w4 = nn.ParameterList(nn.Parameter(torch.eye(d)) for _ in range(hyper.layers * hyper.transforms))

    def forward(self, pairs: Pairs) -> tuple[torch.Tensor, torch.Tensor]:
        """(x of users (U, D), x of items (I, D)) that Eq. 22 multiplies."""
        layers = [(self.users(), self.items())]
        for number in range(self.hyper.layers):
            layers.append(self.layer(number, pairs, *layers[-1]))
        if self.hyper.readout == "last":
            return layers[-1]
        users, items = (sum(of_side) / len(layers) for of_side in zip(*layers, strict=True))
        return users, items

    def layer(
        self, number: int, pairs: Pairs, x_UD: torch.Tensor, x_ID: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Both sides of one layer, from those of the layer before."""
        heard_UD, heard_ID = _Heard.apply(x_ID, pairs, True), _Heard.apply(x_UD, pairs, False)
        if self.hyper.adds_own:
            heard_UD, heard_ID = heard_UD + x_UD, heard_ID + x_ID
        return self.activated(number, heard_UD), self.activated(number, heard_ID)  # Eq. 19, 21

    def activated(self, number: int, x_ND: torch.Tensor) -> torch.Tensor:
        """σ(W_4 x) of Eq. 19 and 21."""
        if self.hyper.transforms:
            x_ND = x_ND @ self.w4[number].T
        return leaky_relu(x_ND, LEAKY_SLOPE) if self.hyper.activation == "leaky_relu" else x_ND


def as_of_now(
    x_UD: torch.Tensor, x_ID: torch.Tensor, histories: Histories | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(x of users with what they had last, x of items): what Eq. 22 multiplies of what is to come."""
    return x_UD if histories is None else x_UD + histories.latest(x_ID), x_ID


@torch.no_grad()
def infer_interactions(
    network: InteractionNetwork, pairs: Pairs, histories: Histories | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """float32 vectors of all users (U, D) and items (I, D). histories: of all pairs, where `recent` asks for them."""
    users, items = as_of_now(*network(pairs), histories)
    return users.cpu().numpy(), items.cpu().numpy()
