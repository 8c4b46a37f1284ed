"""Sequences of a random night against pandas; order within an instant; histories longer than the graph's window."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pytest

from feature_store import Table
from jobs.configuration.load import load_settings
from jobs.configuration.messages import ConfigError
from jobs.events.night import window_days
from jobs.graphs import assign_ids, build_sequences
from jobs.program import FINAL, execute, midnight
from jobs.tables import TABLES
from tests.jobs.graphs.small_world import MIDNIGHT, WINDOW, D, World, configuration, ledger, random_world, run_jobs

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

READ = {"publishing": {"models": ["hugt"]}}
Row = tuple[str, int, str, str, pd.Timestamp]


def committed(root: Path) -> list[Row]:
    """(user, position, item, behavior, time) by raw ids, sorted."""
    rows = Table(str(root / "data/sequences")).read(D.isoformat()).to_pylist()
    raw = {kind: dict(ledger(root, kind).itertuples(index=False)) for kind in ("user", "item")}
    return sorted((raw["user"][row["user"]], row["position"], raw["item"][row["item"]], row["behavior"],
                   row["event_time"]) for row in rows)  # fmt: skip


def expected(world: World, days: int, most: int, behaviors: tuple[str, ...]) -> list[Row]:
    events = world.events[world.events["behavior"].isin(behaviors)]
    time, found = events["event_time"], []
    for user, mine in events[(time >= MIDNIGHT - pd.Timedelta(days=days)) & (time < MIDNIGHT)].groupby("user_id"):
        rows = sorted(zip(mine["event_time"], mine["item_id"], mine["behavior"], strict=True),
                      key=lambda row: (row[0], row[1].encode(), row[2]))[-most:]  # fmt: skip
        found += [(user, n, item, behavior, time) for n, (time, item, behavior) in enumerate(rows)]
    return sorted(found)


def test_they_are_each_users_last_events_in_order(spark: SparkSession, tmp_path: Path) -> None:
    world = random_world(seed=6)
    for after in (0, 1, 90_000_000_000):  # microseconds: at D itself, and from then on
        world.events.loc[len(world.events)] = ["u1", "i1", "view", MIDNIGHT + pd.Timedelta(after, "us"), 1.0, 1.0]
    section = {"max_length": 9, "history_days": 7}
    config = world.write(tmp_path, sequences=section, **READ)
    run_jobs(config, assign_ids.run, build_sequences.run)
    found = committed(tmp_path)
    assert found == expected(world, 7, 9, ("view", "purchase"))
    lengths = pd.Series([row[0] for row in found]).value_counts()
    assert lengths.max() == 9 and lengths.min() < 9
    fields = Table(str(tmp_path / "data/sequences")).existing_manifest(D.isoformat()).fields
    assert fields["window"]["days"] == 7 and fields["window"]["max_length"] == 9


def test_of_one_instant_the_events_own_ids_and_then_the_items_bytes_decide(spark: SparkSession, tmp_path: Path) -> None:
    moment = midnight(D) - datetime.timedelta(hours=3)
    event = {"user_id": "u", "behavior": "view", "event_time": moment, "quantity": 1.0}
    rows = [event | {"item_id": item, "event_id": own} for item, own in (
        ("é", "9"), ("z", "9"), ("a", "9"), ("b", "10"), ("y", None), ("Z", None), ("a", "9"))]  # fmt: skip
    before = moment - datetime.timedelta(microseconds=1)
    rows.append(event | {"item_id": "first", "event_id": "99", "event_time": before})
    config = random_world(seed=7, n_events=1).write(tmp_path, sequences={"history_days": 1}, **READ)
    day = D - datetime.timedelta(days=1)
    with Table(str(tmp_path / "data/clean_events"), "day").replace(day.isoformat()) as commit:
        commit.write_table(pa.Table.from_pylist(rows, TABLES["clean_events"].arrow_schema()))
    run_jobs(config, assign_ids.run, build_sequences.run)
    assert [row[2] for row in committed(tmp_path)] == ["first", "Z", "y", "b", "a", "a", "z", "é"]


def test_a_history_reaches_further_back_than_the_graph_and_its_items_have_ids(
    spark: SparkSession, tmp_path: Path
) -> None:
    world = random_world(seed=8)
    long_ago = MIDNIGHT - pd.Timedelta(days=WINDOW + 5, hours=2)
    world.events.loc[len(world.events)] = ["u1", "gone", "purchase", long_ago, 1.0, 1.0]
    section = {"max_length": 1000, "history_days": WINDOW + 6, "behaviors": ["purchase", "other"]}
    config = world.write(tmp_path, sequences=section, **READ)
    run = ["--date", D.isoformat(), "--config", str(config)]
    assert execute(assign_ids.run, run) == FINAL, "the days before the graph's window are not there yet"
    for back in range(WINDOW + 1, WINDOW + 7):
        world.commit_day(tmp_path, D - datetime.timedelta(days=back))
    run_jobs(config, assign_ids.run, build_sequences.run)
    found = committed(tmp_path)
    assert found == expected(world, WINDOW + 6, 1000, ("purchase", "other"))
    assert ("u1", 0, "gone", "purchase", long_ago) in found


def test_without_an_event_of_its_behaviours_it_says_so(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = random_world(seed=9)
    world.events["behavior"] = "view"
    config = world.write(tmp_path, sequences={"behaviors": ["purchase"], "history_days": 5}, **READ)
    run_jobs(config, assign_ids.run)
    assert execute(build_sequences.run, ["--date", D.isoformat(), "--config", str(config)]) == FINAL
    assert "the 5 days before 2026-03-01 is of ['purchase']; expected at least one. Check sequences" in caplog.text


@pytest.mark.parametrize(("days", "models", "wanted"), [
    (40, ["hugt"], 40), (3, ["hugt"], 28), (None, ["hugt"], 59), (365, ["hugt"], 59), (40, ["transe"], 28)])
def test_a_night_reads_the_days_that_somebody_asks_for(
    tmp_path: Path, days: int | None, models: list[str], wanted: int
) -> None:
    """28 days of lookalike.active_days, 59 since events.earliest_event_time."""
    events = {"behaviors": ["view", "purchase", "other"], "earliest_event_time": datetime.date(2026, 1, 1)}
    sections = {"sequences": {"history_days": days}, "publishing": {"models": models}, "events": events}
    settings = load_settings(random_world(seed=1, n_events=1).write(tmp_path, **sections))
    assert window_days(settings, D) == wanted


@pytest.mark.parametrize(("sections", "message"), [
    ({"sequences": {"max_length": 0}}, "sequences.max_length is 0"),
    ({"sequences": {"behaviors": ["cart"]}},
     r"sequences.behaviors\[0\] is 'cart' .str.; expected one of events.behaviors"),
    ({"sequences": {"behaviors": ["view", "view"]}},
     r"sequences.behaviors\[1\] is 'view' .str.; expected every one once"),
    ({"sequences": {"behaviors": []}}, r"sequences.behaviors is .*; expected at least one behaviour"),
    ({"retention": {"clean_events": 60}, "sequences": {"history_days": 60}},
     "retention.clean_events is 60 .*; expected at least 61 days"),
    ({"retention": {"clean_events": 36_000}, "sequences": {"history_days": None}},
     "retention.clean_events is 36000 .*; expected none: sequences.history_days is null")])  # fmt: skip
def test_wrong_settings_are_named(tmp_path: Path, sections: dict[str, object], message: str) -> None:
    config = random_world(seed=1, n_events=1).write(tmp_path, **READ | sections)
    with pytest.raises(ConfigError, match=message):
        load_settings(config)


def test_histories_that_nobody_reads_ask_for_no_retention(tmp_path: Path) -> None:
    sections = configuration() | {"retention": {"clean_events": 60}, "sequences": {"history_days": None}}
    assert load_settings(random_world(seed=1, n_events=1).write(tmp_path, **sections)).retention == {"clean_events": 60}
