"""Users with one to three events in a night's window, at two shops, for `paper_ram_gnn_cold.py`.

A night knows the events of [T − window, T), as the shop's shipped configuration has them, and what has one is its users
and items. Two questions about the cold among its users, both answered in [T, T + L): which item that is new to the user
comes next, among all items of the night but his own; and who has an event with a client, a value of an item attribute.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools

import numpy as np
import pandas as pd

from jobs.configuration.load import load_settings
from jobs.configuration.sections import Attribute
from jobs.events.import_dataset import import_dataset
from models.ram_gnn_sampler import AttributeRows
from models.ram_gnn_training import Side
from tests.conftest import SHARED_DATA
from tests.papers.lookalike_cache import PROJECT
from tests.papers.shops import CONFIGS

KEPT = PROJECT / "build" / "paper_ram_gnn_cold"
MOST = 3  # events of a cold user


@dataclasses.dataclass(frozen=True)
class Shop:
    """name: of its data and its importer; nights: each T, of which the days after do not overlap; client: an item
    attribute; buying: the behaviours that a client's audience is about, none for all."""

    name: str
    config: str
    nights: tuple[datetime.date, ...]
    client: str
    buying: tuple[str, ...] = ()


SHOPS = (
    Shop("completejourney", "completejourney",
         tuple(datetime.date(2018, 1, 1) - datetime.timedelta(days=45 * k) for k in (4, 3, 2, 1)), "category"),
    Shop("alibaba-ecomm", "alibaba_ecomm", tuple(datetime.date(2019, 6, day) for day in (16, 18)), "category"),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class ColdNight:
    """Dense indices. pairs: (users, items) of the window, each once; cold: users with one to three events; following:
    (users, items), of cold users alone; sides: attributes of users and items; items_of, labels: of each client (int64
    items; bool (cold,))."""

    n_users: int
    n_items: int
    pairs: tuple[np.ndarray, np.ndarray]
    cold: np.ndarray
    n_events: np.ndarray
    following: tuple[np.ndarray, np.ndarray]
    sides: dict[str, Side]
    items_of: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]


@functools.cache
def tables(shop: Shop) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """events, items, users, as the importer gives them."""
    folder = KEPT / "source" / shop.name
    if not (folder / "users.parquet").exists():
        import_dataset(shop.name, SHARED_DATA / shop.name, folder)
    return tuple(pd.read_parquet(folder / f"{name}.parquet") for name in ("events", "items", "users"))


@functools.cache
def night_of(shop: Shop, date: datetime.date) -> ColdNight:
    """What is known at T, and what came after."""
    settings, (events, items, users) = load_settings(CONFIGS / f"{shop.config}.yaml"), tables(shop)
    graph, (start, end) = settings.graph, (pd.Timestamp(date, tz="UTC"), settings.lookalike.label_window_days)
    before = events[(events.event_time < start) & (events.event_time >= start - pd.Timedelta(days=graph.window_days))]
    after = events[(events.event_time >= start) & (events.event_time < start + pd.Timedelta(days=end))]
    ids = {kind: np.sort(before[f"{kind}_id"].unique()) for kind in ("user", "item")}
    of_users, of_items = (np.searchsorted(ids[kind], before[f"{kind}_id"]) for kind in ("user", "item"))
    n_users, n_items = len(ids["user"]), len(ids["item"])
    pairs, counts = np.unique(np.stack([of_users, of_items]), axis=1), np.bincount(of_users)
    cold = np.flatnonzero(counts <= MOST)
    later = after[after.user_id.isin(ids["user"][cold])]
    known = later[later.item_id.isin(ids["item"])].sort_values(["event_time", "item_id"], kind="stable")
    next_users, next_items = (np.searchsorted(ids[kind], known[f"{kind}_id"]) for kind in ("user", "item"))
    new = ~np.isin(next_users * n_items + next_items, pairs[0] * n_items + pairs[1])
    following, first = np.unique(next_users[new], return_index=True)
    sides = {
        "item": side_of(items[items.item_id.isin(ids["item"])], "item_id", ids["item"], graph.item_attributes),
        "user": side_of(users[users.user_id.isin(ids["user"])], "user_id", ids["user"], graph.user_attributes)}
    bought = later if not shop.buying else later[later.behavior.isin(shop.buying)]
    items_of, labels = _clients(bought, items[["item_id", shop.client]].dropna(), shop.client, ids, cold)
    after_cold = following, next_items[new][first]
    return ColdNight(n_users, n_items, (pairs[0], pairs[1]), cold, counts, after_cold, sides, items_of, labels)


def _clients(
    later: pd.DataFrame, items: pd.DataFrame, column: str, ids: dict[str, np.ndarray], cold: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(items of the night, bool (cold,)) of each value that the night has an item of."""
    known = items[items.item_id.isin(ids["item"])]
    items_of = {str(value): np.searchsorted(ids["item"], part.item_id) for value, part in known.groupby(column)}
    had = later.merge(items, on="item_id").groupby(column).user_id.agg(set).to_dict()
    had = {str(value): users for value, users in had.items()}
    return items_of, {value: np.isin(ids["user"][cold], list(had.get(value, ()))) for value in items_of}


def side_of(table: pd.DataFrame, key: str, ids: np.ndarray, attributes: dict[str, Attribute]) -> Side:
    """The attributes as the configuration names them; numbers in as many bins as it says, of these entities."""
    parts = []
    for name, attribute in attributes.items():
        values = table.set_index(key)[name].explode().dropna()
        if attribute.type == "number":
            values = pd.qcut(values.astype(float), attribute.bins, labels=False, duplicates="drop")
        entities = np.searchsorted(ids, values.index.to_numpy())
        parts.append(pd.DataFrame({"entity": entities, "type": name, "value": values.astype(str).to_numpy()}))
    rows = pd.concat(parts).drop_duplicates()
    names = sorted(attributes)
    found = rows.groupby(["type", "value"], sort=True).ngroup().to_numpy()
    kinds = rows.assign(found=found).drop_duplicates("found").sort_values("found").type
    types = np.array([names.index(name) for name in kinds], np.int64)
    of_model = AttributeRows.of(rows.entity.to_numpy(np.int64), found.astype(np.int64), types, len(ids), len(names))
    rng = np.random.default_rng([len(ids), 17])
    keys = (rng.integers(1 << 63, size=n).astype(np.uint64) for n in (len(ids), len(names), len(types)))
    return Side(of_model, *keys, tuple(names))
