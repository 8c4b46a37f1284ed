"""TransE's training: epochs, early stopping on held-out edges, and a snapshot from which a killed training goes on."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from models.hyperparameters import TransEHyperparameters
from models.learning.divergence import require_finite_loss
from models.learning.initialisation import WarmStart
from models.learning.training import LEAST_HELD_OUT, EarlyStopping, Snapshot, fingerprint, least_gain
from models.transe import TransE, TransEState, Triples, initialise

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TransEResult:
    """What a training gives: the state of the best epoch, and one record per epoch.

    history: epoch, loss (mean per edge), seconds, edges; validation_mrr and its standard error, validation_mrr_error,
    where they were measured. best_epoch: 0-based.
    """

    state: TransEState
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = -1


def train_transe(
    triples: Triples,
    hyper: TransEHyperparameters,
    *,
    seed: int,
    deterministic: bool = False,
    initial: WarmStart | None = None,
    resume: Path | None = None,
    progress: Callable[[dict[str, float]], None] | None = None,
) -> TransEResult:
    """Train until the held-out MRR stops rising or the epochs are over; the state of the best look is returned.

    Looks count from `min_epochs` on, on a warm start from `warm_min_epochs` on; there the look that gained last is
    kept: what comes after it moves vectors within the noise, away from the night before. A start that knows no relation
    is a cold one, whichever entities it holds. With fewer than LEAST_HELD_OUT held-out pairs none counts: it is
    trained to the end, the last state is kept, and a warning says so.

    deterministic: one thread; equal arguments give equal bits. resume: a scratch file, written after every look at the
    held-out edges, from which the same call goes on after a kill; the caller removes it. progress: called with each
    epoch's record. Diverged for a loss that is not finite, before the state is kept or saved.
    """
    snapshot = _snapshot(resume, triples, hyper, seed, deterministic, initial)
    warm = initial is not None and bool(initial.relation_known.any())
    min_epochs = min(hyper.epochs, hyper.warm_min_epochs if warm else hyper.min_epochs)
    stopping = EarlyStopping(hyper.patience, min_epochs, keeps_gains=warm)
    run = _Run.taken_up(snapshot) or _Run.begun(initialise(triples, hyper, seed, initial), stopping)
    model = TransE(triples, hyper, seed=seed, deterministic=deterministic, state=run.state)
    counts = model.held_out_pairs >= LEAST_HELD_OUT
    if hyper.validation_share and hyper.patience and not counts:
        _logger.warning(
            "%d pairs of this graph's %d edges are held out, and fewer than %d tell no gain from chance: all %d epochs "
            "are trained", model.held_out_pairs, len(triples.heads), LEAST_HELD_OUT, hyper.epochs)  # fmt: skip
    for epoch in range(len(run.history), hyper.epochs):
        if run.stopped:
            break
        record = model.train_epoch(epoch)
        require_finite_loss(record["loss"], epoch)
        looks = (epoch + 1) % hyper.evaluate_every == 0 or epoch + 1 == hyper.epochs
        if looks and model.has_held_out_edges:
            mrr, error = record["validation_mrr"], record["validation_mrr_error"] = model.look()
            run.stopped = counts and run.stopping.update(epoch, mrr, least_gain(mrr, error, hyper.min_gain))
        run.history.append(record)
        if looks:
            run.state = model.state
            if run.stopping.improved or not counts:
                run.best, run.best_epoch = run.state, epoch
        if progress:
            progress(record)
        if looks and snapshot:
            run.save(snapshot)
    return TransEResult(run.best, run.history, run.best_epoch)


@dataclass
class _Run:
    """Where a training stands: all that a killed one needs to go on."""

    state: TransEState
    best: TransEState
    best_epoch: int
    history: list[dict[str, float]]
    stopping: EarlyStopping
    stopped: bool = False

    @classmethod
    def begun(cls, state: TransEState, stopping: EarlyStopping) -> _Run:
        return cls(state, state, -1, [], stopping)

    @classmethod
    def taken_up(cls, snapshot: Snapshot | None) -> _Run | None:
        """The run that a snapshot holds, if there is one of this very training."""
        saved = snapshot.load() if snapshot else None
        if saved is None:
            return None
        try:
            return cls.of(*saved)
        except (KeyError, TypeError, ValueError) as error:
            raise snapshot.unusable(f"no run of this model ({type(error).__name__}: {error})") from error

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> _Run:
        """Inverse of what `save` writes."""
        parts = [
            TransEState.from_arrays({n.removeprefix(p): a for n, a in arrays.items() if n.startswith(p)})
            for p in ("state.", "best.")
        ]
        numbers = json.loads(metadata["run"])
        return cls(
            *parts, numbers["best_epoch"], numbers["history"], EarlyStopping(**numbers["stopping"]), numbers["stopped"]
        )

    def save(self, snapshot: Snapshot) -> None:
        """Replace the snapshot by this run."""
        arrays = {f"state.{name}": array for name, array in self.state.to_arrays().items()}
        arrays |= {f"best.{name}": array for name, array in self.best.to_arrays().items()}
        numbers = {
            "best_epoch": self.best_epoch,
            "history": self.history,
            "stopping": asdict(self.stopping),
            "stopped": self.stopped,
        }
        snapshot.save(arrays, {"run": json.dumps(numbers)})


def _snapshot(
    resume: Path | None,
    triples: Triples,
    hyper: TransEHyperparameters,
    seed: int,
    deterministic: bool,
    initial: WarmStart | None,
) -> Snapshot | None:
    if resume is None:
        return None
    arrays = [getattr(triples, name) for name in triples.__dataclass_fields__]
    former = [] if initial is None else [getattr(initial, name) for name in initial.__dataclass_fields__]
    return Snapshot(Path(resume), fingerprint(*arrays, *former, asdict(hyper), seed, deterministic))
