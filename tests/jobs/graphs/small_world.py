"""A small random night on disk (clean days, items, users, configuration), and its graph recomputed in plain pandas."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import yaml

from feature_store import Segments, Table
from jobs.program import execute
from jobs.tables import TABLES

D = datetime.date(2026, 3, 1)
MIDNIGHT = pd.Timestamp(D, tz="UTC")
WINDOW, VIEW_WINDOW = 10, 4
HOSTILE = [
    "../../etc/passwd",
    "a/b",
    'it\'s "quoted"',
    "two\nlines",
    "<b>x</b>",
    "\u202eright to left",
    "=1+1",
    "\U0001f600",
    "\uffee",
    " ",
    "é",
    "e\u0301",
]


@dataclass
class World:
    """Events (user_id, item_id, behavior, event_time, quantity, value) and catalogues; `valid_from`/`valid_to` may be
    among the items' columns."""

    events: pd.DataFrame
    items: pd.DataFrame
    users: pd.DataFrame

    def write(self, root: Path, **changes: Any) -> Path:
        """Commit every day from D − window to the last event's, and write the sources; the configuration's path."""
        root.mkdir(parents=True, exist_ok=True)
        self.items.to_parquet(root / "items.parquet", index=False)
        self.users.to_parquet(root / "users.parquet", index=False)
        last = max(self.events["event_time"].max().date(), D - datetime.timedelta(days=1))
        for day in pd.date_range(D - datetime.timedelta(days=WINDOW), last):
            self.commit_day(root, day.date())
        path = root / "config.yaml"
        path.write_text(yaml.safe_dump(configuration() | changes))
        return path

    def commit_day(self, root: Path, day: datetime.date) -> None:
        mine = self.events[self.events["event_time"].dt.date == day].assign(event_id=None, ingested_at=None)
        rows = pa.Table.from_pandas(mine, schema=TABLES["clean_events"].arrow_schema(), preserve_index=False)
        with Table(str(root / "data/clean_events"), "day").replace(day.isoformat()) as commit:
            commit.write_table(rows)


def configuration() -> dict[str, Any]:
    return {
        "data_root": "data",
        "source": {"events": {"path": "none"}, "items": {"path": "items.parquet"}, "users": {"path": "users.parquet"}},
        "events": {"behaviors": ["view", "purchase", "other"]},
        "graph": {
            "window_days": WINDOW,
            "behaviors": {"view": {"window_days": VIEW_WINDOW}, "purchase": {}},
            "item_attributes": {"brand": {}, "tags": {"entity_type": "tag"}, "price": {"type": "number", "bins": 5}},
            "user_attributes": {"region": {}, "likes": {"entity_type": "tag"}},
        },
    }


def random_world(seed: int, n_events: int = 600, n_users: int = 40, n_items: int = 60) -> World:
    """Hostile ids among plain ones, items without a row, rows without values, ties in numbers, events on both edges of
    the windows."""
    random = np.random.default_rng(seed)
    users = [*HOSTILE, *(f"u{n}" for n in range(n_users - len(HOSTILE)))]
    items = [*HOSTILE[::-1], *(f"i{n}" for n in range(n_items - len(HOSTILE)))]
    span = WINDOW * 86_400_000_000
    offsets = np.concatenate(
        [
            random.integers(1, span, n_events),
            [1, span, (VIEW_WINDOW * 86_400_000_000), VIEW_WINDOW * 86_400_000_000 + 1],
        ]
    )
    n = len(offsets)
    events = pd.DataFrame(
        {
            "user_id": random.choice(users, n),
            "item_id": random.choice(items, n),
            "behavior": random.choice(["view", "purchase", "other"], n, p=[0.5, 0.4, 0.1]),
            "event_time": MIDNIGHT.as_unit("us") - pd.to_timedelta(offsets, unit="us"),
            "quantity": random.integers(1, 4, n).astype(np.float32),
            "value": np.where(random.random(n) < 0.2, np.nan, random.random(n) * 100).astype(np.float32),
        }
    )
    rows = items[:-7]  # the last seven are not in the catalogue
    catalogue = pd.DataFrame(
        {
            "item_id": rows,
            "brand": [None if x < 0.1 else ["", "b<1>", "b2", "b3"][int(x * 4)] for x in random.random(len(rows))],
            "tags": [
                None if x < 0.1 else list(random.choice(["t1", "t2", "t3", "=t"], int(x * 4)))
                for x in random.random(len(rows))
            ],
            "price": [None if x < 0.1 else round(x * 7) / 2 for x in random.random(len(rows))],
        }
    )
    people = pd.DataFrame(
        {
            "user_id": users,
            "region": random.choice(["north", "south"], len(users)),
            "likes": random.choice(["t1", "t9"], len(users)),
        }
    )
    return World(events, catalogue, people)


def run_jobs(config: Path, *runs: Callable[..., None], date: datetime.date = D) -> None:
    for run in runs:
        assert execute(run, ["--date", date.isoformat(), "--config", str(config)]) == 0, run.__module__


def ledger(root: Path, kind: str) -> pd.DataFrame:
    return Segments(str(root / f"data/entity_ids/{kind}")).read().to_pandas()


def committed_edges(root: Path, date: datetime.date = D) -> list[tuple[str, str, str, int]]:
    """(relation, head, tail, count) of the committed graph, by raw ids, sorted."""
    relations = {r["id"]: r for r in Segments(str(root / "data/relations")).read().to_pylist()}
    raw = {
        kind.name: dict(ledger(root, kind.name).itertuples(index=False))
        for kind in (root / "data/entity_ids").iterdir()
    }
    rows = Table(str(root / "data/knowledge_graph")).read(date.isoformat()).to_pylist()
    found = []
    for row in rows:
        relation = relations[row["relation"]]
        found.append(
            (
                relation["name"],
                raw[relation["head_type"]][row["head"]],
                raw[relation["tail_type"]][row["tail"]],
                row["count"],
            )
        )
    return sorted(found)


def expected_edges(world: World) -> list[tuple[str, str, str, int]]:
    """The same from the definitions, in pandas."""
    events = world.events[world.events["event_time"] < MIDNIGHT]
    days = events["behavior"].map({"view": VIEW_WINDOW, "purchase": WINDOW})
    events = events[days.notna() & (events["event_time"] >= MIDNIGHT - pd.to_timedelta(days.fillna(0), unit="D"))]
    counted = events.groupby(["behavior", "user_id", "item_id"]).size()
    edges = [(behavior, user, item, int(n)) for (behavior, user, item), n in counted.items()]
    items = _known(world.items, set(events["item_id"]), "item_id")
    edges += [("item_brand", r.item_id, r.brand, 1) for r in items.itertuples() if isinstance(r.brand, str) and r.brand]
    edges += [
        ("item_tags", r.item_id, tag, 1)
        for r in items.itertuples()
        if isinstance(r.tags, (list, np.ndarray))
        for tag in set(r.tags)
    ]
    prices = items[["item_id", "price"]].dropna().drop_duplicates()
    inner = np.quantile(prices["price"], np.arange(1, 5) / 5, method="inverted_cdf")
    edges += [("item_price", r.item_id, f"bin_{1 + int((inner < r.price).sum())}_of_5", 1) for r in prices.itertuples()]
    users = _known(world.users, set(events["user_id"]), "user_id")
    edges += [("user_region", r.user_id, r.region, 1) for r in users.itertuples()] + [
        ("user_likes", r.user_id, r.likes, 1) for r in users.itertuples()
    ]
    return sorted(set(edges))


def _known(rows: pd.DataFrame, present: set[str], key: str) -> pd.DataFrame:
    if "valid_from" not in rows:
        return rows[rows[key].isin(present)]
    since, until = rows["valid_from"], rows["valid_to"]
    known = (since.isna() | (since < MIDNIGHT)) & (until.isna() | (until >= MIDNIGHT))
    return rows[known & (rows[key].isin(present) | since.notna())]
