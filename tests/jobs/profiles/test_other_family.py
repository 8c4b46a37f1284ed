"""A family that is declared here alone: its vectors, its labels and its head go through profiles as its record says."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from jobs.configuration.feature_names import default_names
from jobs.program import Output
from models import families
from models.classifiers.folds import A, B, C
from models.family import Family, Job
from tests.jobs.profiles.profile_world import DATE, config, fold_of, planted, predictions, train, write
from tests.jobs.report.tables_by_hand import table_input

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TOY = Family(
    name="toy", title="Toy", hyperparameters="models.hyperparameters.TransEHyperparameters", triage=("", ""),
    jobs=(Job(program="embeddings.train_toy", models=("toy_large", "toy_small"), doc=""),),
    compared="dot", dimension="toy.dimension", norm="l2", learns_from="users", measure="joy", measured="{}",
    learns_labels=True, head="tests.jobs.profiles.toy_head")  # fmt: skip
BOTH = ["toy_small", "toy_large"]


def declare(patch: pytest.MonkeyPatch, **changes: object) -> None:
    patch.setattr(families, "FAMILIES", (*families.FAMILIES, dataclasses.replace(TOY, **changes)))


def write_world(root: Path, checkpoints: list[str]) -> None:
    """Both models' vectors, and a checkpoint of some."""
    vectors, truth = planted(400)
    for model in BOTH:
        write(root, truth, vectors, model=model)
    for model in checkpoints:
        with table_input(root, "checkpoints", Output).table(model).replace(DATE.isoformat()) as commit:
            commit.write_bytes(".safetensors", b"no matter")


def test_its_head_stands_beside_and_its_checkpoint_in_the_manifest(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(monkeypatch)
    write_world(tmp_path, ["toy_small"])
    found = train(tmp_path, config(models=BOTH, min_users_per_class=5))
    (head,) = found["gender"]["heads"]
    assert (head["model"], head["title"], head["classes"]) == ("toy_small", "Toy", ["f", "m"])
    assert head["n"] == found["gender"]["test"]["n"] and 0.3 < head["accuracy"] < 0.7, "one of them has no checkpoint"
    assert found["age_band"]["heads"] == [], "it did not learn that label"
    fields = table_input(tmp_path, "profile_predictions").table().existing_manifest(DATE.isoformat()).fields
    checkpoints = [one["table"] for one in fields["inputs"] if one["table"].startswith("checkpoints")]
    assert checkpoints == ["checkpoints/toy_small"]


@pytest.mark.parametrize(("learns", "folds"), [(True, {A, B}), (False, {B})])
def test_fold_a_is_seen_where_it_learns_from_labels(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, learns: bool, folds: set[int]
) -> None:
    declare(monkeypatch, learns_labels=learns, head=None)
    write_world(tmp_path, [])
    facts = train(tmp_path, config(models=["toy_large"], min_users_per_class=5))["gender"]
    assert "heads" not in facts
    rows = predictions(tmp_path).query("label == 'gender' and label_seen")
    users = rows["user_id"].drop_duplicates()
    assert set(np.unique(fold_of(users))) == folds and C not in folds


def test_affinities_are_of_families_that_learn_what_is_bought(monkeypatch: pytest.MonkeyPatch) -> None:
    published = ["transe", "rhgn", *BOTH]
    declare(monkeypatch)
    assert default_names(published) == ["baseline", "strong", "strong+transe:affinity"]
    declare(monkeypatch, learns_labels=False)
    assert default_names(published)[2:] == [f"strong+{model}:affinity" for model in ("transe", *BOTH)]
