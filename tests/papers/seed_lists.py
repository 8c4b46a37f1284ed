"""Lists of seeds, for `make paper-lookalike`: of each client some of its past buyers by hash; who buys of it next?

Which client it is stays hidden: the night's model of lists is learned from item sets without the client's own and those
that share more than half of it (as cold_clients.py has them). Peers: today's classifier of the list alone, the seeds'
nearest users in each space, the density of seeds in each space (deWet and Ou, by the kernel of seed_sets.py), and
popularity at large. Seeds are not ranked.
Shapes: n items, u eligible users.
"""

from __future__ import annotations

import dataclasses
import datetime

import numpy as np
from scipy import sparse

from jobs.audiences.feature_sets import Source
from jobs.audiences.find_audience import margins_alone
from jobs.audiences.item_sets import CLIENT, ItemSets
from jobs.audiences.learn_pool import lessons_from, past_of, vectors_of
from jobs.audiences.lessons import untimed
from jobs.audiences.pooled_rows import folds, keys_of, order_of
from jobs.audiences.seed_lessons import SeedModel, fit_seed_lists
from jobs.audiences.seed_request import LEAST_OWN, Asked, own_share
from jobs.audiences.seed_sets import SeedLists
from jobs.audiences.set_columns import Past
from jobs.configuration.settings import Settings
from models import families
from models.classifiers.lookalike import OneClassError
from models.vectors.affinities import NAMES as AFFINITIES
from tests.papers.cold_clients import pool_sets
from tests.papers.lookalike_frames import Logs
from tests.papers.lookalike_peers import popularity
from tests.papers.shops import Nights

SIZES = (5, 20, 100)
LEAST_ALONE = 20  # today's classifier takes 30 or more in production; of 5 it cannot learn
OURS = "request"  # what find_audience ranks by
Scores = dict[tuple[str, int, str], np.ndarray]  # (row, seeds, client) → margins (u,), NaN of the seeds


def peers_of(models: list[str], size: int) -> list[str]:
    """The rows that ours is held against. models: those in whose spaces near users are sought."""
    spaces = [f"{how} {model}" for how in ("nearest", "density") for model in models]
    return ["recency", "count", *spaces] + ["alone"] * (size >= LEAST_ALONE)


def hidden(sets: ItemSets, clients: list[str]) -> ItemSets:
    """Without these clients, and the sets that are much the same."""
    others = pool_sets(sets, clients)
    left = [place for place, name in enumerate(others.names) if name not in {CLIENT + one for one in clients}]
    return ItemSets([others.names[p] for p in left], sparse.csr_array(others.members[left]), others.values)


def seeds_of(past: Past, of_client: np.ndarray, client: str, size: int, keys: np.ndarray) -> np.ndarray:
    """Numbers of so many eligible users who bought of the client before the day, by hash."""
    buyers = past.eligible[~past.never_bought(of_client)]
    order = order_of(keys[buyers], f"seeds of {client}")
    return buyers[np.argsort(order, kind="stable")[:size]]


def scores_of(nights: Nights, settings: Settings, date: datetime.date, logs: Logs, together: list[str]) -> Scores:
    """Of clients that share no item, by ours and by the peers."""
    graph, look, seed, tables = settings.graph, settings.lookalike, settings.seed, nights.tables(settings.seed)
    models = nights.models
    sets = hidden(logs.sets_before, together)
    lessons = lessons_from(logs.before, sets, tables, date, models, graph, look, seed)
    model = lessons if isinstance(lessons, str) else fit_seed_lists(lessons, models, look, seed)
    if isinstance(model, str):
        raise SystemExit(f"{nights.shop.name} without {', '.join(together)}: no model of lists can be learned: {model}")
    past = past_of(logs.around, date, graph, look)
    keys, fold = keys_of(past.log.users, seed), folds(past.log, len(model.boosters), seed)[past.eligible]
    published = vectors_of(tables, models, graph, look, seed)(past)
    lists = SeedLists(past, logs.sets, published, models, keys)
    one = _List(settings, model, lists, published.source, fold)
    found: Scores = {}
    for client in together:
        of_client = logs.sets.mask(logs.sets.place(client))
        for size in SIZES:
            seeds = seeds_of(past, of_client, client, size, keys)
            found |= {(row, size, client): margins for row, margins in one.rows(seeds, client, size).items()}
    return found


@dataclasses.dataclass(frozen=True)
class _List:
    settings: Settings
    model: SeedModel
    lists: SeedLists
    source: Source
    fold: np.ndarray

    def rows(self, seeds: np.ndarray, client: str, size: int) -> dict[str, np.ndarray]:
        past, spaces = self.lists.past, self.lists.spaces
        everybody, is_seed = np.arange(len(past.eligible)), np.isin(past.eligible, seeds)
        request = Asked(self.model, self.lists, self.lists, self.fold, self.settings.lookalike.pooled_trees.threads)
        learned, alone = request.ranked(seeds)[0], self._alone(is_seed, f"{client} {size}")
        share = own_share(len(seeds)) if len(seeds) >= LEAST_OWN and alone is not None else 0.0
        found = {OURS: learned if alone is None else (1 - share) * learned + share * alone}
        if alone is not None and size >= LEAST_ALONE:
            found["alone"] = alone
        nobodys = self.source.of_items("seeds", np.zeros(len(self.source.snapshot.items), bool))
        ids, drawn = self.lists.published.ledger_ids, self.lists.drawn(seeds)
        for model in spaces:
            near = nobodys.affinity_of(model, np.sort(ids[drawn]), everybody)
            found[f"nearest {model}"] = -near[:, AFFINITIES.index("near_references")]
            found[f"density {model}"] = spaces[model].density(drawn, everybody)[:, 0]
        found |= popularity(past, np.ones(past.bought.shape[1], bool))
        return {row: np.where(is_seed, np.nan, _without_gaps(margins)) for row, margins in found.items()}

    def _alone(self, is_seed: np.ndarray, name: str) -> np.ndarray | None:
        try:
            lesson = untimed(self.source, is_seed)
            usual, there = families.DEFAULT_MODELS[0], list(self.lists.spaces)
            return margins_alone(lesson, usual if usual in there else there[0], name, self.settings).now
        except OneClassError:
            return None


def _without_gaps(margins: np.ndarray) -> np.ndarray:
    """Users without a vector come last."""
    there = margins[np.isfinite(margins)]
    return np.where(np.isfinite(margins), margins, there.min() - 1 if len(there) else 0.0).astype(np.float64)
