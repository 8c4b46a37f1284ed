"""The interaction network's training: BPR over pairs in equal parts, early stopping on users' held-out items."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from models.kernels.draws import key_of
from models.learning.determinism import deterministic_kernels
from models.learning.epochs import Resume, as_checkpoint, load_checkpoint, optimiser_state, parameters_of, run_epochs
from models.learning.held_out import first_by_key
from models.learning.negatives import keyed_edges
from models.learning.pairwise import bpr_mean
from models.learning.training import Snapshot, fingerprint, standard_error
from models.ram_gnn_hyperparameters import InteractionHyperparameters
from models.ram_gnn_interactions import InteractionNetwork, Pairs, Pretrained, as_of_now
from models.ram_gnn_recent import Histories, latest_times
from models.shapes import expect

LOOKED_AT = 10  # a held-out item counts as found among so many
_CELLS = 1 << 24  # scores held at a time


@dataclasses.dataclass(frozen=True)
class InteractionResult:
    """What training gives: `arrays` is all that inference and the next night need, by name.

    history: "epoch", "loss", "seconds" and, where evaluated, "validation_hr" (share of held-out pairs whose item is
    among the user's first 10 of all that the user is not known to have touched) and "validation_hr_error", "validation_
    ndcg". best_epoch: the epoch whose parameters these are; -1 when nothing was trained.
    """

    arrays: dict[str, np.ndarray]
    history: list[dict[str, float]]
    best_epoch: int


class InteractionTrainer:
    """Pairs to batches, batches to losses; holds what stays the same throughout."""

    def __init__(
        self, users: Pretrained, items: Pretrained, pairs: tuple[np.ndarray, np.ndarray], taught: np.ndarray,
        hyper: InteractionHyperparameters, seed: int, held_out: np.ndarray | None, times: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        self.hyper, self.seed, self.device = hyper, seed, torch.device(hyper.device)
        n_users, n_items = len(users.entities), len(items.entities)
        of_users, of_items, of_times = latest_times(*pairs, times_of(pairs, hyper, times), n_items)
        if held_out is None:
            keys = users.entity_keys, items.entity_keys
            held = held_out_pairs(of_users, of_items, keys, hyper, seed, of_times if hyper.recent else None)
        else:
            held = np.isin(of_users * n_items + of_items, held_out[0] * n_items + held_out[1])
        self.held_out = of_users[held], of_items[held]
        trained = of_users[~held], of_items[~held]
        self.pairs = Pairs.of(*trained, n_users, n_items, hyper.device)
        self.histories, places = histories_of(*trained, of_times[~held], n_users, hyper)
        learns = taught[trained[0]]
        self.users, self.items, self.places = (
            torch.from_numpy(side[learns]).to(self.device) for side in (*trained, places))
        self.n_items = n_items
        self.network = InteractionNetwork(users, items, hyper).to(self.device)
        own = [side.entities for side in (self.network.users, self.network.items)]
        shared = [one for one in self.network.parameters() if not any(one is other for other in own)]
        groups = [{"params": own}, {"params": shared, "lr": hyper.learning_rate * hyper.shared_rate_share}]
        self.optimiser = torch.optim.Adam(groups, lr=hyper.learning_rate, fused=True)

    def random(self, *draws: int) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(int(key_of(self.seed, *draws)) >> 1)

    def epoch(self, number: int) -> float:
        """Every pair once, in a new order; the mean of Eq. 23 without its penalty."""
        random = self.random(1, number)
        order = torch.randperm(self.users.numel(), generator=random, device=self.device)
        summed = torch.zeros((), device=self.device)
        for chosen in order.tensor_split(batches_of(order.numel(), self.hyper)):
            users, items = self.users[chosen], self.items[chosen]
            shape = (chosen.numel(), self.hyper.negatives)
            others = torch.randint(self.n_items, shape, generator=random, device=self.device)
            loss, terms = self.loss(users, items, others, self.places[chosen])
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()
            summed += terms.detach() * chosen.numel()
        return float(summed) / order.numel()

    def loss(
        self, users: torch.Tensor, items: torch.Tensor, others: torch.Tensor, places: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(Eq. 23 of a batch, the same without its penalty). others: items drawn for each pair (B, K); those that the
        user touched count nothing. places: of the pairs in the histories, where there are any."""
        x_UD, x_ID = self.network(self.pairs)
        rows = None
        if self.histories is not None:
            assert places is not None
            x_UD = x_UD[users] + self.histories.before(x_ID, users, places)
            rows = torch.arange(users.numel(), device=self.device)
        terms = bpr_mean(x_UD, x_ID, self.pairs.into_users, users, items, others, self.hyper.hardest, rows)  # Eq. 23
        squares = sum(mean_square(side.entities, rows) for side, rows in (
            (self.network.users, users), (self.network.items, items), (self.network.items, others)))  # fmt: skip
        return terms + self.hyper.decay * squares, terms

    @torch.no_grad()
    def ranks(self) -> torch.Tensor:
        """float64: of each held-out pair its item's rank among all items but those of training."""
        x_UD, x_ID = as_of_now(*self.network(self.pairs), self.histories)
        ends = (torch.from_numpy(side).to(self.device) for side in self.held_out)
        return held_out_ranks(x_UD, x_ID, *ends, self.pairs.into_users)

    def evaluate(self) -> dict[str, float]:
        """The figures of held-out pairs."""
        ranks = self.ranks()
        hits = (ranks <= LOOKED_AT).double().cpu().numpy()
        gains = hits / np.log2(1 + ranks.cpu().numpy())
        figures = {"validation_hr": float(hits.mean()), "validation_ndcg": float(gains.mean())}
        return figures | {"validation_hr_error": standard_error(hits), "validation_ndcg_error": standard_error(gains)}

    def state(self) -> dict[str, np.ndarray]:
        """Everything, by name, as copies."""
        return as_checkpoint(parameters_of(self.network), optimiser_state(self.network, self.optimiser))

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Inverse of `state`. ValueError for another shape of model."""
        load_checkpoint(self.network, self.optimiser, arrays)


def batches_of(n_pairs: int, hyper: InteractionHyperparameters) -> int:
    """The updates of an epoch: fewer than `batches` where a batch would have less than `least_batch` pairs."""
    return max(1, min(hyper.batches, n_pairs // hyper.least_batch))


def mean_square(table_ND: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """The mean of ‖e‖² over rows of a table, drawn ones as often as they were: without fetching them."""
    counts_N = torch.bincount(rows.flatten(), minlength=len(table_ND))
    return (table_ND.square().sum(-1) * counts_N).sum() / max(rows.numel(), 1)


def held_out_ranks(
    x_UD: torch.Tensor, x_ID: torch.Tensor, users: torch.Tensor, items: torch.Tensor, known: object
) -> torch.Tensor:
    """float64 (B,): the realistic rank of each pair's item among all that the user is not known to have touched.

    known: the `Adjacency` of items into users. Of equal scores the mean rank is taken.
    """
    ranks, step = [], max(1, _CELLS // max(len(x_ID), 1))
    for first in range(0, users.numel(), step):
        some, wanted = users[first : first + step], items[first : first + step]
        scores = x_UD[some] @ x_ID.T
        target = scores.gather(1, wanted.unsqueeze(1))
        counts = known.degrees[some]
        rows = torch.repeat_interleave(torch.arange(some.numel(), device=some.device), counts)
        starts = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
        within = torch.arange(rows.numel(), device=some.device) - starts
        scores[rows, known.sources[known.offsets[some][rows] + within]] = -torch.inf
        scores.scatter_(1, wanted.unsqueeze(1), target)
        before, ties = (scores > target).sum(1), (scores == target).sum(1) - 1
        ranks.append(1.0 + before.double() + ties.double() / 2)
    return torch.cat(ranks) if ranks else torch.zeros(0, dtype=torch.float64)


def times_of(
    pairs: tuple[np.ndarray, np.ndarray], hyper: InteractionHyperparameters, times: np.ndarray | None
) -> np.ndarray:
    """int64: when each pair was; all at once where nobody asks. ValueError where `recent` needs what is not given."""
    if not hyper.recent:
        return np.zeros(len(pairs[0]), np.int64)
    if times is None:
        raise ValueError(f"recent is {hyper.recent}, which asks for the times of the pairs; expected times, found None")
    expect("times", times, pairs[0].shape, "int64")
    return times


def histories_of(
    users: np.ndarray, items: np.ndarray, times: np.ndarray, n_users: int, hyper: InteractionHyperparameters
) -> tuple[Histories | None, np.ndarray]:
    """(what users had last, or None where nobody asks; where each pair went)."""
    if not hyper.recent:
        return None, np.zeros(len(users), np.int64)
    return Histories.of(users, items, times, n_users, hyper)


def held_out_pairs(
    of_users: np.ndarray, of_items: np.ndarray, keys: tuple[np.ndarray, np.ndarray],
    hyper: InteractionHyperparameters, seed: int, of_times: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """bool (pairs,): one pair of some of the users who have at least three: any, or given the times one of the latest.
    Who and which is by the keys of users and items, uint64 each. of_users: ascending."""
    held = np.zeros(len(of_users), bool)
    counts = np.bincount(of_users, minlength=len(keys[0]))
    able = np.flatnonzero(counts >= 3)
    wanted = min(int(np.ceil(hyper.validation_share * len(able))), hyper.evaluate_users)
    of_able, of_both = np.zeros((2, len(able)), np.uint64), np.zeros(len(of_users), np.uint64)
    chosen = able[first_by_key(keyed_edges(keys[0][able], *of_able, key_of(seed, 7)), wanted)]
    of_pairs = keyed_edges(keys[0][of_users], of_both, keys[1][of_items], key_of(seed, 8))
    order = np.lexsort((of_pairs, np.zeros_like(of_users) if of_times is None else of_times, of_users))
    held[order[np.cumsum(counts)[chosen] - 1]] = True
    return held


def train_interactions(
    users: Pretrained,
    items: Pretrained,
    pairs: tuple[np.ndarray, np.ndarray],
    hyper: InteractionHyperparameters,
    *,
    seed: int,
    taught: np.ndarray | None = None,
    held_out: tuple[np.ndarray, np.ndarray] | None = None,
    times: np.ndarray | None = None,
    deterministic: bool = False,
    initial: Mapping[str, np.ndarray] | None = None,
    resume: Path | None = None,
    progress: Callable[[dict[str, float]], None] | None = None,
) -> InteractionResult:
    """Learn from pairs (users, items), int64 dense indices, starting at pretrained vectors.

    taught: bool (U,), users whose pairs are learned from; all pairs pass messages. held_out: pairs among `pairs` that
    stop the training early and are neither learned from nor pass messages; None draws them. times: int64, when each
    pair was, in any unit; `recent` needs their order, and of a pair that comes several times the latest counts.
    initial: a former result's arrays for tonight's users and items (`interactions_brought_forward`), at
    `warm_rate_share` of the rate.
    deterministic: equal arguments give equal bits. resume: a scratch file, written after every look, from which the
    same call goes on after a kill; the caller removes it.
    """
    taught = np.ones(len(users.entities), bool) if taught is None else taught
    if initial is not None:
        hyper = dataclasses.replace(hyper, learning_rate=hyper.learning_rate * hyper.warm_rate_share)
    trainer = InteractionTrainer(users, items, pairs, taught, hyper, seed, held_out, times)
    if initial is not None:
        trainer.restore(initial)
    if not trainer.users.numel():
        return InteractionResult(trainer.state(), [], -1)
    snapshot = None
    if resume is not None:
        parts = [
            part for side in (users, items) for part in (side.entities, side.values, side.entity_keys, *(
                getattr(side.rows, name).numpy() for name in ("entities", "values", "value_types")))]  # fmt: skip
        former = [] if initial is None else [part for name in sorted(initial) for part in (name, initial[name])]
        when = times_of(pairs, hyper, times)
        more = [np.stack(pairs), when, taught, *(held_out or ()), dataclasses.asdict(hyper), seed, deterministic]
        snapshot = Resume(Snapshot(Path(resume), fingerprint(*parts, *former, *more)), trainer.restore)
    with deterministic_kernels(deterministic):
        best, history, best_epoch = run_epochs(
            hyper,
            trainer.epoch,
            trainer.state,
            evaluate=trainer.evaluate if len(trainer.held_out[0]) else None,
            measure="validation_ndcg",
            min_gain=hyper.min_gain,
            keeps_gains=initial is not None,
            held_out=len(trainer.held_out[0]),
            progress=progress,
            resume=snapshot,
        )
    return InteractionResult(best, history, best_epoch)
