"""Ledger ids: dense, in the order of bytes, never changed, and one per raw id also when two runs want them at once."""

from __future__ import annotations

import datetime
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from feature_store import Segments
from jobs.graphs import assign_ids
from tests.jobs.graphs.small_world import HOSTILE, WINDOW, D, World, ledger, random_world, run_jobs

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

REPOSITORY = Path(__file__).resolve().parents[3]

# Both processes read the ledgers before either appends: the second has to lose, and to read again.
MEETING = """
import sys, time, pathlib
from jobs.graphs import assign_ids, ledgers
from jobs.program import execute
here, other, *argv = sys.argv[1:]
append = ledgers.Snapshot.append
def meet(self, raw):
    pathlib.Path(here).touch()
    give_up = time.monotonic() + 120
    while not pathlib.Path(other).exists() and time.monotonic() < give_up:
        time.sleep(0.05)
    return append(self, raw)
ledgers.Snapshot.append = meet
sys.exit(execute(assign_ids.run, argv))
"""


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


def test_two_processes_at_once_give_no_id_twice_and_miss_none(tmp_path: Path) -> None:
    # much in common, and each something of its own, whichever is first
    worlds = [random_world(1, n_users=30), random_world(2, n_users=60)]
    events = worlds[0].events
    events["user_id"] = events["user_id"].replace(events["user_id"].iloc[0], "known to the first alone")
    spark = {
        "driver_memory": "512m",
        "shuffle_partitions": 2,
        "conf": {"spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1"},
    }
    configs = [
        world.write(tmp_path / str(n), data_root=str(tmp_path / "shared"), spark=spark)
        for n, world in enumerate(worlds)
    ]
    marks = [str(tmp_path / "first"), str(tmp_path / "second")]
    running = []
    for n, config in enumerate(configs):
        events = tmp_path / str(n) / "data/clean_events"
        options = ["--date", D.isoformat(), "--config", str(config), "--clean-events", str(events)]
        running.append(
            subprocess.Popen(
                [sys.executable, "-c", MEETING, marks[n], marks[1 - n], *options],
                cwd=REPOSITORY,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    results = [process.communicate(timeout=300)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], results
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
