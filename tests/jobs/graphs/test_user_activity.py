"""When users did something: against pandas, on both edges of the windows; and in what is published of them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa

from feature_store import Table
from jobs.embeddings.publish_users import activity_of
from jobs.graphs import build_user_activity
from jobs.tables import TABLES
from tests.jobs.graphs.small_world import MIDNIGHT, VIEW_WINDOW, WINDOW, D, random_world, run_jobs


def test_activity_is_of_the_graphs_events_alone(tmp_path: Path) -> None:
    world = random_world(seed=3)
    run_jobs(world.write(tmp_path), build_user_activity.run)
    found = Table(str(tmp_path / "data/user_activity")).read(D.isoformat())
    assert found.schema.equals(TABLES["user_activity"].arrow_schema())
    events = world.events[world.events["event_time"] < MIDNIGHT]
    days = events["behavior"].map({"view": VIEW_WINDOW, "purchase": WINDOW})
    mine = events[days.notna() & (events["event_time"] >= MIDNIGHT - pd.to_timedelta(days.fillna(0), unit="D"))]
    mine = mine.assign(day=mine["event_time"].dt.date)
    expected = mine.groupby("user_id").agg(
        first_event=("event_time", "min"), last_event=("event_time", "max"), n_days=("day", "nunique"))
    expected = expected.loc[sorted(expected.index, key=lambda user: user.encode())]
    assert found.column("user_id").to_pylist() == list(expected.index)
    rows = found.to_pandas().set_index("user_id")
    assert (rows["n_days"] == expected["n_days"]).all() and rows["n_days"].max() > rows["n_days"].min()
    for name in ("first_event", "last_event"):
        assert (rows[name] == expected[name]).all()


def test_who_did_nothing_and_a_night_without_the_table_have_none() -> None:
    moment = pa.array([1_000_000], pa.timestamp("us", tz="UTC"))
    days = pa.array([2], pa.int32())
    columns = {"user_id": pa.array(["b"]), "first_event": moment, "last_event": moment, "n_days": days}
    users = pa.chunked_array([["a"], ["b", "c"]])
    found = activity_of(users, pa.table(columns))
    assert found["n_days"].to_pylist() == [None, 2, None] and found["first_event"].null_count == 2
    nothing = activity_of(users, None)
    assert [nothing[name].type for name in nothing] == [found[name].type for name in nothing]
    assert all(column.null_count == 3 for column in nothing.values())
