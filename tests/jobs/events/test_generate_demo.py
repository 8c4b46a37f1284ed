"""The demo's log holds what it promises: tastes that can be found, clients with buyers, dirt."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.configuration.load import load_settings
from jobs.events import demo_dirt, generate_demo

DEMO = Path(__file__).resolve().parents[3] / "jobs/configs/demo.yaml"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    generate_demo.generate(folder, seed=7)
    return folder


@pytest.fixture(scope="module")
def events(source: Path) -> pd.DataFrame:
    """Usable rows, with the item's brand and tags."""
    rows = pq.read_table(source / "events.parquet").to_pandas()
    rows = rows[
        rows["behavior"].isin(["view", "cart", "purchase"])
        & (rows["event_time"] >= pd.Timestamp(generate_demo.START, tz="UTC"))
    ]
    return rows.merge(pq.read_table(source / "items.parquet").to_pandas(), on="item_id", how="left")


def test_size_and_days(source: Path, events: pd.DataFrame) -> None:
    assert pq.read_metadata(source / "events.parquet").num_rows == generate_demo.EVENTS
    assert events["event_time"].dt.date.nunique() == generate_demo.DAYS
    assert set(demo_dirt.HOSTILE) <= set(events["user_id"]) and set(demo_dirt.HOSTILE) & set(events["item_id"])
    assert events["brand"].isna().any()  # items that the catalogue does not know


def test_equal_seeds_give_equal_logs(source: Path, tmp_path: Path) -> None:
    generate_demo.generate(tmp_path, seed=7)
    for name in ("events", "items", "users", "truth"):
        assert (tmp_path / f"{name}.parquet").read_bytes() == (source / f"{name}.parquet").read_bytes()
    other = generate_demo.draw_people(np.random.default_rng(8))
    assert not np.array_equal(other.taste, generate_demo.draw_people(np.random.default_rng(7)).taste)


def test_the_label_leaves_the_log_as_it_was(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures of nights before there was a label stay comparable."""
    monkeypatch.setattr(
        generate_demo, "draw_households", lambda rng, people: pa.nulls(generate_demo.USERS, pa.string())
    )
    generate_demo.generate(tmp_path, seed=7)
    for name in ("events", "items", "truth"):
        assert (tmp_path / f"{name}.parquet").read_bytes() == (source / f"{name}.parquet").read_bytes()
    users, without = (pq.read_table(folder / "users.parquet") for folder in (source, tmp_path))
    assert users.drop_columns("household").equals(without.drop_columns("household"))


def test_households_go_with_tastes_and_are_known_of_two_thirds(source: Path) -> None:
    users = (
        pq.read_table(source / "users.parquet")
        .to_pandas()
        .merge(pq.read_table(source / "truth.parquet").to_pandas(), on="user_id")
    )
    known = users.dropna(subset="household")
    assert len(known) / len(users) == pytest.approx(2 / 3, abs=0.04) and set(known["household"]) == set(
        generate_demo.HOUSEHOLDS
    )
    best = known.groupby("first_after")["household"].agg(lambda h: h.value_counts().iloc[0]).sum() / len(known)
    assert 0.65 < best < 0.85, "the taste tells, but not all"


def test_every_client_has_enough_eligible_buyers_in_every_label_week(events: pd.DataFrame) -> None:
    settings = load_settings(DEMO)
    length, active = (
        datetime.timedelta(days) for days in (settings.lookalike.label_window_days, settings.lookalike.active_days)
    )
    time = events["event_time"]
    for end in (pd.Timestamp(date, tz="UTC") for date in settings.dag.dates[1:]):
        begin = end - length
        eligible = set(events[(time >= begin - active) & (time < begin)]["user_id"])
        bought = events[
            (events["behavior"] == "purchase") & (time >= begin) & (time < end) & events["user_id"].isin(eligible)
        ]
        for client, predicate in settings.lookalike.clients.items():
            assert (
                bought[bought["brand"] == predicate["brand"]]["user_id"].nunique() >= settings.lookalike.min_positives
            ), (client, end)


def test_tastes_show_in_what_people_look_at(source: Path, events: pd.DataFrame) -> None:
    """Tags of the first group are looked at three times as often as a user's other tags; after a drift by the new
    group."""
    truth = pq.read_table(source / "truth.parquet").to_pandas()
    looks = events[events["behavior"] == "view"].dropna(subset=["tags"]).explode("tags").merge(truth, on="user_id")
    group = looks["tags"].str[3:].astype(int) // generate_demo.TAGS_PER_GROUP
    drifted = looks["drift_date"].notna() & (
        looks["event_time"].dt.date >= looks["drift_date"].fillna(datetime.date(9000, 1, 1))
    )
    moved = looks["first_before"] != looks["first_after"]
    assert (group == looks["first_before"])[~drifted].mean() > 3 / generate_demo.GROUPS
    assert (group == looks["first_after"])[drifted & moved].mean() > 2 * (group == looks["first_before"])[
        drifted & moved
    ].mean()


def test_clients_sell_to_their_groups_and_seldom_twice(source: Path, events: pd.DataFrame) -> None:
    truth = pq.read_table(source / "truth.parquet").to_pandas().set_index("user_id")
    steady = truth[truth["drift_date"].isna()]
    bought = events[events["behavior"] == "purchase"]
    for client in generate_demo.CLIENTS[:3]:
        own = bought[(bought["brand"] == client.brand) & bought["user_id"].isin(steady.index)]
        first = steady["first_before"].isin(client.groups)
        assert first[own["user_id"]].mean() > 1.5 * first.mean()
        gaps = own.sort_values("event_time").groupby("user_id")["event_time"].diff().dt.days.dropna()
        assert (gaps < client.rest_days - 1).mean() < 0.2
