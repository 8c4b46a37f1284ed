"""Which feature set the page's gains are over, and what it says where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.report.lookalike import base_of, gains_over
from tests.jobs.report import night
from tests.jobs.report.test_write_report import Page, report

POOLED = {"pooled": 0.5, "own": 0.4, "blend": 0.6}
NEAR = "strong+transe:affinity"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    night.write_night(tmp_path, 40)
    return tmp_path


def figures(client: str, found: dict[str, float]) -> list[dict[str, Any]]:
    return [{
        "client": client, "feature_set": name, "pr_auc_1to3": at, "pr_auc_population": at / 2, "prevalence": 0.1,
        "positives": 80, "eligible": 800, "buyers": 80, "k": 200, "scored": 800, "lift_at_k": 2.0,
        "chosen": name in ("blend", NEAR)} for name, at in found.items()]  # fmt: skip


def train(root: Path, *rows: dict[str, Any]) -> None:
    night.put(root, "train_lookalike", pr_auc=list(rows), curves=[], chosen={})


def score(root: Path, *rows: dict[str, Any]) -> None:
    night.put(root, "score_lookalike", backtest=sorted(rows, key=lambda row: (row["client"], row["feature_set"])))


def test_the_first_of_the_baselines_that_are_there_is_what_gains_are_over() -> None:
    assert base_of(["blend", "strong", "baseline"]) == "baseline"
    assert base_of([NEAR, "strong"]) == "strong" and base_of(list(POOLED)) is None


def test_a_first_night_without_baselines_has_no_gain_and_says_so(root: Path) -> None:
    train(root, *figures("acme", POOLED))
    score(root, *figures("acme", POOLED))
    page = Page(report(root))
    assert "no classifier trained tonight" not in page.text and "gain over pooled" not in page.text
    assert "Best PR-AUC gain–classifiers trained, but no baseline to hold them against" in page.text
    assert "no baseline was trained tonight, so that there is no gain to tell" in page.text
    assert "No baseline scored beside them, so that there is no gain to tell." in page.text
    assert "Mean gain over the clients" not in page.text


def test_a_baseline_that_is_not_the_first_set_is_what_others_gain_over(root: Path) -> None:
    rows = figures("acme", {NEAR: 0.55, "baseline": 0.5})
    train(root, *rows)
    score(root, *rows)
    page = Page(report(root))
    assert f"+10.0 %{NEAR} over baseline, validation" in page.text and f"over {NEAR}" not in page.text
    assert "gain over baseline" in page.text and "Each row's gain is over baseline" in page.text
    assert "+10.0 %" in page.text and "−9.1 %" not in page.text, "the baseline has no gain over another set"


def test_a_client_without_baselines_has_no_gain_beside_one_that_has(root: Path) -> None:
    rows = [*figures("acme", {"blend": 0.6, "strong": 0.5}), *figures("new", POOLED)]
    found = gains_over(rows, "strong")
    assert {key for key, gain in found.items() if gain is not None} == {("acme", "blend")}
    score(root, *rows)
    page = Page(report(root))
    assert page.text.count("+20.0 %") == 3, "acme's row, the key figure and the lead, and none of the other client's"
    assert "−33.3 %" not in page.text, "own over blend"


def test_the_baseline_alone_has_nothing_to_be_held_against(root: Path) -> None:
    train(root, *figures("acme", {"baseline": 0.5}))
    page = Page(report(root))
    assert "Best PR-AUC gain–no figure of other features to hold against baseline" in page.text


def test_where_clients_are_scored_by_different_features_each_counts_by_what_scored_it(root: Path) -> None:
    """lookalike.score_with: strong, of which a client has no model."""
    rows = [*figures("acme", {"baseline": 0.5, "strong": 0.6}), *figures("tiny", {"baseline": 0.5, "blend": 0.8})]
    for row in rows:
        row["chosen"] = row["feature_set"] != "baseline"
    score(root, *rows)
    assert "The features that scored gained +40.0 % over baseline" in Page(report(root)).text
