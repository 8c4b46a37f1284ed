"""Writes the demo's event log: 2,000 users, 1,000 items, 100,000 events over 60 days, with planted tastes and some
dirt.

    python -m jobs.events.generate_demo --output demo/source --seed 7

Writes events.parquet, items.parquet, users.parquet, and truth.parquet, which no job reads: each user's taste groups,
for tests and curious people. Equal seeds give equal files.

What is planted. Items belong to taste groups, which show in their tags, a little in their categories and brands, and in
who looks at them. A user has a first and a second group and favourite brands; a quarter of the users change groups on
some day (drift). Four brands are clients. Three sell to the groups that their items belong to, seldom twice to the same
user within four weeks: own history and demographics tell little about the next buyer, looks at related items tell much.
The fourth sells to its regulars.

Tastes go with the household that somebody lives in. It is known of two thirds of the users and stands in no event: a
label to predict.
"""

from __future__ import annotations

import argparse
import datetime
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.events import demo_dirt

START = datetime.date(2026, 1, 1)
DAYS, BURN_IN_DAYS, DAY_SECONDS = 60, 60, 86_400
USERS, ITEMS, EVENTS = 2_000, 1_000, 100_000
GROUPS, TAGS_PER_GROUP = 8, 6
CATEGORIES = (
    "audio",
    "bags",
    "books",
    "garden",
    "kitchen",
    "lighting",
    "outdoor",
    "pets",
    "shoes",
    "sports",
    "tea",
    "toys",
)
BRANDS = tuple(
    "acorn birch cedar delta ember fjord grove heron iris juniper kelp linden maple nettle opal pine quartz reed "
    "sable thistle umber".split()
)
AGES, REGIONS = ("18-24", "25-34", "35-44", "45-54", "55-64", "65+"), ("north", "east", "south", "west", "centre")
HOUSEHOLDS = ("single", "couple", "family")
CART_SHARE, PURCHASE_SHARE = 0.12, 0.4  # of looks that lead to a cart, of carts that lead to a purchase
ITEMS_PER_CLIENT = 24


@dataclass(frozen=True)
class Client:
    """Weekly chances to buy from a brand, by who somebody is."""

    brand: str
    groups: tuple[int, ...]
    first: float  # the user's first taste group is one of `groups`
    second: float
    other: float
    rest_days: int = 28  # hardly buys again within so many days
    regulars: float = 0.0  # share of users who buy by habit, whatever their taste
    ages: tuple[str, ...] = AGES  # who is of another age buys a third as often


CLIENTS = (
    Client("aurora", (0, 1), 0.60, 0.15, 0.012),
    Client("borealis", (2, 3), 0.60, 0.15, 0.012),
    Client("cinder", (4, 5), 0.80, 0.20, 0.015, ages=AGES[:4]),
    Client("dune", (6,), 0.20, 0.05, 0.012, rest_days=0, regulars=0.12),
)


@dataclass(frozen=True)
class Catalogue:
    """Items by position: id, taste group, brand, category, tags, price, how popular."""

    ids: list[str]
    group: np.ndarray
    brand: np.ndarray
    category: np.ndarray
    tags: list[list[str]]
    price: np.ndarray
    weight: np.ndarray


@dataclass(frozen=True)
class People:
    """Users by position: id, attributes, taste before and after `drift_day`, how active, first day."""

    ids: list[str]
    age: np.ndarray
    region: np.ndarray
    taste: np.ndarray  # (2, USERS, 2): before and after; first and second group
    drift_day: np.ndarray  # DAYS where there is none
    activity: np.ndarray
    first_day: np.ndarray
    favourites: np.ndarray  # (USERS, 3) brands
    regular: np.ndarray


def draw_catalogue(rng: np.random.Generator) -> Catalogue:
    """Clients' items come first."""
    group = rng.integers(0, GROUPS, ITEMS)
    leaning = [rng.permutation(GROUPS)[:4] for _ in BRANDS]  # a brand makes things for some groups rather than others
    brand = np.array([_brand(rng, g, leaning) for g in group], dtype=object)
    for c, client in enumerate(CLIENTS):
        own = slice(c * ITEMS_PER_CLIENT, (c + 1) * ITEMS_PER_CLIENT)
        group[own], brand[own] = rng.choice(client.groups, ITEMS_PER_CLIENT), client.brand
    liked = [rng.permutation(len(CATEGORIES))[:6] for _ in range(GROUPS)]
    category = np.array(
        [CATEGORIES[rng.choice(liked[g]) if rng.random() < 0.6 else rng.integers(len(CATEGORIES))] for g in group],
        dtype=object,
    )
    tags = [_tags(rng, g) for g in group]
    weight = 1 / (1 + rng.permutation(ITEMS)) ** 0.5
    ids = demo_dirt.hostile([f"item-{i:04d}" for i in range(ITEMS)], rng)
    return Catalogue(ids, group, brand, category, tags, np.round(rng.lognormal(3, 0.7, ITEMS), 2), weight)


def _brand(rng: np.random.Generator, group: int, leaning: list[np.ndarray]) -> str:
    fitting = [brand for brand, groups in zip(BRANDS, leaning, strict=True) if group in groups or rng.random() < 0.3]
    return rng.choice(fitting or BRANDS)


def _tags(rng: np.random.Generator, group: int) -> list[str]:
    own = [f"tag{group * TAGS_PER_GROUP + t:02d}" for t in rng.permutation(TAGS_PER_GROUP)[:2]]
    return sorted({*own, f"tag{rng.integers(GROUPS * TAGS_PER_GROUP):02d}"})


def draw_people(rng: np.random.Generator) -> People:
    before = np.argsort(rng.random((USERS, GROUPS)), axis=1)[:, :2]
    after = np.argsort(rng.random((USERS, GROUPS)), axis=1)[:, :2]
    drifts = rng.random(USERS) < 0.25
    return People(
        ids=demo_dirt.hostile([f"user-{i:04d}" for i in range(USERS)], rng),
        age=rng.choice(AGES, USERS, p=[0.14, 0.24, 0.22, 0.18, 0.13, 0.09]),
        region=rng.choice(REGIONS, USERS),
        taste=np.stack([before, np.where(drifts[:, None], after, before)]),
        drift_day=np.where(drifts, rng.integers(10, 50, USERS), DAYS),
        activity=rng.gamma(3.0, 1.0, USERS) + 0.4,
        first_day=np.where(rng.random(USERS) < 0.15, rng.integers(1, 50, USERS), 0),
        favourites=rng.integers(0, len(BRANDS), (USERS, 3)),
        regular=rng.random(USERS),
    )


def taste_on(people: People, day: int) -> np.ndarray:
    """First and second group of everybody on a day: (USERS, 2)."""
    return np.where((day >= people.drift_day)[:, None], people.taste[1], people.taste[0])


def draw_client_purchases(rng: np.random.Generator, people: People, client: Client) -> np.ndarray:
    """(user, day) of purchases from a client, simulated from before the log's first day, so that nobody is fresh in
    it."""
    last, found = np.full(USERS, -10_000), []
    habit = people.regular < client.regulars
    old_enough = np.where(np.isin(people.age, client.ages), 1.0, 1 / 3)
    for day in range(-BURN_IN_DAYS, DAYS):
        first, second = np.isin(taste_on(people, day), client.groups).T
        weekly = np.select([first, second], [client.first, client.second], client.other) * old_enough
        weekly = np.where(habit, 0.6, weekly) * np.where(day - last < client.rest_days, 0.02, 1.0)
        buys = (rng.random(USERS) < weekly / 7) & (day >= people.first_day)
        last[buys] = day
        if day >= 0:
            found.append(np.stack([np.flatnonzero(buys), np.full(buys.sum(), day)], axis=1))
    return np.concatenate(found)


def draw_looks(
    rng: np.random.Generator, people: People, catalogue: Catalogue, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(users, days, items) of `count` looks: by taste, popularity and favourite brand; clients' items are seldom just
    looked at."""
    users = rng.choice(USERS, count, p=people.activity / people.activity.sum())
    days = people.first_day[users] + (rng.random(count) * (DAYS - people.first_day[users])).astype(int)
    items = np.empty(count, dtype=int)
    late = days >= people.drift_day[users]
    order = np.lexsort((late, users))
    for cell in np.split(order, np.flatnonzero(np.diff(users[order] * 2 + late[order])) + 1):
        user, half = users[cell[0]], int(late[cell[0]])
        items[cell] = rng.choice(ITEMS, len(cell), p=_interest(people, catalogue, user, half))
    return users, days, items


def _interest(people: People, catalogue: Catalogue, user: int, half: int) -> np.ndarray:
    first, second = people.taste[half, user]
    by_group = np.full(GROUPS, 0.25 / GROUPS)
    by_group[first] += 0.5
    by_group[second] += 0.25
    liked = np.isin(catalogue.brand, [BRANDS[b] for b in people.favourites[user]])
    weight = catalogue.weight * by_group[catalogue.group] * np.where(liked, 3.0, 1.0)
    weight[: len(CLIENTS) * ITEMS_PER_CLIENT] *= 0.15
    return weight / weight.sum()


def draw_events(rng: np.random.Generator, people: People, catalogue: Catalogue, count: int) -> dict[str, np.ndarray]:
    """Columns user, item (positions), behavior, second (since START), sorted by second: `count` events."""
    parts = []
    for c, client in enumerate(CLIENTS):
        bought = draw_client_purchases(rng, people, client)
        items = c * ITEMS_PER_CLIENT + rng.integers(0, ITEMS_PER_CLIENT, len(bought))
        parts.append(_chain(rng, bought[:, 0], items, bought[:, 1], np.full(len(bought), 2)))
    left = count - sum(len(part[0]) for part in parts)
    users, days, items = draw_looks(rng, people, catalogue, left)
    depth = (rng.random(left) < CART_SHARE).astype(int)
    depth += depth * (rng.random(left) < PURCHASE_SHARE)
    parts.append(_chain(rng, users, items, days, depth))
    user, item, behavior, second = (np.concatenate(columns)[:] for columns in zip(*parts, strict=True))
    keep = np.sort(rng.permutation(len(user))[:count]) if len(user) > count else np.arange(len(user))
    order = keep[np.lexsort((item[keep], user[keep], second[keep]))]
    return {"user": user[order], "item": item[order], "behavior": behavior[order], "second": second[order]}


def _chain(
    rng: np.random.Generator, users: np.ndarray, items: np.ndarray, days: np.ndarray, depth: np.ndarray
) -> tuple[np.ndarray, ...]:
    """A look (depth 0), then a cart (1), then a purchase (2), some minutes apart, on one day."""
    hours = np.clip(rng.normal(15, 4.5, len(users)), 0, 23.4)
    seconds = days * DAY_SECONDS + (hours * 3600).astype(int)
    columns = []
    for step, behavior in enumerate(("view", "cart", "purchase")):
        chosen = depth >= step
        count = chosen.sum()
        later = step * 240 + rng.integers(0, 200, count)
        columns.append((users[chosen], items[chosen], np.full(count, behavior, dtype=object), seconds[chosen] + later))
    return tuple(np.concatenate(parts) for parts in zip(*columns, strict=True))


def event_table(
    rng: np.random.Generator, people: People, catalogue: Catalogue, columns: dict[str, np.ndarray]
) -> pa.Table:
    """The events as a source has them, with ids, values, and when they came in."""
    n = len(columns["user"])
    start = np.datetime64(START.isoformat(), "us")
    times = start + (columns["second"] * 1_000_000 + rng.integers(0, 1_000_000, n)).astype("timedelta64[us]")
    looked = columns["behavior"] == "view"
    late = rng.random(n) < 0.002
    came = times + (rng.integers(1, 90, n) + late * 2 * DAY_SECONDS).astype("timedelta64[s]")
    price = catalogue.price[columns["item"]].astype(np.float32)
    utc = pa.timestamp("us", tz="UTC")
    return pa.table({
        "user_id": [people.ids[u] for u in columns["user"]],
        "item_id": [catalogue.ids[i] for i in columns["item"]],
        "behavior": pa.array(columns["behavior"], pa.string()),
        "event_time": pa.array(times, utc),
        "quantity": pa.array(np.where(columns["behavior"] == "purchase", 1 + (rng.random(n) < 0.15), 1), pa.float32()),
        "value": pa.array(price, mask=looked),
        "event_id": [f"e{i:07d}" for i in range(n)],
        "ingested_at": pa.array(came, utc),
    })


def item_table(catalogue: Catalogue) -> pa.Table:
    """The catalogue, without the last few items: those were never entered."""
    table = pa.table(
        {
            "item_id": catalogue.ids,
            "brand": pa.array(catalogue.brand, pa.string()),
            "category": pa.array(catalogue.category, pa.string()),
            "tags": pa.array(catalogue.tags, pa.list_(pa.string())),
            "price": pa.array(catalogue.price, pa.float64()),
        }
    )
    return table.slice(0, ITEMS - demo_dirt.UNKNOWN_ITEMS)


def user_table(rng: np.random.Generator, people: People) -> pa.Table:
    """Age bands and regions; some unknown, some users without a row."""
    table = pa.table({
        "user_id": people.ids, "age_band": pa.array(people.age, pa.string(), mask=rng.random(USERS) < 0.05),
        "region": pa.array(people.region, pa.string(), mask=rng.random(USERS) < 0.02),
    })
    return table.slice(0, USERS - demo_dirt.UNKNOWN_USERS)


def draw_households(rng: np.random.Generator, people: People) -> pa.Array:
    """What each user lives in, after the first taste group in the end: two of three as the group has it, else anything.
    Null where it is not known."""
    typical = np.arange(GROUPS) % len(HOUSEHOLDS)
    lives = np.where(
        rng.random(USERS) < 0.67,
        typical[people.taste[1][:, 0]],
        rng.choice(len(HOUSEHOLDS), USERS, p=[0.4, 0.35, 0.25]),
    )
    return pa.array(np.array(HOUSEHOLDS, object)[lives], pa.string(), mask=rng.random(USERS) < 1 / 3)


def truth_table(people: People) -> pa.Table:
    before, after = people.taste
    return pa.table(
        {
            "user_id": people.ids,
            "first_before": before[:, 0],
            "second_before": before[:, 1],
            "first_after": after[:, 0],
            "second_after": after[:, 1],
            "drift_date": pa.array(
                [START + datetime.timedelta(int(d)) if d < DAYS else None for d in people.drift_day], pa.date32()
            ),
        }
    )


def generate(output: Path, seed: int) -> None:
    """Write the four files into `output`."""
    rng = np.random.default_rng(seed)
    catalogue, people = draw_catalogue(rng), draw_people(rng)
    columns = draw_events(rng, people, catalogue, EVENTS - demo_dirt.ROWS)
    events = demo_dirt.spoil(event_table(rng, people, catalogue, columns), rng)
    output.mkdir(parents=True, exist_ok=True)
    # draws of their own: the log is the same with or without them
    households = draw_households(np.random.default_rng([seed, 1]), people)
    users = user_table(rng, people)
    users = users.append_column("household", households.slice(0, users.num_rows))
    tables = {"events": events, "items": item_table(catalogue), "users": users, "truth": truth_table(people)}
    for name, table in tables.items():
        pq.write_table(table, output / f"{name}.parquet", compression="zstd")
        print(f"{name}.parquet: {table.num_rows:,} rows")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.events.generate_demo", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    generate(arguments.output, arguments.seed)


if __name__ == "__main__":
    main()
