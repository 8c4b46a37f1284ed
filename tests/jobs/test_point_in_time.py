"""The proof of DESIGN section 6.4: what happens from D on changes nothing that is published for D.

Two logs share everything before D and differ in everything from D on: events added, deleted and changed, items and
users first seen or valid from D on. In deterministic mode every table of D has the same content hash; also when later
nights, with a future of their own, filled the ledgers first (compared by raw ids).
"""

from __future__ import annotations

import datetime
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import yaml

from feature_store import Segments, Table
from jobs.audiences import score_lookalike, train_lookalike
from jobs.embeddings import (
    finetune_ram_gnn,
    finetune_rhgn,
    pretrain_ram_gnn,
    pretrain_transe,
    publish_users,
    smooth_kqgc,
    train_hugt,
)
from jobs.graphs import build_graphs
from jobs.profiles import train_profiles
from jobs.program import execute
from jobs.recommendations import recommend_items
from models.families import family_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

START, D = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), datetime.date(2026, 1, 29)
LABEL_DAYS, MODELS = 7, ("transe", "ram_gnn", "ram_gnn_rec", "kqgc_mean", "rhgn", "hugt")
EARLIER, LATER = D - datetime.timedelta(days=LABEL_DAYS), D + datetime.timedelta(days=2)
COMPARED = [
    "clean_events",
    "rejected_events",
    "knowledge_graph",
    "interactions",
    "user_activity",
    "attributes",
    "sequences",
    "user_labels",
    "lookalike_models",
    "lookalike_scores",
    "audiences",
    "audience_reasons",
    "attention",
    "profile_predictions",
    "recommendations/model=ram_gnn_rec",
    *(
        table + model
        for table in ("checkpoints/", "entity_embeddings/", "feature_store/user_embeddings/model=")
        for model in MODELS
    ),
    *(f"canaries/{model}" for model in MODELS if family_of(model).aligned_by == "user"),
]


def past(seed: int = 1) -> pd.DataFrame:
    """80 users, 40 items of 4 brands, 28 days; users of a taste buy its brand. The last event lies one microsecond
    before D."""
    random = np.random.default_rng(seed)
    users, when = random.integers(80, size=2500), np.sort(random.integers(28 * 86_400_000_000, size=2500))
    items = np.where(
        random.random(2500) < 0.7, random.integers(10, size=2500) * 4 + users % 4, random.integers(40, size=2500)
    )
    when[-1] = 28 * 86_400_000_000 - 1
    return events(users, items, when, random)


def future(seed: int) -> pd.DataFrame:
    """What happened from D on, in one of many worlds: the first event at D itself; new users, new items, one bad
    row."""
    random = np.random.default_rng(seed)
    users, when = (
        random.integers(140, size=900),
        28 * 86_400_000_000 + np.sort(random.integers(5 * 86_400_000_000, size=900)),
    )
    when[0] = 28 * 86_400_000_000
    found = events(users, random.integers(90, size=900), when, random)
    found.loc[5, "behavior"] = "unheard_of"
    return found


def events(users: np.ndarray, items: np.ndarray, when: np.ndarray, random: np.random.Generator) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "user_id": [f"u{u}" for u in users],
            "item_id": [f"i{i}" for i in items],
            "behavior": np.where(random.random(len(users)) < 0.5, "purchase", "view"),
            "event_time": pd.Timestamp(START).as_unit("us") + pd.to_timedelta(when, unit="us"),
            "value": random.random(len(users)).astype(np.float32),
        }
    )


def configuration() -> dict:
    """Small models of every kind, for two clients and a label."""
    return {
        "data_root": "data",
        "seed": 3,
        "deterministic": True,
        "source": {
            "events": {"path": "events.parquet"},
            "items": {"path": "items.parquet"},
            "users": {"path": "users.parquet"},
        },
        "events": {"behaviors": ["view", "purchase"], "max_rejected_share": 0.5},
        "graph": {
            "window_days": 21,
            "behaviors": {"purchase": {}, "view": {"window_days": 14}},
            "item_attributes": {"brand": {}, "price": {"type": "number", "bins": 4}},
            "user_attributes": {"region": {}},
        },
        "transe": {"dimension": 8, "epochs": 4, "negatives": 4, "negatives_shared_by": 4},
        "ram_gnn": {"dimension": 8, "epochs": 3},
        "ram_gnn_rec": {"epochs": 2, "batches": 4, "least_batch": 1, "recent": 3},
        "recommendations": {"models": ["ram_gnn_rec"], "top_k": 5},
        "kqgc": {"learned": True, "epochs": 2, "batch_size": 128},
        "hugt": {"width": 8, "epochs": 2, "batch_size": 16, "neighbours": 4},
        "sequences": {"history_days": 26, "max_length": 20},
        "rhgn": {"width": 8, "heads": 2, "epochs": 2, "batch_size": 16},
        "publishing": {"models": list(MODELS), "min_neighbour_overlap": 0.0},
        "profiles": {
            "labels": {"taste": {}},
            "models": list(MODELS),
            "baseline_features": True,
            "min_users_per_class": 5,
            "trees": {"rounds": 20},
        },
        "lookalike": {
            "label_window_days": LABEL_DAYS,
            "active_days": 14,
            "min_positives": 10,
            "top_k": 20,
            "bootstrap_draws": 10,
            "trees": {"rounds": 10},
            "pooled_trees": {"rounds": 10},
            "clients": {"brand_zero": {"brand": "b0"}, "brand_one": {"brand": "b1"}},
        },
    }


def write_world(folder: Path, world: int | None) -> Path:
    """A data root whose log has the common past and the future of one world (None: no future at all)."""
    log = past() if world is None else pd.concat([past(), future(world)], ignore_index=True)
    folder.mkdir(parents=True, exist_ok=True)
    log.to_parquet(folder / "events.parquet", index=False)
    n = 90 if world is not None else 40
    late = [None if i < 40 else pd.Timestamp(D, tz="UTC") for i in range(n)]  # valid from D itself: not known at D
    pd.DataFrame(
        {
            "item_id": [f"i{i}" for i in range(n)],
            "brand": [f"b{i % 4}" if i < 40 else f"new{world}" for i in range(n)],
            "price": [float(i % 40) if i < 40 else 1000.0 * (world or 0) for i in range(n)],
            "valid_from": pd.Series(late, dtype="datetime64[us, UTC]"),
            "valid_to": pd.Series([None] * n, dtype="datetime64[us, UTC]"),
        }
    ).to_parquet(folder / "items.parquet", index=False)
    m = 140 if world is not None else 80
    users = pd.DataFrame(
        {
            "user_id": [f"u{u}" for u in range(m)],
            "region": [f"r{u % 3}" if u < 80 else f"far{world}" for u in range(m)],
            "taste": [f"t{u % 2}" if u < 80 else f"later{world}" for u in range(m)],
            "valid_from": pd.Series([None] * m, dtype="datetime64[us, UTC]"),
        }
    )
    # labels of D itself: not known at D
    relabelled = users[:40].assign(taste=f"after{world}", valid_from=pd.Timestamp(D, tz="UTC"))
    (users if world is None else pd.concat([users, relabelled])).to_parquet(folder / "users.parquet", index=False)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(configuration()))
    return path


def build(config: Path, date: datetime.date) -> list[str]:
    """The stages of one date that read the log and fill the ledgers; what every job is told."""
    base = ["--date", str(date), "--config", str(config)]
    assert execute(build_graphs.run, base) == 0
    return base


def run_night(config: Path, date: datetime.date, predecessor: datetime.date | None) -> None:
    """All stages of one date; lookalike and profiles where its D − L is there."""
    base = build(config, date)
    warm = [*base, "--predecessor", str(predecessor)]
    assert execute(pretrain_transe.run, warm) == 0
    assert execute(smooth_kqgc.run, [*warm, "--model", "kqgc_mean"]) == 0
    for job in (pretrain_ram_gnn, finetune_ram_gnn, finetune_rhgn, train_hugt):
        assert execute(job.run, warm) == 0, job.__name__
    for model in MODELS:
        assert execute(publish_users.run, [*warm, "--model", model]) == 0
    assert execute(recommend_items.run, [*base, "--model", "ram_gnn_rec"]) == 0
    if predecessor == EARLIER:
        assert execute(train_lookalike.run, base) == 0
        assert execute(score_lookalike.run, base) == 0
        assert execute(train_profiles.run, base) == 0


def hashes(root: Path) -> dict[str, str]:
    """Content hash of every table of D (of every day before D for clean_events)."""
    found = {}
    for name in COMPARED:
        table = Table(str(root / "data" / name), key="day" if name == "clean_events" else "dt")
        values = [v for v in table.values() if v < str(D)] if name == "clean_events" else [str(D)]
        found |= {f"{name} {value}": table.existing_manifest(value).content_hash for value in values}
    return found


def raw_rows(root: Path, name: str) -> pd.DataFrame:
    """A graph table of D with raw ids and names in place of ledger ids, in an order of its own."""
    ledgers = {
        kind.name: Segments(str(kind)).read().to_pandas().set_index("id")["raw"]
        for kind in (root / "data" / "entity_ids").iterdir()
    }
    rows = Table(str(root / "data" / name)).read(str(D)).to_pandas()
    if name in ("interactions", "sequences"):
        rows["user"], rows["item"] = rows["user"].map(ledgers["user"]), rows["item"].map(ledgers["item"])
    else:
        relations = Segments(str(root / "data" / "relations")).read().to_pandas().set_index("id")
        for side in ("head", "tail"):
            kind = rows["relation"].map(relations[f"{side}_type"])
            rows[side] = [ledgers[k][i] for k, i in zip(kind, rows[side], strict=True)]
        rows["relation"] = rows["relation"].map(relations["name"])
    return rows.sort_values(list(rows.columns)).reset_index(drop=True)


@pytest.fixture(scope="module")
def worlds(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The nights EARLIER and D in three worlds: no future, a future, and another future whose later night filled the
    ledgers first.

    EARLIER is run where there is no future, and in the last world, in which it must not matter either: its D is held
    against that of the second world, which goes on from the EARLIER of the first.
    """
    roots = {name: tmp_path_factory.mktemp(name) for name in ("none", "one", "other")}
    configs = {
        "none": write_world(roots["none"], None),
        "one": write_world(roots["one"], 11),
        "other": write_world(roots["other"], 12),
    }
    build(configs["other"], LATER)
    for name in ("none", "other"):
        run_night(configs[name], EARLIER, None)
    shutil.copytree(roots["none"] / "data", roots["one"] / "data")
    for config in configs.values():
        run_night(config, D, EARLIER)
    return roots


def test_a_future_changes_no_table_of_d(worlds: dict[str, Path]) -> None:
    assert hashes(worlds["one"]) == hashes(worlds["none"])


def test_the_worlds_do_differ_from_d_on(worlds: dict[str, Path]) -> None:
    """Else the proof would prove nothing."""
    files = [pd.read_parquet(worlds[name] / "events.parquet") for name in ("none", "one", "other")]
    assert len(files[0]) < len(files[1]) == len(files[2]) and not files[1].equals(files[2])
    ledger = Segments(str(worlds["other"] / "data/entity_ids/user")).read()
    assert ledger.num_rows > Segments(str(worlds["one"] / "data/entity_ids/user")).read().num_rows


def test_a_ledger_filled_by_another_future_changes_no_published_vector_or_audience(worlds: dict[str, Path]) -> None:
    of_raw_ids = (
        "feature_store",
        "canaries",
        "lookalike_scores",
        "audiences",
        "audience_reasons",
        "attention",
        "profile_predictions",
        "recommendations",
        "clean_events",
        "rejected_events",
    )
    published = [name for name in COMPARED if name.startswith(of_raw_ids)]
    one, other = hashes(worlds["one"]), hashes(worlds["other"])
    assert {k: v for k, v in one.items() if k.split()[0] in published and v != other.get(k)} == {}


@pytest.mark.parametrize("name", ["knowledge_graph", "interactions", "sequences"])
def test_a_ledger_filled_by_another_future_changes_no_graph_once_joined_to_raw_ids(
    worlds: dict[str, Path], name: str
) -> None:
    pd.testing.assert_frame_equal(raw_rows(worlds["one"], name), raw_rows(worlds["other"], name))


def test_the_last_microsecond_before_d_counts_and_d_itself_does_not(worlds: dict[str, Path]) -> None:
    last = raw_rows(worlds["one"], "interactions")["last_time"].max()
    assert last == pd.Timestamp(D, tz="UTC") - pd.Timedelta(microseconds=1)
