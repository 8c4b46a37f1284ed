"""The recommendations on the night's page: figures out of time, hostile names, a stage that did not run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.jobs.report import night
from tests.jobs.report.test_write_report import HOSTILE, report


@pytest.fixture
def root(tmp_path: Path) -> Path:
    night.write_night(tmp_path, 40)
    text = night.CONFIG.format(root=tmp_path / "data") + "recommendations: {models: [transe, kqgc_mean]}\n"
    (tmp_path / "night.yaml").write_text(text, encoding="utf-8")
    rows = [{"at": at, "date": "2026-02-08", "hr": 0.1234 * at / 10, "mrr": 0.05, "ndcg": 0.061, "coverage": 0.4,
             "users": 812, "popular_hr": 0.0917, "popular_ndcg": 0.047} for at in (10, 20)]  # fmt: skip
    examples = [{"user": HOSTILE[0], "had": ["tea", HOSTILE[1]], "recommended": ["coffee"]}]
    night.put(tmp_path, "recommend_items_transe", coverage=0.37, novelty=6.28, users=40, items=48, backtest=rows,
              examples=examples, weights={"score": 0.5, "popularity": 0.301, "choices": 960})  # fmt: skip
    return tmp_path


def section(root: Path) -> str:
    html = report(root)
    start = html.index('<section id="recommendations">')
    return html[start : html.index("</section>", start)]


def test_figures_and_lists_are_shown_and_a_model_that_did_not_run_is_named(root: Path) -> None:
    shown = section(root)
    for said in (">12.3", ">24.7", "812", "2026-02-08", " 37.0", ">9.2", ">0.047", "960 purchases", " 2.0 times",
                 "<sup>6.3</sup>", "<bdi>coffee</bdi>"):  # fmt: skip
        assert said in shown, said
    assert "<script>" not in shown
    assert "The lists: not there tonight." in shown and "<code>recommend_items_kqgc_mean</code> did not run" in shown


def test_it_says_where_popularity_is_all_or_nothing(root: Path) -> None:
    said = {
        "in the order of the model's score alone": (1.0, 0.0, 0),
        "score alone: by 960 purchases since the lists of a label window ago it counts nothing": (1.0, 0.0, 960),
        "in the order of how well known they are: 120 purchases": (0.0, 0.9, 120)}  # fmt: skip
    for sentence, numbers in said.items():
        weights = dict(zip(("score", "popularity", "choices"), numbers, strict=True))
        night.put(root, "recommend_items_transe", users=40, items=48, coverage=0.4, novelty=1.0, weights=weights)
        assert sentence in section(root)


def test_lists_of_nobody_are_said_to_be(root: Path) -> None:
    nobody = {"users": 0, "items": 0, "backtest": [], "examples": []}
    night.put(root, "recommend_items_kqgc_mean", coverage=None, novelty=None, **nobody)
    shown = section(root)
    assert "No user has a list: of 0 items that may be recommended none is left for anybody." in shown
    assert shown.count("<sup>") == 1, "the other model's"


def test_without_models_there_is_no_section(tmp_path: Path) -> None:
    night.write_night(tmp_path, 40)
    assert "recommendations" not in report(tmp_path).lower()
