"""What starts from RAM-GNN: KQGC, with relations and values of a TransE fitted around it, and RHGN."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from feature_store import FeatureStore, Table
from jobs.arrays import NONE, TRAINED, Checkpoint
from jobs.configuration.load import load_settings
from jobs.embeddings import finetune_rhgn, pretrain_ram_gnn, pretrain_transe, publish_users, smooth_kqgc
from jobs.embeddings.family import family, models_of
from jobs.embeddings.rhgn_inputs import given_vectors
from jobs.embeddings.training import Tonight
from jobs.profiles import read_labels
from jobs.program import FINAL, JobError, execute
from tests.jobs.embeddings.planted import write_config, write_day, write_graph, write_ledgers
from tests.jobs.embeddings.planted_nights import DATES, USERS, same_group_share
from tests.jobs.embeddings.ram_gnn_nights import PRETRAINING, checkpoint_of, write_attributes
from tests.jobs.embeddings.rhgn_night import PROFILES, RHGN, label

KQGC = {"init": "ram_gnn", "learned": True, "epochs": 3, "batch_size": 64, "fanout": 5}


@pytest.fixture
def world(root: Path) -> Path:
    for date in DATES:
        write_attributes(root, date)
    return root


def config_of(root: Path, model: str, **sections: object) -> Path:
    publishing = {"models": [model], "min_neighbour_overlap": 0.0}
    return write_config(root, **{"ram_gnn": PRETRAINING, "kqgc": KQGC, "publishing": publishing, **sections})


def run(config: Path, date: object, predecessor: object, model: str, *jobs: object) -> list[int]:
    base = ["--date", str(date), "--config", str(config), "--predecessor", str(predecessor)]
    of_model = (smooth_kqgc, publish_users)
    return [execute(job.run, [*base, *(["--model", model] if job in of_model else [])]) for job in jobs]


def values_of(checkpoint: Checkpoint) -> np.ndarray:
    """The vectors of brands around KQGC's start, in the order of their ledger ids."""
    brands = checkpoint.types.index("brand")
    rows = checkpoint.extra["around.rows"]
    mine = checkpoint.entity_type[rows] == brands
    return checkpoint.extra["around.values"][mine][np.argsort(checkpoint.entity_id[rows[mine]])]


def test_the_sources_and_the_family_follow_the_setting(world: Path) -> None:
    settings = load_settings(config_of(world, "kqgc_mean", ram_gnn=PRETRAINING | {"dimension": 12}))
    assert models_of(settings) == ("ram_gnn", "kqgc_mean")
    assert family("kqgc_mean", settings)["dimension"] == 12 and family("kqgc_mean", settings)["init"] == "ram_gnn"
    settings = load_settings(config_of(world, "kqgc_mean", kqgc={}))
    assert models_of(settings) == ("transe", "kqgc_mean") and family("kqgc_mean", settings)["dimension"] == 8
    settings = load_settings(config_of(world, "rhgn", rhgn={"init": "ram_gnn"}, profiles=PROFILES))
    assert models_of(settings) == ("transe", "ram_gnn", "rhgn")


def test_kqgc_smooths_it_with_values_that_lie_where_their_items_say(world: Path) -> None:
    config = config_of(world, "kqgc_mean")
    given = (config, DATES[0], None, "kqgc_mean")
    assert run(*given, pretrain_ram_gnn, smooth_kqgc, publish_users) == [0, 0, 0]
    start, smoothed = (checkpoint_of(world, name, DATES[0]) for name in ("ram_gnn", "kqgc_mean"))
    rows = smoothed.extra["around.rows"]
    np.testing.assert_array_equal(rows, np.flatnonzero(start.source == NONE))
    assert (smoothed.source[rows] == TRAINED).all()
    values, relations = values_of(smoothed), smoothed.extra["around.relations"]
    np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1, atol=1e-4)
    graph = [edge for edge in edges_of(world, DATES[0]) if edge[1] == 1]
    items = start.entities[start.entity_type == start.types.index("item")]
    ids = start.entity_id[start.entity_type == start.types.index("item")]
    brand_relation = relations[smoothed.relation_id == 1][0]
    vectors = dict(zip(ids.tolist(), items, strict=True))
    queries = np.array([vectors[head] + brand_relation for head, _, _ in graph])
    nearest = np.linalg.norm(queries[:, None] - values, axis=2).argmin(axis=1)
    assert (nearest == np.array([tail for *_, tail in graph])).mean() > 0.9
    found = FeatureStore(str(world / "data/feature_store")).read("user_embeddings", model="kqgc_mean", dt=str(DATES[0]))
    assert same_group_share(found) > 0.6


def edges_of(root: Path, date: object) -> list[tuple[int, int, int]]:
    rows = Table(str(root / "data/knowledge_graph")).read(str(date)).to_pylist()
    return [(row["head"], row["relation"], row["tail"]) for row in rows]


def test_users_and_items_stay_where_they_are(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Checkpoint, Checkpoint]] = []

    def spy(tonight: Tonight):  # noqa: ANN202
        found = smooth_kqgc.importlib.import_module("jobs.embeddings.transe_around").start_of(tonight)
        seen.append((tonight.source, found[0]))
        return found

    monkeypatch.setattr(smooth_kqgc, "start_of", spy)
    assert run(config_of(world, "kqgc_mean"), DATES[0], None, "kqgc_mean", pretrain_ram_gnn, smooth_kqgc) == [0, 0]
    ((given, start),) = seen
    fixed = given.source != NONE
    np.testing.assert_array_equal(given.entities[fixed], start.entities[fixed])
    assert (np.linalg.norm(start.entities[~fixed], axis=1) > 0.9).all() and np.abs(start.relations).max() > 0


def test_between_trainings_what_is_known_stays_and_what_is_new_is_fitted(world: Path) -> None:
    config = config_of(world, "kqgc_mean", training={"train_every_days": 30})
    jobs = (pretrain_ram_gnn, smooth_kqgc, publish_users)
    assert run(config, DATES[0], None, "kqgc_mean", *jobs) == [0, 0, 0]
    brands = ["b0", "b1", "b2", "b3", "b9"]
    write_ledgers(world / "data", USERS, brands=brands)
    write_graph(world / "data", DATES[1], USERS, brands=brands)
    write_attributes(world, DATES[1])
    assert run(config, DATES[1], DATES[0], "kqgc_mean", *jobs) == [0, 0, 0]
    first, second = (checkpoint_of(world, "kqgc_mean", date) for date in DATES[:2])
    assert second.facts["trained_at"] == str(DATES[0])
    np.testing.assert_array_equal(first.extra["around.relations"], second.extra["around.relations"])
    np.testing.assert_array_equal(values_of(first), values_of(second)[:4])
    assert np.linalg.norm(values_of(second)[4]) == pytest.approx(1, abs=1e-4)


def test_rhgn_takes_users_and_items_from_it_and_values_from_transe(world: Path, spark: SparkSession) -> None:
    write_day(world / "data", DATES[0] - datetime.timedelta(days=1), USERS)
    label(world, lambda user: str(int(user[1:]) % 4))
    sections = {"rhgn": RHGN | {"init": "ram_gnn"}, "profiles": PROFILES}
    config = config_of(world, "rhgn", **sections)
    assert execute(read_labels.run, ["--date", str(DATES[0]), "--config", str(config)]) == 0
    assert run(config, DATES[0], None, "rhgn", pretrain_transe, pretrain_ram_gnn, finetune_rhgn) == [0, 0, 0]
    wider = config_of(world, "rhgn", **sections | {"ram_gnn": PRETRAINING | {"dimension": 12}})
    assert run(wider, DATES[0], None, "rhgn", pretrain_ram_gnn, finetune_rhgn) == [0, FINAL]


def test_given_vectors_are_those_that_the_settings_name(world: Path) -> None:
    config = config_of(world, "rhgn", rhgn={"init": "ram_gnn"}, profiles=PROFILES)
    assert run(config, DATES[0], None, "rhgn", pretrain_transe, pretrain_ram_gnn) == [0, 0]
    sources = {name: checkpoint_of(world, name, DATES[0]) for name in ("transe", "ram_gnn")}
    night = sources["transe"]  # types and entity_type are those of the night
    hyper = load_settings(config).rhgn
    found = given_vectors(night, sources, hyper)
    users_and_items = np.isin(night.entity_type, [night.types.index(name) for name in ("user", "item")])
    expected = np.where(users_and_items[:, None], sources["ram_gnn"].entities, sources["transe"].entities)
    np.testing.assert_array_equal(found.entities, expected)
    assert (found.source != NONE).all()
    alone = dataclasses.replace(hyper, init_attributes="content")
    assert given_vectors(night, {"ram_gnn": sources["ram_gnn"]}, alone) is sources["ram_gnn"]
    other = dataclasses.replace(sources["ram_gnn"], entities=np.zeros((len(night.entity_type), 3), np.float32))
    with pytest.raises(JobError, match="'ram_gnn' have 3 numbers, those of rhgn.init_attributes 'transe' 8"):
        given_vectors(night, sources | {"ram_gnn": other}, hyper)
