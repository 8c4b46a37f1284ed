"""Ledger ids: dense, in the order of bytes, never changed, and one per raw id also when two runs want them at once."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from feature_store import Segments
from jobs.graphs import assign_ids, ledgers
from jobs.program import execute
from tests.jobs.graphs.small_world import HOSTILE, WINDOW, D, World, ledger, random_world, run_jobs

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def after_another(other: Callable[[], None], patch: pytest.MonkeyPatch) -> None:
    """Whoever appends to the ledgers first has read them; before he does, another run reads and appends."""
    append, waiting = ledgers.Snapshot.append, [other]

    def late(self: ledgers.Snapshot, raw: object) -> object:
        if waiting:
            waiting.pop()()
        return append(self, raw)

    patch.setattr(ledgers.Snapshot, "append", late)


def test_ids_are_dense_and_follow_the_order_of_bytes(spark: SparkSession, tmp_path: Path) -> None:
    """U+1F600 comes after U+FFEE by its bytes, and before it in UTF-16."""
    world = random_world(1)
    run_jobs(world.write(tmp_path), assign_ids.run)
    for kind, raw in (
        ("user", world.events["user_id"]),
        ("item", world.events["item_id"]),
        ("tag", None),
        ("price", None),
    ):
        found = ledger(tmp_path, kind)
        assert list(found["id"]) == list(range(len(found)))
        assert list(found["raw"]) == sorted(found["raw"], key=lambda text: text.encode())
        assert raw is None or set(found["raw"]) == set(raw) > {"\U0001f600", "\uffee"}
    assert set(ledger(tmp_path, "price")["raw"]) == {f"bin_{n}_of_5" for n in range(1, 6)}
    assert {"", None}.isdisjoint(ledger(tmp_path, "brand")["raw"])


def test_later_and_earlier_nights_keep_every_id(spark: SparkSession, tmp_path: Path) -> None:
    world, next_days = random_world(1), random_world(2, n_users=80).events
    next_days["event_time"] += pd.Timedelta(days=WINDOW)
    both = World(pd.concat([world.events, next_days], ignore_index=True), world.items, world.users)
    config = both.write(tmp_path)
    run_jobs(config, assign_ids.run)
    first = ledger(tmp_path, "user")
    run_jobs(config, assign_ids.run, date=D + datetime.timedelta(days=WINDOW))
    second = ledger(tmp_path, "user")
    assert second.head(len(first)).equals(first) and len(second) > len(first)
    assert second["raw"].is_unique and list(second["id"]) == list(range(len(second)))
    run_jobs(config, assign_ids.run)
    assert ledger(tmp_path, "user").equals(second)
    assert not [p for p in (tmp_path / "data/entity_ids").iterdir() if p.name.startswith("_")]


def test_two_runs_at_once_give_no_id_twice_and_miss_none(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have read the ledgers before either appends: the second has to lose, and to read again. (Two processes that
    race for one segment: tests/feature_store/test_processes.py.)"""
    # much in common, and each something of its own, whichever is first
    worlds = [random_world(1, n_users=30), random_world(2, n_users=60)]
    events = worlds[0].events
    events["user_id"] = events["user_id"].replace(events["user_id"].iloc[0], "known to the first alone")
    configs = [world.write(tmp_path / str(n), data_root=str(tmp_path / "shared")) for n, world in enumerate(worlds)]
    days = [str(tmp_path / str(n) / "data/clean_events") for n in range(2)]
    options = [
        ["--date", D.isoformat(), "--config", str(config), "--clean-events", events]
        for config, events in zip(configs, days, strict=True)
    ]
    ended = []
    after_another(lambda: ended.append(execute(assign_ids.run, options[0])), monkeypatch)
    ended.append(execute(assign_ids.run, options[1]))
    assert ended == [0, 0]
    assert len(Segments(str(tmp_path / "shared/entity_ids/user")).files()) == 2
    for kind, column in (("user", "user_id"), ("item", "item_id")):
        found = Segments(str(tmp_path / "shared/entity_ids" / kind)).read().to_pandas()
        assert list(found["id"]) == list(range(len(found)))
        assert found["raw"].is_unique and set(found["raw"]) == set(worlds[0].events[column]) | set(
            worlds[1].events[column]
        )
    assert set(HOSTILE) <= set(found["raw"])
    relations = Segments(str(tmp_path / "shared/relations")).read().to_pandas()
    assert relations["name"].is_unique and list(relations["id"]) == list(range(len(relations)))
