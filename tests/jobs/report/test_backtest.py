"""The backtest's part of the page: whom it is of, and a lift that says nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.jobs.report import night
from tests.jobs.report.test_write_report import Page, report


@pytest.fixture
def root(tmp_path: Path) -> Path:
    night.write_night(tmp_path, 40)
    return tmp_path


def test_requests_on_demand_are_no_stages_of_the_night(root: Path) -> None:
    night.put(root, "find_audience_transe", 1, "Of 12 seeds 10 are known")
    night.put(root, "resolve_request_transe")
    page = Page(report(root))
    assert "Every stage done" in page.text and "find_audience" not in page.text


def row(client: str, k: int, scored: int, lift: float) -> dict:
    return {
        "client": client, "feature_set": "strong", "chosen": True, "pr_auc_population": 0.3, "pr_auc_1to3": 0.5,
        "untrained_pr_auc_1to3": 0.4567, "prevalence": 0.1, "buyers": 80, "precision_at_k": 0.1, "lift_at_k": lift,
        "k": k, "scored": scored}  # fmt: skip


def test_the_figure_of_users_never_trained_on_stands_beside(root: Path) -> None:
    night.put(root, "score_lookalike", backtest=[row("acme", 200, 800, 2.5)])
    page = Page(report(root))
    assert "1:3, never trained on" in page.text and "0.457" in page.text
    assert "2.5×lift at k, mean of 1 client; PR-AUC" in page.text and "everybody" not in page.text


def test_a_lift_of_an_audience_that_is_everybody_says_so(root: Path) -> None:
    night.put(root, "score_lookalike", backtest=[row("acme", 800, 800, 1.0), row("zeta", 790, 790, 1.0)])
    page = Page(report(root))
    reason = "lookalike.top_k took in all 790 to 800 users who were scored, so that the lift is 1; set it lower"
    assert f"1.0×{reason}; lift at k" in page.text, "in the key figure"
    assert f"Lift at k, marked “everybody”: {reason}." in page.text and page.text.count("1.0× everybody") == 2


def test_the_key_figure_is_of_the_clients_whose_lift_says_something(root: Path) -> None:
    night.put(root, "score_lookalike", backtest=[row("acme", 800, 800, 1.0), row("zeta", 200, 790, 3.0)])
    page = Page(report(root))
    assert "3.0×lift at k, mean of 1 client;" in page.text and page.text.count("1.0× everybody") == 1


def test_clients_stand_by_how_many_buyers_of_their_own_were_known(root: Path) -> None:
    known = {"new": 0, "small": 19, "fair": 20, "other": 99}
    rows = [
        row(client, 200, 800, 2.0)
        | {"own_buyers": n, "feature_set": name, "chosen": name == "blend", "pr_auc_1to3": at}
        for client, n in known.items()
        for name, at in (("blend", 0.5 + n / 1000), ("strong", 0.4)) if (n, name) != (0, "strong")]  # fmt: skip
    night.put(root, "score_lookalike", backtest=rows)
    text = Page(report(root)).text
    assert "Own buyersclientsblend 1:3strong 1:3none10.500–1 to 1910.5190.40020 to 9920.5590.400 " in text
    night.put(root, "score_lookalike", backtest=[row("acme", 200, 800, 2.5)])
    assert "Own buyersclients" not in Page(report(root)).text
