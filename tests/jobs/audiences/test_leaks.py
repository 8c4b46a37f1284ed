"""Nothing from D - L on reaches a feature, nothing but [D - L, D) a label, and the drawn
users are those who are scored.

In the null world who buys is drawn by lot, so any PR-AUC above prevalence is a leak; the planted world shows that the
same code finds what can be found. Put in, each of these leaks turns a test here red: `<` made `<=` in days_between;
negatives over the whole ledger; features or vectors read as of D. `test_each_leak_turns_the_null_world_red` does so.
"""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from jobs.audiences import nights, one_client, population
from jobs.audiences.population import active_users, purchases_between
from tests.jobs.audiences.worlds import DATE, SETS, START, config, day, events, null, planted, score, train
from tests.jobs.report.tables_by_hand import Log, table_input, write_clean_events

TOLERANCE = 0.035  # PR-AUC of a random ranking of 600 users, mean over four clients


@pytest.fixture(scope="module")
def null_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("null")
    null(root)
    return root


@pytest.fixture(scope="module")
def planted_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("planted")
    planted(root)
    return root


def excess(found: dict) -> dict[str, float]:
    """Mean PR-AUC minus prevalence on the population, by feature set."""
    rows = pd.DataFrame(found["pr_auc"])
    return (rows["pr_auc_population"] - rows["prevalence"]).groupby(rows["feature_set"]).mean().to_dict()


def edge_log() -> Log:
    """One event each at the edges of the windows."""
    times = {
        "first active": day(START, -28), "too early": day(START, -28.00001), "last active": day(START, -1e-9),
        "at D - L": day(START, 0), "late": day(DATE, -1e-9), "at D": day(DATE, 0)}  # fmt: skip
    when = pd.Series(list(times.values())).dt.as_unit("us")
    frame = pd.DataFrame({
        "user_id": list(times), "item_id": "i0", "behavior": "purchase", "event_time": when, "quantity": 1.0,
        "value": 1.0})  # fmt: skip
    return Log(frame, {})


def test_windows_end_before_their_date(tmp_path: Path) -> None:
    write_clean_events(tmp_path, edge_log())
    clean = table_input(tmp_path, "clean_events")
    assert active_users(clean, START, 28).to_pylist() == ["first active", "last active"]
    bought = purchases_between(clean, START, DATE, "purchase")
    assert sorted(bought.buyers(pa.array(["i0"], pa.large_string())).to_pylist()) == ["at D - L", "late"]


def test_by_lot_is_at_prevalence_whatever_the_features(null_root: Path) -> None:
    found = train(null_root, config())
    assert {row["feature_set"] for row in found["pr_auc"]} == set(SETS)
    for name, value in excess(found).items():
        assert abs(value) < TOLERANCE, f"{name} is {value:+.3f} off prevalence"


def test_constant_vectors_and_missing_ones_alone_are_at_prevalence(null_root: Path) -> None:
    found = train(null_root, config(feature_sets=["baseline+transe:raw", "baseline+transe:affinity"]))
    assert all(abs(value) < TOLERANCE for value in excess(found).values())


def test_positives_and_negatives_are_of_the_eligible_only(null_root: Path) -> None:
    found = train(null_root, config())
    assert {row["eligible"] for row in found["clients"]} == {1500}
    newcomers = sum(row["not_eligible_buyers"] for row in found["clients"])
    assert newcomers == 300, "each of one client: counted, not learned from"


def test_what_can_be_found_is_found(planted_root: Path) -> None:
    found = excess(train(planted_root, config(history_attribute="brand")))
    assert found["baseline"] > TOLERANCE
    assert found["strong+transe:affinity"] > found["strong"] > 2 * TOLERANCE


def test_shuffled_labels_are_at_prevalence(planted_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = one_client.label

    def shuffled(eligible: pa.Array, buyers: pa.Array) -> tuple[np.ndarray, int]:
        labels, rest = honest(eligible, buyers)
        return np.random.default_rng(len(buyers)).permutation(labels), rest

    monkeypatch.setattr(one_client, "label", shuffled)
    for name, value in excess(train(planted_root, config())).items():
        assert abs(value) < TOLERANCE, f"{name} is {value:+.3f} off prevalence"


def test_what_happens_from_d_on_changes_no_model_and_no_score(tmp_path: Path) -> None:
    """A night that runs late, or again, finds days in the tables that it may not read."""
    log = planted(tmp_path, users=300)
    settings = config(min_positives=20, feature_sets=["baseline"])

    def night() -> list[str]:
        train(tmp_path, settings)
        score(tmp_path, settings)
        written = [table_input(tmp_path, name).table() for name in ("lookalike_models", "lookalike_scores")]
        return [table.existing_manifest(DATE.isoformat()).content_hash for table in written]

    before, random = night(), np.random.default_rng(1)
    later = events(random.integers(0, 300, 400), random.integers(0, 80, 400), 7 + 2 * random.random(400))
    write_clean_events(tmp_path, dataclasses.replace(log, events=pd.concat([log.events, later], ignore_index=True)))
    assert night() == before


def features_as_of_d(monkeypatch: pytest.MonkeyPatch) -> None:
    """The leak: everything but who is eligible is read as of D."""
    read, active = nights.read_snapshot, nights.active_users
    monkeypatch.setattr(nights, "read_snapshot", lambda date, *rest: read(DATE, *rest))
    monkeypatch.setattr(nights, "active_users", lambda clean, date, days: active(clean, START, days))


def vectors_as_of_d(monkeypatch: pytest.MonkeyPatch) -> None:
    """The leak: vectors of D for labels before D."""
    read = nights.read_vectors
    monkeypatch.setattr(nights, "read_vectors", lambda model, date, *rest: read(model, DATE, *rest))


def whole_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    """The leak: everybody ever seen counts as eligible."""
    active = nights.active_users
    monkeypatch.setattr(nights, "active_users", lambda clean, date, days: active(clean, date, 10_000))


def eligible_as_of_d(monkeypatch: pytest.MonkeyPatch) -> None:
    """The leak: who was active in the label window itself is eligible, and newcomers are all buyers."""
    active = nights.active_users
    monkeypatch.setattr(nights, "active_users", lambda clean, date, days: active(clean, DATE, days + 7))


def one_day_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The leak: `day < end` made `day <= end`, where the day of D - L is a day of labels."""
    honest, one = population.days_between, datetime.timedelta(days=1)
    monkeypatch.setattr(population, "days_between", lambda clean, first, end: honest(clean, first, end + one))


@pytest.mark.parametrize("leak", [features_as_of_d, vectors_as_of_d, eligible_as_of_d, whole_ledger, one_day_more])
def test_each_leak_turns_the_null_world_red(
    leak, null_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests above are worth something: put in, every leak fails at least one of them."""
    leak(monkeypatch)
    red = 0
    tests = (
        (test_by_lot_is_at_prevalence_whatever_the_features, null_root),
        (test_positives_and_negatives_are_of_the_eligible_only, null_root),
        (test_windows_end_before_their_date, tmp_path))  # fmt: skip
    for test, argument in tests:
        try:
            test(argument)
        except AssertionError:
            red += 1
    assert red
