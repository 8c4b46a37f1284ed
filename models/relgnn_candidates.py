"""What RelGNN's edges are held against: candidates of the right type that are not known to be true, and the held-out
edges' rank among some.

Shape suffixes: see `models/shapes.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from models.graph import ranges
from models.kernels.sampling import mark_candidates
from models.learning.negatives import Known, Pools, known_triples
from models.learning.training import standard_error
from models.relgnn import RelGNN
from models.relgnn_hyperparameters import RelGNNHyperparameters
from models.transe import Triples, pair_keys

_ROWS = 1024  # edges that are ranked at a time
Ends = tuple[np.ndarray, np.ndarray, np.ndarray]  # heads, relations, tails of a batch, each (B,)


@dataclass(frozen=True)
class Candidates:
    """Who may take the place of an edge's head or tail. known: what is true."""

    triples: Triples
    pools: Pools
    known: Known

    @classmethod
    def of(cls, triples: Triples, edges: np.ndarray, by_degree: bool = False) -> Candidates:
        """edges: bool (E,), those that are known."""
        types = triples.relation_head_type, triples.relation_tail_type
        pools, true = Pools.by_type(triples.entity_type, *types, triples.connected), [c[edges] for c in triples.edges]
        pools = pools.by_degree(true[0], true[2]) if by_degree else pools
        return cls(triples, pools, known_triples(*true, triples.n_entities, triples.n_relations))

    def draw(self, relations: np.ndarray, most: int, random: np.random.Generator) -> np.ndarray:
        """int64 (K,): different nodes, at most so many of each type that these relations have at an end."""
        kinds = np.unique(self.pools.of[:, np.unique(relations)])
        return np.concatenate([self.pools.draw(kind, most, random) for kind in kinds])

    def counts(self, ends: Ends, broken_tail: bool, candidates: np.ndarray) -> np.ndarray:
        """bool (B, K): whether a candidate (K,) in the place of an edge's tail, or else head, makes a broken triple: of
        the right type, and not known."""
        fits = self.triples.entity_type[candidates][None] == self.wanted(ends[1], broken_tail)[:, None]
        return self.unknown(ends, broken_tail, candidates[None]) & fits

    def wanted(self, relations: np.ndarray, broken_tail: bool) -> np.ndarray:
        """int (B,): the type that a candidate for the tail, or else the head, has to be of."""
        return (self.triples.relation_tail_type if broken_tail else self.triples.relation_head_type)[relations]

    def unknown(self, ends: Ends, broken_tail: bool, candidates: np.ndarray) -> np.ndarray:
        """bool (B, K): whether the triple is not known. candidates: int64 (B, K), or (1, K)."""
        found = np.empty((len(ends[0]), candidates.shape[1]), bool)
        sizes = self.triples.n_entities, self.triples.n_relations
        mark_candidates(*ends, broken_tail, candidates, self.known, *sizes, found)
        return found


@dataclass(frozen=True)
class Siblings:
    """Of each edge all edges between the same two nodes. order: int64 (E,), the edges pair by pair; of pair p those at
    starts[p] to starts[p + 1] - 1; pair: int64 (E,), of each edge."""

    order: np.ndarray
    starts: np.ndarray
    pair: np.ndarray

    @classmethod
    def of(cls, triples: Triples, seed: int) -> Siblings:
        _, pair, counts = np.unique(pair_keys(triples, seed), return_inverse=True, return_counts=True)
        return cls(np.argsort(pair, kind="stable"), np.concatenate([[0], np.cumsum(counts)]), pair)

    def of_edges(self, edges: np.ndarray) -> np.ndarray:
        """int64: these and their siblings."""
        pairs = np.unique(self.pair[edges])
        return self.order[ranges(self.starts[pairs], self.starts[pairs + 1])]


@dataclass(frozen=True)
class Validation:
    """Held-out edges, and the candidates among whom their ends are ranked: always the same."""

    ends: Ends
    drawn: np.ndarray
    candidates: Candidates

    @classmethod
    def of(cls, triples: Triples, held_out: np.ndarray, hyper: RelGNNHyperparameters, seed: int) -> Validation:
        """held_out: bool (E,). No true edge is a candidate, whether held out or not."""
        every = Candidates.of(triples, np.ones(len(triples.heads), bool))
        ends = tuple(column[held_out] for column in triples.edges)
        return cls(ends, every.draw(ends[1], hyper.evaluate_candidates, np.random.default_rng([seed, 3])), every)

    def figures(self, x_ND: torch.Tensor, model: RelGNN) -> dict[str, float]:
        """validation_mrr and its standard error; validation_auc: the mean share of an edge's candidates below it."""
        ranks, counts = self.ranks(x_ND, model)
        inverse, below = np.mean(1 / ranks, axis=0), np.mean(1 - (ranks - 1) / np.maximum(counts, 1), axis=0)
        return {"validation_mrr": float(inverse.mean()), "validation_mrr_error": standard_error(inverse),
                "validation_auc": float(below.mean())}  # fmt: skip

    @torch.no_grad()
    def ranks(self, x_ND: torch.Tensor, model: RelGNN) -> tuple[np.ndarray, np.ndarray]:
        """(the realistic rank of each edge's tail and of its head, how many candidates each has), (2, E) each."""
        found = []
        for first in range(0, len(self.ends[0]), _ROWS):
            ends = tuple(column[first : first + _ROWS] for column in self.ends)
            found.append([self._ranks(x_ND, model, ends, broken_tail) for broken_tail in (True, False)])
        return tuple(np.array(part) for part in np.concatenate(found, axis=2).swapaxes(0, 1))

    def _ranks(
        self, x_ND: torch.Tensor, model: RelGNN, ends: Ends, broken_tail: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """(the realistic rank of each edge among its candidates, how many those are), (B,) each."""
        heads, relations, tails = (torch.from_numpy(column).to(x_ND.device) for column in ends)
        own, other = (heads, tails) if broken_tail else (tails, heads)
        queries_BD = model.queries(x_ND[own], relations, broken_tail)
        true_B = (queries_BD * x_ND[other]).sum(dim=1, keepdim=True)
        broken_BK = queries_BD @ x_ND[torch.from_numpy(self.drawn).to(x_ND.device)].T
        counts_BK = torch.from_numpy(self.candidates.counts(ends, broken_tail, self.drawn)).to(x_ND.device)
        above_B = ((broken_BK > true_B) & counts_BK).sum(dim=1) + ((broken_BK == true_B) & counts_BK).sum(dim=1) / 2
        return (1 + above_B).double().cpu().numpy(), counts_BK.sum(dim=1).cpu().numpy()
