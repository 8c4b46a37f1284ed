"""HUGT's training: pieces of histories in batches of about one length, Eq. 6, early stopping on users' last events.

Shape suffixes: see `models/hugt.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from models.hugt import HUGT, states_of
from models.hugt_graph import Histories, HUGs, runs
from models.hugt_hyperparameters import HUGTHyperparameters
from models.hugt_loss import loss_of_all, loss_of_candidates
from models.hugt_ranking import figures, ranks_of
from models.kernels.draws import key_of, keyed_numbers
from models.learning.determinism import deterministic_kernels
from models.learning.epochs import Resume, as_checkpoint, load_checkpoint, optimiser_state, parameters_of, run_epochs
from models.learning.training import Snapshot, fingerprint

_POOL = 8  # batches whose pieces are sorted by length together


@dataclasses.dataclass(frozen=True)
class World:
    """What HUGT learns from: everybody's histories of items (of n_items), and the items' vectors of `item_vectors`,
    which a model without graph heads can do without. max_length: events that a state knows of, at most. ahead: int64
    (N,), how many of the events after each one it may be asked to foretell, of which one is drawn in every epoch; None:
    the next."""

    histories: Histories
    n_items: int
    max_length: int
    vectors: np.ndarray | None = None
    ahead: np.ndarray | None = None

    def model(self, hyper: HUGTHyperparameters, seed: int) -> HUGT:
        """A new model of this shape, drawn from the seed alone."""
        random = torch.Generator().manual_seed(seed)
        return HUGT(self.n_items, self.max_length, hyper, random).to(hyper.device)

    def parts(self) -> list[object]:
        """All of it, for a fingerprint."""
        more = [part for part in (self.vectors, self.ahead) if part is not None]
        return [self.histories.items, self.histories.offsets, self.n_items, self.max_length, *more]


@dataclasses.dataclass(frozen=True)
class HUGTResult:
    """What training gives: `arrays` is all that inference and the next night need, by name.

    history: "epoch", "loss", "seconds"; where evaluated "validation_ndcg" and "validation_hr" at 10 among all items,
    with "validation_ndcg_error". best_epoch: the epoch whose parameters these are; -1 when nothing was trained. ranks
    float64, lengths int64: of the users held out, the rank of their last event by these parameters, and how many events
    the state knew that asked for it.
    """

    arrays: dict[str, np.ndarray]
    history: list[dict[str, float]]
    best_epoch: int
    ranks: np.ndarray
    lengths: np.ndarray


def held_out_users(keys: np.ndarray, lengths: np.ndarray, share: float, seed: int) -> np.ndarray:
    """bool (U,): whose last event is held out: this share of those with three events at least, by the users' keys
    (uint64) and the seed, whatever the other users are."""
    drawn = np.empty((len(keys), 1))
    keyed_numbers(np.asarray(keys, np.uint64) ^ key_of(seed), 1, drawn)
    return (drawn[:, 0] < share) & (lengths >= 3)


def pieces_of(
    starts: np.ndarray, ends: np.ndarray, max_length: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(starts, ends) of pieces of at most max_length + 1 events: an event after the first of a history is learned in
    one piece. Where a longer one is cut is drawn, and each piece begins with the last event of the one before."""
    lengths = ends - starts
    long = lengths > max_length + 1
    found_starts, found_ends = [starts[~long]], [ends[~long]]
    for start, end in zip(starts[long], ends[long], strict=True):
        first = start + 1 + int(random.integers(1, max_length + 1))
        cuts = np.append(np.arange(first, end, max_length), end)
        found_starts.append(np.concatenate([[start], cuts[:-1] - 1]))
        found_ends.append(cuts)
    return np.concatenate(found_starts), np.concatenate(found_ends)


class _Trainer:
    """Histories to batches, batches to losses, and one epoch after another; holds what stays the same throughout."""

    def __init__(self, world: World, model: HUGT, taught: np.ndarray, held_out: np.ndarray, seed: int) -> None:
        hyper, histories = model.hyper, world.histories
        self.world, self.model, self.hyper, self.seed = world, model, hyper, seed
        ends = histories.offsets[1:] - held_out
        learned = taught & (ends - histories.offsets[:-1] >= 2)
        self.starts, self.ends, self.ends_of_all = histories.offsets[:-1][learned], ends[learned], ends
        judged = np.flatnonzero(held_out)
        chosen = np.random.default_rng([seed, 2]).permutation(len(judged))[: hyper.evaluate_users]
        self.judged = judged[np.sort(chosen)]
        self.targets = histories.items[histories.offsets[1:][self.judged] - 1]
        self.optimiser = torch.optim.AdamW(
            model.parameters(), lr=hyper.learning_rate, weight_decay=hyper.weight_decay, betas=(0.9, 0.98))

    def epoch(self, number: int) -> float:
        """Every event after the first once: mean of Eq. 6."""
        random = np.random.default_rng([self.seed, 1, number])
        torch.manual_seed(int(random.integers(2**62)))  # of dropout
        starts, ends = pieces_of(self.starts, self.ends, self.world.max_length, random)
        self.model.train()
        summed = 0.0
        for chosen in self.batches(ends - starts, random):
            inputs = self.world.histories.pieces(starts[chosen], ends[chosen] - 1)
            targets = self.foretold(starts[chosen], ends[chosen], random)
            loss = self.loss(inputs, targets, random)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()
            summed += loss.item() * len(targets)
        return summed / max(int((ends - starts - 1).sum()), 1)

    def foretold(self, starts: np.ndarray, ends: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """What the events of pieces, but their last ones, are to foretell: items int64."""
        events, histories, ahead = runs(starts, ends - 1), self.world.histories, self.world.ahead
        if ahead is None:
            return histories.items[events + 1]
        users = np.searchsorted(histories.offsets, starts, side="right") - 1
        left = np.repeat(self.ends_of_all[users], ends - starts - 1) - events - 1  # in all that is learned from
        there = np.clip(ahead[events], 1, left)
        return histories.items[events + 1 + np.floor(random.random(len(events)) * there).astype(np.int64)]

    def batches(self, lengths: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
        """Pieces of about one length, in a new order: of some batches that are drawn together the shortest first."""
        order, size = random.permutation(len(lengths)), self.hyper.batch_size
        pools = [order[first : first + _POOL * size] for first in range(0, len(order), _POOL * size)]
        ordered = [pool[np.argsort(lengths[pool], kind="stable")] for pool in pools]
        found = [pool[first : first + size] for pool in ordered for first in range(0, len(pool), size)]
        return [found[n] for n in random.permutation(len(found))]

    def loss(self, inputs: Histories, targets: np.ndarray, random: np.random.Generator) -> torch.Tensor:
        """Eq. 6 of a batch, by event."""
        model = self.model
        h_ND = model(HUGs.of(inputs, self.world.vectors, self.hyper))
        targets_N = torch.from_numpy(targets).to(h_ND.device)
        if not self.hyper.candidates or self.hyper.candidates >= self.world.n_items:
            return loss_of_all(h_ND, model.items, model.biases, targets_N)
        drawn = random.choice(self.world.n_items, self.hyper.candidates, replace=False, shuffle=False)
        candidates_C = torch.from_numpy(np.sort(drawn)).to(h_ND.device)
        return loss_of_candidates(h_ND, model.items, model.biases, targets_N, candidates_C)

    def ranks(self) -> tuple[np.ndarray, np.ndarray]:
        """(ranks, lengths) of the users who are held out."""
        offsets = self.world.histories.offsets
        before = self.world.histories.pieces(offsets[:-1][self.judged], offsets[1:][self.judged] - 1)
        states = states_of(self.model, before, self.world.vectors)
        return ranks_of(self.model, states, self.targets), before.lengths

    def evaluate(self) -> dict[str, float]:
        """The figures of the events that are held out."""
        found = figures(self.ranks()[0])
        return {f"validation_{name}": value for name, value in found.items()}

    def state(self) -> dict[str, np.ndarray]:
        """Everything, by name, as copies."""
        return as_checkpoint(parameters_of(self.model), optimiser_state(self.model, self.optimiser))

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Inverse of `state`. ValueError for another shape of model."""
        load_checkpoint(self.model, self.optimiser, arrays)


def train_hugt(
    world: World,
    hyper: HUGTHyperparameters,
    *,
    seed: int,
    taught: np.ndarray | None = None,
    held_out: np.ndarray | None = None,
    look: Callable[[HUGT], dict[str, float]] | None = None,
    deterministic: bool = False,
    initial: Mapping[str, np.ndarray] | None = None,
    resume: Path | None = None,
    progress: Callable[[dict[str, float]], None] | None = None,
) -> HUGTResult:
    """Learn all parameters from the histories.

    taught: bool (U,), users who are learned from. held_out: bool (U,), users whose last event is not, and stops the
    training early. look: gives "validation_ndcg" and its error in place of theirs. initial: a former result's arrays
    for tonight's shape of model, from which it goes on at `warm_rate_share` of the rate. deterministic: equal arguments
    give equal bits. resume: a scratch file, written after every look, from which the same call goes on after a kill;
    the caller removes it.
    """
    if initial is not None:
        hyper = dataclasses.replace(hyper, learning_rate=hyper.learning_rate * hyper.warm_rate_share)
    n_users = len(world.histories.lengths)
    taught = np.ones(n_users, bool) if taught is None else taught
    held_out = np.zeros(n_users, bool) if held_out is None else held_out
    trainer = _Trainer(world, world.model(hyper, seed), taught, held_out, seed)
    if initial is not None:
        trainer.restore(initial)
    nobody = np.zeros(0), np.zeros(0, np.int64)
    if not len(trainer.starts):
        return HUGTResult(trainer.state(), [], -1, *nobody)
    going_on = None
    if resume is not None:
        former = [] if initial is None else [part for name in sorted(initial) for part in (name, initial[name])]
        more = [taught, held_out, dataclasses.asdict(hyper), seed, deterministic]
        going_on = Resume(Snapshot(Path(resume), fingerprint(*world.parts(), *former, *more)), trainer.restore)
    judges = look is not None or len(trainer.judged) > 0
    device = [trainer.model.items.device] if trainer.model.items.is_cuda else []
    with deterministic_kernels(deterministic), torch.random.fork_rng(device):
        best, history, best_epoch = run_epochs(
            hyper,
            trainer.epoch,
            trainer.state,
            evaluate=(lambda: look(trainer.model)) if look else trainer.evaluate if judges else None,
            measure="validation_ndcg",
            min_gain=hyper.min_gain if judges else None,
            keeps_gains=initial is not None,
            held_out=None if look else len(trainer.judged),
            progress=progress,
            resume=going_on,
        )
        trainer.restore(best)
        ranks = trainer.ranks() if len(trainer.judged) else nobody
    return HUGTResult(best, history, best_epoch, *ranks)
