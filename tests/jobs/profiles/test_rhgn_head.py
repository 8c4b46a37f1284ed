"""RHGN's own head beside XGBoost: on the same users of fold C, compared by the names of classes, and
without a word in any prediction."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from jobs.arrays import NONE, TRAINED, Checkpoint
from jobs.configuration.profiles import Label
from jobs.profiles.rhgn_head import Head
from jobs.program import Output
from models.classifiers.folds import C
from models.classifiers.profiling import macro_f1
from tests.jobs.profiles.profile_world import (
    DATE,
    DIMENSION,
    config,
    fold_of,
    names,
    planted,
    predictions,
    train,
    write,
)
from tests.jobs.report.tables_by_hand import ledger_ids, table_input, write_vectors

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CARRIED = 40  # users whose published vector is an earlier night's: the checkpoint has none of them
RHGN = {"models": ["rhgn"], "labels": {"gender": Label()}}


def write_checkpoint(root: Path, vectors: np.ndarray, classes: list[str], weight: np.ndarray) -> None:
    """A checkpoint of RHGN: users in an order of their own, two values of an attribute before them,
    those carried without a vector."""
    users = names(len(vectors))
    order = np.random.default_rng(3).permutation(len(users))
    ids = ledger_ids(root, "user", pd.Series(users))
    entities = np.concatenate([np.full((2, DIMENSION), 9.0), vectors[order]]).astype(np.float32)
    source = np.where(np.append([0, 0], order) < len(users) - CARRIED, TRAINED, NONE)
    extra = {
        "rhgn.classifiers.0.weight": weight.astype(np.float32),
        "rhgn.classifiers.0.bias": np.zeros(len(classes), np.float32),
        "rhgn.optimiser.classifiers.0.weight": np.zeros(1, np.float32)}  # fmt: skip
    types, ids = np.repeat([0, 1], [2, len(users)]), np.append([0, 1], ids[order])
    relations = np.zeros((0, DIMENSION), np.float32)
    facts = {"trained_at": DATE.isoformat(), "classes": json.dumps({"gender": classes})}
    checkpoint = Checkpoint(
        ["region", "user"], types, ids, np.zeros(0, np.int64), entities, relations, source, extra, facts)
    with table_input(root, "checkpoints", Output).table("rhgn").replace(DATE.isoformat()) as commit:
        checkpoint.write(commit)


def write_world(root: Path, known: pd.DataFrame, classes: tuple[str, ...] = ("f", "m", "nobody")) -> np.ndarray:
    """Published vectors are the checkpoint's, turned by R; the head names "f" where the first
    number is high and "m" elsewhere."""
    vectors, _ = planted()
    write(root, known, vectors, model="rhgn")
    rotation = np.linalg.qr(np.random.default_rng(4).normal(size=(DIMENSION, DIMENSION)))[0]
    users = dict(zip(names(), vectors, strict=True))
    write_vectors(root, "rhgn", DATE, users, {}, np.zeros(DIMENSION), rotation=rotation)
    weight = np.zeros((len(classes), DIMENSION))
    weight[[classes.index("f"), classes.index("m")], 0] = 3, -3
    write_checkpoint(root, vectors, list(classes), weight)
    return vectors


def users_of_c(root: Path, known: pd.DataFrame) -> pd.DataFrame:
    return known[fold_of(known["user_id"]) == C]


def test_the_head_is_tested_on_the_users_of_fold_c_that_it_has(spark: SparkSession, tmp_path: Path) -> None:
    _, truth = planted()
    vectors = write_world(tmp_path, truth)
    found = train(tmp_path, config(**RHGN))["gender"]
    mine = users_of_c(tmp_path, truth)
    mine = mine[mine.index < len(truth) - CARRIED]
    named = np.where(vectors[mine.index, 0] > 0, "f", "m")
    (head,) = found["heads"]
    assert (head["model"], head["title"]) == ("rhgn", "RHGN")
    assert head["n"] == len(mine) < found["test"]["n"] and head["classes"] == ["f", "m", "nobody"]
    assert head["accuracy"] == pytest.approx((named == mine["gender"]).mean()) and 0.75 < head["accuracy"] < 1
    assert head["macro_f1"] == pytest.approx(macro_f1(mine["gender"].to_numpy(), named))
    assert head["accuracy_interval"][0] < head["accuracy"] < head["accuracy_interval"][1] and 0 < head["log_loss"] < 1
    inputs = table_input(tmp_path, "profile_predictions").table().existing_manifest(DATE.isoformat()).fields["inputs"]
    assert "checkpoints/rhgn" in {one["table"] for one in inputs}


def test_labels_of_fold_c_change_the_heads_figures_and_no_prediction(spark: SparkSession, tmp_path: Path) -> None:
    _, truth = planted()
    write_world(tmp_path, truth)
    before, rows = train(tmp_path, config(**RHGN))["gender"], predictions(tmp_path)
    other = truth["gender"].map({"f": "m", "m": "f"})
    swapped = truth.assign(gender=truth["gender"].where(fold_of(truth["user_id"]) != C, other))
    swapped.to_parquet(tmp_path / "users.parquet", index=False)
    after = train(tmp_path, config(**RHGN))["gender"]
    assert after["heads"][0]["accuracy"] == pytest.approx(1 - before["heads"][0]["accuracy"])
    pd.testing.assert_frame_equal(predictions(tmp_path), rows)


def test_without_a_checkpoint_or_without_rhgn_there_is_no_head(spark: SparkSession, tmp_path: Path) -> None:
    vectors, truth = planted()
    write(tmp_path, truth, vectors, model="rhgn")
    assert "heads" not in train(tmp_path, config(**RHGN))["gender"]
    write_world(tmp_path, truth)
    write(tmp_path, truth, vectors, model="transe")
    assert "heads" not in train(tmp_path, config(**RHGN | {"models": ["transe"]}))["gender"]


def test_asking_a_checkpoint_loads_no_torch() -> None:
    """It takes longer to load than everything else that profiles do."""
    imports = "import sys, jobs.profiles.train_profiles, jobs.profiles.rhgn_head"
    code = f"{imports}; print({{'torch', 'dgl'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def head(probabilities: list[list[float]], classes: list[str]) -> Head:
    users = pa.array([f"u{i}" for i in range(len(probabilities))])
    return Head(users, {"gender": np.array(probabilities, np.float32)}, {"gender": classes})


def figures(probabilities: list[list[float]], classes: list[str], users: list[str], truth: list[str]) -> dict[str, Any]:
    """With fold B's classes "f" and "m"."""
    codes = np.array([["f", "m"].index(name) for name in truth])
    return head(probabilities, classes).figures("gender", users, codes, ["f", "m"], 0)


def test_classes_meet_by_name_whatever_their_order_and_number() -> None:
    """The head knows "a", which B does not, and has "m" where B has "f"."""
    rows = [[0.1, 0.7, 0.2], [0.2, 0.1, 0.7], [0.8, 0.1, 0.1], [0.1, 0.2, 0.7]]
    found = figures(rows, ["a", "m", "f"], ["u3", "u0", "u2"], ["f", "m", "m"])
    assert found["n"] == 3 and found["accuracy"] == pytest.approx(2 / 3)
    assert found["macro_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3), "f rightly, m once of two, a wrongly named"
    assert found["log_loss"] == pytest.approx(-np.log([0.7, 0.7, 0.1]).mean())


def test_a_class_that_the_head_never_learned_is_named_wrongly_and_has_no_log_loss() -> None:
    found = figures([[0.9, 0.1], [0.2, 0.8]], ["a", "m"], ["u0", "u1", "unknown"], ["f", "m", "m"])
    assert found["n"] == 2 and found["accuracy"] == 0.5 and found["log_loss"] is None


def test_no_figures_of_a_label_that_the_head_did_not_learn_or_of_nobody() -> None:
    one = head([[0.5, 0.5]], ["f", "m"])
    assert one.figures("age", ["u0"], np.array([0]), ["f", "m"], 0) is None
    assert one.figures("gender", ["carried"], np.array([0]), ["f", "m"], 0) is None
    assert one.figures("gender", [], np.zeros(0, np.int64), ["f", "m"], 0) is None
