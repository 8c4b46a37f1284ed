"""RAM-GNN's training: both sides at once, in blocks of entities, with the thresholds of their neighbours learned on the
way; early stopping on held-out rows.

Shape suffixes: see `models/shapes.py`, and R rows, T relation types, Z values.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from models.kernels.draws import key_of
from models.learning.contrast import contrast, contrast_of_products
from models.learning.determinism import deterministic_kernels
from models.learning.epochs import Resume, as_checkpoint, load_checkpoint, optimiser_state, parameters_of, run_epochs
from models.learning.held_out import first_by_key
from models.learning.negatives import keyed_edges
from models.learning.training import Snapshot, fingerprint, standard_error
from models.ram_gnn import RAMGNN, infer_ram_gnn, start_tables
from models.ram_gnn_hyperparameters import RAMGNNHyperparameters
from models.ram_gnn_sampler import AttributeRows, Bandit, nearest, random_parts
from models.shapes import expect

LEAST_LIKELY = 1e-4  # no logarithm of less is taken, in Eq. 11
SAMPLER = "sampler."


@dataclasses.dataclass(frozen=True)
class Side:
    """The users or the items: their attributes, and uint64 keys of entities (N,), types (T,) and values (Z,), from
    which their first vectors are drawn. names: of the types, for the history."""

    rows: AttributeRows
    entity_keys: np.ndarray
    type_keys: np.ndarray
    value_keys: np.ndarray
    names: tuple[str, ...]

    def row_keys(self, seed: int) -> np.ndarray:
        """uint64 (R,): a random number of each row's entity and value."""
        rows = self.rows
        entities, types, values = (ends.cpu().numpy() for ends in (rows.entities, rows.types, rows.values))
        ends = self.entity_keys[entities], self.type_keys[types], self.value_keys[values]
        return keyed_edges(*ends, key_of(seed, 0))

    def model(self, hyper: RAMGNNHyperparameters, seed: int) -> RAMGNN:
        """A new one for it."""
        rows = self.rows
        model = RAMGNN(rows.n_entities, rows.n_types, rows.n_values, hyper, seed)
        start_tables(model, self.entity_keys, self.type_keys, self.value_keys, seed)
        return model.to(hyper.device)


@dataclasses.dataclass(frozen=True)
class RAMGNNResult:
    """What training gives: all that `vectors_of` and the next night need, by name, and one record per epoch.

    history: "epoch", "loss", "seconds", "threshold_<type>" and, where evaluated, "validation_accuracy" (share of
    held-out rows whose entity is nearer to one with the value than to one without), with its standard error under
    "validation_accuracy_error". best_epoch: the epoch whose parameters these are; -1 when nothing was trained.
    """

    arrays: dict[str, np.ndarray]
    history: list[dict[str, float]]
    best_epoch: int


def pair_losses(likeness_B: torch.Tensor, alike: bool) -> torch.Tensor:
    """(B,): Eq. 11 as binary cross-entropy of similarities between 0 and 1."""
    return -torch.log((likeness_B if alike else 1 - likeness_B).clamp(min=LEAST_LIKELY))  # Eq. 11


class SideTrainer:
    """One side's model, its sampler, its held-out rows, and a step on a block of its entities."""

    def __init__(self, name: str, side: Side, hyper: RAMGNNHyperparameters, seed: int) -> None:
        self.name, self.hyper, self.seed = name, hyper, int(key_of(seed, *name.encode()))
        self.names, self.model, rows = side.names, side.model(hyper, seed), side.rows.to(hyper.device)
        first = np.full(rows.n_types, hyper.threshold)
        self.bandit = Bandit.of(first, hyper.threshold_step, hyper.max_threshold, hyper.termination_bound)
        self.held_out = held_out_rows(rows, side.row_keys(self.seed), hyper)
        self.all_rows, self.rows = rows, rows.kept(~self.held_out)

    def random(self, *draws: int) -> torch.Generator:
        """What draws under these numbers."""
        return torch.Generator(self.hyper.device).manual_seed(int(key_of(self.seed, *draws)) >> 1)

    @functools.cached_property
    def members(self) -> torch.Tensor:
        """int64, ascending: the entities that have a training row."""
        return torch.unique_consecutive(self.rows.entities)

    @functools.cached_property
    def known(self) -> AttributeRows:
        """The training rows of the one block that holds all members: sorted once for all epochs."""
        return self.rows.among(self.members)

    @property
    def thresholds(self) -> torch.Tensor:
        """k_t, int64 (T,)."""
        return torch.tensor(self.bandit.thresholds, device=self.hyper.device)

    def epoch(self, number: int, step: Callable[[torch.Tensor], None]) -> tuple[float, int]:
        """Every training row once as a positive; (sum of the losses, rows)."""
        random, hyper = self.random(1, number), self.hyper
        members = self.members
        drawn = members[torch.randperm(members.numel(), generator=random, device=members.device)]
        summed, n_rows = 0.0, 0
        averages = np.zeros((2, self.rows.n_types))
        for first in range(0, members.numel(), hyper.block):
            block = drawn[first : first + hyper.block].sort().values
            rows = self.rows.among(block) if members.numel() > hyper.block else self.known
            loss, seen, found = self.losses(rows, self.model.entities[block], random)
            averages += found
            if seen:
                step(loss)
                summed, n_rows = summed + float(loss.detach()) * seen, n_rows + seen
        with np.errstate(invalid="ignore"):
            self.bandit.update(averages[0] / averages[1])
        return summed, n_rows

    def losses(
        self, rows: AttributeRows, e_ND: torch.Tensor, random: torch.Generator
    ) -> tuple[torch.Tensor, int, np.ndarray]:
        """(L_final of a block per row, its rows with a positive, their neighbours' distances (2, T)).

        rows, e_ND: of the block's entities.
        """
        hyper, model = self.hyper, self.model
        z_N = model.place(e_ND)
        parts = random_parts(rows, hyper.candidates, random) if hyper.candidates else None
        neighbours = nearest(rows, z_N, self.thresholds, parts)
        averages = torch.stack(neighbours.average_distances(z_N.detach())).double().cpu().numpy()
        anchors, partners, others, counts = self.pairs(rows, random)
        if not anchors.numel():
            return e_ND.sum() * 0, 0, averages
        final_ND = model(neighbours, e_ND)
        gnn = self.final_loss(final_ND, anchors, partners, others, counts)  # Eq. 16
        loss = gnn + hyper.decay * penalty(model, e_ND)
        if not self.bandit.fixed.all():  # up to Γ
            similar = contrast(z_losses, z_N, anchors, partners, others, counts)
            loss = loss + hyper.similarity_weight * similar  # Eq. 17
        return loss, anchors.numel(), averages

    def pairs(self, rows: AttributeRows, random: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Each row with another of its value: (entities (B,), others with the value (B,), drawn entities (B, K), those
        of them that lack the value (B, K))."""
        by_value, offsets = rows.by_value
        sizes = (offsets[1:] - offsets[:-1])[rows.values]
        own = torch.empty_like(by_value)
        own[by_value] = torch.arange(rows.n_rows, device=rows.device)
        chosen = torch.nonzero(sizes > 1).squeeze(-1)
        starts, sizes, own, values = offsets[rows.values][chosen], sizes[chosen], own[chosen], rows.values[chosen]
        drawn = torch.rand(chosen.numel(), generator=random, device=rows.device, dtype=torch.float64)
        place = starts + (drawn * (sizes - 1)).long()
        place += place >= own  # past the row itself
        partners = rows.entities[by_value[place]]
        shape = (chosen.numel(), self.hyper.negatives)
        others = torch.randint(rows.n_entities, shape, generator=random, device=rows.device)
        counts = ~rows.hold(others, values.unsqueeze(-1).expand(shape))
        return rows.entities[chosen], partners, others, counts

    def likeness(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """What the final vectors of pairs are compared by: the larger the more alike."""
        return (x * y).sum(dim=-1) if self.hyper.final_similarity == "dot" else self.model.similarity(x, y)

    def final_loss(self, final_ND: torch.Tensor, *pairs: torch.Tensor) -> torch.Tensor:
        """Eq. 16 of `pairs`."""
        if self.hyper.final_similarity == "dot":
            return contrast_of_products(final_ND, *pairs)
        return contrast(lambda x, y, alike: pair_losses(self.likeness(x, y), alike), final_ND, *pairs)

    @torch.no_grad()
    def evaluate(self) -> np.ndarray:
        """float64: of each held-out row 1 where its entity is nearer to one with the value than to one without, else 0;
        ½ in a tie. Always the same draws."""
        found = torch.nonzero(self.held_out).squeeze(-1)
        if not found.numel():
            return np.zeros(0)
        neighbours = nearest(self.rows, self.model.place(self.model.entities), self.thresholds)
        final_ND, random = infer_ram_gnn(self.model, neighbours), self.random(2)
        by_value, offsets = self.rows.by_value
        anchors, values = self.all_rows.entities[found], self.all_rows.values[found]
        drawn = torch.rand(found.numel(), generator=random, device=found.device, dtype=torch.float64)
        place = offsets[values] + (drawn * (offsets[values + 1] - offsets[values])).long()
        partners = self.rows.entities[by_value[place]]
        members = self.members
        others = members[torch.randint(members.numel(), anchors.shape, generator=random, device=found.device)]
        lacks = ~self.all_rows.hold(others, values)
        near, far = (self.likeness(final_ND[anchors], final_ND[one]) for one in (partners, others))
        return (0.5 * ((near > far).double() + (near >= far).double()))[lacks].cpu().numpy()


def z_losses(z_B: torch.Tensor, other_B: torch.Tensor, alike: bool) -> torch.Tensor:
    """The terms of L_sim, from the numbers that Eq. 9 compares."""
    return pair_losses(1 - (z_B - other_B).abs(), alike)  # Eq. 9, 10


def penalty(model: RAMGNN, e_ND: torch.Tensor) -> torch.Tensor:
    """‖Θ‖² of Eq. 17: of the weights, and the mean of it over the vectors of a table."""
    tables = [e_ND, model.types, model.values]
    weights = [values for name, values in model.named_parameters() if name not in ("entities", "types", "values")]
    return sum((w * w).sum() for w in weights) + sum((t * t).sum() / max(len(t), 1) for t in tables)


def held_out_rows(rows: AttributeRows, keys: np.ndarray, hyper: RAMGNNHyperparameters) -> torch.Tensor:
    """bool (R,): rows kept out of training, by their keys (uint64): never an entity's last ones, nor the last two of a
    value."""
    wanted = min(int(hyper.validation_share * rows.n_rows), hyper.evaluate_rows)
    chosen = torch.from_numpy(first_by_key(keys, wanted)).to(rows.device)
    for of, size, least in ((rows.entities, rows.n_entities, 1), (rows.values, rows.n_values, 2)):
        left = torch.bincount(of[~chosen], minlength=size)
        chosen &= left[of] >= least
    return chosen


class _Trainer:
    """All sides under one optimiser."""

    def __init__(self, sides: Mapping[str, Side], hyper: RAMGNNHyperparameters, seed: int) -> None:
        self.sides = {name: SideTrainer(name, side, hyper, seed) for name, side in sides.items()}
        self.models = nn.ModuleDict({name: side.model for name, side in self.sides.items()})
        self.optimiser = torch.optim.Adam(self.models.parameters(), lr=hyper.learning_rate)

    def step(self, loss: torch.Tensor) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()

    def epoch(self, number: int) -> tuple[float, dict[str, float]]:
        found = [side.epoch(number, self.step) for side in self.sides.values()]
        k = {f"threshold_{name}": float(k) for side in self.sides.values()
             for name, k in zip(side.names, side.bandit.thresholds, strict=True)}  # fmt: skip
        return sum(loss for loss, _ in found) / max(sum(rows for _, rows in found), 1), k

    def evaluate(self) -> dict[str, float]:
        values = np.concatenate([side.evaluate() for side in self.sides.values()])
        accuracy = float(values.mean()) if len(values) else float("nan")
        return {"validation_accuracy": accuracy, "validation_accuracy_error": standard_error(values)}

    def state(self) -> dict[str, np.ndarray]:
        """Everything, by name, as copies."""
        arrays = as_checkpoint(parameters_of(self.models), optimiser_state(self.models, self.optimiser))
        for name, side in self.sides.items():
            arrays |= {f"{SAMPLER}{name}.{key}": array for key, array in side.bandit.arrays().items()}
        return arrays

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Inverse of `state`. ValueError, KeyError."""
        load_checkpoint(self.models, self.optimiser, arrays)
        for name, side in self.sides.items():
            side.bandit.take({key: arrays[f"{SAMPLER}{name}.{key}"] for key in side.bandit.arrays()})

    def start_from(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The parameters and the optimiser's state of a former night, and its thresholds: where the search goes on, or
        has ended."""
        load_checkpoint(self.models, self.optimiser, arrays)
        for name, side in self.sides.items():
            thresholds = arrays[f"{SAMPLER}{name}.thresholds"]
            expect("thresholds", thresholds, (side.rows.n_types,), "int64")
            side.bandit = Bandit.of(thresholds, side.bandit.step, side.bandit.most, side.bandit.bound)
            side.bandit.fixed = arrays[f"{SAMPLER}{name}.fixed"].astype(bool)


def train_ram_gnn(
    sides: Mapping[str, Side],
    hyper: RAMGNNHyperparameters,
    *,
    seed: int,
    deterministic: bool = False,
    initial: Mapping[str, np.ndarray] | None = None,
    resume: Path | None = None,
    progress: Callable[[dict[str, float]], None] | None = None,
) -> RAMGNNResult:
    """Learn the vectors of all sides' entities, types and values from their attributes.

    initial: a former result's arrays, brought to tonight's entities (`ram_gnn_warm_start.py`), from which everything
    starts, at `warm_rate_share` of the rate. deterministic: equal arguments give equal bits. resume: a scratch file,
    written after every look, from which the same call goes on after a kill; the caller removes it. progress: called
    with each entry of the history.
    """
    if initial is not None:
        hyper = dataclasses.replace(hyper, learning_rate=hyper.learning_rate * hyper.warm_rate_share)
    trainer = _Trainer(sides, hyper, seed)
    if initial is not None:
        trainer.start_from(initial)
    if not any(side.rows.n_rows for side in trainer.sides.values()):
        return RAMGNNResult(trainer.state(), [], -1)
    with deterministic_kernels(deterministic):
        looked_at = sum(len(side.evaluate()) for side in trainer.sides.values())  # none where everybody has the value
        best, history, best_epoch = run_epochs(
            hyper,
            trainer.epoch,
            trainer.state,
            evaluate=trainer.evaluate if looked_at else None,
            measure="validation_accuracy",
            min_gain=hyper.min_gain,
            keeps_gains=initial is not None,
            min_epochs=hyper.min_epochs if initial is None else 0,
            held_out=looked_at,
            progress=progress,
            resume=_resume(resume, trainer, sides, hyper, seed, deterministic, initial),
        )
    return RAMGNNResult(best, history, best_epoch)


def _resume(
    path: Path | None, trainer: _Trainer, sides: Mapping[str, Side], hyper: RAMGNNHyperparameters, seed: int,
    deterministic: bool, initial: Mapping[str, np.ndarray] | None,
) -> Resume | None:  # fmt: skip
    if path is None:
        return None
    arrays = []
    for name, side in sides.items():
        rows = (side.rows.entities.numpy(), side.rows.values.numpy(), side.rows.value_types.numpy())
        arrays += [name, side.names, *rows, side.entity_keys, side.type_keys, side.value_keys]
        arrays.append(trainer.sides[name].held_out.cpu().numpy())
    former = [] if initial is None else [part for name in sorted(initial) for part in (name, initial[name])]
    of_all = fingerprint(*arrays, *former, dataclasses.asdict(hyper), seed, deterministic)
    return Resume(Snapshot(Path(path), of_all), trainer.restore)


@torch.no_grad()
def vectors_of(
    sides: Mapping[str, Side], arrays: Mapping[str, np.ndarray], hyper: RAMGNNHyperparameters
) -> dict[str, np.ndarray]:
    """float32 (N, D) of each side's entities, from all their rows."""
    trainer = _Trainer(sides, dataclasses.replace(hyper, validation_share=0.0), 0)
    trainer.start_from(arrays)
    found = {}
    for name, side in trainer.sides.items():
        neighbours = nearest(side.rows, side.model.place(side.model.entities), side.thresholds)
        found[name] = infer_ram_gnn(side.model, neighbours).cpu().numpy()
    return found
