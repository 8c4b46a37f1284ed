"""The loop over epochs that the torch models share, and their parameters and optimiser's state as named arrays."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import nn

from models.learning.divergence import require_finite, require_finite_loss
from models.learning.training import LEAST_HELD_OUT, EarlyStopping, Snapshot, least_gain

_logger = logging.getLogger(__name__)
_OPTIMISER = "optimiser."
State = TypeVar("State")
Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Resume:
    """How a killed training goes on: from where, and what puts the state of that moment back into the model."""

    snapshot: Snapshot
    restore: Callable[[Arrays], None]


@dataclasses.dataclass
class _Run:
    """Where a loop stands. best: None before the first epoch."""

    stopping: EarlyStopping
    best: object = None
    best_epoch: int = -1
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    stopped: bool = False

    def save(self, snapshot: Snapshot, now: Arrays) -> None:
        """Replace the snapshot by this run and the state as it stands."""
        arrays = {f"now.{name}": array for name, array in now.items()}
        arrays |= {f"best.{name}": array for name, array in self.best.items()}
        numbers = {"best_epoch": self.best_epoch, "history": self.history, "stopped": self.stopped}
        snapshot.save(arrays, {"run": json.dumps(numbers | {"stopping": dataclasses.asdict(self.stopping)})})

    def take_up(self, resume: Resume) -> None:
        """Go on from the snapshot, if there is one of this very training. SnapshotError."""
        saved = resume.snapshot.load()
        if saved is None:
            return
        try:
            arrays, numbers = saved[0], json.loads(saved[1]["run"])
            self.stopping = EarlyStopping(**numbers.pop("stopping"))
            for name, value in numbers.items():
                setattr(self, name, value)
            now, self.best = (
                {name.removeprefix(part): array for name, array in arrays.items() if name.startswith(part)}
                for part in ("now.", "best.")
            )
            resume.restore(now)
        except (KeyError, TypeError, ValueError) as error:
            raise resume.snapshot.unusable(f"no run of this model ({type(error).__name__}: {error})") from error


class Looks(Protocol):
    """What every model's hyperparameters say of its training: how many epochs it has at most, how many lie between two
    looks at held-out data, and how many looks without a gain end it, 0 for none."""

    @property
    def epochs(self) -> int: ...

    @property
    def evaluate_every(self) -> int: ...

    @property
    def patience(self) -> int: ...


def run_epochs(
    hyper: Looks,
    train: Callable[[int], float | tuple[float, dict[str, float]]],
    state: Callable[[], State],
    *,
    evaluate: Callable[[], dict[str, float]] | None,
    measure: str,
    progress: Callable[[dict[str, float]], None] | None,
    falls: bool = False,
    min_gain: float | None = None,
    keeps_gains: bool = False,
    min_epochs: int = 0,
    held_out: int | None = None,
    resume: Resume | None = None,
) -> tuple[State, list[dict[str, float]], int]:
    """(best state, history, best epoch) of a training that looks at held-out data now and then.

    train: called with each epoch, gives its mean loss, and with it what else the history is to hold. state: what to
    keep of the model as it stands. evaluate: the figures of held-out data, added to the history; without it every epoch
    is better than the one before. measure: which of them decides, higher being better, or lower where it falls.
    min_gain: the share of it that a look has to gain to count, and never less than its standard error, which stands in
    the history under <measure>_error; None: any gain counts. Whether it stopped early or not, the best look is kept, or
    with keeps_gains the one that gained last. min_epochs: before so many no look counts. held_out: how many
    independent cases a look judges; with fewer than LEAST_HELD_OUT none counts: it is trained to the end, the last
    state is kept, and a warning says so where it could have stopped early; None: all count. resume: written after every
    look, from where the same call goes on after a kill; the state is then arrays by name, and the caller removes the
    file. Diverged for a loss that is not finite: nothing of that epoch is looked at, kept or saved.
    """
    run = _Run(EarlyStopping(hyper.patience, min(min_epochs, hyper.epochs), keeps_gains))
    if resume is not None:
        run.take_up(resume)
    run.best = state() if run.best is None else run.best
    counts = evaluate is None or held_out is None or held_out >= LEAST_HELD_OUT
    if hyper.patience and not counts:
        _logger.warning(
            "%s is that of %d held out, and fewer than %d tell no gain from chance: all %d epochs are trained", measure,
            held_out, LEAST_HELD_OUT, hyper.epochs)  # fmt: skip
    for epoch in range(len(run.history), hyper.epochs):
        if run.stopped:
            break
        started = time.perf_counter()
        loss = train(epoch)
        loss, more = loss if isinstance(loss, tuple) else (loss, {})
        require_finite_loss(loss, epoch)
        entry = {"epoch": float(epoch), "loss": loss, "seconds": time.perf_counter() - started} | more
        looks = (epoch + 1) % hyper.evaluate_every == 0 or epoch + 1 == hyper.epochs
        improved = evaluate is None
        if evaluate is not None and looks:
            entry |= evaluate()
            found = entry[measure]
            least = 0.0 if min_gain is None else least_gain(found, entry[f"{measure}_error"], min_gain)
            run.stopped = counts and run.stopping.update(epoch, -found if falls else found, least)
            improved = run.stopping.improved or not counts
        if improved:
            run.best, run.best_epoch = state(), epoch
        run.history.append(entry)
        if progress is not None:
            progress(entry)
        if resume is not None and looks:
            run.save(resume.snapshot, state())
    return run.best, run.history, run.best_epoch


def parameters_of(model: nn.Module) -> dict[str, np.ndarray]:
    """Every parameter by name, as a copy. Diverged where one is not finite, as after an epoch's last step: its loss
    does not show it yet."""
    found = {name: values.detach().cpu().numpy().copy() for name, values in model.named_parameters()}
    for name, values in found.items():
        require_finite(f"parameter {name!r}", values)
    return found


def optimiser_state(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, np.ndarray]:
    """What the optimiser remembers of each parameter, by the parameter's name and its own, as copies."""
    return {
        f"{name}.{key}": moment.cpu().numpy().copy()
        for name, values in model.named_parameters()
        for key, moment in optimiser.state.get(values, {}).items()
    }


def as_checkpoint(parameters: Mapping[str, np.ndarray], optimiser: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Both under one roof."""
    return {**parameters, **{_OPTIMISER + name: values for name, values in optimiser.items()}}


def load_checkpoint(model: nn.Module, optimiser: torch.optim.Optimizer, checkpoint: Mapping[str, np.ndarray]) -> None:
    """The parameters, and the optimiser's state as far as it is there. Raises ValueError as `load_parameters` does."""
    load_parameters(model, checkpoint)
    for name, values in model.named_parameters():
        prefix, moments, counts = f"{_OPTIMISER}{name}.", {}, device_of_steps(optimiser, values)
        for key in checkpoint:
            if key.startswith(prefix):
                moment = torch.from_numpy(checkpoint[key].copy())
                moments[key.removeprefix(prefix)] = moment.to(counts if key == f"{prefix}step" else values.device)
        if moments:
            optimiser.state[values] = moments


def device_of_steps(optimiser: torch.optim.Optimizer, parameter: torch.Tensor) -> torch.device:
    """Where the optimiser counts a parameter's steps: beside it where a fused or a captured kernel does, else on the
    CPU. As `Optimizer.load_state_dict` has it; a fused Adam on a GPU fails on a count that is on the CPU."""
    group = next(group for group in optimiser.param_groups if any(one is parameter for one in group["params"]))
    beside = group.get("fused") or group.get("capturable")
    return parameter.device if beside else torch.device("cpu")


def load_parameters(model: nn.Module, parameters: Mapping[str, np.ndarray]) -> None:
    """Copy named arrays into the model; other names are left alone.

    Raises ValueError for a missing one or another shape.
    """
    with torch.no_grad():
        for name, values in model.named_parameters():
            found = parameters.get(name)
            if found is None or found.shape != tuple(values.shape):
                shape = "missing" if found is None else f"of shape {found.shape}"
                raise ValueError(
                    f"{type(model).__name__} parameter {name!r} is {shape} in the checkpoint; expected shape "
                    f"{tuple(values.shape)}: the checkpoint comes from a model with other hyperparameters, vectors or "
                    "tables, so train without it"
                )
            values.copy_(torch.from_numpy(found))
