"""RAM-GNN: vectors of users or items from the attributes that they share. Model and exact inference.

Its neighbours: `ram_gnn_sampler.py`; training: `ram_gnn_training.py`; what recommends: `ram_gnn_interactions.py`.
Shape suffixes: see `models/shapes.py`, and R rows (entity, value) of the attributes, T relation types, Z values.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import nn
from torch.nn.functional import leaky_relu

from models.kernels.draws import key_of
from models.learning.initialisation import keyed_vectors
from models.ram_gnn_hyperparameters import RAMGNNHyperparameters
from models.ram_gnn_sampler import Neighbours
from models.shapes import expect

LEAKY_SLOPE = 0.2  # of Eq. 6 and 15, which name no activation; Eq. 1 names LeakyReLU


class RAMGNN(nn.Module):
    """Reinforced attentive multi-relational graph neural network, of one side: users, or items.

    Li et al., "Pre-training Recommender Systems via Reinforced Attentive Multi-relational Graph Neural Network", IEEE
    BigData 2021, sections III-A to III-D. Entities i and j that both have the value v of a relation type t are
    neighbours by the quadruplet (i, t, v, j), and j tells i:

        e_i      = φ(e_j, e_t, e_v)                                     Eq. 3
        e_n      = e_t ‖ e_v                                            Eq. 4
        e_i      = φ(e_j, e_n)                                          Eq. 5    e_j + e_n, e_j ∗ e_n or e_j ⋆ e_n
        a_jn     = pᵀ σ(W_key e_j + W_qry e_n + b)                      Eq. 6
        α_jn     = softmax of a_jn over the kept neighbours of i        Eq. 7
        e_i      = Σ α_jn W_val φ(e_j, e_n)                             Eq. 8
        d(i,j)   = |σ(MLP(e_i)) − σ(MLP(e_j))|                          Eq. 9
        s(i,j)   = 1 − d(i,j)                                           Eq. 10
        e_i'     = σ(Σ_{j ∈ N_kt(i)} α_jn W_val φ(e_j, e_n) ⊕ e_i)      Eq. 15
        L_sim, L_GNN, L_final                                           Eq. 11, 16, 17: `ram_gnn_training.py`
        N_kt(i), k_t                                                    Eq. 12, 13, 14: `ram_gnn_sampler.py`

    | symbol               | name                                    | shape                           |
    |----------------------|-----------------------------------------|---------------------------------|
    | e_i, e_j             | `entities`, `e_ND`                      | (N, D)                          |
    | e_t, e_v             | `types`, `values`                       | (T, D / 2), (Z, D / 2)          |
    | e_n                  | `relations()`                           | (Z, D), a value has one type    |
    | a_jn                 | `a_R`                                   | (R,): a row is a j and an n     |
    | α_jn                 | `α_E`                                   | (messages,)                     |
    | W_key, W_qry, W_val  | `w_key[l]`, `w_qry[l]`, `w_val[l]`      | (D, D)                          |
    | b, p                 | `b[l]`, `p[l]`                          | (D,)                            |
    | MLP                  | `mlp`                                   | D → mlp_width → 1               |
    | σ(MLP(e_i))          | `z_N`                                   | (N,)                            |

    Departs from the paper
    - e_t and e_v are of half width, or (5) could not be composed.
    - (7) is a softmax over all kept messages of i, and (8) sums over them; two values that i and j share are two
      messages. All three φ are linear in e_j, so that the sum over a row's messages is taken before φ is.
    - N_kt(i) is k_t for each value that i has, so that a second genre does not crowd out the first.
    - The neighbours are looked for with the layer's first vectors, and are the same in all layers.
    - ⊕ is a sum, and W_val stands where (15) has it, inside σ; σ is LeakyReLU there and in (6), and none in the last
      layer, whose vectors would otherwise be almost without negative numbers.
    - (11) and (16) take the logarithm of the label alone: binary cross-entropy on the similarity is meant, of a row's
      entity with another that has the value, and with some drawn ones that lack it. No logarithm of less than 1e-4.
    - s in (16) is by default the logistic function of the product of the final vectors: by (9), which sees one number
      of each, vectors learn next to nothing (on MovieLens 100K 46 % of held-out values are told from others, 59 % by
      the product). As printed by option.
    - (12) is of one entity, k_t of all: its mean over the entities with a neighbour by the type. (13) looks at the
      epoch before. (14) takes the absolute value; its bound and the step of k_t, both ε in print, are two settings, and
      k_t is never below 1, nor above a setting.
    - Where there are more entities than `block`, training goes through blocks of them, drawn anew in each epoch:
      neighbours, others with the value and drawn ones are then of the block. Inference knows no blocks.
    - (17) has the squares of the norm, for tables of vectors the mean over their rows. Types whose search has ended
      have none the less a part in L_sim until all have.
    - `attends` off gives every kept neighbour the same weight, as figure 4 needs.
    """

    def __init__(
        self, n_entities: int, n_types: int, n_values: int, hyper: RAMGNNHyperparameters, seed: int = 0
    ) -> None:
        """Weights Xavier, drawn from `seed` alone. The tables are zeros: `start_tables` fills them."""
        super().__init__()
        self.hyper, d = hyper, hyper.dimension
        random = torch.Generator().manual_seed(seed)
        self.entities = nn.Parameter(torch.zeros(n_entities, d))
        self.types, self.values = (nn.Parameter(torch.zeros(n, d // 2)) for n in (n_types, n_values))
        attended = hyper.layers * hyper.attends
        self.w_val = nn.ParameterList(nn.Parameter(torch.empty(d, d)) for _ in range(hyper.layers))
        self.w_key, self.w_qry = (
            nn.ParameterList(nn.Parameter(torch.empty(d, d)) for _ in range(attended)) for _ in range(2)
        )
        self.b, self.p = (nn.ParameterList(nn.Parameter(torch.zeros(d)) for _ in range(attended)) for _ in range(2))
        inner, outer = nn.Linear(d, hyper.mlp_width), nn.Linear(hyper.mlp_width, 1)
        self.mlp = nn.Sequential(inner, nn.LeakyReLU(LEAKY_SLOPE), outer)
        vectors = [vector.data.unsqueeze(0) for vector in self.p]
        for weight in [*self.w_val, *self.w_key, *self.w_qry, *vectors, inner.weight, outer.weight]:
            nn.init.xavier_uniform_(weight, generator=random)
        for bias in (inner.bias, outer.bias):
            nn.init.zeros_(bias)

    def relations(self, value_types: torch.Tensor) -> torch.Tensor:
        """e_n (Z, D) of every value. value_types: int64 (Z,)."""
        return torch.cat([self.types[value_types], self.values], dim=1)  # Eq. 4

    def place(self, e_ND: torch.Tensor) -> torch.Tensor:
        """z (N,): the number that Eq. 9 compares."""
        return torch.sigmoid(self.mlp(e_ND)).squeeze(-1)

    def forward(self, neighbours: Neighbours, e_ND: torch.Tensor) -> torch.Tensor:
        """The last layer's vectors (N, D) of the entities whose first ones are e_ND."""
        for number in range(self.hyper.layers):
            e_ND = self.layer(number, neighbours, e_ND)
        return e_ND

    def layer(self, number: int, neighbours: Neighbours, e_ND: torch.Tensor) -> torch.Tensor:
        """One layer: e' (N, D)."""
        n_ZD, rows = self.relations(neighbours.rows.value_types), neighbours.rows
        a_R = self.affinity(number, rows.entities, rows.values, self.keys(number, e_ND), n_ZD)
        return self.heard(number, neighbours, a_R, e_ND, *self.told(e_ND, n_ZD))

    def told(self, e_ND: torch.Tensor, n_ZD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """e (N, F) and e_n (Z, F) in the form in which messages are composed."""
        return as_told(self.hyper.composition, e_ND), as_told(self.hyper.composition, n_ZD)

    def keys(self, number: int, e_ND: torch.Tensor) -> torch.Tensor:
        """W_key e (N, D); nothing where nobody attends."""
        return e_ND @ self.w_key[number].T if self.hyper.attends else e_ND[:, :0]

    def affinity(
        self, number: int, entities_R: torch.Tensor, values_R: torch.Tensor, keys_ND: torch.Tensor, n_ZD: torch.Tensor
    ) -> torch.Tensor:
        """a (R,) of rows: how much is listened to the entity about the value; 0 where all weigh alike."""
        if not self.hyper.attends:
            return n_ZD.new_zeros(len(entities_R))
        queries_ZD = n_ZD @ self.w_qry[number].T + self.b[number]
        heard_RD = keys_ND.index_select(0, entities_R) + queries_ZD.index_select(0, values_R)
        return leaky_relu(heard_RD, LEAKY_SLOPE) @ self.p[number]  # Eq. 6

    def heard(
        self, number: int, neighbours: Neighbours, a_R: torch.Tensor, e_ND: torch.Tensor, told_NF: torch.Tensor,
        n_ZF: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        """e' of the entities that hear, from a (R,) of all rows, e (N, D) of all entities, and both as `told`."""
        α_E = neighbours.into_entities.softmax(a_R[neighbours.sources])  # Eq. 7
        own_VD = e_ND[neighbours.first : neighbours.last]
        x_VD = self.message(number, neighbours, α_E, told_NF, n_ZF) + own_VD
        return x_VD if number == self.hyper.layers - 1 else leaky_relu(x_VD, LEAKY_SLOPE)  # Eq. 15

    def message(
        self, number: int, neighbours: Neighbours, α_E: torch.Tensor, told_NF: torch.Tensor, n_ZF: torch.Tensor
    ) -> torch.Tensor:
        """The sum of Eq. 8 for each entity that hears; 0 without a neighbour."""
        of_rows_RF, how = neighbours.into_rows.weighted_sum(told_NF, α_E), self.hyper.composition
        composed_RF = compose(
            how, of_rows_RF, n_ZF.index_select(0, neighbours.values), neighbours.into_rows.total(α_E))
        sums_VF = told_NF.new_zeros(neighbours.last - neighbours.first, told_NF.shape[1])
        sums_VF = sums_VF.index_add(0, neighbours.entities, composed_RF)
        return as_heard(how, sums_VF) @ self.w_val[number].T  # Eq. 8

    def similarity(self, e_BD: torch.Tensor, others_BD: torch.Tensor) -> torch.Tensor:
        """s (B,) of pairs of vectors by the MLP."""
        distance_B = (self.place(e_BD) - self.place(others_BD)).abs()  # Eq. 9
        return 1 - distance_B  # Eq. 10


def as_told(how: str, x_ND: torch.Tensor) -> torch.Tensor:
    """(N, F): the form in which vectors are composed and added up. For circular correlation it is their spectrum, the
    two parts of each number side by side, so that each vector is transformed once, not each message."""
    if how != "corr" or not len(x_ND):  # of nothing, of which no library takes a spectrum
        return x_ND if how != "corr" else x_ND.new_zeros(0, 2 * (x_ND.shape[1] // 2 + 1))
    return torch.view_as_real(torch.fft.rfft(x_ND, dim=1)).flatten(1)


def as_heard(how: str, x_NF: torch.Tensor) -> torch.Tensor:
    """(N, D): inverse of `as_told`."""
    if how != "corr" or not len(x_NF):
        return x_NF if how != "corr" else x_NF.new_zeros(0, x_NF.shape[1] - 2)
    return torch.fft.irfft(torch.view_as_complex(x_NF.unflatten(1, (-1, 2))), n=x_NF.shape[1] - 2, dim=1)


def compose(how: str, x_RF: torch.Tensor, n_RF: torch.Tensor, weights_R: torch.Tensor) -> torch.Tensor:
    """Σ α φ(e_j, e_n) of Eq. 5, from x = Σ α e_j, e_n and Σ α (R,), all (R, F) `as_told`."""
    if how == "add":
        return x_RF + weights_R.unsqueeze(-1) * n_RF  # Eq. 5, addition
    if how == "mul":
        return x_RF * n_RF  # Eq. 5, multiplication
    x, n = (torch.view_as_complex(part.unflatten(1, (-1, 2))) for part in (x_RF, n_RF))
    return torch.view_as_real(x.conj() * n).flatten(1)  # Eq. 5, circular correlation


@torch.no_grad()
def start_tables(
    model: RAMGNN, entity_keys: np.ndarray, type_keys: np.ndarray, value_keys: np.ndarray, seed: int
) -> None:
    """Fill the tables of vectors with uniform numbers keyed by who they are for: uint64 (N,), (T,), (Z,).

    Vectors have a length of about 1; a factor's numbers (composition mul) have it one by one.
    """
    small, d = (3 / model.hyper.dimension) ** 0.5, model.hyper.dimension
    of_relations = 3**0.5 if model.hyper.composition == "mul" else small
    tables = ((model.entities, entity_keys, small), (model.types, type_keys, of_relations),
              (model.values, value_keys, of_relations))  # fmt: skip
    for number, (table, keys, bound) in enumerate(tables):
        expect("keys", keys, (len(table),), "uint64")
        numbers = keyed_vectors(keys, d if number == 0 else d // 2, int(key_of(seed, number)), bound)
        table.copy_(torch.from_numpy(numbers))


@torch.no_grad()
def infer_ram_gnn(model: RAMGNN, neighbours: Neighbours) -> torch.Tensor:
    """(N, D): the last layer's vectors of everybody. neighbours: of everybody.

    Layer by layer in chunks of entities, so that memory is that of a few tables of vectors, and the messages.
    """
    e_ND, rows = model.entities.detach(), neighbours.rows
    n_ZD = model.relations(rows.value_types)
    cuts = [*range(0, rows.n_entities, model.hyper.inference_chunk), rows.n_entities]
    for number in range(model.hyper.layers):
        keys_ND, a_R, next_ND = model.keys(number, e_ND), e_ND.new_zeros(rows.n_rows), torch.empty_like(e_ND)
        told = model.told(e_ND, n_ZD)
        for first, last in itertools.pairwise(rows.offsets[cuts].tolist()):
            some = rows.entities[first:last], rows.values[first:last]
            a_R[first:last] = model.affinity(number, *some, keys_ND, n_ZD)
        for first, last in itertools.pairwise(cuts):
            next_ND[first:last] = model.heard(number, neighbours.part(first, last), a_R, e_ND, *told)
        e_ND = next_ND
    return e_ND
