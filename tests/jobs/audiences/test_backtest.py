"""The backtest's figures against trees that know by heart whom they learned from, and a night without any model."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from jobs.audiences.backtest import backtest
from jobs.audiences.population import NOBODYS_SHARE, draw_sample, never_trained_on, uniform
from jobs.audiences.train_lookalike import chosen_of
from jobs.program import Skip
from jobs.tables import TABLES
from tests.jobs.audiences.worlds import DATE, config, figures, planted, score, train
from tests.jobs.report.tables_by_hand import table_input

USERS = pa.array([f"u{u:05d}" for u in range(20_000)], pa.large_string())
BOUGHT = np.random.default_rng(0).random(len(USERS)) < 0.1


def held_against(scores: np.ndarray, **changes: int) -> dict[str, float]:
    """The figures of these scores of `USERS` for client x, held against `BOUGHT`."""
    n = len(scores)
    names = {"client": pa.repeat("x", n), "feature_set": pa.repeat("strong", n), "user_id": USERS.cast(pa.string())}
    columns = names | {"score": pa.array(scores.astype(np.float32)), "chosen": pa.repeat(True, n)}
    schema = TABLES["lookalike_scores"].arrow_schema()
    table = pa.table([columns[name] for name in schema.names], schema=schema)
    return backtest(table, USERS.filter(pa.array(BOUGHT)), "2026-03-02", config(bootstrap_draws=0, **changes))[0]


def test_the_others_of_the_test_are_not_those_that_training_drew() -> None:
    """Scores that say nothing, but for whom training took as others a week before: those are known for such."""
    random = np.random.default_rng(1)
    before = np.random.default_rng(2).random(len(USERS)) < 0.1  # who had bought then
    sample = draw_sample(USERS, before, np.ones(len(USERS), bool), 3, seed=0, client="x")
    by_heart = sample.training & ~before
    found = held_against(np.where(by_heart, 0.0, 1.0) + 1e-3 * random.random(len(USERS)))
    assert found["pr_auc_1to3"] == pytest.approx(0.25, abs=0.035)


@pytest.mark.parametrize("learned_from", [1, 6])
def test_the_figure_at_one_to_three_is_that_whatever_training_takes(learned_from: int) -> None:
    by_lot = np.random.default_rng(1).random(len(USERS))
    assert held_against(by_lot, negatives_per_positive=learned_from)["pr_auc_1to3"] == pytest.approx(0.25, abs=0.02)
    sample = draw_sample(USERS, BOUGHT, np.ones(len(USERS), bool), learned_from, seed=0, client="x")
    for part, ratio in ((sample.training, learned_from), (sample.validation_sampled, 3)):
        assert (part & ~BOUGHT).sum() == pytest.approx(ratio * (part & BOUGHT).sum(), rel=0.05)


def test_users_never_trained_on_have_figures_of_their_own() -> None:
    """Scores that know what happened to all but those users."""
    random = np.random.default_rng(3)
    unknown = uniform(0, "split", "", USERS) >= 1 - NOBODYS_SHARE
    found = held_against(np.where(unknown, 0.5, np.where(BOUGHT, 1.0, 0.0)) + 1e-3 * random.random(len(USERS)))
    assert found["untrained"] == unknown.sum() and found["untrained_buyers"] == (unknown & BOUGHT).sum()
    assert found["untrained_pr_auc_1to3"] == pytest.approx(0.25, abs=0.03)
    assert found["untrained_pr_auc_population"] == pytest.approx(found["untrained_prevalence"], abs=0.02)
    assert found["pr_auc_1to3"] > 0.6


def test_nobody_never_trained_on_is_in_the_training_of_any_night() -> None:
    never = never_trained_on(USERS, 5)
    assert never.mean() == pytest.approx(NOBODYS_SHARE, abs=0.02)
    for night in range(4):
        labels = np.random.default_rng(night).random(len(USERS)) < 0.1
        assert not (draw_sample(USERS, labels, np.ones(len(USERS), bool), 3, 5, "acme").training & never).any()


def test_where_all_were_trained_on_that_figure_is_missing() -> None:
    trained_on = USERS.filter(pa.array(~never_trained_on(USERS, 0))).slice(0, 1).cast(pa.string())
    names = {"client": ["x"], "feature_set": ["strong"], "user_id": trained_on, "score": pa.array([0.5], pa.float32())}
    found, _ = backtest(pa.table(names), trained_on.cast(pa.large_string()), "2026-03-02", config())
    assert (found["untrained"], found["untrained_pr_auc_1to3"]) == (0, None)


def test_a_night_without_any_model_is_skipped_with_the_key_and_the_counts(tmp_path: Path) -> None:
    planted(tmp_path, users=300)
    few = {"clients": {"rare": {"item_id": ["i1"]}, "none": {"brand": "none"}}, "feature_sets": ["baseline"]}
    train(tmp_path, config(min_positives=20, feature_sets=["baseline"]))
    with pytest.raises(Skip) as skipped:
        train(tmp_path, config(**few))
    said = str(skipped.value)
    limit = "lookalike.min_positives is 60"
    assert re.search(rf"client rare: .* [1-9]\d* buyers among \d+ eligible users, and {limit}", said)
    assert re.search(r"client none: .* 0 buyers among", said) and "label_window_days (7)" in said
    assert figures()["clients"][0]["modelled"] is False and figures()["rows_out"] == 0
    with pytest.raises(Skip, match="min_positives is 60"):
        score(tmp_path, config(**few))
    written = table_input(tmp_path, "lookalike_scores").table().manifest(DATE.isoformat())
    assert written is None, "not scored by the models of an earlier run"


def test_without_the_features_that_are_to_score_the_log_says_which_do(caplog: pytest.LogCaptureFixture) -> None:
    fitted = [SimpleNamespace(client=client, feature_set=name) for client in "ab" for name in ("baseline", "strong")]
    assert chosen_of(fitted, "strong", "blend") == {"a": "strong", "b": "strong"}
    assert "score_with is blend, of which there is no model tonight for a, b: scored by strong" in caplog.text
    caplog.clear()
    assert chosen_of(fitted, "strong", None) == {"a": "strong", "b": "strong"} and not caplog.text


def test_a_skip_names_a_few_of_many_clients(tmp_path: Path) -> None:
    planted(tmp_path, users=100)
    with pytest.raises(Skip, match="None of 9 clients .*; and 4 more") as skipped:
        train(tmp_path, config(clients={f"c{n}": {"brand": "none"} for n in range(9)}, feature_sets=["baseline"]))
    assert str(skipped.value).count("min_positives is") == 5


def test_an_audience_of_everybody_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    planted(tmp_path, users=300)
    settings = config(min_positives=20, feature_sets=["baseline"], top_k=1000)
    train(tmp_path, settings)
    score(tmp_path, settings)
    assert re.search(r"client brand_0: lookalike.top_k is 1000 and \d+ users are eligible: all of them", caplog.text)


