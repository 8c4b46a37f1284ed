"""RHGN's training: mini-batches of labelled users, neighbours sampled per relation, early stopping on held-out users.

Shape suffixes: see `models/shapes.py`, and J labels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from sklearn.metrics import f1_score
from torch import nn

from models.graph import KnowledgeGraph, NeighbourSampler
from models.hyperparameters import RHGNHyperparameters
from models.learning.determinism import deterministic_kernels
from models.learning.epochs import as_checkpoint, load_checkpoint, optimiser_state, parameters_of, run_epochs
from models.messages.meta_relations import MetaRelations
from models.rhgn import MISSING, RHGN, check_nodes, code_types, engine_of, precision
from models.rhgn_behaviors import BehaviorEdges, SecondLoss
from models.shapes import ShapeError, expect, expect_indices

LEARNED_ROWS = "learned_rows"
_State = tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class RHGNResult:
    """What training gives.

    `parameters` is all that inference needs; `checkpoint()` adds the optimisers' state for a warm start, that of the
    learned rows (k, inputs) under LEARNED_ROWS.
    features: float32 (n, inputs), the given vectors with the learned rows as learned. history: one entry per epoch with
    "epoch", "loss", "seconds" of training, "behavior_loss" where `behavior_weight` is above 0 and, where evaluated,
    "validation_loss", "validation_accuracy" and
    "validation_macro_f1" (means over labels; of label j alone with `_j` at the end). best_epoch: the epoch whose
    parameters these are; -1 when nothing was trained.
    """

    parameters: dict[str, np.ndarray]
    optimiser: dict[str, np.ndarray]
    features: np.ndarray
    history: list[dict[str, float]]
    best_epoch: int

    def checkpoint(self) -> dict[str, np.ndarray]:
        """Everything that `initial` of the next night takes, by name."""
        return as_checkpoint(self.parameters, self.optimiser)


@dataclasses.dataclass(frozen=True)
class _Data:
    """What is learned from: int64 node types (n,), float32 vectors (n, inputs), users and their labels.

    learned: bool (n,), the vectors to learn. behaviors: the relations from users to items.
    """

    graph: KnowledgeGraph
    node_types: np.ndarray
    features: np.ndarray
    learned: np.ndarray
    users: np.ndarray
    labels: np.ndarray
    behaviors: Sequence[int]


class _Trainer:
    """Users to batches, batches to losses, and one epoch after another; holds what stays the same throughout."""

    def __init__(self, data: _Data, model: RHGN, trained: np.ndarray, seed: int, deterministic: bool) -> None:
        hyper = model.hyper
        self.data, self.model, self.device, self.seed = data, model, torch.device(hyper.device), seed
        self.types = torch.tensor(data.node_types, device=self.device)
        self.fixed = torch.tensor(data.features, device=self.device)
        learned = torch.tensor(data.learned, device=self.device)
        self.row = torch.where(learned, torch.cumsum(learned, 0) - 1, -1)
        self.table = nn.Parameter(self.fixed[learned])
        options = {"deterministic": deterministic, "per_relation": True, "engine": engine_of(hyper.device)}
        self.sampler = data.graph.sampler(hyper.fanout, seed, **options)
        self.second = None
        if hyper.behavior_weight:
            edges = BehaviorEdges(data.graph, data.behaviors, hyper.behavior_users)
            thin = data.graph.sampler(hyper.behavior_fanout, seed, **options)
            self.second = SecondLoss(edges, thin, self.encode, hyper)
        rate = hyper.learning_rate
        self.optimisers = [torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=hyper.weight_decay)]
        if len(self.table):
            self.optimisers.append(torch.optim.SparseAdam([self.table], lr=rate))
        steps = hyper.epochs * max(1, -(-trained.size // hyper.batch_size))
        one_cycle = torch.optim.lr_scheduler.OneCycleLR
        self.schedules = [one_cycle(optimiser, rate, total_steps=steps) for optimiser in self.optimisers]
        self.class_weights = None
        if hyper.class_weights:
            weights = balanced(data.labels[trained], model.n_classes)
            self.class_weights = [torch.tensor(of_label, device=self.device) for of_label in weights]

    def vectors(self, nodes: torch.Tensor) -> torch.Tensor:
        """The input rows of some nodes; gradients of the learned ones are sparse."""
        x_SD, rows = self.fixed.index_select(0, nodes), self.row.index_select(0, nodes)
        places = torch.nonzero(rows >= 0).squeeze(-1)
        if not len(places):
            return x_SD
        learned_SD = nn.functional.embedding(rows.index_select(0, places), self.table, sparse=True)
        return x_SD.index_copy(0, places, learned_SD)

    def encode(
        self, sampler: NeighbourSampler, nodes: torch.Tensor, hidden_edges: np.ndarray | None = None
    ) -> torch.Tensor:
        """H^L of nodes (ascending, unique) from a sample of their neighbourhoods."""
        hyper = self.model.hyper
        sources, layers = sampler.sample(nodes, hyper.layers, hidden_edges)
        # a layer's destinations are the first of its sources
        counts_VC = sampler.counts(sources[: layers[0].n_destinations]).to(self.device)
        parts = [(messages.to(self.device), counts_VC[: messages.n_destinations]) for messages in layers]
        metas = [MetaRelations.of(messages, hyper.softmax_over == "relation", counts) for messages, counts in parts]
        sources = sources.to(self.device)
        return self.model(metas, self.vectors(sources), self.types.index_select(0, sources))

    def forward(self, users: np.ndarray) -> tuple[list[torch.Tensor], torch.Tensor]:
        """(logits of each label, labels) of some labelled users, given by their places in `data.users`."""
        places = users[np.argsort(self.data.users[users])]
        with precision(self.model.hyper):
            logits = self.model.logits(self.encode(self.sampler, torch.from_numpy(self.data.users[places])))
        return logits, torch.from_numpy(self.data.labels[places]).to(self.device)

    def epoch(self, number: int, users: np.ndarray) -> tuple[float, dict[str, float]]:
        """Train on all users once, in a new order; the mean of Eq. 4 per user, and the second loss where it weighs."""
        order = np.random.default_rng([self.seed, 1, number]).permutation(users)
        self.sampler.restart([self.seed, 2, number])
        if self.second is not None:
            self.second.restart([self.seed, 4, number])
        self.model.train()
        summed = torch.zeros((), device=self.device)  # stays on the device: no wait for it after every batch
        for first in range(0, order.size, self.model.hyper.batch_size):
            logits, labels_BJ = self.forward(order[first : first + self.model.hyper.batch_size])
            loss = self.model.loss(logits, labels_BJ, self.class_weights)
            summed += loss.detach() * len(labels_BJ)
            if self.second is not None:
                loss = loss + self.model.hyper.behavior_weight * self.second()
            for optimiser in self.optimisers:
                optimiser.zero_grad(set_to_none=True)
            loss.backward()
            for optimiser, schedule in zip(self.optimisers, self.schedules, strict=True):
                optimiser.step()
                schedule.step()
        return float(summed) / order.size, {} if self.second is None else {"behavior_loss": self.second.mean()}

    @torch.no_grad()
    def evaluate(self, users: np.ndarray) -> dict[str, float]:
        """The figures of held-out users. Always the same draw of neighbours, so that epochs can be compared."""
        self.sampler.restart([self.seed, 3])
        self.model.eval()
        batch_size = self.model.hyper.batch_size
        batches = np.split(users, range(batch_size, users.size, batch_size))
        logits, labels = zip(*map(self.forward, batches), strict=True)
        logits, labels_BJ = [torch.cat(of_label) for of_label in zip(*logits, strict=True)], torch.cat(labels)
        figures = {"validation_loss": float(self.model.loss(logits, labels_BJ, self.class_weights))}
        for j, (logits_BP, labels_B) in enumerate(zip(logits, labels_BJ.cpu().numpy().T, strict=True)):
            seen, found = labels_B != MISSING, logits_BP.argmax(1).cpu().numpy()
            if seen.any():
                figures[f"validation_accuracy_{j}"] = float((found == labels_B)[seen].mean())
                macro_f1 = f1_score(labels_B[seen], found[seen], average="macro", zero_division=0)
                figures[f"validation_macro_f1_{j}"] = float(macro_f1)
        for name in ("validation_accuracy", "validation_macro_f1"):
            of_labels = [value for key, value in figures.items() if key.startswith(name)]
            figures[name] = float(np.mean(of_labels or [np.nan]))
        return figures

    def state(self) -> _State:
        """(parameters, the optimiser's state, learned rows), as copies."""
        rows, optimiser = self.table.detach().cpu().numpy().copy(), optimiser_state(self.model, self.optimisers[0])
        if len(rows):
            of_rows = self.optimisers[1].state.get(self.table, {})
            optimiser |= {f"{LEARNED_ROWS}.{key}": np.array(torch.as_tensor(v).cpu()) for key, v in of_rows.items()}
        return parameters_of(self.model), optimiser, rows

    def start_from(self, checkpoint: Mapping[str, np.ndarray]) -> None:
        """Take the parameters and what the optimisers remember. ValueError for another shape of model, or number of
        learned rows."""
        load_checkpoint(self.model, self.optimisers[0], checkpoint)
        prefix, own = f"optimiser.{LEARNED_ROWS}.", {}
        for key in (key for key in checkpoint if key.startswith(prefix) and len(self.table)):
            moment = checkpoint[key]
            if key == f"{prefix}step":
                own["step"] = int(moment)
                continue
            if moment.shape != tuple(self.table.shape):
                found = f"{key!r} is of shape {moment.shape} in the checkpoint"
                raise ValueError(f"{found}; expected {tuple(self.table.shape)}, a row for each node that is learned")
            own[key.removeprefix(prefix)] = torch.tensor(moment, device=self.device)
        if own:
            self.optimisers[1].state[self.table] = own

    def result(self, state: _State, history: list[dict[str, float]], best_epoch: int) -> RHGNResult:
        parameters, optimiser, rows = state
        features = self.data.features
        if len(rows):
            features = features.copy()
            features[self.data.learned] = rows
        return RHGNResult(parameters, optimiser, features, history, best_epoch)


def train_rhgn(
    graph: KnowledgeGraph,
    node_types: np.ndarray,
    features: np.ndarray,
    users: np.ndarray,
    labels: np.ndarray,
    n_classes: Sequence[int],
    hyper: RHGNHyperparameters,
    *,
    seed: int,
    n_types: int | None = None,
    learned: np.ndarray | None = None,
    validation: np.ndarray | None = None,
    behaviors: Sequence[int] | None = None,
    deterministic: bool = False,
    initial: dict[str, np.ndarray] | None = None,
    progress: Callable[[dict[str, float]], None] | None = None,
) -> RHGNResult:
    """Learn all parameters from labelled users.

    node_types: int64 (n,), below n_types, which is the highest + 1 unless given. features: float32 (n, inputs), all
    finite (`filled_features`). users: int64 (u,), unique nodes; labels: int64 (u, labels), -1 where a user lacks one.
    learned: bool (n,), rows of `features` that are trained too. validation: bool (u,), users held out for early
    stopping; None draws `validation_share` of them. behaviors: the relations that go from users to items; the second
    loss alone reads them, and needs them. initial: a former `checkpoint()` (of other relations or types:
    `rearranged`; the optimiser's state of learned rows in the order of tonight's), from which it goes on at
    `warm_rate_share` of the rate; learned rows start as `features` has them. progress: called with each entry of the
    history.
    deterministic: equal arguments give equal bits (one thread; on a GPU torch's deterministic kernels).
    Without a label nothing is learned and the initial parameters come back.
    Raises ShapeError for arrays that do not fit each other, ValueError for an `initial` of another shape of model.
    """
    if initial is not None:
        hyper = dataclasses.replace(hyper, learning_rate=hyper.learning_rate * hyper.warm_rate_share)
    learned = np.zeros(graph.n_entities, bool) if learned is None else learned
    check_nodes(graph, node_types, features, n_types)
    expect("learned", learned, (graph.n_entities,), "bool")
    _check_labels(graph, users, labels, n_classes, validation)
    if hyper.behavior_weight and behaviors is None:
        found = f"behavior_weight is {hyper.behavior_weight!r} and behaviors None"
        raise ShapeError(f"{found}; expected the numbers of the relations that go from users to items")
    labelled = np.flatnonzero((labels != MISSING).any(axis=1))
    if validation is None:
        validation = np.random.default_rng([seed, 0]).random(users.size) < hyper.validation_share
    held_out, trained = labelled[validation[labelled]], labelled[~validation[labelled]]
    shape = (features.shape[1], n_types or int(node_types.max()) + 1, code_types(graph, node_types), n_classes)
    model = RHGN(*shape, hyper, seed).to(hyper.device)
    data = _Data(graph, node_types, features, learned, users, labels, () if behaviors is None else behaviors)
    trainer = _Trainer(data, model, trained, seed, deterministic)
    if initial is not None:
        trainer.start_from(initial)
    if not trained.size:
        return trainer.result(trainer.state(), [], -1)
    device = [model.code_types.device] if model.code_types.is_cuda else []
    with deterministic_kernels(deterministic), torch.random.fork_rng(device):
        torch.manual_seed(seed)  # of dropout
        return _run_epochs(trainer, trained, held_out, progress)


def rearranged(
    checkpoint: Mapping[str, np.ndarray], fresh: Mapping[str, np.ndarray], relations: np.ndarray, types: np.ndarray
) -> dict[str, np.ndarray]:
    """A checkpoint for tonight's relations and node types from one for the predecessor's, in another order or number.

    fresh: parameters of a new model of tonight's shape, for what the predecessor lacks. relations, types: int64, for
    each of tonight's its number in the checkpoint, or -1. What the optimiser remembers of newcomers is nothing.
    """
    n_before = checkpoint["layers.0.w_att"].shape[0] // 2
    codes = np.concatenate([relations, np.where(relations < 0, -1, relations + n_before)])
    found = dict(checkpoint)
    for name, values in fresh.items():
        by_code = name.endswith(("w_att", "w_msg"))
        rows_before = len(checkpoint.get(name, ""))
        by_type = name.startswith("input.") or (name.startswith("layers.") and max(len(values), rows_before) > 1)
        rows = codes if by_code else types
        if not (by_code or by_type) or rows.max(initial=-1) >= rows_before:
            continue  # what does not fit is left to `load_parameters`
        for key in checkpoint:
            if not key.removeprefix("optimiser.").startswith(name) or key.endswith(".step"):
                continue
            start = values if key == name else np.zeros_like(values)
            known = (rows >= 0).reshape(-1, *[1] * (values.ndim - 1))
            found[key] = np.where(known, checkpoint[key][rows], start)
    return found


def balanced(labels: np.ndarray, n_classes: Sequence[int]) -> list[np.ndarray]:
    """float32 (classes,) for each column of labels (u, J): u' / (K · n_k) of its K classes that occur.

    So the mean over the u' labelled users is 1.
    """
    found = []
    for j, classes in enumerate(n_classes):
        counts = np.bincount(labels[labels[:, j] != MISSING, j], minlength=classes)
        weights = counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1)) * (counts > 0)
        found.append(weights.astype(np.float32))
    return found


def _run_epochs(
    trainer: _Trainer, trained: np.ndarray, held_out: np.ndarray, progress: Callable[[dict[str, float]], None] | None
) -> RHGNResult:
    hyper = trainer.model.hyper
    outcome = run_epochs(
        hyper,
        lambda epoch: trainer.epoch(epoch, trained),
        trainer.state,
        evaluate=(lambda: trainer.evaluate(held_out)) if held_out.size else None,
        measure=f"validation_{hyper.stop_on}",
        falls=hyper.stop_on == "loss",
        progress=progress,
    )
    return trainer.result(*outcome)


def _check_labels(
    graph: KnowledgeGraph,
    users: np.ndarray,
    labels: np.ndarray,
    n_classes: Sequence[int],
    validation: np.ndarray | None,
) -> None:
    expect_indices("users", users, graph.n_entities, "entities")
    expect("labels", labels, (users.size, len(n_classes)), "int64")
    repeated = users.size - np.unique(users).size
    if repeated:
        raise ShapeError(f"users names {repeated} users more than once; expected one row of labels for each")
    for j, classes in enumerate(n_classes):
        if labels.size and not (MISSING <= labels[:, j].min() and labels[:, j].max() < classes):
            found = f"from {labels[:, j].min()} to {labels[:, j].max()}"
            raise ShapeError(f"labels has values {found} in column {j}; expected {MISSING} (missing) to {classes - 1}")
    if validation is not None:
        expect("validation", validation, (users.size,), "bool")
