"""The night's page on profiles: figures beside the majority class, confusion, reliability, balance,
and why a label has no model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.report import profiles
from models.classifiers.profiling import figures
from tests.jobs.report import night
from tests.jobs.report.test_write_report import HOSTILE, Page, report

LABELS = """\
source: {{events: {{path: none}}, items: {{path: none}}, users: {{path: none}}}}
profiles: {{labels: {{gender: {{}}, income: {{}}}}}}"""


def facts(classes: list[str]) -> list[dict[str, Any]]:
    """Of a label with a model, and of one without."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 300)
    probabilities = np.stack([1 - 0.4 * (labels + random.random(300)), 0.4 * (labels + random.random(300))], axis=1)
    probabilities = (probabilities / probabilities.sum(axis=1, keepdims=True)).astype(np.float32)
    balance = {classes[0]: [300, 301, 150], classes[1]: [299, 302, 150], "rare one": [4, 3, 2]}
    named = dict(zip(classes, (1200, 800), strict=True))
    known = {
        "label": "gender", "column": "gender", "modelled": True, "users": 2000, "labelled": 1511, "contradicting": 7,
        "balance": balance, "rare": ["rare one"], "rare_classes": 1, "rare_users": 9, "classes": classes,
        "features": 64, "rounds": 81, "majority": 1, "test": figures(labels, probabilities, 1), "predicted": named}
    unknown = {
        "label": "income", "column": "income", "modelled": False, "users": 2000, "labelled": 0, "contradicting": 0,
        "balance": {}, "rare": [], "rare_classes": 0, "rare_users": 0,
        "reason": "No user with a vector has a label in column 'income'."}
    return [known, unknown]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    night.write_night(tmp_path, 40)
    text = night.CONFIG.replace("source: {{events: {{path: none}}, items: {{path: none}}}}", LABELS)
    (tmp_path / "night.yaml").write_text(text.format(root=tmp_path / "data"), encoding="utf-8")
    night.put(tmp_path, "read_labels", rows_out=1511)
    night.put(tmp_path, "train_profiles", profiles=facts(["female", "male"]))
    return tmp_path


def test_the_page_shows_profiles(root: Path) -> None:
    page, test = Page(report(root)), facts(["female", "male"])[0]["test"]
    assert test["accuracy"] > test["majority_accuracy"] + 0.1
    labelled = "1,511 of 2,000 users are labelled; 7 more have rows that contradict each other"
    for expected in (
        f"{100 * test['accuracy']:.1f} %", f"{test['macro_f1']:.3f}", "always male", "300 users of fold C",
        f"{100 * test['majority_accuracy']:.1f} %", f"{labelled}; 9 are of classes too rare to learn (1)",
        "64 features, 81 rounds", "no model tonight", "No user with a vector has a label in column 'income'.",
        "14 of 14 stages done", "Every stage done",
    ):  # fmt: skip
        assert expected in page.text, expected
    assert ("a", "href", "#profiles") in page.attributes and ("section", "id", "profiles") in page.attributes
    assert any(name == "aria-label" and "gender was named rightly" in value for _, name, value in page.attributes)


def test_intervals_and_rhgns_own_head_stand_beside(root: Path) -> None:
    found = facts(["female", "male"])
    test = found[0]["test"]
    (low, high), (f1_low, f1_high) = test["accuracy_interval"], test["macro_f1_interval"]
    before = Page(report(root)).text
    assert f"{100 * low:.1f} – {100 * high:.1f} %" in before and f"{f1_low:.3f} – {f1_high:.3f}" in before
    assert "own head" not in before
    found[0]["heads"] = [
        {"model": "rhgn", "title": "RHGN", "n": 290, "accuracy": 0.625, "accuracy_interval": [0.57, 0.68],
         "macro_f1": 0.512, "macro_f1_interval": [0.44, 0.58], "log_loss": None, "classes": ["male", "unknown"]}]
    night.put(root, "train_profiles", profiles=found)
    after = Page(report(root)).text
    lacks = "RHGN's own head on 290 of them; it never learned female"
    for expected in (lacks, "62.5 %", "57.0 – 68.0 %", "0.512", "0.440 – 0.580"):
        assert expected in after, expected
    found[0]["heads"][0] |= {"n": test["n"], "classes": ["female", "male"]}
    night.put(root, "train_profiles", profiles=found)
    after = Page(report(root)).text
    assert "RHGN's own head" in after and "of them" not in after and "never learned" not in after


def test_hostile_classes_do_nothing(root: Path) -> None:
    elements = set(Page(report(root)).elements)
    night.put(root, "train_profiles", profiles=facts(HOSTILE[:2]))
    page = Page(report(root))
    assert set(page.elements) == elements and HOSTILE[0] in page.text and "onerror=alert(2)" in page.text


def test_profiles_that_did_not_run_or_were_skipped_say_so(root: Path) -> None:
    shutil.rmtree(root / "data/run_metrics/stage=train_profiles")
    page = Page(report(root))
    assert "Profiles: not there tonight. train_profiles did not run" in page.text
    assert "-t 'train_profiles$'" in page.text
    night.put(root, "train_profiles", 99, "label gender: Fold B has 1 of 1 classes", profiles=facts(["a", "b"])[1:])
    page = Page(report(root))
    assert page.text.count("label gender: Fold B has 1 of 1 classes") == 1 and "no model tonight" in page.text


def test_nights_without_labels_do_not_speak_of_profiles(root: Path) -> None:
    night.write_config(root)
    night.put(root, "train_profiles", 99, "No label is configured")
    page = Page(report(root))
    assert ("section", "id", "profiles") not in page.attributes and "Every stage done" in page.text


def test_rows_of_the_confusion_matrix_are_the_true_classes() -> None:
    rows = profiles.confusion(["a", "b"], [[3, 1], [0, 0]])
    assert [(row["name"], row["total"]) for row in rows] == [("a", 4), ("b", 0)]
    assert [(c["count"], c["share"], c["right"]) for c in rows[0]["cells"]] == [(3, 0.75, True), (1, 0.25, False)]
    assert [c["right"] for c in rows[1]["cells"]] == [False, True]


def test_balance_has_a_row_per_class_with_its_shares() -> None:
    first, _, rare = profiles.balance(facts(["f", "m"])[0])
    assert first["labelled"] == 751 and first["labelled_share"] == pytest.approx(751 / 1511)
    assert first["predicted_share"] == 0.6
    assert rare["rare"] and rare["predicted"] is None and rare["predicted_share"] is None
