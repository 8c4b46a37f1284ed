"""train_profiles on a planted world: what is committed, and what leaks."""

from __future__ import annotations

import dataclasses
import datetime
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from feature_store.errors import PartitionMissing
from jobs.configuration.profiles import Label
from jobs.configuration.sections import Lookalike
from jobs.program import JobError, Skip
from models.classifiers.folds import A, B, C
from tests.jobs.audiences.worlds import events, log_of
from tests.jobs.profiles.profile_world import (
    DATE,
    GRAPH,
    HOSTILE,
    USERS,
    config,
    content_hash,
    fold_of,
    known_part,
    names,
    planted,
    predictions,
    read,
    retrained,
    train,
    train_only,
    write,
)
from tests.jobs.report.tables_by_hand import table_input, write_graphs

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="module")
def world(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame, dict]:
    """(root, what is true of everybody, the job's facts)."""
    root = tmp_path_factory.mktemp("profiles")
    vectors, truth = planted()
    write(root, known_part(truth), vectors)
    return root, truth, train(root, config())


def test_everybody_with_a_vector_gets_every_label(world: tuple) -> None:
    root, truth, facts = world
    rows, ages = predictions(root), ["1: up to 30", "2: above 30 up to 50", "3: above 50"]
    for label, classes in (("gender", ["f", "m"]), ("age_band", ages)):
        mine = rows[rows["label"] == label]
        assert sorted(mine["class"].unique()) == classes == facts[label]["classes"]
        assert (mine.groupby("user_id").size() == len(classes)).all()
        assert set(mine["user_id"]) == set(truth["user_id"]) >= set(HOSTILE)
        assert mine.groupby("user_id")["probability"].sum().to_numpy() == pytest.approx(1, abs=1e-5)
        chosen = mine[mine["predicted"]]
        assert chosen["user_id"].is_unique and len(chosen) == USERS
        assert (chosen.set_index("user_id")["probability"] == mine.groupby("user_id")["probability"].max()).all()
    assert set(rows["source"]) == {"trained"}


def test_the_figures_are_those_of_fold_c(world: tuple) -> None:
    root, truth, facts = world
    known = known_part(truth).dropna(subset="gender")
    tested = known[fold_of(known["user_id"]) == C]
    named = predictions(root).query("label == 'gender' and predicted").set_index("user_id")["class"]
    right = (named[tested["user_id"]].to_numpy() == tested["gender"].to_numpy()).mean()
    test = facts["gender"]["test"]
    assert test["n"] == len(tested) > 50 and test["accuracy"] == pytest.approx(right)
    assert test["accuracy"] > test["majority_accuracy"] + 0.15
    assert test["macro_f1"] > test["majority_macro_f1"] + 0.3
    assert np.sum(test["confusion"]) == len(tested)
    assert facts["gender"]["majority"] == int((tested["gender"] == "m").mean() > 0.5)


def test_label_seen_is_fold_b(world: tuple) -> None:
    """And fold A too, once a model that learns from labels is among the features."""
    root, truth, _ = world
    known = known_part(truth).dropna(subset="gender")
    seen = set(predictions(root).query("label == 'gender' and label_seen")["user_id"])
    assert seen == set(known["user_id"][fold_of(known["user_id"]) == B])


def test_a_model_that_learns_from_labels_has_seen_fold_a(world: tuple, tmp_path: Path) -> None:
    _, truth, _ = world
    settings = config(models=["rhgn"], labels={"gender": Label()})
    write(tmp_path, known_part(truth), planted()[0], model="rhgn")
    train(tmp_path, settings)
    known = known_part(truth).dropna(subset="gender")
    seen = set(predictions(tmp_path).query("label_seen")["user_id"])
    assert seen == set(known["user_id"][fold_of(known["user_id"]) != C])


def test_the_manifest_names_labels_salt_and_what_was_read(world: tuple) -> None:
    root, _, facts = world
    fields = table_input(root, "profile_predictions").table().existing_manifest(DATE.isoformat()).fields
    assert set(fields["labels"]) == {"gender", "age_band"} and fields["salt"] == "nocturne"
    assert fields["models"] == ["transe"] and fields["folds"] == {"a": 0.4, "b": 0.4, "c": 0.2}
    assert fields["labels"]["gender"]["test"]["accuracy"] == facts["gender"]["test"]["accuracy"]
    assert [one["table"] for one in fields["inputs"]] == ["feature_store/user_embeddings/model=transe", "user_labels"]
    assert {one["dt"] for one in fields["inputs"]} == {DATE.isoformat()}
    assert fields["spaces"] == {"transe": "space"}


def test_no_label_of_fold_c_changes_a_prediction(world: tuple, tmp_path: Path) -> None:
    """Neither permuted nor replaced by classes that nobody else has."""
    root, truth, facts = world
    known = known_part(truth)
    before = content_hash(root)
    for column, label in (("gender", "gender"), ("years", "age_band")):
        mine = np.flatnonzero((fold_of(known["user_id"]) == C) & known[column].notna())
        permuted = known.copy()
        shuffled = np.random.default_rng(1).permutation(known[column].to_numpy()[mine])
        permuted.iloc[mine, known.columns.get_loc(column)] = shuffled
        found = retrained(tmp_path, permuted)
        assert content_hash(tmp_path) == before
        worse = facts[label]["test"]["accuracy"] - 0.1
        assert found[label]["test"]["accuracy"] < worse, "it is C that the figures are of"
    invented = known.assign(gender=known["gender"].where(fold_of(known["user_id"]) != C, "x"))
    retrained(tmp_path, invented)
    assert content_hash(tmp_path) == before


def test_no_label_of_fold_a_changes_a_prediction_while_no_model_learns_from_it(world: tuple, tmp_path: Path) -> None:
    root, truth, _ = world
    known = known_part(truth)
    retrained(tmp_path, known.assign(gender=known["gender"].where(fold_of(known["user_id"]) != A)))
    assert content_hash(tmp_path) == content_hash(root)


def test_with_bs_labels_permuted_c_falls_to_chance(world: tuple, tmp_path: Path) -> None:
    _, truth, facts = world
    known = truth.copy()
    mine = np.flatnonzero(fold_of(known["user_id"]) == B)
    shuffled = np.random.default_rng(2).permutation(known["gender"].to_numpy()[mine])
    known.iloc[mine, known.columns.get_loc("gender")] = shuffled
    test = retrained(tmp_path, known)["gender"]["test"]
    assert test["accuracy"] <= test["majority_accuracy"] + 0.06 < facts["gender"]["test"]["accuracy"]


def test_folds_are_the_same_every_night_whoever_else_there_is(world: tuple, tmp_path: Path) -> None:
    """Another night, another order of the source, half of the users gone: who is left stays in the same fold."""
    root, truth, _ = world
    later = DATE + datetime.timedelta(days=7)
    known = known_part(truth)
    write(tmp_path, known.sample(frac=1, random_state=0), planted()[0][:500], later)
    train(tmp_path, config(min_users_per_class=5), later)
    before, after = (
        predictions(where, date).query("predicted").set_index(["label", "user_id"])["label_seen"]
        for where, date in ((root, DATE), (tmp_path, later)))  # fmt: skip
    assert len(after) == 2 * 500 and after.equals(before[after.index]) and after.any()


def test_labels_are_read_as_of_the_date(world: tuple, tmp_path: Path) -> None:
    """The newest valid_from before D says the label; what is valid from D on is not known,
    what ended before D no more."""
    root, truth, _ = world
    known, other = known_part(truth).dropna(), {"f": "m", "m": "f"}
    d = pd.Timestamp(DATE, tz="UTC")
    just_before, turned = d - pd.Timedelta(microseconds=1), known.assign(gender=known["gender"].map(other))
    old = turned.assign(valid_from=d - pd.Timedelta(days=30), valid_to=pd.NaT)
    new = known.assign(valid_from=just_before, valid_to=pd.NaT)
    ended = turned.assign(valid_from=just_before, valid_to=just_before)
    future = known.assign(gender="unborn", years=99.0, valid_from=d, valid_to=pd.NaT)
    retrained(tmp_path, pd.concat([future, old, new, ended]))
    dated = content_hash(tmp_path)
    retrained(tmp_path, known)
    assert content_hash(tmp_path) == dated
    assert "unborn" not in set(predictions(tmp_path)["class"])


def test_contradicting_labels_are_none_and_are_counted(
    world: tuple, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root, truth, _ = world
    known = known_part(truth).dropna(subset="gender")
    twice = known.iloc[:40].assign(gender=known["gender"].iloc[:40].map({"f": "m", "m": "f"}))
    found = retrained(tmp_path, pd.concat([known, twice, known.iloc[50:60]]))  # the last ten say the same twice
    assert found["gender"]["contradicting"] == 40 and found["gender"]["labelled"] == len(known) - 40
    assert "gender: 40 users left out" in caplog.text and "u000" not in caplog.text
    seen = set(predictions(tmp_path).query("label == 'gender' and label_seen")["user_id"])
    assert seen and not seen & set(twice["user_id"])


def test_a_column_that_no_label_names_changes_nothing(world: tuple, tmp_path: Path) -> None:
    root, truth, _ = world
    found = retrained(tmp_path, known_part(truth).assign(colour="red"))
    assert list(found) == ["age_band", "gender"] and content_hash(tmp_path) == content_hash(root)


def test_several_models_and_the_baseline_stand_side_by_side(spark: SparkSession, tmp_path: Path) -> None:
    """A user without a vector of one model has it of another; the baseline's columns join them."""
    vectors, truth = planted(400)
    write(tmp_path, truth, vectors[:, :3], model="transe")
    write(tmp_path, truth, vectors[:300, 3:], model="kqgc_mean")
    users = np.arange(394)
    log = log_of([events(users, users % 80, -1 - users % 20)], 394)
    write_graphs(tmp_path, log, DATE, GRAPH)
    changes = {"models": ["kqgc_mean", "transe"], "labels": {"gender": Label()}, "min_users_per_class": 5}
    plain = train(tmp_path, config(**changes))["gender"]
    assert plain["features"] == 6 and plain["users"] == 400 and set(predictions(tmp_path)["user_id"]) == set(names(400))
    found = train(tmp_path, config(baseline_features=True, **changes))["gender"]
    assert found["features"] > 6 + 10
    settings = config(baseline_features=True, **changes)
    excluding = dataclasses.replace(settings, lookalike=Lookalike(exclude_attributes=[*GRAPH.user_attributes]))
    without = len({value for mine in log.users.values() for value in mine["value"]})
    assert found["features"] - train(tmp_path, excluding)["gender"]["features"] == without > 0
    fields = table_input(tmp_path, "profile_predictions").table().existing_manifest(DATE.isoformat()).fields
    vectors = {f"feature_store/user_embeddings/model={model}" for model in changes["models"]}
    assert {one["table"] for one in fields["inputs"]} == vectors | {"knowledge_graph", "interactions", "user_labels"}


def test_the_same_night_twice_is_the_same(world: tuple) -> None:
    root, *_ = world
    before = content_hash(root)
    train(root, config())
    assert content_hash(root) == before


def test_labels_that_were_not_read_fail_the_job_and_leave_what_was_published(world: tuple, tmp_path: Path) -> None:
    _, truth, _ = world
    retrained(tmp_path, known_part(truth))
    before = content_hash(tmp_path)
    (tmp_path / "users.parquet").unlink()
    with pytest.raises(JobError, match="Nothing to read at"):
        read(tmp_path, config())
    train_only(tmp_path, config())
    assert content_hash(tmp_path) == before, "they were read once, and no source is asked again"
    shutil.rmtree(tmp_path / "user_labels")
    with pytest.raises(PartitionMissing, match="user_labels"):
        train_only(tmp_path, config())
    assert content_hash(tmp_path) == before


def test_no_label_is_no_work_and_no_vectors_are_named(world: tuple) -> None:
    root, *_ = world
    with pytest.raises(Skip, match="No label is configured"):
        train_only(root, config(labels={}))
    with pytest.raises(PartitionMissing, match="user_embeddings"):
        train(root, config(), DATE + datetime.timedelta(days=1))
