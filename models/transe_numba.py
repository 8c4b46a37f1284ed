"""TransE's fast engine: the compiled kernels on padded tables, on threads that share them without locks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from models.hyperparameters import TransEHyperparameters
from models.kernels.padding import padded
from models.kernels.sharing import train_shared
from models.kernels.translation import train_margin_pairs
from models.learning.negatives import Known, Plan, Pools

_PIECE_EDGES = 16_384  # edges a thread takes at a time


class NumbaEngine:
    """Trains padded copies of the tables with the compiled kernels, on threads that share them without locks."""

    def __init__(
        self, tables: dict[str, np.ndarray], hyper: TransEHyperparameters, pools: Pools, known: Known, threads: int
    ) -> None:
        self._hyper, self._pools, self._known, self._threads = hyper, pools, known, threads
        self._entities, self._relations = padded(tables["entities"]), padded(tables["relations"])
        self._accumulators = {name: array.copy() for name, array in tables.items() if name.endswith("accumulators")}

    def arrays(self) -> dict[str, np.ndarray]:
        """Copies of the tables and accumulators."""
        d = self._hyper.dimension
        tables = {"entities": self._entities[:, :d].copy(), "relations": self._relations[:, :d].copy()}
        return tables | {name: array.copy() for name, array in self._accumulators.items()}

    def train_epoch(self, plan: Plan, learning_rate: float, passed: float = 0.0) -> tuple[float, int]:
        """(sum of the losses, edges seen). Deterministic on one thread. passed: nothing here asks for it."""
        if not self._in_pairs(plan):
            plan = plan.by_edge()  # a chunk that shares draws is of one relation
        n_chunks = len(plan.order)
        pieces = 1 if self._threads == 1 else max(4 * self._threads, len(plan.heads) // _PIECE_EDGES)
        cuts = np.linspace(0, n_chunks, min(pieces, n_chunks) + 1).astype(np.int64)
        if self._threads == 1:
            return self._train(plan, 0, n_chunks, learning_rate), len(plan.heads)
        with ThreadPoolExecutor(self._threads) as pool:
            losses = pool.map(lambda first, last: self._train(plan, first, last, learning_rate), cuts[:-1], cuts[1:])
        return sum(losses), len(plan.heads)

    def _in_pairs(self, plan: Plan) -> bool:
        """Whether the kernel for draws of each edge's own is the one: it knows the margin loss alone."""
        return self._hyper.loss == "margin" and not plan.shared

    def _train(self, plan: Plan, first: int, last: int, learning_rate: float) -> float:
        hyper, pools, adagrad = self._hyper, self._pools, self._hyper.optimizer == "adagrad"
        entities = (self._entities, self._accumulators["entity_accumulators"])
        relations = (self._relations, self._accumulators["relation_accumulators"])
        chunks = (plan.starts, plan.order, first, last, plan.key, hyper.negatives)
        edges = (plan.heads, plan.relations, plan.tails, *chunks)
        candidates = (pools.members, pools.offsets, pools.of, self._known, hyper.norm == "l1")
        margin, rate = np.float32(hyper.margin), np.float32(learning_rate)
        if self._in_pairs(plan):
            loss, _ = train_margin_pairs(
                *entities, *relations, *edges, *candidates, margin, hyper.dimension, rate, adagrad, hyper.unit_norm
            )
        else:
            loss = train_shared(
                *entities, *relations, *edges, *candidates, hyper.loss == "self_adversarial", margin,
                np.float32(hyper.adversarial_temperature), hyper.dimension, rate, adagrad, hyper.unit_norm,
            )  # fmt: skip
        return loss
