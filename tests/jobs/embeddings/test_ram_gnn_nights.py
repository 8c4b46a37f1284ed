"""RAM-GNN over planted nights: one space, thresholds that go on, newcomers, missing attributes, killed runs."""

from __future__ import annotations

import datetime
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from feature_store import FeatureStore, Table
from jobs.arrays import INDUCTIVE, NONE, TRAINED, Checkpoint
from jobs.embeddings import finetune_ram_gnn, pretrain_ram_gnn
from jobs.program import FINAL, SKIPPED, execute
from jobs.tables import TABLES
from tests.jobs.embeddings.planted import _commit, write_graph, write_ledgers
from tests.jobs.embeddings.planted_nights import DATES, USERS, same_group_share
from tests.jobs.embeddings.ram_gnn_nights import (
    INTERACTIONS,
    MODELS,
    PRETRAINING,
    checkpoint_of,
    config_of,
    ram_gnn_night,
    write_attributes,
)


@pytest.fixture
def world(root: Path) -> Path:
    for date in DATES:
        write_attributes(root, date)
    return root


def sources(checkpoint: Checkpoint, kind: str) -> np.ndarray:
    return checkpoint.source[checkpoint.entity_type == checkpoint.types.index(kind)]


def thresholds(checkpoint: Checkpoint) -> dict[str, list[int]]:
    return {kind: checkpoint.extra[f"ram_gnn.sampler.{kind}.thresholds"].tolist() for kind in ("item", "user")}


def base(config: Path, date: datetime.date, predecessor: datetime.date | None = None) -> list[str]:
    return ["--date", str(date), "--config", str(config), "--predecessor", str(predecessor)]


def test_two_nights_are_published_in_one_space_and_thresholds_go_on(world: Path) -> None:
    config = config_of(world)
    ram_gnn_night(config, DATES[0])
    ram_gnn_night(config, DATES[1], DATES[0])
    store = FeatureStore(str(world / "data/feature_store"))
    for model in MODELS:
        first, second = (store.read("user_embeddings", model=model, dt=str(date)) for date in DATES[:2])
        fields = [found.manifest.fields for found in (first, second)]
        assert fields[0]["space_id"] == fields[1]["space_id"] and fields[1]["alignment"]["residual"] < 0.7
        inputs = Table(str(world / f"data/checkpoints/{model}")).manifest(str(DATES[1])).fields["inputs"]
        own = ["ram_gnn", "interactions"] if model == "ram_gnn_rec" else []
        assert set(inputs) == {"knowledge_graph", "attributes", *own}
    assert same_group_share(store.read("user_embeddings", model="ram_gnn_rec", dt=str(DATES[1]))) > 0.7
    before, after = (checkpoint_of(world, "ram_gnn", date) for date in DATES[:2])
    assert thresholds(before) != {"item": [5], "user": [5]}
    rows = Table(str(world / "data/run_metrics/stage=pretrain_ram_gnn")).read(str(DATES[1])).to_pylist()
    history, told = (json.loads(next(r["detail"] for r in rows if r["metric"] == n)) for n in ("history", "thresholds"))
    assert [row["type"] for row in told] == ["item_brand", "user_region"] and told[0]["values"] == 4
    assert history[0]["threshold_item_brand"] == thresholds(before)["item"][0], "the predecessor's, before a reward"
    assert {(one["entity_type"], one["threshold"]) for one in told} == {
        (kind, found[0]) for kind, found in thresholds(after).items()}  # fmt: skip


def test_who_has_no_attribute_is_placed_by_what_was_touched_and_values_have_no_vector(world: Path) -> None:
    ram_gnn_night(config_of(world), DATES[0])
    checkpoint = checkpoint_of(world, "ram_gnn", DATES[0])
    for kind in ("user", "item"):
        mine = checkpoint.entity_type == checkpoint.types.index(kind)
        expected = np.where(checkpoint.entity_id[mine] == 0, INDUCTIVE, TRAINED)
        np.testing.assert_array_equal(checkpoint.source[mine], expected)
        np.testing.assert_allclose(np.linalg.norm(checkpoint.entities[mine], axis=1), 1, rtol=1e-5)
    assert (sources(checkpoint, "brand") == NONE).all()
    graph = Table(str(world / "data/knowledge_graph")).read(str(DATES[0])).to_pylist()
    bought = {(edge["head"], edge["tail"]) for edge in graph if edge["relation"] == 0}
    at = {(checkpoint.types[t], int(i)): row for row, (t, i) in enumerate(
        zip(checkpoint.entity_type, checkpoint.entity_id, strict=True))}  # fmt: skip
    like_items = []
    for item in {i for u, i in bought if u == 0}:
        others = [checkpoint.entities[at["user", u]] for u, i in bought if i == item and u != 0]
        like_items += [np.mean(others, axis=0)] if others else []
    mean = np.mean(like_items, axis=0)
    np.testing.assert_allclose(checkpoint.entities[at["user", 0]], mean / np.linalg.norm(mean), atol=1e-5)


def test_without_any_user_attribute_users_are_placed_by_their_items(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_attributes(root, DATES[0], left_out=["user_region"])
    ram_gnn_night(config_of(root), DATES[0])
    assert "no user has an attribute: all are placed by those whom they have events with" in caplog.text
    found = FeatureStore(str(root / "data/feature_store")).read("user_embeddings", model="ram_gnn", dt=str(DATES[0]))
    assert set(found.table.column("source").to_pylist()) == {"inductive"}
    assert same_group_share(found) > 0.7, "brands are tastes, and items say them"
    rec = checkpoint_of(root, "ram_gnn_rec", DATES[0])
    assert (sources(rec, "user") == TRAINED).all()


@pytest.mark.parametrize("graph", [{}, None])
def test_without_any_attribute_it_is_skipped(root: Path, graph: dict | None, caplog: pytest.LogCaptureFixture) -> None:
    sections = {} if graph is None else {"graph": {"behaviors": {"purchase": {}}}}
    assert execute(pretrain_ram_gnn.run, base(config_of(root, **sections), DATES[0])) == SKIPPED
    assert "has no attribute that items or users could share" in caplog.text


def test_a_table_without_a_row_skips_it_too(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_attributes(root, DATES[0], left_out=["item_brand", "user_region"])
    assert execute(pretrain_ram_gnn.run, base(config_of(root), DATES[0])) == SKIPPED
    assert "has no attribute that items or users could share" in caplog.text


def test_a_type_by_which_nobody_had_a_neighbour_is_searched_for_when_some_have() -> None:
    sampler = {"thresholds": np.array([5, 7]), "fixed": np.array([True, True]), "before": np.array([np.nan, 0.1]),
               "iterations": np.array([0, 11])}  # fmt: skip
    found = pretrain_ram_gnn.kept({"item.values": np.zeros(2)} | {f"sampler.item.{n}": a for n, a in sampler.items()})
    assert found.keys() == {"item.values", "sampler.item.thresholds", "sampler.item.fixed"}
    assert found["sampler.item.fixed"].tolist() == [False, True] and sampler["fixed"].all()


def test_recommending_vectors_hear_all_events_of_their_own_users(root: Path) -> None:
    """One bare layer: a user is the weighted sum of the items that he touched, held-out ones too."""
    write_attributes(root, DATES[0], left_out=["item_brand"])
    bare = {"layers": 1, "transforms": False, "adds_own": False, "readout": "last", "epochs": 1, "learning_rate": 1e-6,
            "validation_share": 0.5, "recent": 0}  # fmt: skip
    config = config_of(root, ram_gnn_rec=bare)
    for job in (pretrain_ram_gnn, finetune_ram_gnn):
        assert execute(job.run, base(config, DATES[0])) == 0
    rec = checkpoint_of(root, "ram_gnn_rec", DATES[0])
    items = rec.extra["ram_gnn_rec.items.entities"]
    np.testing.assert_allclose(np.linalg.norm(items, axis=1), 0.3, rtol=1e-3, err_msg="ram_gnn_rec.initial_length")
    rows = {kind: np.flatnonzero(rec.entity_type == rec.types.index(kind)) for kind in ("user", "item")}
    item_at = {int(i): at for at, i in enumerate(rec.entity_id[rows["item"]])}
    graph = Table(str(root / "data/knowledge_graph")).read(str(DATES[0])).to_pylist()
    bought = {(edge["head"], edge["tail"]) for edge in graph if edge["relation"] == 0}
    n_of_user, n_of_item = (Counter(pair[side] for pair in bought) for side in (0, 1))
    for row in rows["user"]:
        me = int(rec.entity_id[row])
        heard = [items[item_at[i]] / (n_of_user[u] * n_of_item[i]) ** 0.5 for u, i in bought if u == me]
        np.testing.assert_allclose(rec.entities[row], np.sum(heard, axis=0), atol=1e-5)


def with_times(root: Path, date: datetime.date, seed: int) -> None:
    """The night's interactions, each at a time of its own."""
    rows = Table(str(root / "data/interactions")).read(str(date)).to_pandas()
    rows["last_time"] -= pd.to_timedelta(np.random.default_rng(seed).permutation(len(rows)), "min")
    table = pa.Table.from_pandas(rows, TABLES["interactions"].arrow_schema(), preserve_index=False)
    _commit(root / "data", "interactions", date, table)


def test_nights_are_one_space_whatever_their_users_had_last(world: Path) -> None:
    """Fitted on the items of both nights: users are where their last items took them."""
    config = config_of(world, ram_gnn_rec=INTERACTIONS | {"recent": 1, "recent_weight": 5.0})
    for k, date in enumerate(DATES[:2]):
        with_times(world, date, seed=k)
        ram_gnn_night(config, date, DATES[k - 1] if k else None)
    store = FeatureStore(str(world / "data/feature_store"))
    found = store.read("user_embeddings", model="ram_gnn_rec", dt=str(DATES[1])).manifest.fields["alignment"]
    items = [checkpoint.source[checkpoint.entity_type == checkpoint.types.index("item")]
             for checkpoint in (checkpoint_of(world, "ram_gnn_rec", date) for date in DATES[:2])]  # fmt: skip
    assert not found["opened"] and 0 < found["n_common"] <= min((one == TRAINED).sum() for one in items) < len(USERS)
    assert found["residual"] < 0.7


def test_recommending_vectors_know_what_their_users_had_last(root: Path) -> None:
    """Parameters that did not learn, with and without: what is added is the newest item, twice."""
    write_attributes(root, DATES[0])
    with_times(root, DATES[0], seed=1)
    rows = Table(str(root / "data/interactions")).read(str(DATES[0])).to_pandas()
    bare = {"layers": 0, "transforms": False, "epochs": 1, "learning_rate": 1e-6}
    found = {}
    for last in (0, 1):
        config = config_of(root, ram_gnn_rec=bare | {"recent": last, "recent_weight": 2.0})
        for job in (pretrain_ram_gnn, finetune_ram_gnn):
            assert execute(job.run, base(config, DATES[0])) == 0
        found[last] = checkpoint_of(root, "ram_gnn_rec", DATES[0])
    rec = found[1]
    at = {(rec.types[t], int(i)): row for row, (t, i) in enumerate(zip(rec.entity_type, rec.entity_id, strict=True))}
    last_of = rows.sort_values(["user", "last_time"]).groupby("user").tail(1)
    users = [at["user", user] for user in last_of["user"]]
    items = [at["item", item] for item in last_of["item"]]
    added = rec.entities[users] - found[0].entities[users]
    np.testing.assert_allclose(added, 2 * rec.entities[items], atol=1e-4)
    assert len(users) > 10 and np.abs(added).max() > 0.1


def test_a_new_value_a_newcomer_and_a_type_that_goes(world: Path) -> None:
    config = config_of(world, training={"train_every_days": 30})
    ram_gnn_night(config, DATES[0])
    users, brands = [*USERS, "a900"], ["b0", "b1", "b2", "b3", "b9"]
    write_ledgers(world / "data", users, brands=brands)
    write_graph(world / "data", DATES[1], users, brands=brands)
    write_attributes(world, DATES[1])
    ram_gnn_night(config, DATES[1], DATES[0])
    first, second = (checkpoint_of(world, "ram_gnn", date) for date in DATES[:2])
    assert second.facts["trained_at"] == str(DATES[0]), "carried over"
    np.testing.assert_allclose(second.extra["ram_gnn.item.values"][4], first.extra["ram_gnn.item.values"].mean(axis=0),
                               rtol=1e-5)  # fmt: skip
    rec = checkpoint_of(world, "ram_gnn_rec", DATES[1])
    new = rec.entity_id[rec.entity_type == rec.types.index("user")] == len(USERS)
    np.testing.assert_array_equal(sources(rec, "user"), np.where(new, INDUCTIVE, TRAINED))
    write_attributes(world, DATES[2], left_out=["user_region"])
    ram_gnn_night(config, DATES[2], DATES[1])
    third = checkpoint_of(world, "ram_gnn", DATES[2])
    assert "ram_gnn.user.types" not in third.extra and (sources(third, "user") == INDUCTIVE).all()


def test_a_new_attribute_makes_it_train(world: Path) -> None:
    write_attributes(world, DATES[0], left_out=["user_region"])
    both = [*DATES[:1]]
    config = config_of(world, training={"train_every_days": 30})
    ram_gnn_night(config, DATES[0], models=("ram_gnn",))
    ram_gnn_night(config, DATES[1], DATES[0], models=("ram_gnn",))
    assert checkpoint_of(world, "ram_gnn", DATES[1]).facts["trained_at"] == str(DATES[1]), both


@pytest.mark.parametrize("job", [pretrain_ram_gnn, finetune_ram_gnn])
def test_a_killed_run_goes_on_and_a_damaged_state_is_told(
    world: Path, job, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config, model = config_of(world), MODELS[job is finetune_ram_gnn]
    ram_gnn_night(config, DATES[0])
    whole = Table(str(world / f"data/checkpoints/{model}")).manifest(str(DATES[0])).content_hash

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(job.Tonight, "commit", killed)
        with pytest.raises(KeyboardInterrupt):
            execute(job.run, base(config, DATES[0]))
    state = world / f"data/checkpoints/{model}/_scratch/{DATES[0]}.safetensors"
    good = state.read_bytes()
    state.write_bytes(good[:-5] + bytes([good[-5] ^ 1]) + good[-4:])
    assert execute(job.run, base(config, DATES[0])) == FINAL
    assert "Delete the file: training then begins anew." in caplog.text
    state.write_bytes(good)
    assert execute(job.run, base(config, DATES[0])) == 0
    assert Table(str(world / f"data/checkpoints/{model}")).manifest(str(DATES[0])).content_hash == whole
    assert not state.exists()


def test_a_predecessor_of_other_hyperparameters_is_named(world: Path, caplog: pytest.LogCaptureFixture) -> None:
    ram_gnn_night(config_of(world), DATES[0])
    wider = config_of(world, ram_gnn=PRETRAINING | {"mlp_width": 6})
    assert execute(pretrain_ram_gnn.run, base(wider, DATES[1], DATES[0])) == FINAL
    assert "Does not fit together" in caplog.text and f"dt={DATES[0]}" in caplog.text
