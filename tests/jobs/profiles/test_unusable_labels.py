"""Labels that cannot be used: each says why, and stops no other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from jobs.configuration.profiles import Label
from jobs.program import Skip
from tests.jobs.profiles.profile_world import DATE, known_part, planted, predictions, retrained
from tests.jobs.report.tables_by_hand import table_input

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture
def truth(spark: SparkSession) -> pd.DataFrame:
    """Of everybody; labels are read by Spark."""
    return planted()[1]


BAD = {
    "one class": (
        {"gender": "f"},
        r"gender: .*Fold B has 1 of 1 classes with at least 20 users \('f': \d+\); expected two or more"),
    "one user": (
        {"gender": lambda rows: rows["gender"].where(rows.index == 11)},
        r"gender: .*Fold B has 0 of 1 classes with at least 20 users .*expected two or more"),
    "none": ({"gender": None}, "gender: .*No user with a vector has a label in column 'gender'"),
    "empty texts": ({"gender": ""}, "gender: .*No user with a vector"),
    "no such column": (
        {}, "gender: .*has no column 'colour' .*it has 'user_id'.*Name the right one: profiles.labels.gender.column"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_label_that_cannot_be_modelled_says_why_and_stops_no_other(
    truth: pd.DataFrame, tmp_path: Path, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    change, said = BAD[case]
    labels = {"gender": Label("colour" if case == "no such column" else None), "age_band": Label("years", [30, 50])}
    found = retrained(tmp_path, known_part(truth).assign(**change), labels=labels)
    assert not found["gender"]["modelled"] and found["age_band"]["modelled"]
    assert set(predictions(tmp_path)["label"]) == {"age_band"}
    assert re.search(said, caplog.text), caplog.text


def test_when_all_contradict_themselves_there_is_no_label(
    truth: pd.DataFrame, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Skip, match="label gender: No user with a vector has a label"):
        retrained(tmp_path, pd.concat([truth, truth.assign(gender="x")]), labels={"gender": Label()})
    assert f"gender: {len(truth)} users left out, whose rows contradict each other" in caplog.text
    assert table_input(tmp_path, "profile_predictions").table().manifest(DATE.isoformat()) is None


def test_one_labelled_user_is_too_few(truth: pd.DataFrame, tmp_path: Path) -> None:
    said = r"label gender: Fold B has 0 of 1 classes .*expected two or more\. Label more users"
    with pytest.raises(Skip, match=said):
        retrained(tmp_path, truth.iloc[10:11], labels={"gender": Label()})
    assert table_input(tmp_path, "profile_predictions").table().manifest(DATE.isoformat()) is None


def test_a_text_for_a_number_and_a_list_are_named(truth: pd.DataFrame, tmp_path: Path) -> None:
    known = truth.assign(years="old", likes=[["a"]] * len(truth))
    labels = {"age_band": Label("years", [30]), "likes": Label(), "gender": Label()}
    found = retrained(tmp_path, known, labels=labels)
    assert [found[name]["modelled"] for name in labels] == [False, False, True]
    assert "expected numbers" in found["age_band"]["reason"]
    assert "expected one plain value" in found["likes"]["reason"]


def test_a_rare_class_counts_as_unlabelled_and_is_told(
    truth: pd.DataFrame, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = truth.assign(gender=truth["gender"].where(truth.index % 60 != 0, "x"))
    found = retrained(tmp_path, known)["gender"]
    assert found["classes"] == ["f", "m"] and found["rare"] == ["x"] and found["rare_users"] == 15
    assert "gender: 1 classes have too few users in fold B: 'x'" in caplog.text
    assert set(predictions(tmp_path).query("label == 'gender'")["class"]) == {"f", "m"}
    seen = set(predictions(tmp_path).query("label == 'gender' and label_seen")["user_id"])
    assert seen and not seen & set(known.loc[known["gender"] == "x", "user_id"])
