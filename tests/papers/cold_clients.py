"""Clients of whom little is known: all purchases of their items are taken out of the log before the day, but for those
of some known buyers.

What is left stands in no table: not in columns, lift or ALS. Trees learn from the log without a single buyer, whatever
the number that is known afterwards: the few could teach them nothing. Vectors are left out, since each client would
need a training of its own. Clients that share no item are cold together.
Shapes: n items, U users of the log, u eligible ones.
"""

from __future__ import annotations

import dataclasses
import datetime

import numpy as np
from scipy import sparse

from jobs.audiences.event_log import Behavior, EventLog
from jobs.audiences.fitted import mean_margin
from jobs.audiences.item_sets import CLIENT, ItemSets
from jobs.audiences.learn_pool import Pool, columns_of, fit_pool, lessons_from, past_of
from jobs.audiences.pooled_rows import keys_of, order_of
from jobs.audiences.set_columns import Past
from jobs.configuration.settings import Settings
from tests.papers.lookalike_frames import Logs
from tests.papers.lookalike_peers import PEERS, alike, peers
from tests.papers.shops import Nights

KNOWN = (0, 5, 20, 100)  # buyers before the day that are left in the log
MOST_SHARED = 0.5
TARGETS = ("set", "kin")  # what a peer ranks by: the client's items, or those of their kind
Scores = dict[tuple[str, int, str], np.ndarray]  # (row, buyers known, client) → margins (u,)


def groups(sets: ItemSets, clients: list[str]) -> list[list[str]]:
    """The clients in groups that share no item, each into the first that it fits in."""
    found: list[tuple[list[str], np.ndarray]] = []
    for client in clients:
        mine = sets.mask(sets.place(client))
        for names, taken in found:
            if not (taken & mine).any():
                names.append(client)
                taken |= mine
                break
        else:
            found.append(([client], mine.copy()))
    return [names for names, _ in found]


def without(log: EventLog, items: np.ndarray, kept: np.ndarray, end: int) -> EventLog:
    """The log less the events with these items before a day, but for those of the kept users. items bool (n,), kept
    bool (U,)."""
    behaviors = {name: _without(rows, items, kept, end) for name, rows in log.behaviors.items()}
    return dataclasses.replace(log, behaviors=behaviors)


def _without(rows: Behavior, items: np.ndarray, kept: np.ndarray, end: int) -> Behavior:
    stays = ~items[rows.item] | kept[rows.user] | (rows.day >= end)
    start = np.append(0, np.cumsum(stays))[rows.start]
    columns = (getattr(rows, name)[stays] for name in ("item", "day", "count", "money", "previous"))
    return Behavior(start, *columns)


def pool_sets(sets: ItemSets, cold: list[str]) -> ItemSets:
    """The sets less those of which more than half of the items are a cold client's, or that hold more than half of the
    client's; the cold clients stay, and are no lesson, having no buyers."""
    sizes = np.maximum(1, np.diff(sets.members.indptr))
    left = np.ones(len(sets), bool)
    for client in cold:
        mine = sets.mask(sets.place(client))
        shared = sets.members.astype(np.float32) @ mine.astype(np.float32)
        left &= (shared <= MOST_SHARED * sizes) & (shared <= MOST_SHARED * mine.sum())
    left |= np.isin(sets.names, [CLIENT + client for client in cold])
    places = np.flatnonzero(left)
    members = sparse.csr_array(sets.members[places])
    return ItemSets([sets.names[place] for place in places], members, sets.values)


def known_buyers(past: Past, of_client: np.ndarray, client: str, number: int, keys: np.ndarray) -> np.ndarray:
    """Numbers of so many of the users who bought of the client before the day, by hash."""
    buyers = np.flatnonzero(past.bought @ of_client.astype(np.float32))
    order = order_of(keys[buyers], f"known {client}")
    return buyers[np.argsort(order, kind="stable")[:number]]


def scores_of(
    nights: Nights, settings: Settings, date: datetime.date, logs: Logs, cold: list[str], with_pool: bool
) -> Scores:
    """Of the pooled model, where wanted, and of the peers, by each target, for clients that are cold together."""
    graph, look, seed = settings.graph, settings.lookalike, settings.seed
    past = past_of(logs.around, date, graph, look)
    sets, pool = pool_sets(logs.sets, cold), None
    if with_pool:
        pool = _learned(nights, settings, date, cold, logs)
    keys = keys_of(logs.around.users, seed)
    items = np.any([sets.mask(sets.place(client)) for client in cold], axis=0)
    found: Scores = {}
    for number in KNOWN:
        kept = np.zeros(len(logs.around.users), bool)
        for client in cold:
            kept[known_buyers(past, sets.mask(sets.place(client)), client, number, keys)] = True
        now = Past(
            without(logs.around, items, kept, past.today), past.today, past.window_days, past.lately_days,
            past.purchase, past.eligible)
        if pool is not None:
            columns, _ = columns_of([now], nights.tables(seed), sets, [], graph, look, keys, seed)
            for client in cold:
                features = columns(now, sets.place(client), np.arange(len(now.eligible)))
                found["pooled", number, client] = mean_margin(pool.boosters, features, look.pooled_trees.threads)
        found |= _peers(now, sets, cold, number, seed)
    return found


def _learned(nights: Nights, settings: Settings, date: datetime.date, cold: list[str], logs: Logs) -> Pool:
    """From the log without a single buyer of these clients."""
    sets, graph, look = pool_sets(logs.sets_before, cold), settings.graph, settings.lookalike
    items = np.any([sets.mask(sets.place(client)) for client in cold], axis=0)
    nobody = np.zeros(len(logs.before.users), bool)
    log = without(logs.before, items, nobody, 1 << 30)
    lessons = lessons_from(log, sets, nights.tables(settings.seed), date, [], graph, look, settings.seed)
    if isinstance(lessons, str):
        raise SystemExit(f"{nights.shop.name} without {', '.join(cold)}: {lessons}")
    return fit_pool(lessons, look, settings.seed)


def _peers(now: Past, sets: ItemSets, cold: list[str], number: int, seed: int) -> Scores:
    places = [sets.place(client) for client in cold]
    of_sets = np.stack([sets.mask(place) for place in places])
    kin = (sets.kin(place, now.known) for place in places)
    of_kin = np.stack([alike(*of_client) for of_client in zip(kin, of_sets, strict=True)])
    scored = peers(now, np.concatenate([of_sets, of_kin]), seed)
    return {
        (f"{peer} of {target}", number, client): scored[peer][k + len(cold) * t]
        for peer in PEERS for t, target in enumerate(TARGETS) for k, client in enumerate(cold)}  # fmt: skip
