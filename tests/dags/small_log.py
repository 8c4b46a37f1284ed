"""A small event log and its configuration, for tests that run the DAG: two tastes, a few hundred events, seconds of
training."""

from __future__ import annotations

import csv
import datetime
import random
from pathlib import Path
from typing import Any

import yaml

FIRST_DAY = datetime.date(2026, 1, 1)
NIGHTS = [datetime.date(2026, 1, 21), datetime.date(2026, 1, 22), datetime.date(2026, 1, 23)]
SCHEDULE = "0 0 21-23 1 *"  # those nights and no other, so that a scheduler starts no run of today
PROFILES = {"labels": {"taste": {}}, "min_users_per_class": 5}
USERS, ITEMS, DAYS, EVENTS = 90, 30, 24, 1200


def write(
    folder: Path, models: tuple[str, ...] = ("transe", "kqgc_mean"), first_day: datetime.date = FIRST_DAY,
    days: int = DAYS, **sections: Any,
) -> Path:  # fmt: skip
    """Events of `days`, items and users below `folder/source`, and `folder/small.yaml`; returns the latter's path."""
    source = folder / "source"
    source.mkdir(parents=True)
    draw = random.Random(7)
    _csv(
        source / "items.csv",
        ["item_id", "brand", "category"],
        [[f"i{i}", f"b{i % 6}", f"c{i % 2}"] for i in range(ITEMS)],
    )
    _csv(
        source / "users.csv",
        ["user_id", "region", "taste"],
        [[f"u{u}", f"r{u % 3}", ("even", "odd")[u % 2]] for u in range(USERS)],
    )
    _csv(
        source / "events.csv",
        ["user_id", "item_id", "behavior", "event_time", "value"],
        [_event(draw, first_day, days) for _ in range(EVENTS * days // DAYS)],
    )
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(configuration(models) | sections, sort_keys=False), encoding="utf-8")
    return path


def configuration(models: tuple[str, ...]) -> dict[str, Any]:
    """The smallest configuration with every part in it; label windows of 7 days, so that three nights in a row have no
    D − L."""
    return {
        "data_root": "data",
        "seed": 3,
        "deterministic": True,
        "source": {name: {"path": f"source/{name}.csv", "format": "csv"} for name in ("events", "items", "users")},
        "events": {"behaviors": ["view", "purchase"]},
        "graph": {
            "behaviors": {"view": {}, "purchase": {}},
            "window_days": 20,
            "item_attributes": {"brand": {}, "category": {}},
            "user_attributes": {"region": {}},
        },
        "transe": {
            "dimension": 8,
            "epochs": 3,
            "negatives": 4,
            "negatives_shared_by": 4,
            "evaluate_every": 3,
            "threads": 1,
        },
        "publishing": {"models": list(models), "min_neighbour_overlap": 0.0},
        "lookalike": {
            "clients": {"brand_one": {"brand": "b1"}},
            "label_window_days": 7,
            "active_days": 10,
            "min_positives": 5,
            "top_k": 20,
            "bootstrap_draws": 20,
            "trees": {"rounds": 60, "learning_rate": 0.2},
            "pooled_trees": {"rounds": 60, "learning_rate": 0.2},
        },
        "spark": {
            "driver_memory": "1g",
            "shuffle_partitions": 1,
            "conf": {"spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"},
        },
        "dag": {
            "schedule": SCHEDULE,
            "owner": "shop team",
            "retries": 0,
            "retry_delay_seconds": 1,
            "task_timeout_minutes": 10,
            "start_date": FIRST_DAY,
            "dates": NIGHTS,
        },
    }


def _event(draw: random.Random, first_day: datetime.date, days: int) -> list[str]:
    """Users of even number like items of even number."""
    user = draw.randrange(USERS)
    item = draw.randrange(ITEMS // 2) * 2 + (user % 2 if draw.random() < 0.9 else draw.randrange(2))
    second = draw.randrange(days * 86400)
    moment = datetime.datetime.combine(first_day, datetime.time()) + datetime.timedelta(seconds=second)
    behavior = "purchase" if draw.random() < 0.4 else "view"
    return [f"u{user}", f"i{item}", behavior, moment.isoformat(sep=" ") + "+00:00", f"{draw.uniform(1, 50):.2f}"]


def _csv(path: Path, head: list[str], rows: list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as sink:
        csv.writer(sink).writerows([head, *rows])
